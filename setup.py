"""Packaging: everything is read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
s = config["DEFAULT"]

setup(
    name=s["lib_name"],
    version=s["version"],
    description=s["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=s["author"],
    author_email=s["author_email"],
    keywords=s["keywords"],
    license="Apache-2.0",
    python_requires=">=" + s["min_python"],
    packages=find_packages(include=["seqbook", "seqbook.*"]),
    install_requires=s["requirements"].split(),
    extras_require={name: s[f"{name}_requirements"].split() for name in s["extras"].split()},
    entry_points={"nbdev": [f"{s['lib_name']}={s['lib_path']}._modidx:d"]},
    zip_safe=False,
)

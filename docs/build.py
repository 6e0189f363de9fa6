"""Build the site in docs/_build/html out of the executed notebooks in docs/_build/notebooks (docs/execute.py makes them).

    python docs/build.py            bring the site up to date; any warning is an error
    python docs/build.py --fresh    from nothing
"""
import argparse
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
BUILT = HERE / "_build"
NOTEBOOKS, SITE, TREES = BUILT / "notebooks", BUILT / "html", BUILT / "doctrees"
SPHINX_OWN = {"genindex.html", "search.html"}


def main(argv=None):
    "Command line; the exit status is 0 when the site was built without a warning."
    parser = argparse.ArgumentParser(description="Build the site out of the executed notebooks.")
    parser.add_argument("--fresh", action="store_true", help="forget what was built before")
    args = parser.parse_args(argv)
    if not (NOTEBOOKS / "index.ipynb").exists():
        print("error: there is no executed front page; run `python docs/execute.py` first", file=sys.stderr)
        return 1
    if args.fresh:
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.rmtree(TREES, ignore_errors=True)
    status = build_main(["-W", "--keep-going", "-n", "-q", "-c", str(HERE), "-d", str(TREES), "-b", "html",
                         str(NOTEBOOKS), str(SITE)])
    if status:
        shutil.rmtree(TREES, ignore_errors=True)  # a page that was warned about must be read again, not taken as done
        return status
    for page in stale():
        page.unlink()
    return 0


def stale():
    "Pages of the site whose notebook is gone."
    for page in SITE.rglob("*.html"):
        name = page.relative_to(SITE)
        if name.parts[0] != "_static" and name.as_posix() not in SPHINX_OWN:
            source = NOTEBOOKS / name
            if not any(source.with_suffix(kind).exists() for kind in (".ipynb", ".rst", ".md")):
                yield page


if __name__ == "__main__":
    sys.exit(main())

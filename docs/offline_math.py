"""Sphinx extension: equations without the network. MathJax comes from a package and travels with the site."""
import shutil
from importlib.metadata import distribution
from pathlib import Path

PACKAGE, FOLDER = "sphinx-mathjax-offline", "sphinx-mathjax-offline/static/mathjax"
WANTED = ("tex-chtml-full.js", "output/chtml/fonts/*", "output/chtml/fonts/woff-v2/*", "a11y/*", "ui/*",
          "sre/mathmaps/base.*", "sre/mathmaps/en.*")


def on_finished(app, error):
    "Sphinx's build-finished event: copy what a page may ask for (typesetting, fonts, the menu, reading aloud)."
    if error or app.builder.format != "html":
        return
    source = Path(distribution(PACKAGE).locate_file(FOLDER))
    for pattern in WANTED:
        for path in source.glob(pattern):
            target = Path(app.outdir) / "_static" / "mathjax" / path.relative_to(source)
            if path.is_file() and (not target.exists() or target.stat().st_size != path.stat().st_size):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def setup(app):
    "Called by Sphinx."
    app.setup_extension("sphinx.ext.mathjax")
    app.config.mathjax_path = "mathjax/tex-chtml-full.js"
    app.config.mathjax3_config = {
        "tex": {"tags": "none", "inlineMath": [["\\(", "\\)"]], "displayMath": [["\\[", "\\]"]]},
        "chtml": {"matchFontHeight": False, "scale": 1.1},
        "options": {"ignoreHtmlClass": "tex2jax_ignore|mathjax_ignore|document",
                    "processHtmlClass": "tex2jax_process|mathjax_process|math|output_area"},
    }
    app.connect("build-finished", on_finished)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

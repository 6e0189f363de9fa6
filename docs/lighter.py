"""Sphinx extension: pages without what they do not need.

The theme brings its icons twice, as a font and as a program of 1.5 million bytes that draws the same icons; the font is enough.
"""
from pathlib import Path

TWICE = "_static/scripts/fontawesome.js"
NOTE = "// The icons come from the font in _static/vendor/fontawesome.\n"


def on_finished(app, error):
    "Sphinx's build-finished event."
    script = Path(app.outdir) / TWICE
    if not error and script.exists() and script.read_text("utf-8") != NOTE:
        script.write_text(NOTE, "utf-8")


def setup(app):
    "Called by Sphinx."
    app.connect("build-finished", on_finished)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

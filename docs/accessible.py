"""Sphinx extension: two things that the theme and Sphinx leave to wish for those who do not see the page.

The button that unfolds a part of the sidebar gets a name, and the parameters of a long signature become lines of that signature:
Sphinx writes a list of definitions without a term, inside a term, which screen readers cannot make anything of.
"""
import re

from sphinx import addnodes

TOGGLE = re.compile(r'(<a class="[^"]*\breference\b[^"]*"[^>]*>)([^<]*)(</a><details[^>]*>)<summary>')
LINES = {"<dl>": '<span class="sig-lines">', "</dl>": "</span>", "<dd>": '<span class="sig-line">', "</dd>": "</span>"}


def named(
    html,  # the sidebar's list of pages
):         # -> the same, each button with a name
    "What unfolds the pages below API reference says so."
    return TOGGLE.sub(r'\1\2\3<summary aria-label="Pages below \2">', html)


def on_page(app, pagename, templatename, context, doctree):
    "Sphinx's html-page-context event: the theme's own function, its result corrected."
    written = context.get("generate_toctree_html")
    if written:
        context["generate_toctree_html"] = lambda *args, **options: named(str(written(*args, **options)))


def visit_parameters(self, node):
    "Remember where a signature's parameters begin."
    node["begins"] = len(self.body)
    type(self).visit_desc_parameterlist(self, node)


def depart_parameters(self, node):
    "Sphinx's lines with other tags around them."
    type(self).depart_desc_parameterlist(self, node)
    written = self.body[node["begins"]:]
    self.body[node["begins"]:] = [LINES.get(tag.strip(), tag) for tag in written]


def setup(app):
    "Called by Sphinx."
    app.add_node(addnodes.desc_parameterlist, override=True, html=(visit_parameters, depart_parameters))
    app.connect("html-page-context", on_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

r"""Sphinx extension: equations have anchors, and whoever speaks of one gets a link to it.

A displayed equation with `\tag{3.4}` can be linked to as `#eq-3.4`. "Equation 3.4", "equations 3.4 to 3.6" or "eq. 2.1" in
a text, on the same page or on another, leads there; an equation that is spoken of and nowhere to be found is a warning.
A number without a dot ("their equation 14") belongs to somebody else's paper and is left alone. A number in brackets, (3.4),
is a link if there is such an equation.
"""
import re

from docutils import nodes
from sphinx.util import logging

TAG = re.compile(r"\\tag\*?\s*\{([^{}]+)\}")
NUMBER = re.compile(r"[A-Za-z0-9]+\.[0-9]+")
MENTION = re.compile(rf"\b(?:equations?|eqs?\.)\s+{NUMBER.pattern}(?:(?:,|\s+to|,?\s+and|,?\s+or|–)\s*{NUMBER.pattern})*|"
                     rf"(?<!\w)\({NUMBER.pattern}\)", re.IGNORECASE)
SILENT = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.title, nodes.raw, nodes.comment)
log = logging.getLogger(__name__)


def on_read(app, doctree):
    "Sphinx's doctree-read event: displayed equations with numbers get anchors, and a link to themselves beside them."
    labels, docname = app.env.domains.standard_domain, app.env.current_document.docname
    for block in list(doctree.findall(nodes.math_block)):
        numbers = TAG.findall(block.astext())
        if not numbers:
            continue
        marks = nodes.paragraph(classes=["equation-links"])
        for number in numbers:
            anchor = f"eq-{number}"
            labels.note_hyperlink_target(anchor, docname, anchor)  # which warns of a number that is given twice
            marks += nodes.reference("", "#", refid=anchor, ids=[anchor], reftitle=f"Link to equation {number}",
                                     internal=True, classes=["headerlink"])
        around = nodes.container(classes=["equation"])
        block.replace_self(around)
        around += [block, marks]


def on_resolved(app, doctree, docname):
    "Sphinx's doctree-resolved event: what texts say of equations becomes links."
    for link in list(doctree.findall(nodes.reference)):  # [equation 3.4](chapter): to the equation rather than to the chapter
        if MENTION.fullmatch(link.astext()) and "://" not in link.get("refuri", ""):
            link.replace_self(nodes.Text(link.astext()))
    for parent in [node for node in doctree.findall(nodes.TextElement) if not isinstance(node, (*SILENT, nodes.reference))]:
        if not inside(parent, (*SILENT, nodes.reference)):
            parent.children = [piece for child in joined(parent.children) for piece in linked(app, docname, parent, child)]
            for child in parent.children:
                child.parent = parent


def inside(
    node,   # a node
    kinds,  # tuple of its classes
):          # -> bool
    "Whether a node stands in one of these."
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def joined(
    children,  # list of nodes
):             # -> list of nodes, no two texts side by side
    "A line that is broken in the source is several texts to the parser."
    out = []
    for child in children:
        if out and isinstance(child, nodes.Text) and isinstance(out[-1], nodes.Text):
            out[-1] = nodes.Text(out[-1] + child)
        else:
            out.append(child)
    return out


def linked(
    app,      # Sphinx
    docname,  # the page
    parent,   # where the text stands, for a warning
    child,    # a node
):            # -> list of nodes in its place
    "A text with its mentions of equations as links; any other node as it is."
    if not isinstance(child, nodes.Text):
        return [child]
    out, done = [], 0
    for start, end, number in mentions(child):
        place = app.env.domains.standard_domain.anonlabels.get(f"eq-{number}")
        if not place:
            if child[start] != "(":
                log.warning("equation %s is spoken of, but there is none", number, location=parent)
            continue
        page = "" if place[0] == docname else app.builder.get_relative_uri(docname, place[0])
        out += [nodes.Text(child[done:start]), nodes.reference("", child[start:end], refuri=f"{page}#{place[1]}", internal=True)]
        done = end
    return [*out, nodes.Text(child[done:])]


def mentions(
    text,  # str
):         # -> iterable of (start, end, number): of "equations 3.4 to 3.6" the parts "equations 3.4" and "3.6"
    "Where a text speaks of equations."
    for mention in MENTION.finditer(text):
        for i, number in enumerate(NUMBER.finditer(text, mention.start(), mention.end())):
            bracketed = mention[0].startswith("(")
            yield number.start() if i else mention.start(), number.end() + bracketed, number[0]


def setup(app):
    "Called by Sphinx."
    app.connect("doctree-read", on_read)
    app.connect("doctree-resolved", on_resolved, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: reads nbdev notebooks as the book's pages.

A notebook is changed only in memory, between the file and MyST-NB (`page`): directives such as `#| hide`, `#| export`
and `#| fig-cap` are taken off the cells and obeyed, a text that stands in for another is noted (`stand_in`), chapters get
their numbers, and the front page gets the table of contents (`contents`). Two small corrections follow on the parsed page
(`tidy`): captions belong to pictures, equations to MathJax alone.
"""
import json
import posixpath
import re
from pathlib import Path

import nbformat
from directives import default_module, hidden, module_of, names, says_no, says_yes, split, without_settings
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGE = "seqbook"
PARTS = {"practice": "In practice", "applications": "Applications", "papers": "Papers", "reference": "Reference", "project": "The project"}
FIRST = ("reference/symbols", "reference/glossary", "reference/coming_from")  # before the rest of their part
PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")  # files beside nbs/ that the site has too
PICTURES = ("image/png", "image/svg+xml", "image/jpeg", "image/gif")
LOOK_UP = "```{{div}} look-up\nTo look up: [symbols]({0}reference/symbols.ipynb), [terms]({0}reference/glossary.ipynb)\n```"
CHAPTER = re.compile(r"(\d+)_[^/]+$")
OUTSIDE = re.compile(r"(\]\()((?:\.\./)+)([^)\s#/]+)(?=[)#])")
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^()\s#:]+)\.ipynb(?:#[^()\s]*)?\)")
MAP = re.compile(r"!\[[^\]]*\]\(map\.svg\)")
STAND_IN = re.compile(r"^\S+:\d+: EmbeddedTextWarning: (.+)\n(?:[ \t]+.*\n?)?", re.MULTILINE)
NUMBERED = re.compile(r"\s*\\begin\{(align|alignat|gather|equation|multline|flalign|eqnarray)\*?\}")
log = logging.getLogger(__name__)


def on_source(app, docname, source):
    "Sphinx's source-read event: hand MyST-NB the notebook as the reader is to see it."
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        nb = page(nbformat.reads(source[0], as_version=4), lambda text: log.warning(text, location=docname))
        number(nb, docname)
        if docname != app.config.root_doc and not docname.startswith("reference/") and FIRST[0] in app.env.found_docs:
            nb.cells[:1] = [nb.cells[0], nbformat.v4.new_markdown_cell(LOOK_UP.format("../" * docname.count("/")))]
        if docname == app.config.root_doc:
            nb.cells.append(nbformat.v4.new_markdown_cell(contents(app.env.found_docs)))
            drawn(nb, Path(app.srcdir))
        inside(nb, docname)
        source[0] = json.dumps(nb)
    elif docname.startswith("project/"):
        source[0] = source[0].replace("](nbs/", "](../")


def on_inited(app):
    "Sphinx's builder-inited event: the project's own papers become pages."
    for name in PROJECT:
        paper, copy = Path(app.confdir).parent / name, Path(app.srcdir) / "project" / name
        if not paper.exists():
            copy.unlink(missing_ok=True)
        elif not copy.exists() or copy.read_bytes() != paper.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(paper.read_bytes())


def page(
    nb,                   # an executed notebook; it is changed
    warn=lambda text: None,  # called with a sentence about what is amiss
):                        # -> the notebook with nbdev's directives obeyed
    "Everything that nbdev's directives ask for, cell by cell."
    default = default_module(cell.source for cell in nb.cells if cell.cell_type == "code")
    cells = []
    for i, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "code":
            said = stand_in(cell)
            cells += code_cell(cell, default, lambda text, i=i: warn(f"cell {i}: {text}"))
            cells += [nbformat.v4.new_markdown_cell(f"> [!NOTE]\n> {text[0].upper()}{text[1:]}.") for text in said]
        elif cell.source.strip():
            cells.append(cell)
    nb.cells = cells
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return nb


def code_cell(
    cell,     # a code cell; it is changed
    default,  # the notebook's own module, or None
    warn,     # called with a sentence about what is amiss
):            # -> list of the cells that stand for it on the page
    "One code cell: nothing, the cell, or the cell below a mark that says which module it goes to."
    found, code = split(cell.source)
    if hidden(found, code):
        return []
    cell.source = without_settings(code)
    tags = cell.metadata.setdefault("tags", [])
    if says_no(found, "eval"):
        cell.outputs = []
    if says_no(found, "echo") or says_yes(found, "hide_input"):
        tags.append("remove-input")
    if says_no(found, "output") or says_yes(found, "hide_output"):
        tags.append("remove-output")
    if says_yes(found, "code-fold"):
        tags.append("hide-input")
    picture(cell, found, warn)
    module = module_of(found, default)
    if module is None or "remove-input" in tags:
        return [cell]
    mark = f"```{{exported}} {qualified(module)}\n{' '.join(names(cell.source))}\n```"
    return [nbformat.v4.new_markdown_cell(mark), cell]


def stand_in(
    cell,  # a code cell; its outputs are changed
):         # -> list of what they warned of
    "Warnings that the embedded text stands in for another go from the error output to the page; anything else stays there."
    said = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stderr":
            said += STAND_IN.findall(output.text)
            output.text = STAND_IN.sub("", output.text)
    cell.outputs = [output for output in cell.get("outputs", []) if output.get("text") != ""]
    return said


def picture(
    cell,   # a code cell; its metadata are changed
    found,  # its directives
    warn,   # called with a sentence about what is amiss
):
    "Alternative text and caption of the cell's figure, where MyST-NB looks for them."
    shown = [output.get("data", {}) for output in cell.get("outputs", [])]
    drawn = any(kind in data and "text/html" not in data for data in shown for kind in PICTURES)  # HTML brings its own text
    alt, caption = found.get("fig-alt"), found.get("fig-cap")
    options = cell.metadata.setdefault("mystnb", {})
    if alt or caption:
        options["image"] = {"alt": alt or re.sub(r"[$`*\\]", "", caption)}
    elif drawn and "remove-output" not in cell.metadata["tags"]:
        warn("its figure has no alternative text; begin the cell with `#| fig-alt: ...`")
    if caption:
        options["figure"] = {"caption": caption, "align": "center"}
    if "code-summary" in found:
        options["code_prompt_show"] = options["code_prompt_hide"] = found["code-summary"]


def qualified(
    module,  # a module's name as in `#| default_exp`: "rnn", "__init__"
):           # -> its full name
    "seqbook.rnn for rnn, seqbook for the package itself."
    return PACKAGE if module == "__init__" else f"{PACKAGE}.{module}"


def number(
    nb,       # a notebook; its title is changed
    docname,  # its page, "02_rnn"
):
    "The lecture's chapters carry the number of their file, since equations and other chapters speak of it."
    chapter = CHAPTER.match(docname)
    if chapter and nb.cells and nb.cells[0].source.startswith("# "):
        nb.cells[0].source = f"# {int(chapter[1])}. {nb.cells[0].source[2:]}"


def inside(
    nb,       # a notebook; its Markdown cells are changed
    docname,  # its page
):
    "Links out of nbs/ to the project's papers lead to where the site has them."
    def moved(link):
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(docname), link[2])) == ".."
        return f"{link[1]}{'../' * docname.count('/')}project/{link[3]}" if beside and link[3] in PROJECT else link[0]

    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = OUTSIDE.sub(moved, cell.source)


def drawn(
    nb,      # the front page's notebook; its Markdown cells are changed
    folder,  # Path where its pictures lie
):
    "The map of the book stands in the page itself, so that its tiles can be clicked."
    for cell in nb.cells:
        if cell.cell_type == "markdown" and MAP.search(cell.source):
            svg = (folder / "map.svg").read_text("utf-8").replace('.ipynb"', '.html"').strip()
            cell.source = MAP.sub(lambda _, svg=svg: f'<div class="book-map">\n{svg}\n</div>', cell.source)


def rank(
    doc,  # a page, "practice/optim"
):        # -> the place of its part in the sidebar
    "The lecture, which lies at the top, comes first, a folder that nobody knows last."
    order, part = ["", *PARTS], doc.rpartition("/")[0]
    return order.index(part) if part in order else len(order)


def parts_of(
    docs,  # iterable of page names, "02_rnn", "practice/optim", "api/rnn"
):         # -> {title: [pages]}, the sidebar's parts in their order, each with the pages that exist
    "The lecture is what lies at the top; each folder is a part of its own; the front page belongs to none."
    parts = {"": []}
    for doc in sorted(docs, key=lambda doc: (FIRST.index(doc) if doc in FIRST else len(FIRST), doc)):
        if not doc.startswith("api/") and doc != "index":
            parts.setdefault(doc.rpartition("/")[0], []).append(doc)
    if f"api/{PACKAGE}" in docs:  # which has the modules below it
        parts.setdefault("reference", []).append(f"api/{PACKAGE}")
    folders = sorted(parts, key=lambda part: (rank(f"{part}/"), part))
    return {PARTS.get(folder, folder.capitalize()) if folder else "The lecture": parts[folder] for folder in folders if parts[folder]}


def contents(
    docs,  # iterable of page names
):         # -> Markdown: the sidebar's parts
    "One table of contents for each part."
    trees = []
    for title, pages in parts_of(docs).items():
        listed = "\n".join(f"/{doc}" for doc in pages)
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```")
    return "\n\n".join(trees)


def anchor(
    title,  # a heading's text
):          # -> its anchor
    "Jupyter's own rule, so that `#What-can-go-wrong` works in a notebook and on the site."
    return title.strip().replace(" ", "-")


class Exported(SphinxDirective):
    "The mark above a cell that is part of the library: a link to what the reference says about it."
    required_arguments = 1
    has_content = True

    def run(self):
        "A short paragraph that the reference can link back to."
        module, defined = self.arguments[0], " ".join(self.content).split()
        mark = nodes.paragraph(classes=["exported"])
        for name in defined:
            target = f"{module}.{name}"
            mark["ids"].append(nodes.make_id(f"source-{target}"))
            self.env.domains.standard_domain.note_hyperlink_target(
                f"source-{target}".lower(), self.env.docname, mark["ids"][-1], target)
        mark += ExportedLink(module=module, names=defined)
        return [mark]


class ExportedLink(nodes.Inline, nodes.Element):
    "Stands for the link until all pages are read."


def on_resolve(app, doctree, docname):
    "Sphinx's doctree-resolved event: the marks' links, to the first name that the reference lists."
    for mark in list(doctree.findall(ExportedLink)):
        module, objects = mark["module"], app.env.domains.python_domain.objects
        listed = [f"{module}.{name}" for name in mark["names"] if f"{module}.{name}" in objects]
        listed += [module] if module in objects or module in app.env.domains.python_domain.modules else []
        text = nodes.literal(module, module)
        if listed:
            entry = objects[listed[0]]
            uri = app.builder.get_relative_uri(docname, entry.docname) + "#" + entry.node_id
            title = f"Part of the library: {listed[0]} in the reference"
            text = nodes.reference("", "", text, refuri=uri, internal=True, reftitle=title)
        mark.replace_self(text)


def tidy(app, doctree):
    "Sphinx's doctree-read event."
    for figure in list(doctree.findall(nodes.figure)):
        if not any(True for _ in figure.findall(nodes.image)):  # a caption belongs to a picture, not to a printed value
            figure.replace_self([child for child in figure.children if not isinstance(child, nodes.caption)])
    for equation in doctree.findall(nodes.math_block):
        if not equation.get("no-wrap", equation.get("nowrap")):  # Sphinx's own wrapping would not allow \tag
            tex = equation.astext().strip()
            if not NUMBERED.match(tex):
                tex = rf"\[{tex}\]"
            equation.children = [nodes.Text(tex)]
            equation["no-wrap"] = equation["nowrap"] = True


def outdated(app, env, added, changed, removed):
    "Sphinx's env-get-outdated event: a page that came or went changes the sidebar of all."
    return set(env.found_docs) if added or removed else set()


def setup(app):
    "Called by Sphinx."
    app.add_directive("exported", Exported)
    app.add_node(ExportedLink)
    app.connect("builder-inited", on_inited)
    app.connect("source-read", on_source)
    app.connect("doctree-read", tidy)
    app.connect("doctree-resolved", on_resolve)
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

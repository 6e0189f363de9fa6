"""Sphinx extension: names in code lead to where they are explained.

In code cells and in code within the text, what a page imports or adds to the library is linked to the reference, and
NumPy's and CuPy's functions to their own documentation. Names are read from the syntax tree, cell after cell, and a name
that means something else by then, such as a parameter or a variable, is no link. `xp` counts as NumPy: CuPy's functions
have the same names.
"""
import ast
import importlib
import re
from html import escape, unescape

from docutils import nodes
from elsewhere import address
from equations import inside
from nbdev_cells import PACKAGE
from reference import parted

ARRAYS = {"np": "numpy", "xp": "numpy", "cp": "cupy"}
LANGUAGES = ("ipython3", "ipython", "python", "default")
MAGIC = re.compile(r"^(\s*)[%!].*", re.MULTILINE)
NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?", re.DOTALL)
TOKEN = re.compile(r"(<[^>]*>)")


class Names(ast.NodeVisitor):
    "Finds the uses of known names in one cell, and follows what the cell makes of names."

    def __init__(
        self,
        known,  # {name: what it stands for in full}; kept up to date
        own,    # {name: full name} of what this page adds to the library
    ):
        self.known, self.own, self.found = known, own, []

    def visit_Import(self, node):
        "`import numpy as np`."
        for alias in node.names:
            self.known[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]

    def visit_ImportFrom(self, node):
        "`from seqbook.rnn import rnn_step`: the names there are links too."
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self.known[alias.asname or alias.name] = full
            self.found.append((alias.lineno, alias.col_offset, alias.name, full))

    def visit_Name(self, node):
        "A use, or a new meaning."
        if isinstance(node.ctx, ast.Load):
            self.use(node, node.id)
        else:
            self.mean(node.id)

    def visit_Attribute(self, node):
        "`np.random.default_rng` as a whole."
        name = dotted(node)
        if name and node.lineno == node.end_lineno:
            self.use(node, name)
        else:
            self.generic_visit(node)

    def visit_Assign(self, node):
        "The right-hand side comes first."
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_ClassDef(self, node):
        "A name of its own."
        self.generic_visit(node)
        self.mean(node.name)

    def visit_FunctionDef(self, node):
        "Parameters and variables inside hide what the page knows by these names."
        self.mean(node.name)
        for outside in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(outside)
        self.scope(node, node.body)

    def visit_Lambda(self, node):
        "Likewise."
        self.scope(node, [node.body])

    def visit_GeneratorExp(self, node):
        "Likewise."
        self.scope(node, list(ast.iter_child_nodes(node)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp

    def visit_JoinedStr(self, node):
        "Places inside formatted text are not those of the source before Python 3.12."

    def scope(self, node, body):
        "Read the inside of a function or of a comprehension."
        inside = {n.arg if isinstance(n, ast.arg) else n.id for n in ast.walk(node)
                  if isinstance(n, ast.arg) or (isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))}
        names = Names({name: full for name, full in self.known.items() if name not in inside or name in ARRAYS}, {})
        for part in body:
            names.visit(part)
        self.found += names.found

    def use(self, node, name):
        "Note a use of a known name."
        first, dot, rest = name.partition(".")
        if first in self.known:
            self.found.append((node.lineno, node.col_offset, name, self.known[first] + dot + rest))

    def mean(self, name):
        "A name that the cell makes means what the library has by it, or nothing to us."
        if name in self.own:
            self.known[name] = self.own[name]
        elif name not in ARRAYS:
            self.known.pop(name, None)


def dotted(
    node,  # a node of the syntax tree
):         # -> "np.random.default_rng", or None if it is not made of names alone
    "The text of an attribute."
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return inner and f"{inner}.{node.attr}"


def uses(
    code,   # text of a cell
    known,  # {name: full name}; kept up to date
    own,    # {name: full name} of what the page adds to the library
):          # -> list of (where it begins in the text, name as written, full name), in order
    "The uses of known names; none in a cell that is no Python."
    try:
        tree = ast.parse(MAGIC.sub(lambda line: f"{line[1]}pass".ljust(len(line[0])), code))
    except SyntaxError:
        return []
    names = Names(known, own)
    names.visit(tree)
    lines = [line.encode() for line in code.splitlines(keepends=True)]  # the tree counts bytes, we count characters
    starts = [sum(len(line.decode()) for line in lines[:i]) for i in range(len(lines))]
    found = [(starts[row - 1] + len(lines[row - 1][:column].decode()), name, full) for row, column, name, full in names.found]
    return sorted({use for use in found if code.startswith(use[1], use[0])})


def home(
    name,  # "seqbook.RNN"
):         # -> "seqbook.rnn.RNN", or the name as it is
    "The module that a thing of the library was made in, by whatever way it was reached."
    module, inside = parted(name)
    thing = importlib.import_module(module)
    for part in inside.split(".") if inside else []:
        thing = getattr(thing, part, None)
    where, called = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{where}.{called}" if isinstance(where, str) and called else name


class Places:
    "Where names are explained, as seen from one page."

    def __init__(self, app, docname):
        python = app.env.domains.python_domain
        self.app, self.docname, self.objects, self.modules = app, docname, python.objects, python.modules

    def link(
        self,
        name,   # a full name, perhaps with attributes that nobody explains
        spare,  # how many of its parts may go
    ):          # -> (address, what it explains, parts that went), or None
        "The reference, or the documentation of NumPy and CuPy."
        for gone in range(spare + 1):
            part = ".".join(name.split(".")[:len(name.split(".")) - gone])
            uri = self.uri(part)
            if uri:
                return *uri, gone
        return None

    def uri(self, name):
        "(address, full name) of exactly this name, or None."
        if name.split(".")[0] != PACKAGE:
            return (address(name), name) if address(name) else None
        for full in dict.fromkeys([name, home(name)]):
            entry = self.objects.get(full) or self.modules.get(full)
            if entry and full != PACKAGE:
                return f"{self.app.builder.get_relative_uri(self.docname, entry.docname)}#{entry.node_id}", full
        return None


def on_resolved(app, doctree, docname):
    "Sphinx's doctree-resolved event: find the links of a page; those of code cells are drawn by `visit_code`."
    places = Places(app, docname)
    own = {name.rpartition(".")[2]: name for name, page in app.reference.origin.items() if page == docname}
    known, ever = dict(ARRAYS), {}
    for block in doctree.findall(nodes.literal_block):
        if block.get("language", "default") in LANGUAGES:
            links = []
            for start, name, full in uses(block.astext(), known, own):
                place = places.link(full, name.count("."))
                if place:
                    links.append((start, ".".join(name.split(".")[:name.count(".") + 1 - place[2]]), *place[:2]))
            block["links"] = links
            ever |= known
    for code in list(doctree.findall(nodes.literal)):
        place = not inside(code, (nodes.reference, nodes.title)) and in_text(code.astext(), ever | own | ARRAYS, places)
        if place:
            link = nodes.reference("", "", refuri=place[0], reftitle=place[1], internal=place[1].startswith(PACKAGE), classes=["code-link"])
            code.replace_self(link)
            link += code


def in_text(
    text,    # code within the text: "rnn_step", "np.tanh", "rnn_step(p, x)"
    known,   # {name: full name} of the page
    places,  # Places
):           # -> (address, full name), or None
    "Code in a sentence is a link if all of it is a name that the page knows, or that the library alone has."
    match = NAME.fullmatch(text)
    if not match:
        return None
    first, dot, rest = match[1].partition(".")
    if first in known:
        return places.uri(known[first] + dot + rest)
    if first == PACKAGE:
        return places.uri(match[1])
    if "_" in first or first != first.lower():  # not a word that may mean anything
        homes = [name for name in places.app.reference.origin if name.rpartition(".")[2] == first]
        return places.uri(homes[0] + dot + rest) if len(homes) == 1 else None
    return None


def visit_code(self, node):
    "Sphinx's own way to write a block of code, with the links put in."
    try:
        type(self).visit_literal_block(self, node)
    except nodes.SkipNode:
        if node.get("links"):
            self.body[-1] = with_links(self.body[-1], node["links"])
        raise


def depart_code(self, node):
    "As Sphinx does."
    type(self).depart_literal_block(self, node)


def with_links(
    html,   # a highlighted block of code
    links,  # [(where it begins in the code, text, address, title)]
):          # -> the block with links around these texts
    "Links go around whole tokens; one that would cut a token in two is left out."
    head, pre, body = html.partition("<pre>")
    pieces, place, edges = TOKEN.split(body), 0, {}
    for i, piece in enumerate(pieces):
        if piece and not piece.startswith("<"):
            edges[place] = (i, edges.get(place, (None, None))[1])
            place += len(unescape(piece))
            edges[place] = (None, i)
    for start, text, uri, title in links:
        first, last = edges.get(start, (None, None))[0], edges.get(start + len(text), (None, None))[1]
        if first is not None and last is not None and unescape(TOKEN.sub("", "".join(pieces[first:last + 1]))) == text:
            pieces[first - 1] = f'<a class="code-link" href="{escape(uri)}" title="{escape(title)}">{pieces[first - 1]}'
            pieces[last + 1] += "</a>"
    return head + pre + "".join(pieces)


def setup(app):
    "Called by Sphinx."
    app.setup_extension("reference")
    app.setup_extension("elsewhere")
    app.add_node(nodes.literal_block, override=True, html=(visit_code, depart_code))
    app.connect("doctree-resolved", on_resolved)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""The book's tools in docs/: directives, pages, reference, README, the runner of notebooks; on notebooks made here."""
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import signal
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra: pip install 'seqbook[docs,dev]'")
pytest.importorskip("sphinx", reason="needs the extra: pip install 'seqbook[docs]'")
sys.path.append(str(Path(__file__).resolve().parents[1] / "docs"))

import book_map  # noqa: E402
import code_links  # noqa: E402
import directives  # noqa: E402
import elsewhere  # noqa: E402
import equations  # noqa: E402
import execute  # noqa: E402
import nbdev_cells  # noqa: E402
import readme  # noqa: E402
import reference  # noqa: E402
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output  # noqa: E402

PICTURE = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 1x1>"})


def notebook(*cells):
    "A notebook of texts: Markdown if they begin with a heading or a quote, else code."
    return new_notebook(cells=[cell if not isinstance(cell, str) else new_markdown_cell(cell) if cell.startswith(("# ", ">"))
                               else new_code_cell(cell) for cell in cells])


def shown(*cells, warn=lambda text: None):
    "The cells of the page that a notebook becomes."
    return nbdev_cells.page(notebook(*cells), warn).cells


# ---- directives
@pytest.mark.parametrize("source, found, code", [
    ("#| export\nx = 1", {"export": ""}, "x = 1"),
    ("#|export rnn\nx = 1", {"export": "rnn"}, "x = 1"),
    ("# | hide:\nx", {"hide": ""}, "x"),
    ("#| eval: false\n#| echo: true\n\nx", {"eval": "false", "echo": "true"}, "x"),
    ("#| fig-cap: 'a: b'\n#| fig-alt: \"c\"\nx", {"fig-cap": "a: b", "fig-alt": "c"}, "x"),
    ("%%time\n#| hide\nx", {"hide": ""}, "%%time\nx"),
    ("x\n#| hide", {}, "x\n#| hide"),
    ("# a comment\nx", {}, "# a comment\nx"),
    ("", {}, ""),
])
def test_directives_are_taken_off_the_top(source, found, code):
    assert directives.split(source) == (found, code)


def test_names_an_exported_cell_defines():
    code = "import a\nx = y = 1\nz: int = 2\ndef f(): g = 1\nclass C: pass\na.b = 3"
    assert directives.names(code) == ["x", "y", "z", "f", "C"]
    assert directives.names("%timeit x") == []


# ---- pages
@pytest.mark.parametrize("source", [
    "#| hide\nx = 1", "#| default_exp rnn", "#| include: false\nx", "%xmode Minimal\n%config A.b = 1", "#| export", "",
])
def test_hidden_cells_are_not_on_the_page(source):
    assert shown(source) == []


@pytest.mark.parametrize("source, tag", [
    ("#| hide_input\nx", "remove-input"), ("#| echo: false\nx", "remove-input"), ("#| hide_output\nx", "remove-output"),
    ("#| output: false\nx", "remove-output"), ("#| code-fold: true\nx", "hide-input"), ("#| echo: true\nx", None),
])
def test_directives_become_tags(source, tag):
    (cell,) = shown(source)
    assert cell.source == "x" and cell.metadata.tags == ([tag] if tag else [])


def test_settings_are_dropped_other_magics_stay():
    (cell,) = shown("%matplotlib inline\n%timeit x\nx")
    assert cell.source == "%timeit x\nx"


def test_a_failing_cell_keeps_its_tag():
    (cell,) = shown(new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}))
    assert cell.metadata.tags == ["raises-exception"]


@pytest.mark.parametrize("directive, module", [
    ("export", "seqbook.rnn"), ("exports", "seqbook.rnn"), ("exporti", "seqbook.rnn"), ("export bptt", "seqbook.bptt"),
    ("export __init__", "seqbook"),
])
def test_an_exported_cell_says_where_it_goes(directive, module):
    mark, cell = shown("#| default_exp rnn", f"#| {directive}\ndef f(): pass")
    assert mark.source == f"```{{exported}} {module}\nf\n```"
    assert cell.source == "def f(): pass"


def test_not_run_means_no_outputs():
    (cell,) = shown(new_code_cell("#| eval: false\nx", outputs=[new_output("stream", text="old")]))
    assert cell.outputs == [] and cell.source == "x"


WARNED = ("/tmp/ipykernel_1/2.py:1: EmbeddedTextWarning: the documentation strings stand in for poems 1.0 (no network): "
          "numbers will differ\n"
          "  text = poems()\n")


@pytest.mark.parametrize("source", ["text = poems()", "#| hide\ntext = poems()", "#| hide_output\ntext = poems()"])
def test_a_text_that_stands_in_is_noted_on_the_page(source):
    outputs = [new_output("stream", name="stderr", text=WARNED * 2), new_output("stream", text="done\n")]
    *cell, first, second = shown(new_code_cell(source, outputs=outputs))
    assert first.source == "> [!NOTE]\n> The documentation strings stand in for poems 1.0 (no network): numbers will differ."
    assert second.source == first.source and [output.text for c in cell for output in c.outputs] == ["done\n"] * len(cell)


def test_other_warnings_stay_where_they_are():
    outputs = [new_output("stream", name="stderr", text=WARNED + "x.py:1: RuntimeWarning: overflow\n  y\n"), new_output("error")]
    cell, note = shown(new_code_cell("y", outputs=outputs))
    assert cell.outputs[0].text == "x.py:1: RuntimeWarning: overflow\n  y\n" and len(cell.outputs) == 2
    (cell,) = shown(new_code_cell("y", outputs=[new_output("stream", text=WARNED)]))
    assert cell.outputs[0].text == WARNED


def test_figures_get_their_words():
    (cell,) = shown(new_code_cell("#| fig-alt: A line: up\n#| fig-cap: The $x$ axis\nplot()", outputs=[PICTURE]))
    assert cell.metadata.mystnb == {"image": {"alt": "A line: up"}, "figure": {"caption": "The $x$ axis", "align": "center"}}
    (cell,) = shown(new_code_cell("#| fig-cap: The $x$ axis\nplot()", outputs=[PICTURE]))
    assert cell.metadata.mystnb["image"] == {"alt": "The x axis"}


def test_a_figure_without_words_is_a_warning():
    said = []
    shown("# Title", new_code_cell("plot()", outputs=[PICTURE]), warn=said.append)
    assert said == ["cell 2: its figure has no alternative text; begin the cell with `#| fig-alt: ...`"]
    both = new_output("display_data", data=PICTURE.data | {"text/html": "<figure></figure>"})
    shown(new_code_cell("plot()", outputs=[both]), warn=said.append)
    assert len(said) == 1  # shown as HTML, which has its own words


def test_chapters_carry_their_number():
    for page, title in {"02_rnn": "# 2. Units", "11_deep": "# 11. Units", "practice/optim": "# Units", "index": "# Units"}.items():
        nb = notebook("# Units")
        nbdev_cells.number(nb, page)
        assert nb.cells[0].source == title


def test_links_to_the_projects_papers():
    nb = notebook("# [a](../../LICENSE), [b](../../tests), [c](../LICENSE), [d](../02_rnn.ipynb#x), [e](../../CHANGELOG.md#y)")
    nbdev_cells.inside(nb, "practice/optim")
    assert nb.cells[0].source == (
        "# [a](../project/LICENSE), [b](../../tests), [c](../LICENSE), [d](../02_rnn.ipynb#x), [e](../project/CHANGELOG.md#y)")
    nb = notebook("# [a](../LICENSE)")
    nbdev_cells.inside(nb, "index")
    assert nb.cells[0].source == "# [a](project/LICENSE)"


def test_contents_come_from_what_is_there():
    text = nbdev_cells.contents(["index", "practice/b", "10_y", "02_x", "practice/a", "api/rnn", "api/seqbook", "extra/z",
                                "reference/bibliography", "reference/symbols"])
    captions = [line.split(": ")[1] for line in text.splitlines() if line.startswith(":caption:")]
    assert captions == ["The lecture", "In practice", "Reference", "Extra"]
    pages = [line for line in text.splitlines() if line.startswith("/")]
    assert pages == ["/02_x", "/10_y", "/practice/a", "/practice/b",
                     "/reference/symbols", "/reference/bibliography", "/api/seqbook", "/extra/z"]


# ---- links
@pytest.mark.parametrize("text, found", [
    ("Equations 3.4 to\n3.6, as (eq. 2.1)", [("Equations 3.4", "3.4"), ("3.6", "3.6"), ("eq. 2.1", "2.1")]),
    ("equation course.1.", [("equation course.1", "course.1")]),
    ("equations 9.14, 9.16 and 10.2.", [("equations 9.14", "9.14"), ("9.16", "9.16"), ("10.2", "10.2")]),
    ("Glorot and Bengio 2010, equation 16. The equations of 3.4; f(2.1)", []),
    ("Adam (optim.8) and (4.2) (0, 1)", [("(optim.8)", "optim.8"), ("(4.2)", "4.2")]),
])
def test_mentions_of_equations(text, found):
    assert [(text[start:end], number) for start, end, number in equations.mentions(text)] == found


CELL = """import numpy as np
from seqbook.rnn import rnn_step as step, RNN
%timeit step(p)
x = np.random.default_rng(0).normal(size=np.int64(3))  # äöü: np.tanh is a comment, RNN too
y = [step(s, "RNN") for s in (RNN.step, f"{step}")]
def f(step, a=step): return step(np.exp(a))
RNN = RNN(1)
RNN(2)
"""


def test_names_in_code():
    known = {}
    found = code_links.uses(CELL, known, {})
    assert [(CELL[:start].count("\n"), name, full) for start, name, full in found] == [
        (1, "rnn_step", "seqbook.rnn.rnn_step"), (1, "RNN", "seqbook.rnn.RNN"),
        (3, "np.random.default_rng", "numpy.random.default_rng"), (3, "np.int64", "numpy.int64"),
        (4, "step", "seqbook.rnn.rnn_step"), (4, "RNN.step", "seqbook.rnn.RNN.step"),
        (5, "step", "seqbook.rnn.rnn_step"), (5, "np.exp", "numpy.exp"), (6, "RNN", "seqbook.rnn.RNN")]
    assert known == {"np": "numpy", "step": "seqbook.rnn.rnn_step"}
    assert code_links.uses("def rnn(): pass\nrnn()", {}, {"rnn": "seqbook.rnn.rnn"}) == [(16, "rnn", "seqbook.rnn.rnn")]
    assert code_links.uses("step(", {"step": "seqbook.rnn.rnn_step"}, {}) == []


def test_links_in_highlighted_code():
    html = '<div><pre><span></span><span>x</span><span>&lt;</span><span>np</span><span>.</span><span>abs</span>\n</pre></div>'
    linked = code_links.with_links(html, [(2, "np.abs", "u?a&b", "numpy.abs"), (0, "xy", "#", "no token"), (3, "p", "#", "half")])
    anchor = '<a class="code-link" href="u?a&amp;b" title="numpy.abs">'
    assert linked == html.replace("<span>np", f"{anchor}<span>np").replace("abs</span>", "abs</span></a>")


def test_where_numpy_and_cupy_explain_names():
    for name, page in {
        "numpy.tanh": "generated/numpy.tanh.html", "numpy.float32": "arrays.scalars.html#numpy.float32",
        "numpy.inf": "constants.html#numpy.inf", "numpy.maximum.accumulate": "generated/numpy.ufunc.accumulate.html",
        "numpy.random.Generator.normal": "random/generated/numpy.random.Generator.normal.html",
        "numpy.random.default_rng": "random/generator.html#numpy.random.default_rng",
    }.items():
        assert elsewhere.address(name) == f"https://numpy.org/doc/stable/reference/{page}"
    for name in ("cupy.zeros", "cupy.asnumpy", "cupy.cuda.Device"):
        assert elsewhere.address(name) == f"https://docs.cupy.dev/en/stable/reference/generated/{name}.html"
    for name in ("numpy", "numpy.linalg", "numpy.__version__", "numpy.no_such_thing", "cupy.no_such_thing", "os.path"):
        assert elsewhere.address(name) is None


PAGES = {
    "index": r"""# Front
> About.

As equations 2.1 and
2.2 say, [equation 2.1](02_rnn.ipynb), equation 14, (2.3) and (0.5). `np.tanh(x)`, `rnn_step`, `step`.
""",
    "02_rnn": r"""# Units
> About.

$$a = b \tag{2.1}$$

\begin{align}
c &= d \tag{2.2} \\
e &= f \tag{2.3}
\end{align}

By equation 2.3.
""",
}


def site(folder, pages, *cells):
    "(pages as parsed HTML, warnings about these pages) of a small site."
    from bs4 import BeautifulSoup
    from sphinx.application import Sphinx
    for name, text in pages.items():
        nbformat.write(notebook(text.replace("\\\\", "\\"), *(cells if name == "02_rnn" else ())), folder / f"{name}.ipynb")
    said = StringIO()
    docs = Path(execute.__file__).parent
    Sphinx(folder, docs, folder / "html", folder / "trees", "html", status=None, warning=said,
           confoverrides={"html_theme": "basic", "html_theme_options": {}}).build()
    html = {name: BeautifulSoup((folder / "html" / f"{name}.html").read_text(), "html.parser") for name in pages}
    return html, [line for line in said.getvalue().splitlines() if ".ipynb" in line]


@pytest.mark.filterwarnings("ignore:.myst_parser")
def test_a_site_with_links(tmp_path):
    cells = "#| default_exp rnn", "#| export\ndef rnn_step(): pass", "rnn_step()\nnp.tanh(0)\nstep()"
    html, said = site(tmp_path, PAGES, *cells)
    assert said == []
    front = [(link.get_text(), link["href"]) for link in html["index"].select("p a.reference")]
    assert front == [
        ("equations 2.1", "02_rnn.html#eq-2.1"), ("2.2", "02_rnn.html#eq-2.2"), ("equation 2.1", "02_rnn.html#eq-2.1"),
        ("(2.3)", "02_rnn.html#eq-2.3"), ("np.tanh(x)", "https://numpy.org/doc/stable/reference/generated/numpy.tanh.html"),
        ("rnn_step", "api/rnn.html#seqbook.rnn.rnn_step")]
    chapter = html["02_rnn"]
    assert [tag["id"] for tag in chapter.select(".equation-links a")] == ["eq-2.1", "eq-2.2", "eq-2.3"]
    assert [link["href"] for link in chapter.find_all("a", string="equation 2.3")] == ["#eq-2.3"]
    assert [(link.get_text(), link["title"]) for link in chapter.select("pre a")] == [
        ("rnn_step", "seqbook.rnn.rnn_step"), ("np.tanh", "numpy.tanh")]


@pytest.mark.parametrize("text, warning", [
    ("# Front\n> About.\n\nBy equation 2.9.", "equation 2.9 is spoken of, but there is none"),
    ("# Front\n> About.\n\n$$a \\tag{2.1}$$", "duplicate label eq-2.1"),
])
def test_equations_that_are_amiss_are_warnings(tmp_path, text, warning):
    html, said = site(tmp_path, {**PAGES, "index": text})
    assert len(said) == 1 and warning in said[0]


# ---- reference
class Pair(NamedTuple):
    "Two things."
    left: int   # (n,) the first
    right: str = "r"  # the second


def step(
    p: Pair,           # weights
    x,                 # (B, n_x) the input x^<t>
    activation="tanh", # "tanh", "relu" or
                       # "sigmoid"
    *rest,
    scale=(1,
           2),         # two numbers
):                     # -> state at t, cache
    "One step: a^<t> = `g(x_)`*."
    # -> not a comment of the header
    return p


def refuse(
    sizes,  # two numbers
):
    raise ValueError(f"sizes: expected {1}, {2}, "
                     f"got {sizes}" + " or more")


def test_comments_beside_parameters():
    assert reference.docments(inspect.getsource(step)) == {
        "p": "weights", "x": "(B, n_x) the input x^<t>", "activation": '"tanh", "relu" or "sigmoid"',
        "scale": "two numbers", "return": "state at t, cache"}
    assert reference.docments(inspect.getsource(Pair)) == {"left": "(n,) the first", "right": "the second"}
    assert reference.docments("def f(x, y): # -> their sum\n    return x + y") == {"return": "their sum"}
    assert reference.docments("x = 1") == {}


def test_entries_of_the_reference():
    assert reference.fields(step) == [
        ":Parameters:", "   - **p** (``Pair``) – weights", r"   - **x** – (B, n\_x) the input x^<t>",
        '   - **activation** – "tanh", "relu" or "sigmoid"', "   - **scale** – two numbers", ":Returns: state at t, cache", ""]
    assert reference.fields(refuse) == [
        ":Parameters:", "   - **sizes** – two numbers", ":Raises:", "   - **ValueError** – sizes: expected …, got … or more", ""]
    assert reference.raised("def f():\n    raise e\n    raise KeyError(key)") == []
    assert reference.on_signature(None, "function", "step", step, None, None, None)[0] == "(p, x, activation='tanh', *rest, scale=(1, 2))"


def test_names_explain_themselves_once():
    known = reference.explained("seqbook.rnn.RNN.step")
    assert known["state"] and known["lengths"] and reference.explained("other.name") == {}
    entry = "\n".join(reference.fields(importlib.import_module("seqbook.rnn").RNN.step, "seqbook.rnn.RNN.step"))
    assert "**x** – (B, n\\_x)" in entry and "**state** – " in entry


PUBLIC = [(module.name.removeprefix("seqbook."), name)
          for module in pkgutil.walk_packages(importlib.import_module("seqbook").__path__, "seqbook.")
          if not module.ispkg and "._" not in module.name for name in importlib.import_module(module.name).__all__]


@pytest.mark.parametrize("module", sorted({module for module, _ in PUBLIC}))
def test_the_reference_knows_every_name(module):
    modules, origin = reference.chapters(Path(execute.__file__).parents[1] / "nbs")
    loaded = importlib.import_module(f"seqbook.{module}")
    names = [name for home, name in PUBLIC if home == module]
    assert [name for name in names if f"seqbook.{module}.{name}" not in origin] == []
    made = [name for name in names if inspect.isfunction(getattr(loaded, name)) or inspect.isclass(getattr(loaded, name))]
    assert [name for name in made if not (getattr(loaded, name).__doc__ or "").strip()] == []
    data = reference.constants(f"seqbook.{module}")
    assert [name for name in names if name not in made and f".. py:data:: seqbook.{module}.{name}\n" not in data] == []


def test_every_parameter_of_what_the_package_offers_is_explained():
    package, silent = importlib.import_module("seqbook"), []
    for function in filter(inspect.isfunction, (getattr(package, name) for name in package.__all__)):
        name = f"{function.__module__}.{function.__name__}"
        known = reference.explained(name) | reference.docments(inspect.getsource(function))
        silent += [f"{name}: {parameter}" for parameter in inspect.signature(function).parameters if parameter not in known]
    assert silent == []


def test_docstrings_are_taken_literally():
    assert reference.rst("One: a_ *b* |c| `d_e`.\n\n- x\n- y\n\n    z = 1") == [
        r"One: a\_ \*b\* \|c\| ``d_e``\ .", "", "- x", "- y", "", "::", "", "    z = 1", ""]
    assert reference.inline("x`y`z") == r"x\ ``y``\ z"
    assert reference.inline("[docs](https://x.org/a_b)") == "`docs <https://x.org/a_b>`__"


def test_chapters_know_their_modules(tmp_path):
    (tmp_path / "practice").mkdir()
    nbformat.write(notebook("# The unit\n> x", "#| default_exp rnn", "#| export\ndef f(): pass"), tmp_path / "02_rnn.ipynb")
    nbformat.write(notebook("# Back", "#| export rnn\ndef g(): pass"), tmp_path / "practice" / "back.ipynb")
    modules, origin = reference.chapters(tmp_path)
    assert modules == {"seqbook.rnn": {"02_rnn": "The unit", "practice/back": "Back"}}
    assert origin == {"seqbook.rnn.f": "02_rnn", "seqbook.rnn.g": "practice/back"}


# ---- works cited
ROOT = Path(execute.__file__).parents[1]
ITEM = re.compile(r"^[*-] (.*(?:\n  .*)*)", re.MULTILINE)


def plain(text):
    "Letters and digits alone: styles of citing differ."
    return re.sub(r"[^a-z0-9]", "", text.lower())


def texts(name):
    "The Markdown cells of a notebook."
    return [cell.source for cell in nbformat.read(ROOT / "nbs" / f"{name}.ipynb", as_version=4).cells if cell.cell_type == "markdown"]


def cited():
    "(chapter, item) of all lists of references; an item that names code points to documentation, not to a work."
    for name in execute.notebooks(ROOT):
        for text in texts(name) if not name.startswith("reference/") else ():
            for section in re.findall(r"^##+ References[^\n]*\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
                yield from ((name, item) for item in ITEM.findall(section) if "`" not in item.partition(",")[0])


def works():
    "{title: (item of the bibliography, chapters that it says cite it)}; of a long title what precedes the colon."
    found = {}
    for item in (item for text in texts("reference/bibliography") for item in ITEM.findall(text)):
        title = re.search(r"(?<!\\)\*(.+?)(?<!\\)\*", item)[1]
        title = plain(title.partition(": ")[0] if title.find(": ") > 40 else title)
        found[title] = item, set(re.findall(r"\(\.\./([\w/]+)\.ipynb\)", item.partition("Cited in ")[2]))
    return found


def test_every_work_cited_is_in_the_bibliography():
    known, saying = works(), {}
    for name, item in cited():
        titles = [title for title in known if title in plain(item)]
        assert titles, f"nbs/reference/bibliography.ipynb lacks a work that {name} cites: {item}"
        saying.setdefault(max(titles, key=len), set()).add(name)
    for title, (item, names) in known.items():
        assert saying.get(title, set()) == names, f"nbs/reference/bibliography.ipynb: cited in {saying.get(title)}: {item}"


def test_the_bibliography_is_sorted_and_of_one_style():
    items = [item for item, _ in works().values()]
    assert len(items) > 80 and len({plain(item.partition("Cited in")[0]) for item in items}) == len(items)
    for item in items:
        work, _, chapters = item.partition(" Cited in ")
        assert re.fullmatch(r"[^*\[]+, (?:\[\*.+\*\]\(https://\S+\)|\*.+\*), [^*]+\.", work), work
        assert re.fullmatch(r"(?:\[[\w ]+\]\(\.\./[\w/]+\.ipynb\)(?:, |\.$))+", chapters), chapters


def test_the_symbols_are_those_of_the_library(monkeypatch):
    "The table's own hidden cells, run again: a change of its text alone would not run them."
    monkeypatch.chdir(ROOT / "nbs" / "reference")
    cells = nbformat.read("symbols.ipynb", as_version=4).cells
    names = {}
    for cell in cells:
        if cell.cell_type == "code" and "get_ipython" not in cell.source:
            exec(compile(cell.source, "symbols.ipynb", "exec"), names)
    headings = [cell.source.splitlines()[0].removeprefix("## ") for cell in cells if cell.source.startswith("## ")]
    assert headings == names["HEADINGS"]

# ---- the map of the book
def test_imports_run_one_way():
    assert list(book_map.upward()) == []


def test_every_module_is_on_the_map():
    placed = [module for modules, _, _ in book_map.LAYERS.values() for module in modules]
    assert sorted(placed) == sorted(book_map.chapters()) and len(set(placed)) == len(placed)


def test_the_map_is_drawn_from_the_chapters():
    svg = book_map.draw({"rnn": (2, "Nets & <loops>", "02_rnn.ipynb"), "optim": (None, "Optimisers", "practice/optim.ipynb")})
    assert svg.count("<a href=") == 2 and 'href="practice/optim.ipynb"' in svg and "Nets &amp; &lt;loops&gt;" in svg
    assert ElementTree.fromstring(svg).find("{http://www.w3.org/2000/svg}title").text.endswith("models: ; bridges: .")


def test_the_map_stands_in_the_front_page(tmp_path):
    (tmp_path / "map.svg").write_text('<svg>\n<a href="02_rnn.ipynb">2</a>\n</svg>\n')
    nb = notebook("# seqbook", new_markdown_cell("![in layers](map.svg)\n\nmore"))
    nbdev_cells.drawn(nb, tmp_path)
    text = nb.cells[1].source
    assert text == '<div class="book-map">\n<svg>\n<a href="02_rnn.html">2</a>\n</svg>\n</div>\n\nmore'

# ---- README
def test_readme():
    nb = notebook(
        "# Title\n> [a](02_rnn.ipynb#x), [b](https://x.org), [c](#y), [d](../LICENSE), ![e](images/e.png)\n```\n[f](g.ipynb)\n```",
        "#| hide\nsecret", "#| default_exp index",
        new_code_cell("#| export\nprint(1)", outputs=[new_output("stream", text="\x1b[31m1\x1b[0m\n"),
                                                      new_output("execute_result", data={"text/plain": "2"})]),
        new_code_cell("#| fig-alt: A curve\nplot()", outputs=[PICTURE]),
        new_code_cell("#| hide_input\n3", outputs=[new_output("execute_result", data={"text/plain": "```3"})]))
    assert readme.readme(nb) == """# Title
> [a](nbs/02_rnn.ipynb#x), [b](https://x.org), [c](#y), [d](LICENSE), ![e](nbs/images/e.png)
```
[f](g.ipynb)
```

```python
print(1)
```

```text
1
2
```

```python
plot()
```

````text
```3
````
"""


def test_readme_check(tmp_path, monkeypatch, capsys):
    (tmp_path / "nbs").mkdir()
    nbformat.write(notebook("# Title"), tmp_path / "nbs" / "index.ipynb")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main(["--check"]) == 1 and "README.md is not what" in capsys.readouterr().err
    assert readme.main([]) == 0 and readme.main(["--check"]) == 0
    (tmp_path / "README.md").write_text("older")
    assert readme.main(["--check"]) == 1


# ---- the runner
@pytest.fixture
def book(tmp_path):
    "A repository of three small notebooks."
    for folder in ("nbs/practice", "seqbook", "nbs/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "seqbook" / "__init__.py").write_text("answer = 42\n")
    save(tmp_path, "index", notebook("# Front", "1 + 1"))
    save(tmp_path, "practice/optim", notebook("# Optim", "1"))
    save(tmp_path, ".ipynb_checkpoints/old", notebook("1 / 0"))
    save(tmp_path, "_draft", notebook("1 / 0"))
    save(tmp_path, "02_rnn", notebook(
        "# Unit", "import os, sys, seqbook\nprint(os.path.basename(os.getcwd()), sys.executable, seqbook.answer)",
        "#| eval: false\n1 / 0", new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})))
    return tmp_path


def save(root, name, nb):
    "Write a notebook of the book."
    nbformat.write(nb, root / "nbs" / f"{name}.ipynb")


def load(root, name):
    "Read an executed copy."
    return nbformat.read(root / "docs" / "_build" / "notebooks" / f"{name}.ipynb", as_version=4)


def test_order_and_names(book):
    books = execute.notebooks(book)
    assert list(books) == ["02_rnn", "practice/optim", "index"]
    for name in ("optim", "practice/optim", "nbs/practice/optim.ipynb"):
        assert list(execute.choose(books, [name])) == ["practice/optim"]
    with pytest.raises(execute.NotebookFailed, match=r"names: expected one of 02_rnn, practice/optim, index; got 'gru'"):
        execute.choose(books, ["gru"])


def test_run_then_up_to_date(book, capsys):
    assert all(seconds > 0 for seconds in execute.execute(book).values())
    cells = load(book, "02_rnn").cells
    assert cells[1].outputs[0].text == f"nbs {sys.executable} 42\n"
    assert cells[2].outputs == []
    assert cells[3].outputs[0].ename == "ZeroDivisionError"
    assert load(book, "index").cells[1].outputs[0].data["text/plain"] == "2"
    assert "execution" not in cells[1].metadata and "3 notebooks: 3 run" in capsys.readouterr().out

    nb = nbformat.read(book / "nbs" / "02_rnn.ipynb", as_version=4)
    nb.cells[0].source = "# Unit, better said"
    save(book, "02_rnn", nb)
    (book / "nbs" / "practice" / "optim.ipynb").unlink()
    assert execute.execute(book) == {"02_rnn": None, "index": None}
    cells = load(book, "02_rnn").cells
    assert cells[0].source == "# Unit, better said" and cells[1].outputs[0].text.endswith("42\n")
    folder = book / "docs" / "_build" / "notebooks"
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert files == ["02_rnn.ipynb", "02_rnn.stamp", "index.ipynb", "index.stamp"]


def test_what_outputs_depend_on(book):
    nb = notebook("# Title", "x = 1")
    first = execute.fingerprint(book, nb)
    nb.cells[0].source = "# Another"
    assert execute.fingerprint(book, nb) == first
    nb.cells[1].source = "x = 2"
    second = execute.fingerprint(book, nb)
    (book / "seqbook" / "__init__.py").write_text("answer = 43\n")
    third = execute.fingerprint(book, nb)
    (book / "nbs" / "book.mplstyle").write_text("font.size: 10\n")
    assert len({first, second, third, execute.fingerprint(book, nb)}) == 4


def test_outputs_depend_on_the_data_that_are_there(book, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBOOK_CACHE", str(tmp_path / "cache"))
    nb, archive = notebook("# Title", "x = 1"), next(iter(execute.CATALOGUE.values()))
    without = execute.fingerprint(book, nb)
    (tmp_path / "cache" / "models").mkdir(parents=True)
    assert execute.fingerprint(book, nb) == without
    placed = tmp_path / "cache" / archive.filename
    placed.touch()
    there = execute.fingerprint(book, nb)
    (tmp_path / "cache" / archive.folder).mkdir()
    assert execute.fingerprint(book, nb) == there != without
    shutil.move(tmp_path / "cache", tmp_path / "elsewhere")
    monkeypatch.setenv("SEQBOOK_CACHE", str(tmp_path / "elsewhere"))
    assert execute.fingerprint(book, nb) == there


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n{}\n=======\n", "", "[]", "{}", "1", '{"nbformat": 4}'])
def test_a_file_that_is_no_notebook_is_named(book, capsys, monkeypatch, text):
    (book / "nbs" / "02_rnn.ipynb").write_text(text)
    monkeypatch.setattr(execute, "ROOT", book)
    assert execute.main(["02_rnn"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: nbs/02_rnn.ipynb: expected a notebook: ") and "\n" not in said


INTERRUPTED = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import execute
from pathlib import Path
execute.ROOT = Path(sys.argv[2])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
sys.exit(execute.main(["--jobs", "2"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_an_interrupt_ends_the_kernels_and_says_one_line(book):
    for name in ("02_rnn", "practice/optim"):
        save(book, name, notebook("# Long", "import os, pathlib, time\n"
                                  f"pathlib.Path({str(book)!r}, f'{{os.getpid()}}.pid').touch()\ntime.sleep(300)"))
    command = [sys.executable, "-c", INTERRUPTED, str(Path(execute.__file__).parent), str(book)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait(lambda: len(list(book.glob("*.pid"))) == 2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and out == "" and err == "interrupted: the notebooks that ran to their end are kept\n"
    for path in book.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.stem), 0)


def wait(done, seconds=60):
    "Wait until something is so."
    end = monotonic() + seconds
    while not done():
        assert monotonic() < end
        sleep(0.1)


def test_an_error_stops_the_run(book, capsys, monkeypatch):
    save(book, "02_rnn", notebook("# Unit", "x = 1", "#| export\nx.shape", "print('never')"))
    monkeypatch.setattr(execute, "ROOT", book)
    assert execute.main(["--jobs", "1"]) == 1
    assert capsys.readouterr().err.strip().endswith(
        "error: nbs/02_rnn.ipynb, cell 3 of 4 (`x.shape`): AttributeError: 'int' object has no attribute 'shape'")
    assert not (book / "docs" / "_build" / "notebooks" / "02_rnn.stamp").exists()
    assert not (book / "docs" / "_build" / "notebooks" / "index.ipynb").exists()


def test_write_back_needs_the_tags(book, monkeypatch):
    path, copy = book / "nbs" / "02_rnn.ipynb", book / "02_rnn.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].outputs = [new_output("stream", text="done\n")]
    nbformat.write(nb, copy)
    monkeypatch.setattr(execute.subprocess, "run", lambda *args, **options: None)
    execute.write_back(book, path, copy)
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "done\n"
    del nb.cells[3].metadata["tags"]
    nbformat.write(nb, copy)
    with pytest.raises(execute.NotebookFailed, match="allowed_cell_metadata_keys = tags"):
        execute.write_back(book, path, copy)
    assert list(book.glob(".*")) == []


# ---- make
def make(folder, *arguments):
    "Run make in a folder that has nothing but the Makefile."
    shutil.copy(Path(execute.__file__).parents[1] / "Makefile", folder)
    (folder / "nbs").mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PYTHON"}
    return subprocess.run(["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


needs_make = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="there is no make here")


@needs_make
@pytest.mark.parametrize("python, says", [
    ("no-such-python", "There is no 'no-such-python' here."), ("", "There is no '' here."),
    ("false", "seqbook needs Python 3.11, 3.12 or 3.13, and 'false' is ."),
])
def test_make_says_which_python_it_needs(tmp_path, python, says):
    for name in ("settings.ini", "setup.py"):
        (tmp_path / name).touch()
    run = make(tmp_path, f"PYTHON={python}", "install")
    assert run.returncode == 2 and run.stdout.startswith(says) and run.stdout.endswith("make PYTHON=python3.12 install\n")
    assert run.stdout.count("\n") == 1 and run.stderr.startswith("make: ***") and run.stderr.count("\n") == 1


@needs_make
def test_make_serve_says_that_a_port_cannot_be_had(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "docs" / "_build" / "html").mkdir(parents=True)
    (tmp_path / "docs" / "_build" / "html" / "index.html").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (str(taken.getsockname()[1]), "abc", "0", "70000"):
            run = make(tmp_path, "serve", f"PORT={port}")
            assert run.returncode == 2 and run.stdout.startswith(f"Port '{port}' cannot be had") and "PORT=8080" in run.stdout
            assert "Traceback" not in run.stderr

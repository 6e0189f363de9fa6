"""Draw nbs/map.svg, the picture of the book on its front page: every chapter in the layer that its imports put it in.

    python docs/book_map.py            write nbs/map.svg
    python docs/book_map.py --check    fail if nbs/map.svg is not what would be written
"""
import argparse
import ast
import re
import sys
import textwrap
from html import escape
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))
from directives import default_module  # noqa: E402
from execute import ROOT, read, write  # noqa: E402

MAP = ROOT / "nbs" / "map.svg"
LAYERS = {  # from the bottom of the imports up; colours of a tile and of its edge
    "arrays": (("backend", "notation"), "#e8eef4", "#46627b"),
    "units": (("rnn", "bptt", "vanishing", "gru", "lstm", "brnn", "deep_rnn"), "#dff0f7", "#0b6e99"),
    "practice": (("data", "datasets", "optim", "training"), "#fdebdd", "#b4551d"),
    "models": (("rnn_types", "language_model", "sampling", "ctc"), "#e6f2e3", "#3d7a34"),
    "bridges": (("course", "interop", "interactive"), "#efe8f5", "#6d4a8f"),
    "speed": (("kernels_cpu", "kernels_gpu"), "#fbe4e4", "#a33b3b"),
    "applications": (tuple(f"applications.{name}" for name in (
        "sentiment", "named_entities", "dna", "music", "speech", "pronunciation", "translation", "activity", "names")),
        "#f7ecd8", "#8a6414"),
}
SAYS = {"arrays": "what is computed with", "units": "what is computed", "practice": "what it takes to learn",
        "models": "what people use", "bridges": "to and from elsewhere",
        "speed": "the same, in machine code", "applications": "each on real data"}
WIDTH, TILE, HIGH, GAP, LEFT, ABREAST, LINE = 588, 112, 48, 6, 114, 4, 16  # LINE in letters; narrow, to stand beside code


def main(argv=None):
    "Command line; the exit status is 1 when --check finds the picture stale."
    parser = argparse.ArgumentParser(description="Draw nbs/map.svg.")
    parser.add_argument("--check", action="store_true", help="compare only; fail if nbs/map.svg is stale")
    picture = draw(chapters())
    if parser.parse_args(argv).check:
        if not MAP.exists() or read(MAP) != picture:
            print("error: nbs/map.svg is not what the chapters say; run `python docs/book_map.py`", file=sys.stderr)
            return 1
        return 0
    write(MAP, picture)
    return 0


def chapters():
    "module -> (number or None, title, link from the front page) of every notebook that has a module of its own."
    found = {}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        module = default_module(cell.source for cell in nb.cells if cell.cell_type == "code")
        if module and module != "__init__":
            number = re.match(r"(\d+)_", path.name)
            title = nb.cells[0].source.splitlines()[0].removeprefix("# ").partition(":")[0]
            found[module] = number and int(number[1]), title, path.relative_to(ROOT / "nbs").as_posix()
    return found


def upward():
    "Imports that go against the layers, as sentences; there should be none."
    layer = {module: i for i, (modules, _, _) in enumerate(LAYERS.values()) for module in modules}
    for module in layer:
        tree, level = ast.parse(read(ROOT / "seqbook" / f"{module.replace('.', '/')}.py") or ""), module.count(".") + 1
        used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == level}
        yield from (f"{module} imports {other}" for other in sorted(used & layer.keys()) if layer[other] > layer[module])


def draw(
    book,  # what `chapters` found
):         # -> SVG text
    "Layer on layer, the chapters of each in the order of their numbers, every tile a link."
    body, y = [], 10
    for name, (modules, tint, edge) in LAYERS.items():
        here = sorted((book[module] for module in modules if module in book), key=lambda c: (c[0] is None, c[0]))
        if not here:
            continue
        if body:
            body.append(f'<path d="M{LEFT + TILE / 2:g} {y - 18}v12m-4 -5 4 5 4 -5" fill="none" stroke="#6b7680" stroke-width="1.5"/>')
        body.append(f'<text x="10" y="{y + 17}" font-size="13" font-weight="600" fill="{edge}">{name}</text>')
        body += [f'<text x="10" y="{y + 32 + 12 * i}" font-size="10.5" fill="#4a5560">{line}</text>'
                 for i, line in enumerate(textwrap.wrap(SAYS[name], 18))]
        for i, chapter in enumerate(here):
            body.append(tile(LEFT + i % ABREAST * (TILE + GAP), y + i // ABREAST * (HIGH + GAP), *chapter, tint, edge))
        y += -(-len(here) // ABREAST) * (HIGH + GAP) + 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 10}" role="group" '
            f'font-family="system-ui, -apple-system, Segoe UI, sans-serif">\n<title>{escape(described(book))}</title>\n'
            f'<rect width="{WIDTH}" height="{y - 10}" rx="10" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")


def described(book):
    "The picture in words."
    parts = (f"{name}: {', '.join(book[m][1] for m in modules if m in book)}" for name, (modules, _, _) in LAYERS.items()
             if book.keys() & set(modules))
    return f"The chapters in layers, each using those above it. {'; '.join(parts)}."


def tile(x, y, number, title, link, tint, edge):
    "One chapter: its number, its title in at most three lines, a link."
    lines = textwrap.wrap(title if number is None else f"{number}\xa0{title}", LINE, break_long_words=False)
    first = y + HIGH / 2 + 4 - 6.5 * (len(lines) - 1)
    text = "".join(f'<tspan x="{x + 6}" y="{first + 13 * i:g}">{escape(line)}</tspan>' for i, line in enumerate(lines))
    if number is not None:
        text = text.replace(f">{number}\xa0", f'><tspan font-weight="700" fill="{edge}">{number}</tspan> ', 1)
    return (f'<a href="{link}"><rect x="{x}" y="{y}" width="{TILE}" height="{HIGH}" rx="6" fill="{tint}" stroke="{edge}"/>'
            f'<text font-size="11" fill="#1b2530">{text}</text></a>')


if __name__ == "__main__":
    sys.exit(main())

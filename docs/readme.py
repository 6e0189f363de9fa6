"""Make README.md out of the book's front page, nbs/index.ipynb, with the outputs it was committed with.

    python docs/readme.py            write README.md
    python docs/readme.py --check    fail if README.md is not what would be written
"""
import argparse
import re
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))
from directives import hidden, says_no, says_yes, split, without_settings  # noqa: E402
from execute import ROOT, read, write  # noqa: E402

LINK = re.compile(r"(!?\[[^\]\n]*\]\()(?!\w+:|#|/)([^)\s]+)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def main(argv=None):
    "Command line; the exit status is 1 when --check finds README.md stale."
    parser = argparse.ArgumentParser(description="Make README.md out of nbs/index.ipynb.")
    parser.add_argument("--check", action="store_true", help="compare only; fail if README.md is stale")
    check = parser.parse_args(argv).check
    text = readme(nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4))
    if check:
        if read(ROOT / "README.md") != text:
            print("error: README.md is not what nbs/index.ipynb says; run `python docs/readme.py`", file=sys.stderr)
            return 1
        return 0
    write(ROOT / "README.md", text)
    return 0


def readme(
    nb,  # the front page's notebook
):       # -> text of README.md
    "Markdown cells as they are, code as fenced Python followed by its text outputs."
    parts = []
    for cell in nb.cells:
        parts += markdown(cell) if cell.cell_type == "markdown" else code(cell) if cell.cell_type == "code" else []
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(
    cell,  # a markdown cell
):         # -> list with its text, links made relative to the repository's root
    "Outside fenced code, a link to a chapter gains the folder the chapter lies in."
    pieces = re.split(r"(?ms)(^```.*?^```)", cell.source.strip())
    return ["".join(piece if piece.startswith("```") else LINK.sub(from_root, piece) for piece in pieces)]


def from_root(
    match,  # a match of LINK
):          # -> the link's text, as seen from the repository's root
    "nbs/ is one folder down: `02_rnn.ipynb` becomes `nbs/02_rnn.ipynb`, `../LICENSE` becomes `LICENSE`."
    head, target = match[1], match[2]
    return head + (target[3:] if target.startswith("../") else "nbs/" + target)


def code(
    cell,  # a code cell
):         # -> list of fenced blocks: the code, then what it printed
    "Hidden cells give nothing; pictures are left out."
    found, source = split(cell.source)
    if hidden(found, source):
        return []
    shown = not (says_no(found, "echo") or says_yes(found, "hide_input"))
    parts = [fence(without_settings(source), "python")] if shown else []
    if not (says_yes(found, "hide_output") or says_no(found, "output")):
        parts += [fence(text, "text") for text in outputs(cell)]
    return parts


def outputs(
    cell,  # a code cell
):         # -> list of texts
    "What a cell printed, returned or raised, without colours; a picture has no text."
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if output.output_type == "stream":
            text = output.text
        elif output.output_type == "error":
            text = f"{output.ename}: {output.evalue}"
        else:
            text = "" if any(kind.startswith("image/") for kind in data) else data.get("text/plain", "")
        text = ANSI.sub("", text).rstrip()
        texts += [text] if text else []
    return ["\n".join(texts)] if texts else []


def fence(
    text,      # what stands inside
    language,  # name after the opening fence
):             # -> a fenced block, longer than any fence inside it
    "A fenced block of Markdown."
    ticks = max([2, *(len(run) for run in re.findall("`{3,}", text))]) + 1
    return f"{'`' * ticks}{language}\n{text}\n{'`' * ticks}"


if __name__ == "__main__":
    sys.exit(main())

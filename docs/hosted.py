"""Chapters that run on Colab: a hidden cell at the top of each notebook that has code fetches what lies around it there.

    python docs/hosted.py            write the cell where it is missing or stale
    python docs/hosted.py --check    fail if a notebook's cell is not what would be written

Colab opens one file of the repository, without the package and without the style of the figures. Anywhere else the cell does
nothing. Binder needs no cell: it brings the whole repository, installed as `.binder` says.
"""
import argparse
import json
import sys
from configparser import ConfigParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from directives import split  # noqa: E402
from execute import ROOT, notebooks, read, write  # noqa: E402

MARK = 'if "google.colab" in str(get_ipython()):'
CELL = """#| hide
{mark}  # this file alone was opened: fetch the project around it
    get_ipython().system("test -d /content/{repo} || git clone -q --depth 1 -b {branch} {url} /content/{repo}")
    get_ipython().system("pip install -q '/content/{repo}{extra}'")
    get_ipython().run_line_magic("cd", "-q /content/{repo}/{nbs_path}{folder}")"""
EXTRAS = {"applications": "[applications]"}  # folders that need more than the package


def main(argv=None):
    "Command line; the exit status is 1 when --check finds a notebook whose cell is missing or stale."
    parser = argparse.ArgumentParser(description="Give the notebooks the cell that makes them run on Colab.")
    parser.add_argument("--check", action="store_true", help="compare only; fail if a notebook's cell is missing or stale")
    check, stale = parser.parse_args(argv).check, []
    for name, path in notebooks(ROOT).items():
        text = hosted(read(path), name, settings(ROOT))
        if text != read(path):
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                write(path, text)
    if check and stale:
        print(f"error: {', '.join(stale)}: no cell for Colab, or a stale one; run `python docs/hosted.py`", file=sys.stderr)
        return 1
    return 0


def settings(
    root,  # Path of the repository
):         # -> what settings.ini says, and the repository's address
    "Where the project is at home."
    said = ConfigParser(delimiters=["="])
    said.read(root / "settings.ini", encoding="utf-8")
    said = said["DEFAULT"]
    return {**said, "url": f"https://github.com/{said['user']}/{said['repo']}"}


def hosted(
    text,  # a notebook's JSON
    name,  # which one, "practice/optim"
    said,  # what `settings` found
):         # -> the JSON with the cell
    "Before the first code that runs; a notebook without code needs none."
    nb, folder = json.loads(text), name.rpartition("/")[0]
    cells = [cell for cell in nb["cells"] if MARK not in "".join(cell["source"])]
    codes = [i for i, cell in enumerate(cells)
             if cell["cell_type"] == "code" and "default_exp" not in split("".join(cell["source"]))[0]]
    if codes:
        source = CELL.format(mark=MARK, extra=EXTRAS.get(folder, ""), folder=folder and f"/{folder}", **said)
        cells.insert(codes[0], {"cell_type": "code", "execution_count": None, "id": "c01ab000", "metadata": {}, "outputs": [],
                                "source": source.splitlines(keepends=True)})
    if cells == nb["cells"]:
        return text
    return json.dumps({**nb, "cells": cells}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""What nbdev's directives say: the `#| name: value` comment lines at the top of a notebook's code cell."""
import re
from ast import AnnAssign, Assign, AsyncFunctionDef, ClassDef, FunctionDef, Name, Tuple, parse

DIRECTIVE = re.compile(r"\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
CELL_MAGIC = re.compile(r"\s*%%\w")
SETTING_MAGIC = re.compile(r"\s*%(xmode|config|matplotlib|load_ext|autoreload)\b")
EXPORTS = ("export", "exports", "exporti")
NO = ("false", "no", "0")


def split(
    source,  # text of a code cell
):           # -> {directive: value}, the text without the directives
    "Take the directives off the top of a cell, as nbdev does: up to the first line of code."
    found, rest, lines = {}, [], source.splitlines(keepends=True)
    for i, line in enumerate(lines):
        match = DIRECTIVE.match(line)
        if match:
            found[match[1]] = unquote(match[2])
        elif line.strip() and not CELL_MAGIC.match(line):
            rest += lines[i:]
            break
        else:
            rest.append(line)
    return found, "".join(rest).strip("\n")


def unquote(
    value,  # text of a directive's value, perhaps quoted as in YAML
):          # -> the text inside the quotes
    "Strip one pair of quotes."
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def says_no(
    found,  # {directive: value} of a cell
    name,   # a directive such as "eval"
):          # -> bool
    "Whether the cell says `#| name: false`."
    return found.get(name, "").lower() in NO


def says_yes(
    found,  # {directive: value} of a cell
    name,   # a directive such as "hide"
):          # -> bool
    "Whether the cell says `#| name` or `#| name: true`."
    return name in found and not says_no(found, name)


def hidden(
    found,  # {directive: value} of a cell
    code,   # the cell's text without them
):          # -> bool
    "Whether a reader of the site or of the README is spared the cell altogether."
    return (says_yes(found, "hide") or "default_exp" in found or says_no(found, "include")
            or not without_settings(code))


def without_settings(
    code,  # text of a code cell
):         # -> the text without `%xmode`, `%config` and their like
    "Drop the lines that only set the notebook up."
    return "\n".join(line for line in code.splitlines() if not SETTING_MAGIC.match(line)).strip("\n")


def module_of(
    found,    # {directive: value} of a cell
    default,  # the notebook's own module (its default_exp), or None
):            # -> the module's name below the package ("rnn"), or None
    "The module that a cell is exported to."
    for name in EXPORTS:
        if name in found:
            return found[name] or default
    return None


def default_module(
    sources,  # iterable of texts of code cells
):            # -> the notebook's default_exp, or None
    "The module a notebook names in its `#| default_exp` cell."
    return next((found["default_exp"] for found, _ in map(split, sources) if "default_exp" in found), None)


def names(
    code,  # text of a code cell
):         # -> list of the names it defines at its top level
    "Functions, classes and variables that an exported cell adds to its module."
    try:
        body = parse(code).body
    except SyntaxError:
        return []
    out = []
    for node in body:
        if isinstance(node, (FunctionDef, AsyncFunctionDef, ClassDef)):
            out.append(node.name)
        elif isinstance(node, (Assign, AnnAssign)):
            targets = node.targets if isinstance(node, Assign) else [node.target]
            targets = [each for target in targets for each in (target.elts if isinstance(target, Tuple) else [target])]
            out += [target.id for target in targets if isinstance(target, Name)]
    return out

"""Sphinx extension: the reference, one page a module, out of signatures and of the comments beside the parameters.

Parameters are documented where they stand, one a line (nbdev calls this docments):

    def rnn_step(
        p: RNNParams,      # weights
        x,                 # (B, n_x) the input x^<t>
        activation="tanh", # "tanh" or "relu"
    ):                     # -> state at t, cache for the backward step

A parameter without a comment means what it does elsewhere: in the class that a method comes from, then in the module,
since no name changes its meaning there, then in the book (`LETTERS`). What a function raises is read off its `raise`
statements. Sphinx's autodoc does the rest; each entry links back to the cell of the chapter that it comes from.
"""
import ast
import importlib
import inspect
import json
import re
import textwrap
import tokenize
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

from directives import default_module, module_of, names, split
from nbdev_cells import CHAPTER, PACKAGE, PARTS, qualified, rank

CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
BULLET = re.compile(r"\s*([-*]|\d+\.)\s+")
MARKUP = re.compile(r"([\\*_|`])")
LETTERS = {  # the book's own, where neither an entry nor its class nor its module says what they stand for
    "X": "(T, B, n_x) the sequences", "Y": "(T, B, n_a) outputs of a unit", "dY": "(T, B, n_a) derivative of the loss at the outputs",
    "state": "the state before the first step; None for zeros", "lengths": "(B,) T_x of each example; None if all have T steps",
    "masks": "noise that was drawn beforehand; None for none", "batch": "arrays of one batch, as the model's own `fit` makes them",
    "rng": "a numpy.random.Generator; None for no noise", "seed": "a whole number, or a generator that others share",
    "xp": "NumPy or CuPy", "where": '"numpy" or "cupy"', "B": "examples of the batch", "T": "time steps",
}


def docments(
    source,  # text of one function or class
):           # -> {parameter or field: comment}; "return" is what comes back
    "Comments beside parameters (of a function) or fields (of a class), also those that go on over lines of their own."
    source = textwrap.dedent(source)
    node = ast.parse(source).body[0]
    if isinstance(node, ast.ClassDef):
        slots = {field.end_lineno: field.target.id for field in node.body if isinstance(field, ast.AnnAssign)}
        first, last = node.lineno, max(slots, default=0)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        slots = parameters(node.args)
        first, last = node.lineno, end_of_header(source, node)
    else:
        return {}
    found, current = {}, None
    for token in tokenize.generate_tokens(StringIO(source).readline):
        line = token.start[0]
        if token.type != tokenize.COMMENT or not first <= line <= last:
            continue
        text, alone = token.string.lstrip("# ").strip(), not token.line[:token.start[1]].strip()
        if text.startswith("->") or (line == last and line not in slots and isinstance(node, ast.FunctionDef)):
            current, text = "return", text.removeprefix("->").strip()
        elif not alone:
            current = slots.get(line)
        if current:
            found[current] = f"{found.get(current, '')} {text}".strip()
    return found


def parameters(
    args,  # ast.arguments
):         # -> {line it ends on: name}; lines that hold several are left out, nobody can tell whose comment it is
    "The lines on which parameters stand."
    everything = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]
    positional = [*args.posonlyargs, *args.args]
    defaults = dict(zip(positional[len(positional) - len(args.defaults):], args.defaults, strict=True))
    defaults |= {arg: value for arg, value in zip(args.kwonlyargs, args.kw_defaults, strict=True) if value}
    lines = [(defaults.get(arg, arg).end_lineno, arg.arg) for arg in everything if arg.arg not in ("self", "cls")]
    count = [line for line, _ in lines]
    return {line: name for line, name in lines if count.count(line) == 1}


def end_of_header(
    source,  # text of a function
    node,    # its ast
):           # -> number of the line with the colon that ends `def ...:`
    "Where the parameters end and the body begins."
    depth = 0
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.OP and token.start[0] >= node.lineno:
            depth += (token.string in "([{") - (token.string in ")]}")
            if token.string == ":" and depth == 0:
                return token.start[0]
    return node.lineno


def rst(
    text,  # a docstring: paragraphs, bullets, indented code, `code`, [links](https://...)
):         # -> list of lines of reStructuredText
    "What the chapters' docstrings use of Markdown, and nothing else: a^<t>, *args and y_ stay as they are written."
    out = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        lines = block.splitlines()
        if not block.strip():
            continue
        if all(line.startswith("    ") or ">>>" in lines[0] for line in lines):
            out += ["::", "", *("    " + line for line in textwrap.dedent(block).splitlines()), ""]
            continue
        for line in lines:
            bullet = BULLET.match(line)
            if bullet and out and out[-1] and not BULLET.match(out[-1]) and not out[-1].startswith("  "):
                out.append("")
            head = bullet[0].lstrip() if bullet else ""
            goes_on = "" if bullet or not out or not (BULLET.match(out[-1]) or out[-1].startswith("  ")) else "  "
            out.append(goes_on + head + inline(line[len(bullet[0]) if bullet else 0:].strip()))
        out.append("")
    return out


def inline(
    text,  # a line of it
):         # -> the line in reStructuredText
    "Code and links translated, all else escaped."
    parts = []
    for piece in CODE.split(text):
        if CODE.fullmatch(piece):
            parts.append(f"``{piece.strip('`')}``")
            continue
        start = 0
        for link in LINK.finditer(piece):
            parts += [MARKUP.sub(r"\\\1", piece[start:link.start()]), f"`{link[1]} <{link[2]}>`__"]
            start = link.end()
        parts.append(MARKUP.sub(r"\\\1", piece[start:]))
    out = parts[0]
    for part in parts[1:]:  # inline markup needs air around it
        glued = part and out and (("``" in (out[-2:], part[:2])) or "`__" in (out[-3:],) or part[:1] == "`")
        out += (r"\ " if glued and not (out[-1].isspace() or part[0].isspace()) else "") + part
    return out.removeprefix(r"\ ")


def fields(
    obj,       # a function or class
    name=None, # its full name, "seqbook.rnn.RNN.step"; its module and class know names that it does not explain itself
):             # -> list of lines: a field list of its parameters, of what it returns and of what it raises
    "The parameters that the signature names, in its order, with their types and comments."
    comments = docments(source_of(maker(obj)))
    known = {**explained(name or ""), **comments}
    try:
        listed = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):
        return []
    items = []
    for parameter in listed:
        kind, comment = annotation(parameter.annotation), inline(known.get(parameter.name, ""))
        if kind or comment:
            stars = {parameter.VAR_POSITIONAL: r"\*", parameter.VAR_KEYWORD: r"\*\*"}.get(parameter.kind, "")
            title = stars + parameter.name.replace("_", r"\_")
            items.append(f"   - **{title}**{f' ({kind})' if kind else ''}{f' – {comment}' if comment else ''}")
    out = [":Parameters:", *items] if items else []
    if comments.get("return") and comments["return"] != "None":
        out.append(f":Returns: {inline(comments['return'])}")
    errors = [f"   - **{kind}** – {inline(said)}" for kind, said in raised(source_of(maker(obj)))]
    errors += [f"   - what :py:obj:`~{check}` refuses" for check in checked(obj)]
    out += [":Raises:", *errors] if errors else []
    return [*out, ""] if out else []


def explained(
    name,  # a full name, "seqbook.rnn.RNN.step"
):         # -> {parameter: comment}
    "What a name in an entry's signature means where the entry does not say so."
    module, inside = parted(name)
    if not module or not inside:
        return {}
    module = importlib.import_module(module)
    found = LETTERS | meanings(module)
    owner, _, method = inside.rpartition(".")
    for base in reversed(getattr(module, owner).__mro__) if owner else ():
        if base.__module__.startswith(PACKAGE):
            found |= docments(source_of(maker(base)))
            found |= docments(source_of(vars(base).get(method)))
    return found


@cache
def parted(
    name,  # a full name, "seqbook.applications.sentiment.Model.fit"
):         # -> ("seqbook.applications.sentiment", "Model.fit"); ("", the name) of what is not the library's
    "A module's name, which may have dots, and what stands in the module."
    if name.split(".")[0] != PACKAGE:
        return "", name
    module, rest = PACKAGE, name.split(".")[1:]
    while rest and hasattr(importlib.import_module(module), "__path__") and find_spec(f"{module}.{rest[0]}"):
        module = f"{module}.{rest.pop(0)}"
    return module, ".".join(rest)


@cache
def meanings(
    module,  # a module of the package
):           # -> {parameter: comment} where all the module's functions that explain it agree, or else the first one's words
    "What names mean in a module, by its functions and classes in their order."
    found = {}
    for obj in vars(module).values():
        if getattr(obj, "__module__", None) == module.__name__ and (inspect.isfunction(obj) or inspect.isclass(obj)):
            for name, comment in docments(source_of(maker(obj))).items():
                found.setdefault(name, comment)
    return found


def raised(
    source,  # text of a function
):           # -> list of (exception, message), in order
    "The errors a function raises itself, with their sentences; three dots stand for what depends on the arguments."
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            said = " ".join(words(argument) for argument in node.exc.args)
            if any(map(str.isalpha, said)):
                found[node.exc.func.id, " ".join(said.split())] = None
    return list(found)


def checked(
    obj,  # a function or class
):        # -> list of full names
    "The checks that a function leaves its arguments to: functions of the package called check_..., in order."
    module = vars(importlib.import_module(obj.__module__))
    calls = [node.func.id for node in ast.walk(ast.parse(textwrap.dedent(source_of(maker(obj)))))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("check_")]
    found = {name: module[name] for name in calls if inspect.isfunction(module.get(name))}
    return [f"{check.__module__}.{name}" for name, check in found.items() if check.__module__.startswith(f"{PACKAGE}.")]


def words(
    node,  # an expression
):         # -> its text as far as it is written out
    "A message with three dots for what is put in."
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return re.sub(r"(?:…[, ]*)+…", "…", "".join(words(part) for part in node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words(node.left) + words(node.right)
    return "…"


def maker(
    obj,  # a function or class
):        # -> the function, or the class itself, whose source names the parameters
    "What is called: a class is made by its __init__, a record by its fields."
    return obj.__init__ if inspect.isclass(obj) and not is_record(obj) else obj


def defaults(
    obj,  # a function or class
):        # -> {parameter: its default as it is written}
    "`np.float32` rather than what Python says of it."
    tree = ast.parse(textwrap.dedent(source_of(maker(obj)))).body[0]
    if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)):
        args, positional = tree.args, [*tree.args.posonlyargs, *tree.args.args]
        pairs = [*zip(positional[len(positional) - len(args.defaults):], args.defaults, strict=True),
                 *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
        return {arg.arg: Written(ast.unparse(value)) for arg, value in pairs if value}
    return {}


class Written(str):
    "Text that shows without quotes."
    __repr__ = str.__str__


def is_record(obj):
    "A NamedTuple or a dataclass: its parameters are its fields."
    return hasattr(obj, "_fields") or hasattr(obj, "__dataclass_fields__")


def source_of(obj):
    "Source text; of nothing for what has none (a builtin, a name made at run time)."
    try:
        return inspect.getsource(inspect.unwrap(obj))
    except (OSError, TypeError):
        return "0"


def annotation(
    kind,  # a parameter's annotation
):         # -> text of reStructuredText, "" if there is none
    "A class of this package or of NumPy becomes a link, anything else its name."
    if kind is inspect.Parameter.empty:
        return ""
    if inspect.isclass(kind) and kind.__module__.split(".")[0] in (PACKAGE, "numpy"):
        return f":py:obj:`~{kind.__module__}.{kind.__qualname__}`"
    return f"``{kind.__name__ if inspect.isclass(kind) else str(kind).replace('typing.', '')}``"


def chapters(
    folder,  # Path with the notebooks
):           # -> {module: {title, pages: {page: title}}}, {qualified name: page}
    "Which chapters write which modules, and where each name comes from."
    modules, origin = {}, {}
    found = {path.relative_to(folder).as_posix().removesuffix(".ipynb"): path for path in folder.rglob("*.ipynb")}
    for page, path in sorted(found.items(), key=lambda item: (rank(item[0]), item[0])):
        if any(part[0] in "._" for part in page.split("/")):
            continue
        nb = json.loads(path.read_text(encoding="utf-8"))
        sources = [(cell["cell_type"], "".join(cell["source"])) for cell in nb["cells"]]
        title = next((text.splitlines()[0].lstrip("# ") for kind, text in sources if text.startswith("# ")), page)
        codes = [split(text) for kind, text in sources if kind == "code"]
        default = default_module(text for kind, text in sources if kind == "code")
        for found, code in codes:
            module = module_of(found, default)
            if module:
                modules.setdefault(qualified(module), {})[page] = title
                origin.update({f"{qualified(module)}.{name}": page for name in names(code)})
    return modules, origin


def on_inited(app):
    "Sphinx's builder-inited event: write the reference's pages, those that changed only, and drop those that went."
    folder = Path(app.srcdir) / "api"
    app.reference = SimpleNamespace()
    app.reference.modules, app.reference.origin = chapters(Path(app.srcdir))
    wanted = {}
    for module, pages in app.reference.modules.items():
        text = package_page(app.reference.modules) if module == PACKAGE else module_page(module, pages)
        wanted[folder / f"{module.removeprefix(PACKAGE + '.')}.rst"] = text
    for path in folder.glob("*.rst"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def module_page(
    module,  # full name
    pages,   # {page: title} of the chapters that write it
):           # -> text of the page
    "A heading, where it is explained, and everything the module offers."
    said = ", ".join(f":doc:`{title} </{page}>`" for page, title in titles(pages).items())
    text = (f"{module}\n{'=' * len(module)}\n\n.. rst-class:: written-in\n\nExplained in {said}.\n\n"
            f".. automodule:: {module}\n   :members:\n   :special-members: __call__\n   :member-order: bysource\n")
    data = constants(module)
    return text + (f"\n.. rubric:: Constants\n\n{data}" if data else "")


def titles(
    pages,  # {page: title}
):          # -> {page: title for reStructuredText, with the chapter's number}
    "What a page is called in links to it."
    out = {}
    for page, title in pages.items():
        number = CHAPTER.match(page)
        out[page] = (f"chapter {int(number[1])}, " if number else "") + MARKUP.sub(r"\\\1", re.sub("[`$]", "", title))
    return out


def constants(
    module,  # full name
):           # -> text: an entry for each public name that is neither a function nor a class
    "Values, with the comment beside them."
    loaded, out = importlib.import_module(module), ""
    lines = source_of(loaded).splitlines()
    for name in getattr(loaded, "__all__", []):
        value = getattr(loaded, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            continue
        line = next((line for line in lines if re.match(rf"{name}\s*=", line)), "")
        written, _, comment = line.partition("  # ")
        out += f".. py:data:: {name}\n   :module: {module}\n"
        written = written.partition("=")[2].strip() if complete(written) else repr(value) if isinstance(value, int | tuple) else ""
        out += f"   :value: {written}\n" if written else ""
        out += f"\n   {inline(comment)}\n" if comment else ""
        out += f"\n   .. rst-class:: written-in\n\n   :ref:`source <source-{module.lower()}.{name.lower()}>`\n\n"
    return out


def complete(line):
    "Whether a line is a statement by itself."
    try:
        return bool(ast.parse(line).body)
    except SyntaxError:
        return False


def package_page(
    modules,  # {module: {page: title}}
):            # -> text of the page
    "All modules in the order of their chapters, each with its sentence and with what `import seqbook` offers of it."
    package = importlib.import_module(PACKAGE)
    homes = {}
    for name in sorted(package.__all__, key=str.lower):
        home = getattr(getattr(package, name), "__module__", None)
        if home and home.startswith(PACKAGE + "."):
            homes.setdefault(home, []).append(f":py:obj:`~{home}.{name}`")
    modules = {module: pages for module, pages in modules.items() if module != PACKAGE}
    text = ("API reference\n=============\n\nEverything the package offers, out of the chapters' own signatures and comments. "
            f"The names after each module can be imported from ``{PACKAGE}`` itself.\n\n.. automodule:: {PACKAGE}\n\n")
    part = None
    for module, pages in modules.items():
        here = PARTS.get(next(iter(pages)).rpartition("/")[0], "The lecture")
        if here != part:
            text += f"{here}\n{'-' * len(here)}\n\n"
        part = here
        said = ", ".join(f":doc:`{title} </{page}>`" for page, title in titles(pages).items())
        about = " ".join(rst((importlib.import_module(module).__doc__ or "").strip().partition("\n")[0])).strip()
        names = f"\n   {', '.join(homes[module])}\n" if module in homes else ""
        text += f":py:mod:`{module}` ({said})\n   {about}\n{names}\n"
    toctree = "".join(f"   {module.removeprefix(PACKAGE + '.')}\n" for module in modules)
    return f"{text}.. toctree::\n   :hidden:\n\n{toctree}"


def on_docstring(app, what, name, obj, options, lines):
    "Autodoc's autodoc-process-docstring event."
    text = "\n".join(lines)
    if what == "class" and is_record(obj) and (text.startswith(f"{obj.__name__}(")):
        text = ""  # the signature that a NamedTuple or a dataclass writes for itself
    lines[:] = rst(text)
    if what in ("function", "method", "class", "exception"):
        lines += fields(obj, name)
    page = app.reference.origin.get(name)
    if page and what in ("function", "class", "exception"):
        title = titles({page: app.reference.modules[parted(name)[0]][page]})[page]
        lines += [".. rst-class:: written-in", "", f":ref:`Source: {title} <source-{name.lower()}>`", ""]


def on_member(app, what, name, obj, skip, options):
    "Autodoc's autodoc-skip-member event: a record's fields stand in its table of parameters already."
    if type(obj).__name__ in ("_tuplegetter", "member_descriptor"):
        return True
    return None


def on_signature(app, what, name, obj, options, signature, returns):
    "Autodoc's autodoc-process-signature event: names and defaults only; types stand with the parameters."
    try:
        listed = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    written = defaults(obj)
    plain = [p.replace(annotation=p.empty, default=written.get(p.name, p.default)) for p in listed.parameters.values()]
    if what == "method" and plain and plain[0].name == "self":
        plain = plain[1:]
    return str(listed.replace(parameters=plain, return_annotation=listed.empty)), None


def setup(app):
    "Called by Sphinx."
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", on_inited)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-skip-member", on_member)
    app.connect("autodoc-process-signature", on_signature)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

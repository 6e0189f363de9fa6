"""Sphinx extension: every page as plain Markdown too, and llms.txt, which lists them.

Beside 02_rnn.html lies 02_rnn.md: what a reader sees, with code in fences, printed results in fences, and for a figure its
caption and the words that describe it. Chapters are written out of their notebooks, so that formulas stay as they were written;
the reference out of its pages. llms.txt is the table of contents in the form of llmstxt.org, for programs that read.
"""
import re
from html import escape
from pathlib import Path

import nbformat
import readme
from bs4 import BeautifulSoup
from directives import hidden, split
from markdownify import markdownify
from nbdev_cells import number, parts_of
from sphinx.util import logging

PAGE = re.compile(r"(!?\[[^\]\n]*\]\()(?!\w+:|#|/)([^)\s#]+)\.(?:ipynb|html)(?=[)#])")
PAPER = re.compile(r"(\]\()((?:\.\./)+)(CONTRIBUTING\.md|CHANGELOG\.md|LICENSE)(?=[)#])")
HEADING = re.compile(r"# (.+)\n+(?:> (.+(?:\n> .+)*))?")
log = logging.getLogger(__name__)


def chapter(
    nb,    # the executed notebook; its title is changed
    name,  # its page, "02_rnn"
):         # -> Markdown
    "A notebook as its page shows it."
    number(nb, name)
    parts = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            parts.append(linked(cell.source.strip(), name))
        elif cell.cell_type == "code":
            parts += [*readme.code(cell), *figure(cell)]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure(
    cell,  # a code cell
):         # -> list with the words that stand for its picture
    "The caption, and what is to be seen; a figure that moves says it itself."
    found, code = split(cell.source)
    words = [found[key] for key in ("fig-cap", "fig-alt") if found.get(key)]
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "text/html" in data and "image/png" in data:
            words.append(re.sub(r"^<Interactive figure: (.*)>$", r"\1", data["text/plain"]))
    drawn = any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {}))
    return [f"> **Figure.** {' '.join(words)}"] if drawn and words and not hidden(found, code) else []


def linked(
    text,  # Markdown
    name,  # the page it stands on
):         # -> the text with links to other pages' Markdown
    "From copy to copy, outside fenced code; the project's papers lie in a folder of the site."
    pieces = re.split(r"(?ms)(^```.*?^```)", text)
    papers = rf"\1{'../' * name.count('/')}project/\3"
    return "".join(piece if piece.startswith("```") else PAPER.sub(papers, PAGE.sub(r"\1\2.md", piece)) for piece in pieces)


def reference(
    html,  # a page of the site
    name,  # which one, "api/rnn"
):         # -> Markdown
    "A page of the reference, read off the site."
    page = BeautifulSoup(html, "html.parser")
    article = page.select_one("article.bd-article") or page.select_one("[role=main]")
    for mark in article.select("a.headerlink, .toctree-wrapper"):
        mark.decompose()
    for signature in article.select("dt.sig"):
        text = re.sub(r",\s*\)", ")", " ".join(signature.get_text().split()))
        signature.clear()
        code = BeautifulSoup("", "html.parser").new_tag("code")
        code.string = re.sub(r"\(\s+", "(", text)
        signature.append(code)
    return linked(markdownify(str(article), heading_style="ATX").strip(), name) + "\n"


def contents(
    pages,  # {page: Markdown}
):          # -> llms.txt
    "A title, a sentence, and the parts with their pages, each with the sentence under its title."
    title, about = heading(pages["index"])
    first = pages["index"].split("\n\n")[1].replace("\n", " ").strip()
    text = f"# {title}\n\n> {about or first}\n"
    for part, names in parts_of(pages).items():
        listed = [(name, *heading(pages[name])) for name in names if name != "index"]
        rows = "".join(f"- [{head}]({name}.md){f': {said}' if said else ''}\n" for name, head, said in listed)
        text += f"\n## {part}\n\n{rows}" if rows else ""
    modules = sorted(name for name in pages if name.startswith("api/") and name != "api/seqbook")
    return text + "\n## Optional\n\n" + "".join(f"- [{heading(pages[name])[0]}]({name}.md): reference\n" for name in modules)


def heading(
    text,  # Markdown of a page
):         # -> its title, the sentence under it or ""
    "What a page is called and what it is about."
    found = HEADING.search(text)
    return (found[1].replace("\\_", "_"), re.sub(r"\n> ", " ", found[2] or "")) if found else ("", "")


def on_finished(app, error):
    "Sphinx's build-finished event: write the copies, those that changed only, and drop those whose page is gone."
    if error or app.builder.format != "html":
        return
    pages, out = {}, Path(app.outdir)
    for name in sorted(app.env.found_docs):
        source = Path(app.env.doc2path(name))
        if source.suffix == ".ipynb":
            pages[name] = chapter(nbformat.read(source, as_version=4), name)
        elif source.suffix == ".md":
            pages[name] = source.read_text("utf-8").replace("](nbs/", "](../").replace(".ipynb)", ".md)")
        else:
            pages[name] = reference((out / f"{name}.html").read_text("utf-8"), name)
    written = {out / f"{name}.md": text for name, text in pages.items()} | {out / "llms.txt": contents(pages)}
    if (Path(app.srcdir) / "project" / "LICENSE").exists():
        written[out / "project" / "LICENSE"] = (Path(app.srcdir) / "project" / "LICENSE").read_text("utf-8")
    for path in set(out.rglob("*.md")) - set(written):
        if not any(part.startswith("_") for part in path.relative_to(out).parts):
            path.unlink()
    for path, text in written.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


def on_page(app, pagename, templatename, context, doctree):
    "Sphinx's html-page-context event: the page says where its Markdown is, to programs and, under the download button, to people."
    if doctree is None:
        return
    address = context["pathto"](f"{pagename}.md", 1)
    context["metatags"] = context.get("metatags", "") + f'\n<link rel="alternate" type="text/markdown" href="{escape(address)}" />'
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            group["buttons"].insert(1, {"type": "link", "url": address, "text": ".md", "icon": "fas fa-align-left",
                                        "tooltip": "This page as plain Markdown", "label": "download-markdown-button"})


def setup(app):
    "Called by Sphinx."
    app.connect("build-finished", on_finished)
    app.connect("html-page-context", on_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

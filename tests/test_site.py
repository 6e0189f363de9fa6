"""The built site: every link leads somewhere, nothing is loaded from elsewhere, no raw markup shows.

`make test` builds the site first and sets SEQBOOK_REQUIRE_SITE=1; without a built site these tests are skipped.
"""
import json
import os
import re
from copy import copy
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "_build" / "html"
MACHINE = re.compile(r" at 0x[0-9a-f]{6,}|(?:/home|/root|/Users|/tmp|/var)/[\w.-]+\S*|[A-Z]:\\Users|" + re.escape(str(ROOT)))
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
URL = re.compile(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)|@import\s+['\"]([^'\"]+)['\"]")

if not (SITE / "index.html").exists() and os.environ.get("SEQBOOK_REQUIRE_SITE") != "1":
    pytest.skip("the site is not built: run `make book`", allow_module_level=True)


@cache
def pages():
    "{name: parsed page} of all pages of the site."
    found = {path.relative_to(SITE).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
             for path in sorted(SITE.rglob("*.html")) if "_static" not in path.relative_to(SITE).parts}
    assert found, f"no pages in {SITE}: the site has to be built before these tests"
    return found


def chapters():
    "{name: its text's element} of the pages that come from notebooks."
    return {name: page.find("article", class_="bd-article") for name, page in pages().items()
            if (ROOT / "nbs" / name).with_suffix(".ipynb").exists()}


@cache
def anchors(name):
    "Everything on a page that a link may end in #of."
    tags = pages()[name].find_all(True)
    return {tag[key] for tag in tags for key in ("id", "name") if tag.get(key)}


def target(name, url):
    "The file inside the site that a relative URL on a page leads to."
    path = unquote(urlsplit(url).path)
    return (SITE / name).parent.joinpath(path).resolve() if path else (SITE / name).resolve()


def prose(article):
    "A page's text without its code and formulas, where such signs may stand for themselves."
    text = copy(article)
    for tag in text.select("pre, code, .math, script, style"):
        tag.decompose()
    return text.get_text(" ")


def test_every_notebook_is_a_page():
    names = {path.relative_to(ROOT / "nbs").with_suffix(".html").as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")
             if not any(part[0] in "._" for part in path.relative_to(ROOT).parts)}
    assert names - set(pages()) == set()


def test_links_lead_somewhere():
    broken = []
    for name, page in pages().items():
        for link in page.find_all("a", href=True):
            url = link["href"]
            if urlsplit(url).scheme or ELSEWHERE.match(url) or url == "#":
                continue
            path, fragment = target(name, url), unquote(urlsplit(url).fragment)
            if not path.is_file():
                broken.append(f"{name}: {url}")
            elif fragment and path.suffix == ".html" and fragment not in anchors(path.relative_to(SITE).as_posix()):
                broken.append(f"{name}: {url} (no such anchor)")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere():
    found = []
    for name, page in pages().items():
        for tag in page.find_all(["script", "link", "img", "source", "iframe", "video", "audio", "object"]):
            for key in ("src", "href", "data", "srcset"):
                if ELSEWHERE.match(tag.get(key, "") or ""):
                    found.append(f"{name}: {tag[key]}")
        styles = [style.get_text() for style in page.find_all("style")] + [tag["style"] for tag in page.find_all(style=True)]
        found += [f"{name}: {url}" for text in styles for url in urls(text) if ELSEWHERE.match(url)]
    for path in SITE.rglob("*.css"):
        found += [f"{path.relative_to(SITE)}: {url}" for url in urls(path.read_text(encoding="utf-8")) if ELSEWHERE.match(url)]
    assert found == []


def urls(css):
    "What a style sheet loads."
    return [match[1] or match[2] for match in URL.finditer(css)]


def test_loaded_files_exist():
    missing = []
    for name, page in pages().items():
        for tag in page.find_all(["script", "link", "img"]):
            url = tag.get("src") or (tag.get("href") if tag.name == "link" else None)
            if url and not urlsplit(url).scheme and not target(name, url).is_file():
                missing.append(f"{name}: {url}")
    for path in SITE.rglob("*.css"):
        for url in urls(path.read_text(encoding="utf-8")):
            if not url.startswith(("data:", "#")) and not path.parent.joinpath(unquote(urlsplit(url).path)).is_file():
                missing.append(f"{path.relative_to(SITE)}: {url}")
    assert missing == []


def test_equations_travel_with_the_site():
    math = SITE / "_static" / "mathjax"
    assert (math / "tex-chtml-full.js").stat().st_size > 1_000_000
    assert list((math / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))
    for name, page in pages().items():
        if page.select(".math"):
            assert any("mathjax/tex-chtml-full.js" in tag["src"] for tag in page.find_all("script", src=True)), name


def test_no_raw_markup_shows():
    found = []
    for name, article in chapters().items():
        text = article.get_text()
        found += [f"{name}: {line.strip()}" for line in text.splitlines() if re.match(r"\s*#\s*\|", line)]
        found += [f"{name}: a setting of the notebook shows: {line.strip()}" for line in text.splitlines()
                  if re.match(r"\s*%(xmode|config|matplotlib)\b", line)]
        words = prose(article)
        found += [f"{name}: {sign!r} in the text" for sign in ("$$", "[!NOTE]", "[!WARNING]", "[!TIP]", "[!IMPORTANT]", "```", "{eval-rst}")
                  if sign in words]
        found += [f"{name}: formula left as text: {match[0]!r}" for match in re.finditer(r"\$[^$\n]{1,80}\\[a-z]+[^$\n]*\$", words)]
    assert found == []


def test_no_errors_but_those_meant():
    found = []
    for name, article in chapters().items():
        for cell in article.select("div.cell"):
            if "tag_raises-exception" in cell["class"]:
                continue
            for output in cell.select(".cell_output"):
                text = output.get_text()
                if "Traceback (most recent call last)" in text or output.select(".traceback, .stderr"):
                    found.append(f"{name}: {text.strip()[:200]}")
    assert found == []


def test_outputs_are_the_same_everywhere():
    "Addresses in memory and the paths of a machine have no place in a book."
    found = []
    for name, article in chapters().items():
        for output in article.select(".cell_output"):
            found += [f"{name}: {match[0]}" for match in MACHINE.finditer(output.get_text())]
    assert found == []


def test_pictures_have_alternative_text():
    found = []
    for name, article in chapters().items():
        for picture in article.find_all("img"):
            alt = picture.get("alt", "")
            if len(alt.split()) < 3 or re.search(r"\.(png|svg|jpe?g|gif)$", alt):
                found.append(f"{name}: {picture['src']}: {alt!r}")
    assert found == []


def test_headings_come_in_order():
    for name, article in chapters().items():
        levels = [int(tag.name[1]) for tag in article.find_all(re.compile(r"^h[1-6]$"))]
        assert levels[:1] == [1] and levels.count(1) == 1, f"{name}: one title, first of all; got {levels}"
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:])), f"{name}: a level is left out: {levels}"


def test_search_finds_what_the_book_is_about():
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1:text.rindex(")")])
    titles = " ".join(index["titles"]).lower()
    assert "seqbook" in titles
    terms = set(index["terms"]) | set(index["titleterms"])
    for word in ("array", "batch", "sequenc", "gradient"):
        assert any(term.startswith(word) for term in terms), word


def test_reference_holds_every_module():
    modules = {path.relative_to(ROOT / "seqbook").as_posix().removesuffix(".py").replace("/", ".")
               for path in (ROOT / "seqbook").rglob("*.py") if not path.name.startswith("_")}
    written = {Path(name).stem for name in pages() if name.startswith("api/")}
    assert modules - written == set()
    for name in sorted(modules):
        assert pages()[f"api/{name}.html"].select("dl.py"), f"api/{name}.html documents nothing"


def test_every_page_is_there_as_markdown():
    "Beside each page; without cell directives; and every link of theirs leads somewhere."
    listed, broken = (SITE / "llms.txt").read_text(encoding="utf-8"), []
    names = {name.removesuffix(".html") for name in pages()} - {"genindex", "search"}
    assert {path.relative_to(SITE).as_posix().removesuffix(".md") for path in SITE.rglob("*.md")
            if not path.relative_to(SITE).parts[0].startswith("_")} == names
    assert {link.removesuffix(".md") for link in re.findall(r"\]\(([^)#]+\.md)\)", listed)} == names - {"index"}
    for name in names:
        text = (SITE / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith("# ") and not re.search(r"^#\s*\|", text, re.MULTILINE), name
        prose = re.sub(r"(?ms)^(`{3,}).*?^\1$|`[^`\n]+`", "", text)
        broken += [f"{name}: {link}" for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"\w+:|#", link)
                   and link.partition("#")[0].endswith((".md", "LICENSE", ".html")) and not target(f"{name}.html", link).is_file()]
    assert broken == []


def test_chapters_open_on_hosted_services():
    "The buttons name a notebook that the repository has, at the place that settings.ini tells."
    import configparser
    said = configparser.ConfigParser(delimiters=["="])
    said.read(ROOT / "settings.ini", encoding="utf-8")
    said = said["DEFAULT"]
    for name, page in pages().items():
        links = [link["href"] for link in page.select(".dropdown-launch-buttons a")]
        notebook = f"{said['nbs_path']}/{name.removesuffix('.html')}.ipynb"
        home = f"{said['user']}/{said['repo']}"
        assert links == ([f"https://mybinder.org/v2/gh/{home}/{said['branch']}?urlpath=lab/tree/{notebook}",
                          f"https://colab.research.google.com/github/{home}/blob/{said['branch']}/{notebook}"]
                         if (ROOT / notebook).exists() else []), name


def test_every_chapter_leads_to_the_symbols():
    for name, article in chapters().items():
        if name != "index.html" and not name.startswith("reference/"):
            assert article.select_one(".look-up a[href$='reference/symbols.html']"), name


def test_exercises_have_folded_solutions():
    "A chapter of the lecture ends with exercises, and each list of them has solutions that open at a click."
    found = []
    for name, article in chapters().items():
        exercises = article.select_one("section#exercises")
        if re.match(r"\d\d_", name) and not exercises:
            found.append(f"{name}: no exercises")
        elif exercises and not exercises.select("details:not([open]) > summary"):
            found.append(f"{name}: no folded solutions")
    assert found == []

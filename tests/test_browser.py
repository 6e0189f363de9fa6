"""The built site in a real browser, served to it by this machine alone.

Every page: no error in the console, no request that leaves the site, no link or anchor that leads nowhere, no formula left as
text, no raw markup or traceback, words for every picture, readable colours by day, by night and on paper, no page wider than a
telephone, and no serious finding of an accessibility audit (axe-core). Then what readers do: search, keys, copying, printing,
reading without scripts. At the end each check is shown a page with a fault in it, and has to find it.

Needs `pip install 'seqbook[browser]'`, a Chromium (conftest.py says where it is looked for) and the built site.
"""
import os
import re
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "_build" / "html"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.relative_to(SITE).parts)
DESK, LAPTOP = {"viewport": {"width": 1280, "height": 900}}, {"viewport": {"width": 1366, "height": 768}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
IMPACTS = ("serious", "critical")
CHECKS = (ROOT / "tests" / "browser_checks.js").read_text(encoding="utf-8")

if not PAGES and os.environ.get("SEQBOOK_REQUIRE_SITE") != "1":
    pytest.skip("the site is not built: run `make book`", allow_module_level=True)


# ---- a page, opened
class Quiet(SimpleHTTPRequestHandler):
    "Serves files and says nothing."
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".md": "text/markdown; charset=utf-8", ".woff2": "font/woff2"}

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    "Where the site is served."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Visit:
    "One page in a context of its own, and what went wrong while it loaded."

    def __init__(self, browser, address, name, html=None, **options):
        self.address, self.name, self.wrong, self.scripts = address, name, [], options.get("java_script_enabled", True)
        self.context = browser.new_context(service_workers="block", **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("response", lambda answer: answer.status >= 400 and self.wrong.append(f"{answer.status}: {answer.url}"))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))
        self.page.on("request", self.asked)
        if html is not None:
            self.page.route(address + name, lambda route: route.fulfill(body=html, content_type="text/html"))
        self.open(name)

    def asked(self, request):
        "A page asks its own site, and nobody else."
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"leaves the site: {request.url}")

    def open(self, name):
        "Load a page, and wait until its formulas are set."
        self.page.goto(self.address + name, wait_until="load")
        if self.scripts:
            self.page.evaluate("() => window.MathJax?.startup?.promise")
            self.page.evaluate("() => document.querySelectorAll('details').forEach(part => { part.open = true; })")

    def look(self, check, *arguments):
        "What one of the functions of browser_checks.js finds."
        self.page.evaluate(CHECKS)
        return self.page.evaluate("([check, rest]) => checks[check](...rest)", [check, arguments])

    def close(self):
        self.context.close()


@pytest.fixture
def visit(chromium, address):
    "A function that opens a page."
    opened = []

    def go(name, html=None, **options):
        opened.append(Visit(chromium, address, name, html, **{**DESK, **options}))
        return opened[-1]

    yield go
    for one in opened:
        one.close()


# ---- the checks: each says what is amiss on an opened page
def trouble(seen):
    "Errors in the console, failed requests, requests that leave the site."
    return list(seen.wrong)


def broken_links(seen):
    "Links within the site that lead nowhere."
    found = []
    for written, url in map(tuple, seen.look("links")):
        if not url.startswith(seen.address):
            if not re.match(r"https://|mailto:|javascript:", url):
                found.append(f"{written}: neither the site's nor safe")
            continue
        parts = urlsplit(url)
        path, anchor = unquote(parts.path).lstrip("/") or "index.html", unquote(parts.fragment)
        if path == seen.name:
            if anchor and not seen.page.evaluate("name => !!document.getElementById(name)", anchor):
                found.append(f"{written}: no such place on this page")
        elif not (SITE / path).is_file():
            found.append(f"{written}: no such page")
        elif anchor and anchor not in anchors(path):
            found.append(f"{written}: no such place on that page")
    return found


@cache
def anchors(path):
    "The ids of a page as it is served."
    return set(re.findall(r"""\bid=["']([^"']+)["']""", (SITE / path).read_text(encoding="utf-8")))


def formulas(seen):
    "Formulas that MathJax did not set, or could not."
    return seen.look("formulas")


def raw_markup(seen):
    "Directives of cells, markup that was not understood, errors that are not announced."
    return seen.look("markup")


def pictures(seen):
    "Pictures that say nothing to those who do not see them, or do not show at all; figures without a caption."
    seen.page.evaluate("() => Promise.all([...document.images].map(img => { img.loading = 'eager'; return img.decode().catch(() => 0); }))")
    return seen.look("pictures")


def width(seen):
    "What is wider than the screen, or cut off by its edge instead of scrolling."
    return seen.look("width")[:10]


def contrast(seen):
    "Text that is hard to read: WCAG's 4.5, and 3 for large letters."
    checked, found = seen.look("contrast")
    return found if checked else ["nothing was looked at"]


def by_night(seen):
    "The same page after dusk."
    seen.page.emulate_media(color_scheme="dark")
    seen.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    return contrast(seen)


def on_paper(seen):
    "The same page, printed by somebody who reads in the dark."
    seen.page.emulate_media(color_scheme="dark", media="print")
    return contrast(seen)


@cache
def axe():
    "The audit's program."
    bundled = pytest.importorskip("axe_playwright_python", reason="needs `pip install 'seqbook[browser]'`")
    return (Path(bundled.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def audit(seen, colours=False):
    "Serious and critical findings of axe-core. Colours are `contrast`'s, which looks at all pages in a tenth of the time."
    seen.page.evaluate(axe())
    return [f"{impact} {rule}, {count} times: {html}" for impact, rule, count, html in seen.look("audit", colours) if impact in IMPACTS]


BY_DAY = (trouble, broken_links, formulas, raw_markup, pictures, contrast, audit, by_night, on_paper)


# ---- every page
def said(seen, *checks):
    "What the checks have to say."
    return [f"{check.__name__}: {words}" for check in checks for words in check(seen)]


@pytest.mark.parametrize("name", PAGES)
def test_page(visit, name):
    seen = visit(name, color_scheme="light")
    assert seen.page.title() and said(seen, *BY_DAY) == []
    phone = visit(name, color_scheme="dark", **PHONE)
    assert said(phone, trouble, width, contrast) == []

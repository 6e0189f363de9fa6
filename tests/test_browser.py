"""The built site in a real browser, served to it by this machine alone.

Every page: no error in the console, no request that leaves the site, no link or anchor that leads nowhere, no formula left as
text, no raw markup or traceback, words for every picture, readable colours by day, by night and on paper, no page wider than a
telephone, and no serious finding of an accessibility audit (axe-core). Then what readers do: search, keys, copying, printing,
reading without scripts. At the end each check is shown a page with a fault in it, and has to find it.

Needs `pip install 'seqbook[browser]'`, a Chromium (conftest.py says where it is looked for) and the built site.
"""
import os
import re
from contextlib import closing
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
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(f"console: {message.text}"))
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
            if not re.match(r"https://|mailto:|javascript:|data:audio/midi;base64,", url):  # the last: a tune to keep
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


# ---- what readers do
def test_the_front_page_shows_in_one_screen_what_this_is(visit):
    "The sentence, a first model with what it prints, and the map: on a laptop, without scrolling."
    page = visit("index.html", **LAPTOP).page
    first = page.locator("section#a-first-model-in-ten-lines")
    code = "".join(first.locator(".cell_input pre").all_text_contents())
    assert 5 < len(code.strip().splitlines()) <= 10 and "bits per character" in first.locator(".cell_output").inner_text()
    assert page.locator(".book-map a").count() > 15
    for part in (page.locator("article h1"), page.locator("article h1 + p"), first.locator(".cell_input").last,
                 first.locator(".cell_output"), page.locator(".book-map svg")):
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1366 and box["y"] >= 0 and box["y"] + box["height"] <= 768, box


def test_the_map_leads_to_the_chapters(visit):
    page = visit("index.html").page
    page.locator(".book-map a", has_text="LSTM").click()
    page.wait_for_url("**/09_lstm.html")


@pytest.mark.parametrize("words, place", [
    ("peephole", "09_lstm.html"), ("perplexity", "05_language_model.html"), ("vanishing", "07_vanishing.html"),
    ("nucleus", "06_sampling.html"), ("gradcheck", "api/bptt.html"), ("beam search", "06_sampling.html"),
    ("Glorot", "reference/bibliography.html"), ("reset gate", "08_gru.html"),
])
def test_search_finds(visit, words, place):
    seen = visit(f"search.html?q={words.replace(' ', '+')}")
    seen.page.wait_for_selector("#search-results ul.search li a")
    seen.page.wait_for_function("/finished|matching/i.test(document.querySelector('#search-results p, #search-results').textContent)")
    links = seen.page.locator("#search-results ul.search li a")
    found = links.evaluate_all("links => links.map(link => new URL(link.href).pathname.slice(1))")
    assert place in found, found
    assert trouble(seen) == []


def test_search_says_that_it_finds_nothing(visit):
    page = visit("search.html?q=xyzzyx").page
    page.wait_for_function("/did not match/.test(document.querySelector('#search-results').textContent)")
    assert page.locator("#search-results ul.search li").count() == 0


def test_keys(visit):
    seen = visit("08_gru.html")
    page = seen.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"  # first of all, past the sidebar
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"
    page.keyboard.press("Control+k")
    page.wait_for_function("document.activeElement.matches('input[type=search]')")
    page.keyboard.type("peephole")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=peephole*")
    seen.open("08_gru.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/09_lstm.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/08_gru.html")


def test_what_has_the_focus_is_seen(visit):
    "Links, buttons and folded solutions show where the keyboard is."
    page = visit("08_gru.html").page
    page.keyboard.press("Tab")
    for selector in ("article p a", ".theme-switch-button", "article summary", "button.copybtn", "article div.highlight pre"):
        part = page.locator(selector).first
        part.evaluate("part => { part.tabIndex >= 0 || part.setAttribute('tabindex', 0); part.focus({focusVisible: true}); }")
        style = part.evaluate("part => { const s = getComputedStyle(part); return [s.outlineStyle, s.outlineWidth, s.boxShadow]; }")
        assert style[0] not in ("none", "hidden") and style[1] != "0px" or style[2] != "none", (selector, style)


def test_night_is_remembered(visit):
    seen = visit("08_gru.html", color_scheme="light")
    seen.page.locator(".theme-switch-button").click()
    seen.page.locator(".theme-change-button[data-mode=dark]").click()
    assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"
    seen.open("09_lstm.html")
    assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark" and trouble(seen) == []


def test_code_copies_cleanly(visit):
    seen = visit("08_gru.html")
    seen.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=seen.address.rstrip("/"))
    cell = seen.page.locator("div.cell_input", has_text="def gru_step(").first
    shown = cell.locator("pre").inner_text().rstrip("\n")
    cell.hover()
    cell.locator("button.copybtn").click()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert copied == shown and compile(copied, "copied", "exec") and "def gru_step(" in copied


def test_a_chapter_opens_on_hosted_services(visit):
    page = visit("practice/optim.html").page
    menu = page.locator(".dropdown-launch-buttons")
    assert not menu.locator("a").first.is_visible()
    menu.locator("button").click()
    links = {link.inner_text().strip(): link.get_attribute("href") for link in menu.locator("a").all() if link.is_visible()}
    assert re.fullmatch(r"https://mybinder\.org/v2/gh/[^?]+\?urlpath=lab/tree/nbs/practice/optim\.ipynb", links["Binder"])
    assert re.fullmatch(r"https://colab\.research\.google\.com/github/.+/nbs/practice/optim\.ipynb", links["Colab"])


def test_solutions_are_folded_until_wanted(visit):
    seen = visit("08_gru.html", java_script_enabled=False)
    folded = seen.page.locator("article section#exercises details")
    assert folded.count() > 2 and not any(part.get_attribute("open") for part in folded.all())
    first = folded.first
    assert not first.locator("> :not(summary)").first.is_visible()
    first.locator("summary").click()
    assert first.locator("> :not(summary)").first.is_visible()


def test_a_chapter_without_scripts(visit):
    "Text, code, figures, and the figures that move as still ones."
    seen = visit("practice/interactive.html", java_script_enabled=False)
    figures = seen.page.locator("figure.seqbook-figure")
    assert figures.count() > 2 and all(figure.locator("svg").is_visible() for figure in figures.all())
    assert seen.page.locator("figure.seqbook-figure input:visible").count() == 0
    assert seen.page.locator("div.cell_input pre").first.is_visible()
    assert [words for words in trouble(seen) if not re.match(r"failed: .*\.js", words)] == []  # scripts, announced but not wanted


def test_a_chapter_on_paper(visit):
    "The text alone, solutions unfolded, and no wider than the sheet."
    seen = visit("08_gru.html", color_scheme="dark", viewport={"width": 720, "height": 1000})
    seen.page.evaluate("() => document.querySelectorAll('details').forEach(part => { part.open = false; })")
    seen.page.emulate_media(color_scheme="dark", media="print")
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer", "button.copybtn"):
        assert not seen.page.locator(part).first.is_visible(), part
    solution = seen.page.locator("article section#exercises details > :not(summary)").first
    assert solution.bounding_box()["height"] > 0
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert len(seen.page.pdf()) > 100_000


def test_plain_markdown_is_served_and_linked(visit):
    seen = visit("09_lstm.html")
    copy = seen.page.locator("link[rel=alternate][type='text/markdown']").evaluate("link => link.href")
    answer = seen.page.request.get(copy)
    assert answer.ok and answer.text().startswith("# 9. The LSTM\n") and answer.headers["content-type"].startswith("text/markdown")


def test_icons_are_drawn_by_the_font(visit):
    page = visit("09_lstm.html").page
    page.wait_for_function("""() => document.fonts.check('900 16px "Font Awesome 7 Free"')
        && getComputedStyle(document.querySelector("i.fa-download"), "::before").content.length > 2""")
    assert page.locator("i.fa-download").bounding_box()["width"] > 8


@pytest.mark.parametrize("name, most", [("09_lstm.html", 4_000_000), ("index.html", 1_500_000)])
def test_what_a_page_weighs(chromium, address, name, most):
    "All that a first visit loads, in bytes: most of it is MathJax and the theme, which the next page finds in the browser."
    with closing(chromium.new_context(**DESK)) as context:
        page, loaded = context.new_page(), []
        page.on("response", lambda answer: loaded.append(answer))
        page.goto(address + name, wait_until="networkidle")
        assert 500_000 < sum(len(answer.body()) for answer in loaded if answer.status == 200) < most


@pytest.mark.parametrize("name", ["index.html", "02_rnn.html", "api/rnn.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_audit_agrees_about_colours(visit, name, scheme):
    "axe-core's own, slower look at every colour finds nothing that `contrast` overlooked."
    seen = visit(name, color_scheme=scheme)
    assert audit(seen, colours=True) == [] and contrast(seen) == []


# ---- the checks can fail
CHAPTER = "02_rnn.html"
FAULTS = [  # what is put into the page, the check that has to find it, what it says
    ("<script>console.error('oh')</script>", trouble, "console: oh"),
    ("<script>nobody()</script>", trouble, "script: nobody is not defined"),
    ("<img src='_static/gone.png' alt='A picture that is gone.'>", trouble, r"404: .*gone\.png"),
    ("<link rel='stylesheet' href='https://fonts.example.org/x.css'>", trouble, r"leaves the site: https://fonts\.example\.org/x\.css"),
    ("<a href='12_nothing.html'>x</a>", broken_links, "12_nothing.html: no such page"),
    ("<a href='#nowhere'>x</a>", broken_links, "#nowhere: no such place on this page"),
    ("<a href='09_lstm.html#nowhere'>x</a>", broken_links, "09_lstm.html#nowhere: no such place on that page"),
    ("<a href='http://example.org/'>x</a>", broken_links, "neither the site's nor safe"),
    ("<p class='mathjax_ignore'>Then \\(x^2\\) grows.</p>", formulas, "left as text: Then"),
    ("<p>Then $\\frac{1}{2}$ grows.</p>", formulas, "left as text: Then"),
    ("<div class='math notranslate'>\\[\\nosuch{1}\\]</div>", formulas, r"unknown: \\nosuch"),
    ("<div class='math notranslate'>\\[\\frac{1}\\]</div>", formulas, "wrong: Missing argument"),
    ("<div class='math mathjax_ignore'>x</div>", formulas, "not set: x"),
    ("<pre>#| export\nx = 1</pre>", raw_markup, r"directive: #\| export"),
    ("<pre>%config A.b = 1</pre>", raw_markup, "directive: %config"),
    ("<pre>Traceback (most recent call last)\nValueError: no</pre>", raw_markup, "traceback: ValueError: no"),
    ("<div class='cell_output'><div class='output stderr'>Warning</div></div>", raw_markup, "error output: Warning"),
    ("<p>&gt; [!NOTE]</p>", raw_markup, r"markup: > \[!NOTE\]"),
    ("<img src='_static/icon.svg'>", pictures, "no words"),
    ("<img src='_static/icon.svg' alt='icon.svg'>", pictures, "no words"),
    ("<img src='data:image/png;base64,AAAA' alt='A broken picture here'>", pictures, "does not show"),
    ("<svg viewBox='0 0 1 1' width='9' height='9'><path d='M0 0h1'/></svg>", pictures, "no words: <svg"),
    ("<div class='cell_output'><img src='_static/icon.svg' alt='Three boxes side by side'></div>", pictures, "no caption: Three boxes"),
    ("<p style='color: #888; background: #fff'>grey</p>", contrast, "3.54 of 4.5: p"),
    ("<p style='opacity: .4'>faint</p>", contrast, "of 4.5: p"),
    ("<svg viewBox='0 0 9 9' width='90' aria-hidden='true'><rect width='9' height='9' fill='#111'/><text y='5' font-size='2'>x</text>"
     "</svg>", contrast, "of 4.5: text"),
    ("<p style='color: #333'>at noon</p>", by_night, "of 4.5: p"),
    ("<p style='color: #eee; background: none'>at night</p>", on_paper, "of 4.5: p"),
    ("<button></button>", audit, "critical button-name"),
    ("<ul><div>x</div></ul>", audit, "serious list"),
    ("<label>a</label><input type='text'>", audit, "critical label"),
]


@pytest.mark.parametrize("fault, check, says", FAULTS, ids=[f"{check.__name__}-{i}" for i, (_, check, _) in enumerate(FAULTS)])
def test_a_fault_is_found(visit, fault, check, says):
    seen = visit(CHAPTER, with_fault(fault), color_scheme="light")
    assert any(re.search(says, words) for words in check(seen)), check(seen)


@pytest.mark.parametrize("fault, says", [
    ("<div style='width: 900px'>wide</div>", "the page is 9.. wide on a screen of 390|beyond the edge"),
    ("<div style='overflow: hidden'><div style='width: 700px'>x</div></div>", "cut off: div"),
    ("<table style='display: table'><tr>" + "<td>wwwwwwwwww</td>" * 12 + "</tr></table>", "beyond the edge"),
])
def test_what_is_too_wide_is_found(visit, fault, says):
    seen = visit(CHAPTER, with_fault(fault), **PHONE)
    assert any(re.search(says, words) for words in width(seen)), width(seen)


def with_fault(fault):
    "A chapter with something amiss at the top of its text, before the formulas are set and the scripts run."
    html = (SITE / CHAPTER).read_text(encoding="utf-8")
    at = html.index("</h1>", html.index('class="bd-article"')) + len("</h1>")
    return html[:at] + fault + html[at:]

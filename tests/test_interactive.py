"""Figures that move: complete without a script, self-contained, safe against any word, and in a browser equal to Python.

The last part needs `pip install "seqbook[browser]"` and a Chromium; it is skipped where one of them is missing.
"""
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from seqbook.backend import device
from seqbook.brnn import Bidirectional
from seqbook.deep_rnn import Deep
from seqbook.gru import GRU
from seqbook.interactive import LARGEST, gates_over, temperature_dial, tracks, unrolled
from seqbook.lstm import LSTM
from seqbook.notation import Vocabulary
from seqbook.rnn import RNN, softmax
from seqbook.sampling import adjust, entropy, inverse_cdf

ALT = "A figure for the tests."
FIVE = ("the", "cat", "which", "ate", "was")
NASTY = ["<b>", "&amp;", '"q"', "it's", "</script><script>boom()</script>", "<!--", "$x$", "a b", "\n", "\u2028", "日本", "]]>"]
LOGITS = np.log([0.05, 0.4, 0.2, 0.2, 0.1, 0.05])
SYMBOLS = list("abcdef")


def sequence(T=5, n_x=3, B=2, seed=0):
    return np.random.default_rng(seed).normal(size=(T, B, n_x)).astype(np.float32)


def walk(words=FIVE, layer=None, **options):
    layer = RNN(3, 4) if layer is None else layer
    outputs = np.random.default_rng(1).normal(size=(len(words), 2, 3))
    return unrolled(layer, sequence(len(words)), ALT, words=words, outputs=outputs, symbols=["x", "y", "z"], **options)


def gates(words=FIVE, **options):
    return gates_over(LSTM(3, 4).gates(sequence(len(words))), words, ALT, **options)


def dial(**options):
    return temperature_dial(LOGITS, SYMBOLS, ALT, **options)


KINDS = {"unrolled": walk, "gates_over": gates, "temperature_dial": dial}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


class Strict(HTMLParser):
    "Every element closed in its turn, no attribute twice; keeps elements and the texts of the scripts."

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.scripts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in ("input", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts.append(text)


def drawing(figure):
    "The SVG as a tree, its title and its description."
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", figure.html, re.DOTALL)[0])
    return svg, svg.find("title").text, svg.find("desc").text


def data_of(figure):
    return json.loads(Strict(figure.html).scripts[0])


def said(figure):
    return drawing(figure)[2]


# ---- the fragment

@kinds
def test_whole_without_a_script(make):
    figure = make(caption="A <caption>.")
    svg, title, description = drawing(figure)
    assert svg.get("role") == "img" and title == ALT and len(description) > 20
    assert list(svg)[0].tag == "title" and list(svg)[1].tag == "desc"
    assert len(svg.findall(".//path")) > 10 and len(svg.findall(".//text")) > 10
    assert '<div class="sb-controls" hidden>' in figure.html and "<figcaption>A &lt;caption&gt;.</figcaption>" in figure.html


@kinds
def test_self_contained(make):
    figure = make()
    for tag, attributes in Strict(figure.html).elements:
        assert not {"src", "href", "xlink:href", "srcset", "style", "id"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|import\s*\(|fetch\(", figure.html)
    assert len(figure.html.encode()) < LARGEST


@kinds
def test_many_on_one_page(make):
    "There is no id that could stand on the page twice, and no name that the scripts leave behind."
    parsed = Strict(make().html + make().html)
    assert not any(name in attributes for _, attributes in parsed.elements for name in ("id", "for", "aria-labelledby"))
    assert all(script.strip().startswith("(() => {") and script.strip().endswith("})();") for script in parsed.scripts[1::2])


@kinds
def test_controls_have_labels(make):
    parsed = Strict(make().html)
    inputs = [attributes for tag, attributes in parsed.elements if tag == "input"]
    assert inputs and all(a["type"] == "range" and a["aria-valuetext"] and a["autocomplete"] == "off" for a in inputs)
    assert make().html.count("<label>") == len(inputs)
    assert ("p", {"class": "sb-said", "aria-live": "polite"}) in parsed.elements


@kinds
def test_same_bytes_again(make):
    one = make()._repr_mimebundle_()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight", "figure.constrained_layout.use": True}):
        assert make()._repr_mimebundle_() == one
    assert set(one) == {"text/html", "image/png", "text/plain"} and ALT in one["text/plain"]


@kinds
def test_picture(make, tmp_path):
    figure = make()
    picture = np.asarray(Image.open(BytesIO(figure.png)).convert("RGB"))
    assert abs(picture.shape[1] - 1.44 * figure.scene.width) < 3 and abs(picture.shape[0] - 1.44 * figure.scene.height) < 3
    assert 0.02 < (picture != picture[0, 0]).any(axis=-1).mean() < 0.9 and len(figure.png) < LARGEST
    assert figure.save(tmp_path / "f.png").read_bytes() == figure.png
    page = figure.save(tmp_path / "f.html").read_text(encoding="utf-8")
    assert figure.html in page and f"<title>{ALT}</title>" in page
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .html or .png, got 'f.svg'"):
        figure.save(tmp_path / "f.svg")


@pytest.mark.filterwarnings("error")
def test_any_word():
    T = len(NASTY)
    rest = {"alt": "<alt> & \"more\" </script>", "caption": "</figcaption><b>"}
    figures = [unrolled(RNN(3, 4), sequence(T), words=NASTY, outputs=np.zeros((T, 1, T)), symbols=NASTY, **rest),
               gates_over(LSTM(3, 4).gates(sequence(T)), NASTY, fields="Gu", **rest),
               temperature_dial(np.zeros(T), NASTY, bars=T, **rest)]
    for figure in figures:
        parsed = Strict(figure.html)
        assert [tag for tag, _ in parsed.elements].count("script") == 2 and "b" not in [tag for tag, _ in parsed.elements]
        svg, title, _ = drawing(figure)
        texts = [text.text for text in svg.iter("text")]
        assert title == rest["alt"] and {"<b>", "&amp;", '"q"', "it's", "$x$", "↵", "日本", "]]>"} <= set(texts)
        assert json.loads(parsed.scripts[0]) and figure.png
    assert data_of(figures[2])["symbols"][:4] == NASTY[:4]


# ---- the unrolled network

def lit(figure, t):
    "How many groups of the drawing are lit with the slider at t."
    return sum(group.since is not None and group.since <= t <= group.until for group in figure.scene.groups if not group.look)


def test_unrolled_lights_what_the_output_can_know():
    figure = walk()
    assert figure.at == 5 and [lit(figure, t) for t in range(1, 6)] == [3, 6, 9, 12, 15]  # strip, x, y-hat of each step
    both = walk(layer=Bidirectional(RNN(3, 4)))
    assert both.at == 3 and {lit(both, t) for t in range(1, 6)} == {5 + 6 + 1}            # all inputs, T + 1 strips, one output
    svg, _, _ = drawing(walk(at=2))
    spans = {(g.get("data-from"), g.get("data-to"), "on" in g.get("class", "")) for g in svg.iter("g") if g.get("data-from")}
    assert ("2", "5", True) in spans and ("3", "5", False) in spans and ("2", "2", True) in spans


def test_unrolled_says_the_most_probable():
    outputs = np.log([[[0.2, 0.7, 0.1]], [[0.1, 0.3, 0.6]]])
    figure = unrolled(RNN(3, 4), sequence(2, B=1), ALT, outputs=outputs, symbols=Vocabulary(("x", "y", "z")), top=2)
    assert data_of(figure)["said"] == ["t = 1 of 2. Most probable: “y” 0.70, “x” 0.20.", "t = 2 of 2. Most probable: “z” 0.60, “y” 0.30."]
    assert [t.text for t in drawing(figure)[0].iter("text") if "0." in (t.text or "")] == ["y 0.70", "x 0.20", "z 0.60", "y 0.30"]


def test_cells_are_the_activations():
    layer, X = RNN(3, 4), sequence(3, B=2)
    A = layer(X)[0][:, 1]
    cells = [s for g in unrolled(layer, X, ALT, example=1).scene.groups for s in g.shapes if s.look in ("plus", "minus")]
    assert [c.opacity for c in cells] == [round(abs(float(a)), 2) for a in A.ravel() if round(abs(float(a)), 2)]
    assert [c.look for c in cells] == ["plus" if a > 0 else "minus" for a in A.ravel() if round(abs(float(a)), 2)]


@pytest.mark.parametrize("skip", [None, "residual", "input", "output", "both"])
def test_tracks_of_a_deep_network(skip):
    X, more = sequence(B=1), 3 if skip in ("input", "both") else 0
    deep = Deep([GRU(3, 4), LSTM(4 + more, 4, seed=1)], skip=skip)
    found, Y = tracks(deep, X), deep(X)[0][:, 0]
    assert [t.name for t in found] == ["[1]", "[2]"] and np.allclose(found[0].A, deep.layers[0](X)[0][:, 0])
    top = Y[:, 4:] if skip in ("output", "both") else Y - found[0].A if skip == "residual" else Y
    assert np.allclose(found[1].A, top, atol=1e-6)


def test_tracks_of_a_bidirectional_layer():
    X, layer = sequence(B=1), Bidirectional(LSTM(3, 4))
    forward, backward = tracks(layer, X)
    assert np.allclose(np.concatenate([forward.A, backward.A], axis=1), layer(X)[0][:, 0])
    assert backward.backward and not forward.backward


def test_units_that_move_most():
    moves = np.zeros((6, 1, 20), np.float32)
    moves[::2, 0, [3, 17]] = 1
    layer = lambda X, *_: (moves[:len(X)], None, None)
    layer.n_a = 20
    shown = [s for g in unrolled(layer, sequence(6, B=1), ALT).scene.groups for s in g.shapes if s.look == "plus"]
    assert len(shown) == 6
    figure = gates_over(LSTM(3, 9).gates(sequence()), list("abcde"), ALT, units=[8, 2])
    assert [t.text for t in drawing(figure)[0].iter("text") if (t.text or "").startswith("unit")] == ["unit 8", "unit 2"] * 6


# ---- the gates

def test_gates_values():
    g = LSTM(3, 4).gates(sequence())
    figure = gates_over(g, list("abc"), ALT, fields=("Gu", "c"), units=[1, 3], example=1, at=2)
    data = data_of(figure)
    expected = np.concatenate([g.Gu[:3, 1][:, [1, 3]], g.c[:3, 1][:, [1, 3]]], axis=1)
    assert np.allclose(data["rows"], expected, atol=0.0051) and data["names"] == ["1 of 3, a", "2 of 3, b", "3 of 3, c"]
    rows = [t.text for t in drawing(figure)[0].iter("text") if t.get("data-row") is not None]
    assert rows == [f"{v:.2f}" for v in data["rows"][1]] and "-0.00" not in rows
    assert said(figure) == f"t = 2 of 3, “b”. How far the gates shown are open, on average: Γu {g.Gu[1, 1, [1, 3]].mean():.2f}."


def test_gates_of_a_gru():
    for layer in (GRU(3, 4), GRU(3, 4, variant="simplified"), GRU(3, 4, reset="after")):
        found = layer.gates(sequence())
        figure = gates_over(found, list("abcde"), ALT)
        present = sum(v is not None for v in found)
        assert len(data_of(figure)["rows"][0]) == 4 * present


def test_cells_without_bound():
    "A cell above 1 sets the scale of its own field; gates keep theirs."
    g = LSTM(3, 4).gates(sequence())
    g = g._replace(c=10 * g.c)
    shapes = [s for group in gates_over(g, list("abcde"), ALT, fields="c").scene.groups for s in group.shapes]
    opacities = [s.opacity for s in shapes if s.look in ("plus", "minus")]
    assert max(opacities) == 1 and min(opacities) < 0.5


# ---- the distribution

@pytest.mark.parametrize("settings", [
    {}, {"t": 0}, {"t": 0.3}, {"t": 2.5, "k": 3}, {"p": 0.5}, {"t": 1.5, "k": 4, "p": 0.9}, {"t": 3, "p": 0.05}])
def test_dial_shows_the_library(settings):
    cut = adjust(np.round(LOGITS, 4), settings.get("t", 1.0), settings.get("k"), settings.get("p"))
    P, figure = softmax(cut), dial(**settings, bars=4, seed=3)
    order = np.argsort(-LOGITS, kind="stable")[:4]
    shown = [t.text for t in drawing(figure)[0].iter("text") if t.get("data-row") is not None]
    assert shown == [f"{p:.3f}" for p in [*P[order], max(0, 1 - P[order].sum())]]
    assert f"entropy {abs(entropy(cut)):.2f} of at most 1.79 nats, {(P > 0).sum()} of 6 symbols left" in said(figure)
    u = np.random.default_rng(3).random(3)
    drawn = [SYMBOLS[i] for i in inverse_cdf(np.stack([cut] * 3), u)]
    assert said(figure).endswith(": " + ", ".join(f"“{s}”" for s in drawn) + ".")


def test_dial_leaves_out_what_never_comes():
    figure = temperature_dial(np.array([0, -np.inf, 1], np.float32), SYMBOLS[:3], ALT, bars=10)
    assert data_of(figure)["symbols"] == ["a", "c"] and data_of(figure)["logits"] == [0, 1] and "all others" not in figure.html


def test_from_a_device():
    "What lies on a device is brought to the host, and nothing else."
    g = LSTM(3, 4).gates(sequence())
    there = type(g)(*map(device.asarray, g))
    assert gates_over(there, list("abcde"), ALT).html == gates_over(g, list("abcde"), ALT).html
    assert temperature_dial(device.asarray(LOGITS), SYMBOLS, ALT).html == dial().html


# ---- bad input

def scored(T, **options):
    return unrolled(RNN(3, 4), sequence(), ALT, outputs=np.zeros((T, 2, 3)), **options)


BAD = [
    (lambda: unrolled(RNN(3, 4), sequence(), ""), ValueError, "alt: expected a sentence that says what the figure shows, got ''"),
    (lambda: unrolled(RNN(3, 4), sequence(), None), ValueError, "alt: expected a sentence"),
    (lambda: walk(caption=3), TypeError, "caption: expected a str, got 3"),
    (lambda: unrolled("RNN", sequence(), ALT), TypeError, "layer: expected RNN, GRU or LSTM, or Deep or Bidirectional of these, got 'RNN'"),
    (lambda: unrolled(Deep([Bidirectional(RNN(3, 4)), RNN(8, 4)]), sequence(), ALT), TypeError, "layer: expected RNN, GRU or LSTM"),
    (lambda: unrolled(RNN(3, 4), [1], ALT), TypeError, "X: expected a NumPy or CuPy array"),
    (lambda: unrolled(RNN(3, 4), sequence()[:, 0], ALT), ValueError, r"X: expected shape \(T, B, n_x\)"),
    (lambda: unrolled(RNN(3, 4), sequence() * np.nan, ALT), ValueError, "the layer's states: expected finite numbers"),
    (lambda: unrolled(RNN(3, 4), sequence(), ALT, words=list("abcdef")), ValueError, "words: expected 1 to 5 of them, got 6"),
    (lambda: unrolled(RNN(3, 4), sequence(), ALT, words=[]), ValueError, "words: expected 1 to 5 of them, got 0"),
    (lambda: unrolled(RNN(3, 4), sequence(), ALT, words=[1, 2]), TypeError, r"words: expected a list of strings, got \[1, 2\]"),
    (lambda: unrolled(RNN(3, 4), sequence(), ALT, words=7), TypeError, "words: expected a list of strings, got 7"),
    (lambda: unrolled(RNN(3, 4), sequence()[:0], ALT), ValueError, "X: expected at least one step of one example"),
    (lambda: walk(example=2), ValueError, "example: expected a whole number >= -2 and <= 1, got 2"),
    (lambda: walk(at=0), ValueError, "at: expected a whole number >= 1 and <= 5, got 0"),
    (lambda: walk(at=2.0), TypeError, "at: expected a whole number"),
    (lambda: walk(top=0), ValueError, "top: expected a whole number >= 1"),
    (lambda: walk(units=[4]), ValueError, "units: expected a whole number >= 0 and <= 3, got 4"),
    (lambda: walk(units=[]), TypeError, "units: expected a list of their numbers"),
    (lambda: walk(units=[1.5]), TypeError, "units: expected a whole number"),
    (lambda: scored(4, symbols=list("xyz")), ValueError, "outputs: expected scores of 5 steps"),
    (lambda: scored(5), TypeError, "symbols: expected a list of strings, got None"),
    (lambda: scored(5, symbols=["x"]), ValueError, "symbols: expected 3 of them, got 1"),
    (lambda: unrolled(RNN(3, 4), sequence(), ALT, symbols=["x"]), ValueError, "symbols: they name outputs, and none were given"),
    (lambda: unrolled(RNN(3, 9), sequence(300), ALT), ValueError, "figure: expected at most 40,000 bytes of HTML, got"),
    (lambda: gates_over(3, ["a"], ALT), TypeError, "gates: expected what gru_gates or lstm_gates returns, got int"),
    (lambda: gates(fields=("Gx",)), ValueError, "fields: expected one of Gu, Gf, Go, c_tilde, c, a, got 'Gx'"),
    (lambda: gates(fields=()), ValueError, r"fields: expected one of Gu, .*, got \(\)"),
    (lambda: gates(fields=3), ValueError, "fields: expected one of"),
    (lambda: gates_over(LSTM(3, 4).gates(sequence()), None, ALT), TypeError, "words: expected a list of strings, got None"),
    (lambda: gates_over(LSTM(3, 4).gates(sequence() * np.inf), list("abc"), ALT), ValueError, "gates.Gu: expected finite numbers"),
    (lambda: temperature_dial(np.zeros((2, 3)), SYMBOLS, ALT), ValueError, r"logits: expected shape \(n_v,\)"),
    (lambda: temperature_dial([0.0], SYMBOLS, ALT), TypeError, "logits: expected a NumPy or CuPy array"),
    (lambda: temperature_dial(np.array([0, np.nan]), SYMBOLS[:2], ALT), ValueError, "logits: expected numbers"),
    (lambda: temperature_dial(np.full(2, -np.inf), SYMBOLS[:2], ALT), ValueError, "logits: expected numbers"),
    (lambda: temperature_dial(LOGITS, SYMBOLS[:5], ALT), ValueError, "symbols: expected 6 of them, got 5"),
    (lambda: dial(t=3.5), ValueError, r"t: expected a number in \[0, 3\], got 3.5"),
    (lambda: dial(t=0.72), ValueError, "t: expected a multiple of 0.05, up to 3, as the slider has, got 0.72"),
    (lambda: dial(p=0), ValueError, r"p: expected a number in \(0, 1\], got 0"),
    (lambda: dial(p=0.001), ValueError, "p: expected a multiple of 0.05"),
    (lambda: dial(k=7), ValueError, "k: expected a whole number >= 1 and <= 6, got 7"),
    (lambda: dial(bars=0), ValueError, "bars: expected a whole number >= 1"),
    (lambda: dial(seed=-1), ValueError, "seed: expected a whole number >= 0"),
]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("call, error, message", BAD, ids=range(len(BAD)))
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


# ---- in a browser

@pytest.fixture
def show(chromium, tmp_path):
    "A function that opens figures on one page, from a file, offline, and returns the page; any error of a script fails the test."
    wrong, contexts = [], []

    def opened(*figures, **options):
        path = tmp_path / "page.html"
        page = figures[0].save(path).read_text(encoding="utf-8")
        path.write_text(page.replace("</body>", "".join(f.html for f in figures[1:]) + "</body>"), encoding="utf-8")
        context = chromium.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: wrong.extend([request.url] * (not request.url.startswith("file:"))))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def turn(page, i, value):
    "Move the i-th slider of the page as a reader does."
    page.evaluate("""([i, value]) => {
        const slider = document.querySelectorAll("input")[i];
        slider.value = value;
        slider.dispatchEvent(new Event("input", {bubbles: true}));
    }""", [i, value])


def state(page, figure=0):
    "What a figure shows: its text, the numbers, the widths of the bars."
    return page.evaluate("""i => {
        const figure = document.querySelectorAll("figure")[i];
        const all = selector => [...figure.querySelectorAll(selector)];
        return {said: figure.querySelector(".sb-said").textContent, desc: figure.querySelector("desc").textContent,
                rows: all("[data-row]").map(text => text.textContent), bars: all("path.sb-bar").map(bar => bar.getBBox().width),
                on: all("g.on").length, values: all("input").map(input => input.getAttribute("aria-valuetext"))};
    }""", figure)


def test_page_and_python_agree_on_every_distribution(show):
    "600 settings: the page's text, numbers and bars are those of a figure that Python draws there."
    rng = np.random.default_rng(0)
    for logits in (LOGITS, rng.normal(size=40) * 3, np.zeros(5), np.float32([800, 0, -800, 799, 799])):
        names = [f"s{i}" for i in range(len(logits))]
        page = show(temperature_dial(logits, names, ALT, bars=6))
        for _ in range(150):
            t, k, p = rng.integers(0, 61) / 20, int(rng.integers(1, len(logits) + 1)), rng.integers(1, 21) / 20
            for i, value in enumerate((f"{t:.2f}", str(k), f"{p:.2f}")):
                turn(page, i, value)
            got, figure = state(page), temperature_dial(logits, names, ALT, t=t, k=k, p=p, bars=6)
            assert got["said"] == got["desc"] == said(figure)
            assert got["rows"] == [x.text for x in drawing(figure)[0].iter("text") if x.get("data-row") is not None]
            P = softmax(adjust(np.round(logits.astype(np.float64), 4), t, k, p))[np.argsort(-logits, kind="stable")[:6]]
            assert np.allclose(got["bars"][:6], 200 * P, atol=0.01)


@pytest.mark.parametrize("make", [walk, gates])
def test_slider_over_the_steps(show, make):
    page, figure = show(make()), make()
    before = state(page)
    assert before["said"] == said(figure) and before["on"] == sum(
        g.since is not None and g.since <= figure.at <= g.until for g in figure.scene.groups)
    for t in (1, 3, 5):
        turn(page, 0, t)
        drawn, got = make(at=t), state(page)
        assert got["said"] == got["desc"] == said(drawn) and got["values"] == [data_of(figure)["names"][t - 1]]
        assert got["rows"] == [x.text for x in drawing(drawn)[0].iter("text") if x.get("data-row") is not None]
        assert got["on"] == sum(g.since is not None and g.since <= t <= g.until for g in figure.scene.groups)


def test_keys_pointer_and_play(show):
    page = show(walk())
    page.evaluate("document.addEventListener('keydown', event => { document.title = 'turned'; })")
    page.locator("input").focus()
    page.keyboard.press("ArrowLeft")
    assert state(page)["said"].startswith("t = 4 of 5") and page.title() == ALT
    page.locator(".sb-hit").nth(1).hover()
    assert state(page)["said"].startswith("t = 2 of 5")
    page.mouse.move(0, 0)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('.sb-said').textContent.startsWith('t = 3 of 5')")
    assert page.locator(".sb-said").get_attribute("aria-live") == "off"
    page.get_by_role("button", name="Pause").click()
    assert page.locator(".sb-said").get_attribute("aria-live") == "polite" and page.get_by_role("button", name="Play").count() == 1


def test_less_motion(show):
    page = show(walk(), reduced_motion="reduce")
    assert page.get_by_role("button").count() == 0 and page.locator("input").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('[data-from]')).transitionDuration") == "0s"
    assert show(walk(), reduced_motion="no-preference").get_by_role("button", name="Play").is_visible()


def test_two_of_a_kind_do_not_disturb_each_other(show):
    page = show(walk(), walk(), dial(), dial(), gates())
    first = [state(page, i) for i in range(5)]
    assert first[0] == first[1] and first[2] == first[3]
    turn(page, 1, 2)
    turn(page, 5, 0)                                                            # temperature of the second dial
    now = [state(page, i) for i in range(5)]
    assert now[0] == first[0] and now[1] != first[1] and now[2] == first[2] and now[3] != first[3] and now[4] == first[4]
    assert page.evaluate("document.querySelectorAll('[id]').length") == 0 and page.evaluate("typeof alive") == "undefined"


def test_without_javascript(show):
    page = show(walk(), gates(), dial(), java_script_enabled=False)
    assert page.locator("input:visible, button:visible").count() == 0
    assert page.locator("svg:visible").count() == 3 and page.locator(".sb-said:visible").count() == 3


def test_telephone(show):
    words = "a sentence that is much too long for a telephone held upright in one hand".split()
    page = show(walk(words), gates(words, fields=("Gu", "c")), dial(), viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    turn(page, 0, len(words))
    assert page.locator(".sb-scroll").first.evaluate("e => e.scrollLeft") > 0


def test_words_are_letters_in_the_browser(show):
    page = show(temperature_dial(np.zeros(len(NASTY)), NASTY, ALT, bars=3), walk(NASTY))
    turn(page, 0, 0)
    assert "“<b>”" in state(page)["said"] and page.locator("b").count() == 0
    for t, word in ((1, "<b>"), (2, "&amp;"), (5, "</script><scr")):
        turn(page, 3, t)
        assert f"“{word}" in state(page, 1)["said"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_take_the_colour_of_the_page(show, scheme):
    page = show(gates(), color_scheme=scheme)
    fill, color = page.evaluate("[getComputedStyle(document.querySelector('text')).fill, getComputedStyle(document.body).color]")
    assert fill == color

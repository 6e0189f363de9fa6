"""Language models: counted ones against a plain oracle, networks against themselves one symbol at a time, files, devices, bad input."""
import json
import math
import sys
from collections import Counter

import numpy as np
import pytest

from seqbook.backend import DeviceArray, asnumpy, device, leaves, tree_map
from seqbook.bptt import gradcheck
from seqbook.data import Corpus
from seqbook.language_model import (
    LAYERS,
    SMOOTHINGS,
    LanguageModel,
    NGram,
    bits_per_symbol,
    encode,
    evaluation,
    layer_config,
    layer_from,
    perplexity,
    sentence_batch,
    split_works,
    tuned_ngram,
)
from seqbook.notation import Vocabulary, tokenize
from seqbook.optim import Adam
from seqbook.rnn import RNN, softmax
from seqbook.training import load_tree, save_tree

LETTERS = Vocabulary("abcdefgh")
WORDS = Vocabulary.build(tokenize("the cat sat on the mat . a dog saw the cat ."))
IDS = np.random.default_rng(0).integers(0, 8, 400)
SENTENCES = ["the cat sat .", "a dog saw the cat on the mat .", "the zebra ran", "."]


class Stack:
    "Two recurrent layers, one on the other: a layer whose state is a tuple of states, made of other layers."

    def __init__(self, layers):
        self.layers, self.n_x, self.n_a = layers, layers[0].n_x, layers[-1].n_a

    params = property(lambda self: tuple(layer.params for layer in self.layers))

    @params.setter
    def params(self, params):
        for layer, p in zip(self.layers, params, strict=True):
            layer.params = p

    def config(self):
        return {"layers": [layer_config(layer) for layer in self.layers]}

    def initial_state(self, B):
        return tuple(layer.initial_state(B) for layer in self.layers)

    def __call__(self, X, state=None, lengths=None):
        ends, backs = [], []
        for layer, s in zip(self.layers, state or (None, None)):
            X, end, back = layer(X, s, lengths)
            ends.append(end)
            backs.append(back)

        def pullback(dY=None, dstate=None):
            grads = []
            for back in reversed(backs):
                dY, g, _ = back(dY)
                grads.insert(0, g)
            return dY, tuple(grads), None

        return X, tuple(ends), pullback

    def step(self, x, state=None):
        ends = []
        for layer, s in zip(self.layers, state or (None, None)):
            x, end = layer.step(x, s)
            ends.append(end)
        return x, tuple(ends)


@pytest.fixture
def known_stack(monkeypatch):
    monkeypatch.setitem(LAYERS, "Stack", __name__)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def model_of(kind="rnn", vocabulary=LETTERS, seed=0, dtype=np.float32):
    "A small model, with biases that are not zero."
    layer = {"rnn": lambda: None, "relu": lambda: RNN(5, 7, activation="relu", seed=seed, dtype=dtype),
             "stack": lambda: Stack([RNN(5, 6, seed=seed, dtype=dtype), RNN(6, 7, seed=seed + 1, dtype=dtype)])}[kind]()
    model = LanguageModel(vocabulary, layer, n_x=5, n_a=7, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed + 9)
    model.params = tree_map(lambda a: (a + 0.2 * rng.normal(size=a.shape)).astype(dtype), model.params)
    return model


def bits(model):
    return {k: asnumpy(a).tobytes() for k, a in leaves(model.params).items()}


# ---- units of measurement

def test_units():
    assert bits_per_symbol(math.log(8)) == pytest.approx(3) and perplexity(math.log(8)) == pytest.approx(8)
    assert perplexity(1e6) == math.inf
    e = evaluation(10 * math.log(2), 5)
    assert e.bits == pytest.approx(2) and e.perplexity == pytest.approx(4) and e.symbols == 5 and e.nats == pytest.approx(2 * math.log(2))


def test_split_takes_the_end_of_each_work():
    works = {f"w{k}": "".join(f"{k} line {i}\n" for i in range(100 + 10 * k)) for k in range(3)}
    corpus = Corpus("c", works, "", "", "")
    parts = split_works(corpus, 0.1, 0.2)
    for k, work in enumerate(works.values()):
        mine = ["".join(line for line in part.splitlines(True) if line.startswith(f"{k} ")) for part in parts]
        assert "".join(mine) == work and len(mine[2]) == pytest.approx(0.2 * len(work), abs=20)


# ---- n-grams

def oracle(ids, order, n_v, d, smoothing):
    "Equation 5.4 for one history and symbol, by recursion over dictionaries."
    grams = [Counter(tuple(ids[i:i + k]) for i in range(len(ids) - k + 1)) for k in range(order + 1)]
    if smoothing == "kneser-ney":
        for k in range(1, order):
            left = Counter(g[1:] for g in grams[k + 1])
            grams[k] = {g: max(left[g], 1) for g in grams[k]}

    def p(h, w):
        k = len(h) + 1
        if order == 0:
            return 1 / n_v
        lower = (lambda v: p(h[1:], v)) if h else (lambda v: 1 / n_v)
        c = {v: grams[k][(*h, v)] for v in range(n_v) if (*h, v) in grams[k]}
        total = sum(c.values())
        if not total:
            return lower(w)
        if smoothing != "backoff":
            return max(c.get(w, 0) - d, 0) / total + d * len(c) / total * lower(w)
        if len(c) == n_v:
            return c[w] / total
        if w in c:
            return (c[w] - d) / total
        return d * len(c) / total / (1 - sum(lower(v) for v in c)) * lower(w)

    return lambda context, w: p(tuple(context[-(order - 1):]) if order > 1 else (), w)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order, n_v, length, d", [
    (0, 3, 10, 0.5), (1, 4, 30, 0.3), (2, 3, 40, 0.7), (3, 5, 200, 0.9), (5, 4, 60, 0.5), (4, 2, 300, 0.6)])
def test_ngrams_against_the_recursion(order, n_v, length, d, smoothing):
    rng = np.random.default_rng(order)
    ids, held_out = rng.integers(0, n_v, length), rng.integers(0, n_v, 60)
    model, p = NGram(order, n_v, d, smoothing).fit(ids), oracle(ids.tolist(), order, n_v, d, smoothing)
    expected = [p(held_out[:t].tolist(), int(w)) for t, w in enumerate(held_out)]
    assert np.allclose(np.exp(model.log_probabilities(held_out)), expected, rtol=1e-9)
    for t in (0, 1, 7, 59):
        context = held_out[:t]
        row = model.probabilities(context)
        assert np.allclose(row, [p(context.tolist(), w) for w in range(n_v)], rtol=1e-9)
        assert row.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("discount", [None, 0.01, 0.5, 0.99])
def test_ngrams_sum_to_one(smoothing, discount):
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.full(30, 0.2))
    model = NGram(6, 30, discount, smoothing).fit(rng.choice(30, size=4000, p=weights))
    for k in range(9):
        for _ in range(20):
            row = model.probabilities(rng.choice(30, size=k, p=weights if k % 2 else None))
            assert row.sum() == pytest.approx(1, abs=1e-10) and row.min() > 0


def test_ngrams_at_the_edges():
    for ids in ([2], [2, 2]):
        model = NGram(5, 4).fit(np.array(ids, np.int64))
        for context in ([], [0], [2], [2, 2, 2, 2, 2, 2]):
            assert model.probabilities(context).sum() == pytest.approx(1)
    uniform = NGram(0, 7).fit(np.array([1, 2, 3]))
    assert uniform.evaluate(np.array([0, 6, 6])).perplexity == pytest.approx(7) and uniform.size == 0
    assert NGram(2, 10**6, 0.5).fit(np.array([999_999, 5, 999_999])).probabilities([5]).argmax() == 999_999


def test_keys_do_not_overflow():
    "A million words, nine in a row: n_v ** 9 is far beyond 64 bits."
    ids = np.random.default_rng(0).integers(0, 10**6, 3000)
    model = NGram(9, 10**6, 0.5).fit(np.concatenate([ids, ids]))
    assert np.exp(model.log_probabilities(ids))[20:].min() > 0.5


def test_tuning_is_on_the_validation_text():
    ids = np.random.default_rng(0).integers(0, 5, 2000) // 2
    model = tuned_ngram(3, 5, ids[:1500], ids[1500:])
    again = NGram(3, 5, model.discount).fit(ids[:1500])
    assert model.evaluate(ids[1500:]) == again.evaluate(ids[1500:])
    assert all(model.evaluate(ids[1500:]).nats <= NGram(3, 5, d).fit(ids[:1500]).evaluate(ids[1500:]).nats for d in (None, 0.3, 0.9))


@pytest.mark.parametrize("call, words", [
    (lambda: NGram(-1, 5), "order"), (lambda: NGram(2.0, 5), "order"), (lambda: NGram(2, 5, 1.0), "discount"),
    (lambda: NGram(2, 5, 0), "discount"),
    (lambda: NGram(2, 5, smoothing="laplace"), "smoothing: expected one of backoff, interpolated, kneser-ney, got 'laplace'"),
    (lambda: NGram(2, 5).fit(np.array([0, 5])), "symbols 0 to 4, got 0 to 5"), (lambda: NGram(2, 5).fit(np.array([0.0])), "integer"),
    (lambda: NGram(2, 5).fit([0, 1]), "ids"), (lambda: NGram(2, 5).fit(np.array([0, 1])).evaluate(np.array([-1, 2])), "ids"),
    (lambda: NGram(2, 0), "n_v: expected .* >= 1, got 0"), (lambda: NGram(2, "x"), "n_v: .*'x'"), (lambda: NGram(2, 5.0), "n_v: .*5.0"),
    (lambda: NGram(True, 5), "order: .*True"), (lambda: NGram(2, 5, "x"), "discount: .*'x'"),
    (lambda: NGram(2, 8).fit(IDS).smooth(5), r"discount: expected a number in \(0, 1\), got 5"),
    (lambda: NGram(2, 8).fit(IDS).smooth(-1), "discount: .*got -1"), (lambda: NGram(2, 8).smooth(0.5), "call fit"),
    (lambda: NGram(2, 8).evaluate(IDS), "call fit"), (lambda: NGram(1, 8).log_probabilities(IDS), "call fit"),
    (lambda: NGram(2, 8).probabilities(), "call fit"), (lambda: NGram(2, 8).fit(IDS[:0]), "ids: expected at least 1 symbol, got 0"),
    (lambda: NGram(0, 8).evaluate(IDS[:1]), "ids: expected at least 2 symbols, got 1"),
    (lambda: tuned_ngram(2, 8, IDS, IDS[:0]), "valid: expected at least 2 symbols, got 0"),
    *[(lambda c=c: NGram(2, 8).fit(IDS).probabilities(c), f"context: expected {words}") for c, words in [
        ([99], "symbols 0 to 7, got 99"), ([-1], "symbols 0 to 7, got -1"), ([1.7], "whole numbers, got float"),
        ("th", "whole numbers, got str"),
        (None, "whole numbers"), (5, "shape"), ([[1]], "shape")]],
])
def test_bad_ngrams_are_named(call, words):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=words):
        call()


# ---- the network

@pytest.mark.parametrize("kind", ["rnn", "relu", "stack"])
def test_gradients(kind):
    model = model_of(kind, WORDS, dtype=np.float64)
    sentences = [WORDS.encode(tokenize(s)) for s in SENTENCES]
    ids = np.concatenate(sentences)
    for batch in [(ids[:12].reshape(3, 4).T, ids[1:13].reshape(3, 4).T), sentence_batch(sentences, WORDS.end_id)]:
        def loss(params, batch=batch):
            model.params = params
            return model.loss_and_grads(batch)[0]
        params, (_, grads, _) = model.params, model.loss_and_grads(batch)
        gradcheck(loss, params, grads).check(1e-6)
        model.params = params


@pytest.mark.parametrize("kind", ["rnn", "stack"])
def test_step_by_step_is_at_once(kind):
    model, state = model_of(kind, dtype=np.float64), None
    ids = IDS[:60].reshape(20, 3)
    Z, end, _ = model.logits(ids)
    for t in range(20):
        z, state = model.step(ids[t], state)
        assert np.allclose(z, Z[t], atol=1e-12)
    assert all(np.allclose(a, leaves(end)[k]) for k, a in leaves(state).items())


def test_the_state_is_carried_between_windows():
    "Five windows in a row see what one long one sees, and their gradients stop at the edges."
    model = model_of(dtype=np.float64)
    inputs, targets = IDS[:50].reshape(2, 25).T, IDS[1:51].reshape(2, 25).T
    whole, _, end = model.loss_and_grads((inputs, targets))
    losses, state = [], None
    for t in range(0, 25, 5):
        loss, _, state = model.loss_and_grads((inputs[t:t + 5], targets[t:t + 5]), state)
        losses.append(loss)
    assert np.mean(losses) == pytest.approx(whole, rel=1e-12) and np.allclose(state.a, end.a)


def test_a_sentence_counts_the_same_alone_and_in_a_batch():
    model = model_of(vocabulary=WORDS, dtype=np.float64)
    alone = [model.evaluate([s]) for s in SENTENCES]
    together = model.evaluate(SENTENCES)
    assert [e.symbols for e in alone] == [len(tokenize(s)) + 1 for s in SENTENCES]
    assert together.nats * together.symbols == pytest.approx(sum(e.nats * e.symbols for e in alone))
    loss, _, _ = model.loss_and_grads(sentence_batch(encode(WORDS, SENTENCES), WORDS.end_id))
    assert loss == pytest.approx(together.nats)
    for s, e in zip(SENTENCES, alone):
        assert math.exp(model.log_probability(s)) == pytest.approx(np.prod(np.exp(model.log_probabilities(s))))
        assert model.log_probability(s) == pytest.approx(-e.nats * e.symbols)


def test_all_sentences_share_the_probability_one():
    "Over all sentences of at most k words and all beginnings of k words the probabilities add up to 1."
    vocabulary = Vocabulary(["x", "y"], end="<eos>")
    model, total = model_of(vocabulary=vocabulary, dtype=np.float64), 0.0
    x, y = vocabulary.encode(["x", "y"])
    layers = [[()]]
    for _ in range(4):
        layers.append([(*s, w) for s in layers[-1] for w in (x, y)])
    total = sum(math.exp(model.log_probability(np.array(s, np.int64))) for layer in layers[:-1] for s in layer)
    total += sum(math.exp(model.log_probabilities(np.array(s))[:-1].sum()) for s in layers[-1])
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 50, 257, 258, 400])
@pytest.mark.parametrize("batch_size", [1, 3, 64, 1000])
def test_evaluation_drops_nothing(n, batch_size):
    model = model_of(dtype=np.float64)
    e, B = model.evaluate(IDS[:n], batch_size=batch_size), min(batch_size, n - 1)
    length, nats = -(-(n - 1) // B), 0.0
    for start in range(0, n - 1, length):  # what it must be: each stream on its own
        piece = IDS[start:min(start + length, n - 1) + 1]
        Z = model.logits(piece[:-1, None])[0][:, 0]
        nats -= np.log(softmax(Z))[np.arange(len(piece) - 1), piece[1:]].sum()
    assert e.symbols == n - 1 and e.nats == pytest.approx(nats / (n - 1), rel=1e-10)


@pytest.mark.parametrize("kind", ["rnn", "stack"])
def test_it_learns_a_rule_that_needs_memory(kind, known_stack):
    "a b a b c, over and over: after b comes a or c, and only the symbol before tells which."
    ids = np.tile([0, 1, 0, 1, 2], 200)
    model = model_of(kind)
    model.fit(ids, steps=250, batch_size=4, T=20, optimizer=Adam(0.02), progress=False)
    assert model.evaluate(ids[:101]).nats < 0.1 < NGram(2, 8).fit(ids).evaluate(ids[:101]).nats


def test_fitting_sentences():
    model = LanguageModel(WORDS, n_a=12, n_x=6, seed=1)
    before = model.evaluate(SENTENCES[:2]).nats
    history = model.fit(SENTENCES[:2], valid=SENTENCES[:2], steps=120, batch_size=2, optimizer=Adam(0.02), evaluate_every=40,
                        progress=False)
    assert model.evaluate(SENTENCES[:2]).nats < before / 4 and len(history["valid"][0]) == 3
    tokens, arrays = [tokenize(s) for s in SENTENCES], encode(WORDS, SENTENCES)
    assert model.evaluate(tokens) == model.evaluate(arrays) == model.evaluate(SENTENCES)


def test_a_seed_is_a_run():
    def run(seed):
        model = LanguageModel(WORDS, n_a=12, n_x=6, seed=seed)
        model.fit(SENTENCES * 3, steps=30, batch_size=2, progress=False, seed=seed)
        return bits(model)
    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    model = LanguageModel(LETTERS, n_a=6, dtype=dtype)
    model.fit(IDS, steps=3, batch_size=4, T=5, progress=False)
    assert {a.dtype for a in leaves(model.params).values()} == {np.dtype(dtype)}
    assert model.logits(IDS[:4, None])[0].dtype == model.step(IDS[:2])[0].dtype == dtype


# ---- files

@pytest.mark.parametrize("kind", ["rnn", "relu", "stack"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back(tmp_path, kind, dtype, known_stack):
    model = model_of(kind, WORDS, seed=4, dtype=dtype)
    model.save(tmp_path / "m")
    again = LanguageModel.load(tmp_path / "m")
    assert bits(again) == bits(model) and again.vocabulary == WORDS and again.config() == model.config()
    assert again.evaluate(SENTENCES) == model.evaluate(SENTENCES)
    again.fit(SENTENCES, steps=2, batch_size=2, progress=False)  # the arrays that were read can be trained


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "m"
    model_of().save(path)
    arrays, meta = load_tree(path)
    for change, words in [(lambda m: m["config"]["layer"].update({"class": "Unheard"}), "layer: expected one of RNN, .*got 'Unheard'"),
                          (lambda m: m["config"]["layer"].update(n_a=8), "parameters")]:
        other = json.loads(json.dumps(meta))
        change(other)
        save_tree(tmp_path / "other", arrays, other, kind="language model")
        with pytest.raises(ValueError, match=words):
            LanguageModel.load(tmp_path / "other")
    save_tree(tmp_path / "other", {k: v for k, v in arrays.items() if k != "output.by"}, meta, kind="language model")
    with pytest.raises(ValueError, match="output.by"):
        LanguageModel.load(tmp_path / "other")
    save_tree(tmp_path / "other", arrays, meta, kind="checkpoint")
    with pytest.raises(ValueError, match="expected a language model"):
        LanguageModel.load(tmp_path / "other")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a whole"):
        LanguageModel.load(path)


def test_a_layer_that_is_not_known_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"LAYERS\['Stack'\]"):
        model_of("stack").save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert layer_from(layer_config(RNN(3, 4))).config() == RNN(3, 4).config()


# ---- devices

@pytest.mark.usefixtures("array_forms")
@pytest.mark.parametrize("kind", ["rnn", "stack"])
def test_on_the_pretended_device(kind, synchronisations):
    host, there = model_of(kind, WORDS), model_of(kind, WORDS)
    there.params = tree_map(device.asarray, there.params)
    ids = WORDS.encode(tokenize(" ".join(SENTENCES)))
    assert there.evaluate(ids, batch_size=3) == host.evaluate(ids, batch_size=3)
    assert synchronisations.total() == 1  # one number comes back
    assert there.evaluate(SENTENCES) == host.evaluate(SENTENCES)
    assert np.array_equal(there.log_probabilities(SENTENCES[0]), host.log_probabilities(SENTENCES[0]))
    loss, grads, state = there.loss_and_grads(sentence_batch(encode(WORDS, SENTENCES), WORDS.end_id))
    assert all(isinstance(a, DeviceArray) for a in leaves((grads, state)).values())
    assert isinstance(there.step(ids[:2])[0], DeviceArray)


@pytest.mark.gpu
def test_on_the_gpu(tmp_path):
    host, there = model_of(vocabulary=WORDS), model_of(vocabulary=WORDS).to("cupy")
    for data in (SENTENCES, WORDS.encode(tokenize(" ".join(SENTENCES)))):
        assert there.evaluate(data).nats == pytest.approx(host.evaluate(data).nats, rel=1e-4)
    there.fit(SENTENCES, valid=SENTENCES, steps=5, batch_size=2, progress=False)
    there.save(tmp_path / "m")
    assert LanguageModel.load(tmp_path / "m").evaluate(SENTENCES).nats == pytest.approx(there.evaluate(SENTENCES).nats, rel=1e-4)
    there.to("numpy").evaluate(SENTENCES)


# ---- bad input

@pytest.mark.parametrize("call, words", [
    (lambda m: m.evaluate("abcz"), "'z' at position 3"), (lambda m: m.evaluate("a"), "data: expected at least 2 symbols, got 1"),
    (lambda m: m.evaluate(np.array([0, 8])), "symbols 0 to 7"), (lambda m: m.evaluate(["ab"]), "need an end symbol"),
    (lambda m: m.fit(["ab"], steps=1, progress=False), "need an end symbol"),
    (lambda m: m.evaluate(np.zeros((3, 3), int)), "expected shape"),
    (lambda m: m.fit("abc", steps=1, progress=False), "32 streams need at least 33 symbols"), (lambda m: m.logits(IDS[:4] + 9), "ids"),
    (lambda m: m.fit(IDS, steps=1, T=0, progress=False), "T: expected"), (lambda m: m.log_probability(np.array([1.5])), "integer"),
    (lambda m: LanguageModel(LETTERS, RNN(5, 6), n_x=4), "n_x: the layer takes 5 features, got 4"),
    (lambda m: LanguageModel(LETTERS, layer=len), "layer: expected a layer such as RNN.*, got builtin_function_or_method without step"),
    (lambda m: LanguageModel(LETTERS, layer=RNN), "layer: expected a layer such as .*, got the class RNN itself"),
    (lambda m: LanguageModel(LETTERS, layer="RNN"), "layer: .*, got 'RNN'"),
    *[(lambda m, v=v: LanguageModel(v), "vocabulary: expected a Vocabulary .*, got " + words)
      for v, words in [("abc", "'abc'"), (["a", "b"], r"\['a', 'b'\]"), (None, "None"), (Vocabulary, "<class")]],
    *[(lambda m, o=o: LanguageModel(LETTERS, **o), f"{next(iter(o))}: expected .*{words}") for o, words in [
        ({"n_x": 0}, "got 0"), ({"n_x": 2.5}, "got 2.5"), ({"n_a": 0}, "got 0"), ({"n_a": "8"}, "got '8'"), ({"seed": -1}, "got -1"),
        ({"seed": "x"}, "got 'x'"), ({"dtype": np.float16}, "float32 or float64, got float16"),
        ({"dtype": int}, "float32 or float64, got int64")]],
    *[(lambda m, d=d: m.fit(d, steps=1, progress=False), words) for d, words in [
        ("", "data: expected at least 2 symbols, got 0"), (None, "data: expected a str, a Corpus, .*, got None"), (3.5, "data: .*got 3.5"),
        ([], "data: expected at least 1 sentence, got 0"), (["ab", 7], r"data\[1\]: expected a sentence .*, got 7"),
        ({"a": 1}, "data: .*got {'a': 1}"),
        (IDS + 9, "data: expected symbols 0 to 7, got 9 to 16"), ("ab" * 16, "data: 32 streams need .*batch_size")]],
    (lambda m: m.fit(IDS, valid="", steps=1, progress=False), "valid: expected at least 2 symbols, got 0"),
    (lambda m: m.fit(IDS, valid=7, steps=1, progress=False), "valid: .*got 7"),
    (lambda m: m.fit(IDS, seed=-1, steps=1, progress=False), "seed: .*got -1"),
    (lambda m: m.evaluate([]), "data: expected at least 1 sentence"),
    *[(lambda m, b=b: m.evaluate(IDS, batch_size=b), f"batch_size: expected a whole number >= 1, got {b!r}")
      for b in (0, -1, 2.5, "4", None)],
    *[(lambda m, i=i: m.step(i), "ids: expected " + words) for i, words in [
        (np.array([0, 8]), "symbols 0 to 7, got 0 to 8"), (np.array([-1]), "symbols 0 to 7, got -1"),
        (np.array([[1]]), r"shape \(B,\), got \(1, 1\)"),
        (1, r"shape \(B,\)"), (np.array([0.5]), "an integer"), ([0, 8], "symbols 0 to 7")]],
    (lambda m: m.logits(IDS), r"ids: expected shape \(T, B\), got \(400,\)"), (lambda m: m.log_probability(None), "sentence: .*got None"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(model_of())


def test_a_folder_is_no_file(tmp_path):
    for call in (model_of().save, LanguageModel.load):
        with pytest.raises(IsADirectoryError, match="path: expected a file, got the folder"):
            call(tmp_path)
        with pytest.raises(TypeError, match="path: expected the path of a file, got None"):
            call(None)
    assert list(tmp_path.parent.glob("*.partial")) == []


def test_a_corpus_is_its_text():
    corpus, (one, two) = Corpus("x", {"1": "abba", "2": "cdefgh"}, "s", "l", "c"), (model_of(), model_of())
    vocabulary = Vocabulary.characters(corpus.text)
    one, two = LanguageModel(vocabulary, n_a=4), LanguageModel(vocabulary, n_a=4)
    one.fit(corpus, valid=corpus, steps=3, batch_size=2, progress=False)
    two.fit(corpus.text, valid=corpus.text, steps=3, batch_size=2, progress=False)
    assert bits(one) == bits(two) and one.evaluate(corpus) == two.evaluate(corpus.text)

"""Four models on one contract: gradients, masks, seeds, files, resumed runs, devices, what is written, and bad input."""
import math
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest

from seqbook.backend import DeviceArray, asnumpy, device, leaves, tree_map
from seqbook.bptt import cross_entropy, gradcheck
from seqbook.language_model import LAYERS, LanguageModel
from seqbook.notation import Vocabulary, mask
from seqbook.optim import Adam
from seqbook.rnn import RNN, RNNState, softmax
from seqbook.rnn_types import (
    Classifier,
    Generator,
    Given,
    Score,
    Seq2Seq,
    SequenceModel,
    Tagger,
    activation,
    check_labels,
    into_state,
    label_ids,
    read_end,
    read_mean,
    score_of,
    state_size,
    tally,
)
from seqbook.sampling import beam_search, generate, greedy, score, stream
from seqbook.training import Shuffled, load_tree, save_tree, train

pytestmark = pytest.mark.filterwarnings("error")
LETTERS = Vocabulary("abcdef", end=".")
WORDS = Vocabulary(["one", "two", "three", "<s>"], end="<eos>")
TEXTS = ["abca", "f", "dde", "", "bcbcbc"]
FEATURES = [np.random.default_rng(T).normal(size=(T, 3)) for T in (4, 1, 3, 0, 6)]
LABELS = ["x", "y", "y", "x", "z"]
TAGS = [["x", None, "y", "z"], ["x"], ["y", "x", None], [], ["z"] * 6]
WRITTEN = ["ab", "", "cdefa", "f", "aa"]
VECTORS = np.random.default_rng(8).normal(size=(5, 2))
XYZ = ["x", "y", "z"]

LAYER_CASES = {
    "RNN": lambda n_x, n_a, dtype, seed: RNN(n_x, n_a, seed=seed, dtype=dtype),
    "relu": lambda n_x, n_a, dtype, seed: RNN(n_x, n_a, activation="relu", seed=seed, dtype=dtype),
    "GRU": lambda n_x, n_a, dtype, seed: layer("GRU")(n_x, n_a, seed=seed, dtype=dtype),
    "LSTM": lambda n_x, n_a, dtype, seed: layer("LSTM")(n_x, n_a, seed=seed, dtype=dtype),
    "Deep": lambda n_x, n_a, dtype, seed: layer("Deep")([RNN(n_x, 4, seed=seed, dtype=dtype), RNN(4, n_a, seed=seed + 1, dtype=dtype)]),
    "Bidirectional": lambda n_x, n_a, dtype, seed: layer("Bidirectional")(RNN(n_x, n_a, seed=seed, dtype=dtype)),
    "Bidirectional sum": lambda n_x, n_a, dtype, seed: layer("Bidirectional")(RNN(n_x, n_a, seed=seed, dtype=dtype), merge="sum"),
    "Deep Bidirectional": lambda n_x, n_a, dtype, seed: layer("Deep")([
        layer("Bidirectional")(RNN(n_x, 3, seed=seed, dtype=dtype)), layer("Bidirectional")(RNN(6, n_a, seed=seed + 1, dtype=dtype))]),
}
WRITING = [k for k in LAYER_CASES if "Bidirectional" not in k]
MODELS = {  # name -> (make(layer, dtype), inputs, targets)
    "classifier": (lambda a, t: Classifier(LETTERS, XYZ, a("RNN", 3, 5), n_x=3, dtype=t), TEXTS, LABELS),
    "classifier mean": (lambda a, t: Classifier(3, XYZ, a("RNN", 3, 5), read="mean", dtype=t), FEATURES, LABELS),
    "tagger": (lambda a, t: Tagger(LETTERS, XYZ, a("RNN", 3, 5), dtype=t), TEXTS, TAGS),
    "tagger features": (lambda a, t: Tagger(3, XYZ, a("RNN", 3, 5), dtype=t), FEATURES, TAGS),
    "generator": (lambda a, t: Generator(XYZ, LETTERS, a("RNN", 3, 5), dtype=t), LABELS, WRITTEN),
    "generator vectors": (lambda a, t: Generator(2, LETTERS, a("RNN", 3, 5), start="f", dtype=t), VECTORS, WRITTEN),
    "seq2seq": (lambda a, t: Seq2Seq(LETTERS, LETTERS, a("RNN", 3, 5), a("RNN", 3, 5, 7), dtype=t), TEXTS, WRITTEN),
    "seq2seq bridge": (lambda a, t: Seq2Seq(3, LETTERS, a("RNN", 3, 4), a("RNN", 3, 5, 7), start="a", dtype=t), FEATURES, WRITTEN),
}
PAIRS = [(m, k) for m in MODELS for k in LAYER_CASES if k in WRITING or not m.startswith("generator")]  # a two-way layer cannot write


def layer(name):
    "A layer's class; the test is skipped where its chapter is not there."
    return getattr(pytest.importorskip(LAYERS[name]), name)


def bare(name, dtype=np.float64, kind="RNN", decoder="RNN"):
    "A small model with biases that are not zero, its inputs and targets in its dtype."
    make, inputs, targets = MODELS[name]
    calls = []

    def part(_, n_x, n_a, seed=1):
        calls.append(seed)
        return LAYER_CASES[decoder if seed == 7 else kind](n_x, n_a, dtype, seed)

    model, rng = make(part, dtype), np.random.default_rng(3)
    model.params = tree_map(lambda a: (a + 0.3 * rng.normal(size=a.shape)).astype(dtype), model.params)
    if hasattr(inputs[0], "dtype"):
        inputs = [x.astype(dtype) for x in inputs]
    return model, inputs, targets


def bits(tree):
    return {k: asnumpy(a).tobytes() for k, a in leaves(tree).items()}


def check_gradients(model, batch, tol=1e-7):
    params = model.params

    def loss(tree):
        model.params = tree
        return model.loss_and_grads(batch)[0]

    _, grads, state = model.loss_and_grads(batch)
    assert state is None and list(leaves(grads)) == list(leaves(params))
    gradcheck(loss, params, grads).check(tol)
    model.params = params


# ---- gradients

@pytest.mark.parametrize("name, kind", PAIRS)
def test_gradients(name, kind):
    model, inputs, targets = bare(name, kind=kind, decoder=kind if kind in WRITING else "RNN")
    check_gradients(model, model.batch(inputs, targets))


@pytest.mark.parametrize("kind", WRITING)
def test_a_bridge_between_any_two_layers(kind):
    model, inputs, targets = bare("seq2seq", decoder=kind)
    assert (model.bridge is None) == (kind in ("RNN", "relu"))
    check_gradients(model, model.batch(inputs, targets))


@pytest.mark.parametrize("name", MODELS)
def test_without_lengths_all_are_as_long_as_the_batch(name):
    model, inputs, targets = bare(name)
    if not name.startswith("generator"):
        inputs = ["abc", "fed"] if isinstance(inputs[0], str) else [x[:3] for x in inputs if len(x) > 2][:2]
    targets = [["x", "y", None], ["z"] * 3] if name.startswith("tagger") else LABELS[:2] if name.startswith("cl") else ["ab", "ff"]
    batch = model.batch(inputs[:2], targets)
    without = tuple(None if a.shape == (2,) and a.tolist() == [3, 3] else a for a in batch)
    assert any(a is None for a in without)
    assert model.loss_and_grads(without)[0] == pytest.approx(model.loss_and_grads(batch)[0], rel=1e-12)
    check_gradients(model, without)


# ---- what is read off

class Cell(NamedTuple):
    a: object
    c: object


class Both(NamedTuple):
    forward: object
    backward: object


def test_activation_finds_what_a_state_says():
    a, c, b = (np.full((2, n), float(n)) for n in (3, 4, 5))
    dh = np.arange(16.0).reshape(2, 8)
    h, back = activation(Both(Cell(a, c), (RNNState(c), RNNState(b))))
    assert h.shape == (2, 8) and (h[:, :3] == 3).all() and (h[:, 3:] == 5).all()
    d = back(dh)
    assert isinstance(d, Both) and isinstance(d.forward, Cell) and d.forward.c is None and d.backward[0] is None
    assert (d.forward.a == dh[:, :3]).all() and (d.backward[1].a == dh[:, 3:]).all()
    for wrong in (None, (), a, 3):
        with pytest.raises(TypeError, match="state: expected a named tuple with a field a"):
            activation(wrong)


def test_reading_respects_the_lengths():
    rng = np.random.default_rng(0)
    unit, X, lengths = RNN(3, 4, dtype=np.float64), rng.normal(size=(6, 4, 3)), [6, 3, 1, 0]
    Y, end, _ = unit(X, None, lengths)
    h, _ = read_end(Y, end, lengths)
    m, _ = read_mean(Y, end, lengths)
    for i, n in enumerate(lengths):
        alone = unit(X[:n, i:i + 1])[0]
        assert np.allclose(h[i], alone[-1, 0] if n else 0, atol=1e-14)
        assert np.allclose(m[i], alone.mean(axis=0)[0] if n else 0, atol=1e-14)
    assert np.allclose(read_mean(Y[:3], end)[0], Y[:3].mean(axis=0))
    assert read_mean(Y[:0], end)[0].tolist() == np.zeros((4, 4)).tolist()


@pytest.mark.parametrize("kind", WRITING)
def test_a_vector_becomes_a_state(kind):
    unit = LAYER_CASES[kind](3, 4, np.float64, 0)
    n = state_size(unit)
    H = np.random.default_rng(0).normal(size=(2, n))
    state, back = into_state(unit, H)
    assert [a.shape for a in leaves(state).values()] == [a.shape for a in leaves(unit.initial_state(2)).values()]
    assert np.allclose(np.concatenate(list(leaves(state).values()), axis=1), np.tanh(H))
    w = tree_map(lambda s: np.random.default_rng(1).normal(size=s.shape), state)
    loss = lambda H: sum((a * b).sum() for a, b in zip(leaves(into_state(unit, H)[0]).values(), leaves(w).values()))
    gradcheck(loss, H, back(w)).check(1e-7)


# ---- the loss and the score

def test_the_loss_by_hand():
    right = np.array([[1 / 2, 1 / 8], [1 / 4, 0.9]])
    Z, targets, counts = np.log(np.stack([right, 1 - right], axis=-1)), np.zeros((2, 2), int), mask([2, 1], 2)
    assert cross_entropy(Z, targets, counts)[0] == pytest.approx(2 * math.log(2))
    assert tally(Z, targets, counts).tolist() == pytest.approx([6 * math.log(2), 1, 0, 3, 2])
    assert score_of([6, 1, 0, 3, 2]) == Score(2.0, 1 / 3, 0.0, 3, 2)
    assert score_of([0, 0, 2, 0, 2]) == Score(0.0, 0.0, 1.0, 0, 2)  # nothing was asked, nothing is wrong
    assert tally(Z[0], targets[0])[2:].tolist() == [1, 2, 2]


@pytest.mark.parametrize("name", MODELS)
def test_an_example_counts_the_same_alone_and_in_a_batch(name):
    model, inputs, targets = bare(name)
    together = model.evaluate(inputs, targets)
    alone = [model.evaluate([x], [y]) for x, y in zip(inputs, targets)]
    assert together.answers == sum(e.answers for e in alone) and together.examples == 5
    for field in ("nats", "accuracy"):
        assert getattr(together, field) * together.answers == pytest.approx(sum(getattr(e, field) * e.answers for e in alone), rel=1e-10)
    assert together.whole == pytest.approx(np.mean([e.whole for e in alone]))
    assert model.loss_and_grads(model.batch(inputs, targets))[0] == pytest.approx(together.nats, rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    "Random symbols, features and answers past the ends: the loss stays in every bit, and so do all gradients but for the order of a sum."
    model, inputs, targets = bare(name, np.float32)
    batch, rng = model.batch(inputs, targets), np.random.default_rng(0)

    def with_noise(a, lengths, high):
        noise = (rng.normal(size=a.shape) if a.dtype.kind == "f" else rng.integers(0, high, a.shape)).astype(a.dtype)
        inside = mask(lengths, len(a))
        return np.where(inside[..., None] if a.ndim == 3 else inside, a, noise)

    noisy = list(batch)
    if name.startswith(("classifier", "tagger", "seq2seq")):
        noisy[0] = with_noise(batch[0], batch[1], 7)
    if name.startswith("tagger"):
        noisy[2] = with_noise(batch[2], batch[1], 3)
    if name.startswith(("generator", "seq2seq")):
        noisy[-3], noisy[-2] = (with_noise(a, batch[-1], 7) for a in batch[-3:-1])
    assert any((a != b).any() for a, b in zip(batch, noisy))
    loss, grads, _ = model.loss_and_grads(batch)
    noisy_loss, noisy_grads, _ = model.loss_and_grads(tuple(noisy))
    assert loss == noisy_loss
    for (key, a), b in zip(leaves(grads).items(), leaves(noisy_grads).values()):
        assert np.allclose(a, b, atol=1e-6) if key.endswith("embedding.E") else (a == b).all(), key


def test_a_step_without_a_tag_is_not_learned():
    model, _, _ = bare("tagger")
    X, lengths, targets = model.batch(["abc"], [["x", None, "y"]])
    Z = model.logits(X, None, lengths)[0][:, 0]
    L = np.log(softmax(Z))
    assert model.loss_and_grads((X, lengths, targets))[0] == pytest.approx(-(L[0, 0] + L[2, 1]) / 2)
    loss, grads, _ = model.loss_and_grads(model.batch(["abc"], [[None] * 3]))
    assert loss == 0 and all((g == 0).all() for g in leaves(grads).values())
    assert model.evaluate(["abc"], [[None] * 3]) == Score(0.0, 0.0, 1.0, 0, 1)


# ---- the types

def test_one_step_is_a_standard_network():
    model, p = (m := Classifier(2, XYZ, n_a=6, dtype=np.float64)), m.params
    x = np.random.default_rng(0).normal(size=(1, 9, 2))
    Z, pullback = model.logits(x)
    assert np.allclose(Z, np.tanh(x[0] @ p["layer"].Wax.T + p["layer"].ba) @ p["output"].Wya.T + p["output"].by, atol=1e-14)
    assert (pullback(np.ones_like(Z))["layer"].Waa == 0).all()


def test_the_tagger_step_by_step_is_the_tagger_at_once():
    for name in ("tagger", "tagger features"):
        model, inputs, _ = bare(name)
        X, state = model.collate_inputs(model.encode_inputs(inputs[4:]))[0], None
        Z, end, _ = model.logits(X)
        half, middle, _ = model.logits(X[:2])
        assert np.allclose(np.concatenate([half, model.logits(X[2:], middle)[0]]), Z, atol=1e-14)
        for t in range(len(X)):
            z, state = model.step(X[t], state)
            assert np.allclose(z, Z[t], atol=1e-14)
        assert np.allclose(state.a, end.a, atol=1e-14)


def test_a_two_way_tagger_looks_ahead():
    both = layer("Bidirectional")(RNN(3, 4))
    ahead, one_way = Tagger(LETTERS, XYZ, both), Tagger(LETTERS, XYZ, RNN(3, 4))
    differ = lambda m: not np.allclose(*(p[:2] for p in m.probabilities(["aba", "abf"])), atol=1e-4)
    assert differ(ahead) and not differ(one_way)
    with pytest.raises(AttributeError, match="no step"):
        ahead.step(np.array([1]))


@pytest.mark.parametrize("name", ["classifier", "classifier mean", "tagger", "tagger features"])
def test_probabilities_and_predictions(name):
    model, inputs, targets = bare(name)
    P = model.probabilities(inputs)
    alone = [model.probabilities([x])[0] for x in inputs]
    assert all(np.allclose(p, q, atol=1e-12) and np.allclose(p.sum(axis=-1), 1) for p, q in zip(P, alone))
    assert [p.shape[:-1] for p in P] == ([()] * 5 if name.startswith("c") else [(4,), (1,), (3,), (0,), (6,)])
    assert isinstance(P, np.ndarray) == name.startswith("c") and P[0].dtype == np.float64
    y = model.predict(inputs)
    assert y == ([XYZ[k] for k in P.argmax(axis=1)] if name.startswith("c") else [[XYZ[k] for k in p.argmax(axis=1)] for p in P])
    assert model.predict([]) == [] and len(model.probabilities([])) == 0
    if name.startswith("c"):
        assert model.evaluate(inputs, targets).accuracy == np.mean([a == b for a, b in zip(y, targets)])


def test_teacher_forcing_begins_with_start_and_ends_with_end():
    a, b = LETTERS.encode("ab")
    f, end = LETTERS["f"], LETTERS.end_id
    for name, start in (("generator", end), ("generator vectors", f)):
        model, inputs, _ = bare(name)
        *_, ids, targets, lengths = model.batch(inputs[:2], ["ab", ""])
        assert ids[:, 0].tolist() == [start, a, b] and targets[:, 0].tolist() == [a, b, end]
        assert ids[0, 1] == start and targets[0, 1] == end and lengths.tolist() == [3, 1]


@pytest.mark.parametrize("name", ["generator", "generator vectors", "seq2seq", "seq2seq bridge"])
def test_what_is_written(name):
    "The protocol of sampling: the probability of a text is that of teacher forcing; greedy is `whole`; all texts of all lengths share 1."
    model, inputs, targets = bare(name)
    for x, y in zip(inputs, targets):
        e = model.evaluate([x], [y])
        assert score(model.given([x]), y, model.prompt) == pytest.approx(-e.nats * e.answers, rel=1e-9)
        assert (model.predict([x], length=10) == [y]) == (e.whole == 1)
    texts = model.predict(inputs, length=10)
    assert texts == [greedy(model.given([x]), model.start_symbol, length=10) for x in inputs]
    for x, s in zip(inputs, texts):
        assert len(s) == 10 or model.evaluate([x], [s]).whole == 1
    best = model.beam(inputs[0], width=7, length=3, alpha=0)
    exact = beam_search(model.given(inputs[:1]), model.prompt, width=400, length=3, alpha=0, n=1)[0]
    assert best[0].log_probability == pytest.approx(exact.log_probability)
    assert "".join(stream(model.given(inputs[:1]), model.prompt, length=10, temperature=0)) == texts[0]


@pytest.mark.parametrize("name", ["generator", "seq2seq bridge"])
def test_samples_follow_the_distribution_and_the_seed(name):
    model, inputs, _ = bare(name)
    drawn = model.sample(inputs[:2], n=2000, length=1, seed=3)
    assert drawn == model.sample(inputs[:2], n=2000, length=1, seed=3) != model.sample(inputs[:2], n=2000, length=1, seed=4)
    for k, x in enumerate(inputs[:2]):
        given = model.given([x])
        P = softmax(given.step(np.array([LETTERS[model.start_symbol]]))[0])[0]
        share = np.array([np.mean([s == ("" if v == LETTERS.end else v) for s in drawn[2000 * k:2000 * (k + 1)]]) for v in LETTERS])
        assert abs(share - P).max() < 0.05
    assert generate(model.given(inputs[:1]), [model.prompt], n=3, seed=5) == model.sample(inputs[:1], n=3, seed=5, length=200)


def test_words_and_a_start_symbol_of_its_own():
    model = Seq2Seq(LETTERS, WORDS, n_x=4, n_a=8, start="<s>")
    assert model.prompt == ["<s>"]
    model.fit(["a", "ab"], ["one", "one two three"], steps=150, batch_size=2, optimizer=Adam(0.02), progress=False)
    assert model.predict(["a", "ab"]) == ["one", "one two three"]
    assert model.evaluate(["ab"], [["one", "two", "three"]]) == model.evaluate(["ab"], [WORDS.encode(["one", "two", "three"])])


def test_the_states_of_many_streams():
    model, inputs, _ = bare("seq2seq")
    given = model.given(inputs[:3])
    start = LETTERS.end_id
    logits, _ = given.step(np.full(6, start))
    assert (logits[::2] == logits[1::2]).all() and not np.allclose(logits[0], logits[2])
    for n in (4, 0):
        with pytest.raises(ValueError, match="ids: expected a multiple of the 3 states"):
            given.step(np.full(n, start))


# ---- training

def fitted(name, steps=12, seed=0, **options):
    model, inputs, targets = bare(name, np.float32)
    history = model.fit(inputs, targets, steps=steps, batch_size=2, seed=seed, log_every=1, progress=False, **options)
    return model, history


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_is_a_run(name):
    (one, h1), (two, h2), (other, h3) = fitted(name), fitted(name), fitted(name, seed=1)
    assert bits(one.params) == bits(two.params) != bits(other.params) and h1 == h2 != h3
    assert {a.dtype for a in leaves(one.params).values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", MODELS)
def test_it_can_learn_five_examples_by_heart(name):
    model, inputs, targets = bare(name, np.float32)
    before = model.evaluate(inputs, targets).nats
    history = model.fit(inputs, targets, valid=(inputs, targets), steps=300, batch_size=5, optimizer=Adam(0.02), evaluate_every=100,
                        progress=False)
    after = model.evaluate(inputs, targets)
    assert after.nats < before / 4 and len(history["valid"][0]) == 3
    assert history["valid"][1].min() == pytest.approx(after.nats, rel=1e-5)  # the best parameters are kept


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cut", [4, 6])  # in an epoch of three batches, the last of one example: within and at the end
def test_a_resumed_run_is_the_same_run(tmp_path, name, cut):
    whole, history = fitted(name)
    fitted(name, steps=cut, checkpoint=tmp_path / "c", seconds=None)
    resumed, again = fitted(name, checkpoint=tmp_path / "c", seconds=None)
    assert bits(resumed.params) == bits(whole.params) and again == history


def test_the_general_loop_takes_such_a_model():
    model, inputs, targets = bare("tagger", np.float32)
    examples = model.examples(inputs, targets)
    batches = Shuffled(5, 2, lambda rows: model.collate([examples[i] for i in rows]), [len(x) for x, _ in examples])
    train(model, batches, Adam(2e-3), 12, clip=1.0, log_every=1, progress=False)
    assert bits(model.params) == bits(fitted("tagger")[0].params)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    fitted("classifier", steps=2, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="saved by another run: model"):
        fitted("classifier mean", steps=2, checkpoint=tmp_path / "c")


def test_a_model_of_ones_own():
    class Constant(SequenceModel):
        parts, _arguments = (), {}
    with pytest.raises(NotImplementedError, match="Constant: a model of sequences needs a method forward"):
        Constant().loss_and_grads(())


# ---- files

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(tmp_path, name, dtype):
    model, inputs, targets = bare(name, dtype)
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    assert bits(again.params) == bits(model.params) and again.config() == model.config() and repr(again) == repr(model)
    assert again.evaluate(inputs, targets) == model.evaluate(inputs, targets)
    assert again.predict(inputs) == model.predict(inputs)
    if hasattr(model, "probabilities"):
        assert all(np.array_equal(p, q) for p, q in zip(again.probabilities(inputs), model.probabilities(inputs)))
    else:
        assert again.sample(inputs, n=2) == model.sample(inputs, n=2) and again.prompt == model.prompt
    again.fit(inputs, targets, steps=1, batch_size=2, progress=False)  # the arrays that were read can be trained


@pytest.mark.parametrize("kind", LAYER_CASES)
def test_layers_come_back(tmp_path, kind):
    model, inputs, targets = bare("seq2seq", np.float32, kind, kind if kind in WRITING else "RNN")
    model.save(tmp_path / "m")
    assert Seq2Seq.load(tmp_path / "m").evaluate(inputs, targets) == model.evaluate(inputs, targets)


def test_labels_may_be_numbers(tmp_path):
    model = Classifier(LETTERS, np.arange(3), n_a=4)
    model.save(tmp_path / "m")
    assert Classifier.load(tmp_path / "m").predict(["a", "b"]) == model.predict(["a", "b"]) and model.classes == (0, 1, 2)
    assert model.evaluate(["a", "b"], np.array([0, 2])) == model.evaluate(["a", "b"], [0, 2])


@pytest.mark.parametrize("name", ["classifier", "seq2seq"])
def test_numbers_of_numpy_can_be_saved(tmp_path, name):
    make, kind = {"classifier": (lambda seed: Classifier(np.int64(3), np.array([True, False]), n_a=np.int64(4), seed=seed), Classifier),
                  "seq2seq": (lambda seed: Seq2Seq(np.int64(3), LETTERS, n_x=np.int64(2), n_a=np.int64(4), seed=seed), Seq2Seq)}[name]
    for seed in (np.int64(3), None, np.random.default_rng(3)):
        make(seed).save(tmp_path / "m")
        assert kind.load(tmp_path / "m").config()["seed"] in (3, None)
    assert bits(make(np.random.default_rng(3)).params) == bits(make(3).params)


def test_a_layer_that_no_file_can_name_is_refused(tmp_path):
    class Own:
        n_x, n_a = 3, 4

        def __init__(self):
            self.inner = RNN(3, 4)
            self.params, self.initial_state = self.inner.params, self.inner.initial_state

        def __call__(self, *args, **options):
            return self.inner(*args, **options)

    model = Classifier(LETTERS, XYZ, Own())
    assert model.config()["layer"] == {"class": "Own"} and len(model.predict(["a"])) == 1
    with pytest.raises(TypeError, match="layer: expected a layer with a method config, .* got Own"):
        model.save(tmp_path / "m")


@pytest.mark.parametrize("change, words", [
    ({"dtype": "float64"}, "m: expected float64 parameters, got embedding.E of float32"),
    ({"seed": "a"}, "m: its description is not that of a classifier .*seed"),
    ({"layer": {}}, "m: its description is not that of a classifier"),
    ({"more": 1}, "m: its description is not that of a classifier .*more"),
])
def test_a_description_that_does_not_fit_is_refused(tmp_path, change, words):
    bare("classifier", np.float32)[0].save(tmp_path / "m")
    arrays, meta = load_tree(tmp_path / "m")
    save_tree(tmp_path / "m", arrays, meta | change, kind="classifier")
    with pytest.raises(ValueError, match=words):
        Classifier.load(tmp_path / "m")


def test_files_that_are_no_such_model(tmp_path):
    bare("tagger")[0].save(tmp_path / "m")
    with pytest.raises(ValueError, match="expected a classifier, this is a tagger"):
        Classifier.load(tmp_path / "m")
    with pytest.raises(ValueError, match="expected a language model, this is a tagger"):
        LanguageModel.load(tmp_path / "m")
    arrays, meta = load_tree(tmp_path / "m")
    save_tree(tmp_path / "other", {k: v for k, v in arrays.items() if k != "output.by"}, meta, kind="tagger")
    with pytest.raises(ValueError, match="output.by"):
        Tagger.load(tmp_path / "other")


# ---- devices

@pytest.mark.parametrize("name, kind", PAIRS)
def test_on_the_pretended_device(name, kind, synchronisations):
    decoder = kind if kind in WRITING else "RNN"
    (host, inputs, targets), (there, _, _) = (bare(name, np.float32, kind, decoder) for _ in range(2))
    there.params = tree_map(device.asarray, there.params)
    batch = there.batch(inputs, targets)
    loss, grads, _ = there.loss_and_grads(batch)
    assert synchronisations.total() == 0
    assert isinstance(loss, DeviceArray) and all(isinstance(a, DeviceArray) for a in leaves(grads).values())
    wanted, host_grads, _ = host.loss_and_grads(batch)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
    assert all(np.allclose(asnumpy(a), b, atol=1e-6) for a, b in zip(leaves(grads).values(), leaves(host_grads).values()))
    synchronisations.clear()
    assert there.evaluate(inputs, targets) == pytest.approx(host.evaluate(inputs, targets), rel=1e-6)
    assert synchronisations.total() == 1  # five numbers, in one array
    assert there.predict(inputs) == host.predict(inputs)


@pytest.mark.parametrize("name", ["tagger", "seq2seq bridge"])
def test_training_on_the_pretended_device(name, synchronisations):
    (host, inputs, targets), (there, _, _) = (bare(name, np.float32) for _ in range(2))
    there.params = tree_map(device.asarray, there.params)
    run = lambda m: m.fit(inputs, targets, steps=6, batch_size=2, log_every=3, progress=False)
    assert np.allclose(run(there)["loss"][1], run(host)["loss"][1], rtol=1e-6)
    assert synchronisations.total() == synchronisations["float"] == 2 * 6  # a loss and a norm for each step, fetched twice together


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_on_the_gpu(tmp_path, name):
    (host, inputs, targets), (there, _, _) = (bare(name, np.float32) for _ in range(2))
    there.to("cupy")
    assert there.evaluate(inputs, targets) == pytest.approx(host.evaluate(inputs, targets), rel=1e-4)
    for a, b in zip(*(leaves(m.loss_and_grads(m.batch(inputs, targets))[1]).values() for m in (there, host))):
        assert np.allclose(asnumpy(a), b, rtol=1e-3, atol=1e-5)
    assert there.predict(inputs) == host.predict(inputs)
    there.fit(inputs, targets, valid=(inputs, targets), steps=5, batch_size=2, progress=False)
    there.save(tmp_path / "m")
    assert type(host).load(tmp_path / "m").evaluate(inputs, targets).nats == pytest.approx(there.evaluate(inputs, targets).nats, rel=1e-4)
    there.to("numpy").evaluate(inputs, targets)


# ---- bad input

class Backwards:
    "A layer that has no step."
    n_x, n_a, params = 3, 4, {}
    initial_state = staticmethod(lambda B: RNNState(np.zeros((B, 4), np.float32)))

    def __call__(self, X, state=None, lengths=None): ...


one = RNN(3, 5)


@pytest.mark.parametrize("make, words", [
    (lambda: Classifier(LETTERS, "xy"), "classes: expected a list of labels, got 'xy'"),
    (lambda: Classifier(LETTERS, 3), "classes: expected a list of labels, got 3"),
    (lambda: Classifier(LETTERS, ["x"]), "classes: expected at least two labels, each once"),
    (lambda: Tagger(LETTERS, ["x", "y", "x"]), "tags: expected at least two labels, each once"),
    (lambda: Tagger(LETTERS, ["x", 0.5]), "tags: expected strings or whole numbers, got 0.5"),
    (lambda: Classifier(LETTERS, XYZ, read="last"), "read: expected one of end, mean, got 'last'"),
    (lambda: Classifier("abc", XYZ), "inputs: expected a Vocabulary, or a number of features, got 'abc'"),
    (lambda: Classifier(0, XYZ), "inputs: expected a Vocabulary, or a number of features, got 0"),
    (lambda: Classifier(4, XYZ, one), "inputs: the layer takes 3 features, got 4"),
    (lambda: Classifier(LETTERS, XYZ, one, n_x=4), "n_x: the layer takes 3 features, got 4"),
    (lambda: Classifier(LETTERS, XYZ, one, dtype=np.float64), "layer.params.Wax: expected float64, got float32"),
    (lambda: Classifier(LETTERS, XYZ, RNN), "layer: expected a recurrent layer such as RNN.n_x, n_a., got the class RNN"),
    (lambda: Classifier(LETTERS, XYZ, len), "layer: expected a recurrent layer such as"),
    (lambda: Generator("xyz", LETTERS), "inputs: expected a list of labels, got 'xyz'"),
    (lambda: Generator(0, LETTERS), "inputs: expected a whole number >= 1, got 0"),
    (lambda: Generator(True, LETTERS), "inputs: expected a whole number >= 1, got True"),
    (lambda: Generator(XYZ, "abc"), "vocabulary: expected a Vocabulary, got str"),
    (lambda: Generator(XYZ, Vocabulary("abc")), "vocabulary: sentences need an end symbol"),
    (lambda: Generator(XYZ, LETTERS, start="<s>"), "start: expected a symbol of the vocabulary, got '<s>'"),
    (lambda: Generator(XYZ, LETTERS, Backwards()), "got Backwards without step"),
    (lambda: Seq2Seq(LETTERS, LETTERS, decoder=RNN(3, 5, dtype=np.float64)), "decoder.params.Wax: expected float32, got float64"),
    (lambda: Seq2Seq("abc", LETTERS), "source: expected a Vocabulary, or a number of features"),
    (lambda: Seq2Seq(LETTERS, 3), "target: expected a Vocabulary, got int"),
    (lambda: Seq2Seq(LETTERS, LETTERS, one, one), "decoder: expected another layer than the encoder"),
    (lambda: Seq2Seq(LETTERS, LETTERS, RNN(3, 5, dtype=np.float64)), "encoder.params.Wax: expected float32, got float64"),
    (lambda: Seq2Seq(LETTERS, LETTERS, decoder=Backwards()), "decoder: .* got Backwards without step"),
    (lambda: Seq2Seq(LETTERS, Vocabulary("abc")), "target: sentences need an end symbol"),
    (lambda: Classifier(LETTERS, XYZ, n_x=0), "n_x: expected a whole number >= 1, got 0"),
    (lambda: Classifier(3, XYZ, n_x=5), "n_x: a step has 3 features, as inputs says; got 5"),
    (lambda: Classifier(LETTERS, XYZ, dtype="foo"), "dtype: expected float32 or float64, got 'foo'"),
    (lambda: Classifier(LETTERS, XYZ, seed=-1), "seed: expected a whole number >= 0, got -1"),
    (lambda: Seq2Seq(LETTERS, LETTERS, seed="a"), "seed: expected a whole number >= 0, got 'a'"),
    (lambda: Classifier(LETTERS, {"x", "y"}), "classes: expected a list of labels, got {"),
    (lambda: Classifier(LETTERS, {"x": 0, "y": 1}), "classes: expected a list of labels, got {"),
    (lambda: Classifier(LETTERS, np.array(3)), r"classes: expected a list of labels, got array\(3\)"),
    (lambda: Classifier(LETTERS, XYZ, read=["end"]), r"read: expected one of end, mean, got \['end'\]"),
])
def test_bad_arguments_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


@pytest.mark.parametrize("name, inputs, targets, words", [
    ("classifier", "abc", ["x"], "inputs: expected a list of sequences, got str"),
    ("classifier", np.zeros((3, 2), int), LABELS[:2], r"inputs: expected a list of sequences, got one array of shape \(3, 2\)"),
    ("classifier", ["ab", "aq"], ["x", "y"], r"inputs\[1\]: tokens: 'q' at position 1"),
    ("classifier", [np.array([0, 7])], ["x"], r"inputs\[0\]: .*expected symbols 0 to 6, got 0 to 7"),
    ("classifier", ["ab"], ["w"], r"targets\[0\]: expected one of 'x', 'y', 'z', got 'w'"),
    ("classifier", ["ab"], [None], r"targets\[0\]: expected one of"),
    ("classifier", ["ab"], [["x"]], r"targets\[0\]: expected one of"),
    ("classifier", ["ab"], "x", "targets: expected a list of labels, got 'x'"),
    ("classifier", ["ab"], {"x": 1}, "targets: expected a list of labels, got {'x': 1}"),
    ("classifier", {"ab": 1}, ["x"], "inputs: expected a list of sequences, got dict"),
    ("classifier", {"ab"}, ["x"], "inputs: expected a list of sequences, got set"),
    ("classifier", ["ab", None], ["x", "y"], r"^inputs\[1\]: expected a sentence \(a str, a list of tokens or an id array\), got None"),
    ("classifier", [np.zeros(2)], ["x"], r"^inputs\[0\]: expected an integer, got float64; convert it with inputs\[0\].astype"),
    ("classifier mean", [np.ones((2, 3)), [[1, 2, 3], [1]]], ["x", "y"], r"inputs\[1\]: expected numbers of shape \(T, 3\), got .*\[1\]\]"),
    ("classifier mean", ["abc"], ["x"], r"inputs\[0\]: expected numbers of shape \(T, 3\), got 'abc'"),
    ("classifier mean", [np.full((2, 3), np.nan)], ["x"], r"inputs\[0\]: expected finite numbers, got nan"),
    ("tagger", ["abc"], [None], r"targets\[0\]: expected a list of labels, got None"),
    ("tagger", ["abc"], [3], r"targets\[0\]: expected a list of labels, got 3"),
    ("generator vectors", [[1, 2], [1]], ["a", "b"], r"inputs\[1\]: expected shape \(2,\), got \(1,\)"),
    ("generator vectors", [[1, np.inf]], ["a"], r"inputs\[0\]: expected finite numbers, got inf"),
    ("generator vectors", [np.ones(2, np.float32)], ["a"], r"inputs\[0\]: expected float64, got float32"),
    ("generator vectors", None, ["a"], "inputs: expected a list of sequences, got NoneType"),
    ("classifier", ["ab"], LABELS, "got 1 inputs and 5 targets"),
    ("classifier", [], [], "got 0 inputs and 0 targets"),
    ("classifier mean", [np.zeros((2, 4))], ["x"], r"inputs\[0\]: expected shape \(T, 3\), got \(2, 4\)"),
    ("classifier mean", [np.zeros((2, 3), np.float32)], ["x"], r"inputs\[0\]: expected float64, got float32"),
    ("tagger", ["abc"], [["x", "y"]], r"targets\[0\]: expected 3 tags, one at each step, got 2"),
    ("tagger", ["abc"], [["x", "y", "w"]], r"targets\[0\]\[2\]: expected one of"),
    ("tagger", ["abc"], "xyz", "targets: expected a list of sequences, got str"),
    ("generator", ["w"], ["ab"], r"inputs\[0\]: expected one of"),
    ("generator", ["x"], "ab", "targets: expected a list of sequences, got str"),
    ("generator", ["x"], ["ab."], r"targets\[0\]: expected a text without the end symbol"),
    ("generator", ["x"], ["aq"], r"targets\[0\]: tokens: 'q'"),
    ("generator vectors", np.zeros((2, 3)), ["a", "b"], r"inputs: expected shape \(N, 2\), got \(2, 3\)"),
    ("generator vectors", np.zeros((2, 2), np.float32), ["a", "b"], "inputs: expected float64"),
    ("seq2seq", ["ab"], ["a", "b"], "got 1 inputs and 2 targets"),
    ("seq2seq", ["aq"], ["a"], r"inputs\[0\]: tokens: 'q'"),
])
def test_bad_examples_are_named(name, inputs, targets, words):
    model, *_ = bare(name)
    for call in (model.evaluate, model.batch, lambda x, y: model.fit(x, y, steps=1, progress=False)):
        with pytest.raises((TypeError, ValueError), match=words):
            call(inputs, targets)


def test_nothing_to_write_about():
    with pytest.raises(ValueError, match="inputs: expected at least one, got none"):
        bare("seq2seq")[0].sample([])
    assert bare("generator")[0].predict([]) == bare("generator vectors")[0].predict([]) == []
    for inputs in (None, 3, {"ab"}, "ab", (x for x in ["ab"])):
        for model in (bare("seq2seq")[0], bare("generator")[0]):
            with pytest.raises(TypeError, match="inputs: expected a list of"):
                model.given(inputs)


@pytest.mark.parametrize("options, words", [
    ({"valid": ()}, r"valid: expected a pair \(inputs, targets\), got \(\)"),
    ({"valid": True}, "valid: expected a pair .* got True"),
    ({"valid": (["a"], ["w"])}, r"valid: targets\[0\]: expected one of 'x', 'y', 'z', got 'w'"),
    ({"optimizer": 0}, "optimizer: expected an optimiser such as"),
    ({"batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
])
def test_bad_options_of_fit_are_named(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        bare("classifier")[0].fit(["ab"], ["x"], **{"steps": 1, "progress": False} | options)


@pytest.mark.parametrize("size", [0, -1, 1.5, None])
def test_batch_sizes_are_checked(size):
    with pytest.raises((TypeError, ValueError), match="batch_size: expected a whole number >= 1"):
        bare("classifier")[0].probabilities(["a"], size)
    with pytest.raises((TypeError, ValueError), match="batch_size: expected a whole number >= 1"):
        bare("generator")[0].predict(["x"], batch_size=size)


@pytest.mark.parametrize("call, words", [
    (lambda Z, t: tally(Z, t.T), r"targets: expected shape \(2, 3\), got \(3, 2\)"),
    (lambda Z, t: tally(Z, t[0]), r"targets: expected shape \(2, 3\), got \(3,\)"),
    (lambda Z, t: tally(Z, t * 1.0), "targets: expected an integer, got float64"),
    (lambda Z, t: tally(Z, t, t + 2), "counts: expected bool, got int64"),
    (lambda Z, t: tally(Z, t, (t == 0).T), r"counts: expected shape \(2, 3\), got \(3, 2\)"),
    (lambda Z, t: into_state(RNN(3, 4), Z[0]), r"H: expected shape \(B, 4\), got \(3, 5\)"),
    (lambda Z, t: Given(bare("seq2seq")[0].decoder, None), "start: expected states such as .* got None"),
])
def test_bad_arrays_are_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(np.zeros((2, 3, 5)), np.zeros((2, 3), int))


def test_parameters_are_set_all_together():
    model = bare("classifier")[0]
    with pytest.raises(ValueError, match="params: 'embedding.E' is missing"):
        model.params = {"layer": model.params["layer"]}
    with pytest.raises(ValueError, match=r"params.output.by: expected shape \(3,\), got \(2,\)"):
        model.params = {**model.params, "output": model.params["output"]._replace(by=np.zeros(2))}


def test_labels():
    assert check_labels("y", range(3)) == (0, 1, 2) and check_labels("y", np.array(["a", "b"])) == ("a", "b")
    assert label_ids("y", ("a", "b"), ["b", None, "a"], gaps=True).tolist() == [1, -1, 0]


def test_the_layers_of_the_book_are_tested_where_they_are():
    "Nothing is skipped for want of a chapter that is there."
    for name, module in LAYERS.items():
        if find_spec(module):
            assert layer(name)

"""CTC: the definition by enumeration, the plain form and the fast form agree; PyTorch agrees; decoding against exhaustive search."""
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbook.backend import DeviceArray, asnumpy, device, leaves, to, tree_map
from seqbook.bptt import gradcheck
from seqbook.brnn import Bidirectional
from seqbook.ctc import (
    Transcriber,
    alignments,
    best_alignment,
    collapse,
    ctc_each,
    ctc_enumerated,
    ctc_loss,
    ctc_plain,
    edit_distance,
    frames_needed,
    greedy_labels,
    prefix_beam,
)
from seqbook.gru import GRU
from seqbook.language_model import layer_from
from seqbook.notation import pad
from seqbook.optim import Adam
from seqbook.rnn import log_softmax

pytestmark = pytest.mark.filterwarnings("error")
SAID = [[1, 2, 1], [2, 2], [], [3], [1, 1, 1], [], [3, 3, 2, 2]]  # repeated labels, empty targets
LENGTHS = [9, 6, 4, 1, 5, 0, 8]                                   # more than needed, just enough, none at all


def ragged(dtype=np.float64, blank=0, seed=0, T=10, scale=2.0):
    "A batch with everything in it; any label may be the blank."
    targets, u = pad([np.array(s, np.int64) for s in SAID])
    order = np.array([blank] + [k for k in range(4) if k != blank])  # label k of SAID -> label with this blank
    return (scale * np.random.default_rng(seed).normal(size=(T, len(SAID), 4))).astype(dtype), order[targets], LENGTHS, u


def every_target(n, labels=(1, 2)):
    return [t for U in range(n + 1) for t in product(labels, repeat=U)]


# ---- value

@pytest.mark.parametrize("T", range(6))
def test_plain_and_fast_equal_the_definition(T, rng):
    Z = rng.normal(size=(T, 3))
    for target in every_target(T + 1):
        exact, plain = ctc_enumerated(Z, target), ctc_plain(Z, target)[0]
        fast = ctc_loss(Z[:, None], np.array(target, np.int64).reshape(-1, 1))[0]
        assert (exact == np.inf) == (frames_needed(target) > T)
        assert plain == pytest.approx(exact, rel=1e-12) and fast == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("T", range(1, 6))
def test_all_answers_together_have_probability_one(T, rng):
    Z = rng.normal(size=(T, 1, 3))
    p = [np.exp(-ctc_loss(Z, np.array(t, np.int64).reshape(-1, 1))[0]) for t in every_target(T)]
    assert sum(p) == pytest.approx(1, rel=1e-12)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_fast_equals_plain_on_any_batch(data):
    T, B, n_y = (data.draw(st.integers(*r)) for r in ((0, 7), (1, 4), (2, 4)))
    blank = data.draw(st.integers(0, n_y - 1))
    label = st.sampled_from([k for k in range(n_y) if k != blank])
    said = [data.draw(st.lists(label, max_size=4)) for _ in range(B)]
    lengths = [data.draw(st.integers(0, T)) for _ in range(B)]
    Z = 3 * np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(T, B, n_y))
    targets, u = pad([np.array(s, np.int64) for s in said], value=-7)
    nats, back = ctc_each(Z, targets, lengths, u, blank)
    quiet, back_quiet = ctc_each(Z, targets, lengths, u, blank, zero_infinity=True)
    dZ, dZ_quiet = back(), back_quiet()
    for i, n in enumerate(lengths):
        loss, plain = ctc_plain(Z[:n, i], said[i], blank) if n >= frames_needed(said[i]) else (np.inf, None)
        assert (nats[i] == np.inf) == (loss == np.inf)
        assert quiet[i] == (0 if loss == np.inf else nats[i])
        assert (dZ[n:, i] == 0).all() and (dZ_quiet[n:, i] == 0).all()
        if loss < np.inf:
            assert nats[i] == pytest.approx(loss, rel=1e-11, abs=1e-12)
            assert np.allclose(dZ[:n, i], plain(), atol=1e-12) and np.array_equal(dZ[:n, i], dZ_quiet[:n, i])
        else:
            assert np.isnan(dZ[:n, i]).all() and (dZ_quiet[:, i] == 0).all()


def test_the_mean_and_the_weights_of_the_examples(rng):
    batch = ragged()
    (nats, each), (loss, mean) = ctc_each(*batch), ctc_loss(*batch)
    weights = rng.normal(size=len(nats))
    assert loss == pytest.approx(nats.mean(), rel=1e-14)
    assert np.allclose(mean(3.0), 3 * each() / len(nats), atol=1e-15)
    assert np.allclose(each(weights), each() * weights[:, None], atol=1e-14)
    assert np.array_equal(mean(), mean())  # twice


def test_labels_that_cannot_be_said():
    "Scores of -inf: a label or the blank is forbidden at some frames."
    Z = np.random.default_rng(0).normal(size=(5, 3))
    Z[1, 0] = Z[2, 1] = -np.inf
    for target in every_target(3):
        exact = ctc_enumerated(Z, target)
        loss, back = ctc_loss(Z[:, None], np.array(target, np.int64).reshape(-1, 1))
        assert loss == pytest.approx(exact, rel=1e-12)
        if exact < np.inf:
            dZ = back()[:, 0]
            assert np.isfinite(dZ).all() and dZ[1, 0] == dZ[2, 1] == 0
            at = lambda z, target=target: ctc_enumerated(np.where(np.isfinite(Z), z, -np.inf), target)
            gradcheck(at, np.where(np.isfinite(Z), Z, 0), dZ).check(1e-7)


def test_sizes_at_the_edge():
    loss, back = ctc_loss(np.zeros((0, 2, 3)), np.zeros((0, 2), np.int64))
    assert loss == 0 and back().shape == (0, 2, 3)
    loss, back = ctc_loss(np.zeros((4, 0, 3)), np.zeros((2, 0), np.int64))
    assert loss == 0 and back().shape == (4, 0, 3)
    loss, back = ctc_loss(np.zeros((4, 1, 1)), np.zeros((0, 1), np.int64))  # the blank alone
    assert loss == 0 and (back() == 0).all()


def test_large_scores_and_long_recordings_stay_finite():
    Z = np.zeros((3000, 1, 5), np.float32)
    Z[:, :, 0] = 80.0  # a network that is sure of nothing but blanks
    loss, back = ctc_loss(Z, np.ones((20, 1), np.int64) + np.arange(20)[:, None] % 4)
    assert 1000 < loss < 1700 and np.isfinite(back()).all() and loss.dtype == back().dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(dtype):
    loss, back = ctc_loss(*ragged(dtype))
    assert loss.dtype == back().dtype == dtype


# ---- gradient

@pytest.mark.parametrize("blank", [0, 2, 3])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_gradient(blank, scale, rng):
    Z, *rest = ragged(blank=blank, scale=scale)
    weights = rng.normal(size=len(SAID))
    report = gradcheck(lambda z: (ctc_each(z, *rest, blank)[0] * weights).sum(), Z, ctc_each(Z, *rest, blank)[1](weights))
    report.check(1e-7)
    gradcheck(lambda z: ctc_loss(z, *rest, blank)[0], Z, ctc_loss(Z, *rest, blank)[1]()).check(1e-7)


def test_gradient_without_lengths(rng):
    Z, targets = rng.normal(size=(6, 3, 4)), rng.integers(1, 4, (2, 3))
    gradcheck(lambda z: ctc_loss(z, targets)[0], Z, ctc_loss(Z, targets)[1]()).check(1e-7)


def test_a_planted_mistake_is_found():
    Z, *rest = ragged()
    with pytest.raises(AssertionError, match="central difference"):
        gradcheck(lambda z: ctc_loss(z, *rest)[0], Z, 1.001 * ctc_loss(Z, *rest)[1]()).check(1e-7)


# ---- PyTorch

def torch_ctc(torch, X, targets, lengths, u, **options):
    "Their loss for our arguments."
    ly, labels = torch.log_softmax(X, -1), torch.from_numpy(targets.T.copy())
    return torch.nn.functional.ctc_loss(ly, labels, torch.tensor(lengths), torch.tensor(u), **options)


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 2e-6)], ids=["float64", "float32"])
def test_pytorch(dtype, tol, blank, reduction, zero_infinity):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    Z, targets, lengths, u = ragged(dtype, blank)
    if zero_infinity:
        lengths = [2, *lengths[1:]]  # three labels, two frames
    X = torch.tensor(Z, requires_grad=True)
    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    theirs = torch_ctc(torch, X, targets, lengths, u, **options)
    theirs.sum().backward()
    nats, back = ctc_each(Z, targets, lengths, u, blank, zero_infinity)
    weights = (1 / np.maximum(u, 1) / len(u) if reduction == "mean" else np.ones(len(u))).astype(dtype)  # their mean: by label first
    ours = nats if reduction == "none" else (nats * weights).sum()
    assert np.allclose(ours, theirs.detach().numpy(), rtol=tol, atol=tol)
    assert abs(back(weights) - X.grad.numpy()).max() <= tol


def test_pytorch_on_a_long_batch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    Z, targets = rng.normal(size=(200, 8, 30)), rng.integers(1, 30, (40, 8))
    lengths, u = rng.integers(100, 201, 8).tolist(), rng.integers(10, 41, 8).tolist()
    X = torch.tensor(Z, requires_grad=True)
    theirs = torch_ctc(torch, X, targets, lengths, u, reduction="sum")
    theirs.backward()
    nats, back = ctc_each(Z, targets, lengths, u)
    assert nats.sum() == pytest.approx(theirs.item(), rel=1e-12) and abs(back() - X.grad.numpy()).max() < 1e-10


# ---- other array libraries

@pytest.mark.parametrize("zero_infinity", [False, True])
def test_on_the_pretended_device(zero_infinity, synchronisations):
    Z, targets, lengths, u = ragged()
    loss, back = ctc_loss(device.asarray(Z), device.asarray(targets), lengths, u.tolist(), zero_infinity=zero_infinity)
    dZ = back()
    assert isinstance(loss, DeviceArray) and isinstance(dZ, DeviceArray) and synchronisations.total() == 0
    want, back = ctc_loss(Z, targets, lengths, u, zero_infinity=zero_infinity)
    assert asnumpy(loss) == pytest.approx(want, rel=1e-14) and np.allclose(asnumpy(dZ), back(), atol=1e-14)


@pytest.mark.gpu
def test_on_the_gpu():
    Z, targets, lengths, u = ragged()
    loss, back = ctc_loss(to(Z, "cupy"), to(targets, "cupy"), lengths, u)
    want, back_host = ctc_loss(Z, targets, lengths, u)
    assert float(loss) == pytest.approx(float(want), rel=1e-12) and np.allclose(asnumpy(back()), back_host(), atol=1e-12)


# ---- bad input

Z, T2 = np.zeros((4, 2, 3)), np.ones((2, 2), np.int64)
BAD = {
    "Z-list": (([[1.0]], T2), {}, TypeError, "Z: expected a NumPy or CuPy array"),
    "Z-shape": ((Z[0], T2), {}, ValueError, r"Z: expected shape \(T, B, n_y\)"),
    "Z-ints": ((Z.astype(int), T2), {}, TypeError, "Z: expected float32 or float64"),
    "targets-shape": ((Z, np.ones((2, 3), np.int64)), {}, ValueError, r"targets: expected shape \(U, 2\)"),
    "targets-float": ((Z, np.ones((2, 2))), {}, TypeError, "targets: expected an integer"),
    "targets-blank": ((Z, np.zeros((2, 2), np.int64)), {}, ValueError, "targets: expected labels 0 to 2 other than the blank, 0, got 0"),
    "targets-high": ((Z, T2 + 2), {}, ValueError, "targets: expected labels 0 to 2 other than the blank, 0, got 3"),
    "targets-negative": ((Z, T2 - 2), {}, ValueError, "got -1"),
    "lengths": ((Z, T2, [5, 1]), {}, ValueError, r"lengths\[0\]: expected 0 <= length <= T = 4, got 5"),
    "target_lengths": ((Z, T2, None, [1, 3]), {}, ValueError, r"target_lengths\[1\]: expected 0 <= length <= U = 2, got 3"),
    "target_lengths-shape": ((Z, T2, None, [1]), {}, ValueError, r"target_lengths: expected one for each example"),
    "blank": ((Z, T2), {"blank": 3}, ValueError, "blank: expected a whole number >= 0 and <= 2, got 3"),
    "zero_infinity": ((Z, T2), {"zero_infinity": "yes"}, ValueError, "zero_infinity: expected True or False"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    args, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        ctc_loss(*args, **options)


def test_a_bad_derivative_is_named():
    with pytest.raises(ValueError, match=r"dnats: expected shape \(2,\)"):
        ctc_each(Z, T2)[1](np.zeros(3))


def test_targets_of_the_host_are_refused_on_a_device():
    with pytest.raises(TypeError, match="bring them to one side"):
        ctc_loss(device.asarray(Z), T2)


# ---- decoding

def test_collapse():
    assert collapse([0, 3, 3, 0, 1, 0, 0]) == (3, 1) and collapse([3, 0, 3]) == (3, 3) and collapse([]) == ()
    assert collapse(np.array([2, 2, 1, 2]), blank=2) == (1,)


@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_is_the_best_path(blank, rng):
    Z = rng.normal(size=(5, 4, 3))
    got = greedy_labels(Z, [5, 3, 0, 1], blank)
    for i, n in enumerate([5, 3, 0, 1]):
        best = max(product(range(3), repeat=n), key=lambda path, i=i: sum(Z[t, i, k] for t, k in enumerate(path)))
        assert got[i] == collapse(best, blank)
    assert greedy_labels(Z, blank=blank)[0] == got[0]


def test_greedy_on_the_pretended_device_brings_back_one_array(rng, synchronisations):
    Z = rng.normal(size=(5, 4, 3))
    assert greedy_labels(device.asarray(Z), [5, 3, 0, 1]) == greedy_labels(Z, [5, 3, 0, 1])
    assert synchronisations == {"get": 1}


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("T", range(5))
def test_a_wide_beam_finds_every_answer_with_its_probability(T, blank, rng):
    Z = rng.normal(size=(T, 3))
    labels = [k for k in range(3) if k != blank]
    want = {t: ctc_enumerated(Z, t, blank) for t in every_target(T, labels)}
    want = {t: -v for t, v in want.items() if v < np.inf}
    got = {a.labels: a.log_probability for a in prefix_beam(Z, 10_000, blank)}
    assert got.keys() == want.keys() and all(got[t] == pytest.approx(want[t], rel=1e-10, abs=1e-12) for t in want)
    assert prefix_beam(Z, 10_000, blank)[0].labels == max(want, key=want.get)


def test_a_narrow_beam_never_claims_too_much(rng):
    for _ in range(20):
        Z = rng.normal(size=(6, 4))
        for width in (1, 2, 5):
            found = prefix_beam(Z, width)
            assert len(found) <= width and [a.score for a in found] == sorted((a.score for a in found), reverse=True)
            assert all(a.log_probability <= -ctc_plain(Z, a.labels)[0] + 1e-9 for a in found)


def test_a_factor_for_each_label_of_an_answer(rng):
    Z, factor = rng.normal(size=(4, 3)), {1: -0.7, 2: 0.3}
    extend = lambda answer, k: factor[k] * (1 + len(answer))  # it may look at the answer so far
    added = lambda t: sum(extend(t[:i], k) for i, k in enumerate(t))
    found = prefix_beam(Z, 10_000, extend=extend)
    want = {t: -ctc_enumerated(Z, t) + added(t) for t in every_target(4) if frames_needed(t) <= 4}
    assert {a.labels: pytest.approx(a.score) for a in found} == want
    assert found[0].labels == max(want, key=want.get)


@pytest.mark.parametrize("blank", [0, 2])
def test_best_alignment_is_the_best_of_all(blank, rng):
    labels = [k for k in range(3) if k != blank]
    for T in range(6):
        Z = rng.normal(size=(T, 3))
        L = log_softmax(Z)
        for target in every_target(T, labels):
            paths = {p: sum(L[t, k] for t, k in enumerate(p)) for p in alignments(T, target, 3, blank)}
            if not paths:
                with pytest.raises(ValueError, match="target: it has no alignment"):
                    best_alignment(Z, target, blank)
                continue
            path, total = best_alignment(Z, target, blank)
            assert collapse(path, blank) == target and total == pytest.approx(max(paths.values()), rel=1e-12, abs=1e-12)
            assert tuple(path.tolist()) == max(paths, key=paths.get)


@given(st.text("ab", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
@settings(max_examples=80, deadline=None)
def test_edit_distance_is_a_distance(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a) and (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_decoders_name_bad_input():
    for f, args, message in ((prefix_beam, (np.zeros((2, 3)), 0), "width"), (prefix_beam, (np.zeros(3),), "Z: expected shape"),
                             (greedy_labels, (np.zeros((2, 3)),), "Z: expected shape"),
                             (best_alignment, (np.zeros((1, 3)), (1, 1)), "need 3 frames, got 1")):
        with pytest.raises(ValueError, match=message):
            f(*args)


# ---- the model

def model(dtype=np.float64, **options):
    return Transcriber(2, ["a", "b"], Bidirectional(GRU(2, 4, seed=1, dtype=dtype)), dtype=dtype, **options)


def sounds(n, seed=0, dtype=np.float32):
    "Each label is a bump in its own channel, of random width, after a random pause."
    rng, inputs, texts = np.random.default_rng(seed), [], []
    for _ in range(n):
        text = "".join(rng.choice(["a", "b"], rng.integers(0, 4)))
        parts = [np.zeros((rng.integers(1, 4), 2))]
        for c in text:
            parts += [np.tile(np.eye(2)["ab".index(c)], (rng.integers(2, 5), 1)), np.zeros((rng.integers(1, 4), 2))]
        inputs.append((np.concatenate(parts) + 0.1 * rng.normal(size=(sum(map(len, parts)), 2))).astype(dtype))
        texts.append(text)
    return inputs, texts


def test_gradients_of_the_model():
    m = model()
    inputs, texts = sounds(5, dtype=np.float64)
    batch = m.batch(inputs, texts)

    def loss(tree):
        m.params = tree
        return m.loss_and_grads(batch)[0]

    params = m.params
    _, grads, state = m.loss_and_grads(batch)
    assert state is None and list(leaves(grads)) == list(leaves(params))
    gradcheck(loss, params, grads).check(1e-7)


def test_the_model_on_the_pretended_device(synchronisations):
    m = model()
    batch = m.batch(*sounds(5, dtype=np.float64))
    want, grads, _ = m.loss_and_grads(batch)
    m.params = tree_map(device.asarray, m.params)
    synchronisations.clear()
    loss, grads_d, _ = m.loss_and_grads(batch)
    assert synchronisations.total() == 0 and asnumpy(loss) == pytest.approx(want, rel=1e-12)
    assert all(np.allclose(asnumpy(leaves(grads_d)[k]), g, atol=1e-12) for k, g in leaves(grads).items())


def test_it_learns_to_transcribe():
    "Recordings it has not heard, without a mistake; the labels came without times."
    m = Transcriber(2, ["a", "b"], Bidirectional(GRU(2, 8, seed=1)))
    before = m.evaluate(*sounds(50, seed=1))
    m.fit(*sounds(200), steps=150, optimizer=Adam(2e-2), progress=False, valid=sounds(30, seed=2), evaluate_every=50)
    after = m.evaluate(*sounds(50, seed=1))
    assert before.error_rate > 0.5 and after.error_rate < 0.02 and after.nats < 0.3 < before.nats
    assert after.examples == 50 and after.labels == sum(map(len, sounds(50, seed=1)[1]))
    assert m.evaluate(*sounds(50, seed=1), width=4).error_rate < 0.02


def test_scores_come_in_the_order_of_the_inputs():
    m, (inputs, texts) = model(np.float32), sounds(7)
    scores = m.scores(inputs)
    assert [L.shape for L in scores] == [(len(x), 3) for x in inputs]
    assert all(np.allclose(np.exp(L).sum(axis=1), 1, atol=1e-5) for L in scores)
    for i, L in enumerate(scores):
        assert np.allclose(m.scores([inputs[i]])[0], L, atol=1e-5)
    assert m.predict(inputs) == [[m.symbols[k - 1] for k in collapse(L.argmax(axis=1))] for L in scores]
    assert m.predict(inputs, width=5)[0] == [m.symbols[k - 1] for k in prefix_beam(scores[0], 5)[0].labels]
    nats = np.mean([ctc_plain(L.astype(np.float64), [m.symbols.index(c) + 1 for c in t])[0] for L, t in zip(scores, texts)])
    assert m.evaluate(inputs, texts).nats == pytest.approx(nats, rel=1e-4)


def test_a_file_brings_the_model_back(tmp_path):
    m, (inputs, _) = model(np.float32), sounds(4)
    m.save(tmp_path / "m.safetensors")
    again = Transcriber.load(tmp_path / "m.safetensors")
    assert again.symbols == m.symbols and type(again.layer) is Bidirectional
    assert all(np.array_equal(a, b) for a, b in zip(again.scores(inputs), m.scores(inputs)))
    assert layer_from(m.config()["layer"]).n_x == 2


def test_the_model_names_bad_input():
    m, x = model(np.float32), np.zeros((3, 2), np.float32)
    for args, error, message in (
        (([x], ["abz"]), ValueError, r"targets\[0\]"),
        (([x], ["aab"]), ValueError, r"targets\[0\]: expected labels that fit into 3 frames, got 3, which need 4"),
        (([x, x], ["a"]), ValueError, "targets: expected one for each input"),
        (([x[:, :1]], ["a"]), ValueError, r"inputs\[0\]: expected shape \(T, 2\)"),
    ):
        with pytest.raises(error, match=message):
            m.fit(*args, steps=1, progress=False)
    with pytest.raises(ValueError, match="extend: greedy reading"):
        m.predict([x], extend=lambda answer, k: 0.0)
    with pytest.raises(ValueError, match="symbols: expected at least two labels"):
        Transcriber(2, ["a"])


def test_number_of_alignments():
    for T, U in ((3, 1), (4, 2), (6, 3), (7, 2)):
        assert len(list(alignments(T, [1, 2, 1][:U], 3))) == math.comb(T + U, 2 * U)

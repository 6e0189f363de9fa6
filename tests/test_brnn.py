"""Bidirectional networks: any unit, each merge, against central differences, the two units run apart, and PyTorch."""
import json

import numpy as np
import pytest
from agreement import agree, agree_with_differences
from hypothesis import given, settings
from hypothesis import strategies as st
from test_units import ARRIVING, LENGTHS, run
from units import CASES, UNITS, case, label

from seqbook.backend import DeviceArray, asnumpy, device, leaves, to, tree_map
from seqbook.bptt import check_unit
from seqbook.brnn import (
    MERGES,
    Bidirectional,
    BidirectionalMasks,
    BidirectionalParams,
    BidirectionalState,
    bidirectional,
    fresh,
    reversal,
    reverse,
)
from seqbook.gru import GRU
from seqbook.language_model import LanguageModel, layer_config, layer_from
from seqbook.lstm import LSTM, lstm, lstm_init, lstm_masks
from seqbook.notation import Vocabulary, unpad
from seqbook.rnn import RNN, Dense, RNNParams, RNNState, rnn

pytestmark = pytest.mark.filterwarnings("error")
# One unit for each kind of state; what combines units looks at nothing else of theirs. Every unit and option is checked once, below.
SOME = [(u, o) for u, o in CASES if u.name in ("rnn", "gru", "lstm") and not o]
BOTH = [(u, o, m) for u, o in SOME for m in MERGES]


def both_case(unit, seed=0, T=6, B=4, n_x=3, n_a=5, dtype=np.float64, n_back=None):
    "Parameters, input and initial states for two directions."
    p, X, state = case(unit, seed, T, B, n_x, n_a, dtype)
    q, _, other = case(unit, seed + 100, T, B, n_x, n_back or n_a, dtype)
    return BidirectionalParams(p, q), X, BidirectionalState(state, other)


def by_hand(unit, options, merge, p, X, state, lengths):
    "Each example alone, reversed by slicing."
    Y, ends = [], []
    for i, x in enumerate(unpad(X, lengths)):
        one = tree_map(lambda s, i=i: s[i:i + 1], state)
        Yf, end_f, _ = unit.forms["plain"](p.forward, x[:, None], one.forward, **options)
        Yb, end_b, _ = unit.forms["plain"](p.backward, x[::-1, None], one.backward, **options)
        Yf, Yb = Yf[:, 0], Yb[::-1, 0]
        y = {"concat": np.concatenate([Yf, Yb], axis=-1), "sum": Yf + Yb, "mean": (Yf + Yb) / 2, "product": Yf * Yb}[merge]
        Y.append(np.concatenate([y, np.zeros((len(X) - len(y), y.shape[1]))]))
        ends.append(BidirectionalState(end_f, end_b))
    return np.stack(Y, axis=1), tree_map(lambda *s: np.concatenate(s), *ends)


# ---- reversal
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (6, 4, 3, 2), (0, 4, 3), (6, 0, 3), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_reversal_is_its_own_inverse(shape, dtype, rng):
    X, (T, B) = rng.integers(0, 2, shape).astype(dtype), shape[:2]
    for lengths in (None, rng.integers(0, T + 1, B)):
        R = reverse(X, lengths)
        assert R.dtype == X.dtype and R.shape == X.shape and not np.shares_memory(R, X)
        assert (reverse(R, lengths) == X).all()
        for i, n in enumerate([T] * B if lengths is None else lengths):
            assert (R[:n, i] == X[:n, i][::-1]).all() and (R[n:, i] == X[n:, i]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 6), st.data())
def test_reversal_of_any_lengths(T, B, data):
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    X = np.arange(T * B * 2.0).reshape(T, B, 2)
    R = reverse(X, np.array(lengths, np.int64))
    assert (reverse(R, np.array(lengths, np.int64)) == X).all()
    assert (np.sort(R, axis=0) == X).all()


def test_reversal_on_the_device_waits_for_nothing(rng, synchronisations):
    X = rng.normal(size=(6, 4, 3))
    for lengths in (None, [6, 3, 1, 0], np.array([6, 3, 1, 0])):
        R = reverse(device.asarray(X), lengths)
        assert not synchronisations and isinstance(R, DeviceArray)
        assert (asnumpy(R) == reverse(X, lengths)).all()
        synchronisations.clear()
    R = reverse(device.asarray(X), device.asarray(np.array([6, 3, 1, 0])))  # lengths of the device: their check waits
    assert (asnumpy(R) == reverse(X, [6, 3, 1, 0])).all()


@pytest.mark.parametrize("args, error, message", [
    (([[1.0]],), TypeError, "X: expected a NumPy or CuPy array, got list"),
    ((np.ones(3),), ValueError, r"X: expected shape \(T, B, ...\), got \(3,\)"),
    ((np.ones((3, 2)), [1, 2, 3]), ValueError, r"lengths: expected one for each example, shape \(B,\) = \(2,\)"),
    ((np.ones((3, 2)), [1, 4]), ValueError, r"lengths\[1\]: expected 0 <= length <= T = 3, got 4"),
    ((np.ones((3, 2)), [1.0, 2.0]), TypeError, "lengths: expected whole numbers"),
    ((np.ones((3, 2)), device.asarray(np.array([1, 2]))), TypeError, "bring them to one side"),
])
def test_reversal_names_bad_input(args, error, message):
    with pytest.raises(error, match=message):
        reverse(*args)


@pytest.mark.parametrize("T, B, message", [(3.0, 2, "T: expected a whole number >= 0, got 3.0"), (3, "2", "B: expected a whole number"),
                                           (True, 2, "T: expected a whole number")])
def test_reversal_needs_whole_numbers(T, B, message):
    for lengths in (None, [1, 1]):
        with pytest.raises(TypeError, match=message):
            reversal(lengths, T, B)


# ---- both directions
@pytest.mark.parametrize("arriving", ARRIVING)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_gradients_equal_central_differences(unit, options, merge, lengths, arriving):
    f = bidirectional(unit.forms["table"], merge=merge)
    report = check_unit(f, *both_case(unit), LENGTHS[lengths], **ARRIVING[arriving], samples=12, **options)
    agree_with_differences(report, 1e-7, f"bidirectional {unit.name}")


@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_every_entry_of_the_gradient_with_every_unit(unit, options):
    check_unit(bidirectional(unit.forms["table"]), *both_case(unit, 2, T=4, n_a=3), [4, 2, 1, 0], **options).check(1e-7)


@pytest.mark.parametrize("side", BidirectionalState._fields)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_gradients_of_one_final_state_alone(unit, options, merge, side):
    f = bidirectional(unit.forms["table"], merge=merge)
    check_unit(f, *both_case(unit, 1), LENGTHS["ragged"], dY=False, dstate=side, samples=12, **options).check(1e-7)


@pytest.mark.parametrize("unit, options", SOME, ids=label)
def test_gradients_without_initial_state_and_with_unequal_widths(unit, options):
    p, X, _ = both_case(unit, n_back=2)
    check_unit(bidirectional(unit.forms["table"]), p, X, lengths=[6, 0, 2, 6], **options).check(1e-7)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_each_example_as_if_alone(unit, options, merge, lengths):
    p, X, state = both_case(unit)
    Y, end, _ = bidirectional(unit.forms["table"], merge=merge)(p, X, state, LENGTHS[lengths], **options)
    want, ends = by_hand(unit, options, merge, p, X, state, LENGTHS[lengths])
    assert abs(Y - want).max() < 1e-14
    agree(leaves(end), leaves(ends), 1e-14)


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_over_the_fast_form_as_over_the_plain_one(unit, options, merge, lengths, dtype, tol):
    want, got = (run(bidirectional(unit.forms[form], merge=merge), *both_case(unit, dtype=dtype), LENGTHS[lengths], **options)
                 for form in ("plain", "table"))
    agree(got, want, tol)


@pytest.mark.parametrize("arriving", [("Y",), ("state",), ()], ids="+".join)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_absent_derivatives_are_zeros(unit, options, merge, arriving):
    p, X, state = both_case(unit)
    Y, end, pullback = bidirectional(unit.forms["table"], merge=merge)(p, X, state, [6, 3, 1, 4], **options)
    dY, dend = (np.ones_like(Y), tree_map(np.ones_like, end))
    zero = tree_map(np.zeros_like, (Y, end))
    got = pullback(dY if "Y" in arriving else None, dend if "state" in arriving else None)
    agree(leaves(got), leaves(pullback(dY if "Y" in arriving else zero[0], dend if "state" in arriving else zero[1])), 1e-15)


@pytest.mark.parametrize("T, B, n_x, n_a", [(1, 1, 1, 1), (1, 3, 2, 4), (4, 0, 3, 2), (0, 3, 2, 2), (17, 9, 5, 7)])
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_shapes_at_the_edges(unit, options, merge, T, B, n_x, n_a):
    p, X, state = both_case(unit, T=T, B=B, n_x=n_x, n_a=n_a)
    Y, end, pullback = bidirectional(unit.forms["table"], merge=merge)(p, X, state, **options)
    assert Y.shape == (T, B, 2 * n_a if merge == "concat" else n_a)
    dX, grads, start = pullback(np.ones_like(Y), end)
    assert dX.shape == X.shape
    for a, b in ((grads, p), (start, state), (end, state)):
        assert {k: v.shape for k, v in leaves(a).items()} == {k: v.shape for k, v in leaves(b).items()}


@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_padding_counts_for_nothing(unit, options, merge):
    p, X, state = both_case(unit)
    lengths, noisy, f = [6, 3, 1, 0], X.copy(), bidirectional(unit.forms["table"], merge=merge)
    Y, end, pullback = f(p, X, state, lengths, **options)
    dY = np.random.default_rng(0).normal(size=Y.shape)
    want = leaves({"Y": Y, "end": end, "back": pullback(dY, end)})
    loud = dY.copy()
    for i, n in enumerate(lengths):
        noisy[n:, i], loud[n:, i] = 1e6, 1e6
    Y, end, pullback = f(p, noisy, state, lengths, **options)
    got = leaves({"Y": Y, "end": end, "back": pullback(loud, end)})
    assert all((got[k] == want[k]).all() for k in want)
    assert all((Y[n:, i] == 0).all() and (want["back.0"][n:, i] == 0).all() for i, n in enumerate(lengths))


@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_pure(unit, options, merge):
    p, X, state = both_case(unit)
    before = {k: a.copy() for k, a in leaves({"p": p, "X": X, "state": state}).items()}
    Y, end, pullback = bidirectional(unit.forms["table"], merge=merge)(p, X, state, [6, 3, 1, 4], **options)
    dY = np.ones_like(Y)
    first, second = (leaves(pullback(dY, end)) for _ in range(2))
    assert all((first[k] == second[k]).all() for k in first) and (dY == 1).all()
    assert all((before[k] == a).all() for k, a in leaves({"p": p, "X": X, "state": state}).items())


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_on_the_device_without_a_single_wait(unit, options, merge, lengths, synchronisations):
    f, args = bidirectional(unit.forms["table"], merge=merge), both_case(unit)
    want = run(f, *args, LENGTHS[lengths], **options)
    got = run(f, *tree_map(device.asarray, args), LENGTHS[lengths], **options)
    assert not synchronisations and all(isinstance(a, DeviceArray) for a in got.values())
    agree(tree_map(asnumpy, got), want, 1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, merge", BOTH, ids=label)
def test_on_a_gpu(unit, options, merge, lengths):
    import cupy
    f, args = bidirectional(unit.forms["table"], merge=merge), both_case(unit)
    want = run(f, *args, LENGTHS[lengths], ("Y",), **options)
    Y, end, pullback = f(*to(args, "cupy"), LENGTHS[lengths], **options)
    dX, grads, start = pullback(cupy.asarray(np.random.default_rng(3).normal(size=Y.shape)))
    agree(to(leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "dstate0": start}), "numpy"), want, 1e-10)


def test_two_different_units(rng):
    "Directions may differ in kind: here tanh forward and ReLU backward."
    relu = lambda *args, **options: rnn(*args, activation="relu", **options)
    check_unit(bidirectional(rnn, relu, "product"), *both_case(UNITS[0], 3), LENGTHS["ragged"]).check(1e-7)


def test_states_in_and_parts_of_them():
    "None stands for zeros in either direction, plain pairs and lists are taken."
    p, X, state = both_case(UNITS[0])
    f, zero = bidirectional(rnn), RNNState(np.zeros((4, 5)))
    want = f(p, X, BidirectionalState(state.forward, zero))[0]
    assert (f(p, X, BidirectionalState(state.forward, None))[0] == want).all()
    assert (f(tuple(p), X, [state.forward, None])[0] == want).all()
    _, end, pullback = f(p, X, state)
    half = pullback(None, (end.forward, None))
    assert not half[1].backward.Wax.any() and half[1].forward.Wax.any()


# ---- noise inside the units
def test_gradients_with_masks_of_the_units():
    p, X, state = both_case(next(u for u in UNITS if u.name == "lstm"))
    draw = lambda seed, T: lstm_masks(seed, 4, 5, 0.3, 0.2, 0.1, T, np.float64)
    for masks in (BidirectionalMasks(draw(1, None), draw(2, 6)), (draw(1, None), None), [None, draw(2, None)]):
        check_unit(bidirectional(lstm), p, X, state, LENGTHS["ragged"], masks=masks, samples=30).check(1e-7)
    for form in (None, BidirectionalMasks()):
        assert (bidirectional(lstm)(p, X, masks=form)[0] == bidirectional(lstm)(p, X)[0]).all()


def test_layer_hands_noise_down():
    layer = Bidirectional(LSTM(3, 5, recurrent_dropout=0.3, zoneout_a=0.2, dtype=np.float64))
    X = both_case(UNITS[0])[1]
    masks = layer.masks(7, 4, T=6)
    assert {k: m.shape for k, m in leaves(masks).items()} == {
        f"{side}.{name}": shape for side in ("forward", "backward") for name, shape in {"drop": (4, 5), "hold_a": (6, 4, 5)}.items()}
    assert not (masks.forward.hold_a == masks.backward.hold_a).all()
    got, want = layer(X, masks=masks), bidirectional(lstm)(layer.params, X, masks=masks)
    assert (got[0] == want[0]).all() and not np.allclose(got[0], layer(X)[0])
    assert (layer(X, masks=layer.masks(None, 4))[0] == layer(X)[0]).all()  # no generator: the means, as without masks
    assert Bidirectional(RNN(3, 5)).masks(0, 4, 6) is None and Bidirectional(LSTM(3, 5)).masks(0, 4) is None


# ---- PyTorch
@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 2e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("merge", ["concat", "sum", "product"])
def test_pytorch(merge, activation, dtype, tol, lengths, arriving, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    p, X, state = both_case(UNITS[0], dtype=dtype)
    Y, end, pullback = bidirectional(rnn, merge=merge)(p, X, state, LENGTHS[lengths], activation=activation)
    dY, da = (rng.normal(size=s).astype(dtype) for s in (Y.shape, (2, 4, 5)))
    dX, grads, start = pullback(dY if "Y" in arriving else None, (RNNState(da[0]), RNNState(da[1])) if "state" in arriving else None)

    layer, tX, th = torch_stack(torch, [p], activation), torch.tensor(X, requires_grad=True), torch.tensor(
        np.stack([state.forward.a, state.backward.a]), requires_grad=True)
    tY, tend = torch_call(torch, layer, tX, th, LENGTHS[lengths])
    forward, backward = tY[..., :5], tY[..., 5:]
    tY = {"concat": tY, "sum": forward + backward, "product": forward * backward}[merge]
    ((tY * torch.tensor(dY)).sum() * ("Y" in arriving) + (tend * torch.tensor(da)).sum() * ("state" in arriving)).backward()
    ours = {"Y": Y, "end.0": end.forward.a, "end.1": end.backward.a, "dX": dX, "start.0": start.forward.a, "start.1": start.backward.a}
    theirs = {"Y": tY, "end.0": tend[0], "end.1": tend[1], "dX": tX.grad, "start.0": th.grad[0], "start.1": th.grad[1]}
    for name, g in leaves(grads).items():
        ours[name], theirs[name] = g, torch_gradient(layer, 0, *name.split("."))
    agree(ours, theirs, tol, "PyTorch")


def torch_stack(torch, layers, activation="tanh"):
    "torch.nn.RNN with our weights; each layer is an RNNParams or a BidirectionalParams."
    both = isinstance(layers[0], BidirectionalParams)
    first = layers[0].forward if both else layers[0]
    n_a, n_x = first.Wax.shape
    layer = torch.nn.RNN(n_x, n_a, len(layers), nonlinearity=activation, bidirectional=both, dtype=torch.tensor(first.Wax).dtype)
    with torch.no_grad():
        for k, p in enumerate(layers):
            for suffix, q in zip(("", "_reverse"), p if both else (p,), strict=False):
                for name, w in {"weight_ih": q.Wax, "weight_hh": q.Waa, "bias_ih": q.ba, "bias_hh": 0 * q.ba}.items():
                    getattr(layer, f"{name}_l{k}{suffix}").copy_(torch.tensor(w))
    return layer


def torch_call(torch, layer, X, h, lengths):
    "Packed where there are lengths."
    if lengths is None:
        return layer(X, h)
    packed = torch.nn.utils.rnn.pack_padded_sequence(X, torch.tensor(lengths), enforce_sorted=False)
    Y, end = layer(packed, h)
    return torch.nn.utils.rnn.pad_packed_sequence(Y)[0], end


def torch_gradient(layer, k, side, name):
    "The gradient of one of our arrays, on their side."
    theirs = {"Wax": "weight_ih", "Waa": "weight_hh", "ba": "bias_ih"}[name]
    return getattr(layer, f"{theirs}_l{k}{'_reverse' if side == 'backward' else ''}").grad


# ---- bad input
def test_bad_arguments_are_named():
    p, X, state = both_case(UNITS[0])
    f = bidirectional(rnn)
    Y, end, pullback = f(p, X, state)
    with pytest.raises(ValueError, match="merge: expected one of concat, sum, mean, product, got 'add'"):
        bidirectional(rnn, merge="add")
    with pytest.raises(ValueError, match=r"merge: expected one of .*, got \['sum'\]"):
        bidirectional(rnn, merge=["sum"])
    for unit, got in ((None, "None"), ("rnn", "'rnn'"), (RNN, "the class RNN"), (RNN(3, 5), "RNN\\(n_x=3"), ([rnn], r"\[<function rnn")):
        with pytest.raises(TypeError, match=f"unit_forward: expected a function such as rnn, gru or lstm, got {got}"):
            bidirectional(unit)
    for unit, got in (("sum", "'sum'"), (0, "0"), ([], r"\[\]"), (LSTM(3, 5), "LSTM")):  # the merge in the wrong place, for one
        with pytest.raises(TypeError, match=f"unit_backward: expected a function such as rnn, gru or lstm, got {got}"):
            bidirectional(rnn, unit)
    with pytest.raises(TypeError, match="^X: expected a NumPy or CuPy array, got list"):
        f(p, X.tolist())
    with pytest.raises(TypeError, match=r"p: expected BidirectionalParams\(forward, backward\), got RNNParams"):
        f(p.forward, X)
    with pytest.raises(TypeError, match=r"p: expected BidirectionalParams\(forward, backward\), got NoneType"):
        f(None, X)
    with pytest.raises(TypeError, match=r"state: expected BidirectionalState\(forward, backward\), got RNNState"):
        f(p, X, state.forward)
    with pytest.raises(TypeError, match=r"state: expected .*, got tuple of 3"):
        f(p, X, (None, None, None))
    with pytest.raises(TypeError, match=r"state: expected BidirectionalState\(forward, backward\), got BidirectionalParams"):
        f(p, X, p)
    with pytest.raises(ValueError, match=r"forward: X: expected shape \(T, B, 3\), got \(6, 4, 2\)"):
        f(p, X[..., :2])
    with pytest.raises(TypeError, match="forward: X: expected float64, got float32"):
        f(p, X.astype(np.float32))
    with pytest.raises(ValueError, match=r"backward: state.a: expected shape \(4, 5\), got \(2, 5\)"):
        f(p, X, (state.forward, RNNState(state.backward.a[:2])))
    with pytest.raises(ValueError, match="merge='sum': .* got 5 forward and 2 backward"):
        bidirectional(rnn, merge="sum")(both_case(UNITS[0], n_back=2)[0], X)
    with pytest.raises(ValueError, match=r"lengths\[2\]: expected 0 <= length <= T = 6, got 7"):
        f(p, X, state, [1, 2, 7, 1])
    with pytest.raises(TypeError, match="bring them to one side"):
        f(p, device.asarray(X))
    with pytest.raises(ValueError, match=r"dY: expected shape \(6, 4, 10\), got \(6, 4, 5\)"):
        pullback(Y[..., :5])
    with pytest.raises(TypeError, match="dY: expected float64, got float32"):
        pullback(Y.astype(np.float32))
    with pytest.raises(ValueError, match=r"backward: dstate.a: expected shape \(4, 5\)"):
        pullback(None, (end.forward, RNNState(end.backward.a[:1])))
    with pytest.raises(TypeError, match="dstate: expected BidirectionalState"):
        pullback(None, end.forward)


def test_errors_of_other_kinds_pass_unchanged():
    def broken(*_, **__):
        raise KeyError("of the unit itself")
    with pytest.raises(KeyError, match="of the unit itself"):
        bidirectional(broken)((None, None), np.ones((2, 1, 1)))


# ---- the layer
def test_layer_is_the_function():
    layer = Bidirectional(RNN(3, 5, dtype=np.float64))
    _, X, state = both_case(UNITS[0])
    agree(run(lambda p, *a: layer(*a), None, X, state, [6, 3, 1, 4]), run(bidirectional(rnn), layer.params, X, state, [6, 3, 1, 4]), 0)
    assert (layer.n_x, layer.n_a) == (3, 10) and layer.params.forward.Wax.dtype == layer.params.backward.Wax.dtype == np.float64
    zero = layer.initial_state(4)
    assert (layer(X, zero)[0] == layer(X)[0]).all() and all(s.shape == (4, 5) and not s.any() for s in leaves(zero).values())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_directions_start_with_weights_of_their_own(seed):
    layer, again = Bidirectional(RNN(3, 5, seed=seed), seed=seed), Bidirectional(RNN(3, 5, seed=seed), seed=seed)
    assert not np.allclose(layer.params.forward.Wax, layer.params.backward.Wax)
    assert all((a == b).all() for a, b in zip(leaves(layer.params).values(), leaves(again.params).values(), strict=True))
    other = Bidirectional(RNN(3, 5, seed=seed), seed=seed + 1)
    assert not np.allclose(layer.params.backward.Wax, other.params.backward.Wax)
    Bidirectional(RNN(3, 5), seed=np.random.default_rng(3))


def test_fresh_keeps_kind_sizes_and_options():
    layer = Bidirectional([RNN(3, 5, "relu", dtype=np.float64), RNN(3, 2, dtype=np.float64)])
    other = fresh(layer, 7)
    assert other.config() == layer.config() and leaves(other.params)["forward.Wax"].dtype == np.float64
    assert not np.allclose(other.params.forward.Wax, layer.params.forward.Wax)


def test_parameters_can_be_set_and_moved():
    layer = Bidirectional(RNN(3, 5))
    layer.params = tree_map(np.zeros_like, layer.params)
    assert not layer.forward.params.Wax.any() and not layer.backward.params.Wax.any()
    assert layer.to("numpy") is layer
    with pytest.raises(TypeError, match="params: expected BidirectionalParams"):
        layer.params = layer.forward.params


@pytest.mark.parametrize("change, error, message", [
    (lambda p, q: (p, None), ValueError, "params: 'backward.Waa' is missing; expected forward.Wax, "),
    (lambda p, q: (p, list(q)), ValueError, "params: 'backward.Waa' is missing"),
    (lambda p, q: (p, q._replace(Wax=q.Wax[:4])), ValueError, r"params.backward.Wax: expected shape \(5, 3\), got \(4, 3\)"),
    (lambda p, q: (p, lstm_init(0, 3, 5)), ValueError, r"params.backward.Wax: expected shape \(5, 3\), got \(20, 3\)"),
    (lambda p, q: (p, q._replace(ba=[0.0] * 5)), ValueError, "params: 'backward.ba' is missing"),
    (lambda p, q: (p, tree_map(np.float64, q)), TypeError, "expected one dtype, got float32 for 'forward.Wax' and float64 for 'back"),
    (lambda p, q: (p, p), ValueError, "'forward.Wax' and 'backward.Wax' are one array"),
])
def test_parameters_that_do_not_fit_change_nothing(change, error, message):
    layer = Bidirectional(RNN(3, 5))
    new = change(*tree_map(lambda a: a + 1, layer.params))
    before = layer.params
    with pytest.raises(error, match=message):
        layer.params = new
    assert all(a is b for a, b in zip(leaves(layer.params).values(), leaves(before).values(), strict=True))


@pytest.mark.parametrize("make", [
    lambda: Bidirectional(RNN(3, 5)),
    lambda: Bidirectional([RNN(3, 5, "relu"), RNN(3, 2)]),
    lambda: Bidirectional(Bidirectional(RNN(3, 5), merge="sum"), merge="mean"),
    lambda: Bidirectional([GRU(3, 5, reset="after"), LSTM(3, 5, peepholes="lecture", coupled=True)], "product"),
])
def test_configuration_round_trip(make):
    layer = make()
    again = layer_from(json.loads(json.dumps(layer_config(layer))))
    assert type(again) is Bidirectional and again.config() == layer.config() and repr(again) == repr(layer)
    assert [a.shape for a in leaves(again.params).values()] == [a.shape for a in leaves(layer.params).values()]
    again.params, X = layer.params, np.ones((4, 2, 3), np.float32)
    assert (again(X)[0] == layer(X)[0]).all()


def test_no_step_and_why():
    layer = Bidirectional(RNN(3, 5))
    assert not hasattr(layer, "step")
    with pytest.raises(AttributeError, match="no step: its backward layer begins at the end of the sequence"):
        layer.step(np.zeros((1, 3), np.float32))
    with pytest.raises(TypeError, match="got Bidirectional without step"):
        LanguageModel(Vocabulary.characters("abc"), layer)


@pytest.mark.parametrize("make, error, message", [
    (lambda: Bidirectional(5), TypeError, "layer: expected a recurrent layer such as RNN"),
    (lambda: Bidirectional(RNN), TypeError, "got the class RNN; make a layer with it first"),
    (lambda: Bidirectional(Dense(3, 5)), TypeError, "layer: expected a recurrent layer .* got Dense"),
    (lambda: Bidirectional([RNN(3, 5)]), ValueError, "layer: expected one layer or a pair .* got 1"),
    (lambda: Bidirectional([RNN(3, 5), None]), TypeError, r"layer\[1\]: expected a recurrent layer .* got NoneType"),
    (lambda: Bidirectional([RNN(3, 5), RNN(4, 5)]), ValueError,
     "layer: expected both directions to read the same features, got n_x=3 forward and 4 backward"),
    (lambda: Bidirectional([RNN(3, 5), RNN(3, 4)], "mean"), ValueError, "merge='mean': .* got 5 forward and 4 backward"),
    (lambda: Bidirectional(RNN(3, 5), "add"), ValueError, "merge: expected one of"),
    (lambda: Bidirectional([RNN(3, 5)] * 2), ValueError, "'forward.Wax' and 'backward.Wax' are one array"),
    (lambda: Bidirectional([RNN(3, 5), RNN(3, 5, dtype=np.float64)]), TypeError,
     "layers: expected one dtype, got float32 for 'forward.Wax'"),
    (lambda: Bidirectional(RNN(3, 5), ["sum"]), ValueError, r"merge: expected one of .*, got \['sum'\]"),
    (lambda: Bidirectional(RNN(3, 5), RNN(3, 5)), ValueError, r"merge: expected one of .*, got RNN\("),
    (lambda: fresh(RNN, 0), TypeError, "layer: expected a recurrent layer .* got the class RNN; make a layer with it first"),
    (lambda: fresh(None, 0), TypeError, "layer: expected a recurrent layer .* got NoneType"),
])
def test_bad_layers_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_one_direction_cannot_know():
    "Changing the future changes a bidirectional past, and only that."
    p, X, _ = both_case(UNITS[0])
    changed = X.copy()
    changed[4:] += 1
    Y, Z = (bidirectional(rnn)(p, x)[0] for x in (X, changed))
    assert (Y[:4, :, :5] == Z[:4, :, :5]).all() and (Y[:4, :, 5:] != Z[:4, :, 5:]).all()


def test_params_are_named_tuples_in_order():
    p, X, _ = both_case(UNITS[0])
    _, grads, _ = bidirectional(rnn)(p, X)[2](np.ones((6, 4, 10)))
    assert isinstance(grads, BidirectionalParams) and isinstance(grads.forward, RNNParams)
    assert list(leaves(grads)) == ["forward.Wax", "forward.Waa", "forward.ba", "backward.Wax", "backward.Waa", "backward.ba"]

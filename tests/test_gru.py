"""The GRU beyond the matrix of units: its gates by name, its options, and weights to and from other libraries' layouts."""
import json

import numpy as np
import pytest
from units import UNITS, case, label

from seqbook.backend import asnumpy, device, leaves, tree_map
from seqbook.gru import (
    GRU,
    GRUGates,
    GRUParams,
    GRUState,
    gru,
    gru_blocks,
    gru_from_keras,
    gru_from_onnx,
    gru_from_pytorch,
    gru_gate,
    gru_gates,
    gru_init,
    gru_step,
    gru_step_grad,
    gru_to_keras,
    gru_to_onnx,
    gru_to_pytorch,
    plot_gates,
)
from seqbook.language_model import layer_config, layer_from
from seqbook.rnn import rnn_init, sigmoid

OPTIONS = {"gru": {}, "gru-after": {"reset": "after"}, "gru-simplified": {"variant": "simplified"}}
GRUS = [u for u in UNITS if u.name in OPTIONS]
FULL = [u for u in GRUS if u.name != "gru-simplified"]
EXPORTS = {"keras": (gru_to_keras, gru_from_keras), "onnx": (gru_to_onnx, gru_from_onnx)}


def same(a, b):
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("unit", GRUS, ids=label)
def test_step_is_the_lecture_with_joined_matrices(unit):
    p, X, (a,) = case(unit)
    x, n_a = X[0], a.shape[1]
    ax = np.concatenate([a, x], axis=1)
    gate = lambda name, seen: (lambda W, b: seen @ W.T + b)(*gru_gate(p, name))
    u, r = sigmoid(gate("u", ax)), 1 if unit.name == "gru-simplified" else sigmoid(gate("r", ax))
    if unit.name == "gru-after":
        Wc, bc = gru_gate(p, "c")
        c = np.tanh(r * (a @ Wc[:, :n_a].T + p.bac) + x @ Wc[:, n_a:].T + bc)
    else:
        c = np.tanh(gate("c", np.concatenate([r * a, x], axis=1)))
    assert np.allclose(unit.step(p, x, GRUState(a))[0].a, u * c + (1 - u) * a, atol=1e-15)


@pytest.mark.parametrize("lengths", [None, [6, 3, 1, 0]], ids=str)
@pytest.mark.parametrize("unit", GRUS, ids=label)
def test_gates_over_time(unit, lengths):
    p, X, state = case(unit)
    gates, at = gru_gates(p, X, state, lengths, **OPTIONS[unit.name]), state
    for t, x in enumerate(X):
        at, (_, _, Gr, Gu, c_tilde, _) = unit.step(p, x, at)
        on = np.ones((4, 1), bool) if lengths is None else (t < np.array(lengths))[:, None]
        for got, want in zip(gates, (Gu, Gr, c_tilde, at.a), strict=True):
            assert (got is None) == (want is None)
            assert got is None or np.allclose(got[t], np.where(on, want, 0), atol=1e-14)
    assert np.allclose(gates.a, gru(p, X, state, lengths, **OPTIONS[unit.name])[0], atol=1e-14)
    there = gru_gates(*tree_map(device.asarray, (p, X, state)), lengths, **OPTIONS[unit.name])
    assert all(np.allclose(asnumpy(a), leaves(gates)[k], atol=1e-14) for k, a in leaves(there).items())


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    yield plt
    plt.close("all")


def maps(figure):
    return [ax.images[0] for ax in figure.axes if ax.images]


def test_gates_keep_float32_and_can_be_drawn(plt):
    for options in OPTIONS.values():
        layer = GRU(3, 5, **options)
        gates = layer.gates(np.ones((6, 2, 3), np.float32), lengths=[6, 2])
        assert all(g.dtype == np.float32 for g in leaves(gates).values())
        fig = gates.plot(example=1, words=list("abcdef"), units=[4, 0])
        assert len(maps(fig)) == len(leaves(gates))
        for image, values in zip(maps(fig), leaves(gates).values(), strict=True):
            assert np.array_equal(image.get_array(), values[:, 1, [4, 0]].T)
        assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["4", "0"]


def test_what_to_draw(plt):
    gates = GRU(3, 12).gates(np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32))
    few = gates.plot(words="abc", fields=("a", "Gu"))
    assert [m.get_array().shape for m in maps(few)] == [(12, 3)] * 2 and [m.get_clim() for m in maps(few)] == [(-1, 1), (0, 1)]
    assert len(maps(gates.plot(fields="Gr"))) == 1 and len(maps(gates.plot(example=-1, units=np.array([3])))) == 4
    assert len(maps(plot_gates(tree_map(device.asarray, gates)))) == 4
    gates.plot(words=["long words"] * 6)
    broken = tree_map(lambda v: np.where(v > 0.5, np.nan, v), gates)
    broken.plot()
    assert len(maps(GRU(3, 12, variant="simplified").gates(np.ones((6, 2, 3), np.float32)).plot())) == 3


GATES = GRUGates(*np.zeros((4, 6, 2, 5)))
BAD_PLOTS = {
    **{f"example {e!r}": ({"example": e}, f"example: expected one of the 2 examples of 6 steps, got {e!r}")
       for e in (2, -3, True, 1.0, "0", None)},
    **{f"units {u!r}": ({"units": u}, "units: expected a list of numbers 0 to 4") for u in ([5], [-1], 1, [], [0.5], "01", [True, False])},
    **{f"words {w!r}": ({"words": w}, "words: expected a label for each of 6 steps") for w in ("abcdefg", "", 3)},
    **{f"fields {f!r}": ({"fields": f}, "fields: expected one of Gu, Gr, c_tilde, a, got") for f in ("Gf", ["a", "Gx"], [], 3)},
}


@pytest.mark.parametrize("bad", BAD_PLOTS)
def test_bad_plots_are_named(bad):
    pytest.importorskip("matplotlib")
    options, message = BAD_PLOTS[bad]
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        GATES.plot(**options)


def test_only_gates_that_are_there_are_drawn():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="fields: expected one of Gu, c_tilde, a, got 'Gr'"):
        GATES._replace(Gr=None).plot(fields=["Gr"])
    with pytest.raises(ValueError, match="example: expected one of the 2 examples of 0 steps"):
        tree_map(lambda v: v[:0], GATES).plot()
    with pytest.raises(TypeError, match="gates: expected what gru_gates or lstm_gates returns, got ndarray"):
        plot_gates(GATES.Gu)


def test_a_shut_gate_keeps_every_bit_both_ways():
    p = gru_init(0, 3, 5, np.float64)
    p.ba[5:10] = -80
    state, X = GRUState(np.random.default_rng(0).normal(size=(2, 5))), np.ones((500, 2, 3))
    Y, _, back = gru(p, X, state)
    da = np.random.default_rng(1).normal(size=(2, 5))
    assert (Y[-1] == state.a).all() and np.allclose(back(None, GRUState(da))[2].a, da, rtol=1e-12)


@pytest.mark.parametrize("unit", GRUS, ids=label)
def test_step_grad_of_one_step_equals_the_pullback(unit):
    p, X, state = case(unit, T=1)
    _, cache = unit.step(p, X[0], state)
    dx, dprev, grads = gru_step_grad(p, state, cache)
    dX, want, dstate0 = unit.forms["table"](p, X, state)[2](None, state)
    assert np.allclose(dx, dX[0], atol=1e-14) and np.allclose(dprev.a, dstate0.a, atol=1e-14)
    assert all(np.allclose(leaves(grads)[k], g, atol=1e-14) for k, g in leaves(want).items())


def test_reset_before_and_after_agree_only_where_gates_do():
    p, X, state = case(GRUS[0])
    after = lambda q: gru(q._replace(bac=np.zeros(5)), X, state, reset="after")[0]
    assert abs(gru(p, X, state)[0] - after(p)).max() > 0.01
    for w in p[:3]:
        w[:5] = w[0]
    assert np.allclose(gru(p, X, state)[0], after(p), atol=1e-13)


def test_initial_weights():
    p, other = gru_init(3, 7, 20), gru_init(3, 7, 20, np.float64)
    assert p.Waa.dtype == np.float32 and other.Waa.dtype == np.float64
    for k in range(3):
        W = other.Waa[20 * k : 20 * (k + 1)]
        assert np.allclose(W @ W.T, np.eye(20), atol=1e-12)
    assert abs(other.Wax).max() <= np.sqrt(6 / 27) and np.allclose(p.Wax, other.Wax, atol=1e-7)
    assert p.bac is None and (gru_init(3, 7, 20, reset="after").bac == 0).all()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=label)
def test_layer(options, rng):
    layer = GRU(3, 5, seed=1, **options)
    again = layer_from(json.loads(json.dumps(layer_config(layer))))
    assert again.options == layer.options
    assert {k: w.shape for k, w in leaves(again.params).items()} == {k: w.shape for k, w in leaves(layer.params).items()}
    X = rng.normal(size=(4, 2, 3)).astype(np.float32)
    Y, end, _ = layer(X)
    state = None
    for t in range(4):
        a, state = layer.step(X[t], state)
        assert np.allclose(a, Y[t], atol=1e-6)
    assert np.allclose(state.a, end.a, atol=1e-6)


@pytest.mark.parametrize("unit", FULL, ids=label)
@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip(name, unit, dtype):
    there, back = EXPORTS[name]
    p, _, _ = case(unit, dtype=dtype)
    theirs = there(p)
    assert same(back(**theirs), p)
    assert not any(np.shares_memory(a, b) for a in theirs.values() if isinstance(a, np.ndarray) for b in leaves(p).values())


def test_round_trip_pytorch():
    p, _, _ = case(GRUS[1])
    assert same(gru_from_pytorch(**gru_to_pytorch(p)), p)


def test_from_the_device_to_the_host():
    p, _, _ = case(GRUS[1])
    theirs = gru_to_pytorch(tree_map(device.asarray, p))
    assert all(np.array_equal(a, theirs[k]) for k, a in gru_to_pytorch(p).items())


def test_two_biases_become_one_where_they_are_only_added(rng):
    n_a, w = 5, lambda *shape: rng.normal(size=shape)
    b, b_rec = w(15), w(15)
    p = gru_from_pytorch(w(15, 3), w(15, 5), b, b_rec)
    assert np.allclose(p.ba[:n_a], (b + b_rec)[:n_a]) and np.allclose(p.ba[n_a : 2 * n_a], -(b + b_rec)[n_a : 2 * n_a])
    assert (p.ba[2 * n_a :] == b[2 * n_a :]).all() and (p.bac == b_rec[2 * n_a :]).all()
    q = gru_from_onnx(w(1, 15, 3), w(1, 15, 5), np.concatenate([b, b_rec])[None], linear_before_reset=0)
    assert q.bac is None and np.allclose(q.ba[2 * n_a :], (b + b_rec)[2 * n_a :])


@pytest.mark.parametrize("make, reset", [
    (lambda w: gru_from_pytorch(w(15, 3), w(15, 5)), "after"),
    (lambda w: gru_from_keras(w(3, 15), w(5, 15)), "after"),
    (lambda w: gru_from_keras(w(3, 15), w(5, 15), reset_after=False), "before"),
    (lambda w: gru_from_onnx(w(1, 15, 3), w(1, 15, 5)), "before"),
])
def test_without_biases(make, reset, rng):
    p = make(lambda *shape: rng.normal(size=shape))
    assert (p.ba == 0).all() and (p.bac is None or (p.bac == 0).all())
    gru(p, rng.normal(size=(2, 3, 3)), reset=reset)


BEFORE, AFTER, SIMPLE = (case(u)[0] for u in GRUS)
ones = np.ones
X1, A1 = ones((1, 3)), GRUState(ones((1, 5)))
CACHE = gru_step(BEFORE, X1, A1)[1]
BAD = {
    "reset": (lambda: gru_init(0, 3, 5, reset="inside"), ValueError, "reset: expected one of before, after, got 'inside'"),
    "variant": (lambda: GRU(3, 5, variant="minimal"), ValueError, "variant: expected one of full, simplified, got 'minimal'"),
    "simplified after": (lambda: GRU(3, 5, variant="simplified", reset="after"), ValueError, "has no reset gate"),
    "sizes": (lambda: GRU(3, 0), ValueError, "n_a: expected a whole number >= 1, got 0"),
    "after as before": (lambda: gru(AFTER, ones((2, 1, 3))), ValueError, r"p.bac: reset='before' expects None, got shape \(5,\)"),
    "before as after": (
        lambda: gru(BEFORE, ones((2, 1, 3)), reset="after"), ValueError, r"p.bac: reset='after' expects \(n_a,\), got None"),
    "simplified as full": (
        lambda: gru(SIMPLE, ones((2, 1, 3))), ValueError, r"p.Waa: variant='full' has 3 blocks of 5 rows, got shape \(10, 5\)"),
    "full as simplified": (
        lambda: gru_step(BEFORE, ones((1, 3)), GRUState(ones((1, 5))), variant="simplified"), ValueError, "2 blocks of 5 rows"),
    "full gates as simplified": (lambda: gru_gates(BEFORE, ones((2, 1, 3)), variant="simplified"), ValueError, "p.Waa"),
    "gate": (lambda: gru_gate(SIMPLE, "r"), ValueError, "gate: expected one of u, c, got 'r'"),
    "no reset gate abroad": (lambda: gru_to_keras(SIMPLE), ValueError, "expected parameters of the full unit"),
    "before to PyTorch": (lambda: gru_to_pytorch(BEFORE), ValueError, "PyTorch resets after the product"),
    "PyTorch shape": (
        lambda: gru_from_pytorch(ones((14, 3)), ones((15, 5))), ValueError, r"weight_ih: expected shape \(15, n_x\), got \(14, 3\)"),
    "PyTorch rows": (
        lambda: gru_from_pytorch(ones((15, 3)), ones((20, 5))), ValueError, r"weight_hh: expected shape \(15, 5\), got \(20, 5\)"),
    "PyTorch bias": (
        lambda: gru_from_pytorch(ones((15, 3)), ones((15, 5)), ones(5)), ValueError, r"bias_ih: expected shape \(15,\), got \(5,\)"),
    "PyTorch dtype": (
        lambda: gru_from_pytorch(ones((15, 3), np.float32), ones((15, 5))), TypeError, "weight_ih: expected float64, got float32"),
    "a list": (lambda: gru_from_pytorch([[1.0]], ones((3, 1))), TypeError, "weight_ih: expected a NumPy or CuPy array, got list"),
    "Keras kernel": (
        lambda: gru_from_keras(ones((15, 3)), ones((5, 15))), ValueError, r"kernel: expected shape \(n_x, 15\), got \(15, 3\)"),
    "Keras bias": (
        lambda: gru_from_keras(ones((3, 15)), ones((5, 15)), ones(15)), ValueError, r"bias: expected shape \(2, 15\), got \(15,\)"),
    "Keras biases": (
        lambda: gru_from_keras(ones((3, 15)), ones((5, 15)), ones((2, 15)), reset_after=False), ValueError, r"expected shape \(15,\)"),
    "ONNX directions": (
        lambda: gru_from_onnx(ones((2, 15, 3)), ones((2, 15, 5))), ValueError, r"R: expected shape \(1, 3 n_a, n_a\), got \(2, 15, 5\)"),
    "a word for a flag": (
        lambda: gru_from_keras(ones((3, 15)), ones((5, 15)), reset_after="no"),
        ValueError, "reset_after: expected True or False, got 'no'"),
    "a word for ONNX's": (
        lambda: gru_from_onnx(ones((1, 15, 3)), ones((1, 15, 5)), None, "before"),
        ValueError, "linear_before_reset: expected True or False"),
    "options in an array": (lambda: gru_init(0, 3, 5, reset=np.array(["a", "b"])), ValueError, "reset: expected one of before, after"),
    "X a list": (lambda: gru(BEFORE, [[[1.0]]]), TypeError, "X: expected a NumPy or CuPy array, got list"),
    "X for p": (lambda: gru(ones((2, 1, 3)), BEFORE), TypeError, "p: expected GRUParams, got ndarray"),
    "a layer for p": (lambda: gru_step(GRU(3, 5), X1, A1), TypeError, "p: expected GRUParams, got GRU"),
    "an RNN for p": (lambda: gru_gate(rnn_init(0, 3, 5), "c"), TypeError, "p: expected GRUParams, got RNNParams"),
    "a layer to PyTorch": (lambda: gru_to_pytorch(GRU(3, 5, "after")), TypeError, "p: expected GRUParams, got GRU"),
    "Waa flat": (
        lambda: gru(BEFORE._replace(Waa=ones(15)), ones((2, 1, 3))), ValueError, r"p.Waa: expected shape \(rows, n_a\), got \(15,\)"),
    "Waa a list": (
        lambda: gru(BEFORE._replace(Waa=[[1.0]]), ones((2, 1, 3))), TypeError, "p.Waa: expected a NumPy or CuPy array, got list"),
    "Waa of whole numbers": (
        lambda: gru(BEFORE._replace(Waa=ones((15, 5), int)), ones((2, 1, 3))), TypeError, "p.Waa: expected float32 or float64, got int64"),
    "rows of no unit": (
        lambda: gru_gate(BEFORE._replace(Waa=ones((13, 5))), "u"), ValueError, r"p.Waa: expected 3 n_a rows \(r, u, c\) or 2 n_a rows"),
    "rows to cut": (lambda: gru_blocks(ones((7, 3)), 5), ValueError, r"w: expected 15 rows \(r, u, c\) or 10 \(u, c\), got shape \(7, 3\)"),
    "Wax in a step": (lambda: gru_step(BEFORE._replace(Wax=ones((10, 3))), X1, A1), ValueError, r"p.Wax: expected shape \(15, 3\)"),
    "ba in a step": (lambda: gru_step(BEFORE._replace(ba=ones(15, np.float32)), X1, A1), TypeError, "p.ba: expected float64, got float32"),
    "one bac for all": (
        lambda: gru(AFTER._replace(bac=ones(1)), ones((2, 1, 3)), reset="after"), ValueError, r"p.bac: expected shape \(5,\)"),
    "bac for each example": (
        lambda: gru_step(AFTER._replace(bac=ones((1, 5))), X1, A1, "after"), ValueError, r"p.bac: expected shape \(5,\)"),
    "bac a number": (
        lambda: gru_step(AFTER._replace(bac=0.0), X1, A1, "after"), TypeError, "p.bac: expected a NumPy or CuPy array, got float"),
    "ba to ONNX": (lambda: gru_to_onnx(BEFORE._replace(ba=ones(9))), ValueError, r"p.ba: expected shape \(15,\), got \(9,\)"),
    "dstate an array": (lambda: gru_step_grad(BEFORE, A1.a, CACHE), TypeError, r"dstate: expected GRUState\(a\), got ndarray"),
    "dstate of one for all": (
        lambda: gru_step_grad(BEFORE, GRUState(ones((1, 5))), gru_step(BEFORE, ones((4, 3)), GRUState(ones((4, 5))))[1]),
        ValueError, r"dstate.a: expected shape \(4, 5\), got \(1, 5\)"),
    "dstate dtype": (lambda: gru_step_grad(BEFORE, GRUState(ones((1, 5), np.float32)), CACHE), TypeError, "dstate.a: expected float64"),
    "cache and dstate changed": (
        lambda: gru_step_grad(BEFORE, CACHE, A1), TypeError, "cache: expected what gru_step handed back, got GRUState"),
    "cache of another form": (
        lambda: gru_step_grad(AFTER, A1, CACHE), ValueError, "cache: expected one of the same reset and variant as p"),
    "cache of the simplified": (lambda: gru_step_grad(SIMPLE, A1, CACHE), ValueError, "cache: expected one of the same reset and variant"),
    "layer's step without x": (lambda: GRU(3, 5).step(None), TypeError, "x: expected a NumPy or CuPy array, got NoneType"),
    "layer's step from 0": (lambda: GRU(3, 5).step(ones((1, 3), np.float32), 0), TypeError, r"state: expected GRUState\(a\), got int"),
    "layer's step from an array": (lambda: GRU(3, 5).step(ones((1, 3), np.float32), ones((1, 5))), TypeError, "state: expected GRUState"),
    "ONNX bias": (lambda: gru_from_onnx(ones((1, 15, 3)), ones((1, 15, 5)), ones((1, 15))), ValueError, r"B: expected shape \(1, 30\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named(bad):
    make, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        make()


def test_no_derivative_is_a_derivative_of_zero():
    dx, before, grads = gru_step_grad(BEFORE, GRUState(None), CACHE)
    assert not any(a.any() for a in leaves((dx, before, grads)).values())


def test_params_without_the_last_field_are_those_of_before():
    assert GRUParams(*BEFORE[:3]).bac is None

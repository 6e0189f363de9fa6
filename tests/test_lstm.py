"""The LSTM beyond the matrix: masks that change from step to step, variants, starts, gates, converters, bad input."""
import json

import numpy as np
import pytest
from agreement import agree
from test_units import run
from units import LSTM_FORMS, case

from seqbook.backend import DeviceArray, asnumpy, device, leaves, to, tree_map
from seqbook.bptt import check_unit
from seqbook.gru import gru_init
from seqbook.language_model import layer_config, layer_from
from seqbook.lstm import (
    LSTM,
    LSTMMasks,
    LSTMState,
    draw_lstm,
    identity,
    lstm,
    lstm_decoupled,
    lstm_forward,
    lstm_from_gates,
    lstm_from_keras,
    lstm_from_onnx,
    lstm_from_pytorch,
    lstm_gate,
    lstm_gates,
    lstm_init,
    lstm_masks,
    lstm_plain,
    lstm_rows,
    lstm_step,
    lstm_step_grad,
    lstm_to_keras,
    lstm_to_onnx,
    lstm_to_pytorch,
)

FORMS = [{"peepholes": a, "coupled": b} for a in (False, True) for b in (False, True)]
RATES = [{"recurrent_dropout": 0.4}, {"zoneout_a": 0.4}, {"zoneout_c": 0.4}, {"recurrent_dropout": 0.3, "zoneout_a": 0.2, "zoneout_c": 0.5}]
LENGTHS = {"full": None, "ragged": [6, 3, 0, 4]}
name = lambda d: "-".join(map(str, d)) + "-" + "-".join(map(str, d.values())) if isinstance(d, dict) else str(d)
pytestmark = pytest.mark.filterwarnings("error")


def made(init, dtype=np.float64, seed=0):
    "Parameters with non-zero biases and peepholes, input and state."
    rng = np.random.default_rng(seed)
    p = tree_map(lambda w: (w + 0.5 * rng.normal(size=w.shape)).astype(dtype), lstm_init(rng, 3, 5, dtype, **init))
    return p, rng.normal(size=(6, 4, 3)).astype(dtype), LSTMState(*rng.normal(size=(2, 4, 5)).astype(dtype))


@pytest.mark.parametrize("steps", [None, 6], ids=["per sequence", "per step"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("peepholes", ["gers", "lecture"])
@pytest.mark.parametrize("rates", RATES, ids=name)
@pytest.mark.parametrize("init", FORMS, ids=name)
def test_masks_drawn_for_each_example(init, rates, peepholes, lengths, steps):
    "Gradients equal central differences, and the fast form equals the plain one."
    p, X, state = made(init)
    options = {"peepholes": peepholes, "masks": lstm_masks(7, 4, 5, **rates, T=steps, dtype=np.float64)}
    check_unit(lstm, p, X, state, LENGTHS[lengths], samples=12, **options).check(1e-7)
    agree(run(lstm, p, X, state, LENGTHS[lengths], **options), run(lstm_plain, p, X, state, LENGTHS[lengths], **options), 1e-13)


@pytest.mark.parametrize("form", LSTM_FORMS)
def test_masks_on_the_device_without_a_single_wait(form, synchronisations):
    p, X, state = made({"peepholes": True})
    masks = lstm_masks(7, 4, 5, 0.3, 0.2, 0.5, T=6, dtype=np.float64)
    want = run(LSTM_FORMS[form], p, X, state, [6, 3, 0, 4], masks=masks)
    there = lambda tree: tree_map(device.asarray, tree)
    got = run(LSTM_FORMS[form], there(p), there(X), there(state), [6, 3, 0, 4], masks=there(masks))
    assert not synchronisations and all(isinstance(a, DeviceArray) for a in got.values())
    agree(tree_map(asnumpy, got), want, 1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("form", LSTM_FORMS)
def test_masks_on_a_gpu(form):
    import cupy
    p, X, state = made({"peepholes": True})
    masks = lstm_masks(7, 4, 5, 0.3, 0.2, 0.5, T=6, dtype=np.float64)
    Y, end, pullback = LSTM_FORMS[form](p, X, state, [6, 3, 0, 4], masks=masks)
    there = to((p, X, state), "cupy")
    Y_g, end_g, pullback_g = LSTM_FORMS[form](*there, [6, 3, 0, 4], masks=to(masks, "cupy"))
    want = leaves({"Y": Y, "end": end, "back": pullback(np.ones_like(Y))})
    agree(to(leaves({"Y": Y_g, "end": end_g, "back": pullback_g(cupy.ones_like(Y_g))}), "numpy"), want, 1e-10)


def test_stepping_with_masks_that_change():
    p, X, state = made({"peepholes": True})
    masks = lstm_masks(7, 4, 5, 0.3, 0.2, 0.5, T=6, dtype=np.float64)
    Y, end, _ = lstm(p, X, state, masks=masks)
    for t, x in enumerate(X):
        state, _ = lstm_step(p, x, state, masks=LSTMMasks(masks.drop, masks.hold_a[t], masks.hold_c[t]))
        assert np.allclose(state.a, Y[t], atol=1e-14)
    assert np.allclose(state.c, end.c, atol=1e-14)


def test_masks_do_what_they_say():
    p, X, state = made({})
    held = lstm(p, X, state, masks=LSTMMasks(hold_a=np.ones((4, 5)), hold_c=np.ones((4, 5))))
    assert (held[0] == state.a).all() and (held[1].c == state.c).all()
    neutral = LSTMMasks(np.ones((4, 5)), np.zeros((4, 5)), np.zeros((4, 5)))
    assert np.allclose(lstm(p, X, state, masks=neutral)[0], lstm(p, X, state)[0], atol=1e-15)
    dropped = lstm(p, X, state, masks=LSTMMasks(drop=np.zeros((4, 5))))[0]
    no_recurrence = p._replace(Waa=np.zeros_like(p.Waa))
    assert np.allclose(dropped, lstm(no_recurrence, X, state)[0], atol=1e-15)


def test_masks_are_drawn_as_told():
    assert all(m is None for m in lstm_masks(0, 4, 5))
    a, b = (lstm_masks(3, 200, 50, 0.25, 0.1, 0.5, T=4) for _ in range(2))
    assert all((x == y).all() and x.dtype == np.float32 for x, y in zip(a, b, strict=True))
    assert a.drop.shape == (200, 50) and a.hold_a.shape == (4, 200, 50)
    assert set(np.unique(a.drop)) == {np.float32(0), np.float32(1 / 0.75)} and set(np.unique(a.hold_c)) == {0, 1}
    assert abs(a.drop.mean() - 1) < 0.03 and abs(a.hold_a.mean() - 0.1) < 0.01 and abs(a.hold_c.mean() - 0.5) < 0.01
    mean = lstm_masks(None, 4, 5, 0.25, 0.1, 0.5, T=9)
    assert mean.drop is None and (mean.hold_a == np.float32(0.1)).all() and mean.hold_c.shape == (4, 5)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), "0.5", None, True])
@pytest.mark.parametrize("which", ["recurrent_dropout", "zoneout_a", "zoneout_c"])
def test_bad_rates_are_named(which, rate):
    for make in (lambda **rates: lstm_masks(0, 4, 5, **rates), lambda **rates: LSTM(3, 5, **rates)):
        with pytest.raises((ValueError, TypeError), match=rf"{which}: expected a number in \[0, 1\), got {rate!r}"):
            make(**{which: rate})


@pytest.mark.parametrize("peepholes", [False, True])
def test_decoupled_computes_the_same(peepholes):
    p, X, state = made({"coupled": True, "peepholes": peepholes})
    for option in ("gers", "lecture"):
        Y, end, _ = lstm(p, X, state, peepholes=option)
        Z, end_z, _ = lstm(lstm_decoupled(p), X, state, peepholes=option)
        assert np.allclose(Y, Z, atol=1e-14) and np.allclose(end.c, end_z.c, atol=1e-14)
    full = made({})[0]
    assert lstm_decoupled(full) is full


@pytest.mark.parametrize("init", FORMS, ids=name)
def test_gate_matrices_act_on_a_and_x(init):
    p, X, state = made(init)
    gates, ax = lstm_gates(p, X[:1], state), np.concatenate([state.a, X[0]], axis=1)
    z = {g: ax @ W.T + b for g in "ufco" for W, b in [lstm_gate(p, g)]}
    assert np.allclose(np.tanh(z["c"]), gates.c_tilde[0])
    if not init["peepholes"]:
        for g, G in (("u", gates.Gu), ("f", gates.Gf), ("o", gates.Go)):
            assert np.allclose(1 / (1 + np.exp(-z[g])), G[0]), g
    kept = {g: lstm_gate(p, g) for g in lstm_rows(p)}
    assert all((a == b).all() for a, b in zip(lstm_from_gates(kept, p.P)[:3], p[:3], strict=True))


def test_gates_over_time():
    p, X, state = made({"peepholes": True})
    gates = lstm_gates(p, X, state, [6, 3, 0, 4], peepholes="lecture")
    assert (gates.a == lstm_forward(p, X, state, [6, 3, 0, 4], "lecture")[0]).all()
    assert all(g.shape == (6, 4, 5) and (g[3:, 1] == 0).all() and (g[:, 2] == 0).all() for g in gates)
    before = np.concatenate([state.c[None], gates.c[:-1]])[:, 0]
    assert np.allclose(gates.c[:, 0], gates.Gu[:, 0] * gates.c_tilde[:, 0] + gates.Gf[:, 0] * before)
    layer = LSTM(3, 5, peepholes="lecture", zoneout_c=0.5, dtype=np.float64)
    assert np.allclose(layer.gates(X, state).a, layer(X, state)[0])


def test_plots():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    p, X, state = made({})
    figure = lstm_gates(p, X).plot(example=1, words="abc", units=[0, 2], fields=("Gu", "c_tilde"))
    assert figure.axes[0].images[0].get_array().shape == (2, 3)
    figure = lstm_gates(p, X).plot()
    images = [ax.images[0] for ax in figure.axes if ax.images]
    tops = [image.get_clim()[1] for image in images]
    assert len(images) == 6 and tops[:4] == [1, 1, 1, 1] and tops[4] == abs(images[4].get_array()).max()
    with pytest.raises(ValueError, match="example: expected one of the 4 examples of 0 steps"):
        lstm_gates(p, X[:0]).plot()
    with pytest.raises(ValueError, match="example: expected one of the 4 examples of 6 steps, got 4"):
        lstm_gates(p, X).plot(example=4)
    with pytest.raises(ValueError, match="fields: expected one of Gu, Gf, Go, c_tilde, c, a, got 'Gx'"):
        lstm_gates(p, X).plot(fields=("Gx",))
    with pytest.raises(ValueError, match="peepholes: expected None or one of gers, lecture"):
        draw_lstm("all")
    with pytest.raises(ValueError, match="coupled: expected True or False, got 'yes'"):
        draw_lstm(coupled="yes")
    with pytest.raises(TypeError, match="ax: expected matplotlib axes, or None, got str"):
        draw_lstm(ax="left")
    for peepholes in (None, "gers", "lecture"):
        for coupled in (False, True):
            assert draw_lstm(peepholes, coupled).texts
    plt.close("all")


def test_starts():
    n = 5
    for recurrent in ("orthogonal", "glorot", "identity"):
        p = lstm_init(0, 3, n, np.float64, forget_bias=2.5, recurrent=recurrent)
        assert (p.ba == np.repeat([0, 2.5, 0, 0], n)).all() and p.P is None
        blocks = p.Waa.reshape(4, n, n)
        if recurrent == "identity":
            assert (blocks == np.eye(n)).all()
        elif recurrent == "orthogonal":
            assert np.allclose(blocks @ blocks.transpose(0, 2, 1), np.eye(n)) and not np.allclose(blocks[0], blocks[1])
        else:
            assert abs(blocks).max() <= np.sqrt(6 / (2 * n)) and not np.allclose(blocks[0], blocks[1])
        assert abs(p.Wax).max() <= np.sqrt(6 / (3 + n))
    assert all((a == b).all() for a, b in zip(lstm_init(4, 3, n)[:3], lstm_init(4, 3, n)[:3], strict=True))
    assert lstm_init(0, 3, n, peepholes=True, coupled=True).P.shape == (2, n)
    with pytest.raises(ValueError, match="recurrent: expected one of orthogonal, glorot, identity"):
        lstm_init(0, 3, n, recurrent="xavier")
    with pytest.raises(ValueError, match="n_a: expected a whole number"):
        lstm_init(0, 3, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init", FORMS, ids=name)
def test_converters_there_and_back(init, dtype):
    p = made(init, dtype)[0]
    want = leaves(lstm_decoupled(p)).values()
    same = lambda q: all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(leaves(q).values(), want, strict=True))
    assert same(lstm_from_onnx(**lstm_to_onnx(p)))
    if init["peepholes"]:
        for to_other in (lstm_to_pytorch, lstm_to_keras):
            with pytest.raises(ValueError, match="has no peepholes"):
                to_other(p)
    else:
        assert same(lstm_from_pytorch(**lstm_to_pytorch(p))) and same(lstm_from_keras(**lstm_to_keras(p)))


def test_converted_weights_are_copies():
    p = made({})[0]
    before = [w.copy() for w in p[:3]]
    for weights in (lstm_to_pytorch(p), lstm_to_keras(p), lstm_to_onnx(p)):
        for w in weights.values():
            w += 1
    for read, weights in ((lstm_from_pytorch, lstm_to_pytorch(p)), (lstm_from_keras, lstm_to_keras(p)), (lstm_from_onnx, lstm_to_onnx(p))):
        kept = {k: w.copy() for k, w in weights.items()}
        for w in leaves(read(**weights)).values():
            w += 1
        assert all((weights[k] == kept[k]).all() for k in weights)
    assert all((a == b).all() for a, b in zip(before, p[:3], strict=True))


def test_weights_without_biases():
    p = made({})[0]
    bare = p._replace(ba=0 * p.ba)
    same = lambda q: all(np.array_equal(a, b) for a, b in zip(leaves(q).values(), leaves(bare).values(), strict=True))
    a, b, c = lstm_to_pytorch(p), lstm_to_keras(p), lstm_to_onnx(p)
    assert same(lstm_from_pytorch(a["weight_ih"], a["weight_hh"])) and same(lstm_from_keras(b["kernel"], b["recurrent_kernel"]))
    assert same(lstm_from_onnx(c["W"], c["R"]))


def test_bad_weights_are_named():
    p = made({})[0]
    torch, keras, onnx = lstm_to_pytorch(p), lstm_to_keras(p), lstm_to_onnx(p)
    with pytest.raises(ValueError, match=r"weight_ih: expected shape \(20, n_x\), got \(3, 20\)"):
        lstm_from_pytorch(**torch | {"weight_ih": torch["weight_ih"].T})
    with pytest.raises(ValueError, match=r"weight_hh: expected shape \(8, 2\), got \(20, 2\)"):
        lstm_from_pytorch(**torch | {"weight_hh": torch["weight_hh"][:, :2]})
    with pytest.raises(TypeError, match="bias_hh: expected float64, got float32"):
        lstm_from_pytorch(**torch | {"bias_hh": torch["bias_hh"].astype(np.float32)})
    with pytest.raises(TypeError, match="weight_hh: expected a NumPy or CuPy array, got list"):
        lstm_from_pytorch(torch["weight_ih"], torch["weight_hh"].tolist())
    with pytest.raises(ValueError, match=r"kernel: expected shape \(n_x, 20\), got \(20, 3\)"):
        lstm_from_keras(**keras | {"kernel": keras["kernel"].T})
    with pytest.raises(ValueError, match=r"bias: expected shape \(20,\), got \(15,\)"):
        lstm_from_keras(**keras | {"bias": keras["bias"][:15]})
    with pytest.raises(ValueError, match=r"B: expected shape \(1, 40\), got \(1, 20\)"):
        lstm_from_onnx(**onnx | {"B": np.zeros((1, 20))})
    with pytest.raises(ValueError, match=r"W: expected shape \(1, 20, n_x\), got \(2, 20, 3\)"):
        lstm_from_onnx(**onnx | {"W": np.concatenate([onnx["W"]] * 2)})


@pytest.mark.parametrize("form", LSTM_FORMS)
def test_bad_input_is_named(form):
    f, (p, X, state) = LSTM_FORMS[form], made({"peepholes": True})
    with pytest.raises(ValueError, match="peepholes: expected one of gers, lecture, got 'all'"):
        f(p, X, state, peepholes="all")
    with pytest.raises(ValueError, match=r"masks.drop: expected shape \(4, 5\), got \(6, 5\)"):
        f(p, X, state, masks=LSTMMasks(drop=np.ones((6, 5))))
    with pytest.raises(ValueError, match=r"masks.hold_c: expected shape \(6, 4, 5\), got \(5, 4, 5\)"):
        f(p, X, state, masks=LSTMMasks(hold_c=np.ones((5, 4, 5))))
    with pytest.raises(TypeError, match="masks.hold_a: expected float64, got float32"):
        f(p, X, state, masks=LSTMMasks(hold_a=np.ones((4, 5), np.float32)))
    with pytest.raises(TypeError, match="bring them to one side"):
        f(p, X, state, masks=LSTMMasks(hold_a=device.asarray(np.ones((4, 5)))))
    with pytest.raises(ValueError, match=r"p.Waa: expected 4 n_a rows .* got shape \(19, 5\)"):
        f(p._replace(Wax=p.Wax[:19], Waa=p.Waa[:19], ba=p.ba[:19]), X, state)
    with pytest.raises(ValueError, match=r"p.Wax: expected shape \(20, 3\), got \(19, 3\)"):
        f(p._replace(Wax=p.Wax[:19]), X, state)
    with pytest.raises(ValueError, match=r"p.ba: expected shape \(20,\), got \(5,\)"):
        f(p._replace(ba=p.ba[:5]), X, state)
    with pytest.raises(ValueError, match=r"p.P: expected shape \(3, 5\), got \(2, 5\)"):
        f(p._replace(P=p.P[:2]), X, state)
    with pytest.raises(ValueError, match=r"state.c: expected shape \(4, 5\), got \(4, 4\)"):
        f(p, X, LSTMState(state.a, state.c[:, :4]))


def test_bad_gates_are_named():
    p = made({})[0]
    with pytest.raises(ValueError, match="gate: expected one of u, f, c, o, got 'i'"):
        lstm_gate(p, "i")
    with pytest.raises(ValueError, match="gates: expected u, f, c, o"):
        lstm_from_gates({g: lstm_gate(p, g) for g in "uf"})
    with pytest.raises(ValueError, match=r"gates\['o'\]\[0\]: expected shape \(5, 8\), got \(4, 8\)"):
        lstm_from_gates({g: lstm_gate(p, g) for g in "ufc"} | {"o": (np.ones((4, 8)), np.ones(5))})


P0, X0, S0 = made({"peepholes": True})
K0 = lstm_step(P0, X0[0], S0)[1]
pair, one = (np.ones((5, 8)), np.ones(5)), np.ones((4, 5))
gates_of = lambda value: dict.fromkeys("ufco", value)
stepped = lambda **fields: lstm_step(P0._replace(**fields), X0[0], S0)
BAD = {
    "p a layer": (lambda: lstm(LSTM(3, 5), X0), "p: expected LSTMParams, got LSTM"),
    "p of a GRU": (lambda: lstm_gate(gru_init(0, 3, 5), "f"), "p: expected LSTMParams, got GRUParams"),
    "GRU to PyTorch": (lambda: lstm_to_pytorch(gru_init(0, 3, 5)), "p: expected LSTMParams, got GRUParams"),
    "X for p": (lambda: lstm(X0, P0), "p: expected LSTMParams, got ndarray"),
    "X a list": (lambda: lstm(P0, X0.tolist()), "X: expected a NumPy or CuPy array, got list"),
    "Waa flat": (lambda: lstm(P0._replace(Waa=np.ones(20)), X0), r"p.Waa: expected shape \(rows, n_a\), got \(20,\)"),
    "P a list": (lambda: lstm(P0._replace(P=[[1.0]]), X0), "p.P: expected a NumPy or CuPy array, got list"),
    "ba to ONNX": (lambda: lstm_to_onnx(P0._replace(ba=np.ones(8))), r"p.ba: expected shape \(20,\), got \(8,\)"),
    "step, P": (lambda: stepped(P=np.ones((3, 1))), r"p.P: expected shape \(3, 5\), got \(3, 1\)"),
    "step, P dtype": (lambda: stepped(P=np.ones((3, 5), np.float32)), "p.P: expected float64, got float32"),
    "step, one ba": (lambda: stepped(ba=np.ones(1)), r"p.ba: expected shape \(20,\), got \(1,\)"),
    "step, Wax": (lambda: stepped(Wax=np.ones((10, 3))), r"p.Wax: expected shape \(20, 3\), got \(10, 3\)"),
    "step, peepholes": (lambda: lstm_step(P0, X0[0], S0, "Gers"), "peepholes: expected one of gers, lecture, got 'Gers'"),
    "step, masks an array": (
        lambda: lstm_step(P0, X0[0], S0, masks=one), r"masks: expected LSTMMasks\(drop, hold_a, hold_c\), got ndarray"),
    "step, mask of all steps": (
        lambda: lstm_step(P0, X0[0], S0, masks=LSTMMasks(np.ones((6, 4, 5)))), r"masks.drop: expected shape \(4, 5\), got \(6, 4, 5\)"),
    "step, mask for all": (
        lambda: lstm_step(P0, X0[0], S0, masks=LSTMMasks(np.ones(5))), r"masks.drop: expected shape \(4, 5\), got \(5,\)"),
    "step, mask dtype": (lambda: lstm_step(P0, X0[0], S0, masks=LSTMMasks(one.astype(np.float32))), "masks.drop: expected float64"),
    "masks a dictionary": (lambda: lstm(P0, X0, masks={"drop": one}), "masks: expected LSTMMasks.*, got dict"),
    "masks a seed": (lambda: LSTM(3, 5)(X0.astype(np.float32), masks=0), "masks: expected LSTMMasks.*, got int"),
    "mask a number": (lambda: lstm(P0, X0, masks=LSTMMasks(0.5)), "masks.drop: expected a NumPy or CuPy array, got float"),
    "mask too large": (lambda: lstm(P0, X0, masks=LSTMMasks(hold_c=7 * one)), "masks.hold_c: expected values from 0 to 1, got 7.0"),
    "mask negative": (lambda: lstm(P0, X0, masks=LSTMMasks(-one)), "masks.drop: expected values from 0 to inf, got -1.0"),
    "mask NaN": (lambda: lstm(P0, X0, masks=LSTMMasks(hold_a=one * np.nan)), "masks.hold_a: expected values from 0 to 1, got nan"),
    "dstate an array": (lambda: lstm_step_grad(P0, S0.a, K0), r"dstate: expected LSTMState\(a, c\), got ndarray"),
    "dstate for all": (lambda: lstm_step_grad(P0, LSTMState(one[:1], one[:1]), K0), r"dstate.a: expected shape \(4, 5\), got \(1, 5\)"),
    "cache and dstate changed": (lambda: lstm_step_grad(P0, K0, S0), "cache: expected the LSTMCache that lstm_step handed back"),
    "layer's step without x": (lambda: LSTM(3, 5).step(None), "x: expected a NumPy or CuPy array, got NoneType"),
    "layer's step from an array": (
        lambda: LSTM(3, 5, dtype=np.float64).step(X0[0], S0.a), r"state: expected LSTMState\(a, c\), got ndarray"),
    **{f"forget bias {b!r}": (lambda b=b: lstm_init(0, 3, 5, forget_bias=b), rf"forget_bias: expected a number in \(-inf, inf\), got {b!r}")
       for b in ("1", None, float("nan"), True)},
    "recurrent a list": (lambda: lstm_init(0, 3, 5, recurrent=["glorot"]), "recurrent: expected one of orthogonal, glorot, identity, got"),
    "peepholes by name": (lambda: lstm_init(0, 3, 5, peepholes="none"), "peepholes: expected True or False, got 'none'"),
    "coupled by name": (lambda: LSTM(3, 5, coupled="no"), "coupled: expected True or False, got 'no'"),
    "B": (lambda: lstm_masks(0, "4", 5, 0.5), "B: expected a whole number >= 0, got '4'"),
    "negative B": (lambda: LSTM(3, 5).masks(0, -4), "B: expected a whole number >= 0, got -4"),
    "T": (lambda: lstm_masks(0, 4, 5, zoneout_a=0.5, T=6.0), "T: expected a whole number >= 0, got 6.0"),
    "masks' dtype": (lambda: lstm_masks(0, 4, 5, 0.5, dtype=int), "dtype: expected float32 or float64, got int64"),
    "gates a list": (lambda: lstm_from_gates([1]), "gates: expected a dictionary from gate to .W, b., got list"),
    "gates without biases": (lambda: lstm_from_gates(gates_of(np.ones((5, 8)))), r"gates\['u'\]: expected a pair \(W, b\), got ndarray"),
    "gates of lists": (lambda: lstm_from_gates(gates_of(([[1.0]], [0.0]))), r"gates\['f'\]\[0\]: expected a NumPy or CuPy array, got list"),
    "gates without inputs": (
        lambda: lstm_from_gates(gates_of((np.ones((5, 5)), np.ones(5)))), r"gates\['f'\]\[0\]: expected shape .*, more columns than rows"),
    "gates of two dtypes": (
        lambda: lstm_from_gates(gates_of((np.ones((5, 8)), np.ones(5, np.float32)))), r"gates\['u'\]\[1\]: expected float64, got float32"),
    "gates and P": (lambda: lstm_from_gates(gates_of(pair), np.ones((2, 5))), r"P: expected shape \(3, 5\), got \(2, 5\)"),
    "input_forget": (
        lambda: lstm_from_onnx(np.ones((1, 20, 3)), np.ones((1, 20, 5)), input_forget="0"),
        "input_forget: expected True or False, got '0'"),
    "identity": (lambda: identity(0, (5, 5), int), "dtype: expected float32 or float64, got int64"),
}


@pytest.mark.parametrize("bad", BAD)
def test_careless_calls_are_answered_by_name(bad):
    call, message = BAD[bad]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_no_derivative_is_a_derivative_of_zero():
    want = lstm_step_grad(P0, LSTMState(S0.a, np.zeros((4, 5))), K0)
    agree(leaves(lstm_step_grad(P0, LSTMState(S0.a, None), K0)), leaves(want), 0)


LAYERS = [{}, {"peepholes": "gers"}, {"peepholes": "lecture", "coupled": True, "forget_bias": 2.0, "recurrent": "identity"},
          {"recurrent_dropout": 0.2, "zoneout_a": 0.05, "zoneout_c": 0.5}]


@pytest.mark.parametrize("options", LAYERS, ids=name)
def test_layer(options):
    layer = LSTM(3, 5, **options, seed=1)
    X = made({}, np.float32)[1]
    Y, end, pullback = layer(X, lengths=[6, 3, 0, 4])
    assert Y.shape == (6, 4, 5) and Y.dtype == np.float32
    _, grads, _ = pullback(np.ones_like(Y))
    assert leaves(grads).keys() == leaves(layer.params).keys()
    a, state = layer.step(X[0])
    b, state = layer.step(X[1], state)
    assert np.allclose(np.stack([a, b]), layer(X[:2])[0], atol=1e-6)
    again = layer_from(json.loads(json.dumps(layer_config(layer))))
    again.params = layer.params
    assert (again(X)[0] == layer(X)[0]).all() and repr(again) == repr(layer)


def test_layer_trains_with_masks():
    layer = LSTM(3, 5, recurrent_dropout=0.5, zoneout_c=0.5)
    X = made({}, np.float32)[1]
    masks = layer.masks(0, B=4, T=6)
    assert masks.drop.shape == (4, 5) and masks.hold_c.shape == (6, 4, 5) and masks.hold_a is None
    assert (layer(X, masks=masks)[0] == lstm(layer.params, X, masks=masks)[0]).all()
    assert not np.allclose(layer(X, masks=masks)[0], layer(X)[0])
    assert layer.masks(None, B=4).drop is None
    with pytest.raises(ValueError, match="peepholes: expected None or one of gers, lecture, got True"):
        LSTM(3, 5, peepholes=True)


def test_counts_exactly():
    "The hand-written counter of the chapter: the cell adds, to rounding, over thousands of steps."
    big, none = 40.0, np.zeros((1, 2))
    p = lstm_from_gates({"u": (none, np.array([big])), "f": (none, np.array([big])), "c": (np.array([[0, big]]), np.zeros(1)),
                         "o": (none, np.array([big]))})
    X = np.random.default_rng(0).choice([-1.0, 1.0], size=(5000, 3, 1))
    assert np.allclose(lstm(p, X)[1].c[:, 0], X.sum(axis=0)[:, 0], atol=1e-9)


def test_matrix_covers_every_form():
    from units import UNITS
    for unit in UNITS:
        if unit.name.startswith("lstm"):
            p, X, state = case(unit)
            assert np.isfinite(unit.forms["table"](p, X, state)[0]).all()

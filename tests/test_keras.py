"""Keras 3 on PyTorch: masks, both directions, both resets of the GRU, merges and initial states: outputs, states, gradients.

Keras on PyTorch multiplies in float32 whatever a layer's dtype is, by a table of its own. For float64 that table's entry is changed for the
time of the test; what happens when it is left alone has a test below.
"""
import os
from functools import partial

import numpy as np
import pytest
from agreement import agree
from units import UNITS, case

from seqbook.backend import leaves
from seqbook.brnn import BidirectionalParams, BidirectionalState, bidirectional, reverse
from seqbook.gru import gru, gru_from_keras, gru_to_keras
from seqbook.interop import rnn_from_keras, rnn_to_keras
from seqbook.lstm import lstm, lstm_from_keras, lstm_to_keras
from seqbook.rnn import rnn

torch = pytest.importorskip("torch", reason="PyTorch, on which Keras runs here, is not installed: pip install 'seqbook[peers]'")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", minversion="3.0", reason="Keras 3 is not installed: pip install 'seqbook[peers]'")
if keras.backend.backend() != "torch":
    pytest.skip("these tests read gradients from Keras on PyTorch: set KERAS_BACKEND=torch", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
LENGTHS = {"full": None, "ragged": [6, 3, 1, 4], "with empty": [6, 0, 1, 4]}
T, B = 6, 4
TOLERANCE = {"float64": 1e-12, "float32": 3e-6}
LAYERS = keras.layers
KINDS = {  # name -> row of the table of units, our options, our converter, Keras' class and its options
    "simple": ("rnn", rnn, {}, rnn_to_keras, LAYERS.SimpleRNN, {}),
    "simple relu": ("rnn", rnn, {"activation": "relu"}, rnn_to_keras, LAYERS.SimpleRNN, {"activation": "relu"}),
    "gru before": ("gru", gru, {"reset": "before"}, gru_to_keras, LAYERS.GRU, {"reset_after": False}),
    "gru after": ("gru-after", gru, {"reset": "after"}, gru_to_keras, LAYERS.GRU, {"reset_after": True}),
    "lstm": ("lstm", lstm, {}, lstm_to_keras, LAYERS.LSTM, {}),
}
READ = {  # name -> our converter back
    "simple": rnn_from_keras, "simple relu": rnn_from_keras, "lstm": lstm_from_keras,
    "gru before": partial(gru_from_keras, reset_after=False), "gru after": partial(gru_from_keras, reset_after=True),
}
OWN_LOOP = 2e-6  # products in float32, whatever the layer's dtype is
FUSED = ("gru after", "lstm")  # without a mask Keras hands these to PyTorch's own layer, which multiplies float64 in float64
WEIGHTS = ("kernel", "recurrent_kernel", "bias")


@pytest.fixture
def precise(request, monkeypatch):
    "Let Keras on PyTorch multiply float64 in float64."
    from keras.src.backend.common import dtypes
    if request.param == "float64":
        table = getattr(dtypes, "BIT64_TO_BIT32_DTYPE", None)
        if table is None:
            pytest.skip("this version of Keras keeps its table of dtypes elsewhere")
        clear = getattr(dtypes._lattice_result_type, "cache_clear", lambda: None)
        monkeypatch.setitem(table, "float64", "float64")
        clear()
        request.addfinalizer(clear)
    return request.param


def row(kind, dtype, seed=0):
    name, unit, options, convert, make, theirs = KINDS[kind]
    return case(next(u for u in UNITS if u.name == name), seed, dtype=np.dtype(dtype).type), unit, options, convert, make, theirs


def gradient(convert, grads):
    "Our gradients in Keras' arrays; both biases of a gate that has two have the same derivative."
    out = {k: v for k, v in convert(grads).items() if k in WEIGHTS}
    if out["bias"].ndim == 2:
        n = 2 * out["bias"].shape[1] // 3
        out["bias"][1, :n] = out["bias"][0, :n]
    return out


def layer_of(make, n_a, weights, dtype, **options):
    layer = make(n_a, **{"return_sequences": True, "return_state": True, "zero_output_for_mask": True, "dtype": dtype, **options})
    layer.build((None, None, weights["kernel"].shape[0]))
    layer.set_weights([weights[k] for k in WEIGHTS])
    return layer


def mask_of(lengths):
    return None if lengths is None else torch.tensor(np.arange(T) < np.array(lengths)[:, None])


def tensor(a):
    return torch.tensor(np.ascontiguousarray(a), requires_grad=True)


def weighed(pairs):
    "The loss whose derivatives at these outputs are these arrays."
    return sum((out * torch.tensor(np.ascontiguousarray(d))).sum() for out, d in pairs)


@pytest.mark.parametrize("initial", [True, False], ids=["initial", "zeros"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "go_backwards"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("precise", TOLERANCE, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_layers(kind, precise, lengths, backwards, initial, rng):
    (p, X, state), unit, options, convert, make, theirs = row(kind, precise)
    lengths, state = LENGTHS[lengths], state if initial else None
    turn = (lambda a: reverse(a, lengths)) if backwards else (lambda a: a)
    Y, end, pullback = unit(p, turn(X), state, lengths, **options)
    dY, dend = rng.normal(size=Y.shape).astype(precise), type(end)(*(rng.normal(size=s.shape).astype(precise) for s in end))
    dX, grads, dstate0 = pullback(turn(dY), dend)

    layer = layer_of(make, Y.shape[2], convert(p), precise, go_backwards=backwards, **theirs)
    tX, t0 = tensor(X.swapaxes(0, 1)), [tensor(s) for s in state or ()]
    tY, *tend = layer(tX, initial_state=t0 or None, mask=mask_of(lengths))
    tY = (tY.flip(1) if backwards else tY).transpose(0, 1)  # Keras leaves the outputs in the order they were computed
    weighed([(tY, dY), *zip(tend, dend, strict=True)]).backward()

    ours = {"Y": turn(Y), "dX": turn(dX).swapaxes(0, 1), **gradient(convert, grads)}
    other = {"Y": tY, "dX": tX.grad, **dict(zip(WEIGHTS, (w.value.grad for w in layer.trainable_weights), strict=True))}
    for name, s, ts in zip(end._fields, end, tend, strict=True):
        ours[name], other[name] = s, ts
    if initial:
        ours |= {f"d{name}": d for name, d in zip(end._fields, dstate0, strict=True)}
        other |= {f"d{name}": t.grad for name, t in zip(end._fields, t0, strict=True)}
    agree(ours, other, TOLERANCE[precise], "Keras")


MERGES = {"concat": "concat", "sum": "sum", "mean": "ave", "product": "mul"}


@pytest.mark.parametrize("initial", [True, False], ids=["initial", "zeros"])
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("precise", TOLERANCE, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional(kind, precise, lengths, merge, initial, rng):
    (p, X, state), unit, options, convert, make, theirs = row(kind, precise)
    (q, _, other_state), *_ = row(kind, precise, seed=1)
    lengths, states = LENGTHS[lengths], BidirectionalState(state, other_state) if initial else None
    Y, end, pullback = bidirectional(unit, merge=merge)(BidirectionalParams(p, q), X, states, lengths, **options)
    draw = lambda a: rng.normal(size=a.shape).astype(precise)
    dY, dend = draw(Y), BidirectionalState(*(type(s)(*map(draw, s)) for s in end))
    dX, grads, dstate0 = pullback(dY, dend)

    layer = LAYERS.Bidirectional(layer_of(make, p.Waa.shape[1], convert(p), precise, **theirs), merge_mode=MERGES[merge], dtype=precise)
    layer.build((None, None, X.shape[2]))
    layer.set_weights([convert(w)[k] for w in (p, q) for k in WEIGHTS])
    tX, t0 = tensor(X.swapaxes(0, 1)), [tensor(s) for s in leaves(states).values()]
    tY, *tend = layer(tX, initial_state=t0 or None, mask=mask_of(lengths))
    weighed([(tY.transpose(0, 1), dY), *zip(tend, leaves(dend).values(), strict=True)]).backward()

    ours = {"Y": Y, "dX": dX.swapaxes(0, 1)} | {f"end {k}": s for k, s in leaves(end).items()}
    ours |= {f"{side} {k}": v for side, g in grads._asdict().items() for k, v in gradient(convert, g).items()}
    other = {"Y": tY.transpose(0, 1), "dX": tX.grad} | {f"end {k}": s for k, s in zip(leaves(end), tend, strict=True)}
    names = [f"{side} {k}" for side in grads._fields for k in WEIGHTS]
    other |= dict(zip(names, (w.value.grad for w in layer.trainable_weights), strict=True))
    if initial:
        ours |= leaves(dstate0)
        other |= {k: t.grad for k, t in zip(leaves(dstate0), t0, strict=True)}
    agree(ours, other, TOLERANCE[precise], "Keras")


@pytest.mark.parametrize("arriving", ["outputs and states", "outputs", "states"])
@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_keras_as_it_comes(kind, dtype, lengths, arriving, rng):
    "Without a change to its table or to what it gives past the end; derivatives that arrive at the outputs, the states, or both."
    (p, X, state), unit, options, convert, make, theirs = row(kind, dtype)
    lengths = LENGTHS[lengths]
    Y, end, pullback = unit(p, X, state, lengths, **options)
    dY, dend = rng.normal(size=Y.shape).astype(dtype), type(end)(*(rng.normal(size=s.shape).astype(dtype) for s in end))
    dY, dend = dY if "outputs" in arriving else None, dend if "states" in arriving else None
    dX, grads, dstate0 = pullback(dY, dend)

    layer = layer_of(make, Y.shape[2], convert(p), dtype, zero_output_for_mask=False, **theirs)
    tX, t0, mask = tensor(X.swapaxes(0, 1)), [tensor(s) for s in state], mask_of(lengths)
    tY, *tend = layer(tX, initial_state=t0, mask=mask)
    tY = (tY if mask is None else tY * mask[..., None]).transpose(0, 1)  # Keras repeats the last output past the end
    weighed([*([] if dY is None else [(tY, dY)]), *zip(tend, dend or (), strict=bool(dend))]).backward()

    slope = lambda t: torch.zeros_like(t) if t.grad is None else t.grad
    ours = {"Y": Y, "dX": dX.swapaxes(0, 1), **gradient(convert, grads)}
    other = {"Y": tY, "dX": slope(tX), **dict(zip(WEIGHTS, (w.value.grad for w in layer.trainable_weights), strict=True))}
    for name, s, ts, d, t in zip(end._fields, end, tend, dstate0, t0, strict=True):
        ours[name], other[name], ours["d" + name], other["d" + name] = s, ts, d, slope(t)
    agree(ours, other, 1e-12 if kind in FUSED and lengths is None and dtype == "float64" else OWN_LOOP, "Keras as it comes")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_from_keras(kind, use_bias, dtype, rng):
    _, unit, options, convert, make, theirs = row(kind, dtype)
    layer = make(5, use_bias=use_bias, bias_initializer="random_normal", return_sequences=True, dtype=dtype, **theirs)
    X = rng.normal(size=(T, B, 3)).astype(dtype)
    tY = layer(torch.tensor(X.swapaxes(0, 1).copy()))
    p = READ[kind](*layer.get_weights())
    tol = 1e-12 if kind in FUSED and dtype == "float64" else OWN_LOOP
    agree({"Y": unit(p, X, **options)[0].swapaxes(0, 1)}, {"Y": tY}, tol, "Keras as it comes")
    again = convert(p)
    for name, w in zip(WEIGHTS, layer.get_weights(), strict=False):  # of two biases that are added only the sum comes back
        assert (w == again[name]).all() or (name == "bias" and w.ndim == 2)


def test_keras_starts_the_forget_gate_at_one():
    layer = LAYERS.LSTM(5)
    layer.build((B, T, 3))
    assert (lstm_from_keras(*layer.get_weights()).ba == np.repeat([0, 1, 0, 0], 5)).all()


# ---- where the peers differ from each other: facts about their versions, which fail when they change

@pytest.mark.parametrize("kind", KINDS)
def test_keras_repeats_the_last_output_past_the_end(kind):
    "Unless told otherwise; PyTorch, onnxruntime and this book give zeros there."
    (p, X, _), unit, options, convert, make, theirs = row(kind, "float32")
    layer = layer_of(make, p.Waa.shape[1], convert(p), "float32", **theirs)
    layer.zero_output_for_mask = False
    tY = layer(tensor(X.swapaxes(0, 1)), mask=mask_of([6, 3, 1, 4]))[0].detach().numpy().swapaxes(0, 1)
    Y = unit(p, X, None, [6, 3, 1, 4], **options)[0]
    assert (tY[3:, 1] == tY[2, 1]).all() and (Y[3:, 1] == 0).all() and np.allclose(tY[:3, 1], Y[:3, 1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional_gives_zeros_past_the_end(kind):
    "Whether told to or not, unlike the layer inside it."
    (p, X, _), _, _, convert, make, theirs = row(kind, "float32")
    layer = LAYERS.Bidirectional(layer_of(make, p.Waa.shape[1], convert(p), "float32", zero_output_for_mask=False, **theirs))
    tY = layer(tensor(X.swapaxes(0, 1)), mask=mask_of([6, 3, 1, 4]))[0].detach().numpy()
    assert (tY[1, 3:] == 0).all() and tY[1, :3].any()


def test_an_empty_example():
    "Keras and this book hand the initial state on; PyTorch refuses it (and onnxruntime gives zeros, see test_onnx.py)."
    (p, X, state), unit, options, convert, make, theirs = row("lstm", "float32")
    layer = layer_of(make, p.Waa.shape[1], convert(p), "float32")
    _, a, c = layer(tensor(X.swapaxes(0, 1)), initial_state=[tensor(s) for s in state], mask=mask_of([6, 0, 1, 4]))
    _, end, _ = lstm(p, X, state, [6, 0, 1, 4])
    assert np.allclose(a.detach().numpy()[1], state.a[1]) and (end.a[1] == state.a[1]).all() and (end.c[1] == state.c[1]).all()
    with pytest.raises(RuntimeError, match="greater than 0"):
        torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(X), torch.tensor([6, 0, 1, 4]), enforce_sorted=False)


def test_keras_multiplies_float64_in_float32():
    "A layer of dtype float64 with a mask gives float32's digits."
    (p, X, state), unit, options, convert, make, theirs = row("gru before", "float64")
    layer = layer_of(make, p.Waa.shape[1], convert(p), "float64", **theirs)
    tY, _ = layer(tensor(X.swapaxes(0, 1)), mask=mask_of([6, 3, 1, 4]))
    gap = abs(tY.detach().numpy().swapaxes(0, 1) - gru(p, X, None, [6, 3, 1, 4])[0]).max()
    assert 1e-10 < gap < 3e-6


def test_go_backwards_alone_reads_the_padding_first():
    "go_backwards turns the whole axis; without a mask the padding comes first and is read. With a mask it is passed over."
    (p, X, _), *_ = row("simple", "float32")
    lengths = [6, 3, 1, 4]
    layer = layer_of(LAYERS.SimpleRNN, p.Waa.shape[1], rnn_to_keras(p), "float32", go_backwards=True)
    end = rnn(p, reverse(X, lengths), None, lengths)[1].a
    _, masked = layer(tensor(X.swapaxes(0, 1)), mask=mask_of(lengths))
    _, unmasked = layer(tensor(X.swapaxes(0, 1)))
    assert np.allclose(masked.detach().numpy(), end, atol=3e-6) and abs(unmasked.detach().numpy() - end)[1:].max() > 0.1

"""The same weights give the same outputs and gradients in Keras, which runs on PyTorch here."""
import os

import numpy as np
import pytest
from units import UNITS, case

from seqbook.backend import leaves
from seqbook.lstm import lstm, lstm_from_keras, lstm_to_keras
from seqbook.notation import from_batch_first, to_batch_first

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
torch = pytest.importorskip("torch", reason="PyTorch, on which Keras runs here, is not installed: pip install 'seqbook[peers]'")
keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras")
if keras.backend.backend() != "torch":
    pytest.skip(f"Keras runs on {keras.backend.backend()}, not on PyTorch", allow_module_level=True)

TOLERANCES = {"float64": 1e-12, "float32": 2e-6}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
LSTM = next(u for u in UNITS if u.name == "lstm")


def agree(ours, theirs, tol):
    for name, a in ours.items():
        b = keras.ops.convert_to_numpy(theirs[name])
        assert a.shape == b.shape and abs(a - b).max(initial=0) <= tol * max(abs(b).max(initial=0), 1), name


@pytest.mark.parametrize("lengths", [None, [6, 3, 1, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_lstm(dtype, lengths, rng):
    p, X, state = case(LSTM, dtype=np.dtype(dtype).type)
    Y, end, pullback = lstm(p, X, state, lengths)
    dY, da, dc = (rng.normal(size=a.shape).astype(dtype) for a in (Y, *end))
    dX, grads, dstate0 = pullback(dY, type(end)(da, dc))

    layer = keras.layers.LSTM(Y.shape[2], return_sequences=True, return_state=True, zero_output_for_mask=True, dtype=dtype)
    layer.build(to_batch_first(X).shape)
    layer.set_weights(list(lstm_to_keras(p).values()))
    device = layer.trainable_variables[0].value.device
    tensor = lambda a: torch.tensor(np.array(a), device=device, requires_grad=True)
    tX, ta, tc = tensor(to_batch_first(X)), tensor(state.a), tensor(state.c)
    mask = None if lengths is None else torch.tensor(np.arange(len(X)) < np.array(lengths)[:, None], device=device)
    tY, end_a, end_c = layer(tX, initial_state=[ta, tc], mask=mask)
    upstream = ((tY, to_batch_first(dY)), (end_a, da), (end_c, dc))
    sum((out * torch.tensor(np.array(d), device=device)).sum() for out, d in upstream).backward()
    back = lstm_from_keras(*[v.value.grad.cpu().numpy() for v in layer.trainable_variables])
    tol = TOLERANCES[dtype if lengths is None else "float32"]  # with a mask Keras' own loop runs: products in single precision
    agree({"Y": to_batch_first(Y), "a": end.a, "c": end.c, "dX": to_batch_first(dX), "da0": dstate0.a, "dc0": dstate0.c},
          {"Y": tY, "a": end_a, "c": end_c, "dX": tX.grad, "da0": ta.grad, "dc0": tc.grad}, tol)
    agree(leaves(grads), leaves(back), tol)


def test_weights_from_keras(rng):
    "Keras' own start, its forget gate's bias of 1 included, read back."
    layer = keras.layers.LSTM(5, return_sequences=True, dtype="float64")
    X = rng.normal(size=(4, 6, 3))
    layer.build(X.shape)
    p = lstm_from_keras(*layer.get_weights())
    assert (p.ba == np.repeat([0, 1, 0, 0], 5)).all()
    agree({"Y": lstm(p, from_batch_first(X))[0]}, {"Y": from_batch_first(keras.ops.convert_to_numpy(layer(X)))}, 1e-12)

"""The same weights give the same outputs, states and gradients in Keras' GRU, with its reset before and after, with and without a mask.

Keras on PyTorch multiplies matrices in float32 whatever the layer's dtype is (`keras.ops.matmul`), so its own loop is compared at
2e-6. Without a mask and with reset_after it calls PyTorch's GRU instead, and then float64 agrees to 1e-12.
"""
import os

import numpy as np
import pytest
from units import UNITS, case

from seqbook.gru import GRUState, gru, gru_from_keras, gru_to_keras

torch = pytest.importorskip("torch", reason="PyTorch, on which Keras runs here, is not installed: pip install 'seqbook[peers]'")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", minversion="3.0", reason="Keras 3 is not installed: pip install 'seqbook[peers]'")
if keras.backend.backend() != "torch":
    pytest.skip("these tests read gradients from Keras on PyTorch: set KERAS_BACKEND=torch", allow_module_level=True)

LENGTHS = {"full": None, "ragged": [6, 3, 1, 4]}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
RESETS = {"before": "gru", "after": "gru-after"}


def keras_gru(theirs, dtype):
    "Keras' layer that returns all outputs and the final state, with these weights."
    n_x, n_a = len(theirs["kernel"]), len(theirs["recurrent_kernel"])
    layer = keras.layers.GRU(n_a, reset_after=theirs["reset_after"], return_sequences=True, return_state=True, dtype=dtype)
    layer.build((None, None, n_x))
    layer.set_weights([theirs[k] for k in ("kernel", "recurrent_kernel", "bias")])
    return layer


def agree(ours, theirs, tol):
    for name, a in ours.items():
        b = theirs[name].detach().cpu().numpy()
        assert a.shape == b.shape and abs(a - b).max(initial=0) <= tol * max(abs(b).max(initial=0), 1), name


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reset", RESETS)
def test_gru(reset, dtype, lengths, arriving, rng):
    lengths = LENGTHS[lengths]
    tol = 1e-12 if dtype == "float64" and reset == "after" and lengths is None else 2e-6
    p, X, state = case(next(u for u in UNITS if u.name == RESETS[reset]), dtype=dtype)
    Y, end, pullback = gru(p, X, state, lengths, reset=reset)
    dY, da = (rng.normal(size=a.shape).astype(dtype) for a in (Y, end.a))
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, GRUState(da) if "state" in arriving else None)

    on = np.ones((6, 4), bool) if lengths is None else np.arange(6)[:, None] < np.array(lengths)
    layer = keras_gru(gru_to_keras(p), dtype)
    tX, ta = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (X.transpose(1, 0, 2), state.a))
    tY, tend = layer(tX, initial_state=ta, mask=None if lengths is None else torch.tensor(on.T.copy()))
    tY = tY.transpose(0, 1) * torch.tensor(on[..., None])  # Keras repeats the last output past the end, we give zeros
    ((tY * torch.from_numpy(dY)).sum() * ("Y" in arriving) + (tend * torch.from_numpy(da)).sum() * ("state" in arriving)).backward()

    kernel, recurrent, bias = (v.value.grad for v in layer.trainable_weights)
    theirs = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    ours = {k: v for k, v in gru_to_keras(grads).items() if k in theirs}
    if reset == "after":
        ours["bias"][1, :10] = ours["bias"][0, :10]  # both biases of a gate have the same derivative
    agree({"Y": Y, "end": end.a, "dX": dX.transpose(1, 0, 2), "dstate0": dstate0.a, **ours},
          {"Y": tY, "end": tend, "dX": tX.grad, "dstate0": ta.grad, **theirs}, tol)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_gru_from_keras(reset, use_bias, rng):
    layer = keras.layers.GRU(5, reset_after=reset == "after", use_bias=use_bias, bias_initializer="random_normal", return_sequences=True,
                             dtype="float64")
    X = rng.normal(size=(6, 4, 3))
    want = layer(torch.tensor(np.ascontiguousarray(X.transpose(1, 0, 2)))).detach().numpy()
    p = gru_from_keras(*layer.get_weights(), reset_after=reset == "after")
    assert np.allclose(gru(p, X, reset=reset)[0].transpose(1, 0, 2), want, atol=2e-6)

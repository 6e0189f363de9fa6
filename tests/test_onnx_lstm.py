"""The same weights give the same outputs in onnxruntime: peepholes, coupled gates, lengths and initial states included."""
import numpy as np
import pytest
from units import UNITS, case

from seqbook.lstm import lstm, lstm_from_onnx, lstm_to_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

NAMES = ("lstm", "lstm-peepholes", "lstm-coupled", "lstm-coupled-peepholes")
ORDER = ("X", "W", "R", "B", "lengths", "a0", "c0", "P")


def run_onnx(weights, X, state, lengths, **attributes):
    "One LSTM node: Y (T, B, n_a), last a, last c."
    given = weights | {"X": X, "a0": state.a[None], "c0": state.c[None]}
    if lengths is not None:
        given["lengths"] = np.array(lengths, np.int32)
    h, out = onnx.helper, ("Y", "a", "c")
    typed = lambda name, shape, dtype: h.make_tensor_value_info(name, h.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
    node = h.make_node("LSTM", [k if k in given else "" for k in ORDER], out, hidden_size=state.a.shape[1], **attributes)
    inputs, outputs = [typed(k, a.shape, a.dtype) for k, a in given.items()], [typed(k, None, np.float32) for k in out]
    model = h.make_model(h.make_graph([node], "lstm", inputs, outputs), opset_imports=[h.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    Y, a, c = session.run(None, given)
    return Y[:, 0], a[0], c[0]


def agree(p, X, state, lengths, theirs):
    Y, end, _ = lstm(p, X, state, lengths)
    for ours, other in zip((Y, *end), theirs, strict=True):
        assert ours.shape == other.shape and abs(ours - other).max() < 2e-6


@pytest.mark.parametrize("lengths", [None, [6, 3, 1, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("name", NAMES)
def test_lstm(name, lengths):
    p, X, state = case(next(u for u in UNITS if u.name == name), dtype=np.float32)
    agree(p, X, state, lengths, run_onnx(lstm_to_onnx(p), X, state, lengths))


@pytest.mark.parametrize("peepholes", [False, True])
def test_input_forget(peepholes):
    "ONNX's coupling keeps the input gate, ours the forget gate."
    p, X, state = case(next(u for u in UNITS if u.name == ("lstm-peepholes" if peepholes else "lstm")), dtype=np.float32)
    weights = lstm_to_onnx(p)
    tied = lstm_from_onnx(**weights, input_forget=1)
    assert tied.Waa.shape == (15, 5)
    agree(tied, X, state, None, run_onnx(weights, X, state, None, input_forget=1))


def test_weights_from_onnx_add_both_biases(rng):
    p, X, state = case(next(u for u in UNITS if u.name == "lstm-peepholes"), dtype=np.float32)
    weights = lstm_to_onnx(p) | {"B": rng.normal(size=(1, 40)).astype(np.float32)}
    agree(lstm_from_onnx(**weights), X, state, None, run_onnx(weights, X, state, None))

"""The same weights give the same outputs and states in onnxruntime's GRU, with its reset before and after, and with lengths."""
import numpy as np
import pytest
from units import UNITS, case

from seqbook.gru import gru, gru_from_onnx, gru_to_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

LENGTHS = {"full": None, "ragged": [6, 3, 1, 4]}


def run_onnx(X, state, lengths, W, R, B, linear_before_reset):
    "One operator GRU as a model of its own: all outputs (T, B, n_a) and the final state (B, n_a)."
    feeds = {"X": X, "W": W, "R": R, "B": B, "initial_h": state.a[None]}
    if lengths is not None:
        feeds["sequence_lens"] = np.array(lengths, np.int32)
    names = [n if n in feeds else "" for n in ("X", "W", "R", "B", "sequence_lens", "initial_h")]
    node = onnx.helper.make_node("GRU", names, ["Y", "Y_h"], hidden_size=R.shape[2], linear_before_reset=linear_before_reset)
    value = lambda name, a: onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("Y", "Y_h")]
    graph = onnx.helper.make_graph([node], "gru", [value(n, a) for n, a in feeds.items()], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    Y, end = session.run(None, feeds)
    return Y[:, 0], end[0]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reset, name", [("before", "gru"), ("after", "gru-after")])
def test_gru(reset, name, lengths):
    p, X, state = case(next(u for u in UNITS if u.name == name), dtype=np.float32)
    theirs, lengths = gru_to_onnx(p), LENGTHS[lengths]
    assert theirs["linear_before_reset"] == (reset == "after")
    Y, end, _ = gru(p, X, state, lengths, reset=reset)
    want_Y, want_end = run_onnx(X, state, lengths, **theirs)
    assert np.allclose(Y, want_Y, atol=2e-6) and np.allclose(end.a, want_end, atol=2e-6)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_gru_from_onnx_with_biases_on_both_sides(linear_before_reset, rng):
    w = lambda *shape: rng.normal(size=shape).astype(np.float32)
    theirs = {"W": w(1, 15, 3), "R": w(1, 15, 5), "B": w(1, 30), "linear_before_reset": linear_before_reset}
    _, X, state = case(UNITS[0], dtype=np.float32)
    Y, end, _ = gru(gru_from_onnx(**theirs), X, state, reset="after" if linear_before_reset else "before")
    want_Y, want_end = run_onnx(X, state, None, **theirs)
    assert np.allclose(Y, want_Y, atol=2e-6) and np.allclose(end.a, want_end, atol=2e-6)

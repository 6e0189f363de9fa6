"""ONNX's operators against onnxruntime and against ONNX's own reference evaluator, over a matrix of their options."""
import numpy as np
import pytest
from agreement import agree
from units import UNITS, case

from seqbook.backend import device, leaves
from seqbook.gru import GRUState, gru, gru_from_onnx, gru_init, gru_to_onnx
from seqbook.interop import (ACTIVATIONS, onnx_gru, onnx_lstm, onnx_rnn, rnn_from_keras, rnn_from_onnx, rnn_from_pytorch, rnn_to_keras,
                             rnn_to_onnx, rnn_to_pytorch)
from seqbook.lstm import LSTMState, lstm, lstm_from_onnx, lstm_to_onnx
from seqbook.rnn import RNN, RNNParams, RNNState, rnn

OPERATORS = {  # name -> our function, blocks of rows, default activations
    "RNN": (onnx_rnn, 1, ("Tanh",)),
    "GRU": (onnx_gru, 3, ("Sigmoid", "Tanh")),
    "LSTM": (onnx_lstm, 4, ("Sigmoid", "Tanh", "Tanh")),
}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
T, B, N_X, N_A = 6, 4, 3, 5
OPSET = 22


@pytest.fixture(scope="module")
def runtime():
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'seqbook[peers]'")


def tensors(op, direction="forward", lengths=None, initial=True, peepholes=False, bias=True, layout=0, dtype=np.float32, seed=0, scale=0.7):
    "Random inputs for an operator, by the operator's names."
    rng, (_, k, _), D = np.random.default_rng(seed), OPERATORS[op], DIRECTIONS[direction]
    draw = lambda *shape, s=scale: (s * rng.normal(size=shape)).astype(dtype)
    out = {"X": draw(T, B, N_X, s=1), "W": draw(D, k * N_A, N_X), "R": draw(D, k * N_A, N_A)}
    if bias:
        out["B"] = draw(D, 2 * k * N_A)
    if lengths is not None:
        out["sequence_lens"] = np.array(lengths, np.int32)
    if initial:
        out |= {name: draw(D, B, N_A, s=1) for name in ("initial_h", "initial_c")[: 1 + (op == "LSTM")]}
    if peepholes:
        out["P"] = draw(D, 3 * N_A)
    if layout:
        out |= {name: np.ascontiguousarray(out[name].swapaxes(0, 1)) for name in ("X", "initial_h", "initial_c") if name in out}
    return out


def model(op, inputs, opset=OPSET, **attributes):
    "A model of a single operator. What needs no other system runs without onnx too."
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'seqbook[peers]'")
    helper, TensorProto = onnx.helper, onnx.TensorProto
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int32": TensorProto.INT32}
    node = helper.make_node(op, [n if n in inputs else "" for n in names], outputs, hidden_size=N_A, **attributes)
    value = lambda name, a: helper.make_tensor_value_info(name, kind[a.dtype.name], a.shape)
    result = lambda name: helper.make_tensor_value_info(name, kind[inputs["X"].dtype.name], [None] * (4 if name == "Y" else 3))
    graph = helper.make_graph([node], op, [value(n, a) for n, a in inputs.items()], [result(n) for n in outputs])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def by_runtime(runtime, op, inputs, **attributes):
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(model(op, inputs, **attributes).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def by_reference(op, inputs, **attributes):
    made = model(op, inputs, **attributes)
    from onnx.reference import ReferenceEvaluator
    return ReferenceEvaluator(made).run(None, inputs)


def equal(ours, theirs, tol, what=None):
    "`agree` for an operator's list of outputs."
    names = ("Y", "Y_h", "Y_c")
    agree(dict(zip(names, ours)), dict(zip(names, theirs)), tol, what)


TYPED = {
    "RNN": ({}, {"activations": ["Relu"]}),
    "GRU": ({"linear_before_reset": 0}, {"linear_before_reset": 1}),
    "LSTM": ({"input_forget": 0}, {"input_forget": 1}),
}
PEEPHOLES = {"RNN": (False,), "GRU": (False,), "LSTM": (False, True)}
CASES = [(op, o, direction, lengths, initial, bias, peepholes, clip)
         for op in OPERATORS for o in TYPED[op] for direction in DIRECTIONS for lengths in (None, [6, 3, 1, 4]) for initial in (True, False)
         for bias in (True, False) for peepholes in PEEPHOLES[op] for clip in (None, 0.6)]


def repeated(attributes, direction):
    "Attributes with the functions of each direction written out."
    functions = attributes.get("activations")
    return attributes if functions is None else {**attributes, "activations": functions * DIRECTIONS[direction]}


@pytest.mark.parametrize("op, options, direction, lengths, initial, bias, peepholes, clip", CASES, ids=str)
def test_onnxruntime(runtime, op, options, direction, lengths, initial, bias, peepholes, clip):
    inputs = tensors(op, direction, lengths, initial, peepholes, bias)
    attributes = repeated(options, direction) | {"direction": direction} | ({} if clip is None else {"clip": clip})
    equal(OPERATORS[op][0](**inputs, hidden_size=N_A, **attributes), by_runtime(runtime, op, inputs, **attributes), 3e-6, "onnxruntime")


NUMBERS = {  # alpha, beta
    "Affine": ([0.6], [0.1]), "ScaledTanh": ([0.8], [0.7]), "HardSigmoid": ([0.3], [0.4]),
    "LeakyRelu": ([0.2], []), "ThresholdedRelu": ([0.3], []), "Elu": ([0.7], []),
}
DEFAULTS = dict.fromkeys(("HardSigmoid", "LeakyRelu", "Elu"), ([], []))  # of ThresholdedRelu, see below
FUNCTIONS = [(op, place, name, *numbers)
             for op, (_, _, default) in OPERATORS.items() for place in range(len(default)) for name in ACTIVATIONS
             for numbers in (NUMBERS.get(name, ([], [])), DEFAULTS.get(name)) if numbers is not None]


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op, place, name, alpha, beta", FUNCTIONS, ids=str)
def test_activations_of_onnxruntime(runtime, op, place, name, alpha, beta, direction, clip):
    compute, _, default = OPERATORS[op]
    functions, D = [name if i == place else f for i, f in enumerate(default)], DIRECTIONS[direction]
    attributes = {"direction": direction, "activations": functions * D} | ({} if clip is None else {"clip": clip})
    attributes |= {k: v * D for k, v in (("activation_alpha", alpha), ("activation_beta", beta)) if v}
    inputs = tensors(op, direction, [6, 3, 1, 4], scale=0.1 if op == "GRU" else 0.4)  # unbounded gates let a GRU explode
    equal(compute(**inputs, **attributes), by_runtime(runtime, op, inputs, **attributes), 1e-5, "onnxruntime")


def test_different_activations_in_the_two_directions(runtime):
    inputs = tensors("LSTM", "bidirectional", [6, 3, 1, 4], peepholes=True)
    attributes = {"direction": "bidirectional", "activations": ["HardSigmoid", "Elu", "Softsign", "Sigmoid", "LeakyRelu", "ScaledTanh"],
                  "activation_alpha": [0.3, 0.9, 0.1, 0.5], "activation_beta": [0.4, 0.6]}
    equal(onnx_lstm(**inputs, **attributes), by_runtime(runtime, "LSTM", inputs, **attributes), 3e-6, "onnxruntime")


REFERENCE = [(op, o, direction, initial, bias, peepholes, layout)
             for op in OPERATORS for o in (TYPED[op] if op == "GRU" else ({},)) for direction in DIRECTIONS for initial in (True, False)
             for bias in (True, False) for peepholes in PEEPHOLES[op] for layout in (0, 1)]


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("op, options, direction, initial, bias, peepholes, layout", REFERENCE, ids=str)
def test_reference_evaluator(op, options, direction, initial, bias, peepholes, layout, dtype, tol):
    inputs = tensors(op, direction, None, initial, peepholes, bias, layout, dtype)
    attributes = options | {"direction": direction, "layout": layout}
    functions = {"activations": ["Tanh"] * DIRECTIONS[direction]} if op == "RNN" else {}  # the reference has no default of two
    equal(OPERATORS[op][0](**inputs, **attributes), by_reference(op, inputs, **attributes, **functions), tol, "onnx reference")


@pytest.mark.parametrize("op", OPERATORS)
def test_layout_is_a_transpose(op):
    inputs = tensors(op, "bidirectional", [6, 3, 0, 4])
    turned = {k: np.ascontiguousarray(v.swapaxes(0, 1)) if k in ("X", "initial_h", "initial_c") else v for k, v in inputs.items()}
    compute = OPERATORS[op][0]
    Y, *states = compute(**inputs, direction="bidirectional")
    Y1, *states1 = compute(**turned, direction="bidirectional", layout=1)
    assert (Y1 == Y.transpose(2, 0, 1, 3)).all() and all((b == a.swapaxes(0, 1)).all() for a, b in zip(states, states1, strict=True))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, [6, 3, 0, 4]], ids=["full", "with empty"])
@pytest.mark.parametrize("op, options, peepholes", [(op, o, p) for op in OPERATORS for o in TYPED[op] for p in PEEPHOLES[op]], ids=str)
def test_units_and_plain_step_agree(op, options, peepholes, lengths, direction):
    "A clip too wide to cut anything takes the other road to the same place."
    inputs = tensors(op, direction, lengths, peepholes=peepholes, dtype=np.float64)
    attributes = repeated(options, direction) | {"direction": direction}
    equal(OPERATORS[op][0](**inputs, **attributes), OPERATORS[op][0](**inputs, **attributes, clip=1e9), 1e-13)


def test_the_units_compute_where_they_can(monkeypatch):
    import seqbook.interop as interop
    monkeypatch.setattr(interop, "_unroll", lambda *_: pytest.fail("the plain step was taken"))
    for op, options in ((name, o) for name in OPERATORS for o in TYPED[name]):
        OPERATORS[op][0](**tensors(op, "bidirectional", [6, 3, 1, 4]), direction="bidirectional", **repeated(options, "bidirectional"))


@pytest.mark.parametrize("shape", [(0, 4), (6, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("op", OPERATORS)
def test_shapes_at_the_edges(op, shape, clip):
    compute, k, _ = OPERATORS[op]
    inputs = tensors(op, "bidirectional", initial=False)
    X = np.zeros((*shape, N_X), np.float32)
    Y, *states = compute(X, inputs["W"], inputs["R"], inputs["B"], direction="bidirectional", clip=clip)
    assert Y.shape == (shape[0], 2, shape[1], N_A) and all(s.shape == (2, shape[1], N_A) for s in states)


# ---- where the peers disagree among themselves: each of these is a fact about a version, and fails when it changes

@pytest.mark.parametrize("op", OPERATORS)
def test_disagreement_empty_example(runtime, op):
    "onnxruntime gives a state of zeros to an example of length 0; here its final state is its initial one."
    inputs = tensors(op, lengths=[6, 3, 0, 4])
    _, h, *_ = by_runtime(runtime, op, inputs)
    assert (h[0, 2] == 0).all()
    _, ours, *_ = OPERATORS[op][0](**inputs)
    assert (ours[0, 2] == inputs["initial_h"][0, 2]).all()
    assert np.allclose(np.delete(ours[0], 2, 0), np.delete(h[0], 2, 0), atol=3e-6)


@pytest.mark.parametrize("op", OPERATORS)
def test_disagreement_layout_and_double(runtime, op):
    "onnxruntime refuses layout=1 and float64; the reference evaluator takes both."
    with pytest.raises(Exception, match=r"layout|Batchwise"):
        by_runtime(runtime, op, tensors(op, layout=1), layout=1)
    with pytest.raises(Exception, match=r"double|implementation"):
        by_runtime(runtime, op, tensors(op, dtype=np.float64))


@pytest.mark.parametrize("op", OPERATORS)
def test_disagreement_threshold(runtime, op):
    "ThresholdedRelu without an alpha: the standard's operator says 1, onnxruntime takes 0."
    compute, _, default = OPERATORS[op]
    inputs, functions = tensors(op, scale=0.1), {"activations": ["ThresholdedRelu", *default[1:]]}
    theirs = by_runtime(runtime, op, inputs, **functions)
    equal(compute(**inputs, **functions, activation_alpha=[0.0]), theirs, 1e-5, "onnxruntime")
    equal(compute(**inputs, **functions), by_runtime(runtime, op, inputs, **functions, activation_alpha=[1.0]), 1e-5, "onnxruntime")
    assert abs(compute(**inputs, **functions)[0] - theirs[0]).max() > 1e-2


@pytest.mark.parametrize("op, attributes, inputs", [
    *((op, {}, {"lengths": [6, 3, 1, 4]}) for op in OPERATORS), *((op, {"clip": 0.3}, {}) for op in OPERATORS),
    ("GRU", {"activations": ["HardSigmoid", "Softsign"]}, {}), ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}, {}),
    ("LSTM", {"input_forget": 1}, {})], ids=str)
def test_disagreement_what_the_reference_passes_over(runtime, op, attributes, inputs):
    "The reference evaluator passes over sequence_lens, clip, most activations and input_forget without a word."
    inputs = tensors(op, **inputs)
    theirs, reference = by_runtime(runtime, op, inputs, **attributes), by_reference(op, inputs, **attributes)
    equal(OPERATORS[op][0](**inputs, **attributes), theirs, 3e-6, "onnxruntime")
    assert abs(reference[0] - theirs[0]).max() > 1e-2


def test_disagreement_activations_of_the_reference():
    "The reference evaluator's RNN knows Tanh and Affine only; this book's knows all eleven."
    inputs = tensors("RNN", dtype=np.float64)
    affine = {"activations": ["Affine"], "activation_alpha": [0.25], "activation_beta": [0.125]}
    equal(onnx_rnn(**inputs, **affine), by_reference("RNN", inputs, **affine), 1e-13, "onnx reference")
    with pytest.raises(RuntimeError, match="Unknown activation function 'Relu'"):
        by_reference("RNN", inputs, activations=["Relu"])


# ---- weights of the units: the same unit in another system

WEIGHTS = {  # row of the table of units -> operator, our unit, its options, to ONNX and back
    "rnn": ("RNN", rnn, {}, rnn_to_onnx, rnn_from_onnx),
    "gru": ("GRU", gru, {"reset": "before"}, gru_to_onnx, gru_from_onnx),
    "gru-after": ("GRU", gru, {"reset": "after"}, gru_to_onnx, gru_from_onnx),
    **dict.fromkeys(("lstm", "lstm-peepholes", "lstm-coupled", "lstm-coupled-peepholes"), ("LSTM", lstm, {}, lstm_to_onnx, lstm_from_onnx)),
}


def given(name, dtype):
    "Our parameters, X and state, and the same as the operator's inputs and attributes."
    p, X, state = case(next(u for u in UNITS if u.name == name), dtype=dtype)
    theirs = WEIGHTS[name][3](p)
    inputs = {"X": X, **{k: w for k, w in theirs.items() if isinstance(w, np.ndarray)}}
    inputs |= {"initial_" + n: s[None] for n, s in zip("hc", state)}
    return p, X, state, inputs, {k: v for k, v in theirs.items() if k not in inputs}


def computed(unit, p, X, state, lengths=None, **options):
    "What the operator hands back, from our unit."
    Y, end, _ = unit(p, X, state, lengths, **options)
    return Y[:, None], *(s[None] for s in end)


@pytest.mark.parametrize("opset", [14, OPSET])
@pytest.mark.parametrize("lengths", [None, [6, 3, 1, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_units_in_onnxruntime(runtime, name, lengths, opset):
    op, unit, options, *_ = WEIGHTS[name]
    p, X, state, inputs, attributes = given(name, np.float32)
    assert attributes == ({"linear_before_reset": int(options["reset"] == "after")} if op == "GRU" else {})
    if lengths is not None:
        inputs["sequence_lens"] = np.array(lengths, np.int32)
    equal(computed(unit, p, X, state, lengths, **options), by_runtime(runtime, op, inputs, opset=opset, **attributes), 2e-6, "onnxruntime")


@pytest.mark.parametrize("name", WEIGHTS)
def test_units_in_the_reference_and_back(name):
    op, unit, options, to, back = WEIGHTS[name]
    p, X, state, inputs, attributes = given(name, np.float64)
    equal(computed(unit, p, X, state, **options), by_reference(op, inputs, **attributes), 1e-13, "onnx reference")
    if "coupled" not in name:  # a coupled unit is written out with both of its gates
        ours, again = leaves(p), leaves(back(**to(p)))
        assert ours.keys() == again.keys() and all((ours[k] == again[k]).all() for k in ours)


@pytest.mark.parametrize("op, options, peepholes", [(op, o, p) for op in OPERATORS for o in TYPED[op] for p in PEEPHOLES[op]], ids=str)
def test_weights_from_onnx(runtime, op, options, peepholes):
    "With biases on both sides, and with the attribute that changes what the weights mean: ONNX's coupling keeps the input gate."
    inputs = tensors(op, peepholes=peepholes)
    _, unit, _, _, back = next(row for row in WEIGHTS.values() if row[0] == op)
    meaning = {k: v for k, v in options.items() if k != "activations"}
    p = back(**{k: inputs[k] for k in ("W", "R", "B", "P") if k in inputs}, **meaning)
    assert not options.get("input_forget") or p.Waa.shape == (3 * N_A, N_A)
    ours = {"RNN": {"activation": "relu" if "activations" in options else "tanh"},
            "GRU": {"reset": "after" if options.get("linear_before_reset") else "before"}, "LSTM": {}}[op]
    state = {"RNN": RNNState, "GRU": GRUState, "LSTM": LSTMState}[op](*(v[0] for k, v in inputs.items() if k.startswith("initial")))
    equal(computed(unit, p, inputs["X"], state, **ours), by_runtime(runtime, op, inputs, **options), 2e-6, "onnxruntime")


# ---- bad input

BAD = {
    "X batch first": ({"X": np.zeros((B, T, N_X + 1), np.float32)}, {}, ValueError, r"X: expected shape \(T, B, 3\), got \(4, 6, 4\)"),
    "X a list": ({"X": [[1.0]]}, {}, TypeError, "X: expected a NumPy array, got list"),
    "X float64": ({"X": np.zeros((T, B, N_X))}, {}, TypeError, "X: expected float32, got float64"),
    "W of one direction": ({}, {"direction": "bidirectional"}, ValueError, r"R: expected shape \(2,"),
    "R not square": ({"R": np.zeros((1, 3, 5), np.float32)}, {}, ValueError, "R: expected shape"),
    "B short": ({"B": np.zeros((1, 3), np.float32)}, {}, ValueError, "B: expected shape"),
    "direction": ({}, {"direction": "backward"}, ValueError, "direction: expected one of forward, reverse, bidirectional, got 'backward'"),
    "layout": ({}, {"layout": 2}, ValueError, "layout: expected 0"),
    "clip": ({}, {"clip": -1.0}, ValueError, "clip: expected a number above 0"),
    "hidden_size": ({}, {"hidden_size": 7}, ValueError, "hidden_size: R has 5 columns, got 7"),
    "lengths beyond T": ({"sequence_lens": np.array([1, 2, 7, 1], np.int32)}, {},
                         ValueError, r"^sequence_lens\[2\]: expected 0 <= length <= T = 6, got 7"),
    "lengths of another batch": ({"sequence_lens": np.array([1, 2], np.int32)}, {}, ValueError, "sequence_lens: "),
    "lengths as floats": ({"sequence_lens": np.ones(B)}, {}, TypeError, "sequence_lens: "),
    "initial_h": ({"initial_h": np.zeros((B, N_A), np.float32)}, {}, ValueError, "initial_h: expected shape"),
    "unknown function": ({}, {"activations": ["tanh"] * 3}, ValueError, "activations: expected"),
    "lengths a mask": ({"sequence_lens": np.ones(B, bool)}, {}, TypeError, "^sequence_lens: .* got a mask"),
    "X on a device": ({"X": device.asarray(np.zeros((T, B, N_X), np.float32))}, {},
                      TypeError, "X: expected a NumPy array, got DeviceArray"),
    "R a list": ({"R": [1.0]}, {}, TypeError, "R: expected a NumPy array, got list"),
    "no W": ({"W": None}, {}, TypeError, "W: expected a NumPy array, got NoneType"),
    "no units": ({"R": np.zeros((1, 0, 0), np.float32)}, {}, ValueError, r"R: expected at least one unit, got shape \(1, 0, 0\)"),
    "directions": ({}, {"direction": ["forward"]}, ValueError, r"direction: expected one of .* got \['forward'\]"),
    "layout a float": ({}, {"layout": 1.0}, ValueError, "layout: expected 0 .* got 1.0"),
    "layout a list": ({}, {"layout": [0]}, ValueError, r"layout: expected 0 .* got \[0\]"),
    "clip a string": ({}, {"clip": "1"}, ValueError, "clip: expected a number above 0 or None, got '1'"),
    "clip an array": ({}, {"clip": np.ones(2)}, ValueError, "clip: expected a number above 0"),
    "clip a bool": ({}, {"clip": True}, ValueError, "clip: expected a number above 0 or None, got True"),
    "hidden_size a float": ({}, {"hidden_size": 5.0}, ValueError, "hidden_size: R has 5 columns, got 5.0"),
    "one function": ({}, {"activations": "Tanh"}, TypeError, "activations: expected a list, got 'Tanh'"),
    "a function": ({}, {"activations": np.tanh}, TypeError, "activations: expected a list, got <ufunc 'tanh'>"),
    "one number": ({}, {"activation_alpha": 0.1}, TypeError, "activation_alpha: expected a list, got 0.1"),
    "number a string": ({}, {"activation_alpha": ["0.1"]}, ValueError, r"activation_alpha\[0\]: expected a finite number, got '0.1'"),
    "number nan": ({}, {"activation_beta": [np.nan]}, ValueError, r"activation_beta\[0\]: expected a finite number, got nan"),
    "too many numbers": ({}, {"activation_alpha": [0.1]}, ValueError, "activation_alpha: 1 of the numbers belong to none"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("op", OPERATORS)
def test_bad_input_is_named(op, bad):
    inputs, attributes, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        OPERATORS[op][0](**(tensors(op) | inputs), **attributes)


@pytest.mark.parametrize("op, name", [(op, name) for op in OPERATORS for name in ("Affine", "ScaledTanh")])
def test_functions_without_defaults_ask_for_numbers(runtime, op, name):
    "onnxruntime takes zeros for them, so that the function is zero everywhere."
    compute, _, default = OPERATORS[op]
    inputs, functions = tensors(op, initial=False), {"activations": [*default[:-1], name]}
    with pytest.raises(ValueError, match=f"activation_alpha: {name} has no default"):
        compute(**inputs, **functions)
    assert (by_runtime(runtime, op, inputs, **functions)[0] == 0).all()


@pytest.mark.parametrize("flag", ["after", 2, None, "0", 1.0, [0]], ids=repr)
@pytest.mark.parametrize("op, name", [("GRU", "linear_before_reset"), ("LSTM", "input_forget")])
def test_a_flag_is_0_or_1(op, name, flag):
    with pytest.raises(ValueError, match=f"^{name}: expected 0 or 1, got "):
        OPERATORS[op][0](**tensors(op), **{name: flag})


@pytest.mark.parametrize("op", OPERATORS)
def test_functions_in_a_list_that_are_none(op):
    n = len(OPERATORS[op][2])
    for one in (None, ["Tanh"], b"Tanh", np.tanh):
        with pytest.raises(ValueError, match="activations: expected names among Relu, "):
            OPERATORS[op][0](**tensors(op), activations=[one] * n)


good = RNNParams(np.ones((5, 3)), np.ones((5, 5)), np.ones(5))
on_device = RNNParams(*map(device.asarray, good))
OWN = {  # what is taken for parameters, the error, its message
    "None": (None, TypeError, "p: expected RNNParams, got NoneType"),
    "a layer": (RNN(3, 5), TypeError, "p: expected RNNParams, got RNN"),
    "another unit's": (gru_init(np.random.default_rng(0), 3, 5), TypeError, "p: expected RNNParams, got GRUParams"),
    "lists": (good._replace(Wax=[[1.0]]), TypeError, "p.Wax: expected a NumPy or CuPy array, got list"),
    "exchanged": (RNNParams(good.Waa, good.Wax, good.ba), ValueError, r"p.Waa: expected shape \(3, 3\), got \(5, 3\)"),
    "a column": (good._replace(ba=np.ones((5, 1))), ValueError, r"p.ba: expected shape \(5,\), got \(5, 1\)"),
    "two dtypes": (good._replace(Wax=np.ones((5, 3), np.float32)), TypeError, "p.Wax: expected float64, got float32"),
    "whole numbers": (good._replace(Waa=np.ones((5, 5), int)), TypeError, "p.Waa: expected float32 or float64, got int64"),
}


@pytest.mark.parametrize("bad", OWN)
@pytest.mark.parametrize("to", [rnn_to_pytorch, rnn_to_keras, rnn_to_onnx], ids=lambda f: f.__name__)
def test_bad_parameters_are_named(to, bad):
    p, error, message = OWN[bad]
    with pytest.raises(error, match=message):
        to(p)


THEIRS = {  # arguments, the error, its message
    "pytorch: GRU": (rnn_from_pytorch, (np.ones((15, 3)), np.ones((15, 5))),
                     ValueError, r"weight_hh: expected shape \(5, 5\), got \(15, 5\)"),
    "pytorch: exchanged": (rnn_from_pytorch, (good.Waa, good.Wax), ValueError, r"weight_hh: expected shape \(3, 3\), got \(5, 3\)"),
    "pytorch: device": (rnn_from_pytorch, on_device, TypeError, "weight_hh: expected a NumPy array, got DeviceArray"),
    "pytorch: bias": (rnn_from_pytorch, (*good[:2], None, good.ba[:, None]), ValueError, r"bias_hh: expected shape \(5,\), got \(5, 1\)"),
    "pytorch: no units": (rnn_from_pytorch, (np.ones((0, 3)), np.ones((0, 0))), ValueError, "weight_hh: expected at least one unit"),
    "keras: not turned": (rnn_from_keras, good, ValueError, r"^kernel: expected shape \(n_x, 5\), got \(5, 3\)"),
    "keras: GRU": (rnn_from_keras, (np.ones((3, 15)), np.ones((5, 15))),
                   ValueError, r"recurrent_kernel: expected shape \(5, 5\), got \(5, 15\)"),
    "keras: two dtypes": (rnn_from_keras, (np.ones((3, 5), np.float32), good.Waa), TypeError, "^kernel: expected float64, got float32"),
    "onnx: exchanged": (rnn_from_onnx, (good.Waa[None], good.Wax[None]), ValueError, r"^R: expected shape \(1, 3, 3\), got \(1, 5, 3\)"),
    "onnx: two directions": (rnn_from_onnx, (np.ones((2, 5, 3)), np.ones((2, 5, 5))), ValueError, r"^R: expected shape \(1, n_a, n_a\)"),
    "onnx: rows of W": (rnn_from_onnx, (np.ones((1, 4, 3)), good.Waa[None]),
                        ValueError, r"^W: expected shape \(1, 5, n_x\), got \(1, 4, 3\)"),
    "onnx: B a list": (rnn_from_onnx, (good.Wax[None], good.Waa[None], [0.0] * 10), TypeError, "^B: expected a NumPy array, got list"),
}


@pytest.mark.parametrize("bad", THEIRS)
def test_bad_weights_are_named(bad):
    convert, arguments, error, message = THEIRS[bad]
    with pytest.raises(error, match=message):
        convert(*arguments)


def test_parameters_on_a_device_come_to_the_host():
    assert all((a == b).all() for a, b in zip(rnn_from_pytorch(**rnn_to_pytorch(on_device)), good, strict=True))

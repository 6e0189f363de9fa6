"""The matrix: unit x option x form x dtype x lengths x which derivatives arrive."""
import numpy as np
import pytest
from agreement import agree, agree_with_differences
from hypothesis import given, settings
from hypothesis import strategies as st
from units import CASES, FORMS, UNITS, case, label

from seqbook.backend import DeviceArray, asnumpy, device, leaves, to, tree_map
from seqbook.bptt import check_unit
from seqbook.rnn import dense_init

LENGTHS = {"full": None, "ragged": [6, 3, 1, 4], "with empty": [6, 0, 2, 6]}
ARRIVING = {"both": {}, "outputs": {"dstate": False}, "state": {"dY": False}}
pytestmark = pytest.mark.filterwarnings("error")


def run(unit_form, p, X, state, lengths, arriving=("Y", "state"), seed=3, **options):
    "Everything a unit computes, by name: outputs, final state, all derivatives."
    Y, end, pullback = unit_form(p, X, state, lengths, **options)
    rng = np.random.default_rng(seed)
    draw = lambda a: rng.normal(size=a.shape).astype(a.dtype)
    dY, dend = draw(Y), tree_map(draw, end)
    if isinstance(Y, DeviceArray):
        dY, dend = device.asarray(dY), tree_map(device.asarray, dend)
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, dend if "state" in arriving else None)
    return leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "dstate0": dstate0})


@pytest.mark.parametrize("arriving", ARRIVING)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("form", ["plain", "table"])
@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_gradients_equal_central_differences(unit, options, form, lengths, arriving):
    report = check_unit(unit.forms[form], *case(unit), LENGTHS[lengths], **ARRIVING[arriving], **options)
    agree_with_differences(report, 1e-7, "-".join(filter(None, [unit.name, *options.values()])))


@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_gradients_without_initial_state(unit, options):
    p, X, _ = case(unit, seed=1)
    check_unit(unit.forms["table"], p, X, **options).check(1e-7)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",), ()], ids="+".join)
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, form", FORMS, ids=label)
def test_fast_forms_equal_the_plain_one(unit, options, form, lengths, dtype, tol, arriving):
    p, X, state = case(unit, dtype=dtype)
    want = run(unit.forms["plain"], p, X, state, LENGTHS[lengths], arriving, **options)
    agree(run(unit.forms[form], p, X, state, LENGTHS[lengths], arriving, **options), want, tol, f"plain form, {form}")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 2, 4), (5, 1, 3, 2), (4, 0, 3, 2), (0, 3, 2, 2), (33, 17, 9, 11)], ids=str)
@pytest.mark.parametrize("unit, options, form", FORMS, ids=label)
def test_shapes_at_the_edges(unit, options, form, shape):
    T, B, n_x, n_a = shape
    p, X, state = case(unit, T=T, B=B, n_x=n_x, n_a=n_a)
    want = run(unit.forms["plain"], p, X, state, None, **options)
    agree(run(unit.forms[form], p, X, state, None, **options), want, 1e-12)
    assert want["Y"].shape == (T, B, n_a)


@pytest.mark.parametrize("unit, options, form", [(u, o, f) for u, o in CASES for f in u.forms], ids=label)
def test_stepping_equals_unrolling(unit, options, form):
    p, X, state = case(unit)
    Y, end, _ = unit.forms[form](p, X, state, **options)
    for t, x in enumerate(X):
        state, _ = unit.step(p, x, state, **options)
        assert np.allclose(state[0], Y[t], atol=1e-14)
    assert all(np.allclose(a, b, atol=1e-14) for a, b in zip(state, end, strict=True))


@pytest.mark.parametrize("unit, options, form", [(u, o, f) for u, o in CASES for f in u.forms], ids=label)
def test_padding_counts_for_nothing(unit, options, form):
    p, X, state = case(unit)
    lengths, noisy = [6, 3, 1, 0], X.copy()
    for i, n in enumerate(lengths):
        noisy[n:, i] = 1e6
    want, got = (run(unit.forms[form], p, x, state, lengths, **options) for x in (X, noisy))
    agree(got, want, 0)
    alone = run(unit.forms[form], p, X[:3, 1:2], type(state)(*(s[1:2] for s in state)), None, ("Y",), **options)
    assert np.allclose(want["Y"][:3, 1:2], alone["Y"], atol=1e-14) and (want["Y"][3:, 1] == 0).all()


@pytest.mark.parametrize("unit, options, form", [(u, o, f) for u, o in CASES for f in u.forms], ids=label)
def test_pure(unit, options, form):
    "No argument is changed, the outcome is the same twice, and a pullback may be called twice."
    p, X, state = case(unit)
    before = {k: a.copy() for k, a in leaves({"p": p, "X": X, "state": state}).items()}
    Y, end, pullback = unit.forms[form](p, X, state, [6, 3, 1, 4], **options)
    dY = np.ones_like(Y)
    first, second = (leaves(pullback(dY, end)) for _ in range(2))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    assert all(np.array_equal(before[k], a) for k, a in leaves({"p": p, "X": X, "state": state}).items())
    assert (dY == 1).all()


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, form", [(u, o, f) for u, o in CASES for f in u.forms], ids=label)
def test_on_the_device_without_a_single_wait(unit, options, form, lengths, synchronisations):
    p, X, state = case(unit)
    want = run(unit.forms[form], p, X, state, LENGTHS[lengths], **options)
    got = run(unit.forms[form], *tree_map(device.asarray, (p, X, state)), LENGTHS[lengths], **options)
    assert not synchronisations
    assert all(isinstance(a, DeviceArray) for a in got.values())
    agree(tree_map(asnumpy, got), want, 1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, form", [(u, o, f) for u, o in CASES for f in u.forms], ids=label)
def test_on_a_gpu(unit, options, form, lengths, dtype, tol):
    import cupy
    p, X, state = case(unit, dtype=dtype)
    want = run(unit.forms[form], p, X, state, LENGTHS[lengths], ("Y",), **options)
    there = to((p, X, state), "cupy")
    Y, end, pullback = unit.forms[form](*there, LENGTHS[lengths], **options)
    dY = cupy.asarray(np.random.default_rng(3).normal(size=Y.shape).astype(dtype))
    dX, grads, dstate0 = pullback(dY)
    agree(to(leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "dstate0": dstate0}), "numpy"), want, tol)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_shape_any_lengths(data):
    unit, options = data.draw(st.sampled_from(CASES))
    T, B, n_x, n_a = (data.draw(st.integers(1, n)) for n in (7, 5, 4, 6))
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    p, X, state = case(unit, data.draw(st.integers(0, 99)), T, B, n_x, n_a)
    agree(run(unit.forms["table"], p, X, state, lengths, **options), run(unit.forms["plain"], p, X, state, lengths, **options), 1e-12)


BAD = {
    "no parameters": (lambda p, X, s: ((None, X), {}), TypeError, r"p: expected \w+Params, got NoneType"),
    "parameters in a bare tuple": (lambda p, X, s: ((tuple(p), X), {}), TypeError, r"p: expected \w+Params, got tuple"),
    "parameters of another layer": (lambda p, X, s: ((dense_init(0, 5, 3), X), {}), TypeError, r"p: expected .*, got DenseParams"),
    "X is a list": (lambda p, X, s: ((p, X.tolist()), {}), TypeError, "expected a NumPy or CuPy array, got list"),
    "X of two axes": (lambda p, X, s: ((p, X[0]), {}), ValueError, r"X: expected shape \(T, B, 3\), got \(4, 3\)"),
    "X of other features": (lambda p, X, s: ((p, X[..., :2]), {}), ValueError, r"X: expected shape \(T, B, 3\), got \(6, 4, 2\)"),
    "X of another dtype": (lambda p, X, s: ((p, X.astype(np.float32)), {}), TypeError, "X: expected float64, got float32"),
    "state of another batch": (
        lambda p, X, s: ((p, X, type(s)(*(a[:2] for a in s))), {}), ValueError, r"state.a: expected shape \(4, 5\), got \(2, 5\)"),
    "state is a bare array": (lambda p, X, s: ((p, X, s[0]), {}), TypeError, r"state: expected \w+State\(a.*\), got ndarray; write"),
    "bias of another shape": (lambda p, X, s: ((p._replace(ba=p.ba[:1]), X), {}), ValueError, r"p.ba: expected shape \(\d+,\), got \(1,\)"),
    "weights of another dtype": (lambda p, X, s: ((p._replace(Waa=p.Waa.astype(np.float32)), X), {}), TypeError, "p.Waa: expected float64"),
    "too few lengths": (lambda p, X, s: ((p, X), {"lengths": [1, 2]}), ValueError, "lengths"),
    "lengths beyond T": (lambda p, X, s: ((p, X), {"lengths": [1, 2, 7, 1]}), ValueError, "lengths"),
    "negative lengths": (lambda p, X, s: ((p, X), {"lengths": [1, 2, -1, 1]}), ValueError, "lengths"),
    "lengths as floats": (lambda p, X, s: ((p, X), {"lengths": np.array([1.0, 2, 3, 4])}), TypeError, "lengths"),
    "host meets device": (lambda p, X, s: ((p, device.asarray(X)), {}), TypeError, "bring them to one side"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("form", ["plain", "table"])
@pytest.mark.parametrize("unit", UNITS, ids=label)
def test_bad_input_is_named(unit, form, bad):
    make, error, message = BAD[bad]
    args, options = make(*case(unit))
    with pytest.raises(error, match=message):
        unit.forms[form](*args, **options)


BAD_STEPS = {
    "parameters in a list": (lambda p, x, s: (list(p), x, s), TypeError, r"p: expected \w+Params, got list"),
    "x of another batch": (lambda p, x, s: (p, x[:2], s), ValueError, r"state.a: expected shape \(2, 5\), got \(4, 5\)"),
    "x of other features": (lambda p, x, s: (p, x[:, :2], s), ValueError, r"x: expected shape \(B, 3\), got \(4, 2\)"),
    "x without a batch": (lambda p, x, s: (p, x[0], s), ValueError, r"x: expected shape \(B, 3\), got \(3,\)"),
    "x of another dtype": (lambda p, x, s: (p, x.astype(np.float32), s), TypeError, "x: expected float64, got float32"),
    "x is a list": (lambda p, x, s: (p, x.tolist(), s), TypeError, "x: expected a NumPy or CuPy array, got list"),
    "no state": (lambda p, x, s: (p, x, None), TypeError, r"state: expected \w+State\(a.*\), got NoneType"),
    "state is a bare array": (lambda p, x, s: (p, x, s[0]), TypeError, r"state: expected \w+State\(a.*\), got ndarray"),
}


@pytest.mark.parametrize("bad", BAD_STEPS)
@pytest.mark.parametrize("unit", UNITS, ids=label)
def test_bad_steps_are_named(unit, bad):
    make, error, message = BAD_STEPS[bad]
    p, X, state = case(unit)
    with pytest.raises(error, match=message):
        unit.step(*make(p, X[0], state))


@pytest.mark.parametrize("unit", UNITS, ids=label)
@pytest.mark.parametrize("form", ["plain", "table"])
def test_bad_derivatives_are_named(unit, form):
    p, X, state = case(unit)
    Y, end, pullback = unit.forms[form](p, X, state)
    with pytest.raises(ValueError, match=r"dY: expected shape \(6, 4, 5\), got \(6, 4, 1\)"):
        pullback(np.ones((6, 4, 1)))
    with pytest.raises(TypeError, match="dY: expected float64, got float32"):
        pullback(np.ones(Y.shape, np.float32))
    with pytest.raises(ValueError, match=r"dstate.a: expected shape \(4, 5\)"):
        pullback(None, type(end)(*(s[:1] for s in end)))
    with pytest.raises(TypeError, match=r"dstate: expected \w+State\(a.*\), got ndarray"):
        pullback(None, end[0])


@pytest.mark.parametrize("unit", UNITS, ids=label)
def test_outputs_the_pullback_reads_are_safe(unit):
    Y, _, _ = unit.forms["table"](*case(unit))
    with pytest.raises(ValueError, match="read-only"):
        Y *= 2

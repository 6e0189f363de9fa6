"""Gradients by lag against explicit products and known powers, for every unit; the agreement task; what is refused."""
import re

import numpy as np
import pytest
from units import CASES, case, label

from seqbook.backend import device, leaves, to, tree_map
from seqbook.brnn import Bidirectional, bidirectional
from seqbook.deep_rnn import Deep, deep
from seqbook.lstm import LSTM, lstm
from seqbook.rnn import RNN, RNNParams, RNNState, rnn, rnn_init
from seqbook.vanishing import (
    ADJECTIVES,
    ADVERBS,
    AGREEMENT,
    FOODS,
    PLURAL,
    SINGULAR,
    agreement,
    factor_per_step,
    gradient_by_lag,
    identity_init,
    jacobians,
    plot_gradient_by_lag,
    pull_vectors,
    state_gradients,
    step_pullbacks,
)

pytestmark = pytest.mark.filterwarnings("error")


def two_layers(p, X, state=None, lengths=None):
    "Two recurrent networks, one on the other; its state is a tuple of states."
    state = state or (None, None)
    Y0, end0, back0 = rnn(p[0], X, state[0], lengths)
    Y1, end1, back1 = rnn(p[1], Y0, state[1], lengths)

    def pullback(dY=None, dstate=None):
        d0, d1 = dstate or (None, None)
        dY0, g1, s1 = back1(dY, d1)
        dX, g0, s0 = back0(dY0, d0)
        return dX, (g0, g1), (s0, s1)

    return Y1, (end0, end1), pullback


def linear(W):
    "A unit without inputs that multiplies its state by W: tanh at rest, where its slope is 1."
    W = np.array(W, dtype=np.float64)
    return RNNParams(np.zeros((len(W), 1)), W, np.zeros(len(W)))


class TestJacobians:
    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    def test_equal_the_explicit_product(self, activation):
        rng = np.random.default_rng(0)
        p = rnn_init(rng, 3, 5, np.float64)._replace(ba=rng.normal(size=5))
        X, state = rng.normal(size=(9, 4, 3)), RNNState(rng.normal(size=(4, 5)))
        Y = rnn(p, X, state, activation=activation)[0]
        slope = 1 - Y**2 if activation == "tanh" else 1.0 * (Y > 0)
        J, product = jacobians(rnn, p, X, state, activation=activation), np.tile(np.eye(5), (4, 1, 1))
        assert J.shape == (10, 4, 5, 5)
        for t in reversed(range(9)):
            assert abs(J[t + 1] - product).max() < 1e-12
            product = product @ (slope[t][:, :, None] * p.Waa)
        assert abs(J[0] - product).max() < 1e-12
        norms = gradient_by_lag(rnn, p, X, state, activation=activation)
        assert np.allclose(norms[::-1], np.linalg.norm(J, axis=(-2, -1)) / np.sqrt(5), rtol=1e-12, atol=1e-12)
        norms = gradient_by_lag(rnn, p, X, state, norm="spectral", activation=activation)
        assert np.allclose(norms[::-1], np.linalg.norm(J, 2, axis=(-2, -1)), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("unit, options", CASES, ids=label)
    def test_equal_those_of_the_uncut_sequence(self, unit, options):
        p, X, state = case(unit)
        f, (T, B, _) = unit.forms["table"], X.shape
        J = jacobians(f, p, X, state, **options)
        widths = [a.shape[1] for a in leaves(state).values()]
        edges = np.cumsum([0, *widths])
        for t in (0, 1, T - 1, T):
            at = f(p, X[:t], state, **options)[1]
            pullback = f(p, X[t:], at, **options)[2]
            for row in range(edges[-1]):
                e = np.tile(np.eye(edges[-1])[row], (B, 1))
                back = pullback(None, unit.State(*(e[:, i:j] for i, j in zip(edges, edges[1:]))))[2]
                assert abs(J[t, :, row] - np.concatenate(list(leaves(back).values()), axis=1)).max() < 1e-12

    def test_of_a_tree_of_states(self, rng):
        p = (rnn_init(rng, 3, 4, np.float64), rnn_init(rng, 4, 2, np.float64))
        X = rng.normal(size=(5, 2, 3))
        J = jacobians(two_layers, p, X)
        assert J.shape == (6, 2, 6, 6)
        assert (J[0][:, :4, 4:] == 0).all()  # the lower layer does not see the upper one
        assert abs(J[0][:, :4, :4] - jacobians(rnn, p[0], X)[0]).max() < 1e-12
        back = two_layers(p, X)[2](None, (RNNState(np.zeros((2, 4))), RNNState(np.tile([0.0, 1.0], (2, 1)))))[2]
        assert abs(J[0][:, 5] - np.concatenate([back[0].a, back[1].a], axis=1)).max() < 1e-12


class TestKnownPowers:
    @pytest.mark.parametrize("w", [0.5, -0.9, 1.0, 2.0])
    @pytest.mark.parametrize("norm", ["rms", "spectral"])
    def test_of_a_number(self, w, norm):
        norms = gradient_by_lag(rnn, linear([[w]]), np.zeros((30, 2, 1)), norm=norm)
        assert np.allclose(norms, abs(w) ** np.arange(31)[:, None] * np.ones(2), rtol=1e-12)
        assert np.allclose(factor_per_step(norms), abs(w), rtol=1e-12)

    def test_of_a_matrix_that_is_not_symmetric(self):
        W = np.array([[0.5, 4.0], [0.0, 0.5]])
        powers = [np.linalg.matrix_power(W, k) for k in range(21)]
        for norm, f in {"rms": lambda m: np.linalg.norm(m) / np.sqrt(2), "spectral": lambda m: np.linalg.norm(m, 2)}.items():
            assert np.allclose(gradient_by_lag(rnn, linear(W), np.zeros((20, 1, 1)), norm=norm)[:, 0], [f(m) for m in powers], rtol=1e-12)

    @pytest.mark.parametrize("w", [0.1, 10.0])
    def test_neither_underflow_nor_overflow_in_the_norm(self, w):
        norms = gradient_by_lag(rnn, linear(w * np.eye(3)), np.zeros((250, 1, 1)))
        assert np.allclose(np.log10(norms[:, 0]), np.log10(w) * np.arange(251), rtol=1e-9, atol=1e-9)

    def test_identity_with_relu(self, rng):
        p = identity_init(0, 2, 4, np.float64)
        assert (p.Waa == np.eye(4)).all() and (p.ba == 0).all() and p.Wax.shape == (4, 2)
        norms = gradient_by_lag(rnn, p, rng.normal(size=(20, 3, 2)), RNNState(np.ones((3, 4))), activation="relu")
        assert np.allclose(norms, 1, rtol=1e-12)

    def test_orthogonal_with_relu(self, rng):
        p, X = rnn_init(rng, 3, 16, np.float64), rng.normal(size=(8, 4, 3))
        on = (rnn(p, X, activation="relu")[0][-1] > 0).sum(axis=1)
        assert np.allclose(gradient_by_lag(rnn, p, X, activation="relu")[1], np.sqrt(on / 16), rtol=1e-12)
        assert (gradient_by_lag(rnn, p, X, norm="spectral", activation="relu") <= 1 + 1e-12).all()


class TestMeasure:
    @pytest.mark.parametrize("unit, options", CASES, ids=label)
    def test_lag_is_counted_from_each_end(self, unit, options):
        p, X, state = case(unit)
        f, lengths = unit.forms["table"], [6, 3, 0, 4]
        for how in ({}, {"norm": "spectral"}):
            norms = gradient_by_lag(f, p, X, state, lengths, **how, **options)
            assert norms.shape == (7, 4) and norms.dtype == np.float64
            for i, n in enumerate(lengths):
                alone = gradient_by_lag(f, p, X[:n, i : i + 1], tree_map(lambda s, i=i: s[i : i + 1], state), **how, **options)
                assert np.allclose(norms[: n + 1, i], alone[:, 0], rtol=1e-12) and np.isnan(norms[n + 1 :, i]).all()

    @pytest.mark.parametrize("unit, options", CASES, ids=label)
    def test_a_given_derivative_is_followed(self, unit, options):
        p, X, state = case(unit)
        f = unit.forms["table"]
        first = unit.State(np.random.default_rng(1).normal(size=state[0].shape), *[None] * (len(state) - 1))
        norms = gradient_by_lag(f, p, X, state, dstate=first, **options)
        assert np.allclose(norms[0], np.linalg.norm(first[0], axis=1), rtol=1e-14)
        back = f(p, X, state, **options)[2](None, first)[2]
        assert np.allclose(norms[-1], np.linalg.norm(np.concatenate(back, axis=1), axis=1), rtol=1e-12)
        D = state_gradients(f, p, X, first, state, **options)
        assert len(D) == 7 and all(abs(a - b).max() < 1e-12 for a, b in zip(D[0], back, strict=True))

    def test_random_vectors_estimate_the_rms(self, rng):
        p, X = rnn_init(rng, 3, 8, np.float64), rng.normal(size=(10, 3, 3))
        exact, many = gradient_by_lag(rnn, p, X), gradient_by_lag(rnn, p, X, probes=3000)
        assert np.allclose(many, exact, rtol=0.05) and np.allclose(many[0], 1, rtol=1e-12)
        few = [gradient_by_lag(rnn, p, X, probes=2, seed=s) for s in (1, 1, 2)]
        assert (few[0] == few[1]).all() and not (few[0] == few[2]).all()

    @pytest.mark.parametrize("T, B", [(0, 2), (1, 2), (4, 0), (0, 0)])
    @pytest.mark.parametrize("how", [{}, {"norm": "spectral"}, {"probes": 2}, {"dstate": True}], ids=str)
    def test_small_shapes(self, T, B, how, rng):
        p = rnn_init(rng, 3, 4, np.float64)
        how = {"dstate": RNNState(np.ones((B, 4)))} if "dstate" in how else how
        assert gradient_by_lag(rnn, p, np.ones((T, B, 3)), **how).shape == (T + 1, B)

    def test_float32_stays_float32_inside(self, rng):
        p, X = rnn_init(rng, 3, 4), rng.normal(size=(6, 2, 3)).astype(np.float32)
        assert jacobians(rnn, p, X).dtype == np.float32 and gradient_by_lag(rnn, p, X).dtype == np.float64
        wide = tree_map(lambda a: a.astype(np.float64), p)
        assert np.allclose(gradient_by_lag(rnn, p, X), gradient_by_lag(rnn, wide, X.astype(np.float64)), rtol=1e-5)

    @pytest.mark.parametrize("how", [{}, {"norm": "spectral"}, {"probes": 3}, {"lengths": [5, 2, 0, 1]}], ids=str)
    @pytest.mark.parametrize("unit, options", CASES, ids=label)
    def test_on_the_device(self, unit, options, how):
        p, X, state = case(unit)
        there = lambda tree: tree_map(device.asarray, tree)
        got = gradient_by_lag(unit.forms["table"], there(p), there(X), there(state), **how, **options)
        want = gradient_by_lag(unit.forms["table"], p, X, state, **how, **options)
        assert isinstance(got, np.ndarray) and np.allclose(got, want, rtol=1e-10, equal_nan=True)

    @pytest.mark.gpu
    @pytest.mark.parametrize("how", [{}, {"norm": "spectral"}, {"probes": 3}, {"lengths": [5, 2, 0, 1]}], ids=str)
    @pytest.mark.parametrize("unit, options", CASES, ids=label)
    def test_on_a_gpu(self, unit, options, how):
        arguments = case(unit)
        got = gradient_by_lag(unit.forms["table"], *to(arguments, "cupy"), **how, **options)
        want = gradient_by_lag(unit.forms["table"], *arguments, **how, **options)
        assert isinstance(got, np.ndarray) and np.allclose(got, want, rtol=1e-8, equal_nan=True)

    def test_arguments_stay_as_they_are(self, rng):
        p, X, state = rnn_init(rng, 3, 4, np.float64), rng.normal(size=(5, 2, 3)), RNNState(rng.normal(size=(2, 4)))
        copies = tree_map(np.copy, (p, X, state))
        gradient_by_lag(rnn, p, X, state)
        assert all((a == b).all() for a, b in zip(leaves(copies).values(), leaves((p, X, state)).values(), strict=True))

    def test_chaos_is_not_taken_for_looking_ahead(self, rng):
        p = rnn_init(rng, 3, 64)
        norms = gradient_by_lag(rnn, p._replace(Waa=np.float32(4) * p.Waa), rng.normal(size=(80, 1, 3)).astype(np.float32), probes=2)
        assert np.isfinite(norms).all() and norms[-1] > 1e3


def looks_ahead(p, X, state=None, lengths=None):
    Y, state, pullback = rnn(p, X, state, lengths)
    return Y + Y[-1:], state, pullback


@pytest.mark.parametrize("change, error, message", [
    ({"X": np.zeros((4, 3))}, ValueError, r"X: expected shape \(T, B, n_x\), got \(4, 3\)"),
    ({"X": np.zeros((4, 2, 5))}, ValueError, r"X: expected shape \(T, B, 3\), got"),
    ({"X": [[1.0]]}, TypeError, "X: "),
    ({"state": RNNState(np.zeros((1, 4)))}, ValueError, r"state.a: expected shape \(2, 4\), got \(1, 4\)"),
    ({"lengths": [7, 1]}, ValueError, "lengths"),
    ({"norm": "nuclear"}, ValueError, "norm: expected 'rms' or 'spectral', got 'nuclear'"),
    ({"probes": 0}, ValueError, "probes: expected a whole number >= 1, got 0"),
    ({"probes": 2.5}, TypeError, "probes: .* got 2.5"),
    ({"probes": 2, "norm": "spectral"}, ValueError, "probes: random vectors estimate norm='rms' only"),
    ({"probes": 2, "dstate": RNNState(np.ones((2, 4)))}, ValueError, "dstate: with a derivative of your own"),
    ({"dstate": RNNState(np.ones((2, 3)))}, ValueError, r"dstate.a: expected shape \(2, 4\), got \(2, 3\)"),
    ({"dstate": np.ones((2, 4))}, TypeError, "dstate: expected RNNState like the state, got ndarray"),
    ({"dstate": (np.ones((2, 4)),)}, ValueError, "dstate: '0' is not part of it; expected a"),
    ({"unit": looks_ahead}, ValueError, "unit: expected one that reads step by step"),
    ({"activation": "gelu"}, ValueError, "activation: expected one of tanh, relu, got 'gelu'"),
    ({"unit": None}, TypeError, "unit: expected a function such as rnn.* got None"),
    ({"unit": RNN}, TypeError, "unit: expected a function such as rnn.* got <class"),
    ({"unit": RNN(3, 4)}, TypeError, "unit: .* got the layer RNN; give the function it calls, and its params"),
    ({"unit": Deep([RNN(3, 4), RNN(4, 4)])}, TypeError, "unit: .* got the layer Deep"),
    ({"unit": Bidirectional(RNN(3, 4))}, TypeError, "unit: .* got the layer Bidirectional"),
    ({"p": RNN(3, 4)}, TypeError, "p: expected parameters, got the layer RNN; give its params"),
    ({"X": np.zeros((4, 2, 5))}, ValueError, r"X: expected shape \(T, B, 3\), got \(4, 2, 5\)"),
    ({"X": np.full((4, 2, 3), np.nan)}, ValueError, "unit: expected outputs that are numbers, got NaN at step 0"),
    ({"X": np.array([0, 0, np.nan])[:, None, None] * np.ones((3, 2, 3))}, ValueError, "unit: .* got NaN at step 2"),
    ({"state": RNNState(np.full((2, 4), np.nan))}, ValueError, "unit: .* got NaN at step 0"),
    ({"dstate": RNNState(np.full((2, 4), np.nan))}, ValueError, "dstate: expected numbers, got NaN"),
    ({"norm": np.array(["rms", "rms"])}, ValueError, "norm: expected 'rms' or 'spectral', got array"),
    ({"probes": 2, "seed": "a"}, ValueError, "seed: expected a numpy.random.Generator or a whole number of at least 0, got 'a'"),
    ({"probes": 2, "seed": -1}, ValueError, "seed: .* got -1"),
])
def test_bad_input_is_named(change, error, message, rng):
    arguments = {"unit": rnn, "p": rnn_init(rng, 3, 4, np.float64), "X": rng.normal(size=(5, 2, 3))} | change
    with pytest.raises(error, match=message):
        gradient_by_lag(**arguments)


def test_a_stack_is_measured_through_all_its_layers(rng):
    stack = Deep([RNN(3, 4, dtype=np.float64), LSTM(4, 2, dtype=np.float64)])
    X, lengths, unit = rng.normal(size=(6, 3, 3)), [6, 2, 4], deep([rnn, lstm])
    norms, J = gradient_by_lag(unit, stack.params, X, lengths=lengths), jacobians(unit, stack.params, X)
    assert J.shape == (7, 3, 8, 8) and (J[:-1, :, :4, 4:] == 0).all()  # the lower layer does not see the upper one
    assert np.allclose(norms[:, 0], np.linalg.norm(J[::-1, 0], axis=(-2, -1)) / np.sqrt(8), rtol=1e-12)
    assert np.isnan(norms[3:, 1]).all() and np.isfinite(norms[:3, 1]).all()
    row, back = np.eye(8)[5], unit(stack.params, X)[2]  # the last layer's a, of the uncut sequence
    d = back(None, (RNNState(np.zeros((3, 4))), type(stack.initial_state(3)[1])(np.tile(row[4:6], (3, 1)), np.zeros((3, 2)))))[2]
    assert np.allclose(J[0][:, 5], np.concatenate([*d[0], *d[1]], axis=1), atol=1e-14)
    alone = gradient_by_lag(rnn, stack.params[0], X, dstate=RNNState(np.ones((3, 4))))
    below = gradient_by_lag(unit, stack.params, X, dstate=(RNNState(np.ones((3, 4))), None))
    assert np.allclose(below, alone, rtol=1e-12)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_two_directions_are_refused(merge, rng):
    both = Bidirectional(RNN(3, 4, dtype=np.float64), merge=merge)
    for unit, p in ((bidirectional(rnn, rnn, merge), both.params), (deep([bidirectional(rnn, rnn, merge)]), (both.params,))):
        for how in ({}, {"probes": 2}, {"norm": "spectral"}):
            with pytest.raises(ValueError, match=r"unit: expected one that reads step by step, got one whose first output"):
                gradient_by_lag(unit, p, rng.normal(size=(5, 2, 3)), **how)


@pytest.mark.parametrize("V, error, message", [
    (lambda n: np.ones((2, n)), ValueError, r"V: expected shape \(2, k, 4\), got \(2, 4\)"),
    (lambda n: np.ones((3, 1, n)), ValueError, r"V: expected shape \(2, k, 4\), got \(3, 1, 4\)"),
    (lambda n: np.ones((2, 1, n), np.float32), TypeError, "V: expected float64, got float32"),
])
def test_vectors_of_another_shape_are_named(V, error, message, rng):
    with pytest.raises(error, match=message):
        pull_vectors(rnn, rnn_init(rng, 3, 4, np.float64), rng.normal(size=(5, 2, 3)), V)


def test_step_pullbacks_hand_over_both_ends(rng):
    p, X = rnn_init(rng, 3, 4, np.float64), rng.normal(size=(5, 2, 3))
    pullbacks, start, end = step_pullbacks(rnn, p, X)
    assert len(pullbacks) == 5 and (start.a == 0).all() and np.allclose(end.a, rnn(p, X)[1].a, atol=1e-14)


def test_identity_init():
    p = identity_init(3, 5, 4, scale=0.5, std=0.1)
    assert all(a.dtype == np.float32 for a in p) and (p.Waa == 0.5 * np.eye(4)).all()
    assert abs(identity_init(0, 400, 50, std=0.1).Wax.std() - 0.1) < 0.002
    assert (identity_init(3, 5, 4, scale=0.5, std=0.1).Wax == p.Wax).all()
    with pytest.raises(ValueError, match="n_a: expected a whole number >= 1, got 0"):
        identity_init(0, 3, 0)


@pytest.mark.parametrize("change, error, message", [
    ({"dtype": int}, TypeError, "dtype: expected float32 or float64, got int64"),
    ({"std": -1}, ValueError, "std: expected a number in .* got -1"),
    ({"std": "a"}, TypeError, "std: expected a number in .* got 'a'"),
    ({"scale": np.nan}, ValueError, "scale: expected a number in .* got nan"),
    ({"scale": np.eye(4)}, TypeError, "scale: expected a number in"),
    ({"rng": "a"}, ValueError, "rng: expected a numpy.random.Generator or a seed, .* got 'a'"),
])
def test_bad_beginnings_are_named(change, error, message):
    with pytest.raises(error, match=message):
        identity_init(**{"rng": 0, "n_x": 3, "n_a": 4} | change)


@pytest.mark.parametrize("norms, error, message", [
    (None, TypeError, "norms: expected numbers, got object"),
    ("abc", TypeError, "norms: expected numbers, got str"),
    ([1j, 1], TypeError, "norms: expected numbers, got complex128"),
    ([], ValueError, r"norms: expected shape .* got \(0,\)"),
    (3.0, ValueError, r"norms: expected shape .* got \(\)"),
    (np.ones((3, 2, 4, 4)), ValueError, r"norms: expected shape .* got \(3, 2, 4, 4\)"),
    ([[1, 2], [1]], ValueError, "norms: expected shape .* got lists of unequal length"),
    ([1, -0.5], ValueError, "norms: expected norms, 0 or more, got -0.5"),
])
def test_what_are_no_norms_is_named(norms, error, message):
    for f in (factor_per_step, plot_gradient_by_lag):
        with pytest.raises(error, match=message):
            f(norms)
    with pytest.raises(error, match=message.replace("norms:", r"norms\['a'\]:")):
        plot_gradient_by_lag({"a": norms})


def test_factor_per_step():
    assert np.isclose(factor_per_step(0.5 ** np.arange(11)), 0.5)
    ragged = np.array([[1, 2.0, 3], [0.5, 4.0, np.nan], [0.25, np.nan, np.nan]])
    assert np.allclose(factor_per_step(ragged), [0.5, 2, np.nan], equal_nan=True)
    assert factor_per_step(np.array([[1.0], [0.0]])) == 0 and np.isnan(factor_per_step([0.0, 0.0]))
    with pytest.raises(ValueError, match=r"norms: expected shape \(T \+ 1, B\) or \(T \+ 1,\), got \(2, 2, 2\)"):
        factor_per_step(np.ones((2, 2, 2)))


def test_plot():
    import matplotlib
    matplotlib.use("agg")
    norms = np.vstack([np.ones(3), [0.5, 0.4, np.nan], [0, 0.1, np.nan], [np.nan] * 3])
    ax = plot_gradient_by_lag({f"unit {k}": norms for k in range(8)})
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [f"unit {k}" for k in range(8)]
    assert ax.get_yscale() == "log" and len(ax.lines[0].get_xdata()) == 3
    assert ax.lines[0].get_linestyle() != ax.lines[6].get_linestyle()
    assert plot_gradient_by_lag(norms[:, 0], ax) is ax
    gap = plot_gradient_by_lag([1, np.inf, 0.5]).lines[0]
    assert gap.get_xdata().tolist() == [0, 2] and gap.get_ydata().tolist() == [1, 0.5]  # lags stay where they are
    assert len(plot_gradient_by_lag({}).lines) == 0 and len(plot_gradient_by_lag(np.full((3, 2), np.nan)).lines[0].get_xdata()) == 0
    with pytest.raises(TypeError, match="ax: expected one matplotlib axes, got Figure"):
        plot_gradient_by_lag(norms, ax.figure)
    matplotlib.pyplot.close("all")


class TestAgreement:
    WORDS = {k: f"({'|'.join(w)})" for k, w in {"n": SINGULAR, "N": PLURAL, "a": ADVERBS, "f": FOODS, "j": ADJECTIVES}.items()}

    def grammar(self):
        item = "( {j})? {f}".format(**self.WORDS)
        clause = f"( {self.WORDS['a']}){{0,4}}|, which already ate({item}( and{item})*)? ,".replace("|,", "| ,")
        return re.compile("the ({n}({c}) was|{N}({c}) were) full .".format(c=clause, **self.WORDS).replace("full .", r"full \."))

    @pytest.mark.parametrize("lag", [*range(14), 25, 40, 81])
    def test_sentences(self, lag):
        task, grammar = agreement(lag, 60, lag), self.grammar()
        assert task.ids.shape == task.targets.shape == (lag + 4, 60) and task.verb == lag + 1
        assert (task.ids[1:] == task.targets[:-1]).all() and task.ids.dtype == task.targets.dtype == np.int64
        for i in range(60):
            words = AGREEMENT.decode(np.r_[task.ids[:, i], task.targets[-1, i]])
            assert grammar.fullmatch(" ".join(words)), " ".join(words)
            assert lag > 4 or len(set(words[2 : lag + 2])) == lag
            assert (words[1] in PLURAL) == (words[lag + 2] == "were") == bool(task.plural[i])

    def test_both_numbers_all_words_no_hints(self):
        task = agreement(0, 4000, 20)
        assert abs(task.plural.mean() - 0.5) < 0.03
        seen = set(task.ids.ravel()) | set(task.targets.ravel()) | set(agreement(0, 500, 3).ids.ravel())
        assert seen == set(range(len(AGREEMENT)))
        between = task.ids[2:21]  # every word as likely after a singular as after a plural
        counts = [np.bincount(between[:, task.plural == k].ravel(), minlength=len(AGREEMENT)) / (task.plural == k).sum() for k in (0, 1)]
        assert abs(counts[0] - counts[1]).max() < 0.1

    def test_seeds(self):
        a, b, c = agreement(1, 20, 9), agreement(np.random.default_rng(1), 20, 9), agreement(2, 20, 9)
        assert (a.ids == b.ids).all() and not (a.ids == c.ids).all()

    @pytest.mark.parametrize("m, lag, message", [
        (0, 3, "m: expected a whole number >= 1, got 0"),
        (4, -1, "lag: expected a whole number >= 0, got -1"),
        (4, 2.0, "lag: .* got 2.0"),
        (4, True, "lag: .* got True"),
    ])
    def test_bad_input_is_named(self, m, lag, message):
        with pytest.raises((TypeError, ValueError), match=message):
            agreement(0, m, lag)

    def test_a_seed_that_is_none_is_named(self):
        with pytest.raises(ValueError, match="rng: expected a numpy.random.Generator or a seed, .* got 'a'"):
            agreement("a", 4, 3)

"""Losses, the gradient checker, windows, and the layers around the recurrence."""
import numpy as np
import pytest

from seqbook.backend import DeviceArray, asnumpy, device, leaves, tree_map
from seqbook.bptt import binary_cross_entropy, check_unit, cross_entropy, gradcheck, windows
from seqbook.rnn import RNN, Dense, Embedding, dense, dense_init, embedding, embedding_init, join, rnn, rnn_init, split

MASK = np.array([[True, True, False], [True, False, False]])


def test_cross_entropy_is_the_definition(rng):
    Z, y = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, size=(2, 3))
    P = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
    nats = -np.log(np.take_along_axis(P, y[..., None], -1)[..., 0])
    assert np.isclose(cross_entropy(Z, y)[0], nats.mean(), rtol=1e-14)
    assert np.isclose(cross_entropy(Z, y, MASK)[0], nats[MASK].mean(), rtol=1e-14)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("loss, classes, shape", [(cross_entropy, 4, (2, 3, 4)), (binary_cross_entropy, 2, (2, 3))])
def test_losses_against_central_differences(loss, classes, shape, mask, rng):
    y, Z = rng.integers(0, classes, size=(2, 3)), rng.normal(size=shape)
    gradcheck(lambda z: loss(z, y, mask)[0], Z, loss(Z, y, mask)[1]()).check(1e-8)
    assert np.allclose(loss(Z, y, mask)[1](3.0), 3 * loss(Z, y, mask)[1]())


def test_losses_survive_extreme_scores():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, back = cross_entropy(np.array([[1000.0, -1000.0]]), np.array([1]))
        assert loss == 2000 and np.isfinite(back()).all()
        loss, back = binary_cross_entropy(np.array([-1000.0, 1000.0]), np.array([1, 0]))
        assert loss == 1000 and np.isfinite(back()).all()


def test_masked_positions_may_hold_anything(rng):
    Z, y = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, size=(2, 3))
    junk = np.where(MASK, y, -1)
    assert cross_entropy(Z, junk, MASK)[0] == cross_entropy(Z, y, MASK)[0]
    assert cross_entropy(Z, y, np.zeros_like(MASK))[0] == 0


@pytest.mark.parametrize("make, error, message", [
    (lambda Z, y: (Z, y[0]), ValueError, r"targets: expected shape \(2, 3\), got \(3,\)"),
    (lambda Z, y: (Z, y + 4), ValueError, "targets: expected classes 0 to 3"),
    (lambda Z, y: (Z, y - 4), ValueError, "targets: expected classes 0 to 3"),
    (lambda Z, y: (Z, y * 1.0), TypeError, "targets: expected an integer, got float64"),
    (lambda Z, y: (Z, y, MASK[:1]), ValueError, r"mask: expected shape \(2, 3\), got \(1, 3\)"),
    (lambda Z, y: (Z.astype(int), y), TypeError, "Z: expected float32 or float64, got int64"),
    (lambda Z, y: (Z.tolist(), y), TypeError, "Z: expected a NumPy or CuPy array, got list"),
    (lambda Z, y: (Z, y, np.array([[5, 7, 0], [1, 2, 3]])), TypeError, "mask: expected bool, got int64"),
])
def test_losses_name_bad_input(make, error, message, rng):
    with pytest.raises(error, match=message):
        cross_entropy(*make(rng.normal(size=(2, 3, 4)), rng.integers(0, 4, size=(2, 3))))


@pytest.mark.parametrize("repeat", [1, 2])
def test_embedding_and_dense(rng, repeat):
    ids = rng.integers(0, 5, size=(6, 3)) * repeat % 5
    p = embedding_init(rng, 7, 4, np.float64)  # symbols 5 and 6 never occur
    X, back = embedding(p, ids)
    w = rng.normal(size=X.shape)
    gradcheck(lambda t: (w * embedding(t, ids)[0]).sum(), p, back(w)).check(1e-8)
    assert (back(w).E[5:] == 0).all()
    q = dense_init(rng, 4, 3, np.float64)._replace(by=rng.normal(size=3))
    Z, back = dense(q, X)
    w = rng.normal(size=Z.shape)
    dA, grads = back(w)
    gradcheck(lambda t: (w * dense(t["q"], t["A"])[0]).sum(), {"q": q, "A": X}, {"q": grads, "A": dA}).check(1e-8)


def test_binary_targets_are_probabilities():
    with pytest.raises(ValueError, match="targets: expected 0, 1 or a probability between, got -2 to 7"):
        binary_cross_entropy(np.zeros(2), np.array([7, -2]))


def test_embedding_of_nothing_and_of_strangers(rng):
    p = embedding_init(rng, 3, 2)
    X, back = embedding(p, np.zeros((0, 4), int))
    assert X.shape == (0, 4, 2) and (back(X).E == 0).all()
    with pytest.raises(ValueError, match="ids: expected symbols 0 to 2, got 0 to 3"):
        embedding(p, np.array([0, 3]))
    with pytest.raises(TypeError, match="ids: expected an integer"):
        embedding(p, np.array([0.0]))


def test_around_the_recurrence_on_the_device(rng, synchronisations):
    ids, y = rng.integers(0, 5, size=(6, 3)), rng.integers(0, 4, size=(6, 3))
    m = {"embedding": embedding_init(rng, 5, 4), "output": dense_init(rng, 4, 4)}

    def grads(m, ids, y, mask):
        X, back_X = embedding(m["embedding"], ids)
        Z, back_Z = dense(m["output"], X)
        loss, back = cross_entropy(Z, y, mask)
        dX, g = back_Z(back())
        return {"loss": loss, "output": g, "embedding": back_X(dX)}

    mask = np.arange(6)[:, None] < [6, 2, 1]
    got = leaves(grads(*tree_map(device.asarray, (m, ids, y, mask))))
    assert not synchronisations and all(isinstance(a, DeviceArray) for a in got.values())
    want = leaves(grads(m, ids, y, mask))
    assert all(np.allclose(asnumpy(got[k]), want[k], atol=1e-7) for k in want)


class TestGradcheck:
    square = staticmethod(lambda t: float((t["x"] ** 2).sum()))

    def test_names_the_worst_entry(self, rng):
        x = rng.normal(size=(3, 4))
        wrong = 2 * x
        wrong[1, 2] += 0.5
        report = gradcheck(self.square, {"x": x}, {"x": wrong})
        assert (report.worst.name, report.worst.index) == ("x", (1, 2))
        assert np.isclose(report.worst.difference, 0.5, atol=1e-6)
        with pytest.raises(AssertionError, match=r"gradient of x\[1, 2\]: exact .*, central difference"):
            report.check()

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_nan_is_never_fine(self, bad):
        report = gradcheck(self.square, {"x": np.ones(3)}, {"x": np.array([2.0, bad, 2.0])})
        assert report.worst.index == (1,)
        with pytest.raises(AssertionError):
            report.check(1e9)

    def test_leaves_its_arguments_alone(self):
        x = np.ones(3)
        gradcheck(self.square, {"x": x}, {"x": 2 * x}).check()
        assert (x == 1).all()

    def test_insists_on_float64_and_on_the_structure(self):
        with pytest.raises(TypeError, match="x: expected float64, got float32"):
            gradcheck(self.square, {"x": np.ones(3, np.float32)}, {"x": np.ones(3, np.float32)})
        with pytest.raises(ValueError, match="'x' is missing"):
            gradcheck(self.square, {"x": np.ones(3)}, {"y": np.ones(3)})
        with pytest.raises(ValueError, match=r"grads.x: expected shape \(3,\), got \(2,\)"):
            gradcheck(self.square, {"x": np.ones(3)}, {"x": np.ones(2)})

    @pytest.mark.parametrize("options, message", [
        ({"samples": -1}, "samples: expected a whole number >= 1"), ({"samples": 0}, "samples: .* got 0"),
        ({"eps": 0}, "eps: expected a number in \\(0, inf\\), got 0"), ({"eps": -1}, "eps: .* got -1"),
    ])
    def test_refuses_to_check_nothing(self, options, message, rng):
        with pytest.raises(ValueError, match=message):
            gradcheck(self.square, {"x": np.ones(3)}, {"x": 2 * np.ones(3)}, **options)
        with pytest.raises(ValueError, match="tree: expected at least one array"):
            gradcheck(lambda t: 0.0, {}, {})
        with pytest.raises(ValueError, match="dstate: expected True, False or one of a, got 'c'"):
            check_unit(rnn, rnn_init(rng, 2, 3, np.float64), np.zeros((4, 2, 2)), dY=False, dstate="c")

    def test_samples(self, rng):
        x = rng.normal(size=100)
        assert gradcheck(self.square, {"x": x}, {"x": 2 * x}, samples=7).check().rows[0].entries == 7

    def test_a_bias_forgotten_in_the_gradient_is_found(self, rng):
        def forgets(p, X, state=None, lengths=None):
            Y, end, back = rnn(p, X, state, lengths)
            return Y, end, lambda *a: (lambda dX, g, d: (dX, g._replace(ba=0 * g.ba), d))(*back(*a))
        report = check_unit(forgets, rnn_init(rng, 2, 3, np.float64), rng.normal(size=(4, 2, 2)))
        assert report.worst.name == "p.ba"


def test_windows_cover_everything_once():
    X, y = np.arange(10)[:, None], np.arange(10)
    assert [len(a) for a in windows(X, 4)] == [4, 4, 2]
    assert all((a[:, 0] == b).all() for a, b in windows((X, y), 3))
    assert (np.concatenate(list(windows(y, 3))) == y).all()
    with pytest.raises(ValueError, match="steps: expected a whole number >= 1, got 0"):
        list(windows(X, 0))
    with pytest.raises(ValueError, match=r"arrays: expected one number of time steps, got \[10, 9\]"):
        list(windows((X, y[:9]), 3))


def test_joined_form_is_the_lectures(rng):
    p = rnn_init(rng, 4, 3, np.float64)
    Wa = join(p)
    assert (Wa[:, :3] == p.Waa).all() and (Wa[:, 3:] == p.Wax).all()
    assert all((a == b).all() for a, b in zip(split(Wa, p.ba), p, strict=True))
    with pytest.raises(ValueError, match="ba: expected shape"):
        split(Wa, np.ones(4))


def test_one_seed_one_model():
    for make in (lambda s: RNN(3, 4, seed=s), lambda s: Dense(3, 4, seed=s), lambda s: Embedding(3, 4, seed=s)):
        a, b, c = make(1), make(1), make(2)
        assert all((x == y).all() for x, y in zip(a.params, b.params, strict=True)) and not (a.params[0] == c.params[0]).all()
        assert all(x.dtype == np.float32 for x in a.params)
        assert type(a)(**a.config()).config() == a.config()


@pytest.mark.parametrize("make, message", [
    (lambda: RNN(0, 4), "n_x: expected a whole number >= 1, got 0"),
    (lambda: RNN(3, 2.5), "n_a: .* got 2.5"),
    (lambda: RNN(3, 4, "gelu"), "activation: expected one of tanh, relu, got 'gelu'"),
    (lambda: Dense(True, 4), "n_a: .* got True"),
    (lambda: RNN(3, 4, seed=-1), "rng: expected a numpy.random.Generator or a seed.* got -1"),
    (lambda: Embedding(3, 4, seed="x"), "rng: .* got 'x'"),
    (lambda: RNN(3, 4, dtype=int), "dtype: expected float32 or float64, got int64"),
    (lambda: Dense(3, 4, dtype=np.float16), "dtype: .* got float16"),
    (lambda: Dense(3, 4, dtype="x"), "dtype: .* got 'x'"),
])
def test_layers_name_bad_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()

"""The course's functions: shapes, keys and return values of the assignments, values spelled out, and central differences."""
import numpy as np
import pytest

from seqbook import course
from seqbook.backend import DeviceArray, asnumpy, device, leaves, tree_map
from seqbook.bptt import gradcheck

N_X, N_A, N_Y, M, T_X = 3, 5, 2, 4, 6
SIZES = [(3, 5, 2, 4, 6), (1, 1, 1, 1, 1), (2, 4, 3, 1, 3), (4, 4, 4, 4, 4), (5, 2, 6, 7, 2)]
RNN_KEYS, GATES = ("Wax", "Waa", "ba"), tuple(f"{kind}{g}" for g in "fico" for kind in "Wb")
pytestmark = pytest.mark.filterwarnings("error")


def rnn_case(n_x=N_X, n_a=N_A, n_y=N_Y, m=M, T_x=T_X, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *s: (0.6 * rng.normal(size=s)).astype(dtype)
    p = {"Wax": draw(n_a, n_x), "Waa": draw(n_a, n_a), "Wya": draw(n_y, n_a), "ba": draw(n_a, 1), "by": draw(n_y, 1)}
    return draw(n_x, m, T_x), draw(n_a, m), p


def lstm_case(n_x=N_X, n_a=N_A, n_y=N_Y, m=M, T_x=T_X, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *s: (0.6 * rng.normal(size=s)).astype(dtype)
    p = {k: draw(n_a, n_a + n_x if k[0] == "W" else 1) for k in GATES} | {"Wy": draw(n_y, n_a), "by": draw(n_y, 1)}
    return draw(n_x, m, T_x), draw(n_a, m), p


def sigma(z):
    return 1 / (1 + np.exp(-z))


def soft(z):
    e = np.exp(z - z.max(axis=0))
    return e / e.sum(axis=0)


def lstm_by_hand(x, a, c, p):
    "One step of the LSTM in plain NumPy, columns as in the course: a, c, y, (ft, it, cct, ot)."
    z = {g: p["W" + g] @ np.concatenate([a, x]) + p["b" + g] for g in "fico"}
    ft, it, cct, ot = sigma(z["f"]), sigma(z["i"]), np.tanh(z["c"]), sigma(z["o"])
    c = ft * c + it * cct
    a = ot * np.tanh(c)
    return a, c, soft(p["Wy"] @ a + p["by"]), (ft, it, cct, ot)


UNITS = ((rnn_case, course.rnn_forward, course.rnn_backward), (lstm_case, course.lstm_forward, course.lstm_backward))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rnn_forward_spelled_out(sizes):
    x, a0, p = rnn_case(*sizes)
    a, y_pred, (steps, same) = course.rnn_forward(x, a0, p)
    n_x, n_a, n_y, m, T_x = sizes
    assert a.shape == (n_a, m, T_x) and y_pred.shape == (n_y, m, T_x) and len(steps) == T_x and same is x
    before = a0
    for t in range(T_x):
        one, yt, cache = course.rnn_cell_forward(x[:, :, t], before, p)
        assert np.allclose(one, np.tanh(p["Wax"] @ x[:, :, t] + p["Waa"] @ before + p["ba"]), atol=1e-15)
        assert np.allclose(yt, soft(p["Wya"] @ one + p["by"]), atol=1e-15)
        for cached in (cache, steps[t]):
            assert len(cached) == 4 and cached[3] is p
            assert all(np.allclose(got, want, atol=1e-14) for got, want in zip(cached, (one, before, x[:, :, t]), strict=False))
        assert np.allclose(a[:, :, t], one, atol=1e-14) and np.allclose(y_pred[:, :, t], yt, atol=1e-14)
        before = one


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lstm_forward_spelled_out(sizes):
    x, a0, p = lstm_case(*sizes)
    a, y, c, (steps, same) = course.lstm_forward(x, a0, p)
    n_x, n_a, n_y, m, T_x = sizes
    assert a.shape == c.shape == (n_a, m, T_x) and y.shape == (n_y, m, T_x) and len(steps) == T_x and same is x
    at, ct = a0, np.zeros_like(a0)
    for t in range(T_x):
        now = x[:, :, t]
        one, cell, yt, cache = course.lstm_cell_forward(now, at, ct, p)
        want_a, want_c, want_y, gates = lstm_by_hand(now, at, ct, p)
        assert all(np.allclose(got, want, atol=1e-14) for got, want in ((one, want_a), (cell, want_c), (yt, want_y), (y[:, :, t], yt)))
        for cached in (cache, steps[t]):
            assert len(cached) == 10 and cached[9] is p
            assert all(np.allclose(got, w, atol=1e-14) for got, w in zip(cached, (want_a, want_c, at, ct, *gates, now), strict=False))
        at, ct = want_a, want_c
        assert np.allclose(a[:, :, t], at, atol=1e-14) and np.allclose(c[:, :, t], ct, atol=1e-14)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rnn_backward(sizes):
    x, a0, p = rnn_case(*sizes)
    a, _, caches = course.rnn_forward(x, a0, p)
    da = np.random.default_rng(1).normal(size=a.shape)
    g = course.rnn_backward(da, caches)
    assert set(g) == {"dx", "da0", "dWax", "dWaa", "dba"}
    at = {"x": x, "a0": a0} | {k: p[k] for k in RNN_KEYS}
    loss = lambda t: (da * course.rnn_forward(t["x"], t["a0"], p | {k: t[k] for k in RNN_KEYS})[0]).sum()
    gradcheck(loss, at, {k: g["d" + k] for k in at}).check(1e-7)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lstm_backward(sizes):
    x, a0, p = lstm_case(*sizes)
    a, _, _, caches = course.lstm_forward(x, a0, p)
    da = np.random.default_rng(1).normal(size=a.shape)
    g = course.lstm_backward(da, caches)
    assert set(g) == {"dx", "da0", *("d" + k for k in GATES)}
    at = {"x": x, "a0": a0} | {k: p[k] for k in GATES}
    loss = lambda t: (da * course.lstm_forward(t["x"], t["a0"], p | {k: t[k] for k in GATES})[0]).sum()
    gradcheck(loss, at, {k: g["d" + k] for k in at}).check(1e-7)


def test_cells_backward():
    x, a_prev, p = rnn_case()
    rng, xt = np.random.default_rng(2), x[:, :, 0]
    da, dc, c_prev = rng.normal(size=(3, N_A, M))
    _, _, cache = course.rnn_cell_forward(xt, a_prev, p)
    g = course.rnn_cell_backward(da, cache)
    assert set(g) == {"dxt", "da_prev", "dWax", "dWaa", "dba"}
    at = {"xt": xt, "a_prev": a_prev} | {k: p[k] for k in RNN_KEYS}
    loss = lambda t: (da * course.rnn_cell_forward(t["xt"], t["a_prev"], p | {k: t[k] for k in RNN_KEYS})[0]).sum()
    gradcheck(loss, at, {k: g["d" + k] for k in at}).check(1e-7)

    _, _, p = lstm_case()
    *_, cache = course.lstm_cell_forward(xt, a_prev, c_prev, p)
    g = course.lstm_cell_backward(da, dc, cache)
    assert set(g) == {"dxt", "da_prev", "dc_prev", *("d" + k for k in GATES)}
    at = {"xt": xt, "a_prev": a_prev, "c_prev": c_prev} | {k: p[k] for k in GATES}

    def loss(t):
        a, c, _, _ = course.lstm_cell_forward(t["xt"], t["a_prev"], t["c_prev"], p | {k: t[k] for k in GATES})
        return (da * a + dc * c).sum()

    gradcheck(loss, at, {k: g["d" + k] for k in at}).check(1e-7)


@pytest.mark.parametrize("carry_c", [True, False])
def test_the_published_mistake_is_one(carry_c):
    "State gradients that are not handed back give other gradients, and central differences tell."
    x, a0, p = lstm_case()
    a, _, _, caches = course.lstm_forward(x, a0, p)
    da, total, dc = np.random.default_rng(1).normal(size=a.shape), {}, np.zeros_like(a0)
    for t in reversed(range(T_X)):
        g = course.lstm_cell_backward(da[:, :, t], dc, caches[0][t])
        dc = g["dc_prev"] if carry_c else dc
        total = {k: total.get(k, 0) + g["d" + k] for k in GATES}
    loss = lambda t: (da * course.lstm_forward(x, a0, p | t)[0]).sum()
    report = gradcheck(loss, {k: p[k] for k in GATES}, total)
    assert report.worst.relative > 0.1
    ours = course.lstm_backward(da, caches)
    assert gradcheck(loss, {k: p[k] for k in GATES}, {k: ours["d" + k] for k in GATES}).worst.relative < 1e-7


def test_against_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    x, a0, p = lstm_case()
    a, _, c, caches = course.lstm_forward(x, a0, p)
    da = np.random.default_rng(1).normal(size=a.shape)
    g = course.lstm_backward(da, caches)
    cell = torch.nn.LSTM(N_X, N_A, dtype=torch.float64)
    with torch.no_grad():
        W = torch.tensor(np.concatenate([p["W" + k] for k in "ifco"]))
        cell.weight_hh_l0.copy_(W[:, :N_A])
        cell.weight_ih_l0.copy_(W[:, N_A:])
        cell.bias_ih_l0.copy_(torch.tensor(np.concatenate([p["b" + k][:, 0] for k in "ifco"])))
        cell.bias_hh_l0.zero_()
    tX, th = (torch.tensor(v.T.copy() if v.ndim == 3 else v.T[None].copy(), requires_grad=True) for v in (x, a0))
    tY, (_, tc) = cell(tX, (th, torch.zeros_like(th)))
    (tY * torch.tensor(da.T.copy())).sum().backward()
    dW = np.concatenate([cell.weight_hh_l0.grad.numpy(), cell.weight_ih_l0.grad.numpy()], axis=1)
    pairs = [(a, tY.detach().numpy().T), (c[:, :, -1], tc[0].detach().numpy().T)]
    pairs += [(g["dx"], tX.grad.numpy().T), (g["da0"], th.grad[0].numpy().T)]
    pairs += [(g["dW" + k], w) for k, w in zip("ifco", np.split(dW, 4), strict=True)]
    pairs += [(g["db" + k][:, 0], b) for k, b in zip("ifco", np.split(cell.bias_ih_l0.grad.numpy(), 4), strict=True)]
    assert all(np.allclose(ours, theirs, atol=1e-12) for ours, theirs in pairs)


@pytest.mark.parametrize("dtype, tol", [(np.float64, 0), (np.float32, 2e-5)], ids=["float64", "float32"])
def test_dtype_stays(dtype, tol):
    for case, forward, backward in UNITS:
        x, a0, p = case(dtype=dtype)
        *values, caches = forward(x, a0, p)
        gradients = backward(np.ones_like(values[0]), caches)
        *exact, exact_caches = forward(*tree_map(np.float64, (x, a0, p)))
        want = backward(np.ones_like(exact[0]), exact_caches)
        assert all(v.dtype == dtype for v in [*values, *gradients.values()])
        assert all(np.allclose(g, want[k], atol=tol) for k, g in gradients.items())


def test_pure():
    for case, forward, backward in UNITS:
        x, a0, p = case()
        kept = {k: v.copy() for k, v in leaves((x, a0, p)).items()}
        a, *_, caches = forward(x, a0, p)
        da = np.ones_like(a)
        first, second = backward(da, caches), backward(da, caches)
        assert all((first[k] == second[k]).all() for k in first) and (da == 1).all()
        assert all((kept[k] == v).all() for k, v in leaves((x, a0, p)).items())
        a += 1  # the outputs belong to the caller


def test_on_the_device_without_a_single_wait(synchronisations):
    for case, forward, backward in UNITS:
        x, a0, p = case()
        a, *_, caches = forward(x, a0, p)
        want = backward(np.ones_like(a), caches)
        a_d, *_, caches_d = forward(*tree_map(device.asarray, (x, a0, p)))
        got = backward(device.asarray(np.ones_like(a)), caches_d)
        assert not synchronisations and all(isinstance(g, DeviceArray) for g in got.values())
        assert np.allclose(asnumpy(a_d), a) and all(np.allclose(asnumpy(got[k]), want[k]) for k in want)
        synchronisations.clear()


def test_softmax_and_clip():
    x = np.random.default_rng(0).normal(size=(5, 3)) * 300
    y = course.softmax(x)
    assert np.allclose(y, soft(x)) and np.allclose(y.sum(axis=0), 1) and np.isfinite(y).all()
    g = {"dWaa": np.array([[-11.0, 3.0]]), "dby": np.array([[12.0]])}
    cut = course.clip(g, 10)
    assert cut["dWaa"].tolist() == [[-10, 3]] and cut["dby"].tolist() == [[10]] and g["dby"].item() == 12
    for bad in (0, -1, np.inf, "5", True):
        with pytest.raises(ValueError, match="maxValue: expected a number above 0"):
            course.clip(g, bad)
    with pytest.raises(TypeError, match="gradients: expected a dictionary"):
        course.clip([1.0], 5)


ALPHABET = {ch: i for i, ch in enumerate("\nabcdefg")}


def characters(n_a=7, seed=0, dtype=np.float64, bias="b", scale=0.8):
    r, n = np.random.default_rng(seed), len(ALPHABET)
    shapes = {"Waa": (n_a, n_a), "Wax": (n_a, n), "Wya": (n, n_a), bias: (n_a, 1), "by": (n, 1)}
    return {k: (scale * r.normal(size=s)).astype(dtype) for k, s in shapes.items()}


def sample_by_hand(p, seed):
    "The course's loop, with the global generator, which is put back."
    state = np.random.get_state()
    try:
        x, a, out = np.zeros((len(ALPHABET), 1)), np.zeros((len(p["Waa"]), 1)), []
        for k in range(50):
            a = np.tanh(p["Wax"] @ x + p["Waa"] @ a + p["b"])
            np.random.seed(seed + 2 * k)
            out.append(np.random.choice(len(x), p=soft(p["Wya"] @ a + p["by"]).ravel()))
            if out[-1] == 0:
                return out
            x = np.zeros_like(x)
            x[out[-1]] = 1
        return [*out, 0]
    finally:
        np.random.set_state(state)


@pytest.mark.parametrize("seed", range(12))
def test_sample(seed):
    p = characters(seed=seed)
    before = np.random.get_state()[1].copy()
    got = course.sample(p, ALPHABET, seed)
    assert got == sample_by_hand(p, seed) and all(type(i) is int for i in got)
    assert (np.random.get_state()[1] == before).all()


def test_seeds_reach_to_the_end():
    p = characters()
    p["by"][0] = -1e3
    assert len(course.sample(p, ALPHABET, 2**32 - 99)) == 51


def test_sample_stops_at_fifty():
    p = characters()
    p["by"][0] = -1e3  # never a newline
    got = course.sample(p, ALPHABET, 0)
    assert len(got) == 51 and got[-1] == 0 and 0 not in got[:-1]


@pytest.mark.parametrize("bias", ["b", "ba"])
def test_optimize(bias):
    p = characters(bias=bias, scale=0.4)
    X, Y = [None, 3, 5, 1], [3, 5, 1, 0]
    a_prev, kept = np.random.default_rng(3).normal(size=(7, 1)), {k: v.copy() for k, v in p.items()}
    arrays = dict(p)
    loss, g, a = course.optimize(X, Y, a_prev, p, learning_rate=0.05)
    assert set(g) == {"dWaa", "dWax", "dWya", "d" + bias, "dby"} and isinstance(loss, float) and a.shape == (7, 1)

    want, state = 0.0, a_prev
    for i, k in zip(X, Y, strict=True):
        x = np.zeros((8, 1))
        if i is not None:
            x[i] = 1
        state = np.tanh(kept["Wax"] @ x + kept["Waa"] @ state + kept[bias])
        want -= np.log(soft(kept["Wya"] @ state + kept["by"])[k, 0])
    assert np.isclose(loss, want, atol=1e-12) and np.allclose(a, state, atol=1e-14)
    assert all(p[k] is arrays[k] and np.allclose(p[k], kept[k] - 0.05 * g["d" + k], atol=1e-15) for k in p)
    gradcheck(lambda t: course.optimize(X, Y, a_prev, t, 0.0)[0], kept, {k: g["d" + k] for k in kept}).check(1e-6)


def test_optimize_clips_and_learns():
    p = characters(scale=3.0)
    p["by"][0] = -50
    _, g, _ = course.optimize([None] * 30, [0] * 30, np.zeros((7, 1)), p)
    assert max(abs(v).max() for v in g.values()) == 5
    p, a, losses = characters(scale=0.1, dtype=np.float32), np.zeros((7, 1), np.float32), []
    for _ in range(300):
        loss, _, a = course.optimize([None, 1, 2, 3], [1, 2, 3, 0], a, p, 0.05)
        losses.append(loss)
    assert losses[-1] < 0.2 * losses[0] and a.dtype == np.float32


x, a0, P = rnn_case()
_, _, Q = lstm_case()
xt, start = x[:, :, 0], np.zeros((7, 1))
without = lambda p, name: {k: v for k, v in p.items() if k != name}
backward = lambda da: course.rnn_backward(da, course.rnn_forward(x, a0, P)[2])
cell_backward = lambda da: course.rnn_cell_backward(da, course.rnn_cell_forward(xt, a0, P)[2])
lstm_cell_backward = lambda dc: course.lstm_cell_backward(a0, dc, course.lstm_cell_forward(xt, a0, a0, Q)[3])
step = lambda X, Y, rate=0.01: course.optimize(X, Y, start, characters(), rate)
forward_rnn = lambda: course.rnn_forward(x, a0, P)
rnn_caches = lambda: forward_rnn()[2]
spoilt = lambda: characters() | {"Waa": np.full((7, 7), np.nan)}
BAD = {  # what is done, the error, its message
    "missing": (lambda: course.rnn_forward(x, a0, without(P, "by")), ValueError, "parameters: 'by' is missing"),
    "a flat bias": (lambda: course.rnn_forward(x, a0, P | {"ba": P["ba"][:, 0]}), ValueError, r"'ba'\]: .* \(5, 1\), got \(5,\)"),
    "Waa": (lambda: course.rnn_forward(x, a0, P | {"Waa": P["Waa"][:, :4]}), ValueError, r"parameters\['Waa'\]: expected shape"),
    "x time first": (lambda: course.rnn_forward(x.T, a0, P), ValueError, r"x: expected shape \(3, m, T_x\), got \(6, 4, 3\)"),
    "a0": (lambda: course.rnn_forward(x, a0[:, :1], P), ValueError, r"a0: expected shape \(5, 4\), got \(5, 1\)"),
    "dtype": (lambda: course.rnn_forward(x.astype(np.float32), a0, P), TypeError, "x: expected float64, got float32"),
    "a list": (lambda: course.rnn_forward(x.tolist(), a0, P), TypeError, "x: expected a NumPy or CuPy array, got list"),
    "xt": (lambda: course.rnn_cell_forward(x, a0, P), ValueError, r"xt: expected shape \(3, m\)"),
    "a_prev": (lambda: course.rnn_cell_forward(xt, a0.T, P), ValueError, r"a_prev: expected shape \(5, 4\), got \(4, 5\)"),
    "da": (lambda: backward(np.ones((5, 4, 5))), ValueError, r"da: expected shape \(5, 4, 6\), got"),
    "da_next": (lambda: cell_backward(a0.T), ValueError, "da_next: expected shape"),
    "a gate": (lambda: course.lstm_forward(x, a0, Q | {"Wi": Q["Wi"][:, :5]}), ValueError, r"parameters\['Wi'\]: expected shape \(5, 8\)"),
    "half a gate": (lambda: course.lstm_forward(x, a0, Q | {"Wf": Q["Wf"][:, :5]}), ValueError, r"parameters\['Wf'\]: expected shape"),
    "no Wy": (lambda: course.lstm_forward(x, a0, without(Q, "Wy")), ValueError, "parameters: 'Wy' is missing"),
    "c_prev": (lambda: course.lstm_cell_forward(xt, a0, a0[:2], Q), ValueError, "c_prev: expected shape"),
    "dc_next": (lambda: lstm_cell_backward(a0[:2]), ValueError, "dc_next: expected"),
    "no newline": (lambda: course.sample(characters(), {"a": 0}, 0), ValueError, "char_to_ix: expected the newline"),
    "alphabet": (lambda: course.sample(characters(), {"\n": 0, "a": 1}, 0), ValueError, "char_to_ix: 2 characters, but Wax reads 8"),
    "X and Y": (lambda: step([None], [1, 2]), ValueError, "X, Y: expected two lists of one length"),
    "beyond": (lambda: step([None, 8], [1, 2]), ValueError, r"X\[1\]: expected an index from 0 to 7 or None, got 8"),
    "None in Y": (lambda: step([None], [None]), ValueError, r"Y\[0\]: expected an index from 0 to 7, got None"),
    "X a string": (lambda: step("ab", [1, 2]), TypeError, "X: expected a list of indices, got str"),
    "rate": (lambda: step([None], [1], -1), ValueError, "^learning_rate: expected a number in"),
    "rate a string": (lambda: step([None], [1], "0.1"), TypeError, "^learning_rate: expected a number in"),
    "parameters a list": (lambda: course.rnn_forward(x, a0, [*P.values()]),
                          TypeError, "parameters: expected a dictionary of arrays, got list"),
    "no units": (lambda: course.rnn_forward(x, a0, P | {"Waa": np.zeros((0, 0))}), ValueError, r"'Waa'\]: expected sizes of at least 1"),
    "two biases": (lambda: course.rnn_forward(x, a0, P | {"b": P["ba"]}), ValueError, "'ba' or 'b', got both"),
    "no caches": (lambda: course.rnn_backward(x, None), TypeError, "caches: expected the last result of rnn_forward, .* got NoneType"),
    "all results": (lambda: course.rnn_backward(x, forward_rnn()),
                    ValueError, "caches: expected the last result of rnn_forward, .* got 3 parts"),
    "no steps": (lambda: course.lstm_backward(x, ([], x)), ValueError, r"caches\[0\]: expected the cache of at least one cell"),
    "caches turned": (lambda: course.rnn_backward(x, (x, [])),
                      TypeError, r"caches\[0\]: expected the list of the cells' caches, got ndarray"),
    "x not in caches": (lambda: course.rnn_backward(x, (rnn_caches()[0], xt)), ValueError, r"caches: x: expected shape \(n_x, m, 6\)"),
    "the other unit's": (lambda: course.lstm_backward(x, rnn_caches()),
                         ValueError, r"caches\[0\]\[0\]: .* lstm_cell_forward, a tuple of 10, got 4"),
    "a cell's cache": (lambda: course.rnn_cell_backward(a0, rnn_caches()),
                       ValueError, "cache: .* rnn_cell_forward, a tuple of 4, got 2 parts"),
    "order in a cache": (lambda: course.rnn_cell_backward(a0, (xt, a0, a0, P)),
                         ValueError, r"cache: xt: expected shape \(3, m\), got \(5, 4\)"),
    "a gate in a cache": (lambda: course.lstm_cell_backward(a0, a0, (*[a0] * 4, a0[:2], *[a0] * 3, xt, Q)),
                          ValueError, "cache: ft: expected shape"),
    "scores": (lambda: course.softmax(np.zeros((0, 3))), ValueError, r"x: expected shape \(n_y, m\) with n_y of at least 1, got \(0, 3\)"),
    "one score": (lambda: course.softmax(np.array(1.0)), ValueError, "x: expected shape"),
    "no gradients": (lambda: course.clip({}, 5), ValueError, "gradients: expected at least one array"),
    "whole gradients": (lambda: course.clip({"dby": np.array([9])}, 5),
                        TypeError, r"gradients\['dby'\]: expected float32 or float64, got int64"),
    "alphabet a list": (lambda: course.sample(characters(), list(ALPHABET), 0), TypeError, "char_to_ix: expected a dictionary .* got list"),
    "from 1": (lambda: course.sample(characters(), {c: i + 1 for c, i in ALPHABET.items()}, 0),
               ValueError, r"char_to_ix\['g'\]: .* from 0 to 7"),
    "index twice": (lambda: course.sample(characters(), ALPHABET | {"a": 0}, 0),
                    ValueError, r"char_to_ix\['a'\]: .* no other character has, got 0"),
    "seed": (lambda: course.sample(characters(), ALPHABET, 1.5), TypeError, "seed: expected a whole number, got 1.5"),
    "seed below 0": (lambda: course.sample(characters(), ALPHABET, -1), ValueError, "seed: expected a number from 0 to 4294967197, got -1"),
    "nan drawn": (lambda: course.sample(spoilt(), ALPHABET, 0), ValueError, "parameters: expected finite weights, .* nan at draw 0"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named(bad):
    call, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        call()


def test_a_loss_that_is_not_finite_changes_nothing():
    p = characters()
    kept = {k: v.copy() for k, v in p.items()}
    with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan"):
        course.optimize([None, 1], [1, 0], start + np.nan, p)
    assert all((kept[k] == v).all() for k, v in p.items())

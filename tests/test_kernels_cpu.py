"""Compiled kernels against the plain forms: remainders of all kinds, threads, other vector widths, and how they are found."""
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from agreement import agree
from test_units import run
from units import CASES, case, label

from seqbook import backend
from seqbook.backend import fast, implementation, leaves, tree_map
from seqbook.bptt import check_unit, cross_entropy
from seqbook.deep_rnn import Deep
from seqbook.gru import GRU
from seqbook.language_model import LanguageModel
from seqbook.lstm import LSTM
from seqbook.notation import Vocabulary
from seqbook.optim import Adam, AdamW
from seqbook.rnn import RNN, dense, dense_init, embedding, embedding_init, rnn, rnn_hoisted
from seqbook.sampling import generate, stream

k = pytest.importorskip("seqbook.kernels_cpu", reason="needs numba", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("error")
TOL = {np.float64: 1e-12, np.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOL, ids=lambda d: d.__name__)
BARE = [(u, o) for u, o in CASES if u.name not in ("lstm-dropout", "lstm-zoneout")]
UNITS = pytest.mark.parametrize("unit, options", BARE, ids=label)


@pytest.fixture
def threads():
    "Sets the number of threads, and takes it back."
    before = k._threads["n"]
    yield k.threads
    k._threads["n"] = before


def compiled(unit):
    "The compiled form of a row of the table, with the options that the row binds."
    form, table = getattr(k, f"{unit.name.partition('-')[0]}_compiled"), unit.forms["table"]
    return partial(form, **table.keywords) if isinstance(table, partial) else form


def scaled(unit, **sizes):
    "A case whose sums stay of order one, whatever its sizes."
    p, X, state = case(unit, **sizes)
    n = max(sizes["n_a"], sizes["n_x"])
    return type(p)(*(None if w is None else (w / max(1, n / 5) ** 0.5).astype(X.dtype) for w in p)), X, state


def compare(unit, options, lengths=None, tol=None, **sizes):
    p, X, state = scaled(unit, **sizes)
    want = run(unit.forms["plain"], p, X, state, lengths, **options)
    agree(run(compiled(unit), p, X, state, lengths, **options), want, tol or TOL[X.dtype.type])


@DTYPES
@pytest.mark.parametrize("B", [1, 2, 3, 5, 6, 7, 13, 64])
@UNITS
def test_any_batch(unit, options, B, dtype):
    compare(unit, options, T=3, B=B, n_x=4, n_a=17, dtype=dtype)
    compare(unit, options, np.random.default_rng(B).integers(0, 6, B), T=5, B=B, n_x=3, n_a=5, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("n_a", [1, 3, 16, 17, 64, 100])
@UNITS
def test_any_width(unit, options, n_a, dtype):
    for n_x in (1, 64, 65):
        compare(unit, options, [4, 0, 2, 3, 4, 1, 4], T=4, B=7, n_x=n_x, n_a=n_a, dtype=dtype)


@DTYPES
@UNITS
def test_longer_than_a_chunk(unit, options, dtype):
    compare(unit, options, T=3, B=2 * k.CHUNK // 5, n_x=2, n_a=3, dtype=dtype, tol=20 * TOL[dtype])


@pytest.mark.parametrize("n", [1, 2, 3])
@DTYPES
@UNITS
def test_any_number_of_threads(unit, options, dtype, n, threads, monkeypatch):
    threads(n)
    plan = k.Plan.__init__

    def split(self, X, *sizes):
        plan(self, X, *sizes)
        self.products = self.loops = n

    monkeypatch.setattr(k.Plan, "__init__", split)
    for B in (1, 2, 13):
        compare(unit, options, np.arange(B) % 6, T=5, B=B, n_x=3, n_a=33, dtype=dtype)


LSTMS = pytest.mark.parametrize("unit, options", [(u, o) for u, o in BARE if u.name.startswith("lstm")], ids=label)


@pytest.fixture
def lines(monkeypatch):
    "Where the threads of each call have met; they wait for each other as long as it takes."
    seen, line = [], k.Plan.line

    def kept(self):
        parts, where = line(self)
        seen.append(where)
        return parts, where

    monkeypatch.setattr(k, "TURNS", 10**12)
    monkeypatch.setattr(k.Plan, "line", kept)
    return seen


@DTYPES
@LSTMS
def test_units_shared_by_threads_that_meet(unit, options, dtype, threads, lines, monkeypatch):
    threads(3)
    plan = k.Plan.__init__

    def at_work(self, *sizes):
        plan(self, *sizes)
        self.products = 3

    monkeypatch.setattr(k.Plan, "__init__", at_work)
    for B, n_a in ((1, 100), (2, 20), (12, 70)):
        lines.clear()
        compare(unit, options, np.arange(B) % 6, T=5, B=B, n_x=3, n_a=n_a, dtype=dtype)
        panels = -(-n_a * np.dtype(dtype).itemsize // k.BYTES)
        assert [line[k.INSIDE] for line in lines] == [min(3, panels)]
        assert all(line[k.MET] == 5 * line[k.INSIDE] * (line[k.INSIDE] > 1) for line in lines)


def test_examples_or_units_the_same_bits(threads, lines, monkeypatch):
    unit, options = next((u, o) for u, o in CASES if u.name == "lstm")
    p, X, state = case(unit, T=20, B=16, n_x=32, n_a=96, dtype=np.float32)
    work = lambda: run(compiled(unit), p, X, state, None, **options)
    threads(1)
    want = work()
    threads(2)
    for cache, shared in ((2**20, 0), (0, 2)):
        monkeypatch.setattr(k, "CACHE", cache)
        got = work()
        assert all(np.array_equal(got[name], want[name]) for name in want)
        assert lines[-1].size == 0 if not shared else lines[-1][k.INSIDE] == shared


def test_who_comes_too_late_finds_nothing_to_do():
    layer, X, line = LSTM(4, 40, seed=1), k.native(np.ones((3, 2, 4), np.float32)), np.zeros(k.LINE, np.int64)
    m = k.Plan(X, 40, 4, None)
    W, bias = k.pack(m, tree_map(k.native, layer.params), range(4), range(4), 1)
    A, C, G, P = m.states(0), m.states(0), m.buffer(3, 2, 4, m.width), k.native(np.zeros((0, m.width), np.float32))
    line[k.PATIENT] = 5  # and then the one who has come does all of it
    given = line, X, W, k.starts(m, X, W, bias), m.before, P, False, 40, m.lengths, A, C, G, np.zeros(2 * k.ROWS * m.wide, np.float32)
    k.lstm_forward(0, 2, *given)
    assert line[k.INSIDE] == 1 and line[k.MET] == 0 and np.allclose(A[1:, :, :40], layer(X)[0], atol=1e-6)
    A[1:] = 7
    k.lstm_forward(1, 2, *given)
    assert (A[1:] == 7).all()


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",), ()], ids="+".join)
@DTYPES
@UNITS
def test_missing_derivatives(unit, options, arriving, dtype):
    p, X, state = case(unit, B=7, n_a=18, dtype=dtype)
    want = run(unit.forms["plain"], p, X, state, [6, 3, 0, 4, 6, 6, 1], arriving, **options)
    agree(run(compiled(unit), p, X, state, [6, 3, 0, 4, 6, 6, 1], arriving, **options), want, TOL[dtype])


@pytest.mark.parametrize("lengths", [None, [4, 0, 2, 4, 1, 3, 4]], ids=["full", "ragged"])
@UNITS
def test_gradients_equal_central_differences(unit, options, lengths):
    check_unit(compiled(unit), *case(unit, T=4, B=7, n_x=3, n_a=9), lengths, samples=20, **options).check(1e-7)


ARRANGEMENTS = {
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "by columns": np.asfortranarray,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("arrange", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
@UNITS
def test_any_arrangement_in_memory(unit, options, arrange):
    p, X, state = case(unit, B=7, n_a=16, dtype=np.float32)
    p, X = tree_map(np.array, p), np.array(X)
    want = run(compiled(unit), p, X, state, **options | {"lengths": None})
    got = run(compiled(unit), *tree_map(arrange, (p, X, state)), **options | {"lengths": None})
    assert all(np.array_equal(got[name], want[name]) for name in want)


@UNITS
def test_nothing_is_changed_and_a_pullback_serves_twice(unit, options):
    p, X, state = case(unit, B=7, n_a=16, dtype=np.float32)
    Y, end, pullback = compiled(unit)(p, X, state, None, **options)
    dY = np.ones_like(Y)
    given = leaves({"p": p, "X": X, "state": state, "Y": Y, "end": end, "dY": dY})
    before = {name: a.copy() for name, a in given.items()}
    first, second = leaves(pullback(dY, end)), leaves(pullback(dY, end))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(np.array_equal(before[name], a) for name, a in given.items())
    assert not Y.flags.writeable and all(a.flags.c_contiguous for a in (Y, *first.values()))


def test_many_callers_at_once_get_the_same_bits(threads):
    threads(2)
    unit, options = next((u, o) for u, o in CASES if u.name == "lstm")
    p, X, state = case(unit, T=30, B=16, n_x=32, n_a=64, dtype=np.float32)
    work = lambda _: run(compiled(unit), p, X, state, None, **options)
    want = work(None)
    with ThreadPoolExecutor(4) as callers:
        for got in callers.map(work, range(12)):
            assert all(np.array_equal(got[name], want[name]) for name in want)


FORK = """
import os
import numpy as np
from seqbook import kernels_cpu as k
from seqbook.rnn import rnn_init
k.threads(2)
p, X = rnn_init(0, 32, 64), np.ones((40, 16, 32), np.float32)
Y, _, _ = k.rnn_compiled(p, X)
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(k.rnn_compiled(p, X)[0], Y) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_fork_has_threads_of_its_own():
    ended_well(python(FORK))


@pytest.mark.parametrize("dtype", TOL, ids=lambda d: d.__name__)
def test_tanh_sigmoid_and_exp_to_four_units_in_the_last_place(dtype):
    from numba import njit

    @njit(**{**k.OPTIONS, "cache": False})
    def many(x, t, s, e):
        for i in range(0, x.size, k.lanes(x)):
            k.store(e, i, k.exp(k.load(x, i)))
            k.store(t, i, k.tanh(k.load(x, i)))
            k.store(s, i, k.sigmoid(k.load(x, i)))

    lowest = -85 if dtype == np.float32 else -700
    small = np.geomspace(1e-30, 30, 2**17)
    x = np.concatenate([np.linspace(lowest, 30, 2**18), np.linspace(-1, 1, 2**18), small, -small]).astype(dtype)
    t, s, e, X = np.empty_like(x), np.empty_like(x), np.empty_like(x), x.astype(np.longdouble)
    many(x, t, s, e)
    with np.errstate(over="ignore"):
        for got, want in ((t, np.tanh(X)), (s, 1 / (1 + np.exp(-X))), (e[x <= 0], np.exp(X[x <= 0]))):
            assert (abs(got - want) / np.spacing(abs(want.astype(dtype)))).max() < 4
    x = np.array([np.nan, np.inf, -np.inf, 0] * 4, dtype)
    t, s, e = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    many(x, t, s, e)
    np.testing.assert_array_equal(t[:4], [np.nan, 1, -1, 0])
    np.testing.assert_array_equal(s[:4], [np.nan, 1, 0, 0.5])


def test_not_a_number_stays_in_its_example():
    for unit, options in BARE:
        p, X, state = case(unit, B=7, n_a=16, dtype=np.float32)
        X[2, 3, 0] = np.nan
        Y, _, _ = compiled(unit)(p, X, state, None, **options)
        assert np.isnan(Y[2:, 3]).all() and np.isfinite(np.delete(Y, 3, axis=1)).all() and np.isfinite(Y[:2]).all()


NARROW = """
import numpy as np
from test_kernels_cpu import BARE, compare, k
assert k.BYTES == {width}, k.BYTES
for unit, options in BARE[::3]:
    for dtype in (np.float32, np.float64):
        compare(unit, options, [4, 0, 2, 3, 4, 1, 4], T=4, B=7, n_x=5, n_a=13, dtype=dtype)
"""


@pytest.mark.skipif("x86" not in k.platform.machine() and "AMD64" not in k.platform.machine(), reason="features of another processor")
@pytest.mark.parametrize("features, width", [("+sse2", 16), ("+avx,+avx2,+fma", 32)])
def test_narrower_vectors(features, width, tmp_path):
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__)), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path),
                        "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", NARROW.format(width=width)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_finds_them():
    for name in ("rnn", "gru", "lstm", "dense", "cross_entropy", "embedding", "adam", "write"):
        assert implementation(name, np, None) is getattr(k, f"{name}_compiled")
    with fast(False):
        assert implementation("rnn", np, rnn_hoisted) is rnn_hoisted
        with fast(True):
            assert implementation("rnn", np, rnn_hoisted) is k.rnn_compiled
    with pytest.raises(ValueError, match="on: expected True or False, got 'no'"):
        fast("no")


def test_the_environment_turns_them_off(monkeypatch):
    monkeypatch.setenv("SEQBOOK_FAST", "0")
    assert implementation("rnn", np, rnn_hoisted) is rnn_hoisted


def test_without_numba_the_hoisted_forms_compute(monkeypatch):
    monkeypatch.setattr(backend, "_TABLE", {("rnn", "numpy"): "seqbook.kernels_cpu:rnn_compiled"})
    monkeypatch.setitem(sys.modules, "seqbook.kernels_cpu", None)  # as where the import fails
    unit = CASES[0][0]
    p, X, state = case(unit)
    agree(run(rnn, p, X, state, None), run(rnn_hoisted, p, X, state, None), 0)


def test_numba_waits_for_the_first_use():
    code = "import sys, seqbook, seqbook.rnn, seqbook.lstm, seqbook.gru; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_are_counted():
    with pytest.raises(ValueError, match="n: expected a whole number >= 1 and <= 1024, got 0"):
        k.threads(0)


@pytest.mark.parametrize("few", [0, 100], ids=["sums in the loop", "sums before it"])
@DTYPES
@UNITS
def test_input_sums_in_the_loop_and_before_it(unit, options, dtype, few, monkeypatch):
    monkeypatch.setattr(k, "FEW", few)
    for B, n_a in ((1, 33), (7, 16), (13, 5)):
        compare(unit, options, np.arange(B) % 6, T=5, B=B, n_x=3, n_a=n_a, dtype=dtype)


def test_one_set_of_types_for_each_dtype():
    for unit, options in BARE:
        for dtype in TOL:
            p, X, state = case(unit, B=7, n_a=16, dtype=dtype)
            for arrange in (np.asarray, np.asfortranarray, lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)):
                run(compiled(unit), *tree_map(arrange, (p, X, state)), None, **options)
    kernels = [f for name, f in vars(k).items() if name.endswith("_parts") and name != "in_parts"] + [k.pack_rows]
    assert len(kernels) == 11 and all(len(f.signatures) <= 2 for f in kernels), {f.__name__: len(f.signatures) for f in kernels}


COLD = """
import sys, time
from numba.core import caching
for name, seconds in (("_save_index", {index}), ("_save_data", {data})):
    def slow(self, *args, save=getattr(caching.IndexDataCacheFile, name), seconds=seconds):
        time.sleep(seconds)
        return save(self, *args)
    setattr(caching.IndexDataCacheFile, name, slow)
import numpy as np
from seqbook import kernels_cpu as k
from seqbook.rnn import rnn_init, rnn_plain
for dtype in {dtypes}:
    p, X = rnn_init(0, 4, 5, dtype), np.ones((3, 2, 4), dtype)
    (Y, _, back), (want, _, wanted) = k.rnn_compiled(p, X), rnn_plain(p, X)
    assert np.allclose(Y, want, atol=1e-6) and np.allclose(back(Y)[0], wanted(want)[0], atol=1e-6)
"""


def python(code, **env):
    "Another Python, with this seqbook."
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__)), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | env
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended_well(process):
    with process:
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said


def test_processes_that_compile_at_once_do_not_spoil_the_cache(tmp_path):
    "One of them for float32, one for float64, slowed down so that without the lock the index of one names the code of the other."
    both = [python(COLD.format(index=index, data=data, dtypes=[dtype]), NUMBA_CACHE_DIR=str(tmp_path))
            for index, data, dtype in ((0.2, 0.3, "float32"), (0.3, 0.0, "float64"))]
    for process in both:
        ended_well(process)
    ended_well(python(COLD.format(index=0, data=0, dtypes=["float64", "float32"]), NUMBA_CACHE_DIR=str(tmp_path)))


def test_where_nothing_can_be_written_nothing_is_locked(tmp_path):
    with k.alone(None), k.alone(tmp_path / "a file" if (tmp_path / "a file").write_text("") else tmp_path / "a file"):
        pass


def test_helpers_go_to_sleep_wake_up_and_go_home(threads):
    threads(3)
    p, X = case(CASES[0][0], n_x=32, n_a=64, dtype=np.float32)[0], np.ones((40, 16, 32), np.float32)
    want, _, _ = k.rnn_compiled(p, X)
    team = k.team(os.getpid(), 3)
    for _ in range(3):
        end = time.monotonic() + 20
        while team.asleep < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert team.asleep == 2
        assert np.array_equal(k.rnn_compiled(p, X)[0], want)
    with team.busy:  # somebody else's job stands on the board
        assert np.array_equal(k.rnn_compiled(p, X)[0], want)
    team.leave()
    assert not any(helper.is_alive() for helper in team.helpers)
    assert np.array_equal(k.rnn_compiled(p, X)[0], want)  # the helpers are gone, the caller does all
    k.team.cache_clear()


def test_a_program_with_helpers_ends():
    code = ("import numpy as np, seqbook.kernels_cpu as k, seqbook.rnn as r\nk.threads(3)\n"
            "k.rnn_compiled(r.rnn_init(0, 64, 128), np.ones((60, 16, 64), 'f4'))\nassert len(k.team.__wrapped__(0, 2).helpers) == 1")
    ended_well(python(code))


def test_memory_is_lent_again_but_never_while_held():
    a = backend.lent_array((300, 300), np.dtype("f4"))
    address, row = a.ctypes.data, a[7]
    assert a.nbytes >= backend._SMALL and address % 64 == 0
    a[...] = 1
    b = backend.lent_array((300, 300), np.dtype("f4"))
    b[...] = 2
    assert (a == 1).all() and (row == 1).all()
    del a
    others = [backend.lent_array((300, 300), np.dtype("f4")) for _ in range(20)]
    for c in others:
        c[...] = 3
    assert (row == 1).all() and (b == 2).all()
    del row, b, others, c
    before = sum(map(len, backend._shelf.values()))
    again = backend.lent_array((300, 300), np.dtype("f4"))
    assert sum(map(len, backend._shelf.values())) == before - 1 and again.flags.writeable


def test_no_more_memory_is_kept_than_said():
    for n in range(1, 12):
        for a in [backend.lent_array((n, 2**20), np.dtype("f4")) for _ in range(3)]:
            del a
    assert sum(size * len(row) for size, row in backend._shelf.items()) <= backend._KEPT


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 75, 128])
@DTYPES
def test_cross_entropy(n, dtype, masked):
    rng = np.random.default_rng(n)
    Z, targets = (9 * rng.normal(size=(5, 7, n))).astype(dtype), rng.integers(0, n, (5, 7))
    mask = rng.random((5, 7)) < 0.6 if masked else None
    with fast(False):
        want, back = cross_entropy(Z, targets, mask)
        slopes = back(2.0)
    loss, back = cross_entropy(Z, targets, mask)
    assert abs(loss - want) < 10 * np.finfo(dtype).eps * 20 and loss.dtype == want.dtype
    assert back(2.0).dtype == dtype and np.allclose(back(2.0), slopes, atol=10 * np.finfo(dtype).eps)
    assert np.array_equal(back(2.0), back(2.0))


def test_cross_entropy_of_extreme_scores():
    Z = np.array([[0, 1000, -1000], [-np.inf, 0, 1], [1, 2, 3]], np.float32)
    with fast(False):
        want, back = cross_entropy(Z, np.array([1, 2, 0]))
        slopes = back()
    loss, back = cross_entropy(Z, np.array([1, 2, 0]))
    assert np.allclose(loss, want, rtol=1e-6) and np.allclose(back(), slopes, atol=1e-7)
    Z[2, 1] = np.nan
    assert np.isnan(cross_entropy(Z, np.array([1, 2, 0]))[0])


@pytest.mark.parametrize("shape, n_a, n_y", [((64, 33), 70, 13), ((501,), 37, 75), ((8, 64), 16, 128), ((50, 41), 65, 1000)], ids=str)
@DTYPES
def test_dense(dtype, shape, n_a, n_y, threads):
    rng = np.random.default_rng(0)
    p = tree_map(lambda w: w + rng.normal(size=w.shape).astype(dtype), dense_init(0, n_a, n_y, dtype))
    A, dZ = rng.normal(size=(*shape, n_a)).astype(dtype), rng.normal(size=(*shape, n_y)).astype(dtype)
    with fast(False):
        Z, back = dense(p, A)
        want = leaves((Z, back(dZ)))
    for n in (1, 3):
        threads(n)
        for arranged in (A, np.asfortranarray(A)):
            Z, back = dense(p, arranged)
            agree(leaves((Z, back(dZ))), want, 30 * np.finfo(dtype).eps)
            assert all(np.array_equal(a, b) for a, b in zip(leaves(back(dZ)).values(), leaves(back(dZ)).values(), strict=True))


@DTYPES
def test_gradient_of_the_embedding(dtype):
    rng = np.random.default_rng(0)
    for n_v, n_x, shape in ((1, 1, (3, 2)), (5, 3, (4, 0)), (40, 17, (9, 5)), (7, 64, (50, 13))):
        ids, D = rng.integers(0, n_v, shape), rng.normal(size=(*shape, n_x)).astype(dtype)
        p = embedding_init(0, n_v, n_x, dtype)
        for order in (ids, ids.astype(np.uint8), np.asfortranarray(ids)):
            got = embedding(p, order)[1](D).E
            want = np.zeros((n_v, n_x))
            np.add.at(want, ids.reshape(-1), D.reshape(-1, n_x))
            assert got.dtype == dtype and np.allclose(got, want, atol=100 * np.finfo(dtype).eps)


@DTYPES
@pytest.mark.parametrize("kind", [Adam, AdamW], ids=lambda f: f.__name__)
def test_adam(kind, dtype):
    rng = np.random.default_rng(0)
    start = {"a": rng.normal(size=(13, 7)).astype(dtype), "b": rng.normal(size=33).astype(dtype)}
    runs = []
    for on in (False, True):
        params, optimizer = tree_map(np.copy, start), kind(0.01, weight_decay=0.1)
        with fast(on):
            for t in range(30):
                grads = tree_map(lambda p, t=t: np.cos(p * t).astype(dtype), params)
                if t == 7:
                    grads["a"] = np.asfortranarray(grads["a"])
                optimizer.step(params, grads, scale=0.5)
        runs.append((params, optimizer.state()[0]))
    for (name, want), got in zip(leaves(runs[0]).items(), leaves(runs[1]).values(), strict=True):
        assert got.dtype == dtype and np.allclose(got, want, rtol=0, atol=20 * np.finfo(dtype).eps), name


def test_adam_on_a_view_that_is_not_contiguous():
    params = [np.ones((2, 6, 6))[:, ::2] for _ in range(2)]
    for p, on in zip(params, (False, True)):
        with fast(on):
            optimizer = Adam(0.1)
            optimizer.step({"p": p}, {"p": np.cos(np.arange(36.0)).reshape(2, 3, 6)})
    assert np.array_equal(*params)


WRITERS = {
    "rnn": lambda **o: RNN(9, 37, **o), "relu": lambda **o: RNN(9, 37, activation="relu", **o), "gru": lambda **o: GRU(9, 37, **o),
    "gru-after": lambda **o: GRU(9, 37, reset="after", **o), "gru-simplified": lambda **o: GRU(9, 16, variant="simplified", **o),
    "lstm": lambda **o: LSTM(9, 3, **o), "lstm-gers": lambda **o: LSTM(9, 37, peepholes="gers", **o),
    "lstm-lecture": lambda **o: LSTM(9, 17, peepholes="lecture", **o),
    "lstm-coupled": lambda **o: LSTM(9, 64, coupled=True, peepholes="gers", **o),
}
LETTERS = Vocabulary.characters("abcdefghijklmnopqrstuvwxyz \n")


def writer(name, dtype=np.float64, vocabulary=LETTERS):
    "A model whose weights, biases and peepholes are all other than zero."
    layer, rng = WRITERS[name](dtype=dtype), np.random.default_rng(1)
    model = LanguageModel(vocabulary, layer, dtype=dtype)
    model.params = tree_map(lambda w: w + 0.4 * rng.normal(size=w.shape).astype(dtype), model.params)
    return model


SETTINGS = {}, {"temperature": 0}, {"temperature": 0.3, "exclude": ["a", " "]}, {"end": "e"}, {"nucleus": 1.0}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", WRITERS)
def test_texts_are_those_of_the_plain_steps(name, settings):
    model = writer(name)
    with fast(False):
        want = generate(model, ["hello", ""], 100, n=2, seed=3, **settings)
    assert k.writer_of(model) is not None
    assert generate(model, ["hello", ""], 100, n=2, seed=3, **settings) == want
    assert "".join(stream(model, "hello", 100, seed=3, **settings)) == want[0]


@pytest.mark.parametrize("name", WRITERS)
def test_states_after_writing_in_float32(name):
    "Logits after a text, by the compiled steps, within rounding of the plain ones: the most probable symbols are the same."
    model = writer(name, np.float32)
    with fast(False):
        want = generate(model, "the", 40, temperature=0)
    assert generate(model, "the", 40, temperature=0) == want


def test_a_stream_without_end_and_one_that_is_cut():
    model = writer("lstm")
    endless = stream(model, "a", seed=5)
    text = "".join(next(endless) for _ in range(100))
    assert text == generate(model, "a", 100, seed=5)[0]
    assert all(generate(model, "a", n, seed=5)[0] == text[:n] for n in (1, 15, 16, 17, 33))


def test_models_that_are_not_computed_here_are_asked_step_by_step():
    class Other(LanguageModel):
        def step(self, ids, state=None):
            scores, state = super().step(ids, state)
            return scores * 0 + np.eye(len(self.vocabulary))[3], state

    deep, other = LanguageModel(LETTERS, Deep([LSTM(9, 5), LSTM(5, 7)])), Other(LETTERS, LSTM(9, 5))
    noisy = LanguageModel(LETTERS, LSTM(9, 5, zoneout_a=0.1))
    assert k.writer_of(deep) is k.writer_of(other) is k.writer_of(noisy) is None
    assert len(generate(deep, "a", 20)[0]) == 20 and len(generate(noisy, "a", 5)[0]) == 5
    assert generate(other, "a", 3, temperature=0) == ["bbb"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    model = writer("rnn")
    model.output.params.by[2] = bad
    with pytest.raises(ValueError, match="every row needs a finite largest entry"):
        generate(model, "a", 5)


def test_a_step_names_symbols_that_are_none():
    model = writer("rnn")
    for ids in ([28], [-1], [0, 99]):
        with pytest.raises(ValueError, match="ids: expected symbols 0 to 27"):
            model.step(np.array(ids))

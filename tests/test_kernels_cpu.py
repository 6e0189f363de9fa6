"""Compiled kernels against the plain forms: remainders of all kinds, threads, other vector widths, and how they are found."""
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from agreement import agree
from test_units import run
from units import CASES, case, label

from seqbook import backend
from seqbook.backend import fast, implementation, leaves, tree_map
from seqbook.bptt import check_unit
from seqbook.rnn import rnn, rnn_hoisted

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
        self.S = k.zeros((n * k.ROWS * self.wide,), self.dtype)

    monkeypatch.setattr(k.Plan, "__init__", split)
    for B in (1, 2, 13):
        compare(unit, options, np.arange(B) % 6, T=5, B=B, n_x=3, n_a=33, dtype=dtype)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_of_fork_has_threads_of_its_own(threads):
    threads(2)
    X, p = np.ones((40, 16, 32), np.float32), case(CASES[0][0], n_x=32, n_a=64, dtype=np.float32)[0]
    Y, _, _ = k.rnn_compiled(p, X)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(k.rnn_compiled(p, X)[0], Y) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("dtype", TOL, ids=lambda d: d.__name__)
def test_tanh_and_sigmoid_to_four_units_in_the_last_place(dtype):
    from numba import njit

    @njit(**{**k.OPTIONS, "cache": False})
    def many(x, t, s):
        for i in range(0, x.size, k.lanes(x)):
            k.store(t, i, k.tanh(k.load(x, i)))
            k.store(s, i, k.sigmoid(k.load(x, i)))

    lowest = -85 if dtype == np.float32 else -700
    small = np.geomspace(1e-30, 30, 2**17)
    x = np.concatenate([np.linspace(lowest, 30, 2**18), np.linspace(-1, 1, 2**18), small, -small]).astype(dtype)
    t, s, X = np.empty_like(x), np.empty_like(x), x.astype(np.longdouble)
    many(x, t, s)
    with np.errstate(over="ignore"):
        for got, want in ((t, np.tanh(X)), (s, 1 / (1 + np.exp(-X)))):
            assert (abs(got - want) / np.spacing(abs(want.astype(dtype)))).max() < 4
    x = np.array([np.nan, np.inf, -np.inf, 0] * 4, dtype)
    t, s = np.empty_like(x), np.empty_like(x)
    many(x, t, s)
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
    assert implementation("rnn", np, rnn_hoisted) is k.rnn_compiled
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
    with pytest.raises(ValueError, match="n: expected a whole number >= 1, got 0"):
        k.threads(0)

"""The CUDA source itself, compiled for the CPU: indices, waiting and mathematics against the plain forms. No GPU, and no timing."""
import numpy as np
import pytest
from agreement import agree
from stand_in import COMPILER, SMALL, StandIn
from test_units import run
from units import CASES, UNITS, case, label

from seqbook import backend, kernels_gpu
from seqbook.backend import BackendError, DeviceArray, OutOfDeviceMemory, asnumpy, device, register, tree_map
from seqbook.gru import GRU
from seqbook.kernels_gpu import gpu_path, stage, stage_wanted, tf32, tf32_on
from seqbook.language_model import LanguageModel
from seqbook.lstm import LSTM, lstm
from seqbook.notation import Vocabulary
from seqbook.rnn import RNN, RNNParams, RNNState, embedding, embedding_init, rnn, rnn_init

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++ to run the kernels on the CPU")
KINDS = {"rnn": {}, "gru-after": {}, "gru-simplified": {}, "lstm": {}}  # what has a loop kernel
RAGGED = [4, 1, 0, 2, 3] + [4] * 14


@pytest.fixture
def machine(monkeypatch):
    "A stand-in that computes what is asked of the pretended device."
    stand_in = StandIn()
    monkeypatch.setitem(kernels_gpu.LAUNCHERS, "device", lambda: stand_in)
    monkeypatch.setattr(backend, "_TABLE", dict(backend._TABLE))
    for unit in ("rnn", "gru", "lstm", "embedding"):
        register(unit, "device", getattr(kernels_gpu, f"{unit}_gpu"))
    return stand_in


def gentle(unit, **shape):
    "A case whose recurrent weights are small enough for float32 and TF32 to be compared over time."
    p, X, state = case(unit, **shape)
    n, dtype = p.Waa.shape[1], X.dtype
    return p._replace(Waa=(p.Waa * 2 / np.sqrt(n)).astype(dtype)), X, state


def compare(unit, options, lengths, tol, arriving=("Y", "state"), seed=0, dtype=np.float32, kept=True, **shape):
    "The stage in force against the plain form in float64."
    given = gentle(unit, seed=seed, dtype=dtype, **shape)
    exact = tree_map(lambda a: a.astype(np.float64), given)
    want = tree_map(lambda a: a.astype(dtype), run(unit.forms["plain"], *exact, lengths, arriving, **options))
    got = run(unit.forms["table"], *tree_map(device.asarray, given), lengths, arriving, **options)
    assert all(isinstance(a, DeviceArray) for a in got.values())
    what = f"plain form, CUDA on the CPU, {stage_wanted()}{' TF32' * tf32_on()}"
    agree(tree_map(asnumpy, got), want, tol, what if kept else None)


def named(name):
    return next(u for u in UNITS if u.name == name)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", [None, [6, 3, 0, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 2e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_fused(unit, options, dtype, tol, lengths, arriving, machine, synchronisations):
    with stage("fused"):
        compare(unit, options, lengths, tol, arriving, dtype=dtype, T=6, B=4, n_a=5)
    assert not [k for k in synchronisations if k != "get"]
    steps = {"step_candidate", "step_reset"} if unit.name == "gru" else set()
    assert {name for name, _ in machine.launches} == {"step_forward", "step_backward"} | steps
    count = lambda name: sum(n == name for n, _ in machine.launches)
    assert count("step_forward") == 6 and count("step_backward") == 7  # the last one for the initial state


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("how", ["graph", "persistent"])
@pytest.mark.parametrize("unit, options", [(u, o) for u, o in CASES if u.name != "gru"], ids=label)
def test_loop_kernels(unit, options, how, lengths, machine, synchronisations):
    with stage(how):
        compare(unit, options, lengths, 3e-6, T=4, B=19, n_a=20)
    assert not [k for k in synchronisations if k != "get"]
    assert {name for name, _ in machine.launches} == {"loop"} and len(machine.launches) == (2 if how == "persistent" else 4 + 5)


@pytest.mark.parametrize("how", ["graph", "persistent"])
@pytest.mark.parametrize("name", KINDS)
def test_loop_kernels_in_tf32(name, how, machine):
    with stage(how), tf32(True):
        compare(named(name), {}, RAGGED, 4e-3, T=4, B=19, n_a=20)


@pytest.mark.parametrize("single", [False, True], ids=["float32", "TF32"])
@pytest.mark.parametrize("name, shape", [
    ("rnn", {"T": 1, "B": 1, "n_a": 4}), ("rnn", {"T": 3, "B": 70, "n_a": 36}), ("gru-after", {"T": 2, "B": 16, "n_a": 32}),
    ("lstm", {"T": 3, "B": 33, "n_a": 68}), ("lstm", {"T": 2, "B": 7, "n_a": 12})], ids=str)
def test_shapes_of_the_persistent_kernels(name, shape, single, machine):
    "One unit block and many, remainders of units and examples, groups with several tiles."
    with stage("persistent"), tf32(single):
        compare(named(name), {}, None, 4e-3 if single else 3e-6, **shape)
    assert {n for n, _ in machine.launches} == {"loop"} and len(machine.launches) == 2


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_threads(seed, machine):
    "A race would change the outcome with the order in which threads run; two orders give the same bits."
    given, outcomes = gentle(named("lstm"), T=3, B=20, n_a=20, dtype=np.float32), []
    for first in (seed, 100 + seed):
        machine.seed = first
        with stage("persistent"):
            outcomes.append(tree_map(asnumpy, run(lstm, *tree_map(device.asarray, given), [3, 2, 1, 0] * 5)))
    assert all(np.array_equal(a, outcomes[1][name]) for name, a in outcomes[0].items())


@pytest.mark.parametrize("name, single", [("lstm", False), ("lstm", True), ("gru-after", False), ("rnn", True)])
def test_weights_in_several_chunks(name, single, machine, monkeypatch):
    "The graph's kernels fetch the weights a chunk at a time; here chunks are as small as they can be."
    layouts = kernels_gpu.layouts

    def small(gates, n_a, B, back, single, resident, card):
        step = 64 if single else 128
        return [p._replace(chunk=step, weights=0, shared=p.shared) for p in layouts(gates, n_a, B, back, single, resident, card)]

    monkeypatch.setattr(kernels_gpu, "layouts", small)
    with stage("graph"), tf32(single):
        compare(named(name), {}, None, 4e-3 if single else 3e-6, T=2, B=5, n_a=140)


def rounded(x):
    "float32 rounded to 10 bits of fraction, to the nearest, ties away from zero."
    return ((np.asarray(x, np.float32).view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


def test_tf32_is_the_product_of_rounded_operands(machine, rng):
    "Not just close to float32: exactly the sums of rounded factors, up to their order."
    p = rnn_init(0, 3, 20)
    X, a, dY = (rng.normal(size=s).astype(np.float32) for s in ((1, 5, 3), (5, 20), (1, 5, 20)))
    with stage("persistent"), tf32(True):
        Y, _, pullback = rnn(*tree_map(device.asarray, (p, X, RNNState(a))))
        _, _, start = pullback(device.asarray(dY))
    z = X[0] @ p.Wax.T + p.ba + rounded(a) @ rounded(p.Waa).T
    assert abs(asnumpy(Y)[0] - np.tanh(z)).max() < 1e-6
    dz = dY[0] * (1 - np.tanh(z) ** 2)
    assert abs(asnumpy(start.a) - rounded(dz) @ rounded(p.Waa)).max() < 1e-3  # dz itself is rounded where it is not a tie
    assert np.median(abs(asnumpy(start.a) - rounded(dz) @ rounded(p.Waa))) < 1e-6
    assert abs(asnumpy(start.a) - dz @ p.Waa).max() > 1e-5


def test_barriers_are_as_many_as_steps(machine):
    with stage("persistent"):
        compare(named("lstm"), {}, None, 3e-6, T=4, B=40, n_a=20)
    (_, there), (_, back) = machine.launches
    assert machine.counts[1] == 3 * there + 4 * back


def test_a_pullback_twice_and_with_other_calls_in_between(machine):
    p, X, state = tree_map(device.asarray, gentle(named("lstm"), T=3, B=4, n_a=8, dtype=np.float32))
    for how in ("fused", "graph", "persistent"):
        with stage(how):
            Y, end, pullback = lstm(p, X, state)
            first = pullback(Y)
            lstm(p, X + 1, state)[2](Y)
            again = pullback(Y)
        for a, b in zip(backend.leaves(first).values(), backend.leaves(again).values(), strict=True):
            assert np.array_equal(asnumpy(a), asnumpy(b))


def test_views_are_made_contiguous(machine):
    "Weights cut from larger arrays, inputs in the order (B, T, n_x)."
    p, X, _ = gentle(named("rnn"), T=4, B=3, n_a=8, dtype=np.float32)
    wide = np.zeros((8, 24), np.float32)
    wide[:, ::3] = p.Waa
    strided = RNNParams(device.asarray(p.Wax), device.asarray(wide)[:, ::3], device.asarray(p.ba))
    crossed = device.asarray(np.ascontiguousarray(X.transpose(1, 0, 2))).transpose(1, 0, 2)
    for how in ("fused", "persistent"):
        with stage(how):
            want, got = rnn(*tree_map(device.asarray, (p, X))), rnn(strided, crossed)
        assert np.array_equal(asnumpy(want[0]), asnumpy(got[0]))
        for a, b in zip(backend.leaves(want[2](want[0])).values(), backend.leaves(got[2](want[0])).values(), strict=True):
            assert np.allclose(asnumpy(a), asnumpy(b), atol=1e-6)


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-14), (np.float32, 1e-5)])
@pytest.mark.parametrize("n_v, n_x, rows", [(5, 3, 40), (1, 70, 9), (50, 33, 12), (4, 4, 0)])
def test_rows_of_equal_symbols_are_summed(n_v, n_x, rows, dtype, tol, machine, rng, synchronisations):
    p, ids = embedding_init(0, n_v, n_x, dtype), rng.integers(0, n_v, (rows, 1))
    dX = rng.normal(size=(rows, 1, n_x)).astype(dtype)
    want = embedding(p, ids)[1](dX).E
    got = embedding(tree_map(device.asarray, p), device.asarray(ids))[1](device.asarray(dX)).E
    assert not synchronisations and isinstance(got, DeviceArray)
    assert got.dtype == dtype and abs(asnumpy(got) - want).max() <= tol
    assert [n for n, _ in machine.launches] == (["sum_rows"] if rows else [])


def test_too_little_room_for_all_blocks_at_once(machine):
    "A multiprocessor takes fewer blocks than its data sheet says: the graph takes over, nothing waits for ever, and the reason is kept."
    machine.at_once = 1
    with stage("persistent"):
        compare(named("rnn"), {}, None, 3e-6, T=2, B=3, n_a=20)
    assert machine.last.stage == "graph" and machine.last.why == "3 blocks would have to run at once, the device holds 1 of this kernel"
    assert len(machine.launches) == 2 + 3
    with pytest.raises(BackendError, match="2 blocks were to run at once, the device holds 1"):
        machine.launch(None, 2, 256, (), cooperative=True)


def test_training_is_the_same_and_waits_for_nothing(machine, synchronisations):
    "Six steps of a language model, each kind of layer: embedding, layer, loss, clipping, Adam; the loss is fetched at the end."
    letters = Vocabulary("abcdef")
    ids = np.random.default_rng(0).integers(0, 6, 400)
    for layer in (RNN(8, 16), GRU(8, 16), GRU(8, 16, reset="after"), LSTM(8, 16), LSTM(8, 16, peepholes="gers", coupled=True)):
        options = {"batch_size": 4, "T": 7, "steps": 6, "clip": 0.5, "log_every": 6, "progress": False}
        start = tree_map(np.copy, LanguageModel(letters, layer, seed=1).params)
        want = LanguageModel(letters, layer, seed=1).fit(ids, **options)["loss"][1]
        for how in ("fused", "persistent"):
            synchronisations.clear()
            machine.launches.clear()
            there = LanguageModel(letters, layer, seed=1)
            there.params = tree_map(device.asarray, start)
            with stage(how):
                got = there.fit(ids, **options)["loss"][1]
            assert np.allclose(got, want, rtol=1e-5)
            assert synchronisations == {"float": 2 * 6}  # a loss and a norm of each step, fetched together
            assert {"sum_rows"} < {n for n, _ in machine.launches}


@pytest.mark.parametrize("what, says", [
    ("                copies_wait();\n", "never waited for"),
    ("arrive(bell);", "deadlock"),
    ("        if (t + way != stop) meet(bells + 32 * group, SLICES * ++met);\n", None),
    ("            __syncthreads();\n            for (int e", None)], ids=["no wait for copies", "no bell", "no barrier", "no syncthreads"])
def test_the_stand_in_sees_what_is_missing(what, says, machine, monkeypatch):
    "A proof by a stand-in is worth what it would have caught."
    assert what in kernels_gpu.WHOLE
    instead = "            for (int e" if "for (int e" in what else ""
    monkeypatch.setattr(kernels_gpu, "WHOLE", kernels_gpu.WHOLE.replace(what, instead))
    with stage("persistent"), pytest.raises(AssertionError, match=says):
        for _ in range(5):
            compare(named("rnn"), {}, None, 3e-6, kept=False, T=4, B=20, n_a=20)


@pytest.mark.parametrize("name, ragged, kept, more", [("rnn", 0, 2, 1), ("gru-after", 0, 5, 6), ("lstm", 0, 6, 4), ("lstm", 1, 7, 4)])
def test_what_a_call_keeps(name, ragged, kept, more, machine, monkeypatch):
    "The memory that the chapter states: numbers for each unit, example and step, until the pullback is forgotten and while it runs."
    calls, sizes = [], []
    forward, arrays = kernels_gpu.Call.results, kernels_gpu.Call._backward_arrays
    monkeypatch.setattr(kernels_gpu.Call, "results", lambda call, State: calls.append(call) or forward(call, State))
    monkeypatch.setattr(kernels_gpu.Call, "_backward_arrays", lambda *a: sizes.append(arrays(*a)) or sizes[-1])
    T, B, n = 64, 2, 8
    p, X, _ = tree_map(device.asarray, gentle(named(name), T=T, B=B, n_a=n, dtype=np.float32))
    unit = named(name)
    Y, _, pullback = unit.forms["table"](p, X, None, [T, 3] if ragged else None, **unit.options[0])
    count = lambda arrays, names: round(sum({id(arrays[k]): arrays[k].size for k in names if k in arrays}.values()) / (T * B * n))
    assert count(calls[0].a, "GACIMY") == kept
    pullback(Y)
    assert count(sizes[0], "DE") == more


@pytest.mark.parametrize("unit", ["rnn", "gru", "lstm"])
def test_out_of_memory_on_the_way_back_says_what_to_reduce(unit, machine, monkeypatch):
    full = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})

    def past(call):
        raise full("512 bytes")

    p, X, _ = tree_map(device.asarray, gentle(named(unit), T=3, B=2, n_a=8, dtype=np.float32))
    Y, _, pullback = named(unit).forms["table"](p, X)
    monkeypatch.setattr(kernels_gpu.Call, "past", past)
    with pytest.raises(OutOfDeviceMemory, match=f"{unit}.*, T = 3, B = 2, n_a = 8: .*full .512 bytes.. Reduce the batch"):
        pullback(Y)


@pytest.mark.parametrize("name", ["lstm", "gru-after", "rnn"])
def test_arrays_without_elements_take_the_array_form(name, machine):
    u = named(name)
    for shape in ({"T": 0}, {"B": 0}):
        p, X, state = case(u, **shape)
        want = run(u.forms["plain"], p, X, state, None)
        agree(tree_map(asnumpy, run(u.forms["table"], *tree_map(device.asarray, (p, X, state)), None)), want, 1e-12)
    assert not machine.launches


def test_the_card_is_asked(machine):
    assert SMALL.sms == 12
    path = gpu_path("lstm", 4, 40, 3, 20, stage="persistent", card=SMALL)
    assert path.forward.blocks <= 12 and path.backward.blocks <= 12 and path.forward.tiles * path.forward.groups >= 3


def guarded(a, kept):
    "The array in the middle of a larger one that is NaN all around it."
    wide = np.full(a.size + 128, np.nan, a.dtype)
    middle = wide[64:64 + a.size].reshape(a.shape)
    middle[...] = a
    kept.append((wide, a.size))
    return DeviceArray(middle)


@pytest.mark.parametrize("name, how, shape", [
    ("lstm-zoneout", "fused", (3, 5, 3)), ("gru", "fused", (3, 5, 7)), ("rnn", "persistent", (3, 17, 4)),
    ("gru-after", "persistent", (3, 19, 20)), ("gru-simplified", "persistent", (2, 33, 12)),
    ("lstm-peepholes", "persistent", (3, 5, 36)), ("lstm-dropout", "graph", (3, 18, 44))], ids=str)
def test_nothing_outside_the_arrays_is_read_or_written(name, how, shape, machine, monkeypatch):
    "All arrays stand between NaN, results are NaN until written: a read outside shows in the outcome, a write in the margin."
    T, B, n = shape
    kept = []
    nothing = lambda self, *shape: guarded(np.full(shape, np.nan, self.dtype), kept)
    monkeypatch.setattr(kernels_gpu.Call, "buffer", nothing)
    unit = named(name)
    given = gentle(unit, T=T, B=B, n_a=n, dtype=np.float32)
    lengths = [T, 0, 1] + [T] * (B - 3)
    options = unit.options[0]
    want = run(unit.forms["plain"], *tree_map(lambda a: a.astype(np.float64), given), lengths, **options)
    for single in (False, True) if how != "fused" else (False,):
        with stage(how), tf32(single):
            got = run(unit.forms["table"], *tree_map(lambda a: guarded(a, kept), given), lengths, **options)
        agree(tree_map(asnumpy, got), tree_map(lambda a: a.astype(np.float32), want), 4e-3 if single else 3e-6)
    assert len(kept) > 10
    assert all(np.isnan(wide[:64]).all() and np.isnan(wide[64 + size:]).all() for wide, size in kept)

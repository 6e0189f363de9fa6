"""What only a GPU can show: numbers, memory order, no hidden waiting, graphs that are replayed. Skipped, counted and named without one."""
from collections import Counter

import numpy as np
import pytest
from agreement import agree
from test_kernels_on_the_cpu import gentle, named
from test_units import run
from units import CASES, label

from seqbook.backend import OutOfDeviceMemory, asnumpy, leaves, to, tree_map
from seqbook.ctc import ctc_loss
from seqbook.gru import GRU
from seqbook.kernels_gpu import gpu_path, launcher, stage, stage_wanted, tf32, tf32_on
from seqbook.language_model import LanguageModel
from seqbook.lstm import LSTM, lstm
from seqbook.notation import Vocabulary
from seqbook.optim import Adam
from seqbook.rnn import RNN, embedding, embedding_init
from seqbook.training import Run, Stream, advance

pytestmark = pytest.mark.gpu
RAGGED = [9, 1, 0, 2, 3] + [9] * 14
LOOPS = [(u, o) for u, o in CASES if u.name != "gru"]


def outcomes(unit, given, lengths, dtype, **options):
    "Everything a unit computes on the GPU, brought to the host."
    import cupy
    p, X, state = to(given, "cupy")
    Y, end, pullback = unit(p, X, state, lengths, **options)
    rng = np.random.default_rng(3)
    draw = lambda a: cupy.asarray(rng.normal(size=a.shape).astype(dtype))
    dY = draw(Y)
    dX, grads, start = pullback(dY, tree_map(draw, end))
    return to(leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "dstate0": start}), "numpy")


@pytest.fixture
def launches(monkeypatch):
    "Of each launch, whether it was cooperative: that a stage computed which was asked for, and no other stood in for it."
    import cupy
    run_, seen = launcher(cupy), []
    launch = run_.launch

    def noted(*args, cooperative=False, **named):
        seen.append(cooperative)
        return launch(*args, cooperative=cooperative, **named)

    monkeypatch.setattr(run_, "launch", noted)
    return seen


def compare(unit, options, lengths, tol, dtype=np.float32, **shape):
    given = gentle(unit, dtype=dtype, **shape)
    exact = tree_map(lambda a: a.astype(np.float64), given)
    want = tree_map(lambda a: a.astype(dtype), run(unit.forms["plain"], *exact, lengths, **options))
    what = f"plain form, on a GPU, {stage_wanted()}{' TF32' * tf32_on()}"
    agree(outcomes(unit.forms["table"], given, lengths, dtype, **options), want, tol, what)


@pytest.mark.parametrize("how", ["operations", "fused"])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_array_operations_and_fused_kernels(unit, options, dtype, tol, how):
    with stage(how):
        compare(unit, options, [6, 3, 0, 4], tol, dtype, T=6, B=4, n_a=5)


@pytest.mark.parametrize("single, tol", [(False, 1e-5), (True, 1e-2)], ids=["float32", "TF32"])
@pytest.mark.parametrize("how", ["graph", "persistent"])
@pytest.mark.parametrize("unit, options", LOOPS, ids=label)
def test_loop_kernels(unit, options, how, single, tol, launches):
    with stage(how), tf32(single):
        compare(unit, options, RAGGED, tol, T=9, B=19, n_a=20)
    assert launches == [True, True] if how == "persistent" else True not in launches


@pytest.mark.parametrize("shape", [(3, 1, 64), (40, 70, 132), (128, 64, 512), (20, 256, 256)], ids=str)
@pytest.mark.parametrize("name", ["rnn", "gru-after", "lstm"])
def test_persistent_kernels_at_full_size(name, shape, launches):
    "Against the fused kernels on the same GPU, several times: a moving error is a race."
    T, B, n = shape
    path = gpu_path(name, T, B, 16, n, stage="persistent")
    if path.stage != "persistent":
        pytest.skip(path.why)
    given = gentle(named(name), T=T, B=B, n_a=n, n_x=16, dtype=np.float32)
    unit = named(name).forms["table"]
    with stage("fused"):
        want = outcomes(unit, given, None, np.float32)
    with stage("persistent"):
        got = [outcomes(unit, given, None, np.float32) for _ in range(3)]
    assert launches.count(True) == 2 * 3
    agree(got[0], want, 1e-4, "fused kernels, on a GPU, persistent")
    assert all(np.array_equal(again[k], got[0][k]) for again in got[1:] for k in again)


@pytest.mark.parametrize("name", ["rnn", "gru-after", "lstm"])
def test_the_goal_fits_this_card(name):
    "Wherever 32 blocks run at once and each may have the shared memory of the way back, the goal's shape is persistent."
    import cupy
    card = launcher(cupy).card()
    path = gpu_path(name, 128, 64, 256, 512, stage="persistent", tf32=True)
    assert path.stage == "persistent" if card.sms >= 32 and card.shared >= 150_000 else path.why


def test_gradients_of_an_embedding(rng):
    p, ids = embedding_init(0, 50, 33), rng.integers(0, 50, (40, 8))
    dX = rng.normal(size=(40, 8, 33)).astype(np.float32)
    want = embedding(p, ids)[1](dX).E
    there = to((p, ids, dX), "cupy")
    got = [asnumpy(embedding(*there[:2])[1](there[2]).E) for _ in range(2)]
    assert np.allclose(got[0], want, atol=1e-5) and np.array_equal(*got)


def model_and_run(layer):
    model = LanguageModel(Vocabulary("abcdefgh"), layer, n_x=16, seed=1).to("cupy")
    ids = np.random.default_rng(0).integers(0, 8, 8 * 12 * 40 + 1)
    return Run(model, Stream(ids, 8, 12), Adam(1e-3), 1.0, log_every=10**6)


def copies(names):
    "Of what a profiler saw, all that brings something to the host, or waits for the device."
    waits = ("cudaMemcpy", "cudaStreamSynchronize", "cudaEventSynchronize", "cuStreamSynchronize")
    return {n: count for n, count in names.items() if "DtoH" in n or n in waits}


@pytest.mark.parametrize("how", ["operations", "fused", "graph", "persistent"])
@pytest.mark.parametrize("layer", [RNN(16, 32), GRU(16, 32), GRU(16, 32, reset="after"), LSTM(16, 32)], ids=lambda a: str(a.config()))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_step_waits_for_nothing(layer, how):
    "CuPy itself refuses to synchronise; and does refuse."
    cupyx = pytest.importorskip("cupyx")
    if not hasattr(cupyx, "allow_synchronize"):
        pytest.skip("this CuPy cannot refuse to synchronise")
    with stage(how):
        training = model_and_run(layer)
        for _ in range(3):
            advance(training)
        with cupyx.allow_synchronize(False):
            for _ in range(5):
                advance(training)
            with pytest.raises(Exception, match="synchronization"):
                float(training.pending[-1][1])


@pytest.mark.parametrize("how", ["fused", "graph", "persistent"])
@pytest.mark.parametrize("layer", [RNN(16, 32), GRU(16, 32, reset="after"), LSTM(16, 32)], ids=lambda a: type(a).__name__)
def test_a_training_step_copies_nothing_to_the_host(layer, how):
    "Seen by a profiler: PyTorch's, which sees every call of this process."
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU for PyTorch's profiler")
    with stage(how):
        training = model_and_run(layer)
        for _ in range(3):
            advance(training)
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            for _ in range(5):
                advance(training)
        with torch.profiler.profile(activities=kinds) as control:
            advance(training)
            to(training.model.params, "numpy")
    names = Counter(e.name for e in profile.events())
    assert any("loop" in n or "step_forward" in n for n in names), "the profiler did not see the kernels of this process"
    assert copies(Counter(e.name for e in control.events())), "the profiler does not see copies to the host"
    assert not copies(names)


@pytest.mark.parametrize("how", ["fused", "graph", "persistent"])
def test_training_follows_the_host(how, tmp_path):
    ids = np.random.default_rng(0).integers(0, 6, 900)
    options = {"batch_size": 4, "T": 9, "steps": 12, "clip": 0.5, "log_every": 4, "progress": False}
    host = LanguageModel(Vocabulary("abcdef"), LSTM(8, 16), seed=1)
    want = host.fit(ids, **options)["loss"][1]
    there = LanguageModel(Vocabulary("abcdef"), LSTM(8, 16), seed=1).to("cupy")
    with stage(how):
        assert np.allclose(there.fit(ids, **options)["loss"][1], want, rtol=1e-4)
    there.save(tmp_path / "m")
    assert LanguageModel.load(tmp_path / "m").evaluate(ids).nats == pytest.approx(host.evaluate(ids).nats, rel=1e-4)


def test_a_graph_is_replayed():
    import cupy
    run_, p = launcher(cupy), to(gentle(named("lstm"), T=5, B=4, n_a=24, dtype=np.float32), "cupy")
    with stage("graph"):
        run_.graphs.clear()
        first = lstm(*p)
        assert len(run_.graphs) == 1
        second = lstm(p[0], p[1] + 1, p[2])
        assert len(run_.graphs) == 1
    assert not np.array_equal(asnumpy(first[0]), asnumpy(second[0]))


def test_too_much_is_refused_with_advice():
    import cupy
    pool = cupy.get_default_memory_pool()
    p, X, _ = to(gentle(named("lstm"), T=256, B=256, n_a=64, dtype=np.float32), "cupy")
    pool.free_all_blocks()  # what the pool only keeps would do for the call
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(OutOfDeviceMemory, match="lstm, T = 256, B = 256, n_a = 64: the device's memory is full.*Reduce the batch"):
            lstm(p, X)
    finally:
        pool.set_limit(size=0)


def alone_and_in_a_batch(T, B, n):
    "Both ways of a large call, and of its last example alone."
    import cupy
    p, X, _ = gentle(named("lstm"), T=T, B=1, n_a=n, dtype=np.float32)
    p, X = to((p, X), "cupy")
    outcomes = []
    for batch in (1, B):
        many = cupy.ascontiguousarray(cupy.broadcast_to(X, (T, batch, X.shape[2])))
        Y, _, pullback = lstm(p, many)
        dY = cupy.zeros_like(Y)
        dY[:, -1] = 1  # what the others are given must not show in the last one's derivatives, nor its own in theirs
        dX = pullback(dY)[0]
        outcomes.append((asnumpy(Y[:, -1]), asnumpy(dX[:, -1])))
        first = asnumpy(dX[:, 0])
    return outcomes, first


def test_arrays_of_more_than_two_to_the_31_elements():
    "Indices are 64 bits wide: the last example's gates stand past what 32 bits can count."
    import cupy
    T, B, n = 64, 4096, 2064
    assert T * B * 4 * n > 2**31
    if cupy.cuda.runtime.memGetInfo()[0] < 40 * 2**30:
        pytest.skip("needs 40 GiB of free memory on the GPU")
    for how in ("fused", "graph"):
        with stage(how):
            ((Y, dX), (Y_many, dX_many)), first = alone_and_in_a_batch(T, B, n)
        agree({"Y": Y_many, "dX": dX_many}, {"Y": Y, "dX": dX}, 1e-3, "an example alone, on a GPU, in a large batch")
        assert not first.any()
        cupy.get_default_memory_pool().free_all_blocks()


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("layer", [RNN, GRU, LSTM])
def test_loss_and_gradients_of_a_model(layer, dtype, tol, rng):
    "Embedding, layer, scores, loss and all gradients, full and with lengths."
    made = lambda: LanguageModel(Vocabulary("abcdefgh"), layer(5, 7, dtype=dtype), n_x=5, seed=1, dtype=dtype)
    host, there = made(), made().to("cupy")
    ids, targets = rng.integers(0, 8, (2, 6, 4))
    for batch in ((ids, targets), (ids, targets, np.array([6, 3, 1, 4]))):
        want, got = (m.loss_and_grads(batch)[:2] for m in (host, there))
        agree(to(leaves(got), "numpy"), leaves(want), tol, "the host, on a GPU, a language model")


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc(zero_infinity, dtype, tol, rng):
    Z, targets = rng.normal(size=(9, 3, 4)).astype(dtype), rng.integers(1, 4, (3, 3))
    outcomes = []
    for where in ("numpy", "cupy"):
        loss, back = ctc_loss(*to((Z, targets), where), [9, 7, 1], [2, 3, 0], zero_infinity=zero_infinity)
        outcomes.append(to({"loss": loss, "dZ": back()}, "numpy"))
    agree(outcomes[1], outcomes[0], tol, "the host, on a GPU, CTC", dtypes=False)


@pytest.mark.parametrize("first, then", [("numpy", "cupy"), ("cupy", "numpy")])
def test_training_goes_on_across_backends(first, then, tmp_path):
    "Half of it here, a file, and the other half there: what one backend alone gives."
    ids = np.random.default_rng(0).integers(0, 6, 900)
    options = {"batch_size": 4, "T": 9, "clip": 0.5, "log_every": 4, "progress": False}
    made = lambda: LanguageModel(Vocabulary("abcdef"), LSTM(8, 16, dtype=np.float64), n_x=8, seed=1, dtype=np.float64)
    alone = made()
    alone.fit(ids, steps=12, optimizer=Adam(1e-3), **options)
    made().to(first).fit(ids, steps=8, optimizer=Adam(1e-3), checkpoint=tmp_path / "half", **options)
    other = made().to(then)
    other.fit(ids, steps=12, optimizer=Adam(1e-3), checkpoint=tmp_path / "half", **options)
    agree(to(leaves(other.params), "numpy"), leaves(alone.params), 1e-10, "the host, half of the training on a GPU")

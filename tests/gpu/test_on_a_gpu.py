"""What only a GPU can show: numbers, memory order, no hidden waiting, graphs that are replayed. Skipped, counted and named without one."""
from collections import Counter

import numpy as np
import pytest
from agreement import agree
from test_kernels_on_the_cpu import gentle, named
from test_units import run
from units import CASES, label

from seqbook.backend import OutOfDeviceMemory, asnumpy, leaves, to, tree_map
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
def test_loop_kernels(unit, options, how, single, tol):
    with stage(how), tf32(single):
        compare(unit, options, RAGGED, tol, T=9, B=19, n_a=20)


@pytest.mark.parametrize("shape", [(3, 1, 64), (40, 70, 132), (128, 64, 512), (20, 256, 256)], ids=str)
@pytest.mark.parametrize("name", ["rnn", "gru-after", "lstm"])
def test_persistent_kernels_at_full_size(name, shape):
    "Against the fused kernels on the same GPU, several times: a moving error is a race."
    T, B, n = shape
    given = gentle(named(name), T=T, B=B, n_a=n, n_x=16, dtype=np.float32)
    unit = named(name).forms["table"]
    with stage("fused"):
        want = outcomes(unit, given, None, np.float32)
    with stage("persistent"):
        got = [outcomes(unit, given, None, np.float32) for _ in range(3)]
    agree(got[0], want, 1e-4, "fused kernels, on a GPU, persistent")
    assert all(np.array_equal(again[k], got[0][k]) for again in got[1:] for k in again)


@pytest.mark.parametrize("name", ["rnn", "gru-after", "lstm"])
def test_the_goal_fits_this_card(name):
    path = gpu_path(name, 128, 64, 256, 512, stage="persistent", tf32=True, card=launcher(__import__("cupy")).card())
    assert path.stage in ("persistent", "graph") and path.why


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
    names = Counter(e.name for e in profile.events())
    assert names, "the profiler saw nothing"
    waits = [n for n in names if "DtoH" in n or n in ("cudaMemcpy", "cudaStreamSynchronize", "cudaEventSynchronize", "cuStreamSynchronize")]
    assert not waits, {n: names[n] for n in waits}


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
        before = len(run_.graphs)
        first = lstm(*p)
        count = len(run_.graphs)
        second = lstm(p[0], p[1] + 1, p[2])
    assert count == before + 1 == len(run_.graphs)
    assert not np.array_equal(asnumpy(first[0]), asnumpy(second[0]))


def test_too_much_is_refused_with_advice():
    import cupy
    pool, free = cupy.get_default_memory_pool(), cupy.cuda.runtime.memGetInfo()[0]
    p, X, _ = to(gentle(named("lstm"), T=64, B=64, n_a=64, dtype=np.float32), "cupy")
    pool.set_limit(size=pool.used_bytes() + 2**20)
    try:
        with pytest.raises(OutOfDeviceMemory, match="lstm, T = 64, B = 64, n_a = 64: the device's memory is full.*Reduce the batch"):
            lstm(p, X)
    finally:
        pool.set_limit(size=0)
    assert free > 0

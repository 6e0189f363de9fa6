"""What stands between a call and a launch: the choice of stage, the layout, the questions to the driver; with a pretended CuPy."""
import sys
import types
import warnings
from importlib import metadata

import numpy as np
import pytest

from seqbook import backend, kernels_gpu
from seqbook.backend import BackendError, DeviceArray, OutOfDeviceMemory, device, device_memory, implementation, tree_map
from seqbook.kernels_gpu import (
    GATES,
    H100,
    KINDS,
    ROWS,
    STAGES,
    WARPS,
    Card,
    CupyLauncher,
    floors,
    gpu_path,
    gru_gpu,
    layouts,
    lstm_gpu,
    rnn_gpu,
    stage,
    stage_wanted,
    table_of,
    tf32,
    tf32_on,
)
from seqbook.language_model import LanguageModel
from seqbook.lstm import lstm_hoisted, lstm_init
from seqbook.notation import Vocabulary

A100, OLD, SMALL = (Card("A100", 108, 166912, True, 8), Card("V100", 80, 98304, True, 7), Card("a slice", 14, 166912, True, 9))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("unit", ["rnn", "gru-simplified", "gru-after", "lstm"])
@pytest.mark.parametrize("card", [H100, A100, SMALL], ids=lambda c: c.name)
def test_every_plan_covers_the_work_and_fits(card, unit, back, single, resident):
    gates, seen = GATES[unit], 0
    for n in (4, 12, 64, 100, 256, 512, 768, 1024, 2048):
        for B in (1, 16, 17, 64, 256):
            for plan in layouts(gates, n, B, back, single, resident, card):
                columns, K = plan.units * (1 if back else gates), n * (gates if back else 1)
                assert plan.slices * plan.units >= n > (plan.slices - 1) * plan.units
                assert plan.groups * plan.tiles * ROWS >= B
                assert columns % 8 == 0 and plan.chunk % (WARPS * (8 if single else 16)) == 0  # whole tiles of mma, whole float4
                assert not resident or plan.chunk >= K and plan.blocks <= card.sms
                assert plan.weights == columns * plan.chunk // 256 <= 128 and plan.shared <= card.shared
                seen += 1
    assert seen


def test_the_goal_is_laid_out_as_its_chapter_says():
    path = gpu_path("lstm", 128, 64, 256, 512, stage="auto", tf32=True)
    assert path.stage == "persistent"
    assert path.forward[:4] == (16, 32, 4, 1) and path.backward[:4] == (16, 32, 4, 1)  # 128 blocks


@pytest.mark.parametrize("shape, wanted, card, got, why", [
    (("lstm", 9, 8, 3, 64), "fused", H100, "fused", "asked for"),
    (("lstm", 9, 8, 3, 64), "persistent", H100, "persistent", "asked for"),
    (("lstm", 9, 8, 3, 64), "auto", H100, "persistent", "the shape allows it"),
    (("lstm", 9, 8, 3, 64), "graph", H100, "graph", "asked for"),
    (("gru-before", 9, 8, 3, 64), "auto", H100, "fused", "two products a step"),
    (("lstm", 9, 8, 3, 66), "auto", H100, "fused", "n_a must be a multiple of 4, got 66"),
    (("lstm", 9, 8, 3, 64, "float64"), "persistent", H100, "fused", "compute in float32, got float64"),
    (("lstm", 9, 8, 3, 64), "persistent", OLD, "fused", "V100 has compute capability 7"),
    (("lstm", 9, 8, 3, 64), "persistent", H100._replace(cooperative=False), "graph", "cannot let blocks wait"),
    (("lstm", 9, 8, 3, 2048), "auto", H100, "graph", "weights do not stay resident on H100 at n_a = 2048"),
    (("lstm", 9, 8, 3, 512), "auto", SMALL, "graph", "14 blocks at once")], ids=str)
def test_the_stage_and_the_reason(shape, wanted, card, got, why):
    path = gpu_path(*shape, stage=wanted, card=card)
    assert path.stage == got and why in path.why
    assert (path.forward is None) == (got not in ("graph", "persistent"))


@pytest.mark.parametrize("bad, message", [
    ({"unit": "gru"}, "unit: expected one of rnn, gru-simplified"), ({"T": 0}, "T: expected a whole number >= 1"),
    ({"stage": "fast"}, "stage: expected one of operations, fused"), ({"n_a": 3.5}, "n_a: expected a whole number")])
def test_bad_questions(bad, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gpu_path(**{"unit": "lstm", "T": 3, "B": 2, "n_x": 4, "n_a": 8} | bad)


def test_stage_and_tf32_are_switches(monkeypatch):
    monkeypatch.delenv("SEQBOOK_GPU_STAGE", raising=False)
    monkeypatch.delenv("CUPY_TF32", raising=False)
    assert stage_wanted() == "fused" and not tf32_on()
    with stage("persistent"), tf32(True):
        assert stage_wanted() == "persistent" and tf32_on()
        with stage("graph"), tf32(False):
            assert stage_wanted() == "graph" and not tf32_on()
        assert stage_wanted() == "persistent" and tf32_on()
    monkeypatch.setenv("SEQBOOK_GPU_STAGE", "auto")
    monkeypatch.setenv("CUPY_TF32", "1")
    assert stage_wanted() == "auto" and tf32_on()
    monkeypatch.setenv("SEQBOOK_GPU_STAGE", "quick")
    with pytest.raises(ValueError, match="SEQBOOK_GPU_STAGE: expected one of operations"):
        stage_wanted()
    with pytest.raises(ValueError, match="name: expected one of operations"):
        stage("quick")
    with pytest.raises(ValueError, match="on: expected True or False"):
        tf32("yes")
    assert set(STAGES) == {"operations", "fused", "graph", "persistent", "auto"} and len(KINDS) == 5


def test_the_table_of_the_backend_leads_here():
    library = types.SimpleNamespace(__name__="cupy")
    found = [implementation(unit, library, None) for unit in ("rnn", "gru", "lstm")]
    assert found == [rnn_gpu, gru_gpu, lstm_gpu]


def test_strides_are_refused():
    wide = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match=r"A: expected a contiguous array, got strides \(24, 8\) for shape \(4, 3\)"):
        table_of(lambda a: 1, {"A": wide[:, ::2], "T": 1, "B": 1, "n": 1})
    assert table_of(lambda a: 7, {"G": wide, "T": 1, "B": 2, "n": 3})[-3:] == [1, 2, 3]


def test_fields_of_the_table_stand_in_the_order_of_the_struct():
    import re
    body = re.search(r"struct Pass \{(.*?)\n\};", kernels_gpu.PASS, re.S)[1]
    body = re.sub(r"//.*", "", body)
    names = re.findall(r"\*?\s*(\w+)\s*(?=[,;])", body)
    assert tuple(names) == (*kernels_gpu.POINTERS, *("size" if n == "n" else n for n in kernels_gpu.NUMBERS))


def test_floors():
    got = floors(10, 4, 8, 16, 4, tflops=2.0, bandwidth=0.5, barrier=2e-6)
    assert got["forward"]["arithmetic"] == pytest.approx(2 * 10 * 4 * 64 * 24 / 2e12 * 1e3)
    assert got["forward"]["barriers"] == pytest.approx(0.02)
    assert got["both"]["arithmetic"] == pytest.approx(3 * got["forward"]["arithmetic"])


# ---- a CuPy that only writes down what it is told

class Kernel:
    ptr = 99

    def __init__(self, log, shrink=False):
        self.log, self.shrink = log, shrink

    def __call__(self, grid, block, args, shared_mem=0, enable_cooperative_groups=False):
        if self.shrink:
            warnings.warn("the grid was made smaller", RuntimeWarning, stacklevel=2)
        self.log.append((grid, block, shared_mem, enable_cooperative_groups))


class Array:
    def __init__(self, values, log):
        self.values, self.log, self.data = values, log, types.SimpleNamespace(ptr=4096)

    def __setitem__(self, index, other):
        self.log.append(("table", list(other.values)))


@pytest.fixture
def cupy(monkeypatch):
    "A module that stands for CuPy, with `log` of its launches and `fits`, the blocks that one multiprocessor takes."
    fake = types.ModuleType("cupy")
    fake.log, fake.fits, fake.shrink, fake.broken = [], 1, False, False

    class RawKernel:
        def __init__(self, source, name, options):
            self.kernel, self.options = Kernel(fake.log, fake.shrink), options

        def compile(self):
            fake.log.append("compiled")
            if fake.broken:
                raise RuntimeError("libnvrtc.so.12: cannot open shared object file")

        def __setattr__(self, name, value):
            if name == "max_dynamic_shared_size_bytes":
                fake.log.append(("shared", value))
            super().__setattr__(name, value)

    class Device:
        id = 0

    class Stream:
        ptr = 5

        def __init__(self, non_blocking=False):
            assert non_blocking, "only a stream that does not block can be captured beside others"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def begin_capture(self):
            fake.log.append("capture")

        def end_capture(self):
            fake.log.append("end")
            return types.SimpleNamespace(launch=lambda: fake.log.append("graph"))

    properties = lambda i: {"name": b"a pretended GPU", "multiProcessorCount": 10, "sharedMemPerBlockOptin": 232448, "cooperativeLaunch": 1,
                            "major": 9, "minor": 0}
    fake.RawKernel = RawKernel
    fake.cuda = types.SimpleNamespace(Device=Device, Stream=Stream, get_current_stream=lambda: types.SimpleNamespace(ptr=3),
                                      runtime=types.SimpleNamespace(getDeviceProperties=properties))
    fake.asarray = lambda a: Array(np.asarray(a), fake.log)
    fake.empty = lambda n, dtype: Array(np.zeros(n, dtype), fake.log)
    driver = types.SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda ptr, threads, shared: fake.fits)
    api = types.ModuleType("cupy_backends.cuda.api")
    api.driver = driver
    for name, module in (("cupy", fake), ("cupy_backends", types.ModuleType("cupy_backends")),
                         ("cupy_backends.cuda", types.ModuleType("cupy_backends.cuda")), ("cupy_backends.cuda.api", api)):
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_a_card_is_read_once(cupy):
    run = CupyLauncher()
    assert run.card() == Card("a pretended GPU", 10, 232448, True, 9) and run.card() is run.card()


def test_a_kernel_is_compiled_once_and_given_its_shared_memory(cupy):
    run = CupyLauncher()
    first = run.kernel("source", "loop", ("-DN=4",), 100_000)
    assert run.kernel("source", "loop", ("-DN=4",), 100_000) is first
    run.kernel("source", "loop", ("-DN=8",))
    assert cupy.log == ["compiled", ("shared", 100_000), "compiled"]


def test_no_compiler_is_said_in_one_sentence(cupy):
    cupy.broken = True
    with pytest.raises(BackendError, match="kernel loop could not be compiled .libnvrtc.so.12: cannot open.*is NVRTC installed"):
        CupyLauncher().kernel("source", "loop", ())


def test_a_cooperative_grid_that_does_not_fit_is_never_started(cupy):
    run = CupyLauncher()
    kernel = run.kernel("source", "loop", ())
    with pytest.raises(BackendError, match="11 blocks were to run at once, the device holds 10"):
        run.launch(kernel, 11, 256, (), cooperative=True)
    assert cupy.log == ["compiled"]
    run.launch(kernel, 10, 256, (), shared=64, cooperative=True)
    assert cupy.log[-1] == ((10,), (256,), 64, True)


def test_a_grid_made_smaller_is_an_error(cupy):
    cupy.shrink = True
    run = CupyLauncher()
    with pytest.raises(RuntimeWarning, match="smaller"):
        run.launch(run.kernel("source", "loop", ()), 5, 256, (), cooperative=True)


def test_a_loop_is_recorded_once_and_its_table_rewritten(cupy):
    run = CupyLauncher()
    kernel, steps = run.kernel("source", "loop", ()), [(0, 1), (1, 2), (2, 3)]
    run.loop(kernel, 7, 256, [1, 2, 3], steps, 0)
    first = ["compiled", "capture", *[((7,), (256,), 0, False)] * 3, "end", ("table", [1, 2, 3]), "graph"]
    assert cupy.log == first
    run.loop(kernel, 7, 256, [4, 5, 6], steps, 0)
    assert cupy.log == [*first, ("table", [4, 5, 6]), "graph"]
    run.loop(kernel, 7, 256, [4, 5, 6], steps[:2], 0)
    assert cupy.log.count("capture") == 2


def test_graphs_are_not_kept_for_ever(cupy):
    run = CupyLauncher()
    kernel = run.kernel("source", "loop", ())
    for T in range(1, 70):
        run.loop(kernel, 1, 256, [0], [(t, t + 1) for t in range(T)], 0)
    assert len(run.graphs) == 64


def test_out_of_memory_says_what_to_reduce():
    full = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    with pytest.raises(OutOfDeviceMemory, match="lstm, T = 9: the device's memory is full .512 bytes.. Reduce the batch, the number"):
        with device_memory("a step"), device_memory("lstm, T = 9"):
            raise full("512 bytes")
    with pytest.raises(MemoryError, match="^of the host$"), device_memory("a step"):
        raise MemoryError("of the host")


def test_an_extra_for_each_version_of_cuda():
    extras = set(metadata.metadata("seqbook").get_all("Provides-Extra"))
    assert {"gpu12", "gpu13"} <= extras


def test_without_a_card_named_the_one_in_use_is_asked(cupy, monkeypatch):
    monkeypatch.setitem(kernels_gpu.LAUNCHERS, "cupy", CupyLauncher)
    monkeypatch.setattr(kernels_gpu, "gpu_missing", lambda: None)
    assert kernels_gpu.card_here().name == "a pretended GPU"
    assert "10 blocks at once" in gpu_path("lstm", 9, 8, 3, 512, stage="persistent").why
    monkeypatch.setattr(kernels_gpu, "gpu_missing", lambda: "no GPU answers")
    assert kernels_gpu.card_here() == H100


def test_training_that_does_not_fit_says_at_which_step(monkeypatch):
    full = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    model = LanguageModel(Vocabulary("abc"), n_a=4, seed=0)
    whole, calls = model.loss_and_grads, []

    def second_time_full(batch, state=None):
        calls.append(1)
        if len(calls) == 2:
            raise full("Out of memory allocating 512 bytes")
        return whole(batch, state)

    monkeypatch.setattr(model, "loss_and_grads", second_time_full)
    with pytest.raises(OutOfDeviceMemory, match="^step 2: the device's memory is full .*512 bytes.*Reduce the batch"):
        model.fit(np.arange(200) % 3, steps=4, batch_size=2, T=5, progress=False)


def test_the_hoisted_lstm_starts_ten_kernels_a_step(monkeypatch):
    "What the chapter counts from: the product, and nine operations on arrays."
    counts = []
    call, put = backend._on_device, DeviceArray.__setitem__
    monkeypatch.setattr(backend, "_on_device", lambda *a: counts.append(1) or call(*a))
    monkeypatch.setattr(DeviceArray, "__setitem__", lambda *a: counts.append(1) or put(*a))
    for T in (5, 15):
        p, X = tree_map(device.asarray, (lstm_init(0, 3, 8), np.zeros((T, 2, 3), np.float32)))
        before = len(counts)
        lstm_hoisted(p, X)
        counts.append(len(counts) - before)
    assert counts[-1] - next(n for n in counts if n != 1) == 10 * 10

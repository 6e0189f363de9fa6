"""The benchmark's own logic, without a GPU: what it says, what it survives, and that a stage that is wrong is not timed."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stand_in import COMPILER, StandIn

from seqbook import backend, kernels_gpu
from seqbook.backend import device, gpu_missing, register, tree_map

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu as benchmark  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))
SMALL = [("lstm", 3, 4, 5, 8), ("gru", 3, 4, 5, 8), ("rnn", 3, 4, 5, 8)]


class OnStandIn:
    "What `OnCupy` is, on the pretended device."
    xp = device

    def put(self, tree):
        return tree_map(device.asarray, tree)

    def free(self):
        pass

    def peak(self):
        return 7

    def times(self, f, seconds=0):
        f()
        return [3.0, 1.0, 2.0]


@pytest.fixture
def lib(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(kernels_gpu.LAUNCHERS, "device", lambda: stand_in)
    monkeypatch.setattr(backend, "_TABLE", dict(backend._TABLE))
    for unit in ("rnn", "gru", "lstm", "embedding"):
        register(unit, "device", getattr(kernels_gpu, f"{unit}_gpu"))
    monkeypatch.setattr(benchmark, "GOAL", SMALL)
    monkeypatch.setattr(benchmark, "error", lambda unit, lib, f=benchmark.error: f(unit, lib, (3, 5, 4, 8)))
    return OnStandIn()


def said(capsys):
    return [json.loads(line[4:]) for line in capsys.readouterr().out.splitlines() if line.startswith("ROW ")]


@pytest.mark.skipif(gpu_missing() is None, reason="a GPU works here")
def test_without_a_gpu_one_sentence_and_a_status_of_its_own():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py", "--everything"], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 3 and done.stdout.count("\n") == 1 and done.stdout.startswith("Nothing was measured: CuPy")


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("contestant", ["seqbook fused", "seqbook persistent TF32"])
def test_a_stage_is_checked_then_timed(contestant, lib, capsys):
    benchmark.compete(contestant, time.time() + 99, lib, SMALL)
    rows = said(capsys)
    assert [r["check"] for r in rows[:3]] == ["lstm", "gru", "rnn"] and all(r["right"] for r in rows[:3])
    assert (1e-6 if "TF32" in contestant else 0) < rows[0]["error"] < 1e-2
    assert [(r["unit"], r["forward"], r["both"], r["peak"]) for r in rows[3:6]] == [(c[0], 2.0, 2.0, 7) for c in SMALL]
    assert rows[6]["unit"] == "training step, lstm" and rows[6]["step"] == 2.0 and len(rows) == 7


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_a_wrong_stage_is_not_timed(lib, capsys, monkeypatch):
    monkeypatch.setattr(kernels_gpu, "STEPS", kernels_gpu.STEPS.replace("da * (1 - a * a)", "da * (1 + a * a)"))
    benchmark.compete("seqbook fused", time.time() + 99, lib, SMALL)
    rows = said(capsys)
    assert [r["right"] for r in rows[:3]] == [True, True, False] and [r["unit"] for r in rows[3:5]] == ["lstm", "gru"]
    assert all(r["unit"] != "rnn" for r in rows[3:])


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_outside_of_a_stage_the_reason_stands_in_the_row(lib, capsys):
    benchmark.compete("seqbook persistent", time.time() + 99, lib, [("lstm", 3, 4, 5, 10)])
    assert "n_a must be a multiple of 4, got 10" in said(capsys)[1]["outside"]


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_a_stage_that_another_one_stood_in_for_is_not_timed(lib, capsys):
    "The device had no room for all blocks at once: the graph computed, under its own name alone."
    kernels_gpu.LAUNCHERS["device"]().at_once = 1
    benchmark.compete("seqbook persistent", time.time() + 99, lib, [("rnn", 3, 4, 5, 20)])
    row = said(capsys)[1]
    assert row["outside"] == "3 blocks would have to run at once, the device holds 1 of this kernel" and "forward" not in row


def test_what_fails_is_reported_and_the_rest_goes_on(lib, capsys, monkeypatch):
    def broken(unit, lib):
        raise ValueError("an illegal address\nand more")
    monkeypatch.setattr(benchmark, "error", broken)
    benchmark.compete("seqbook fused", time.time() + 99, lib, SMALL)
    assert [r["failed"] for r in said(capsys)] == ["ValueError: an illegal address"] * 3
    benchmark.compete("JAX", time.time() + 99, lib, SMALL)
    (row,) = said(capsys)
    assert row["contestant"] == "JAX" and row["failed"]


def test_the_peers_run(capsys, monkeypatch):
    "JAX and PyTorch on this machine's processor in place of a GPU: what is asked of them exists; the times mean nothing."
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    precision = jax.config.jax_default_matmul_precision
    try:
        benchmark.compete("JAX", time.time() + 99, None, SMALL)
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
    (row,) = said(capsys)
    assert row["unit"] == "lstm" and row["forward"] > 0 and row["both"] > 0

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter()

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return 1e3 * (other.at - self.at)

    for where in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(where, "cuda", lambda self: self)
    nothing = lambda *_: 0
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, nothing)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(benchmark, "GOAL", SMALL)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        for kind, single in (("TF32", True), ("fp32", False), ("fp16", False)):
            benchmark.compete(f"cuDNN {kind}", time.time() + 99, None, SMALL)
            rows = said(capsys)
            assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == single
            assert [r["unit"] for r in rows] == ["lstm", "gru", "rnn"] + ["training step, lstm"] * (kind != "fp16")
            assert all(r["both"] > 0 and r["forward"] > 0 for r in rows[:3]) and all(r["step"] > 0 for r in rows[3:]), rows
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_a_process_that_hangs_or_dies_keeps_its_rows():
    say = "import time, sys\nprint('ROW {\"a\": 1}', flush=True)\n"
    assert benchmark.collect([sys.executable, "-c", say], 20) == ([{"a": 1}], None)
    rows, problem = benchmark.collect([sys.executable, "-c", say + "time.sleep(60)"], 3)
    assert rows == [{"a": 1}] and problem == "did not end within 3 s"
    rows, problem = benchmark.collect([sys.executable, "-c", say + "sys.exit('no memory')"], 20)
    assert rows == [{"a": 1}] and problem == "ended with status 1: no memory"


def test_time_is_shared_and_never_exceeded(capsys):
    shares = []

    def run(command, seconds, env):
        shares.append(seconds)
        tf32 = command[command.index("--contestant") + 1].endswith("TF32")
        assert env["CUPY_TF32"] == str(int(tf32))
        return [{"contestant": command[command.index("--contestant") + 1], "check": "lstm", "error": 0.5, "right": False}], "it broke"

    rows = benchmark.contest(benchmark.CONTESTANTS, 300, run)
    assert len(shares) == len(benchmark.CONTESTANTS) and all(20 < s < 300 for s in shares)
    assert len(rows) == 2 * len(shares) and "WRONG, not timed" in capsys.readouterr().out
    assert all(r["failed"] == "no time was left" for r in benchmark.contest(["JAX", "seqbook fused"], 5, run))


def test_the_table_has_every_row():
    goal = dict(zip(benchmark.FIELDS, benchmark.GOAL[0], strict=True))
    rows = [{"contestant": "seqbook fused", **goal, "forward": 1.5, "both": 3.25, "peak": 800},
            {"contestant": "cuDNN TF32", **goal, "failed": "ValueError: no"},
            {"contestant": "seqbook persistent", "unit": "lstm", "T": 1, "B": 1, "n_x": 1, "n_a": 2, "outside": "n_a must be"},
            {"contestant": "seqbook fused", "check": "lstm", "error": 1e-7, "right": True}]
    lines = benchmark.table(rows).splitlines()
    assert len(lines) == 4 and "1.500" in lines[2] and "3.250" in lines[2] and "800" in lines[2]
    assert lines[1].endswith("n_a must be") and lines[3].endswith("ValueError: no")


def test_the_cases_span_what_they_should():
    H, B, T = ({c[i] for c in benchmark.CASES} for i in (4, 2, 1))
    assert {64, 128, 256, 512, 768, 1024, 2048} <= H and {1, 16, 64, 256} <= B and {50, 1000} <= T
    assert benchmark.GOAL[0] == ("lstm", 128, 64, 256, 512) and len(benchmark.CONTESTANTS) == 12


@pytest.mark.parametrize("right, tested, status", [(True, 0, 0), (False, 0, 1), (True, 1, 1)])
def test_the_whole_command(right, tested, status, tmp_path, monkeypatch, capsys):
    "Tests, contestants, the file, the table, the status; the parts replaced by their outcomes."
    goal = dict(zip(benchmark.FIELDS, benchmark.GOAL[0], strict=True))
    rows = [{"contestant": "seqbook fused", "check": "lstm", "error": 1e-7, "right": right},
            {"contestant": "seqbook fused", **goal, "forward": 1.0}]
    for name, value in (("gpu_missing", lambda: None), ("tests", lambda: tested), ("contest", lambda names, budget: rows),
                        ("device", lambda: {"name": "a pretended GPU"})):
        monkeypatch.setattr(benchmark, name, value)
    path = tmp_path / "gpu.json"
    assert benchmark.main(["--everything", "--results", str(path), "--note", "idle"]) == status
    written = json.loads(path.read_text())
    assert written["rows"] == rows and written["device"]["name"] == "a pretended GPU"
    assert written["note"] == "idle" and written["tests"] == tested
    assert {"date", "commit", "versions", "machine"} <= written.keys() and "numpy" in written["versions"]
    out = capsys.readouterr().out.strip().splitlines()
    assert out[0].startswith("a pretended GPU, ") and out[-1].startswith("lstm") and "1.000" in out[-1]

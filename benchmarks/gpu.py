"""Recurrent layers on a GPU: seqbook's stages beside PyTorch's cuDNN, FlashRNN and JAX, right before fast, one table last.

    python benchmarks/gpu.py --everything       # the GPU tests, then all of this: under eight minutes
    python benchmarks/gpu.py                    # the benchmark alone: --budget seconds at most (300)
    python benchmarks/gpu.py --results -        # writes no file

Each contestant runs in a process of its own, with a limit of its own: a kernel that fails, or never ends, is reported with its
message, and the rest goes on. A stage of seqbook is first compared with the plain form in float64, with ragged lengths; what is
wrong is not timed. Times are milliseconds between two events of the device, the median of many calls after three that do not
count, of the forward pass, of forward and backward with all gradients, and of a whole training step of a character model. "Peak" is
the most device memory that the library held, in MiB; for JAX only where it is more than any case before took. TF32 rows round every
product to 10 bits, the recurrent ones and the large ones; so does JAX.

Exit status: 0 done, 1 a test failed or a stage was wrong, 3 there is no GPU here (said in one sentence).
"""
import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import record

from seqbook import kernels_gpu as k
from seqbook.backend import asnumpy, gpu_missing, leaves, to, tree_map
from seqbook.gru import GRU, gru, gru_init, gru_plain
from seqbook.language_model import LanguageModel
from seqbook.lstm import LSTM, lstm, lstm_init, lstm_plain
from seqbook.notation import Vocabulary
from seqbook.optim import Adam
from seqbook.rnn import RNN, rnn, rnn_init, rnn_plain
from seqbook.training import Run, Stream, advance

FIELDS = ("unit", "T", "B", "n_x", "n_a")
UNITS = {  # init, plain, table, layer, options, PyTorch's name
    "lstm": (lstm_init, lstm_plain, lstm, LSTM, {}, "LSTM"),
    "gru": (gru_init, gru_plain, gru, GRU, {"reset": "after"}, "GRU"),
    "rnn": (rnn_init, rnn_plain, rnn, RNN, {}, "RNN"),
}
GOAL = [(unit, 128, 64, 256, 512) for unit in UNITS]
SHAPES = [(50, 1, 64, 64), (100, 16, 128, 128), (1000, 16, 256, 256), (128, 16, 256, 768), (64, 256, 512, 1024), (50, 64, 512, 2048)]
CASES = GOAL + [(unit, *shape) for shape in SHAPES for unit in UNITS]
STAGES = [(stage, tf32) for stage in ("fused", "graph", "persistent") for tf32 in (False, True)] + [("operations", False)]
CONTESTANTS = [f"seqbook {stage}{' TF32' * tf32}" for stage, tf32 in STAGES]
CONTESTANTS = CONTESTANTS[:6] + ["cuDNN TF32", "cuDNN fp32", "cuDNN fp16", "seqbook operations", "FlashRNN bf16", "JAX"]
TOLERANCE = {False: 1e-5, True: 1e-2}


def arguments(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--everything", action="store_true", help="run the GPU tests first")
    p.add_argument("--budget", type=float, default=300, help="seconds for all contestants together")
    p.add_argument("--only", action="append", choices=CONTESTANTS, help="a contestant; may be given again")
    p.add_argument("--results", default=str(record.RESULTS / "gpu.json"), help="file for the result; - for none")
    p.add_argument("--note", default="", help="what the reader of the result should know, such as other work on the machine")
    p.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)  # a process of its own
    p.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return p.parse_args(argv)


# ---- in a contestant's own process: rows are printed as they come

def say(row):
    "A row for the parent, at once."
    print("ROW " + json.dumps(row), flush=True)


def median(times):
    return round(float(np.median(times)), 4)


class OnCupy:
    "How arrays get to the device, how time passes there, and how much memory was held."

    def __init__(self):
        import cupy
        self.xp, self.pool = cupy, cupy.get_default_memory_pool()

    def put(self, tree):
        return to(tree, "cupy")

    def free(self):
        "Start to count memory anew."
        self.pool.free_all_blocks()

    def peak(self):
        return round(self.pool.total_bytes() / 2**20)

    def times(self, f, seconds=0.15):
        "Milliseconds of many calls."
        for _ in range(3):
            f()
        event = self.xp.cuda.Event
        self.xp.cuda.Device().synchronize()
        end, times = time.monotonic() + seconds, []
        while len(times) < 5 or time.monotonic() < end and len(times) < 100:
            start, stop = event(), event()
            start.record()
            f()
            stop.record()
            stop.synchronize()
            times.append(self.xp.cuda.get_elapsed_time(start, stop))
        return times


def layer_data(case, dtype=np.float32):
    "Parameters, inputs and derivatives of one case, on the host; the weights are such that states neither die nor grow."
    unit, T, B, n_x, n_a = case
    rng, (init, *_, options, _) = np.random.default_rng(0), UNITS[unit]
    draw = lambda *shape: rng.standard_normal(shape, np.float32).astype(dtype)
    small = init(0, 1, 1, dtype, **options)  # for its structure: as many blocks of rows as it has rows
    gates = len(small.Waa)
    values = {"Wax": draw(gates * n_a, n_x) / n_x**0.5, "Waa": draw(gates * n_a, n_a) / n_a**0.5, "ba": draw(gates * n_a) / 10}
    values |= {"bac": draw(n_a) / 10} if getattr(small, "bac", None) is not None else {}
    p = tree_map(lambda a: a.astype(dtype), small._replace(**values))
    return p, draw(T, B, n_x), draw(T, B, n_a)


def error(unit, lib, shape=(12, 20, 8, 64)):
    "The largest difference from the plain form in float64, relative to the largest value of each outcome; ragged lengths."
    _, plain, table, _, options, _ = UNITS[unit]
    p, X, dY = layer_data((unit, *shape))
    lengths, worst = np.random.default_rng(1).integers(0, shape[0] + 1, shape[1]), 0
    outcomes = []
    for form, given in ((plain, tree_map(lambda a: a.astype(np.float64), (p, X, dY))), (table, lib.put((p, X, dY)))):
        p, X, dY = given
        Y, end, pullback = form(p, X, None, lengths, **options)
        outcomes.append({name: asnumpy(a) for name, a in leaves((Y, end, pullback(dY, end))).items()})
    want, got = outcomes
    for name in want:
        difference = abs(got[name] - want[name]).max() / max(abs(want[name]).max(), 1e-30)
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
    return float(worst)


def failed(what, e):
    say(what | {"failed": f"{type(e).__name__}: {str(e).strip().splitlines()[0][:300] if str(e).strip() else ''}"})


def seqbook_stage(name, tf32, lib, cases, until):
    "One stage: right first, then fast."
    contestant, right = f"seqbook {name}{' TF32' * tf32}", {}
    with k.stage(name), k.tf32(tf32):
        for unit in dict.fromkeys(c[0] for c in cases):
            try:
                worst = error(unit, lib)
                right[unit] = worst <= TOLERANCE[tf32]
                say({"contestant": contestant, "check": unit, "error": worst, "right": bool(right[unit])})
            except Exception as e:
                failed({"contestant": contestant, "check": unit, "right": False}, e)
        for case in cases:
            if right.get(case[0]) and time.time() < until:
                timed_case(contestant, name, case, lib)
        if right.get("lstm") and time.time() < until:
            whole_step(contestant, lambda: training_step(lib))


def whole_step(contestant, measure):
    "The row of a training step."
    row = {"contestant": contestant, "unit": "training step, lstm", **dict(zip(FIELDS[1:], GOAL[0][1:]))}
    try:
        say(row | measure())
    except Exception as e:
        failed(row, e)


def timed_case(contestant, name, case, lib):
    "Times and peak memory of one case; if another stage would compute it, why."
    row, (_, _, table, _, options, _) = {"contestant": contestant, **dict(zip(FIELDS, case))}, UNITS[case[0]]
    kind = f"gru-{options['reset']}" if case[0] == "gru" else case[0]
    path = k.gpu_path(kind, *case[1:], card=k.launcher(lib.xp).card())
    if path.stage != name:
        return say(row | {"outside": path.why})
    try:
        p, X, dY = lib.put(layer_data(case))
        lib.free()
        row["forward"] = median(lib.times(lambda: table(p, X, **options)))
        row["both"] = median(lib.times(lambda: table(p, X, **options)[2](dY)))
        took = k.launcher(lib.xp).last
        if name in ("graph", "persistent") and took.stage != name:  # the device had less room than its data sheet says
            return say({field: row[field] for field in ("contestant", *FIELDS)} | {"outside": took.why})
        say(row | {"peak": lib.peak()})
    except Exception as e:
        failed(row, e)


def training_step(lib, seconds=0.4):
    "A character model of 96 symbols: embedding, LSTM, loss, clipping, Adam."
    _, T, B, n_x, n_a = GOAL[0]
    model = LanguageModel(Vocabulary([chr(33 + i) for i in range(96)]), LSTM(n_x, n_a), n_x=n_x, seed=0)
    model.params = lib.put(model.params)
    ids = np.random.default_rng(0).integers(0, 96, B * (T * 50 + 1) + 1)
    run = Run(model, Stream(ids, B, T), Adam(1e-3), 1.0, log_every=10**9)
    lib.free()
    step = lambda: (advance(run), run.pending.clear())
    return {"step": median(lib.times(step, seconds)), "peak": lib.peak()}


def cudnn(kind, cases, until):
    "PyTorch's layers: TF32 is its default for cuDNN, fp32 without it, fp16 with weights and inputs in half precision."
    import torch
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
    half = kind == "fp16"

    def times(f, seconds=0.15):
        for _ in range(3):
            f()
        torch.cuda.synchronize()
        end, found = time.monotonic() + seconds, []
        while len(found) < 5 or time.monotonic() < end and len(found) < 100:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            f()
            stop.record()
            stop.synchronize()
            found.append(start.elapsed_time(stop))
        return median(found)

    for case in cases:
        if time.time() > until:
            return
        row, (unit, *_, n_x, n_a) = {"contestant": f"cuDNN {kind}", **dict(zip(FIELDS, case))}, case
        try:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            layer = getattr(torch.nn, UNITS[unit][5])(n_x, n_a).cuda()
            _, X, dY = layer_data(case)
            x, d = torch.from_numpy(X).cuda(), torch.from_numpy(dY).cuda()
            if half:
                layer, x, d = layer.half(), x.half(), d.half()
            x.requires_grad_()

            def forward(layer=layer, x=x):
                with torch.no_grad():
                    layer(x)

            def both(layer=layer, x=x, d=d):
                x.grad = None
                layer.zero_grad(set_to_none=True)
                layer(x)[0].backward(d)

            row |= {"forward": times(forward), "both": times(both)}
            say(row | {"peak": round(torch.cuda.max_memory_allocated() / 2**20)})
        except Exception as e:
            failed(row, e)
    if not half:
        whole_step(f"cuDNN {kind}", lambda: torch_step(torch, times))


def torch_step(torch, times):
    "The same character model in PyTorch."
    _, T, B, n_x, n_a = GOAL[0]
    torch.cuda.reset_peak_memory_stats()
    parts = torch.nn.ModuleList([torch.nn.Embedding(96, n_x), torch.nn.LSTM(n_x, n_a), torch.nn.Linear(n_a, 96)]).cuda()
    optimizer, ids = torch.optim.Adam(parts.parameters(), 1e-3), torch.randint(0, 96, (T + 1, B)).cuda()

    def step():
        optimizer.zero_grad(set_to_none=True)
        scores = parts[2](parts[1](parts[0](ids[:-1]))[0])
        torch.nn.functional.cross_entropy(scores.reshape(-1, 96), ids[1:].reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()

    return {"step": times(step), "peak": round(torch.cuda.max_memory_allocated() / 2**20)}


def flashrnn(cases, until):
    "FlashRNN's fused kernels in bfloat16, one head, without the input product; it compiles with nvcc at its first call."
    import torch
    from flashrnn import flashrnn as run

    for case in cases:
        unit, T, B, _, n = case
        row = {"contestant": "FlashRNN bf16", **dict(zip(FIELDS, case))}
        if time.time() > until:
            return
        try:
            name, gates, biases = {"lstm": ("lstm", 4, 4), "gru": ("gru", 3, 4), "rnn": ("elman", 1, 1)}[unit]
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            draw = lambda *shape: torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            x, R, b = draw(B, T, gates, 1, n), draw(gates, 1, n, n), draw(biases, 1, n)
            call = lambda x=x, R=R, b=b, name=name: run(x, R, b, function=name, backend="cuda_fused", dtype="bfloat16")[0]
            both = lambda call=call: call().sum().backward()
            times = []
            for f in (call, both):
                for _ in range(3):
                    f()
                found = []
                for _ in range(20):
                    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                    start.record()
                    f()
                    stop.record()
                    stop.synchronize()
                    found.append(start.elapsed_time(stop))
                times.append(median(found))
            say(row | {"forward": times[0], "both": times[1], "peak": round(torch.cuda.max_memory_allocated() / 2**20)})
        except Exception as e:
            failed(row, e)


def jax(cases, until):
    "An LSTM written with lax.scan and compiled by XLA, in TF32; the clock of the host, each call waited for."
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")

    @jax.jit
    def layer(p, X):
        Z = X @ p["Wx"].T + p["b"]

        def step(state, z):
            a, c = state
            u, f, g, o = jnp.split(z + a @ p["Wa"].T, 4, axis=-1)
            c = jax.nn.sigmoid(u) * jnp.tanh(g) + jax.nn.sigmoid(f) * c
            a = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (a, c), a

        zero = jnp.zeros((X.shape[1], p["Wa"].shape[1]), X.dtype)
        return jax.lax.scan(step, (zero, zero), Z)[1]

    def peak():
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)  # of the process; it cannot be set back

    both = jax.jit(jax.grad(lambda p, X, dY: (layer(p, X) * dY).sum(), argnums=(0, 1)))
    if jax.default_backend() != "gpu":
        return say({"contestant": "JAX", "failed": f"JAX computes on the {jax.default_backend()} here"})
    for case in cases:
        if case[0] != "lstm" or time.time() > until:
            continue
        row = {"contestant": "JAX", **dict(zip(FIELDS, case))}
        try:
            before = peak()
            p, X, dY = layer_data(case)
            p = {"Wx": p.Wax, "Wa": p.Waa, "b": p.ba}
            for what, f, given in (("forward", layer, (p, X)), ("both", both, (p, X, dY))):
                given, found = jax.device_put(given), []
                for _ in range(15):
                    start = time.perf_counter()
                    jax.block_until_ready(f(*given))
                    found.append(1e3 * (time.perf_counter() - start))
                row[what] = median(found[3:])
            after = peak()
            say(row | ({"peak": round(after / 2**20)} if after > before else {}))  # else an earlier case took more
        except Exception as e:
            failed(row, e)


def compete(contestant, until, lib=None, cases=CASES):
    "What a contestant's process does."
    kind, _, rest = contestant.partition(" ")
    try:
        if kind == "seqbook":
            name, _, tf32 = rest.partition(" ")
            seqbook_stage(name, bool(tf32), lib or OnCupy(), cases, until)
        elif kind == "cuDNN":
            cudnn(rest, cases, until)
        else:
            {"FlashRNN": flashrnn, "JAX": jax}[kind](cases, until)
    except Exception as e:
        failed({"contestant": contestant}, e)


# ---- the parent

def collect(command, seconds, env=None):
    "Run a process for so long at most: the rows it printed, and what became of it (None if all went well)."
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        out, err = process.communicate(timeout=max(seconds, 0.1))
        problem = None if process.returncode == 0 else f"ended with status {process.returncode}: {' '.join(err.split()[-40:])}"
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        problem = f"did not end within {seconds:.0f} s"
    rows = [json.loads(line[4:]) for line in out.splitlines() if line.startswith("ROW ")]
    return rows, problem


def device():
    "What was measured on."
    import cupy
    runtime, i = cupy.cuda.runtime, cupy.cuda.Device().id
    p = runtime.getDeviceProperties(i)
    return {"name": p["name"].decode(), "capability": f"{p['major']}.{p['minor']}", "multiprocessors": p["multiProcessorCount"],
            "memory_mib": round(p["totalGlobalMem"] / 2**20), "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}


def installed(*names):
    "Those of the packages that are here, with their versions."
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def contest(names, budget, run=collect):
    "All contestants, one after the other, each with a fair share of the time that is left."
    end, rows = time.time() + budget, []
    for i, name in enumerate(names):
        share = (end - time.time()) / (len(names) - i) * 1.6  # those who need less leave more
        share = min(share, end - time.time())
        if share < 8:
            rows.append({"contestant": name, "failed": "no time was left"})
            continue
        env = os.environ | {"CUPY_TF32": str(int(name.endswith("TF32"))), "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                            "PYTHONPATH": os.pathsep.join([str(record.RESULTS.parents[1]), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, __file__, "--contestant", name, "--until", str(time.time() + share - 5)]
        found, problem = run(command, share, env)
        rows += found + ([{"contestant": name, "failed": problem}] if problem else [])
        said = problem or "; ".join(r["failed"] for r in found if "failed" in r)
        print(f"{name:<24}{len(found):4} rows{f'   {said:.160}' if said else ''}", flush=True)
        for r in found:
            if "error" in r:
                verdict = "right" if r["right"] else "WRONG, not timed"
                print(f"    {r['check']:<6} largest difference from the plain form {r['error']:.1e}   {verdict}", flush=True)
    return rows


def table(rows):
    "The table that is printed last."
    timed = [r for r in rows if "unit" in r]
    lines = [f"{'unit':<22}{'T':>6}{'B':>5}{'n_x':>6}{'n_a':>6}  {'contestant':<24}{'forward':>9}{'both':>9}{'step':>9}{'peak':>8}"]
    order = {c: i for i, c in enumerate(CONTESTANTS)}
    size = lambda r: (r["unit"], *(r.get(f, 0) for f in FIELDS[1:]))
    for r in sorted(timed, key=lambda r: (*size(r), order[r["contestant"]])):
        head = f"{r['unit']:<22}" + "".join(f"{r.get(f, ''):>{w}}" for f, w in zip(FIELDS[1:], (6, 5, 6, 6), strict=True))
        number = lambda name, form=".3f", r=r: format(r[name], form) if name in r else ""
        says = r.get("failed") or r.get("outside")
        values = f"  {says:.60}" if says else f"{number('forward'):>9}{number('both'):>9}{number('step'):>9}{number('peak', 'd'):>8}"
        lines.append(f"{head}  {r['contestant']:<24}{values}")
    return "\n".join(lines)


def tests():
    "The GPU tests, all of them: 0 if they passed."
    root = record.RESULTS.parents[1]
    print("== every test that is marked gpu", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--maxfail=40", "tests"]
    command += ["-n", str(min(6, os.cpu_count()))] if find_spec("xdist") else []  # most of their time is the compiler's
    try:
        return subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, timeout=150).returncode
    except subprocess.TimeoutExpired:
        print("the tests did not end within 150 s")
        return 1


def main(argv=None):
    args = arguments(argv)
    if args.contestant:
        return compete(args.contestant, args.until)
    if reason := gpu_missing():
        print(f"Nothing was measured: {reason.splitlines()[0]}")
        return 3
    status = tests() if args.everything else None
    rows = contest(args.only or CONTESTANTS, args.budget)
    wrong = [r for r in rows if r.get("right") is False]
    result = {
        "what": "recurrent layers on a GPU, milliseconds; see benchmarks/gpu.py", "date": record.today(), "commit": record.commit(),
        "device": device(), "machine": record.machine(), "note": args.note, "tests": status,
        "versions": record.versions("numpy") | installed("cupy-cuda12x", "cupy-cuda13x", "torch", "flashrnn", "jax"), "rows": rows,
    }
    record.write(args.results if args.results == "-" else Path(args.results), result)
    print(f"\n{result['device']['name']}, {result['date']}, commit {result['commit']}; milliseconds, peak in MiB\n{table(rows)}")
    return 1 if wrong or status else 0


if __name__ == "__main__":
    sys.exit(main())

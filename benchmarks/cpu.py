"""Recurrent layers on the CPU: seqbook beside PyTorch, Keras, JAX, onnxruntime and a textbook loop. One command, one table.

    python benchmarks/cpu.py                        # everything, about 25 minutes; needs the extras fast, peers and bench
    python benchmarks/cpu.py --part layers --unit lstm    # one part; the file keeps the others
    python benchmarks/cpu.py --show                 # print the recorded table
    python benchmarks/cpu.py --repeat 3 --results -       # a quick look; writes no result

Parts: peak (the machine's fastest product), ladder (the rungs of the chapter), layers (the table), growth (time over T, B and
n_a), sampling (one stream, symbol by symbol), training (Shakespeare's works to a given loss), first (first calls).

Every contestant runs in a process of its own, forked anew for each case from one that has done its imports, with the same
weights and inputs, and its outputs and derivatives are compared. The contestants take turns: a rest, some calls that are not
timed, up to five that are. Milliseconds are medians over --repeat turns of the medians of a turn, by the clock; with --threads 1
by the processor's time, which other work hardly touches, and into a table of their own. "Share" is that of the machine's peak
product rate, as measured; memory is what the calls added to the process at most. Forward runs without a graph where a framework
knows one; "both" is forward and backward with all gradients. The GRU has its reset after the product, as PyTorch's. JAX is
compiled; compiling is not timed.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import record

CASES = [{"T": T, "B": B, "n_x": n_x, "n_a": n_a, "kind": kind} for (T, B, n_x, n_a), kind in [
    ((32, 32, 64, 128), "plain"), ((64, 32, 128, 256), "plain"), ((100, 64, 128, 512), "plain"), ((50, 1, 64, 128), "plain"),
    ((128, 16, 256, 256), "plain"), ((64, 32, 128, 256), "ragged"), ((64, 32, 128, 256), "bidirectional"),
    ((64, 32, 128, 256), "two layers")]]
UNITS, GATES = ("rnn", "gru", "lstm"), {"rnn": 1, "gru": 3, "lstm": 4}
NAMES = ("seqbook NumPy", "seqbook fast", "PyTorch", "Keras", "JAX", "onnxruntime", "textbook")
PARTS = ("peak", "ladder", "first", "layers", "growth", "sampling", "training")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--part", choices=PARTS, action="append", help="measure this part only; may be given several times")
    p.add_argument("--unit", choices=UNITS, action="append", help="of the table, this unit only; may be given several times")
    p.add_argument("--only", choices=NAMES, action="append", help="of the table, these contestants only")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of every contestant")
    p.add_argument("--repeat", type=int, default=9, help="timed calls of each contestant")
    p.add_argument("--loss", type=float, default=1.5, help="training: nats per character, a mean over 50 steps, to be reached")
    p.add_argument("--seconds", type=float, default=150, help="training: stop after so many seconds at the latest")
    p.add_argument("--results", default=str(record.RESULTS / "cpu.json"), help="file for the result; - for none")
    p.add_argument("--note", default="", help="what the reader of the result should know, such as other work on the machine")
    p.add_argument("--show", action="store_true", help="print the recorded table and measure nothing")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    return p.parse_args()


args = arguments()
for name in record.THREADS:
    os.environ[name] = str(args.threads)
many = "true" if args.threads > 1 else "false"
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={many} intra_op_parallelism_threads={args.threads}"
os.environ |= {"KERAS_BACKEND": "torch", "JAX_PLATFORMS": "cpu"}

import numpy as np  # noqa: E402

clock = time.process_time if args.threads == 1 else time.perf_counter
TABLE = "layers on one thread" if args.threads == 1 else "layers"


# ---------------------------------------------------------------- the cases

def lengths_of(T, B):
    "Lengths from a quarter of T to T, the longest first, as PyTorch packs them fastest."
    lengths = np.sort(np.random.default_rng(2).integers(T // 4, T + 1, B))[::-1].copy()
    lengths[0] = T
    return lengths


def setting(unit, case):
    "Parameters of every direction or layer, X, dY and lengths, float32."
    from seqbook.gru import gru_init
    from seqbook.lstm import lstm_init
    from seqbook.rnn import rnn_init
    init = {"rnn": rnn_init, "lstm": lstm_init, "gru": lambda *a: gru_init(*a, reset="after")}[unit]
    (T, B, n_x, n_a), kind, rng = (case[k] for k in ("T", "B", "n_x", "n_a")), case["kind"], np.random.default_rng(0)
    ps = [init(0, n_x, n_a), init(1, n_x if kind == "bidirectional" else n_a, n_a)][: 1 if kind in ("plain", "ragged") else 2]
    X, dY = (rng.normal(size=(T, B, n)).astype(np.float32) for n in (n_x, 2 * n_a if kind == "bidirectional" else n_a))
    lengths = lengths_of(T, B) if kind == "ragged" else None
    if lengths is not None:
        dY *= (np.arange(T)[:, None] < lengths)[..., None]
    return ps, X, dY, lengths


def operations(unit, case):
    "In millions, of the products of a forward pass; forward and backward take three times as many."
    T, B, n_x, n, kind = (case[k] for k in ("T", "B", "n_x", "n_a", "kind"))
    steps = int(lengths_of(T, B).sum()) if kind == "ragged" else T * B
    inputs = {"bidirectional": 2 * (n_x + n), "two layers": n_x + n + 2 * n}.get(kind, n_x + n)
    return 2 * steps * GATES[unit] * n * inputs / 1e6


# ---------------------------------------------------------------- the contestants: (unit, case) -> forward() -> Y, both() -> Y, dX

def of_seqbook(form):
    def make(unit, case):
        from functools import partial

        from seqbook import backend, brnn, deep_rnn, gru, lstm, rnn
        backend.fast(form == "fast")
        ps, X, dY, lengths = setting(unit, case)
        module, name = {"rnn": rnn, "gru": gru, "lstm": lstm}[unit], f"{unit}_plain" if form == "textbook" else unit
        f = partial(getattr(module, name), **({"reset": "after"} if unit == "gru" else {}))
        if case["kind"] == "bidirectional":
            f, ps = brnn.bidirectional(f), [brnn.BidirectionalParams(*ps)]
        if case["kind"] == "two layers":
            f, ps = deep_rnn.deep([f, f]), [tuple(ps)]

        def both():
            Y, _, back = f(ps[0], X, None, lengths)
            return Y, back(dY)[0]
        return lambda: f(ps[0], X, None, lengths)[0], both
    return make


def of_torch(unit, case):
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from seqbook.gru import gru_to_pytorch
    from seqbook.interop import rnn_to_pytorch
    from seqbook.lstm import lstm_to_pytorch
    torch.set_num_threads(args.threads)
    ps, X, dY, lengths = setting(unit, case)
    export = {"rnn": rnn_to_pytorch, "gru": gru_to_pytorch, "lstm": lstm_to_pytorch}[unit]
    layer = getattr(torch.nn, unit.upper())(case["n_x"], case["n_a"], num_layers=2 if case["kind"] == "two layers" else 1,
                                            bidirectional=case["kind"] == "bidirectional")
    for p, end in zip(ps, ("_l0", {"two layers": "_l1"}.get(case["kind"], "_l0_reverse"))):
        for key, w in export(p).items():
            getattr(layer, key + end).data = torch.from_numpy(w)
    x, d = torch.from_numpy(X).requires_grad_(), torch.from_numpy(dY)
    n = None if lengths is None else torch.from_numpy(lengths)
    outputs = lambda: layer(x)[0] if n is None else pad_packed_sequence(layer(pack_padded_sequence(x, n))[0])[0]

    def forward():
        with torch.no_grad():
            return outputs().numpy()

    def both():
        x.grad = None
        layer.zero_grad(set_to_none=True)
        Y = outputs()
        Y.backward(d)
        return Y.detach().numpy(), x.grad.numpy()
    return forward, both


def of_keras(unit, case):
    import keras
    import torch

    from seqbook.gru import gru_to_keras
    from seqbook.interop import rnn_to_keras
    from seqbook.lstm import lstm_to_keras
    torch.set_num_threads(args.threads)
    ps, X, dY, lengths = setting(unit, case)
    export = {"rnn": rnn_to_keras, "gru": gru_to_keras, "lstm": lstm_to_keras}[unit]
    kind = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[unit]
    layers = [kind(case["n_a"], return_sequences=True, **({"zero_output_for_mask": True} if lengths is not None else {})) for _ in ps]
    if case["kind"] == "bidirectional":
        layers = [keras.layers.Bidirectional(layers[0], backward_layer=kind(case["n_a"], return_sequences=True, go_backwards=True))]
    x, d = torch.from_numpy(X.swapaxes(0, 1).copy()).requires_grad_(), torch.from_numpy(dY.swapaxes(0, 1).copy())
    mask = None if lengths is None else torch.from_numpy(np.arange(case["T"]) < lengths[:, None])

    def outputs():
        y = x
        for layer in layers:
            y = layer(y) if mask is None else layer(y, mask=mask)
        return y
    outputs()
    flat = [w for p in ps for w in export(p).values() if hasattr(w, "shape")]
    for layer in layers:
        n = len(layer.get_weights())
        layer.set_weights(flat[:n])
        flat = flat[n:]

    def forward():
        with torch.no_grad():
            return outputs().numpy().swapaxes(0, 1)

    def both():
        x.grad = None
        for layer in layers:
            for w in layer.trainable_weights:
                w.value.grad = None
        y = outputs()
        y.backward(d)
        return y.detach().numpy().swapaxes(0, 1), x.grad.numpy().swapaxes(0, 1)
    return forward, both


def of_jax(unit, case):
    import jax
    import jax.numpy as jnp
    ps, X, dY, lengths = setting(unit, case)
    n, (T, B) = case["n_a"], X.shape[:2]
    s = jax.nn.sigmoid

    def step(p, state, z):
        if unit == "rnn":
            return (jnp.tanh(z + state[0] @ p[1].T),)
        if unit == "gru":
            h = state[0] @ p[1].T
            r, u = s(z[:, :n] + h[:, :n]), s(z[:, n:2 * n] + h[:, n:2 * n])
            c = jnp.tanh(z[:, 2 * n:] + r * (h[:, 2 * n:] + p[3]))
            return (state[0] + u * (c - state[0]),)
        z = z + state[0] @ p[1].T
        c = s(z[:, :n]) * jnp.tanh(z[:, 2 * n:3 * n]) + s(z[:, n:2 * n]) * state[1]
        return s(z[:, 3 * n:]) * jnp.tanh(c), c

    def layer(p, X, on):
        def body(state, at):
            z, alive = at
            new = step(p, state, z)
            if lengths is not None:
                new = tuple(jnp.where(alive[:, None], a, b) for a, b in zip(new, state))
            return new, new[0] if lengths is None else jnp.where(alive[:, None], new[0], 0)
        start = tuple(jnp.zeros((B, n)) for _ in range(2 if unit == "lstm" else 1))
        return jax.lax.scan(body, start, (X @ p[0].T + p[2], on))[1]

    on = jnp.ones((T, B), bool) if lengths is None else jnp.asarray(np.arange(T)[:, None] < lengths)

    def outputs(ps, X):
        if case["kind"] == "bidirectional":
            return jnp.concatenate([layer(ps[0], X, on), layer(ps[1], X[::-1], on)[::-1]], -1)
        for p in ps:
            X = layer(p, X, on)
        return X

    def all_of(ps, X, d):
        Y, back = jax.vjp(outputs, ps, X)
        return Y, *back(d)
    ps = [tuple(jnp.asarray(w) for w in p if w is not None) for p in ps]
    X, d, forward, both = jnp.asarray(X), jnp.asarray(dY), jax.jit(outputs), jax.jit(all_of)

    def run():
        Y, grads, dX = jax.block_until_ready(both(ps, X, d))
        return np.asarray(Y), np.asarray(dX)
    return lambda: np.asarray(jax.block_until_ready(forward(ps, X))), run


def of_onnx(unit, case):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from seqbook.gru import gru_to_onnx
    from seqbook.interop import rnn_to_onnx
    from seqbook.lstm import lstm_to_onnx
    ps, X, _, lengths = setting(unit, case)
    export = {"rnn": rnn_to_onnx, "gru": gru_to_onnx, "lstm": lstm_to_onnx}[unit]
    options = {"hidden_size": case["n_a"]} | ({"linear_before_reset": 1} if unit == "gru" else {})
    weights, nodes, x = [], [], "X"
    if case["kind"] == "bidirectional":
        parts, options = [{k: np.concatenate([export(p)[k] for p in ps]) for k in "WRB"}], options | {"direction": "bidirectional"}
    else:
        parts = [export(p) for p in ps]
    for i, part in enumerate(parts):
        weights += [numpy_helper.from_array(np.ascontiguousarray(part[k]), f"{k}{i}") for k in "WRB"]
        given = [x, f"W{i}", f"R{i}", f"B{i}"] + (["n"] if lengths is not None else [])
        nodes += [helper.make_node(unit.upper(), given, [f"Y{i}"], **options),
                  helper.make_node("Transpose", [f"Y{i}"], [f"P{i}"], perm=[0, 2, 1, 3]),
                  helper.make_node("Reshape", [f"P{i}", "shape"], [f"Z{i}"])]
        x = f"Z{i}"
    weights.append(numpy_helper.from_array(np.array([0, 0, -1]), "shape"))
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, X.shape)]
    feed = {"X": X}
    if lengths is not None:
        inputs.append(helper.make_tensor_value_info("n", TensorProto.INT32, lengths.shape))
        feed["n"] = lengths.astype(np.int32)
    graph = helper.make_graph(nodes, "layers", inputs, [helper.make_tensor_value_info(x, TensorProto.FLOAT, (*X.shape[:2], None))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = args.threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)[0], None


MAKERS = dict(zip(NAMES, (of_seqbook("NumPy"), of_seqbook("fast"), of_torch, of_keras, of_jax, of_onnx, of_seqbook("textbook"))))
IMPORTS = {"PyTorch": "torch", "Keras": "keras", "JAX": "jax", "onnxruntime": "onnxruntime", "seqbook fast": "seqbook.kernels_cpu"}


# ---------------------------------------------------------------- a process for each

def worker(name):
    "Import once, then fork for every case; orders come on the standard input, answers go to the standard output."
    import importlib
    importlib.import_module(IMPORTS.get(name, "numpy"))
    importlib.import_module("seqbook.brnn"), importlib.import_module("seqbook.deep_rnn"), importlib.import_module("seqbook.interop")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                serve(name, json.loads(line), answers)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def resident():
    "MiB of this process that lie in memory now."
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def serve(name, order, answers):
    "Make the case, say what it computes, then time calls until told to end."
    say = lambda **what: print(json.dumps(what), file=answers, flush=True)
    try:
        forward, both = MAKERS[name](order["unit"], order["case"])
        before = resident()
        Y = np.asarray(forward())
        probe = {"Y": Y[:, 0, :4].ravel().tolist()}
        if both:
            Y, dX = both()
            probe |= {"dX": dX[:, 0, :4].ravel().tolist()}
        calls = {"forward": forward} | ({"both": both} if both else {})
        del Y
        say(probe=probe)
    except Exception as e:  # a contestant that cannot do a case is reported, and left out
        return say(error=f"{type(e).__name__}: {e}"[:300])
    for line in sys.stdin:
        what = json.loads(line)["time"]
        if what == "end":
            return say(memory=round(max(record.peak_mib() - before, 0), 1))
        if what not in calls:
            say(ms=None)
            continue
        time.sleep(0.03)  # the threads of the contestant before come to rest
        f, end, times = calls[what], time.perf_counter() + 0.02, []
        f()
        while time.perf_counter() < end:
            f()
        end = time.perf_counter() + 0.05
        while not times or len(times) < 5 and time.perf_counter() < end:
            start = clock()
            f()
            times.append(1e3 * (clock() - start))
        say(ms=float(np.median(times)))


class Process:
    "A contestant."

    def __init__(self, name):
        command = [sys.executable, __file__, "--worker", name, "--threads", str(args.threads)]
        self.name, self.process = name, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": "the process died"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def layers(unit, peak, names):
    "The rows of a unit: every case."
    team = [Process(name) for name in names]
    try:
        for case in CASES:
            row = {"unit": unit, **case, "mflop": round(operations(unit, case), 1), "peak": peak}
            print(unit, case, flush=True)
            yield row | measured(team, unit, case, row["mflop"])
    finally:
        for contestant in team:
            contestant.close()


def measured(team, unit, case, mflop):
    "One case: figures of all contestants."
    answers = {c.name: c.tell(unit=unit, case=case) for c in team}
    ready = [c for c in team if "error" not in answers[c.name]]
    probe = {c.name: answers[c.name]["probe"] for c in ready}
    times = {c.name: {"forward": [], "both": []} for c in ready}
    for turn in range(args.repeat):
        for what in ("forward", "both"):
            for c in ready[turn % len(ready):] + ready[: turn % len(ready)]:
                if (ms := c.tell(time=what)["ms"]) is not None:
                    times[c.name][what].append(ms)
                if c.name in ("seqbook NumPy", "textbook"):
                    time.sleep(0.15)  # OpenBLAS's threads ask for work for a tenth of a second before they sleep
    memory = {c.name: c.tell(time="end")["memory"] for c in ready}
    figures = {}
    for name, of in times.items():
        figures[name] = {"added_mib": memory[name], "differs": round(max(
            float(np.abs(np.subtract(probe[name][k], probe["PyTorch"][k])).max()) for k in probe[name]), 8) if "PyTorch" in probe else None}
        for what, ms in of.items():
            if ms:
                middle = float(np.median(ms))
                rate = mflop * (3 if what == "both" else 1) / middle
                figures[name][what] = {"ms": round(middle, 4), "best": round(min(ms), 4), "gflops": round(rate, 2)}
    return {"results": figures, "left_out": {n: a["error"] for n, a in answers.items() if "error" in a}}


# ---------------------------------------------------------------- printing

def ratios(rows, unit, what, name="seqbook fast", peer="PyTorch"):
    "The peer's time over ours, for every case of a unit."
    pairs = [(r["results"].get(peer, {}).get(what), r["results"].get(name, {}).get(what)) for r in rows if r["unit"] == unit]
    return [a["ms"] / b["ms"] for a, b in pairs if a and b]


def mean(x):
    "The geometric mean."
    return math.exp(sum(map(math.log, x)) / len(x)) if x else float("nan")


def label(row):
    return f"{row['T']}, {row['B']}, {row['n_x']}, {row['n_a']}" + ("" if row["kind"] == "plain" else f" {row['kind']}")


def table(rows):
    "Milliseconds, and for seqbook and PyTorch GFLOP/s, the share of the peak, and memory."
    for unit in UNITS:
        for what in ("forward", "both"):
            some = [r for r in rows if r["unit"] == unit]
            if not some:
                continue
            yield f"\n{unit.upper()}, {'forward' if what == 'forward' else 'forward and backward'}: ms"
            yield f"{'T, B, n_x, n_a':<28}" + "".join(f"{n:>14}" for n in NAMES) + f"{'PyTorch/fast':>14}"
            for r in some:
                ms = {n: r["results"].get(n, {}).get(what, {}).get("ms") for n in NAMES}
                ratio = ms["PyTorch"] / ms["seqbook fast"] if ms["PyTorch"] and ms["seqbook fast"] else float("nan")
                yield f"{label(r):<28}" + "".join(f"{ms[n]:>14.3f}" if ms[n] else f"{'-':>14}" for n in NAMES) + f"{ratio:>14.2f}"
            x = ratios(rows, unit, what)
            yield f"{'geometric mean of PyTorch/fast':<40}{mean(x):.2f}, least {min(x, default=float('nan')):.2f}"
    yield "\nGFLOP/s (share of the peak product rate), and MiB added"
    four = [(n, w) for n in ("seqbook fast", "PyTorch") for w in ("forward", "both")]
    yield f"{'':<38}" + "".join(f"{n + ' ' + w:>24}" for n, w in four) + f"{'fast MiB':>10}{'PyTorch MiB':>13}"
    for r in rows:
        cells = [r["results"].get(n, {}).get(w) for n, w in four]
        shown = "".join(f"{c['gflops']:>16.0f} ({100 * c['gflops'] / r['peak']:3.0f} %)" if c else f"{'-':>24}" for c in cells)
        mib = [r["results"].get(n, {}).get("added_mib", float("nan")) for n in ("seqbook fast", "PyTorch")]
        yield f"{r['unit'].upper():<6}{label(r):<32}{shown}{mib[0]:>10.0f}{mib[1]:>13.0f}"


# ---------------------------------------------------------------- the other parts

def best(f, seconds=0.3):
    "The least of several times, in seconds."
    f()
    least, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        f()
        least = min(least, time.perf_counter() - start)
    return least


def median(f, repeat=None):
    "The median time, in milliseconds."
    f()
    times = []
    for _ in range(repeat or args.repeat):
        start = time.perf_counter()
        f()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def rested(f):
    "The same, after a rest and some calls that are not timed: a BLAS's threads stay awake for a while after their work."
    f()
    time.sleep(0.2)
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        f()
    return median(f, 9)


def peak():
    "The fastest product of matrices that can be had here, in GFLOP/s: NumPy's, PyTorch's, and our tile's, on all threads."
    import torch

    from seqbook import kernels_cpu as k
    torch.set_num_threads(args.threads)
    n, rng = 2048, np.random.default_rng(0)
    A, B = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
    a, b = torch.from_numpy(A), torch.from_numpy(B)
    K, wide = 256, 4 * k.BYTES // 4
    X = k.native(rng.normal(size=(1, 6 * 1024, K)).astype(np.float32))
    W, bias, Z = k.lent_array((K * wide,), X.dtype), np.zeros(wide, np.float32), k.lent_array((6 * 1024, wide), X.dtype)
    W[...] = 1
    m = k.Plan(X, wide // 4, 4, None)
    ours = lambda: [m.share(k.input_sums_parts, args.threads, X, W, bias, 0, 4, Z) for _ in range(20)]
    found = {"NumPy": 2 * n**3 / best(lambda: A @ B), "PyTorch": 2 * n**3 / best(lambda: a @ b)}
    found["tile"] = 20 * 2 * X.shape[1] * K * wide / best(ours)
    return {name: round(x / 1e9, 1) for name, x in found.items()}


def growth():
    "Forward and backward of an LSTM as one size changes, ours and PyTorch's, in ms."
    import torch

    from seqbook.backend import fast
    from seqbook.lstm import lstm, lstm_init
    torch.set_num_threads(args.threads)
    base = {"T": 64, "B": 32, "n_x": 128, "n_a": 256}
    axes = {"T": (8, 16, 32, 64, 128, 256), "B": (1, 2, 4, 8, 16, 32, 64, 128), "n_a": (16, 32, 64, 128, 256, 512, 1024)}
    for axis, values in axes.items():
        for value in values:
            T, B, n_x, n_a = (base | {axis: value}).values()
            rng = np.random.default_rng(0)
            p, X, dY = lstm_init(0, n_x, n_a), *(rng.normal(size=(T, B, n)).astype(np.float32) for n in (n_x, n_a))
            layer, x, d = torch.nn.LSTM(n_x, n_a), torch.from_numpy(X).requires_grad_(), torch.from_numpy(dY)

            def numpy(p=p, X=X, dY=dY):
                with fast(False):
                    lstm(p, X)[2](dY)

            def theirs(layer=layer, x=x, d=d):
                x.grad = None
                layer.zero_grad(set_to_none=True)
                layer(x)[0].backward(d)
            calls = {"seqbook fast": lambda p=p, X=X, dY=dY: lstm(p, X)[2](dY), "PyTorch": theirs, "seqbook NumPy": numpy}
            yield {"axis": axis, "value": value, **{name: round(rested(f), 4) for name, f in calls.items()}}


def sampling():
    "Microseconds for each character of one stream: embedding, LSTM, output, softmax, draw."
    import torch

    from seqbook.backend import fast
    from seqbook.language_model import LanguageModel
    from seqbook.lstm import LSTM, lstm_to_pytorch
    from seqbook.notation import Vocabulary
    from seqbook.sampling import generate
    torch.set_num_threads(1)  # faster than two for one row
    v, length = Vocabulary.characters("".join(map(chr, range(32, 127)))), 1000
    for n_a in (64, 128, 256, 512):
        model = LanguageModel(v, LSTM(64, n_a))
        E, out = torch.from_numpy(model.embedding.params.E), torch.nn.Linear(n_a, len(v))
        out.weight.data, out.bias.data = torch.from_numpy(model.output.params.Wya), torch.from_numpy(model.output.params.by)
        layer = torch.nn.LSTM(64, n_a)
        cell = torch.nn.LSTMCell(64, n_a)
        for key, w in lstm_to_pytorch(model.layer.params).items():
            getattr(layer, key + "_l0").data = getattr(cell, key).data = torch.from_numpy(w)

        def loop(step, E=E, out=out, n_a=n_a):
            "The loop of a tutorial."
            torch.manual_seed(0)
            with torch.inference_mode():
                i, state = torch.tensor([0]), (torch.zeros(1, n_a), torch.zeros(1, n_a))
                for _ in range(length):
                    a, state = step(E[i], state)
                    i = torch.multinomial(torch.softmax(out(a), -1), 1)[0]

        def numpy(model=model):
            with fast(False):
                generate(model, "a", length)

        def with_cell(x, state, cell=cell):
            state = cell(x, state)
            return state[0], state
        calls = {"seqbook fast": lambda model=model: generate(model, "a", length), "seqbook NumPy": numpy,
                 "PyTorch nn.LSTM": lambda layer=layer: loop(layer), "PyTorch nn.LSTMCell": lambda f=with_cell: loop(f)}
        yield {"n_a": n_a, "microseconds": {name: round(1e3 * median(f, 5) / length, 2) for name, f in calls.items()}}


def curve(name, n_a=256, B=64, T=64, n_x=64, lr=2e-3, log=25):
    "Train on Shakespeare's works until the mean loss of 50 steps is low enough: seconds, steps, memory, and the curve."
    from seqbook.data import shakespeare
    from seqbook.language_model import LanguageModel, split_works
    from seqbook.lstm import LSTM, lstm_to_pytorch
    from seqbook.notation import Vocabulary
    from seqbook.optim import Adam
    from seqbook.training import Stream
    text = split_works(shakespeare("complete")).train
    vocabulary = Vocabulary.characters(text)
    ids, model = vocabulary.encode(text), LanguageModel(vocabulary, LSTM(n_x, n_a))
    steps, losses, points, start = 0, [], [], None

    def note(loss):
        nonlocal steps
        steps += 1
        losses.append(loss)
        if steps % log == 0:
            points.append((round(time.perf_counter() - start, 2), steps, round(float(np.mean(losses[-50:])), 4)))
            return points[-1][2] <= args.loss or points[-1][0] > args.seconds
        return False

    if name == "seqbook":
        def callback(run):
            run.stop = note(run.window[-1][0] if run.window else run.history["loss"][1][-1])
        model.fit(ids[:20000], steps=2, batch_size=B, T=T, optimizer=Adam(1e-9), progress=False)  # compiles, changes next to nothing
        start = time.perf_counter()
        model.fit(ids, steps=10**6, batch_size=B, T=T, optimizer=Adam(lr), clip=1.0, progress=False, callbacks=[callback])
    else:
        import torch
        torch.set_num_threads(args.threads)
        E = torch.nn.Embedding.from_pretrained(torch.from_numpy(model.embedding.params.E), freeze=False)
        layer, out = torch.nn.LSTM(n_x, n_a), torch.nn.Linear(n_a, len(vocabulary))
        for key, w in lstm_to_pytorch(model.layer.params).items():
            getattr(layer, key + "_l0").data = torch.from_numpy(w)
        layer.bias_hh_l0.requires_grad_(False)  # one bias, as here
        out.weight.data, out.bias.data = torch.from_numpy(model.output.params.Wya), torch.from_numpy(model.output.params.by)
        given = [p for part in (E, layer, out) for p in part.parameters() if p.requires_grad]

        def step(optimizer, batches, state):
            (inputs, targets), new = batches.next()
            state = None if new or state is None else tuple(s.detach() for s in state)
            optimizer.zero_grad(set_to_none=True)
            Y, state = layer(E(torch.from_numpy(np.ascontiguousarray(inputs))), state)
            right = torch.from_numpy(np.ascontiguousarray(targets)).reshape(-1).long()
            loss = torch.nn.functional.cross_entropy(out(Y).reshape(len(right), -1), right)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(given, 1.0)
            optimizer.step()
            return loss.item(), state

        warm, batches = torch.optim.Adam(given, 1e-9), Stream(ids[:20000], B, T)
        for _ in range(2):  # loads what is loaded late, and changes next to nothing
            step(warm, batches, None)
        optimizer, batches, state, done, start = torch.optim.Adam(given, lr), Stream(ids, B, T), None, False, time.perf_counter()
        while not done:
            loss, state = step(optimizer, batches, state)
            done = note(loss)
    return {"seconds": points[-1][0], "steps": steps, "loss": points[-1][2], "ms_per_step": round(1e3 * points[-1][0] / steps, 2),
            "peak_mib": record.peak_mib(), "curve": points}


def training():
    "Both, each in a process of its own."
    for name in ("seqbook", "PyTorch"):
        options = {"worker": f"train {name}", "threads": args.threads, "loss": args.loss, "seconds": args.seconds}
        command = [sys.executable, __file__, *(str(x) for k, v in options.items() for x in (f"--{k}", v))]
        yield {"name": name, **json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])}


# ---------------------------------------------------------------- the ladder of the chapter

def kernels():
    "Compiled functions of the ladder that are in no module."
    from numba import njit

    from seqbook import kernels_cpu as k

    @njit(nogil=True)
    def naive(A, W, C):
        for i in range(A.shape[0]):
            for j in range(W.shape[1]):
                s = np.float32(0)
                for m in range(A.shape[1]):
                    s += A[i, m] * W[m, j]
                C[i, j] = s

    @njit(nogil=True, error_model="numpy", _nrt=False)
    def tiled(A, W, C, zero, rows, panel, step):
        (M, K), N, wide = A.shape, C.shape[1], 4 * k.lanes(A)
        for p in range(N // wide):
            m = 0
            while m < M:
                n = min(rows, M - m)
                k.product4(n, A, m * K, K, 1, W, p * panel, step, K, zero, 0, 0, C, m * N + p * wide, N)
                m += n

    @njit(nogil=True, error_model="numpy", _nrt=False)
    def sums(X, A, W, bias, n, Z):
        (B, n_x), L, width = X.shape, k.lanes(X), A.shape[1]
        wide = 4 * L
        for i in range(0, width, L):
            b = 0
            while b < B:
                rows, w, z = k.height(B - b), i * 4 * (n_x + n), b * 4 * width + 4 * i
                k.product4(rows, X, b * n_x, n_x, 1, W, w, wide, n_x, bias, 4 * i, 0, Z, z, 4 * width)
                k.product4(rows, A, b * width, width, 1, W, w + n_x * wide, wide, n, Z, z, 4 * width, Z, z, 4 * width)
                b += rows
    return naive, tiled, sums


def ladder():
    "GFLOP/s, rung by rung: one product, (32, 256) @ (256, 1024); then an LSTM's forward pass, T, B, n_x, n_a = 64, 32, 128, 256."
    from seqbook import kernels_cpu as k
    from seqbook.lstm import LSTMState, lstm_init
    from seqbook.rnn import sigmoid
    naive, tiled, sums = kernels()
    rng, wide, f4 = np.random.default_rng(0), k.BYTES, np.dtype("f4")
    A, W, C, packed = (k.lent_array(shape, f4) for shape in ((32, 256), (256, 1024), (32, 1024), (256 * 1024,)))
    A[...], W[...], zero = rng.normal(size=A.shape), rng.normal(size=W.shape), np.zeros(wide, np.float32)
    k.pack_columns(0, 1, W, np.array([0]), 256, 256, packed)
    rung = lambda step, operations, f: {"step": step, "gflops": round(operations / best(f) / 1e9, 1)}
    for step, f in {"three loops, compiled": lambda: naive(A, W, C),
                    "vectors, one row at a time": lambda: tiled(A, W, C, zero, 1, wide, 1024),
                    f"a tile of {k.ROWS} rows in registers": lambda: tiled(A, W, C, zero, k.ROWS, wide, 1024),
                    "weights packed": lambda: tiled(A, packed, C, zero, k.ROWS, 256 * wide, wide)}.items():
        yield rung(step, 2 * 32 * 256 * 1024, f)
    T, B, n_x, n = 64, 32, 128, 256
    p, X = lstm_init(0, n_x, n), k.native(rng.normal(size=(T, B, n_x)).astype(np.float32))
    m, q = k.Plan(X, n, 4, None), type(p)(*map(k.native, p[:3]))
    A, C, G, P, tiles = m.states(0), m.states(0), m.buffer(T, B, 4, n), k.native(np.zeros((0, n), np.float32)), m.tiles()
    W, bias = k.pack(m, q, range(4), range(4), 1)
    some = lambda t, steps: (A[t : t + steps + 1], C[t : t + steps + 1], G[t : t + steps], tiles)
    nowhere = np.zeros(0, np.int64)
    given = lambda t, steps, line=nowhere: (line, X[t : t + steps], W, bias[None], False, P, True, n, m.lengths, *some(t, steps))

    def apart():
        "The products compiled, the gates NumPy's."
        state, Z, L = LSTMState(*(np.zeros((B, n), np.float32) for _ in range(2))), m.buffer(B, 4 * n), m.lanes
        for x in X:
            sums(x, state.a, W, bias, n, Z)
            zu, zf, zc, zo = (Z.reshape(B, n // L, 4, L)[:, :, g].reshape(B, n) for g in range(4))
            c = sigmoid(zu) * np.tanh(zc) + sigmoid(zf) * state.c
            state = LSTMState(sigmoid(zo) * np.tanh(c), c)
    operations = 2 * T * B * 4 * n * (n + n_x)
    yield rung("LSTM: compiled products, gates in NumPy", operations, apart)
    yield rung("LSTM: gates in the same loop", operations, lambda: m.share(k.lstm_forward_parts, 1, *given(0, T)))
    yield rung(f"LSTM: {args.threads} threads, a call for every step", operations,
               lambda: [m.share(k.lstm_forward_parts, args.threads, *given(t, 1)) for t in range(T)])

    def meeting():
        "All examples, a share of the units."
        line = np.zeros(k.LINE, np.int64)
        line[k.PATIENT] = 10**6
        m.share(k.lstm_forward_parts, args.threads, *given(0, T, line))
    yield rung(f"LSTM: {args.threads} threads share the units", operations, meeting)
    yield rung(f"LSTM: {args.threads} threads share the examples", operations,
               lambda: m.share(k.lstm_forward_parts, args.threads, *given(0, T)))


def first_calls():
    "Seconds of the first forward and backward call of each unit, compiled anew and from numba's cache, in processes of their own."
    import tempfile
    code = ("import time, numpy as np, seqbook.{u} as u, seqbook.kernels_cpu as k\np, X = u.{u}_init(0, 4, 5), np.ones((3, 2, 4), 'f4')\n"
            "s = time.perf_counter()\nY, _, back = k.{u}_compiled(p, X)\nback(Y)\nprint(time.perf_counter() - s)")
    with tempfile.TemporaryDirectory() as folder:
        for unit in UNITS:
            env = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder) / unit), "PYTHONPATH": str(record.RESULTS.parents[1])}
            run = lambda env=env, unit=unit: float(subprocess.run(
                [sys.executable, "-c", code.format(u=unit)], env=env, check=True, capture_output=True, text=True).stdout)
            yield {"unit": unit.upper(), "compiled": round(run(), 2), "from the cache": round(run(), 2)}


# ---------------------------------------------------------------- all of it

def keep(part, rows, unit=None):
    "Put a part into the file of results, with its commit and date."
    if args.results == "-":
        return
    path = Path(args.results)
    kept = json.loads(path.read_text()) if path.exists() else {}
    if unit:
        rows = sorted([r for r in kept.get(part, []) if r["unit"] != unit] + rows, key=lambda r: UNITS.index(r["unit"]))
    from seqbook.kernels_cpu import BYTES
    about = {"commit": record.commit(), "date": record.today(), "note": args.note, "threads": args.threads}
    taken = kept.get("taken", {}) | {f"{part} {unit}" if unit else part: about}
    versions = record.versions("numpy", "numba", "llvmlite", "torch", "keras", "jax", "onnxruntime")
    head = {"what": "recurrent layers on the CPU, float32", "machine": record.machine() | {"vector_bytes": BYTES}, "versions": versions}
    record.write(path, head | {k: v for k, v in kept.items() if k not in head} | {"taken": taken, part: rows})


def main():
    if args.worker:
        kind, _, name = args.worker.partition(" ")
        return print(json.dumps(curve(name))) if kind == "train" and name else worker(args.worker)
    if args.show:
        return print("\n".join(table(json.loads(Path(args.results).read_text())[TABLE])))
    parts = args.part or PARTS
    found = peak()
    print("peak product rate, GFLOP/s:", found, flush=True)
    if "peak" in parts or "layers" in parts:
        keep("peak", found)
    if "layers" in parts:
        rows = []
        for unit in args.unit or UNITS:
            some = list(layers(unit, max(found.values()), args.only or NAMES))
            keep(TABLE, some, unit)
            rows += some
        print("\n".join(table(rows)), flush=True)
        for r in rows:
            for name, error in r["left_out"].items():
                print(f"left out: {name}, {r['unit']} {label(r)}: {error}")
    for part, measure in {"ladder": ladder, "first": first_calls, "growth": growth, "sampling": sampling, "training": training}.items():
        if part in parts:
            rows = []
            for row in measure():
                print({k: v for k, v in row.items() if k != "curve"}, flush=True)
                rows.append(row)
            keep(part, rows)


if __name__ == "__main__":
    main()

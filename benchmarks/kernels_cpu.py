"""Compiled kernels beside NumPy and PyTorch on the CPU: the ladder of the chapter, and whole layers.

    python benchmarks/kernels_cpu.py                      # a few minutes; needs numba and PyTorch
    python benchmarks/kernels_cpu.py --repeat 3 --results -    # a quick look; writes no result

    python benchmarks/kernels_cpu.py --threads 1          # adds a run on one thread to the file, or replaces it

The contestants take turns, so that whatever else the machine does hits all of them. Each call is timed after one call that is
not. One thread is timed by the processor's time, which other work hardly touches; several threads by the clock, and then the
script waits before each call for a moment when the processors are idle (--patience seconds at most). Times are milliseconds,
the best and the median of --repeat calls, and "quiet" is the share of calls that found such a moment. Forward runs without a
graph in PyTorch; forward and backward yields all gradients.
"""
import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import record

CELLS = ((32, 32, 64, 128), (64, 32, 128, 256), (100, 64, 128, 512), (50, 1, 64, 128), (128, 16, 256, 256))
FIELDS = ("T", "B", "n_x", "n_a")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of every contestant")
    p.add_argument("--repeat", type=int, default=9, help="timed calls of each")
    p.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet moment, at each call")
    p.add_argument("--ladder", action="store_true", help="the rungs of the ladder and the first calls only")
    p.add_argument("--results", default=str(record.RESULTS / "kernels_cpu.json"), help="file for the result; - for none")
    p.add_argument("--note", default="", help="what the reader of the result should know, such as other work on the machine")
    return p.parse_args()


args = arguments()
for name in record.THREADS:
    os.environ[name] = str(args.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numba import njit  # noqa: E402

from seqbook import kernels_cpu as k  # noqa: E402
from seqbook.gru import gru_hoisted, gru_init  # noqa: E402
from seqbook.lstm import LSTMState, lstm_hoisted, lstm_init  # noqa: E402
from seqbook.rnn import rnn_hoisted, rnn_init, sigmoid  # noqa: E402

UNITS = {
    "RNN": (rnn_init, rnn_hoisted, k.rnn_compiled, torch.nn.RNN),
    "GRU": (gru_init, gru_hoisted, k.gru_compiled, torch.nn.GRU),
    "LSTM": (lstm_init, lstm_hoisted, k.lstm_compiled, torch.nn.LSTM),
}


def busy():
    "The share of the processors' time that went to others in the last hundredth of a second."
    if not Path("/proc/stat").exists():
        return 0.0
    ticks = lambda: np.array(Path("/proc/stat").read_text().splitlines()[0].split()[1:9], float)
    before = ticks()
    time.sleep(0.05)
    spent = ticks() - before
    return 1 - spent[3] / max(spent.sum(), 1)


def quiet():
    "Wait for a quiet moment; False where there was none."
    end = time.monotonic() + args.patience
    while args.threads > 1 and time.monotonic() < end:
        if busy() < 0.1:
            return True
    return args.threads == 1


def race(contestants, clock=time.process_time if args.threads == 1 else time.perf_counter):
    "Best and median milliseconds, the contestants taking turns; and how many calls found the machine quiet."
    times, calm = {name: [] for name in contestants}, 0
    for f in contestants.values():
        f()
    for _ in range(args.repeat):
        for name, f in contestants.items():
            calm += quiet()
            f()
            start = clock()
            f()
            times[name].append(1e3 * (clock() - start))
    figures = {name: {"best": round(min(t), 3), "median": round(float(np.median(t)), 3)} for name, t in times.items()}
    return figures | {"quiet": round(calm / (args.repeat * len(contestants)), 2)}


def lengths_of(T, B):
    "Lengths from a quarter of T to T, the longest first, as PyTorch packs them fastest."
    lengths = np.sort(np.random.default_rng(2).integers(T // 4, T + 1, B))[::-1].copy()
    lengths[0] = T
    return lengths


def peer(layer, X, dY, lengths):
    "PyTorch's forward pass, and forward and backward."
    x, d = torch.from_numpy(X).requires_grad_(), torch.from_numpy(dY)
    n = None if lengths is None else torch.from_numpy(lengths)

    def outputs():
        if n is None:
            return layer(x)[0]
        packed, _ = layer(torch.nn.utils.rnn.pack_padded_sequence(x, n))
        return torch.nn.utils.rnn.pad_packed_sequence(packed)[0]

    def forward():
        with torch.no_grad():
            outputs()

    def both():
        x.grad = None
        layer.zero_grad(set_to_none=True)
        outputs().backward(d)

    return forward, both


def calls_of(form, *given):
    "A form's forward pass, and forward and backward."
    *arguments, dY = given
    return lambda: form(*arguments), lambda: form(*arguments)[2](dY)


def layers():
    "Every unit in every cell: milliseconds of forward, and of forward and backward."
    for unit, (init, hoisted, compiled, torch_layer) in UNITS.items():
        for cell, ragged in [(c, False) for c in CELLS] + [(CELLS[1], True)]:
            T, B, n_x, n_a = cell
            rng = np.random.default_rng(0)
            p, X, dY = init(0, n_x, n_a), *(rng.normal(size=(T, B, n)).astype(np.float32) for n in (n_x, n_a))
            lengths = lengths_of(T, B) if ragged else None
            calls = {name: calls_of(f, p, X, None, lengths, dY) for name, f in (("NumPy", hoisted), ("compiled", compiled))}
            calls["PyTorch"] = peer(torch_layer(n_x, n_a), X, dY, lengths)
            row = {"unit": unit, **dict(zip(FIELDS, cell, strict=True)), "ragged": ragged}
            for i, what in enumerate(("forward", "both")):
                row[what] = race({name: pair[i] for name, pair in calls.items()})
            print(row, flush=True)
            yield row


@njit(cache=True)
def naive(A, W, C):
    for i in range(A.shape[0]):
        for j in range(W.shape[1]):
            s = np.float32(0)
            for m in range(A.shape[1]):
                s += A[i, m] * W[m, j]
            C[i, j] = s


@njit(**k.OPTIONS)
def tiled(A, W, C, zero, rows, panel, step):
    (M, K), N, wide = A.shape, C.shape[1], 4 * k.lanes(A)
    for p in range(N // wide):
        m = 0
        while m < M:
            n = min(rows, M - m)
            k.product4(n, A, m * K, K, 1, W, p * panel, step, K, zero, 0, 0, C, m * N + p * wide, N)
            m += n


def products():
    "The rungs that are about one product, (32, 256) @ (256, 1024) in float32, on one thread."
    rng, wide = np.random.default_rng(0), k.BYTES
    A, W, C, packed = k.empty((32, 256), np.dtype("f4")), k.empty((256, 1024), np.dtype("f4")), *(
        k.empty(s, np.dtype("f4")) for s in ((32, 1024), (256 * 1024,)))
    A[...], W[...], zero = rng.normal(size=A.shape), rng.normal(size=W.shape), np.zeros(wide, np.float32)
    k.pack_columns(W, np.array([0]), 256, 256, packed)
    many = lambda f, n: lambda: [f() for _ in range(n)]
    return {
        "three loops, compiled": (many(lambda: naive(A, W, C), 2), 2),
        "vectors, one row at a time": (many(lambda: tiled(A, W, C, zero, 1, wide, 1024), 20), 20),
        f"a tile of {k.ROWS} rows in registers": (many(lambda: tiled(A, W, C, zero, k.ROWS, wide, 1024), 20), 20),
        "weights packed": (many(lambda: tiled(A, packed, C, zero, k.ROWS, 256 * wide, wide), 20), 20),
    }


def ladder():
    "Billions of operations a second, rung by rung; the last ones are an LSTM's forward pass at T, B, n_x, n_a = 64, 32, 128, 256."
    for step, (f, calls) in products().items():
        ms = race({step: f}, time.process_time)[step]["best"]
        yield {"step": step, "gflops": round(2 * 32 * 256 * 1024 * calls / ms / 1e6, 1)}
    T, B, n_x, n = CELLS[1]
    p, X = lstm_init(0, n_x, n), np.random.default_rng(0).normal(size=(T, B, n_x)).astype(np.float32)
    m = k.Plan(X, n, 4, None)
    A, C, G, P = m.states(0), m.states(0), m.buffer(T, B, 4, n), np.zeros((0, n), np.float32)
    W, bias = k.pack(m, p, range(4), range(4), 1)
    step = lambda parts, t: k.in_parts(parts, lambda part, parts: k.lstm_forward(
        part, parts, X[t : t + 1], W, bias, P, True, n, m.lengths, A[t:], C[t:], G[t:], m.S))
    whole = lambda parts: k.in_parts(parts, lambda part, parts: k.lstm_forward(
        part, parts, X, W, bias, P, True, n, m.lengths, A, C, G, m.S))
    rungs = {
        "LSTM: compiled products, gates in NumPy": lambda: apart(m, X, W, bias, n),
        "LSTM: gates in the same loop": lambda: whole(1),
        f"LSTM: {args.threads} threads, which meet at every step": lambda: [step(args.threads, t) for t in range(T)],
        f"LSTM: {args.threads} threads, which meet at the end": lambda: whole(args.threads),
    }
    for name, f in rungs.items():
        times = race({name: f}, time.perf_counter if "threads" in name else time.process_time)
        row = {"step": name, "gflops": round(2 * T * B * 4 * n * (n + n_x) / times[name]["best"] / 1e6, 1)}
        yield row | ({"quiet": times["quiet"]} if "threads" in name else {})


@njit(**k.OPTIONS)
def sums(X, A, W, bias, n, Z):
    "The four gates' sums of one step, panel by panel."
    (B, n_x), L, width = X.shape, k.lanes(X), A.shape[1]
    wide = 4 * L
    for i in range(0, width, L):
        b = 0
        while b < B:
            rows, w, z = k.height(B - b), i * 4 * (n_x + n), b * 4 * width + 4 * i
            k.product4(rows, X, b * n_x, n_x, 1, W, w, wide, n_x, bias, 4 * i, 0, Z, z, 4 * width)
            k.product4(rows, A, b * width, width, 1, W, w + n_x * wide, wide, n, Z, z, 4 * width, Z, z, 4 * width)
            b += rows


def apart(m, X, W, bias, n):
    "An LSTM whose products are compiled and whose gates are NumPy's."
    state, Z, L = LSTMState(*(np.zeros((m.B, n), np.float32) for _ in range(2))), m.buffer(m.B, 4 * n), m.lanes
    for x in X:
        sums(x, state.a, W, bias, n, Z)
        zu, zf, zc, zo = (Z.reshape(m.B, n // L, 4, L)[:, :, g].reshape(m.B, n) for g in range(4))
        c = sigmoid(zu) * np.tanh(zc) + sigmoid(zf) * state.c
        state = LSTMState(sigmoid(zo) * np.tanh(c), c)
    return state


def first_calls():
    "Seconds of the first forward and backward call of each unit, compiled anew and from numba's cache, in processes of their own."
    import tempfile
    code = ("import time, numpy as np, seqbook.{u} as u, seqbook.kernels_cpu as k\np, X = u.{u}_init(0, 4, 5), np.ones((3, 2, 4), 'f4')\n"
            "s = time.perf_counter()\nY, _, back = k.{u}_compiled(p, X)\nback(Y)\nprint(time.perf_counter() - s)")
    with tempfile.TemporaryDirectory() as folder:
        for unit in ("rnn", "gru", "lstm"):
            env = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder) / unit), "PYTHONPATH": str(record.RESULTS.parents[1])}
            run = lambda env=env, unit=unit: float(subprocess.run(
                [os.sys.executable, "-c", code.format(u=unit)], env=env, check=True, capture_output=True, text=True).stdout)
            yield {"unit": unit.upper(), "compiled": round(run(), 2), "from the cache": round(run(), 2)}


def save(result, run=None):
    "Put what was measured into the file of results; a run replaces the one on as many threads."
    if args.results == "-":
        return
    path = Path(args.results)
    kept = json.loads(path.read_text()) if path.exists() else {"runs": []}
    runs = [r for r in kept["runs"] if run is None or r["threads"] != args.threads] + ([run] if run else [])
    record.write(path, kept | result | {"runs": sorted(runs, key=lambda r: r["threads"])})


def main():
    torch.set_num_threads(args.threads)
    result = {
        "what": "compiled kernels on the CPU, float32: rungs in GFLOP/s, layers in milliseconds",
        "machine": record.machine() | {"vector_bytes": k.BYTES},
        "versions": record.versions("numpy", "numba", "torch"),
    }
    run = {"threads": args.threads, "commit": record.commit(), "date": record.today(), "note": args.note,
           "clock": "processor time" if args.threads == 1 else "clock"}
    if args.threads > 1:
        result |= {"ladder": list(ladder()), "first_calls": list(first_calls())}
        save(result)
    if args.ladder:
        return
    save(result, run | {"layers": list(layers())})


if __name__ == "__main__":
    main()

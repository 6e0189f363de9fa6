# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fast kernels for the CPU
# > From a few to hundreds of GFLOP/s on two cores: vectors, register tiles, packed weights, gates while they are warm, and no barriers.

# %%
#| default_exp kernels_cpu

# %%
#| hide
get_ipython().InteractiveTB.set_mode("Minimal")
import json
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
plt.style.use("../book.mplstyle")


# %%
#| hide
def without_numba(lines):
    "Where numba is missing, a cell is replaced by a remark, unless it shows the recorded run."
    return lines if "recorded" in "".join(lines) else ['print("not run here: numba is not installed")\n']

if find_spec("numba") is None:
    get_ipython().input_transformers_cleanup.append(without_numba)

# %%
#| export
import atexit
import math
import os
import platform
from collections import deque
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from itertools import count
from operator import add, mul, sub, truediv
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from seqbook.backend import check_whole
from seqbook.gru import GRUParams, GRUState, check_gru, gru_hoisted
from seqbook.lstm import LSTMParams, LSTMState, lstm_check, lstm_decoupled, lstm_hoisted, lstm_rows
from seqbook.rnn import RNNParams, RNNState, activation_named, check_upstream, read_only, rnn_hoisted, sequence_arguments


# %% [markdown]
# ## The question
#
# The hoisted forms of the units leave one product in the loop over time, $a^{\langle t-1 \rangle} W_{aa}^T$, and NumPy
# hands it to its BLAS. That product is small: a batch of 32 rows, a matrix of 256 by 1024. The BLAS brings both operands
# into an order of its own at each step, multiplies, and hands the result back to memory, from where NumPy fetches it again
# for each `tanh`. A layer computes at a third of what the processor could do, or less.
#
# Can a compiler for Python do better? [Numba](https://numba.pydata.org) translates a Python function through LLVM into
# machine code. Three loops make a matrix product:

# %%
@njit(cache=True)
def naive(A, W, C):
    for i in range(A.shape[0]):
        for j in range(W.shape[1]):
            s = np.float32(0)
            for k in range(A.shape[1]):
                s += A[i, k] * W[k, j]
            C[i, j] = s


# %% [markdown]
# It is right, and slow. A product of $(M, K)$ and $(K, N)$ takes $2MKN$ operations in floating point, so its speed is

# %%
def gflops(f, M, K, N, seconds=0.02):
    "Billions of operations in a second: the best of five tries."
    f()
    once = perf_counter()
    f()
    repeat, best = max(1, int(seconds / (perf_counter() - once))), math.inf
    for _ in range(5):
        start = perf_counter()
        for _ in range(repeat):
            f()
        best = min(best, (perf_counter() - start) / repeat)
    return 2 * M * K * N / best / 1e9


# %%
rng = np.random.default_rng(0)
A, W = rng.normal(size=(32, 256)).astype(np.float32), rng.normal(size=(256, 1024)).astype(np.float32)
C = np.empty((32, 1024), np.float32)
naive(A, W, C)
assert np.allclose(C, A @ W, atol=1e-4)

# %% [markdown]
# The speeds of this chapter were measured on one machine and kept with the book. Where a page shows a figure of speed, it is
# from that run; `python benchmarks/kernels_cpu.py` makes it anew. One thread is timed by the processor's time. Several threads
# need idle cores, and a figure that was measured beside other work says so.

# %%
recorded = json.loads(Path("../../benchmarks/results/kernels_cpu.json").read_text())
print(recorded["machine"]["cpu"], "|", recorded["machine"]["cores"], "cores |", ", ".join(f"{k} {v}" for k, v in recorded["versions"].items()))
for row in recorded["ladder"]:
    print(f"{row['step']:<52}{row['gflops']:6.0f} GFLOP/s", "(beside other work)" * (row.get("quiet", 1) < 0.5))


# %% [markdown]
# This chapter climbs that ladder, one rung at a time. What is left at its end takes the place of the hoisted forms by
# itself, wherever numba is installed: `pip install "seqbook[fast]"`.
#
# ## Rung 1: vectors
#
# A core of today multiplies and adds whole *vectors*: 16 numbers of float32 with AVX-512, 8 with AVX2, 4 with NEON or SSE.
# The compiler may not do that to the loop above. Adding in another order changes the rounding, and it cannot know that `C`
# does not lie on top of `A`. So we say it ourselves: a type of vectors, as wide as the machine has them.

# %%
#| exporti
def vector_bytes():
    "Bytes of the widest vector register of the processor that numba compiles for."
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


BYTES = vector_bytes()
ROWS = 3 if BYTES < 64 and platform.machine().lower() in ("x86_64", "amd64") else 6  # 16 registers there, 32 elsewhere


# %%
#| exporti
class Vector(types.Type):
    "Numba's type of a full register of float32 or float64."

    def __init__(self, scalar):
        self.scalar, self.lanes = scalar, 8 * BYTES // scalar.bitwidth
        self.ir = ir.VectorType(ir.FloatType() if scalar.bitwidth == 32 else ir.DoubleType(), self.lanes)
        super().__init__(name=f"Vector({scalar}, {self.lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    "In machine code, a Vector is LLVM's vector."

    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.ir)


# %% [markdown]
# Numba calls a function that writes LLVM's instructions itself an *intrinsic*. The first ones fetch a vector from an array,
# put one back, and fill one with a number. An array is addressed as the memory it is: by the number of elements from its
# first, whatever its shape.

# %%
#| exporti
def spot(context, builder, array_type, array, index, kind=None):
    "The address of an element; as that of a vector where a kind of vector is given."
    at = builder.gep(context.make_array(array_type)(context, builder, array).data, [index])
    return builder.bitcast(at, kind.as_pointer()) if kind else at


def spread(builder, number, kind):
    "A vector of one number."
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count))


@intrinsic
def load(typing, array, index):
    "The vector that begins at this element."
    v, align = Vector(array.dtype), array.dtype.bitwidth // 8
    write = lambda context, builder, sig, args: builder.load(spot(context, builder, sig.args[0], *args, v.ir), align=align)
    return v(array, types.intp), write


# %%
#| exporti
@intrinsic
def store(typing, array, index, value):
    "Put a vector where this element begins."
    def write(context, builder, sig, args):
        builder.store(args[2], spot(context, builder, sig.args[0], *args[:2], value.ir), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()
    return types.void(array, types.intp, value), write


@intrinsic
def splat(typing, array, number):
    "A vector of one number, for arithmetic with the vectors of this array."
    v = Vector(array.dtype)
    write = lambda context, builder, sig, args: spread(builder, context.cast(builder, args[1], sig.args[1], v.scalar), v.ir)
    return v(array, number), write


@intrinsic
def lanes(typing, array):
    "How many elements of this array make a vector; a constant to the compiler."
    n = Vector(array.dtype).lanes
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, n)


# %% [markdown]
# With `+`, `-`, `*` and `/` between vectors, and between a vector and a number, formulas keep the look they have in the
# lecture. The flag `contract` lets the processor do a product and a sum in one instruction with one rounding.

# %%
#| exporti
def arithmetic(operator, instruction):
    "Teach an operator to work on vectors."
    @type_callable(operator)
    def typed(context):
        def kind(a, b):
            vectors = [x for x in (a, b) if isinstance(x, Vector)]
            if vectors and all(x == vectors[0] or isinstance(x, types.Number) for x in (a, b)):
                return vectors[0]
        return kind

    def write(context, builder, sig, args):
        v = sig.return_type
        a, b = (x if t == v else spread(builder, context.cast(builder, x, t, v.scalar), v.ir) for x, t in zip(args, sig.args))
        return getattr(builder, instruction)(a, b, flags=("contract",))

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operator, *pair)(write)


for _operator, _instruction in ((add, "fadd"), (sub, "fsub"), (mul, "fmul"), (truediv, "fdiv")):
    arithmetic(_operator, _instruction)

# %% [markdown]
# How functions are compiled: without Python's lock, so that threads run side by side; kept on disk for the next start; and
# without counting references to arrays, which numba does with two locked instructions for each array passed to a function.
# That alone took a quarter of the time of an LSTM's forward pass. Nothing here allocates, so there is nothing to count.

# %%
#| exporti
OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
INLINE = OPTIONS | {"forceinline": True}


# %%
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
def saxpy(a, x, y):
    "y += a x, a vector at a time; the length must be a multiple of the lanes."
    for i in range(0, x.size, lanes(x)):
        store(y, i, load(x, i) * a + load(y, i))

x, y = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
saxpy(2.0, x, y)
assert np.array_equal(y, 2 * x + 1)


# %% [markdown]
# ## Rung 2: a tile of registers
#
# A vector instruction that multiplies and adds needs three operands. If each came from memory, the loads would be the
# limit: two a cycle, against two multiplications. The way out is to keep a whole *tile* of the result in registers. Take
# $R$ rows of `A` and $V$ vectors of columns. At each $k$, fetch $V$ vectors of weights and $R$ numbers, and do $R \cdot V$
# multiplications:
#
# $$ C_{rv} \leftarrow C_{rv} + A_{rk} \, W_{kv}, \qquad r = 1 \dots R,\ v = 1 \dots V. \tag{kernels.1} $$
#
# With $R = 6$ and $V = 4$ that is 24 for 10 fetches, and 24 + 4 + 1 of the 32 registers of AVX-512 or NEON are in use. AVX2
# has 16 of them, and takes $R = 3$.
#
# Writing this by hand, a variable for each register, would take pages. The intrinsic below writes the instructions in a
# Python loop instead, once for each number of rows from 1 to $R$, since a batch of 32 rows leaves a remainder.

# %%
#| exporti
def multiply_add(builder, kind, a, b, c):
    "a * b + c in one instruction, where the machine has one."
    name = f"llvm.fmuladd.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def write_tile(builder, kind, tile, A, A_row, A_step, W, W_step, K, start, start_row, C, C_row):
    "Instructions for equation kernels.1; `tile` lists its (row, vector) pairs."
    word, align = K.type, 4 if isinstance(kind.element, ir.FloatType) else 8
    number = lambda n: ir.Constant(word, n)
    at = lambda base, row, step, v: builder.bitcast(
        builder.gep(base, [builder.add(builder.mul(row, step), number(v * kind.count))]), kind.as_pointer())
    first = {rv: builder.load(at(start, start_row, number(rv[0]), rv[1]), align=align) for rv in tile}
    rows = {r: builder.gep(A, [builder.mul(A_row, number(r))]) for r, _ in tile}
    before, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", K, number(0)), loop, done)
    builder.position_at_end(loop)
    k, now = builder.phi(word), {rv: builder.phi(kind) for rv in tile}
    a = {r: spread(builder, builder.load(builder.gep(row, [builder.mul(k, A_step)])), kind) for r, row in rows.items()}
    w = {v: builder.load(at(W, k, W_step, v), align=align) for _, v in tile}
    new = {(r, v): multiply_add(builder, kind, a[r], w[v], now[r, v]) for r, v in tile}
    following = builder.add(k, number(1))
    for phi, old, value in [(k, number(0), following)] + [(now[rv], first[rv], new[rv]) for rv in tile]:
        phi.add_incoming(old, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, K), loop, done)
    builder.position_at_end(done)
    end = {rv: builder.phi(kind) for rv in tile}
    for rv in tile:
        end[rv].add_incoming(first[rv], before)
        end[rv].add_incoming(new[rv], loop)
    for (r, v), value in end.items():
        builder.store(value, at(C, C_row, number(r), v), align=align)


# %%
#| exporti
def make_tiles(vectors):
    "The product of a few rows with a panel of so many vectors of columns."
    @intrinsic
    def tiles(typing, rows, A, a, A_row, A_step, W, w, W_step, K, start, s, start_row, C, c, C_row):
        def write(context, builder, sig, args):
            here = lambda i: spot(context, builder, sig.args[i], args[i], args[i + 1])
            kind, end = Vector(sig.args[1].dtype).ir, builder.append_basic_block("end")
            operands = here(1), args[3], args[4], here(5), args[7], args[8], here(9), args[11], here(12), args[14]
            choice = builder.switch(args[0], end)
            for n in range(1, ROWS + 1):
                block = builder.append_basic_block(f"rows{n}")
                choice.add_case(ir.Constant(args[0].type, n), block)
                builder.position_at_end(block)
                write_tile(builder, kind, [(r, v) for r in range(n) for v in range(vectors)], *operands)
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()
        i = types.intp
        return types.void(i, A, i, i, i, W, i, i, i, start, i, i, C, i, i), write

    return tiles


tiles4, tiles3 = make_tiles(4), make_tiles(3)


@njit(**OPTIONS)
def product4(rows, A, a, A_row, A_step, W, w, W_step, K, start, s, start_row, C, c, C_row):
    tiles4(rows, A, a, A_row, A_step, W, w, W_step, K, start, s, start_row, C, c, C_row)


@njit(**OPTIONS)
def product3(rows, A, a, A_row, A_step, W, w, W_step, K, start, s, start_row, C, c, C_row):
    tiles3(rows, A, a, A_row, A_step, W, w, W_step, K, start, s, start_row, C, c, C_row)


# %% [markdown]
# The arguments say where each operand lies: the array, the element it begins at, and how far it is to the next row or the
# next $k$. The sums begin with `start`, which may be a bias (one row for all, distance 0), or what an earlier product left.
#
# `height` cuts what is left of a batch into tiles of nearly equal heights: 16 rows are 6 + 5 + 5, not 6 + 6 + 4.

# %%
#| exporti
@njit(**INLINE)
def height(left):
    "Rows of the next tile, of so many rows that are left."
    tiles = -(-left // ROWS)
    return -(-left // tiles)


# %%
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
def tiled(A, W, C, zero, rows, panel, step):
    "A @ W, where `panel` and `step` say where W's panels of columns and their rows lie."
    (M, K), N, wide = A.shape, C.shape[1], 4 * lanes(A)
    for p in range(N // wide):
        m = 0
        while m < M:
            n = min(rows, M - m)
            product4(n, A, m * K, K, 1, W, p * panel, step, K, zero, 0, 0, C, m * N + p * wide, N)
            m += n


# %%
wide, zero = 4 * BYTES // 4, np.zeros(4 * BYTES // 4, np.float32)
assert 1024 % wide == 0
for rows in (1, ROWS):
    tiled(A, W, C, zero, rows, wide, 1024)
    assert np.allclose(C, A @ W, atol=1e-4)


# %% [markdown]
# ## Rung 3: packed weights
#
# In `W` the next row of a panel is 4 KiB away, on another page of memory. All those rows want the same few places of the
# nearest cache. So the weights are *packed* once: panel after panel, each one contiguous. A BLAS does that at each call. A
# layer uses the same weights at all $T$ steps, and packs them once for all of them.
#
# There is more to choose. A panel of four vectors can hold one vector of *each gate*, of the same units: $u$, $f$,
# $\tilde c$, $o$ of units 0 to 15, then of units 16 to 31. Then a tile's result is all that these units of an LSTM need. And
# below the weights of $x$ stand those of $a$: the joined matrix $[W_{ax} \mid W_{aa}]$ of equation 2.3, so that a step adds
# up both products in one tile.
#
# Packing `Waa` means transposing it. A square of vectors is transposed in registers, in $\log_2$ of its size stages.

# %%
#| exporti
@intrinsic
def transpose(typing, W, at, W_row, out, o, out_row):
    "out[o + c * out_row + r] = W[at + r * W_row + c], for a square of as many rows as a vector has lanes."
    v, i = Vector(W.dtype), types.intp
    sig = types.void(W, i, i, out, i, i)

    def write(context, builder, sig, args):
        n, align = v.lanes, W.dtype.bitwidth // 8
        index = lambda start, row, r: builder.add(start, builder.mul(row, ir.Constant(start.type, r)))
        source = lambda r: spot(context, builder, sig.args[0], args[0], index(args[1], args[2], r), v.ir)
        target = lambda r: spot(context, builder, sig.args[3], args[3], index(args[4], args[5], r), v.ir)
        rows = [builder.load(source(r), align=align) for r in range(n)]
        for d in (1 << stage for stage in range(n.bit_length() - 1)):
            for r in (r for r in range(n) if not r & d):
                pair = rows[r], rows[r + d]
                mix = lambda order, pair=pair: builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), n), order))
                rows[r] = mix([n + e - d if e & d else e for e in range(n)])
                rows[r + d] = mix([n + e if e & d else e + d for e in range(n)])
        for r, row in enumerate(rows):
            builder.store(row, target(r), align=align)
        return context.get_dummy_value()
    return sig, write


# %%
#| exporti
@njit(**OPTIONS)
def pack_rows(W, gates, n, blocks, out, start, panel):
    "Rows of W as columns: each panel has `blocks` times one vector of each gate, whose rows begin at `gates`."
    L, K = lanes(W), W.shape[1]
    vectors = gates.size * blocks
    for p in range(-(-n // (L * blocks))):
        for v in range(vectors):
            unit, at, k = (p * blocks + v // gates.size) * L, start + p * panel + v * L, 0
            row = gates[v % gates.size] + unit
            while unit + L <= n and k + L <= K:
                transpose(W, row * K + k, K, out, at + k * vectors * L, vectors * L)
                k += L
            for j in range(k, K):
                for e in range(L):
                    out[at + j * vectors * L + e] = W[row + e, j] if unit + e < n else 0.0


@njit(**OPTIONS)
def pack_columns(W, gates, n, width, out):
    "Columns of W as they are, for products with derivatives: its rows by gates, each filled up with zeros to `width`."
    L, columns, at = lanes(W), W.shape[1], 0
    for p in range(0, columns, 4 * L):
        for row in gates:
            for k in range(width):
                for c in range(p, p + 4 * L, L):
                    if k < n and c + L <= columns:
                        store(out, at, load(W, (row + k) * columns + c))
                    else:
                        for e in range(L):
                            out[at + e] = W[row + k, c + e] if k < n and c + e < columns else 0.0
                    at += L


# %%
packed = np.empty(W.size, np.float32)
pack_columns(W, np.array([0]), 256, 256, packed)
tiled(A, packed, C, zero, ROWS, 256 * wide, wide)
assert np.allclose(C, A @ W, atol=1e-4)

# %% [markdown]
# On the reader's machine, one thread each, in GFLOP/s. Sizes and remainders are tested in `tests/test_kernels_cpu.py`.

# %%
#| eval: false
forms = {"naive": lambda: naive(A, W, C), "vectors": lambda: tiled(A, W, C, zero, 1, wide, 1024),
         "tile": lambda: tiled(A, W, C, zero, ROWS, wide, 1024), "packed": lambda: tiled(A, packed, C, zero, ROWS, 256 * wide, wide)}
for name, f in forms.items():
    print(f"{name:<10}{gflops(f, 32, 256, 1024):8.1f}")

# %% [markdown]
# ## Rung 4: gates while they are warm
#
# When a tile is done, its sums lie in the nearest cache. Now is the time for the gates, and for that `tanh` and the sigmoid
# must work on vectors. Both rest on one function, $e^r - 1$ for small $r$:
#
# $$ x = k \ln 2 + r, \quad |r| \le \tfrac{1}{2} \ln 2, \qquad e^x - 1 = 2^k (e^r - 1) + (2^k - 1). \tag{kernels.2} $$
#
# The series $r + r^2/2! + r^3/3! + \dots$ does the rest. Cut after $r^7$ (float64: $r^{13}$) it leaves out less than a
# quarter of a unit in the last place. Adding and taking away $1.5 \cdot 2^{23}$ rounds to a whole number, which then stands
# in the last bits, ready to become the exponent of $2^k$. $\ln 2$ is split in two, so that $k \ln 2$ is taken away exactly.

# %%
#| exporti
LN2 = Decimal("0.693147180559945309417232121458176568")


def constant(v, x):
    "A vector of one known number."
    return ir.Constant(v.ir, [float(x)] * v.lanes)


@intrinsic
def split_exponent(typing, x):
    "k, as the last bits of a float, and r of equation kernels.2."
    def write(context, builder, sig, args):
        bits, short = (23, 15) if x.scalar.bitwidth == 32 else (52, 41)
        magic, high = constant(x, 1.5 * 2**bits), round(LN2 * 2**short) / 2**short
        raised = multiply_add(builder, x.ir, args[0], constant(x, 1 / LN2), magic)
        k = builder.fsub(raised, magic)
        r = multiply_add(builder, x.ir, k, constant(x, -high), args[0])
        r = multiply_add(builder, x.ir, k, constant(x, Decimal(high) - LN2), r)
        return context.make_tuple(builder, sig.return_type, (raised, r))
    return types.UniTuple(x, 2)(x), write


@intrinsic
def power_of_two(typing, x):
    "2^k, from k in the last bits."
    def write(context, builder, sig, args):
        bits, fraction = (32, 23) if x.scalar.bitwidth == 32 else (64, 52)
        whole = ir.VectorType(ir.IntType(bits), x.lanes)
        number = lambda n: ir.Constant(whole, [n] * x.lanes)
        k = builder.add(builder.bitcast(args[0], whole), number(2 ** (bits - fraction - 2) - 1))
        return builder.bitcast(builder.shl(k, number(fraction)), x.ir)
    return x(x), write


# %%
#| exporti
@intrinsic
def series(typing, r):
    "e^r - 1 for small r."
    def write(context, builder, sig, args):
        degree = 7 if r.scalar.bitwidth == 32 else 13
        p = constant(r, 1 / math.factorial(degree))
        for k in reversed(range(1, degree)):
            p = multiply_add(builder, r.ir, p, args[0], constant(r, 1 / math.factorial(k)))
        return builder.fmul(p, args[0])
    return r(r), write


@intrinsic
def clip(typing, x, low32, high32, low64, high64):
    "x between the bounds of its dtype; a NaN stays one."
    def write(context, builder, sig, args):
        bounds = args[1:3] if x.scalar.bitwidth == 32 else args[3:5]
        low, high = (spread(builder, context.cast(builder, b, types.float64, x.scalar), x.ir) for b in bounds)
        value = builder.select(builder.fcmp_ordered("<", args[0], low), low, args[0])
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)
    return x(x, *[types.float64] * 4), write


@intrinsic
def where_positive(typing, x, value):
    "value where x > 0, else 0; where x is NaN, value."
    def write(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<=", args[0], constant(x, 0)), constant(x, 0), args[1])
    return x(x, value), write


# %% [markdown]
# With $e = e^{2x} - 1$, $\tanh x = e / (e + 2)$. Small $x$ keep their last digit, because $e$ does. The sigmoid is
# $1 / (1 + e^{-x})$; past the bounds it is 0 or 1.

# %%
#| exporti
@njit(**INLINE)
def tanh(x):
    "The hyperbolic tangent, right to 4 units in the last place."
    raised, r = split_exponent(clip(x + x, -40.0, 40.0, -40.0, 40.0))
    scale = power_of_two(raised)
    e = series(r) * scale + (scale - 1.0)
    return e / (e + 2.0)


@njit(**INLINE)
def sigmoid(x):
    "The logistic function, right to 4 units in the last place above 1e-37 (float64: 1e-306), 0 where it is smaller."
    raised, r = split_exponent(clip(0.0 - x, -87.0, 89.0, -708.0, 710.0))
    return 1.0 / (1.0 + (series(r) + 1.0) * power_of_two(raised))


# %% [markdown]
# How right? One unit in the last place is the distance to the next number of the dtype. Against NumPy's long double, over the
# whole range:

# %%
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
def many(x, t, s):
    for i in range(0, x.size, lanes(x)):
        store(t, i, tanh(load(x, i)))
        store(s, i, sigmoid(load(x, i)))


# %%
def units_in_the_last_place(dtype):
    x = np.concatenate([np.linspace(-12, 12, 2**16), np.geomspace(1e-30, 80, 2**15), -np.geomspace(1e-30, 80, 2**15)]).astype(dtype)
    t, s, X = np.empty_like(x), np.empty_like(x), x.astype(np.longdouble)
    many(x, t, s)
    return [float((abs(got - want) / np.spacing(abs(want.astype(dtype)))).max()) for got, want in ((t, np.tanh(X)), (s, 1 / (1 + np.exp(-X))))]

for dtype in (np.float32, np.float64):
    worst = units_in_the_last_place(dtype)
    print(f"{dtype.__name__}: tanh within {worst[0]:.1f}, sigmoid within {worst[1]:.1f} units in the last place")
    assert max(worst) < 4

# %%
special = np.array([np.nan, np.inf, -np.inf, 0] * 4, np.float32)
t, s = np.empty_like(special), np.empty_like(special)
many(special, t, s)
assert np.isnan(t[0]) and np.isnan(s[0]) and (t[1:4] == [1, -1, 0]).all() and (s[1:4] == [1, 0, 0.5]).all()


# %% [markdown]
# ## Rung 5: no barriers
#
# Two cores share a product by halving it. If each step of the loop is halved, the cores wait for each other at each step, 128
# times in a sequence of 64 steps and back. But the rows of a batch are independent *for the whole sequence*. Each thread
# takes some examples, runs all $T$ steps for them, and waits once, at the end.

# %%
#| exporti
@njit(**INLINE)
def share(n, part, parts):
    "Which of n things this part of the work does: from, to."
    return n * part // parts, n * (part + 1) // parts


@njit(**INLINE)
def alive(t, lengths, b, rows):
    "Does any of these examples still run at step t?"
    for r in range(rows):
        if t < lengths[b + r]:
            return True
    return False


# %% [markdown]
# A step's sums need the input's weights as well as the state's. A thread with many examples reads each weight once for all of
# them. Where it has few, the weights' way from the second cache to the registers is the limit, and then it pays to multiply the
# whole sequence with the input's weights first, in tiles of full height. In the loop half the weights, or less, are left.
#
# The loops below know both ways. The sums of a step begin with `start`: the bias, or, if the input's share was computed
# `before`, the row of that step. In the second case the product with the input has no terms, and copies.

# %%
#| exporti
@njit(**OPTIONS)
def input_sums(part, parts, X, W, bias, n, vectors, Z):
    "This part's rows of Z = bias + X Wax, which is then `start`; of four vectors a panel, the last three where `vectors` is 3."
    n_x, L, columns = X.shape[2], lanes(X), Z.shape[1]
    wide, (first, last) = vectors * L, share(len(Z), part, parts)
    for p in range(columns // (4 * L)):
        m, w, j = first, p * (n_x + n) * wide, p * 4 * L
        while m < last:
            rows = height(last - m)
            if vectors == 4:
                product4(rows, X, m * n_x, n_x, 1, W, w, wide, n_x, bias, j, 0, Z, m * columns + j, columns)
            else:
                for r in range(m, m + rows):
                    store(Z, r * columns + j, load(bias, j))
                product3(rows, X, m * n_x, n_x, 1, W, w, wide, n_x, bias, j + L, 0, Z, m * columns + j + L, columns)
            m += rows


# %% [markdown]
# ### The recurrent network
#
# Here is the whole forward loop. `A` holds the states, `A[t]` is $a^{\langle t \rangle}$; the number of units is filled up to
# whole vectors, `width`. Four blocks of units make a panel. `S` is the place of the tile, one for each thread. An example that
# has ended writes zeros, so that `A[1:]` is the output as it stands.

# %%
#| exporti
@njit(**OPTIONS)
def rnn_forward(part, parts, X, W, start, before, relu, n, lengths, A, S):
    "Equation 2.1 for all steps of this part's examples."
    (T, B, n_x), L, width = X.shape, lanes(X), A.shape[2]
    wide, s, (first, last) = 4 * L, part * ROWS * 4 * L, share(B, part, parts)
    terms, ld = (0, start.shape[1]) if before else (n_x, 0)
    for t in range(T):
        for p in range(0, width, wide):
            b = first
            while b < last:
                rows, at, w = height(last - b), t * B + b, p * (n_x + n)
                if alive(t, lengths, b, rows):
                    product4(rows, X, at * n_x, n_x, 1, W, w, wide, terms, start, at * ld + p, ld, S, s, wide)
                    product4(rows, A, at * width, width, 1, W, w + n_x * wide, wide, n, S, s, wide, S, s, wide)
                for r in range(rows):
                    for i in range(p, min(p + wide, width), L):
                        z = load(S, s + r * wide + i - p)
                        a = where_positive(z, z) if relu else tanh(z)
                        store(A, (at + B + r) * width + i, a if t < lengths[b + r] else splat(A, 0.0))
                b += rows


# %% [markdown]
# Backwards, the tile is $\delta^{\langle t+1 \rangle} W_{aa}$, and as soon as it is there, so is $\delta^{\langle t \rangle}$
# of these units (equations 3.4 and 3.6). `D` collects the deltas of all steps. Its rows are one vector longer than needed: a
# distance of a power of two would send the same column of all rows to the same place in the cache. The last round of the
# loop, $t = -1$, computes the derivative at the initial state.

# %%
#| exporti
@njit(**OPTIONS)
def rnn_backward(part, parts, W, relu, lengths, A, dY, some, dA, D, S, zero, dA0):
    "Equations 3.4 and 3.6 for all steps of this part's examples."
    T, B, width, L, ld = A.shape[0] - 1, A.shape[1], A.shape[2], lanes(A), D.shape[1]
    wide, s, (first, last) = 4 * L, part * ROWS * 4 * L, share(B, part, parts)
    for t in range(T - 1, -2, -1):
        for p in range(0, width, wide):
            b = first
            while b < last:
                rows, at, K = height(last - b), t * B + b, width if t < T - 1 and alive(t + 1, lengths, b, height(last - b)) else 0
                product4(rows, D, (at + B) * ld if K else 0, ld, 1, W, p * width, wide, K, zero, 0, 0, S, s, wide)
                for r in range(rows):
                    for i in range(p, min(p + wide, width), L):
                        da = arriving(load(S, s + r * wide + i - p), t, at + r, b + r, i, lengths, dY, some, dA)
                        if t < 0:
                            store(dA0, (b + r) * width + i, da)
                        else:
                            a = load(A, (at + B + r) * width + i)
                            dz = where_positive(a, da) if relu else da * (1.0 - a * a)
                            store(D, (at + r) * ld + i, dz if t < lengths[b + r] else splat(A, 0.0))
                b += rows


@njit(**INLINE)
def arriving(da, t, at, b, i, lengths, dY, some, dA):
    "The derivative at a state: from the next step, from the final state where the example ends, and from the output."
    if t + 1 == lengths[b]:
        da = da + load(dA, b * dA.shape[1] + i)
    if some and t >= 0:
        da = da + load(dY, at * dA.shape[1] + i)
    return da


# %% [markdown]
# ### The LSTM
#
# One tile holds the four gates of a block of units. Their values are kept in `G` for the way back, $\tanh c$ is not: computing
# it again costs less than fetching it.

# %%
#| exporti
@njit(**OPTIONS)
def lstm_forward(part, parts, X, W, start, before, P, late, n, lengths, A, C, G, S):
    "Equations 9.1 to 9.9 for all steps of this part's examples."
    (T, B, n_x), L, width = X.shape, lanes(X), A.shape[2]
    wide, s, (first, last) = 4 * L, part * ROWS * 4 * L, share(B, part, parts)
    terms, ld = (0, start.shape[1]) if before else (n_x, 0)
    for t in range(T):
        for i in range(0, width, L):
            b = first
            while b < last:
                rows, at, w = height(last - b), t * B + b, i * 4 * (n_x + n)
                if alive(t, lengths, b, rows):
                    product4(rows, X, at * n_x, n_x, 1, W, w, wide, terms, start, at * ld + 4 * i, ld, S, s, wide)
                    product4(rows, A, at * width, width, 1, W, w + n_x * wide, wide, n, S, s, wide, S, s, wide)
                for r in range(rows):
                    lstm_gates(S, s + r * wide, t < lengths[b + r], P, late, at + r, B, i, A, C, G)
                b += rows


@njit(**INLINE)
def lstm_gates(S, s, on, P, late, at, B, i, A, C, G):
    "Equations 9.1 to 9.6, 9.8 and 9.9 for a vector of units."
    L, width = lanes(S), A.shape[2]
    here, new, g = at * width + i, (at + B) * width + i, at * 4 * width + i
    zu, zf, zc, zo, c_prev = load(S, s), load(S, s + L), load(S, s + 2 * L), load(S, s + 3 * L), load(C, here)
    if P.size:
        zu, zf = zu + load(P, i) * c_prev, zf + load(P, width + i) * c_prev
    u, f, c_tilde = sigmoid(zu), sigmoid(zf), tanh(zc)
    c = u * c_tilde + f * c_prev
    if P.size:
        zo = zo + load(P, 2 * width + i) * (c if late else c_prev)
    o = sigmoid(zo)
    store(G, g, u)
    store(G, g + width, f)
    store(G, g + 2 * width, c_tilde)
    store(G, g + 3 * width, o)
    store(C, new, c if on else splat(S, 0.0))
    store(A, new, o * tanh(c) if on else splat(S, 0.0))


# %%
#| exporti
@njit(**OPTIONS)
def lstm_backward(part, parts, W, P, late, lengths, A, C, G, dY, some, dA, dC, D, S, zero, dA0):
    "Equations 9.13 to 9.19 and 9.22 for all steps of this part's examples; dC goes from the final to the initial cell."
    T, B, width, L, ld = A.shape[0] - 1, A.shape[1], A.shape[2], lanes(A), D.shape[1]
    wide, s, (first, last) = 4 * L, part * ROWS * 4 * L, share(B, part, parts)
    for t in range(T - 1, -2, -1):
        for p in range(0, width, wide):
            b = first
            while b < last:
                rows, at, K = height(last - b), t * B + b, 4 * width if t < T - 1 and alive(t + 1, lengths, b, height(last - b)) else 0
                product4(rows, D, (at + B) * ld if K else 0, ld, 1, W, p * 4 * width, wide, K, zero, 0, 0, S, s, wide)
                for r in range(rows):
                    for i in range(p, min(p + wide, width), L):
                        da = arriving(load(S, s + r * wide + i - p), t, at + r, b + r, i, lengths, dY, some, dA)
                        if t < 0:
                            store(dA0, (b + r) * width + i, da)
                        else:
                            lstm_slopes(da, t < lengths[b + r], P, late, at + r, B, b + r, i, C, G, dC, D)
                b += rows


@njit(**INLINE)
def lstm_slopes(da, on, P, late, at, B, b, i, C, G, dC, D):
    "Equations 9.14 to 9.19 for a vector of units."
    width, g, d = C.shape[2], at * 4 * C.shape[2] + i, at * D.shape[1] + i
    if not on:
        for k in range(4):
            store(D, d + k * width, splat(C, 0.0))
        return
    u, f, c_tilde, o = load(G, g), load(G, g + width), load(G, g + 2 * width), load(G, g + 3 * width)
    c_prev, dc, th = load(C, at * width + i), load(dC, b * width + i), tanh(load(C, (at + B) * width + i))
    dzo, dc = da * th * o * (1.0 - o), dc + da * o * (1.0 - th * th)
    if P.size and late:
        dc = dc + load(P, 2 * width + i) * dzo
    dzu, dzf, dzc = dc * c_tilde * u * (1.0 - u), dc * c_prev * f * (1.0 - f), dc * u * (1.0 - c_tilde * c_tilde)
    store(D, d, dzu)
    store(D, d + width, dzf)
    store(D, d + 2 * width, dzc)
    store(D, d + 3 * width, dzo)
    dc = dc * f
    if P.size:
        dc = dc + load(P, i) * dzu + load(P, width + i) * dzf
        if not late:
            dc = dc + load(P, 2 * width + i) * dzo
    store(dC, b * width + i, dc)


# %% [markdown]
# ### The GRU
#
# With the reset before the product a step has two products, and the second waits for the first: `M` takes
# $\Gamma_r * a^{\langle t-1 \rangle}$ of all units, then the candidate's panels follow. With the reset after the product one
# tile is enough: its four vectors are $m$, $r$, $u$ and the input's share of the candidate. The state reaches the first
# three, the input the last three, and each product is done with three vectors. The simplified unit packs $u$ and $c$.

# %%
#| exporti
BEFORE, AFTER, SIMPLIFIED = range(3)


@njit(**OPTIONS)
def gru_forward(part, parts, X, W, start, Wc, start_c, before, kind, n, lengths, A, G, M, S):
    "Equations 8.1 to 8.6 for all steps of this part's examples."
    (T, B, n_x), L, width = X.shape, lanes(X), A.shape[2]
    wide, s, (first, last), units = 4 * L, part * ROWS * 4 * L, share(B, part, parts), L if kind == AFTER else 2 * L
    terms, ld = (0, start.shape[1]) if before else (n_x, 0)
    for t in range(T):
        for i in range(0, width, units):
            b = first
            while b < last:
                rows, at, w = height(last - b), t * B + b, i * 2 * (n_x + n)
                if not alive(t, lengths, b, rows):
                    pass  # what S holds is not used
                elif kind == AFTER:
                    gru_sums_after(rows, at, i, X, A, W, n, terms, start, ld, S, s)
                else:
                    product4(rows, X, at * n_x, n_x, 1, W, w, wide, terms, start, at * ld + 2 * i, ld, S, s, wide)
                    product4(rows, A, at * width, width, 1, W, w + n_x * wide, wide, n, S, s, wide, S, s, wide)
                for r in range(rows):
                    if kind == AFTER:
                        gru_gates_after(S, s + r * wide, t < lengths[b + r], at + r, B, i, A, G, M)
                    else:
                        gru_gates(S, s + r * wide, t < lengths[b + r], kind, at + r, B, i, A, G, M)
                b += rows
        if kind == BEFORE:
            gru_candidate(t, first, last, X, Wc, start_c, before, n, lengths, A, G, M, S, s)


@njit(**INLINE)
def gru_new(u, c, on, at, B, i, A):
    "Equation 8.3, as a_prev + u (c - a_prev)."
    old = load(A, at * A.shape[2] + i)
    store(A, (at + B) * A.shape[2] + i, old + u * (c - old) if on else splat(A, 0.0))


# %%
#| exporti
@njit(**INLINE)
def gru_gates(S, s, on, kind, at, B, i, A, G, M):
    "Equations 8.2 and 8.4, or 8.1 to 8.3 of the simplified unit, for two vectors of units."
    L, width = lanes(A), A.shape[2]
    for k in range(i, min(i + 2 * L, width), L):
        z, y, a = load(S, s + 2 * (k - i)), load(S, s + 2 * (k - i) + L), load(A, at * width + k)
        if kind == BEFORE:
            r, u = sigmoid(z), sigmoid(y)
            store(G, at * 3 * width + k, r)
            store(G, (at * 3 + 1) * width + k, u)
            store(M, at * width + k, r * a)
        else:
            u, c = sigmoid(z), tanh(y)
            store(G, at * 2 * width + k, u)
            store(G, (at * 2 + 1) * width + k, c)
            gru_new(u, c, on, at, B, k, A)


@njit(**INLINE)
def gru_candidate(t, first, last, X, W, start, before, n, lengths, A, G, M, S, s):
    "Equations 8.5 and 8.3: the second product of a step, from the state that the reset gate has let through."
    B, n_x, L, width = X.shape[1], X.shape[2], lanes(X), A.shape[2]
    wide, (terms, ld) = 4 * L, (0, start.shape[1]) if before else (n_x, 0)
    for p in range(0, width, wide):
        b = first
        while b < last:
            rows, at, w = height(last - b), t * B + b, p * (n_x + n)
            if alive(t, lengths, b, rows):
                product4(rows, X, at * n_x, n_x, 1, W, w, wide, terms, start, at * ld + p, ld, S, s, wide)
                product4(rows, M, at * width, width, 1, W, w + n_x * wide, wide, n, S, s, wide, S, s, wide)
            for r in range(rows):
                for i in range(p, min(p + wide, width), L):
                    c, g = tanh(load(S, s + r * wide + i - p)), (at + r) * 3 * width + i
                    store(G, g + 2 * width, c)
                    gru_new(load(G, g + width), c, t < lengths[b + r], at + r, B, i, A)
            b += rows


# %%
#| exporti
@njit(**INLINE)
def gru_sums_after(rows, at, i, X, A, W, n, terms, start, ld, S, s):
    "The sums m, r, u and the input's share of the candidate; start has four vectors for each of units."
    L, width, n_x = lanes(A), A.shape[2], X.shape[2]
    w, j = i * 3 * (n_x + n), at * ld + 4 * i
    product3(rows, X, at * n_x, n_x, 1, W, w, 3 * L, terms, start, j + L, ld, S, s + L, 4 * L)
    for r in range(rows):
        store(S, s + r * 4 * L, load(start, j + r * ld))
    product3(rows, A, at * width, width, 1, W, w + n_x * 3 * L, 3 * L, n, S, s, 4 * L, S, s, 4 * L)


@njit(**INLINE)
def gru_gates_after(S, s, on, at, B, i, A, G, M):
    "Equations 8.2 to 8.4 and 8.6 for a vector of units."
    L, width, g = lanes(A), A.shape[2], at * 3 * A.shape[2] + i
    m, r, u = load(S, s), sigmoid(load(S, s + L)), sigmoid(load(S, s + 2 * L))
    c = tanh(load(S, s + 3 * L) + r * m)
    store(M, at * width + i, m)
    store(G, g, r)
    store(G, g + width, u)
    store(G, g + 2 * width, c)
    gru_new(u, c, on, at, B, i, A)


# %% [markdown]
# On the way back, `keep` carries $(1 - \Gamma_u) * da$ from step to step, and with the reset before the product there are two
# products again: through the candidate, then through the gates. The deltas stand in `D` as $r$, $u$, $c$, or, with the reset
# after the product, as $c$, $r$, $u$, $m$: so the three that go back through $W_{aa}$ are neighbours.

# %%
#| exporti
@njit(**OPTIONS)
def gru_backward(part, parts, W, Wc, kind, lengths, A, G, M, dY, some, dA, keep, D, S, zero, dA0):
    "Equations 8.7 to 8.11 for all steps of this part's examples."
    T, B, width, L, ld = A.shape[0] - 1, A.shape[1], A.shape[2], lanes(A), D.shape[1]
    wide, s, (first, last) = 4 * L, part * ROWS * 4 * L, share(B, part, parts)
    blocks, d = (3, width) if kind == AFTER else (2, 0)
    for t in range(T - 1, -2, -1):
        for p in range(0, width, wide):
            b = first
            while b < last:
                rows, at, K = height(last - b), t * B + b, blocks * width if t < T - 1 and alive(t + 1, lengths, b, height(last - b)) else 0
                product4(rows, D, (at + B) * ld + d if K else 0, ld, 1, W, p * blocks * width, wide, K, zero, 0, 0, S, s, wide)
                for r in range(rows):
                    for i in range(p, min(p + wide, width), L):
                        k = (b + r) * width + i
                        da = arriving(load(S, s + r * wide + i - p) + load(keep, k), t, at + r, b + r, i, lengths, dY, some, dA)
                        if t < 0:
                            store(dA0, k, da)
                        else:
                            gru_slopes(da, t < lengths[b + r], kind, at + r, i, A, G, M, keep, k, D)
                b += rows
        if kind == BEFORE and t >= 0:
            gru_slopes_before(t, first, last, Wc, lengths, A, G, keep, D, S, s, zero)


# %%
#| exporti
@njit(**INLINE)
def gru_slopes(da, on, kind, at, i, A, G, M, keep, k, D):
    "Equations 8.7, 8.8 and 8.10 for a vector of units."
    width, d, blocks = A.shape[2], at * D.shape[1] + i, (D.shape[1] - lanes(A)) // A.shape[2]
    if not on:
        for j in range(blocks):
            store(D, d + j * width, splat(A, 0.0))
        return
    g = (at * 2 if kind == SIMPLIFIED else at * 3 + 1) * width + i
    a_prev, u, c = load(A, at * width + i), load(G, g), load(G, g + width)
    dzc, dzu = da * u * (1.0 - c * c), da * (c - a_prev) * u * (1.0 - u)
    store(keep, k, da * (1.0 - u))
    if kind == AFTER:
        r = load(G, g - width)
        store(D, d, dzc)
        store(D, d + width, dzc * load(M, at * width + i) * r * (1.0 - r))
        store(D, d + 2 * width, dzu)
        store(D, d + 3 * width, dzc * r)
    else:
        store(D, d + (blocks - 2) * width, dzu)
        store(D, d + (blocks - 1) * width, dzc)


@njit(**INLINE)
def gru_slopes_before(t, first, last, W, lengths, A, G, keep, D, S, s, zero):
    "Equation 8.9: back through the candidate's product to the reset gate and the state."
    B, width, L, ld = A.shape[1], A.shape[2], lanes(A), D.shape[1]
    wide = 4 * L
    for p in range(0, width, wide):
        b = first
        while b < last:
            rows, at = height(last - b), t * B + b
            K = width if alive(t, lengths, b, rows) else 0
            product4(rows, D, at * ld + 2 * width, ld, 1, W, p * width, wide, K, zero, 0, 0, S, s, wide)
            for q in range(rows):
                for i in range(p, min(p + wide, width), L):
                    dh, k, r = load(S, s + q * wide + i - p), (b + q) * width + i, load(G, (at + q) * 3 * width + i)
                    dzr = dh * load(A, (at + q) * width + i) * r * (1.0 - r)
                    store(D, (at + q) * ld + i, dzr if t < lengths[b + q] else splat(A, 0.0))
                    if t < lengths[b + q]:
                        store(keep, k, load(keep, k) + dh * r)
            b += rows


# %% [markdown]
# ## The large products at the end
#
# What is left after the loop are the gradients of the input and of the weights, each one product over all steps at once
# (equation 3.8). A BLAS is made for such products. The tile is faster here all the same, so it does these too. For
# $\Delta^T F$ the roles are turned: the $K$ of the product is time and batch, cut into chunks whose `F` is packed in cache.

# %%
#| exporti
CHUNK = 256


@njit(**INLINE)
def input_grad(part, parts, D, K, W, dX, S, zero):
    "This part's rows of dX = D[:, :K] @ W, W in panels of columns."
    wide, N, ld = 4 * lanes(D), dX.shape[1], D.shape[1]
    s, (first, last) = part * ROWS * wide, share(len(dX), part, parts)
    for c in range(0, N, wide):
        m = first
        while m < last:
            rows = height(last - m)
            if c + wide <= N:
                product4(rows, D, m * ld, ld, 1, W, c * K, wide, K, zero, 0, 0, dX, m * N + c, N)
            else:
                product4(rows, D, m * ld, ld, 1, W, c * K, wide, K, zero, 0, 0, S, s, wide)
                for r in range(rows):
                    for i in range(N - c):
                        dX[m + r, c + i] = S[s + r * wide + i]
            m += rows


@njit(**OPTIONS)
def pack_chunk(F, k, K, panel):
    "Rows k to k + K of F in panels of columns."
    L, N, wide = lanes(F), F.shape[1], 4 * lanes(F)
    for p in range(0, N, wide):
        for j in range(K):
            for c in range(p, p + wide, L):
                at = p * CHUNK + j * wide + c - p
                if c + L <= N:
                    store(panel, at, load(F, (k + j) * N + c))
                else:
                    for e in range(L):
                        panel[at + e] = F[k + j, c + e] if c + e < N else 0.0


# %%
#| exporti
@njit(**INLINE)
def weight_grad(part, parts, D, d, M, F, dW, row, panels):
    "This part of dW[row : row + M] += D[:, d : d + M].T @ F."
    wide, (K, N), ld, ldw = 4 * lanes(D), F.shape, D.shape[1], dW.shape[1]
    (first, last), panel = share(-(-M // ROWS), part, parts), panels[part]
    for k in range(0, K, CHUNK):
        pack_chunk(F, k, min(CHUNK, K - k), panel)
        for m in range(first * ROWS, min(last * ROWS, M), ROWS):
            for p in range(0, N, wide):
                at = (row + m) * ldw + p
                product4(min(ROWS, M - m), D, k * ld + d + m, 1, ld, panel, p * CHUNK, wide, min(CHUNK, K - k), dW, at, ldw, dW, at, ldw)


@njit(**INLINE)
def bias_grad(part, parts, D, db):
    "This part of db += D.sum(axis=0)."
    L, (K, ld), (first, last) = lanes(D), D.shape, share(db.size // lanes(D), part, parts)
    for k in range(K):
        for i in range(first * L, last * L, L):
            store(db, i, load(db, i) + load(D, k * ld + i))


@njit(**OPTIONS)
def weight_grads(part, parts, D, W, X, A, M, products, dX, dWax, dWaa, db, panels, S, zero):
    "All of them; a row of `products`: what was seen (0: X, 1: A, 2: M), the first gate, its block in D, how many gates."
    gates, w = len(dWax) // A.shape[1], A.shape[1]
    input_grad(part, parts, D, gates * w, W, dX, S, zero)
    for k in range(len(products)):
        seen, gate, block, count = products[k]
        F, dW = X if seen == 0 else A if seen == 1 else M, dWax if seen == 0 else dWaa
        weight_grad(part, parts, D, block * w, count * w, F, dW, gate * w, panels)
    bias_grad(part, parts, D, db)


# %% [markdown]
# ## Rung 6: helpers that stay awake
#
# A thread that sleeps takes its time to wake: some fifty microseconds, the length of a whole small layer. Worse, the system
# may wake it on the very processor that it is to relieve, and notice after milliseconds. So the helpers here look at a
# *board* every few nanoseconds, and go to sleep only when nothing has stood there for a while. They do this in compiled
# code, where they hold no lock of Python's.
#
# The board is an array of whole numbers. One of them is the *ticket*: the number of the job, how many parts it has, and the
# number of the next part, in one word. Who wants a part adds 1 to the ticket, in one instruction that fails if somebody else
# was quicker. The caller takes parts like everybody else. A helper that comes late finds nothing left to do, and nobody has
# waited for it.

# %%
#| exporti
TICKET, DONE, CODE, GIVEN, STOP, BOARD = 0, 8, 16, 17, 24, 32  # places on the board, on lines of the cache of their own
I64, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()


@intrinsic
def read(typing, board, place):
    "What stands at a place, as the other threads left it."
    def write(context, builder, sig, args):
        return builder.load_atomic(spot(context, builder, sig.args[0], *args), "acquire", 8)
    return types.int64(board, types.intp), write


@intrinsic
def put(typing, board, place, value):
    "Write to a place, after all that was written before."
    def write(context, builder, sig, args):
        builder.store_atomic(args[2], spot(context, builder, sig.args[0], *args[:2]), "release", 8)
        return context.get_dummy_value()
    return types.void(board, types.intp, types.int64), write


@intrinsic
def pause(typing):
    "Tell the processor that this is a loop that waits."
    def write(context, builder, sig, args):
        machine = platform.machine().lower()
        if machine in ("x86_64", "amd64"):
            builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(cgutils.get_or_insert_function(builder.module, hint, "llvm.aarch64.hint"), [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()
    return types.void(), write


# %% [markdown]
# `post` puts a job on the board: the address of its code, and that of its arguments. The code is a small function that
# unpacks the arguments and calls the kernel with the numbers of the part and of all parts.

# %%
#| exporti
@intrinsic
def post(typing, board, parts, kernel, given):
    "Put a job on the board: kernel(part, parts, *given), for so many parts."
    signature = kernel.get_call_type(typing, (types.intp, types.intp, *given), {})

    def write(context, builder, sig, args):
        compiled = kernel.dispatcher.get_compile_result(signature)
        context.active_code_library.add_linking_library(compiled.library)
        place = lambda n: spot(context, builder, sig.args[0], args[0], ir.Constant(I64, n))
        memory = cgutils.alloca_once_value(builder, args[3])
        code = unpack_and_call(context, builder.module, compiled.fndesc, signature, memory.type, len(given))
        builder.store_atomic(builder.ptrtoint(code, I64), place(CODE), "monotonic", 8)
        builder.store_atomic(builder.ptrtoint(memory, I64), place(GIVEN), "monotonic", 8)
        builder.store_atomic(ir.Constant(I64, 0), place(DONE), "monotonic", 8)
        job = builder.add(builder.lshr(builder.load(place(TICKET)), ir.Constant(I64, 32)), ir.Constant(I64, 1))
        ticket = builder.or_(builder.shl(job, ir.Constant(I64, 32)), builder.shl(args[1], ir.Constant(I64, 16)))
        builder.store_atomic(ticket, place(TICKET), "release", 8)
        return context.get_dummy_value()
    return types.void(board, types.intp, kernel, given), write


def unpack_and_call(context, module, fndesc, signature, memory, count):
    "The small function: (address of the arguments, part, parts) -> nothing."
    code = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, I64, I64]), module.get_unique_name("part_of_" + fndesc.mangled_name))
    code.linkage = "internal"
    inside = ir.IRBuilder(code.append_basic_block())
    given = cgutils.unpack_tuple(inside, inside.load(inside.bitcast(code.args[0], memory)), count)
    function = context.declare_function(module, fndesc)
    context.call_conv.call_function(inside, function, signature.return_type, signature.args, [*code.args[1:], *given])
    inside.ret_void()
    return code


# %%
#| exporti
@intrinsic
def take(typing, board):
    "Do one part of the job on the board; False where none is left."
    def write(context, builder, sig, args):
        place = lambda n: spot(context, builder, sig.args[0], args[0], ir.Constant(I64, n))
        low = lambda x: builder.and_(x, ir.Constant(I64, 0xFFFF))
        ticket = builder.load_atomic(place(TICKET), "acquire", 8)
        part, parts = low(ticket), low(builder.lshr(ticket, ir.Constant(I64, 16)))
        left = builder.icmp_unsigned("<", part, parts)
        with builder.if_then(left):
            code, given = (builder.load_atomic(place(n), "monotonic", 8) for n in (CODE, GIVEN))
            pair = builder.cmpxchg(place(TICKET), ticket, builder.add(ticket, ir.Constant(I64, 1)), "acq_rel", "acquire")
            with builder.if_then(builder.extract_value(pair, 1)):
                kind = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64]).as_pointer()
                builder.call(builder.inttoptr(code, kind), [builder.inttoptr(given, POINTER), part, parts])
                builder.atomic_rmw("add", place(DONE), ir.Constant(I64, 1), "acq_rel")
        return left
    return types.boolean(board), write


@njit(**INLINE)
def finish(board, parts):
    "Take parts while there are any, then wait for those that others have taken."
    while take(board):
        pass
    while read(board, DONE) < parts:
        pause()


@njit(**OPTIONS)
def serve(board, patience):
    "What a helper does until it has seen an empty board so many times."
    seen = 0
    while seen < patience and read(board, STOP) == 0:
        if take(board):
            seen = 0
        else:
            pause()
            seen += 1


# %% [markdown]
# The ticket makes this safe. A helper reads the ticket, then the job, then takes a part by changing that very ticket. Was a
# new job put up in between, the ticket has another number, and the helper gets nothing. And as long as a part is left or in
# work, the caller puts up no other job: it waits in `finish`.
#
# Each kernel gets a function that puts it on the board.

# %%
#| exporti
@njit(**OPTIONS)
def rnn_forward_parts(board, parts, given):
    post(board, parts, rnn_forward, given)
    finish(board, parts)


@njit(**OPTIONS)
def rnn_backward_parts(board, parts, given):
    post(board, parts, rnn_backward, given)
    finish(board, parts)


@njit(**OPTIONS)
def gru_forward_parts(board, parts, given):
    post(board, parts, gru_forward, given)
    finish(board, parts)


@njit(**OPTIONS)
def gru_backward_parts(board, parts, given):
    post(board, parts, gru_backward, given)
    finish(board, parts)


# %%
#| exporti
@njit(**OPTIONS)
def lstm_forward_parts(board, parts, given):
    post(board, parts, lstm_forward, given)
    finish(board, parts)


@njit(**OPTIONS)
def lstm_backward_parts(board, parts, given):
    post(board, parts, lstm_backward, given)
    finish(board, parts)


@njit(**OPTIONS)
def input_sums_parts(board, parts, given):
    post(board, parts, input_sums, given)
    finish(board, parts)


@njit(**OPTIONS)
def weight_grads_parts(board, parts, given):
    post(board, parts, weight_grads, given)
    finish(board, parts)


# %% [markdown]
# ## From Python
#
# The threads themselves are Python's. A compiled function lets go of Python's lock, so they run at the same time. One job can
# stand on a board; a second caller who comes meanwhile does all its parts itself, on a board of its own. A child of `fork`
# gets helpers of its own, and at the end of the program they are sent home.

# %%
#| export
_threads = {"n": None}  # None: numba's setting decides


def threads(
    n=None,  # how many from here on, 1 or more; None leaves it as it is
) -> int:    # how many threads a call may use
    "How many threads the compiled kernels use. At first: NUMBA_NUM_THREADS, or one for each processor of this process."
    if n is not None:
        _threads["n"] = check_whole("n", n, high=1024)
    return _threads["n"] or numba.config.NUMBA_NUM_THREADS


# %%
#| exporti
PATIENCE = 100_000  # looks at an empty board before a helper goes to sleep: a few milliseconds


class Team:
    "The threads that help the one that calls."

    def __init__(self, n):
        self.board, self.busy, self.door, self.asleep, self.bell = board(), Lock(), Lock(), 0, SimpleQueue()
        self.helpers = [Thread(target=self.help, name=f"seqbook-{i}", daemon=True) for i in range(1, n)]
        compiled(serve, None, self.board, PATIENCE)
        for helper in self.helpers:
            helper.start()
        atexit.register(self.leave)

    def help(self):
        while not self.board[STOP]:
            serve(self.board, PATIENCE)
            with self.door:
                self.asleep += 1
            self.bell.get()

    def wake(self):
        if self.asleep:
            with self.door:
                sleepers, self.asleep = self.asleep, 0
            for _ in range(sleepers):
                self.bell.put(None)

    def leave(self):
        self.board[STOP] = 1
        for helper in self.helpers:
            self.bell.put(None)
        for helper in self.helpers:
            helper.join()


def board():
    "An empty board."
    return np.zeros(BOARD, np.int64)


@cache
def team(
    process,  # number of the process: a child has none of its parent's threads
    n,        # threads, the caller among them
) -> Team:
    "The helpers of this process."
    return Team(n)


# %%
#| exporti
def in_parts(
    kernel,  # one of the functions above that put a kernel on the board
    parts,   # in how many parts
    given,   # a tuple: the kernel's arguments after part and parts
):
    "Do all parts: with the helpers, or alone where there is one part, or where the helpers are busy."
    helpers = team(os.getpid(), threads()) if parts > 1 else None
    if helpers is None or not helpers.busy.acquire(blocking=False):
        return kernel(board(), parts, given)
    try:
        helpers.wake()
        kernel(helpers.board, parts, given)
    finally:
        helpers.busy.release()


# %% [markdown]
# ### One at a time, while compiling
#
# Numba keeps machine code on disk, in an index and a file for each set of types. Two processes that compile the same function
# for *different* types at the same moment may give both files one name. The index of the one then points to the code of the
# other: a program that finds it stops with an error, or dies. Chapters that run side by side on a new machine do just that.
# So a kernel's first call in a process holds a lock on a file beside the code. It also saves work, for the second process
# finds what the first has compiled.
#
# The other half of the cure is to ask for few sets of types. To numba an array that may be written to and one that may not are
# two types. `native` hands every argument on as the second kind, so there is one set for float32 and one for float64.

# %%
#| exporti
@contextmanager
def alone(
    folder,  # where the lock is kept; None: nothing is kept on disk, so nothing can be spoilt
):
    "While open, no other process is inside. Where files cannot be locked, nothing could have been written either."
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = (Path(folder) / "seqbook.lock").open("ab")
    except (OSError, TypeError):
        yield
        return
    with file:
        lock, unlock = locking(file)
        lock()
        try:
            yield
        finally:
            unlock()


def locking(file):
    "Functions that lock and unlock an open file: what the system has."
    try:
        import fcntl
        return lambda: fcntl.flock(file, fcntl.LOCK_EX), lambda: fcntl.flock(file, fcntl.LOCK_UN)
    except ImportError:
        import msvcrt

        def at_start(mode):
            file.seek(0)
            msvcrt.locking(file.fileno(), mode, 1)
        return lambda: at_start(msvcrt.LK_LOCK), lambda: at_start(msvcrt.LK_UNLCK)


# %%
#| exporti
_compiled = set()


def compiled(
    kernel,  # a compiled function
    dtype,   # what it has been asked for before is known by: the dtype of its arrays
    *given,  # its arguments
):           # -> the kernel
    "Compile a kernel or fetch its code from disk before its first call, one process at a time."
    if (kernel, dtype) not in _compiled:
        try:
            with alone(kernel.stats.cache_path):
                kernel.compile(tuple(numba.typeof(x) for x in given))
        except OSError:  # a file system without locks
            kernel.compile(tuple(numba.typeof(x) for x in given))
        _compiled.add((kernel, dtype))
    return kernel


# %% [markdown]
# ### Memory that is used again
#
# A layer needs large arrays for its states and gates. Memory fresh from the system comes in pages that are handed over, and
# zeroed, one by one at the first touch. For the largest layer below that took a fifth of the time. So the memory of arrays
# that are gone is kept, up to 256 MiB, and lent out again. What a caller still holds is never lent.
#
# Buffers begin where a vector register would like them to: a vector that straddles two lines of the cache takes twice the
# time. And they should *not* all begin at the same place of a page of 4096 bytes: a processor compares a load with the stores
# before it by those last twelve bits first, and what is read from one array may wait for what was written to another. So each
# large buffer begins some lines further into its page than the one before.

# %%
#| exporti
SMALL, KEPT, PAGE = 2**16, 2**28, 4096  # bytes: smaller arrays are NumPy's; so much is kept at most
_shelf, _turn = {}, count()


class Lent:
    "Memory on loan: it goes back to the shelf when the last array in it is gone."

    def __init__(self, size):
        step = max(BYTES, 1 << max(size.bit_length() - 4, 0))  # sizes in steps of an eighth or less, so that they meet again
        self.size = up(size + 2 * PAGE + BYTES, step)
        try:
            self.memory = _shelf[self.size].pop()
        except LookupError:
            self.memory = np.empty(self.size, np.uint8)
        start = up(self.memory.ctypes.data, PAGE) + next(_turn) * 832 % PAGE  # 832: 13 lines of 64 bytes
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (start, False)}

    def __del__(self, shelf=_shelf, limit=KEPT, deque=deque):
        shelf.setdefault(self.size, deque()).append(self.memory)
        kept = [(size, row) for size, row in list(shelf.items()) if row]
        excess = sum(size * len(row) for size, row in kept) - limit
        for size, row in kept:
            while excess > 0 and row:
                row.popleft()
                excess -= size


def empty(shape, dtype):
    "A new array that begins at a multiple of the vectors' size."
    size = math.prod(shape) * dtype.itemsize
    if size >= SMALL:
        return np.asarray(Lent(size)).view(dtype).reshape(shape)
    memory = np.empty(size + BYTES, np.uint8)
    start = -memory.ctypes.data % BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


# %%
#| exporti
def zeros(shape, dtype):
    "The same, filled with zeros."
    a = empty(shape, dtype)
    a.fill(0)
    return a


def up(n, step):
    "The next multiple of step."
    return -(-n // step) * step


def native(a):
    "The array to be read only, or a copy where it is not contiguous, not aligned or has its bytes in the other order."
    a = np.require(a, np.dtype(a.dtype.name), ("C", "A")).view()
    a.flags.writeable = False
    return a


def widen(a, width):
    "The array with its last axis filled up with zeros, to be read only."
    if a.shape[-1] == width:
        return native(a)
    out = zeros((*a.shape[:-1], width), np.dtype(a.dtype.name))
    out[..., : a.shape[-1]] = a
    return native(out)


# %% [markdown]
# `Plan` decides once for each call how wide the arrays are and how many threads help. A thread should have four examples at
# least, as fewer rows make poor tiles, and some work, as calling it takes its time.

# %%
#| exporti
class Plan:
    "The sizes of one call, and what all units do the same way."

    def __init__(self, X, n, gates, lengths):
        (self.T, self.B, self.n_x), self.n, self.dtype = X.shape, n, np.dtype(X.dtype.name)
        self.lanes = BYTES // self.dtype.itemsize
        self.width, self.wide = up(n, self.lanes), 4 * self.lanes
        work = 2 * self.T * self.B * gates * n * (n + self.n_x) // 1_000_000
        self.products = max(1, min(threads(), work))           # threads for the large products
        self.loops = max(1, min(self.products, -(-self.B // 4)))  # threads for the loop over time
        self.before = self.B <= FEW * self.loops
        self.lengths = np.full(self.B, self.T) if lengths is None else np.array(lengths, np.intp)
        self.zero = np.zeros(self.wide, self.dtype)

    def run(self, kernel, *given):
        "Call a kernel that is not divided."
        compiled(kernel, self.dtype, *given)(*given)

    def share(self, kernel, parts, *given):
        "Call one that is."
        compiled(kernel, self.dtype, board(), parts, given)
        in_parts(kernel, parts, given)

    def buffer(self, *shape):
        return empty(shape, self.dtype)

    def tiles(self):
        "A place for the tile of each thread."
        return zeros((self.products * ROWS * self.wide,), self.dtype)

    def states(self, first):
        "Room for all states, the first one filled in."
        A = self.buffer(self.T + 1, self.B, self.width)
        A[0, :, self.n :] = 0
        A[0, :, : self.n] = first
        return A

    def results(self, *all_states):
        "Y, and the states at the true ends."
        A, at = all_states[0], (self.lengths, np.arange(self.B))
        Y = A[1:] if self.width == self.n else A[1:, :, : self.n].copy()
        return read_only(Y), [states[at][:, : self.n] for states in all_states]

    def arriving(self, dY, parts, count):
        "Whether there is a dY, dY, and the derivatives that arrive at the parts of the final state, all filled up."
        ends = [np.zeros((self.B, self.n), self.dtype) if d is None else d for d in parts or (None,) * count]
        nothing = np.zeros((1, 1, 1), self.dtype)
        return dY is not None, native(nothing) if dY is None else widen(dY, self.width), *(widen(d, self.width).copy() for d in ends)


FEW = 4  # examples of a thread up to which the input's share of the sums comes before the loop


# %%
#| exporti
def pack(m, p, x_gates, a_gates, blocks, bias=None):
    "Weights for the way there, and biases; the gates are numbered by their place in the stacked rows."
    vectors = len(x_gates) * blocks * m.lanes
    panels, K = -(-m.n // (m.lanes * blocks)), m.n_x + m.n
    W, rows = m.buffer(panels * K * vectors), lambda gates: np.array(gates) * m.n
    m.run(pack_rows, p.Wax, rows(x_gates), m.n, blocks, W, 0, K * vectors)
    m.run(pack_rows, p.Waa, rows(a_gates), m.n, blocks, W, m.n_x * vectors, K * vectors)
    if bias is None:
        bias = m.buffer(panels * vectors)
        m.run(pack_rows, p.ba[:, None], rows(x_gates), m.n, blocks, bias, 0, vectors)
    return W, bias


def pack_back(m, W, gates):
    "Weights for the way back."
    out = m.buffer(up(W.shape[1], m.wide) * len(gates) * m.width)
    m.run(pack_columns, W, np.array(gates) * m.n, m.n, m.width, out)
    return out


def starts(m, X, W, bias, vectors=4):
    "What the sums begin with: the bias, (1, columns), or the input's share of all steps, where it comes before the loop."
    if not m.before:
        return bias[None]
    Z = m.buffer(m.T * m.B, len(bias))
    m.share(input_sums_parts, m.products, X, W, bias, m.n, vectors, Z)
    return Z


# %% [markdown]
# After the loop, `gradients` reads `D` block by block. For each of the stacked gates it is told which block holds its delta
# for `Wax`, which one for `Waa`, and what that product saw: the states, or what the reset gate had let through.

# %%
#| exporti
OF_X, OF_A, OF_M = range(3)


def stretches(seen, blocks):
    "Neighbouring gates that one product serves: what it saw, the first gate, its block, how many."
    found = []
    for gate, (which, block) in enumerate(zip(seen, blocks)):
        if found and found[-1][0] == which and found[-1][2] + found[-1][3] == block:
            found[-1][3] += 1
        else:
            found.append([which, gate, block, 1])
    return found


def gradients(m, p, X, D, for_x, for_a, A, M=None, seen=None):
    "dX, dWax, dWaa and the sums over D; for_x and for_a list a block for each gate, `seen` what its product with D saw."
    K, w, gates = m.T * m.B, m.width, len(for_x)
    W = pack_back(m, p.Wax, [for_x.index(b) for b in range(gates)])
    dX, dWax, dWaa = m.buffer(K, m.n_x), zeros((gates * w, up(m.n_x, m.wide)), m.dtype), zeros((gates * w, up(w, m.wide)), m.dtype)
    db, past = zeros((D.shape[1] - m.lanes,), m.dtype), native(A[:-1].reshape(K, w))
    M = past if M is None else native(M.reshape(K, w))
    panels = m.buffer(m.products, CHUNK * max(dWax.shape[1], dWaa.shape[1]))
    products = stretches([OF_X] * gates, for_x) + stretches(seen or [OF_A] * gates, for_a)
    m.share(weight_grads_parts, m.products, D, W, native(X.reshape(K, m.n_x)), past, M, np.array(products), dX, dWax, dWaa, db, panels, m.tiles(), m.zero)
    cut = lambda a, blocks, columns: np.ascontiguousarray(a.reshape(blocks, w, -1)[:, : m.n, :columns])
    flat = lambda a, columns: cut(a, gates, columns).reshape(gates * m.n, columns)
    return dX.reshape(m.T, m.B, m.n_x), flat(dWax, m.n_x), flat(dWaa, m.n), cut(db, len(db) // w, 1)[..., 0]


# %%
#| export
def rnn_compiled(
    p: RNNParams,            # parameters
    X,                       # (T, B, n_x) the sequences
    state: RNNState = None,  # a^<0>, (B, n_a); None for zeros
    lengths=None,            # (B,) T_x of each example; None if all have T steps
    activation="tanh",       # "tanh" or "relu"
):                           # -> Y, state, pullback: the contract of `rnn`
    "The recurrent network in compiled kernels: what `rnn` takes on NumPy arrays where numba is installed."
    _, start, _ = sequence_arguments(p, X, state, lengths, RNNState)
    activation_named(activation)
    if not X.size:
        return rnn_hoisted(p, X, state, lengths, activation)
    m, relu = Plan(X, p.Waa.shape[1], 1, lengths), activation == "relu"
    p, X, A = RNNParams(*map(native, p)), native(X), m.states(start.a)
    W, bias = pack(m, p, [0], [0], 4)
    m.share(rnn_forward_parts, m.loops, X, W, starts(m, X, W, bias), m.before, relu, m.n, m.lengths, A, m.tiles())
    Y, (a,) = m.results(A)

    def pullback(dY=None, dstate=None):
        check_upstream(Y, RNNState(a), dY, dstate)
        some, dY, dA = m.arriving(dY, dstate, 1)
        W, D, dA0 = pack_back(m, p.Waa, [0]), m.buffer(m.T * m.B, m.width + m.lanes), m.buffer(m.B, m.width)
        m.share(rnn_backward_parts, m.loops, W, relu, m.lengths, A, dY, some, dA, D, m.tiles(), m.zero, dA0)
        dX, dWax, dWaa, (dba,) = gradients(m, p, X, D, [0], [0], A)
        return dX, RNNParams(dWax, dWaa, dba), RNNState(dA0[:, : m.n].copy())

    return Y, RNNState(a), pullback


# %%
#| export
def lstm_compiled(
    p: LSTMParams,            # parameters
    X,                        # (T, B, n_x) the sequences
    state: LSTMState = None,  # a^<0> and c^<0>, each (B, n_a); None for zeros
    lengths=None,             # (B,) T_x of each example; None if all have T steps
    peepholes="gers",         # with p.P: "gers" or "lecture"
    masks=None,               # recurrent dropout and zoneout: with any of them, the hoisted form computes
):                            # -> Y, state, pullback: the contract of `lstm`
    "The LSTM in compiled kernels: what `lstm` takes on NumPy arrays where numba is installed. Coupled gates are written out."
    lstm_rows(p)
    _, start, _ = sequence_arguments(p, X, state, lengths, LSTMState)
    noise = lstm_check(p, X, peepholes, masks)
    if not X.size or any(mask is not None for mask in noise):
        return lstm_hoisted(p, X, state, lengths, peepholes, masks)
    m, late, full = Plan(X, p.Waa.shape[1], 4, lengths), peepholes == "gers", lstm_decoupled(p)
    q, X = LSTMParams(*map(native, full[:3])), native(X)
    P = native(np.zeros((0, m.width), m.dtype)) if p.P is None else widen(full.P, m.width)
    A, C, G, (W, bias) = m.states(start.a), m.states(start.c), m.buffer(m.T, m.B, 4, m.width), pack(m, q, range(4), range(4), 1)
    m.share(lstm_forward_parts, m.loops, X, W, starts(m, X, W, bias), m.before, P, late, m.n, m.lengths, A, C, G, m.tiles())
    Y, end = m.results(A, C)
    end = LSTMState(*end)

    def pullback(dY=None, dstate=None):
        check_upstream(Y, end, dY, dstate)
        some, dY, dA, dC = m.arriving(dY, dstate, 2)
        W, D, dA0 = pack_back(m, q.Waa, range(4)), m.buffer(m.T * m.B, 4 * m.width + m.lanes), m.buffer(m.B, m.width)
        m.share(lstm_backward_parts, m.loops, W, P, late, m.lengths, A, C, G, dY, some, dA, dC, D, m.tiles(), m.zero, dA0)
        dX, dWax, dWaa, db = gradients(m, q, X, D, [0, 1, 2, 3], [0, 1, 2, 3], A)
        grads = LSTMParams(dWax, dWaa, db.ravel(), None if p.P is None else peephole_grads(m, D, C, late))
        return dX, coupled_grads(p, grads), LSTMState(dA0[:, : m.n].copy(), dC[:, : m.n].copy())

    return Y, end, pullback


# %% [markdown]
# Two odds and ends of the LSTM: the peepholes' gradient, and the gradient of a coupled unit, whose $W_u = -W_f$ was written out.

# %%
#| exporti
def peephole_grads(m, D, C, late):
    "Equation 9.21."
    D = D.reshape(m.T, m.B, -1)
    total = lambda gate, cells: np.einsum("tbi,tbi->i", D[:, :, gate * m.width :][:, :, : m.n], cells[:, :, : m.n])
    return np.stack([total(0, C[:-1]), total(1, C[:-1]), total(3, C[1:] if late else C[:-1])])


def coupled_grads(p, grads):
    "The gradient of the four-gate unit, as one of p: the same, or for coupled gates its f minus its u."
    if len(p.Waa) == len(grads.Waa):
        return grads
    n = p.Waa.shape[1]
    join = lambda d, k: None if d is None else np.concatenate([d[k : 2 * k] - d[:k], d[2 * k :]])
    return LSTMParams(*(join(d, k) for d, k in zip(grads, (n, n, n, 1))))


# %%
#| export
def gru_compiled(
    p: GRUParams,            # parameters
    X,                       # (T, B, n_x) the sequences
    state: GRUState = None,  # a^<0>, (B, n_a); None for zeros
    lengths=None,            # (B,) T_x of each example; None if all have T steps
    reset="before",          # "before" the product (the lecture) or "after" it (cuDNN)
    variant="full",          # "full" or "simplified"
):                           # -> Y, state, pullback: the contract of `gru`
    "The GRU in compiled kernels: what `gru` takes on NumPy arrays where numba is installed."
    check_gru(p, reset, variant)
    _, start, _ = sequence_arguments(p, X, state, lengths, GRUState)
    if not X.size:
        return gru_hoisted(p, X, state, lengths, reset, variant)
    kind, gates = (SIMPLIFIED, 2) if variant == "simplified" else (BEFORE if reset == "before" else AFTER, 3)
    m = Plan(X, p.Waa.shape[1], gates, lengths)
    p, X = GRUParams(*(None if w is None else native(w) for w in p)), native(X)
    A, G, (W, bias, Wc, bias_c) = m.states(start.a), m.buffer(m.T, m.B, gates, m.width), gru_pack(m, p, kind)
    M, start = A if kind == SIMPLIFIED else m.buffer(m.T, m.B, m.width), starts(m, X, W, bias, 3 if kind == AFTER else 4)
    start_c = starts(m, X, Wc, bias_c) if kind == BEFORE else start
    m.share(gru_forward_parts, m.loops, X, W, start, Wc, start_c, m.before, kind, m.n, m.lengths, A, G, M, m.tiles())
    Y, (a,) = m.results(A)

    def pullback(dY=None, dstate=None):
        check_upstream(Y, GRUState(a), dY, dstate)
        some, dY, dA = m.arriving(dY, dstate, 1)
        W, Wc = pack_back(m, p.Waa, range(gates if kind == AFTER else 2)), pack_back(m, p.Waa, [gates - 1])
        blocks, keep, dA0 = 4 if kind == AFTER else gates, zeros((m.B, m.width), m.dtype), m.buffer(m.B, m.width)
        D = m.buffer(m.T * m.B, blocks * m.width + m.lanes)
        m.share(gru_backward_parts, m.loops, W, Wc, kind, m.lengths, A, G, M, dY, some, dA, keep, D, m.tiles(), m.zero, dA0)
        return *gru_grads(m, p, X, D, A, M, kind), GRUState(dA0[:, : m.n].copy())

    return Y, GRUState(a), pullback


# %%
#| exporti
def gru_pack(m, p, kind):
    "W, bias and, for the second product, Wc, bias_c; gates r, u, c, or u, c in the simplified unit."
    if kind == SIMPLIFIED:
        return pack(m, p, [0, 1], [0, 1], 2) * 2
    if kind == BEFORE:
        return *pack(m, p, [0, 1], [0, 1], 2), *pack(m, p, [2], [2], 4)
    bias = m.buffer(m.width * 4)
    both = native(np.concatenate([p.ba, p.bac])[:, None])
    m.run(pack_rows, both, np.array([3, 0, 1, 2]) * m.n, m.n, 1, bias, 0, m.wide)
    return pack(m, p, [0, 1, 2], [2, 0, 1], 1, bias) * 2


def gru_grads(m, p, X, D, A, M, kind):
    "dX and the gradient; after the product, D holds c, r, u, m."
    if kind == AFTER:
        dX, dWax, dWaa, (c, r, u, dbac) = gradients(m, p, X, D, [1, 2, 0], [1, 2, 3], A)
        return dX, GRUParams(dWax, dWaa, np.concatenate([r, u, c]), dbac)
    seen = [OF_A, OF_A] if kind == SIMPLIFIED else [OF_A, OF_A, OF_M]
    blocks = list(range(len(seen)))
    dX, dWax, dWaa, db = gradients(m, p, X, D, blocks, blocks, A, None if kind == SIMPLIFIED else M, seen)
    return dX, GRUParams(dWax, dWaa, db.ravel())


# %% [markdown]
# Masks of an LSTM (dropout, zoneout), and arrays with no element in them, go to the hoisted form. Everything else is computed
# here, an array that is not contiguous after a copy.
#
# ## Does it hold?
#
# The plain forms are the judges. Whatever a unit returns, outputs, final state and all derivatives, must be the same up to
# rounding: for each unit, for a batch whose rows leave a remainder, for units that do not fill a vector, with ragged lengths.
# `tests/test_units.py` and `tests/test_kernels_cpu.py` do this for all options, both dtypes, and many more shapes.

# %%
from functools import partial

from seqbook.backend import fast, leaves
from seqbook.gru import GRU, gru_init, gru_plain
from seqbook.lstm import LSTM, lstm_init, lstm_plain
from seqbook.rnn import RNN, rnn_init, rnn_plain


# %%
def everything(unit, p, X, lengths):
    "All that a unit computes, by name."
    Y, end, pullback = unit(p, X, None, lengths)
    dX, grads, start = pullback(np.cos(Y), end)
    return leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "start": start})

pairs = {
    "RNN": (rnn_init, rnn_plain, rnn_compiled),
    "LSTM": (lstm_init, lstm_plain, lstm_compiled),
    "GRU": (gru_init, gru_plain, gru_compiled),
    "GRU, reset after": [partial(f, reset="after") for f in (gru_init, gru_plain, gru_compiled)],
    "GRU, simplified": [partial(f, variant="simplified") for f in (gru_init, gru_plain, gru_compiled)],
}

# %%
for name, (init, plain, compiled) in pairs.items():
    p, X, lengths = init(1, 10, 37, np.float64), rng.normal(size=(9, 13, 10)), rng.integers(0, 10, 13)
    want, got = (everything(f, p, X, lengths) for f in (plain, compiled))
    worst = max(abs(got[k] - want[k]).max() / max(abs(want[k]).max(), 1) for k in want)
    print(f"{name:<18} largest difference {'below 1e-13' if worst < 1e-13 else worst}")
    assert worst < 1e-13

# %% [markdown]
# The layers take this path by themselves, and `fast(False)` or `SEQBOOK_FAST=0` turn it off.

# %%
layer, X = LSTM(10, 37), rng.normal(size=(9, 13, 10)).astype(np.float32)
Y, _, _ = layer(X)
with fast(False):
    hoisted, _, _ = layer(X)
assert np.allclose(Y, hoisted, atol=1e-6) and not np.array_equal(Y, hoisted)

# %% [markdown]
# ## How fast?
#
# The recorded run again, as a picture.

# %%
#| code-fold: true
#| fig-cap: The ladder on one core. Bars one to four are one product, the others a whole LSTM forward pass.
#| fig-alt: Six horizontal bars of rising speed, from the plain compiled loops to gates in the loop of the products.
recorded = json.loads(Path("../../benchmarks/results/kernels_cpu.json").read_text())
fig, ax = plt.subplots(figsize=(6.6, 2.4))
steps = [s for s in recorded["ladder"] if "quiet" not in s]
ax.barh([s["step"] for s in steps], [s["gflops"] for s in steps], color=["C0"] * 4 + ["C1"] * (len(steps) - 4))
ax.bar_label(ax.containers[0], fmt="%.0f", padding=2, fontsize=8)
ax.invert_yaxis()
ax.set(xlabel="GFLOP/s", xlim=(0, 1.12 * max(s["gflops"] for s in steps)))
ax.grid(axis="y", visible=False);


# %% [markdown]
# And whole layers, beside the hoisted form in NumPy and beside PyTorch, with the same number of threads for all: milliseconds
# for the forward pass, and for forward and backward with all gradients. "Ratio" is PyTorch's time over ours.

# %%
#| code-fold: true
def recorded_table(run, what):
    lines = [f"{what}, threads: {run['threads']}", f"{'unit':<6}{'T, B, n_x, n_a':<26}{'NumPy':>9}{'compiled':>10}{'PyTorch':>9}{'ratio':>7}"]
    for row in run["layers"]:
        size = ", ".join(str(row[k]) for k in ("T", "B", "n_x", "n_a")) + (" ragged" if row["ragged"] else "")
        numpy, compiled, torch = (row[what][name]["best"] for name in ("NumPy", "compiled", "PyTorch"))
        lines.append(f"{row['unit']:<6}{size:<26}{numpy:9.2f}{compiled:10.2f}{torch:9.2f}{torch / compiled:7.1f}")
    return "\n".join(lines)

print(*(recorded_table(run, what) for run in recorded["runs"] for what in ("forward", "both")), sep="\n\n")

# %% [markdown]
# PyTorch computes its LSTM with oneDNN, whose kernels are of this kind too. Its RNN and GRU call a BLAS at each step, as our
# hoisted forms do. Where a batch has one row, nobody is fast: each weight is fetched for one multiplication, and PyTorch, which
# takes the input's weights out of that loop, is ahead of our LSTM's forward pass.
#
# ## The first call
#
# The first call of a unit compiles it, and later programs find the result on disk, beside the package or, where that is not
# writable, in the user's cache; `NUMBA_CACHE_DIR` names another place. Recorded, in seconds:

# %%
for row in recorded["first_calls"]:
    print(f"{row['unit']:<6}{row['compiled']:6.1f} compiled{row['from the cache']:8.2f} from the cache")

# %% [markdown]
# ## What can go wrong
#
# * **Too many threads.** Every process takes one thread for each processor. Start four processes on four processors, and
#   sixteen threads wait for each other. `threads(1)`, or `NUMBA_NUM_THREADS=1` in the environment, helps.

# %%
before = threads()
assert threads(1) == 1 and threads(before) == before

# %% tags=["raises-exception"]
threads(0)

# %% [markdown]
# * **Other bits.** A sum in another order rounds differently. The compiled forms agree with the plain ones to a few units in
#   the last place a step, and not to the bit. Two calls with the same arguments and number of threads do give the same bits.
# * **A processor without vectors of its own.** LLVM splits a vector that the machine lacks. The results stay right.
# * **No numba for a new Python.** Nothing breaks, the hoisted forms compute. `import seqbook.kernels_cpu` tells what is missing.
#
# ## Summary
#
# * A processor's speed lies in its vectors; a compiler that cannot prove them safe leaves them out.
# * A tile of registers turns ten fetches into 24 multiplications (kernels.1).
# * What does not change between steps is packed once, in the order of its use.
# * Gates are computed while their sums are in the nearest cache.
# * Threads that share no step need not wait for each other.
#
# ## Exercises
#
# 1. Set `ROWS` to 1 and to 8, and measure. Why is 8 slower than 6 with 32 registers?
# 2. `tanh` costs about 22 instructions for 16 values. How many units must a layer have before the gates take less than a tenth
#    of the time?
# 3. Sort a ragged batch by length, and time it against the same batch shuffled. Which line of the kernels makes the difference?
#
# ## References
#
# * K. Goto and R. van de Geijn. Anatomy of high-performance matrix multiplication. *ACM Transactions on Mathematical Software*, 2008.
# * S. K. Lam, A. Pitrou and S. Seibert. Numba: a LLVM-based Python JIT compiler. *LLVM-HPC*, 2015.
# * C. Lattner and V. Adve. LLVM: a compilation framework for lifelong program analysis and transformation. *CGO*, 2004.

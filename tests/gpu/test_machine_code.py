"""Every kernel compiles for three generations of GPUs, within a multiprocessor's registers and without spilling. No GPU is needed."""
import re
from functools import cache

import pytest
from machine_code import compiled, nvrtc

from seqbook.kernels_gpu import GATES, H100, KINDS, REALS, STEPS, SUMS, WHOLE, Card, loop_options, step_options
from seqbook.kernels_gpu import layouts as plans

pytestmark = pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
CARDS = {"sm_80": Card("A100", 108, 166912, True, 8), "sm_90": H100, "sm_100": Card("B200", 148, 232448, True, 10)}
LOOPS = [(unit, n, back, single) for unit, n in (("rnn", 1024), ("gru-simplified", 512), ("gru-after", 512), ("lstm", 512), ("lstm", 64))
         for back in (False, True) for single in (False, True)]


@cache
def usage(source, options, arch):
    "kernel -> registers of a thread, bytes it spills; from the compiler's report."
    _, report = compiled(source, options, arch)
    kernels = re.split(r"Compiling entry function '(\w+)'", report)[1:]
    found = {}
    for name, text in zip(kernels[::2], kernels[1::2], strict=True):
        spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text).groups()
        found[name] = int(re.search(r"Used (\d+) registers", text)[1]), sum(map(int, spilled))
    return found


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("unit", KINDS)
def test_pointwise_kernels(unit, dtype, arch):
    found = usage(STEPS, step_options(unit, dtype), arch)
    assert set(found) == {"step_forward", "step_backward"} | ({"step_candidate", "step_reset"} if unit == "gru-before" else set())
    assert all(registers <= 80 and not spilled for registers, spilled in found.values()), found  # 80: three blocks of 256 threads at once


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("resident", [True, False], ids=["persistent", "graph"])
@pytest.mark.parametrize("unit, n, back, single", LOOPS, ids=lambda v: str(v))
def test_loop_kernels(unit, n, back, single, resident, arch):
    plan = plans(GATES[unit], n, 64, back, single, resident, CARDS[arch])[0]
    registers, spilled = usage(WHOLE, loop_options(unit, n, plan, back, single), arch)["loop"]
    assert registers <= (plan.weights + 120 if resident else 255) and not spilled, (plan, registers, spilled)
    assert plan.shared <= CARDS[arch].shared


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", REALS)
def test_sums(dtype, arch):
    (registers, spilled), = usage(SUMS, (f"-Dreal={REALS[dtype]}",), arch).values()
    assert registers <= 64 and not spilled


@pytest.mark.parametrize("single", [False, True], ids=["float32", "TF32"])
def test_the_fullest_plans(single):
    "Plans that use all the registers they may, and widths of a slice that are no powers of two."
    seen = 0
    for unit in ("lstm", "gru-after", "rnn"):
        for n in range(1984, 64, -64):
            for back in (False, True):
                for plan in plans(GATES[unit], n, 16, back, single, True, H100):
                    if plan.weights == 128:
                        registers, spilled = usage(WHOLE, loop_options(unit, n, plan, back, single), "sm_90")["loop"]
                        assert not spilled, (unit, n, back, plan, registers, spilled)
                        seen += 1
    assert seen >= 6


def test_a_mistake_is_reported_with_the_compilers_words():
    with pytest.raises(RuntimeError, match="nvrtcCompileProgram.*undefined"):
        compiled('extern "C" __global__ void f() { nothing(); }', (), "sm_90")


def test_spills_are_seen():
    "The report is read rightly: a kernel that is given 32 registers for what needs more does spill."
    plan = plans(4, 512, 64, False, True, True, H100)[0]
    source = WHOLE.replace("__launch_bounds__(THREADS, 1)", "__launch_bounds__(1024, 2)")
    registers, spilled = usage(source, loop_options("lstm", 512, plan, False, True), "sm_90")["loop"]
    assert registers <= 32 and spilled > 0

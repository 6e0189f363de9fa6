"""The CUDA kernels of `seqbook.kernels_gpu` on the CPU: the same source, compiled with g++ through `stand_in.h`."""
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from seqbook.backend import BackendError, DeviceArray, device
from seqbook.kernels_gpu import Card

HEADER = Path(__file__).with_name("stand_in.h")
COMPILER = shutil.which("g++")
SMALL = Card("a stand-in", 12, 232448, True, 9)  # few multiprocessors, so that groups and tiles are many at small sizes


@cache
def folder():
    "Where compiled kernels are kept: beside the tests where that can be written, so that processes share them."
    try:
        place = HEADER.parent / "__pycache__" / "stand_in"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{os.getpid()}.try").touch()
        (place / f"{os.getpid()}.try").unlink()
        return place
    except OSError:
        return Path(tempfile.mkdtemp(prefix="seqbook-kernels-"))


@cache
def library(source, options):
    "The kernels of a source, as a shared library."
    kernel = r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(.*?\n\}'
    text = f'#include "{HEADER.name}"\n' + re.sub(kernel, lambda m: f"{m[0]}\nRUN({m[1]})", source, flags=re.S)
    name = hashlib.sha256((text + HEADER.read_text() + " ".join(options)).encode()).hexdigest()[:16]
    path = folder() / f"{name}.so"
    if not path.exists():
        own = path.with_suffix(f".{os.getpid()}")
        command = [COMPILER, "-std=c++20", "-O1", "-fPIC", "-shared", "-w", f"-I{HEADER.parent}", *options, "-x", "c++", "-", "-o", own]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            raise BackendError(f"g++ refused the kernels: {done.stderr[:2000]}")
        own.replace(path)
    return ctypes.CDLL(str(path))


class StandIn:
    "What `CupyLauncher` does, with threads of the stand-in instead of a GPU's."

    def __init__(self, card=SMALL, seed=0, at_once=None):
        self.the_card, self.seed, self.at_once = card, seed, at_once
        self.last, self.launches, self.counts = None, [], (ctypes.c_long * 2)()  # names and grids; barriers of blocks, bells rung

    def card(self):
        return self.the_card

    def kernel(self, source, name, options, shared=0):
        function = getattr(library(source, options), f"run_{name}")
        function.restype = ctypes.c_char_p
        function.label = name
        return function

    def address(self, a):
        return a._a.ctypes.data

    def table(self, values):
        return device.asarray(np.array(values, np.int64))

    def resident(self, kernel, threads, shared):
        return self.the_card.sms if self.at_once is None else self.at_once

    def launch(self, kernel, grid, threads, args, shared=0, cooperative=False):
        if cooperative and grid > self.resident(kernel, threads, shared):
            raise BackendError(f"{grid} blocks were to run at once, the device holds {self.resident(kernel, threads, shared)}")
        assert shared <= self.the_card.shared
        self.launches.append((kernel.label, grid))
        self.seed += 1
        assert all(a.flags.c_contiguous for a in args if isinstance(a, DeviceArray))
        held = [np.uint64(self.address(a)) if isinstance(a, DeviceArray) else a for a in args]
        cells = [np.array([a]) for a in held]
        pointers = (ctypes.c_void_p * len(cells))(*(c.ctypes.data for c in cells))
        problem = kernel(pointers, ctypes.c_uint(grid), ctypes.c_uint(threads), ctypes.c_size_t(shared), int(cooperative),
                         ctypes.c_uint(self.seed), self.counts)
        if problem:
            raise AssertionError(f"{kernel.label}: {problem.decode()}")

    def loop(self, kernel, grid, threads, values, steps, shared):
        table = self.table(values)
        for a, b in steps:
            self.launch(kernel, grid, threads, (table, np.int32(a), np.int32(b), np.uint64(0)), shared)

"""A plugin of pytest, `-p rehearsal`: the pretended device and the stand-in take CuPy's place, so that GPU tests run without a GPU.

It shows that the tests themselves are right: that they call what there is, and pass where the numbers are right. It proves nothing of a
GPU, and `test_rehearsal.py`, which runs it, counts under its own name alone.
"""
import contextlib
import sys
import types

from stand_in import StandIn

from seqbook import backend, kernels_gpu
from seqbook.backend import DeviceArray, device

machine = StandIn()


@contextlib.contextmanager
def allow_synchronize(allow):
    "As CuPy's: where it is not allowed, what waits raises."
    assert not allow
    waits = [name for name in ("__float__", "__int__", "__bool__", "__index__", "item", "tolist", "nonzero", "get")]
    before = {name: getattr(DeviceArray, name) for name in waits}

    def refuse(*_):
        raise RuntimeError("Device synchronization was detected while disallowed.")

    for name in waits:
        setattr(DeviceArray, name, refuse)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(DeviceArray, name, method)


sys.modules["cupy"] = device
sys.modules["cupyx"] = types.SimpleNamespace(allow_synchronize=allow_synchronize)
backend._cupy = lambda: device
kernels_gpu.LAUNCHERS["device"] = lambda: machine
for unit in ("rnn", "gru", "lstm", "embedding"):
    backend.register(unit, "device", getattr(kernels_gpu, f"{unit}_gpu"))

"""Dispatch, trees, errors, and the stand-in device itself."""
import os
import re
import subprocess
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest

import seqbook.backend as backend
from seqbook.backend import (
    BackendError,
    DeviceArray,
    array_module,
    asnumpy,
    check_array,
    check_number,
    check_whole,
    creation_module,
    device,
    gpu_missing,
    implementation,
    leaves,
    like,
    register,
    to,
    tree_map,
    use,
)


class Pair(NamedTuple):
    W: object
    b: object


TREE = {"layer": Pair(np.arange(6.0).reshape(2, 3), np.zeros(2)), "list": [np.ones(1), (np.ones(2),)], "none": None}


def test_dispatch_is_on_the_data():
    a = np.ones(2)
    assert array_module(a, None, 1.0, True) is np
    assert array_module(device.asarray(a)) is device
    assert array_module() is np


@pytest.mark.parametrize("bad", [[1.0], "text", object(), {1: 2}])
def test_what_is_no_array_is_refused(bad):
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got"):
        array_module(bad)


def test_mixing_names_the_fix():
    with pytest.raises(TypeError, match=r"device and numpy.*to\(x, 'numpy'\)"):
        array_module(np.ones(1), device.asarray([1.0]))


def test_use_is_restored_after_block_and_error():
    with pytest.raises(ZeroDivisionError), use("numpy"):
        1 / 0
    assert creation_module() is np
    with pytest.raises(ValueError, match="name: expected one of numpy, cupy, auto, got 'jax'"):
        use("jax")


def test_environment_decides_creation():
    code = [sys.executable, "-c", "from seqbook.backend import creation_module as m; print(m().__name__)"]
    run = lambda value: subprocess.run(code, env={**os.environ, "SEQBOOK_BACKEND": value}, capture_output=True, text=True)
    assert run("numpy").stdout.strip() == "numpy"
    assert run("auto").stdout.strip() == ("numpy" if gpu_missing() else "cupy")
    assert "SEQBOOK_BACKEND: expected one of numpy, cupy, auto, got 'tpu'" in run("tpu").stderr


@pytest.mark.skipif(gpu_missing() is None, reason="a GPU works here")
def test_asking_for_a_gpu_without_one_says_what_is_missing():
    with pytest.raises(BackendError, match="pip install|nvidia-smi"):
        use("cupy")
    assert creation_module() is np
    with pytest.raises(BackendError):
        to(TREE, "cupy")


def test_a_missing_cupy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "seqbook[gpu12]" in gpu_missing()


def pretended_cupy(device=True, compiler=True, products=True):
    "A module that fails where CuPy would."
    def need(there, message):
        if not there:
            raise RuntimeError(message)

    class Array:
        def __add__(self, other):
            need(compiler, "libnvrtc.so.12: cannot open shared object file")
            return self

        def __matmul__(self, other):
            need(products, "libcublas.so.12: cannot open shared object file")

    module = types.ModuleType("cupy")
    module.__version__, module.zeros = "14.2.0", lambda n: need(device, "cudaErrorNoDevice") or Array()
    return module


@pytest.mark.parametrize("missing, message", [
    ({"device": False}, r"no GPU answers \(cudaErrorNoDevice\): check the driver"),
    ({"compiler": False}, r"a part of CUDA is missing \(libnvrtc.*NVRTC with its headers or cuBLAS: pip install 'seqbook\[gpu12\]'"),
    ({"products": False}, r"a part of CUDA is missing \(libcublas")], ids=str)
def test_what_is_missing_is_said_by_name(missing, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", pretended_cupy(**missing))
    assert re.search(message, gpu_missing()) and gpu_missing().startswith("CuPy 14.2.0 is installed, but")
    monkeypatch.setitem(sys.modules, "cupy", pretended_cupy())
    assert gpu_missing() is None and creation_module() is np


def test_leaves_like_and_map_are_inverse():
    named = leaves(TREE)
    assert list(named) == ["layer.W", "layer.b", "list.0", "list.1.0"]
    again = like(TREE, {k: v + 1 for k, v in named.items()})
    assert type(again["layer"]) is Pair and type(again["list"]) is list and type(again["list"][1]) is tuple and again["none"] is None
    assert all((a == b + 1).all() for a, b in zip(leaves(again).values(), named.values(), strict=True))
    assert (tree_map(np.add, TREE, again)["layer"].W == 2 * TREE["layer"].W + 1).all()


@pytest.mark.parametrize("change, message", [
    (lambda d: d.pop("layer.b"), "'layer.b' is missing"),
    (lambda d: d.update(extra=np.ones(1)), "'extra' is not part of it"),
    (lambda d: d.update({"layer.W": np.ones((3, 2))}), r"tree.layer.W: expected shape \(2, 3\), got \(3, 2\)"),
])
def test_like_is_strict(change, message):
    named = leaves(TREE)
    change(named)
    with pytest.raises(ValueError, match=message):
        like(TREE, named)


def test_check_array_names_argument_expectation_and_finding():
    with pytest.raises(ValueError, match=r"X: expected shape \(T, B, 4\), got \(2, 3\)"):
        check_array("X", np.ones((2, 3)), ("T", "B", 4))
    with pytest.raises(ValueError, match=r"b: expected shape \(2,\), got \(3,\)"):
        check_array("b", np.ones(3), (2,))
    with pytest.raises(TypeError, match="ids: expected an integer, got float64"):
        check_array("ids", np.ones(3), dtype="int")
    with pytest.raises(TypeError, match="X: expected float32 or float64, got int64"):
        check_array("X", np.ones(3, int), dtype="float")
    with pytest.raises(TypeError, match="X: expected a NumPy or CuPy array, got list"):
        check_array("X", [1.0])


def test_table_imports_on_first_use(monkeypatch):
    monkeypatch.setattr(backend, "_TABLE", {})
    default = object()
    register("unit", "numpy", "json:dumps")
    import json
    assert implementation("unit", np, default) is json.dumps
    assert implementation("unit", device, default) is default
    assert implementation("other", np, default) is default


class TestDevice:
    def test_refuses_silent_copies(self):
        d = device.asarray(np.ones(3))
        mixtures = (lambda x: np.ones(3) + x, lambda x: x + np.ones(3), lambda x: x.__setitem__(0, np.ones(1)))
        for attempt in (np.asarray, np.array, memoryview, *mixtures):
            with pytest.raises(TypeError):
                attempt(d)

    def test_counts_every_wait(self, synchronisations):
        d = device.asarray(np.array([1.0, 2.0]))
        float(d.sum()), int(d[0]), bool(d[0]), d.tolist(), d[d > 1], asnumpy(d), d.nonzero()
        assert synchronisations == dict(float=1, int=1, bool=1, tolist=1, mask=1, get=1, nonzero=1)

    def test_computes_as_numpy_and_stays(self):
        a = np.arange(6.0).reshape(2, 3)
        d = device.asarray(a)
        functions = (
            lambda x, xp: x @ x.T,
            lambda x, xp: xp.tanh(x)[:, 1:] * 2 - 1,
            lambda x, xp: x.sum(axis=0, keepdims=True),
            lambda x, xp: xp.concatenate([x, x]),
            lambda x, xp: xp.where(x > 2, x, 0),
            lambda x, xp: xp.add.reduceat(x, xp.asarray([0, 1]), axis=1),
            lambda x, xp: xp.einsum("ij,kj->ik", x, x),
        )
        for f in functions:
            got = f(d, device)
            assert isinstance(got, DeviceArray) and np.array_equal(asnumpy(got), f(a, np))

    def test_writes_in_place(self):
        d = device.asarray(np.zeros((2, 2)))
        same = d
        d += 1
        device.multiply(d, 3, out=d)
        assert same is d and (asnumpy(same) == 3).all()
        assert device.matmul(d, d, out=d) is d

    def test_random_numbers_are_drawn_on_the_host(self):
        with pytest.raises(AttributeError, match="drawn on the host"):
            device.random


def test_import_is_light():
    code = "import sys, seqbook, seqbook.rnn; print([m for m in ('matplotlib', 'cupy', 'pandas', 'torch', 'numba') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.gpu
def test_to_and_back_on_a_gpu():
    there = to(TREE, "cupy")
    assert array_module(*leaves(there).values()).__name__ == "cupy"
    assert all((a == b).all() for a, b in zip(leaves(to(there, "numpy")).values(), leaves(TREE).values(), strict=True))


@pytest.mark.parametrize("call, error, message", [
    (lambda: check_whole("n_a", 2.5), TypeError, "n_a: expected a whole number >= 1, got 2.5 (float)"),
    (lambda: check_whole("n_a", True), TypeError, "n_a: expected a whole number >= 1, got True (bool)"),
    (lambda: check_whole("n_a", None), TypeError, "n_a: expected a whole number >= 1, got None (NoneType)"),
    (lambda: check_whole("n_a", 0), ValueError, "n_a: expected a whole number >= 1, got 0"),
    (lambda: check_whole("id", 9, 0, 8), ValueError, "id: expected a whole number >= 0 and <= 8, got 9"),
    (lambda: check_number("lr", "0.1"), TypeError, "lr: expected a number in [0, inf), got '0.1' (str)"),
    (lambda: check_number("lr", float("nan")), ValueError, "lr: expected a number in [0, inf), got nan"),
    (lambda: check_number("lr", float("inf")), ValueError, "lr: expected a number in [0, inf), got inf"),
    (lambda: check_number("eps", 0, brackets="()"), ValueError, "eps: expected a number in (0, inf), got 0"),
    (lambda: check_number("p", 1, 0, 1), ValueError, "p: expected a number in [0, 1), got 1"),
])
def test_numbers_out_of_range_are_named(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()


def test_numbers_in_range_come_back():
    assert check_whole("n", np.int32(7)) == 7 and type(check_whole("n", np.int32(7))) is int
    assert check_whole("n", 8, 0, 8) == 8 and check_number("p", 1, 0, 1, "(]") == 1.0 and type(check_number("p", np.float32(0.5))) is float

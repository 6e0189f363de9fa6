"""The tests that wait for a GPU are themselves tried: on the stand-in, where right kernels pass and a wrong one does not."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in import COMPILER

TESTS = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^\s*@pytest\.mark\.gpu|^pytestmark = pytest\.mark\.gpu", re.M)
MARKED = [str(p) for p in sorted(TESTS.rglob("test_*.py")) if MARK.search(p.read_text())]
ONLY_A_GPU = {  # what asks the hardware
    "test_to_and_back_on_a_gpu", "test_lists_become_cupy_arrays_under_use", "test_a_training_step_copies_nothing_to_the_host",
    "test_too_much_is_refused_with_advice", "test_arrays_of_more_than_two_to_the_31_elements"}
LONG = {"graph", "persistent"}  # test_kernels_on_the_cpu.py has these kernels


def rehearse(*more):
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), str(TESTS / "gpu"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "rehearsal", "-m", "gpu",
               "-k", " and ".join(f"not {name}" for name in sorted(ONLY_A_GPU | LONG)), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, env=os.environ | {"PYTHONPATH": paths})


@pytest.mark.skipif(COMPILER is None, reason="needs g++ to run the kernels on the CPU")
def test_the_gpu_tests_pass_where_the_numbers_are_right():
    done = rehearse(*MARKED)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 200 and "skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.skipif(COMPILER is None, reason="needs g++ to run the kernels on the CPU")
def test_the_gpu_tests_fail_where_they_are_not(tmp_path):
    (tmp_path / "wrong.py").write_text("import rehearsal\nfrom seqbook import kernels_gpu\n"
                                       "kernels_gpu.STEPS = kernels_gpu.STEPS.replace('da * (1 - a * a)', 'da * (1 + a * a)')\n")
    os.environ["PYTHONPATH"], before = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]), os.environ.get("PYTHONPATH", "")
    try:
        done = rehearse("-p", "wrong", str(TESTS / "gpu" / "test_on_a_gpu.py"), str(TESTS / "test_units.py"))
    finally:
        os.environ["PYTHONPATH"] = before
    assert done.returncode == 1 and "1 failed" in done.stdout

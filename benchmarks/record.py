"""What every benchmark keeps beside its figures: machine, versions, commit, date; written whole or not at all."""
import json
import os
import platform
import resource
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from seqbook.training import write_whole

RESULTS = Path(__file__).resolve().parent / "results"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def machine():
    "What the figures depend on."
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    threads = {name: os.environ[name] for name in THREADS if name in os.environ}
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "system": f"{platform.system()} {platform.machine()}"}


def versions(
    *packages,  # names of installed distributions
):              # -> {name: version}, Python's first
    "The versions that were measured."
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def commit():
    "The commit that is checked out, or None."
    try:
        command = ["git", "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def today():
    "The date, in UTC."
    return datetime.now(timezone.utc).date().isoformat()


def peak_mib():
    "Largest memory of this process so far."
    try:  # getrusage would count the parent's memory in a process that was just started
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 2**10)
    except (OSError, StopIteration):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def write(
    path,    # where; "-" for nowhere
    result,  # what can be written as JSON
):
    "Write a result, whole or not at all."
    if str(path) != "-":
        write_whole(path, (json.dumps(result, indent=1) + "\n").encode())

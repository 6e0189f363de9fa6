"""What the tests share: a report of what was skipped for want of a GPU or a peer, by name."""
from collections import Counter

import agreement
import numpy as np
import pytest

from seqbook.backend import DeviceArray, gpu_missing


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a working GPU; skipped, counted and named without one")


def pytest_collection_modifyitems(items):
    if reason := gpu_missing():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason.splitlines()[0][:120]}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        report.user_properties += [("agreement", (what, *seen)) for what, seen in agreement.SEEN.items()]
        agreement.SEEN.clear()
    return report


def pytest_terminal_summary(terminalreporter):
    reports, total = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])], {}
    for what, count, worst in (value for r in reports for name, value in r.user_properties if name == "agreement"):
        before = total.get(what, (0, 0.0))
        total[what] = before[0] + count, max(before[1], worst)
    if total:
        terminalreporter.section("compared with: arrays, largest relative difference")
        for what, (count, worst) in sorted(total.items()):
            terminalreporter.write_line(f"{what:<60}{count:>8,}{worst:>10.1e}")
    skipped = Counter(r.nodeid.partition("[")[0] for r in terminalreporter.stats.get("skipped", []) if "needs a GPU" in str(r.longrepr))
    if skipped:
        names = ", ".join(f"{name} ({n})" for name, n in skipped.items())
        terminalreporter.write_line(f"{skipped.total()} GPU tests were skipped, not passed: {names}")


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture
def synchronisations():
    "The counter of the pretended device, empty at the start."
    DeviceArray.synchronisations.clear()
    return DeviceArray.synchronisations

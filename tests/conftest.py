"""What the tests share: a report of what was skipped for want of a GPU or a peer, by name, and a browser."""
import gc
import os
import shutil
import warnings
from collections import Counter

import agreement
import numpy as np
import pytest

from seqbook.backend import DeviceArray, fast, gpu_missing


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a working GPU; skipped, counted and named without one")


def pytest_collection_modifyitems(items):
    if reason := gpu_missing():
        for item in items:
            if item.get_closest_marker("gpu"):  # the folder tests/gpu is a keyword too
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


@pytest.fixture(scope="module", autouse=True)
def left_behind():
    "Event loops that runners of notebooks leave open go here, and not in the middle of a test that takes warnings for errors."
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture
def synchronisations():
    "The counter of the pretended device, empty at the start."
    DeviceArray.synchronisations.clear()
    return DeviceArray.synchronisations


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # it talks to the tests' own server and to nobody else


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium: $CHROMIUM, or the first one on PATH. Tests are skipped without one, unless SEQBOOK_REQUIRE_BROWSER=1.
    One for each module, since no other event loop can run in this thread meanwhile."""
    missing = pytest.fail if os.environ.get("SEQBOOK_REQUIRE_BROWSER") == "1" else pytest.skip
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("needs playwright: pip install 'seqbook[browser]'")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing("needs a Chromium on PATH, or its path in the variable CHROMIUM")
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # which Chromium refuses to root
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=QUIET + root)
        except Error as error:
            missing(f"needs a Chromium that starts: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def array_forms():
    "Units in array operations everywhere: host and pretended device then give the same bits, whether numba is installed or not."
    with fast(False):
        yield

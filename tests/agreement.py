"""One comparison for all tests. How near it came is kept by what was compared with, and pytest's last lines show it (conftest.py)."""
import numpy as np

SEEN = {}  # what was compared with -> (comparisons, largest relative difference); emptied after each test


def note(what, difference):
    "Remember a comparison."
    count, worst = SEEN.get(what, (0, 0.0))
    SEEN[what] = count + 1, max(worst, float(difference))


def host(a):
    "What another system computed, as a NumPy array."
    return a.detach().cpu().numpy() if hasattr(a, "detach") else np.asarray(a)


def agree(ours, theirs, tol, what=None, dtypes=True):
    "Equal names, shapes and dtypes; values that differ by at most `tol`, relative to the largest of an array, or to 1."
    assert ours.keys() == theirs.keys()
    for name, a in ours.items():
        a, b = host(a), host(theirs[name])
        assert a.shape == b.shape, (name, a.shape, b.shape)
        assert a.dtype == b.dtype or not dtypes, (name, a.dtype, b.dtype)
        difference = abs(a - b).max(initial=0) / max(abs(b).max(initial=0), 1)
        if what:
            note(f"{what}, {a.dtype}", difference)
        assert difference <= tol, (name, difference)  # NaN is no number to be below


def agree_with_differences(report, tol, what):
    "A report of `check_unit` or `gradcheck` within its bound."
    note(f"central differences, {what}", report.worst.relative)
    report.check(tol)

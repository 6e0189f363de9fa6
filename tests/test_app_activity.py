"""Activity recognition: mirrors, frames, windows, joined recordings, decisions as they come."""
import numpy as np
import pytest

from seqbook.applications.activity import (
    MIRROR,
    SOFT,
    VARY,
    Joined,
    arms,
    as_right,
    delays,
    episodes,
    frames,
    joined,
    leave_one_out,
    observer,
    trailing,
    turn,
    varied,
    window_decisions,
    window_model,
    window_statistics,
    windows,
)
from seqbook.datasets import WatchExercises


def made(people=3, n=400, seed=0):
    "Three 'exercises' that differ in posture and in pace, on both arms of some people."
    rng, series, labels, who, right = np.random.default_rng(seed), [], [], [], []
    for person in range(1, people + 1):
        for label, (gravity, pace) in enumerate(((0, 0.5), (1, 1.0), (2, 2.0))):
            for side in (True, False):
                t = np.arange(n) / 50
                x = 0.1 * rng.normal(size=(n, 6))
                x[:, gravity] += 1
                x[:, 4] += np.sin(2 * np.pi * pace * t + rng.uniform(0, 6))
                series.append((x if side else x * MIRROR).astype(np.float32))
                labels.append(label)
                who.append(person)
                right.append(side)
    splits = {"train": np.flatnonzero(np.array(who) < people), "test": np.flatnonzero(np.array(who) == people)}
    return WatchExercises(series, np.array(labels), ("a", "b", "c"), np.array(who), np.array(right), tuple("uvwxyz"), 50.0,
                          splits=splits, source="here", licence="none", citation="none")


DATA = made()


def quick():
    "A network that has hardly learned."
    return observer(arms(DATA), steps=4, n_a=2, batch_size=1)


def test_mirrors():
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert as_right(x, True) is x and as_right(x, False).tolist()[0] == [-0.0, 1, 2, 3, -4, -5]
    np.testing.assert_array_equal(as_right(as_right(x, False), False), x)
    # a rotation of the whole: mirrored rates turn the mirrored arrows, omega' x a' = (omega x a)'
    a, w = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_allclose(np.cross(MIRROR[3:] * w, MIRROR[:3] * a), MIRROR[:3] * np.cross(w, a), atol=1e-6)


def test_frames_by_hand():
    x = np.zeros((7, 2))
    x[:5, 1] = (1, 3, 1, 3, 2)
    F = frames(x)
    assert F.shape == (1, 4) and F.dtype == np.float32
    np.testing.assert_allclose(F[0], [0, np.arcsinh(2 * SOFT), np.log(0.02), np.log(0.02 + np.sqrt(0.8))], rtol=1e-6)


def test_windows_stay_in_their_recording():
    W, at = windows([np.full((5, 1), 1.0), np.full((9, 1), 2.0), np.full((3, 1), 3.0)], size=4, hop=2)
    assert W.shape == (4, 4, 1) and at.tolist() == [0, 1, 1, 1] and (W[:, :, 0] == (at + 1)[:, None]).all()
    S = window_statistics(np.random.default_rng(0).normal(size=(3, 40, 6)))
    assert S.shape == (3, 10 * 6 + 12 * 6 + 15) and np.isfinite(S).all()
    still = window_statistics(np.full((1, 40, 2), 3.0))[0]
    np.testing.assert_allclose(still[:18], [3, 3, 0, 0, 3, 3, 3, 3] + [3] * 10)


def test_turns_are_rotations_and_varied_keeps_lengths():
    rng = np.random.default_rng(0)
    for _ in range(5):
        R = turn(rng, 1.0)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(R) == pytest.approx(1, abs=1e-5)
    x = DATA.series[0]
    y = varied(x, rng, angle=0.5, size=0, speed=0)
    np.testing.assert_allclose(np.linalg.norm(y[:, :3], axis=1), np.linalg.norm(x[:-1, :3], axis=1), rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(y[:, 3:], axis=1), np.linalg.norm(x[:-1, 3:], axis=1), rtol=1e-4)


def test_joined_recordings():
    data, rng = arms(DATA), np.random.default_rng(1)
    for arm in np.unique(data.arms):
        x, y = joined(data, rng, arm, pieces=(4, 4), length=(50, 103))
        edges = np.flatnonzero(np.diff(y)) + 1
        assert len(x) == 5 * len(y) and len(edges) == 3 and 10 <= np.diff([0, *edges, len(y)]).min()
    x, y = joined(data, np.random.default_rng(2), 2 * 1 + 1, length=(50, 60))
    first = data.recordings[np.flatnonzero((data.labels == y[0]) & (data.arms == 3))[0]]
    assert any(np.array_equal(first[s:s + 20], x[:20]) for s in range(len(first)))


def test_batches_depend_on_the_seed_and_on_their_number():
    model = observer(arms(DATA, DATA.splits["train"]), steps=4, n_a=4, batch_size=2)
    make = lambda: Joined(model.tagger, arms(DATA), model.centre, model.scale, 2, VARY, seed=5)
    a, b = make(), make()
    first, second = a.next()[0], a.next()[0]
    b.seek({"drawn": 1})
    np.testing.assert_array_equal(b.next()[0][0], second[0])
    assert first[0].shape != second[0].shape or (first[0] != second[0]).any()
    assert a.position() == {"drawn": 2} and a.config()["seed"] == 5


@pytest.mark.parametrize("truth, said, hold, waits", [
    ([0, 0, 1, 1, 1], [0, 0, 1, 1, 1], 2, [0]), ([0, 0, 1, 1, 1], [0, 0, 0, 1, 1], 2, [1]),
    ([0, 1, 1, 2, 2], [0, 0, 0, 2, 2], 1, [None, 0]),
    ([0, 1, 1, 1, 1], [0, 1, 0, 1, 1], 2, [2]), ([0, 1], [0, 1], 3, [None]), ([3, 3], [0, 0], 1, [])])
def test_delays_by_hand(truth, said, hold, waits):
    assert delays(truth, said, hold) == waits


def test_strangers_are_recognised():
    train, test = arms(DATA, DATA.splits["train"]), arms(DATA, DATA.splits["test"])
    model = observer(train, steps=40, n_a=12, lr=2e-2, batch_size=8)
    W, at = windows(test.recordings, 200, 100)
    assert np.mean(window_decisions(model, W) == test.labels[at]) > 0.9
    for kind in ("logistic", "forest"):
        assert window_model(train, kind=kind).score(window_statistics(W), test.labels[at]) > 0.9
    x, y = joined(test, np.random.default_rng(0), pieces=(3, 3))
    live = np.array(list(model.watch(x)))
    np.testing.assert_allclose(live, model.probabilities([x])[0], atol=1e-4)
    assert np.mean(live.argmax(axis=1) == y) > 0.8
    late = trailing(window_model(train), x)
    assert (late[:39] == -1).all() and (late[39:] >= 0).all() and np.mean(late[39:] == y[39:]) > 0.5
    left = DATA.series[DATA.splits["test"][1]]  # exercise a, left arm
    assert not DATA.right[DATA.splits["test"][1]]
    (only,) = episodes(model, left, DATA.names, right=False, shortest=30)
    assert only.name == "a" and only.end - only.start > 6 and only.sure > 0.5


def test_leaving_out_one():
    out = leave_one_out(DATA, 3, steps=6, seeds=(0, 1))
    assert len(out["truth"]) == len(out["logistic"]) == len(out["committee"]) == 3 * 2 * 3 and len(out["network"]) == 2
    assert len(out["network delays"]) == len(out["logistic delays"]) == 2 * 9 and 0 <= out["network frames"] <= 1


@pytest.mark.parametrize("call, message", [
    (lambda: as_right(np.zeros((3, 5)), True), "recording: expected"),
    (lambda: frames(np.zeros(4)), "recording: expected"),
    (lambda: frames(np.zeros((4, 2)), 0), "per"),
    (lambda: windows([np.zeros((3, 1))], size=4), "recordings: expected one of at least size = 4"),
    (lambda: window_statistics(np.zeros((3, 4))), "W: expected"),
    (lambda: varied(np.zeros((9, 3)), np.random.default_rng(0)), "recording: expected"),
    (lambda: delays([0, 1], [0, 1, 2]), "decisions: expected"),
    (lambda: window_model(arms(DATA), kind="magic"), "kind: expected one of"),
    (lambda: as_right(np.zeros((3, 6)), "left"), "right: expected True or False, got .left."),
    (lambda: joined(arms(DATA), np.random.default_rng(0), arm=99), "arm: expected one of .* got 99"),
    (lambda: trailing(None, np.zeros(4)), "stream: expected shape"),
    (lambda: quick().probabilities([np.zeros((9, 5))]), "stream: expected shape"),
    (lambda: episodes(quick(), np.full((20, 6), np.nan), DATA.names), "recording: expected finite numbers, got nan"),
    (lambda: episodes(quick(), np.zeros((20, 6)), ("a", "b")), "names: expected one for each of 3 labels, got 2"),
    (lambda: leave_one_out(DATA, 11), "person: expected one of those in the data, 1 to 3, got 11"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()

"""Speech: distances, features, cutting, files and edits on small made sounds whose right answer is known."""
import wave

import numpy as np
import pytest

from seqbook.applications.speech import (
    by_family,
    committee,
    cross_validated,
    digit_error_rate,
    digit_features,
    digit_model,
    digit_rival,
    edits,
    families,
    frames,
    pieces,
    read_digits,
    read_pieces,
    read_strings,
    read_wave,
    resampled,
    speaker_model,
    spoken_strings,
    statistics,
    stretched,
    string_model,
    string_results,
    training_strings,
    varied,
    warped_distances,
    with_noise,
    write_wave,
)
from seqbook.ctc import edit_distance
from seqbook.datasets import SpokenDigits
from seqbook.notation import pad

RATE = 22_050


def tone(hertz, seconds=0.25, loud=8000):
    t = np.arange(round(seconds * RATE)) / RATE
    return np.int16(loud * np.sin(2 * np.pi * hertz * t) * np.hanning(len(t)))


@pytest.fixture(scope="module")
def voices():
    "Six voices say ten digits, each a rising or falling pair of tones; a voice has a pitch and a speed of its own."
    names, waves = ["a", "a2", "b", "c", "d", "e"], []
    for v in range(6):
        for k in range(10):
            waves.append(np.concatenate([tone(f * (1 + 0.03 * v), 0.10 + 0.01 * v) for f in (300 * 1.25**k, 300 * 1.25 ** (9 - k))]))
    who, what = np.divmod(np.arange(60), 10)
    rows = np.arange(60)
    splits = {"train": rows[:40], "valid": rows[40:50], "test": rows[50:]}
    return SpokenDigits(waves, what, who, names, RATE, splits=splits, source="-", licence="-", citation="-")


# ---- speakers

def test_statistics_are_mean_and_covariance(rng):
    x = rng.normal(size=(9, 3))
    got = statistics(x)
    assert np.allclose(got[:3], x.mean(axis=0)) and np.allclose(got[3:], np.cov(x.T)[np.triu_indices(3)])
    assert np.allclose(statistics(x[:1])[3:], 0)


@pytest.mark.parametrize("T", [1, 3, 4, 7, 29])
def test_stretched_keeps_constants_and_order(T, rng):
    x = np.repeat(rng.normal(size=(1, 2)), T, axis=0)
    assert np.allclose(stretched(x, 4), [*np.tile(x[0], 4), T / 4])
    rising = stretched(np.arange(T)[:, None] * 1.0, 4)[:4]
    assert (np.diff(rising) >= 0).all()
    assert np.allclose(stretched(np.arange(8.0)[:, None], 4), [0.5, 2.5, 4.5, 6.5, 2])


def test_warped_distance_by_recursion(rng):
    def plain(a, b):
        D = np.full((len(a) + 1, len(b) + 1), np.inf)
        D[0, 0] = 0
        for i in range(len(a)):
            for j in range(len(b)):
                D[i + 1, j + 1] = ((a[i] - b[j]) ** 2).sum() + min(D[i, j], D[i, j + 1], D[i + 1, j])
        return D[-1, -1]

    x, others = rng.normal(size=(5, 2)), [rng.normal(size=(n, 2)) for n in (1, 4, 9)]
    got = warped_distances(x, *pad(others))
    assert np.allclose(got, [plain(x, o) for o in others])
    assert warped_distances(x, *pad([np.repeat(x, 3, axis=0)]))[0] == 0


def test_cross_validation_sees_every_example_once(rng):
    labels, seen = rng.integers(0, 3, 50), []

    def answer(train, rows):
        assert not set(train) & set(rows) and len(train) + len(rows) == 50
        seen.extend(rows)
        return labels[rows]

    assert cross_validated(labels, answer) == 0 and sorted(seen) == list(range(50))
    assert cross_validated(labels, lambda train, rows: labels[rows] + 1) == 1


def test_speakers_are_told_apart(rng):
    make = lambda k, n: [(k + rng.normal(size=(rng.integers(5, 9), 3))).astype(np.float32) for _ in range(n)]
    series, labels = make(0, 12) + make(2, 12), [4] * 12 + [7] * 12
    models = [speaker_model(series, labels, seed, n_a=6, steps=60, copies=2) for seed in range(2)]
    assert models[0][0].classes == (4, 7)
    P = committee(models, make(0, 10) + make(2, 10))
    assert P.shape == (20, 2) and np.allclose(P.sum(axis=1), 1, atol=1e-5) and (P.argmax(axis=1) == np.repeat([0, 1], 10)).mean() >= 0.9


# ---- sounds

def test_frames_do_not_know_loudness_and_end_with_the_sound():
    X = frames(tone(500, 0.5).astype(float) / 32768)
    assert X.shape == (16, 120) and X.dtype == np.float32 and np.isfinite(X).all()
    assert np.allclose(frames(tone(500, 0.5).astype(float) / 8192), X, atol=1e-3)
    assert frames(np.zeros(10)).shape == (1, 120) and np.isfinite(frames(np.zeros(10))).all()


@pytest.mark.parametrize("size", [100, 101, 250, 399, 401, 800])
def test_resampling_keeps_slow_waves(size):
    t = lambda n: np.arange(n) / n
    wave_of = lambda n: 0.3 + np.sin(2 * np.pi * 5 * t(n)) + 0.5 * np.cos(2 * np.pi * 11 * t(n))
    assert np.allclose(resampled(wave_of(400), size), wave_of(size), atol=1e-10)


def test_noise_is_as_loud_as_asked(rng):
    x = tone(400, 1.0) / 32768
    assert np.std(with_noise(x, 20, rng) - x) == pytest.approx(x.std() / 10, rel=0.05)
    v = varied(tone(400, 1.0), rng)
    assert abs(np.log(len(v) / RATE)) <= 0.151 and v.dtype == np.float64


def test_pieces_are_what_lies_between_pauses():
    quiet = lambda seconds: np.zeros(round(seconds * RATE), np.int16)
    sound = np.concatenate([quiet(0.2), tone(400), quiet(0.1), tone(700), quiet(0.1), tone(900)])
    found = pieces(sound)
    assert len(found) == 3
    for piece, hertz in zip(found, (400, 700, 900)):
        assert abs(np.abs(np.fft.rfft(piece)).argmax() * RATE / len(piece) - hertz) < 15
    assert len(pieces(sound, least=0.3)) == 1 and pieces(quiet(0.5)) == [] and pieces(quiet(0)) == []
    assert [len(p) for p in pieces(sound, shortest=1.0)] == []


# ---- digits

def test_error_rate_and_edits_agree(rng):
    assert digit_error_rate([[1, 2], [3]], [[1, 2], [3]]) == 0
    assert digit_error_rate([[1], [3, 4]], [[1, 2], [3]]) == pytest.approx(2 / 3)
    for _ in range(50):
        a, t = (rng.integers(0, 3, rng.integers(0, 6)).tolist() for _ in range(2))
        found = edits(a, t)
        assert len(found) == edit_distance(a, t) and all(x != y for x, y in found)
        assert len(a) - len(t) == sum(x is None for x, _ in found) - sum(y is None for _, y in found)


def test_families_and_their_parts(voices):
    names = ["steph2", "Gene", "anikaRobot", "m7", "whisperf", "AnxiousAndy", "robosoft8"]
    assert families(names) == ["steph", "gene", "anika", "m", "whisper", "andy", "robosoft"]
    parts = by_family(voices, 3)
    assert sorted(np.concatenate([p.splits["test"] for p in parts])) == list(range(60))
    for p in parts:
        in_part = lambda rows: {families(voices.names)[v] for v in voices.voices[rows]}
        assert not in_part(p.splits["train"]) & in_part(p.splits["test"]) and len(p.splits["test"]) == 20


def test_training_strings_are_half_without_pauses(voices):
    made, again = training_strings(voices, 9, seed=3), training_strings(voices, 9, seed=3)
    assert len(made.waves) == len(made.digits) == len(made.voices) == 9 and set(made.voices) <= {0, 1, 2, 3}
    assert all(np.array_equal(a, b) for a, b in zip(made.waves, again.waves))
    said = [sum(len(voices.waves[v * 10 + k]) for k in t) for v, t in zip(made.voices, made.digits)]
    assert all(abs(np.log(len(w) / n)) < 0.16 for w, n in zip(made.waves[5:], said[5:]))  # the last four: no longer than what is said
    assert spoken_strings(voices, "test", 3, (0.0, 0.0), longest=1).waves[0].dtype == np.int16


def test_digits_are_read_in_a_new_voice(voices):
    rng = np.random.default_rng(0)
    train, test = voices.splits["train"], voices.splits["test"]
    sounds = [voices.waves[i] for i in train] + [varied(voices.waves[i], rng) for i in train]
    answers = voices.digits[train].tolist() * 2
    rival = digit_rival(sounds, answers)
    assert (rival.predict([digit_features(voices.waves[i]) for i in test]) == voices.digits[test]).mean() >= 0.9
    model = digit_model([frames(s) for s in sounds], answers, n_a=16, steps=120)
    assert np.mean(np.array(model.predict([frames(voices.waves[i]) for i in test])) == voices.digits[test]) >= 0.9
    strings = spoken_strings(voices, "test", 5, (0.15, 0.25))
    assert digit_error_rate([read_pieces(rival, w) for w in strings.waves], strings.digits) < 0.2


@pytest.fixture(scope="module")
def reader(voices):
    return string_model(*read_strings(training_strings(voices, 240)), n_a=32, steps=400)[0]


def test_strings_are_read_in_a_new_voice(voices, reader, tmp_path):
    results = string_results(reader, voices, 20)
    for found in results.values():
        wrong, digits = np.sum(list(found["voices"].values()), axis=0)
        assert found["error_rate"] == pytest.approx(wrong / digits) and found["error_rate"] < 0.25 and found["digits"] == digits
    strings = spoken_strings(voices, "test", 1, (0.1, 0.1), seed=5)
    answer = read_digits(reader, strings.waves[0])
    write_wave(tmp_path / "a.wav", strings.waves[0])
    assert read_digits(reader, tmp_path / "a.wav") == read_digits(reader, str(tmp_path / "a.wav")) == answer
    assert read_digits(reader, strings.waves[0] / 32768, width=4).isdigit()
    assert read_digits(reader, resampled(strings.waves[0] / 32768, len(strings.waves[0]) * 2), rate=2 * RATE) == answer


# ---- files

def test_a_wave_comes_back(tmp_path):
    sound = np.array([0, 1, -1, 32767, -32768], np.int16)
    write_wave(tmp_path / "a.wav", sound, 16_000)
    back, rate = read_wave(tmp_path / "a.wav")
    assert rate == 16_000 and back.dtype == np.int16 and (back == sound).all()


def test_files_of_another_kind_are_refused_by_name(tmp_path, reader):
    (tmp_path / "text.wav").write_text("not a sound")
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setnchannels(2), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(8))
    with pytest.raises(ValueError, match="path: expected a WAV file"):
        read_wave(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="path: expected one channel of 16 bits, got 2 of 16"):
        read_digits(reader, tmp_path / "stereo.wav")
    with pytest.raises(FileNotFoundError):
        read_digits(reader, tmp_path / "none.wav")
    with pytest.raises(ValueError, match="sound: expected at least one sample"):
        read_digits(reader, np.zeros(0, np.int16))
    with pytest.raises(ValueError, match=r"sound: expected shape \(samples,\)"):
        read_digits(reader, np.zeros((10, 2)))
    with pytest.raises(TypeError, match="sound: expected int16"):
        write_wave(tmp_path / "b.wav", np.zeros(3))


def test_other_bad_input_is_named():
    for f, args, error, message in (
        (statistics, (np.zeros(3),), ValueError, r"x: expected shape \(T, n\)"),
        (stretched, (np.zeros((3, 2)), 0), ValueError, "size: expected a whole number >= 1"),
        (resampled, (np.zeros(3, np.int16), 4), TypeError, "sound: expected float32 or float64"),
        (pieces, (np.zeros((3, 2)),), ValueError, r"sound: expected shape \(samples,\)"),
    ):
        with pytest.raises(error, match=message):
            f(*args)

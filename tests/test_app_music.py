"""Music: scores as symbols and as MIDI, there and back; habits counted by hand; a tiny network that learns a made piece."""
import base64
import io
import json
import re
import shutil

import numpy as np
import pytest

from seqbook.applications.music import (
    CHORDS,
    HIGH,
    LOW,
    SCORE,
    Player,
    chorale_model,
    chord_symbols,
    compose,
    draw_score,
    from_symbols,
    habit_shares,
    habits,
    harmonise,
    joined,
    midi_bytes,
    model_nats,
    ngram_nats,
    notes_of,
    to_symbols,
    tune,
    voice_lines,
    without_signature,
)
from seqbook.language_model import LanguageModel, NGram
from seqbook.lstm import LSTM


def made_score(rng, T=32):
    "Four voices with holds, rests and repeated notes."
    pitches, held = np.zeros((T, 4), int), np.zeros((T, 4), bool)
    for v, (low, high) in enumerate(((60, 80), (55, 72), (48, 66), (40, 60))):
        for t in range(T):
            kind = rng.integers(4)
            if kind == 0 and t and pitches[t - 1, v]:
                pitches[t, v], held[t, v] = pitches[t - 1, v], True
            elif kind > 1:
                pitches[t, v] = rng.integers(low, high)
    return pitches, held


def made_texts(n, seed=0):
    "Pieces that alternate between two chords, in halves."
    rng, out = np.random.default_rng(seed), []
    for _ in range(n):
        chords = np.array([[72, 67, 64, 48], [71, 67, 62, 43]])
        which = (np.arange(16) // 2 + rng.integers(2)) % 2
        out.append(to_symbols(chords[which], np.repeat(np.arange(16)[:, None] % 2 > 0, 4, axis=1)))
    return out


@pytest.fixture(scope="module")
def model():
    return chorale_model(made_texts(40), made_texts(8, 1), updates=160, n_a=32, n_x=16, batch_size=8, rate=2e-2)


def test_scores_become_symbols_and_come_back():
    for seed in range(5):
        pitches, held = made_score(np.random.default_rng(seed))
        ids = to_symbols(pitches, held)
        assert ids.shape == (5 * 32,) and SCORE.decode(ids[:6:5]) == ["on", "off"]
        back = from_symbols(ids)
        assert (back[0] == pitches).all() and (back[1] == held).all()
    assert {s[0] for s in SCORE.decode(ids)} <= set("oSATB")


def test_bad_scores_are_named():
    good = np.full((2, 4), 60), np.zeros((2, 4), bool)
    with pytest.raises(ValueError, match=f"pitches: expected 0 for a rest or {LOW} to {HIGH}, got 20"):
        to_symbols(np.full((2, 4), 20), good[1])
    with pytest.raises(ValueError, match="pitches"):
        to_symbols(good[0][:, :3], good[1])
    with pytest.raises(ValueError, match="held"):
        to_symbols(good[0], good[1][:1])
    with pytest.raises(ValueError, match="ids: expected five symbols"):
        from_symbols(np.zeros(4, int))
    with pytest.raises(ValueError, match="ids: expected a beat sign"):
        from_symbols(np.roll(to_symbols(*good), 1))


def test_signatures():
    circle = {7: "C#", 2: "D", -3: "Eb", 0: "C"}
    tonic = {"C#": 1, "D": 2, "Eb": 3, "C": 0}
    assert all((tonic[name] + without_signature(k)) % 12 == 0 for k, name in circle.items())
    assert all(-6 <= without_signature(k) <= 5 for k in range(-7, 8))
    with pytest.raises(ValueError, match="fifths"):
        without_signature(8)


def test_notes_by_hand():
    pitches = np.array([[60, 50, 0, 40]] * 3)
    held = np.array([[False] * 4, [True, False, False, True], [True, False, False, False]])
    assert notes_of(pitches, held) == [(0, 0, 3, 60), (1, 0, 1, 50), (1, 1, 1, 50), (1, 2, 1, 50), (3, 0, 2, 40), (3, 2, 1, 40)]


def test_midi_is_read_by_mido():
    mido = pytest.importorskip("mido")
    pitches, held = made_score(np.random.default_rng(3), 400)                        # long rests need times of two bytes
    pitches[100:300, 1] = 0
    held[100:301, 1] = False
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(pitches, held, step=0.25, tempo=90)))
    assert file.type == 1 and len(file.tracks) == 5 and file.ticks_per_beat == 480
    assert mido.tempo2bpm(file.tracks[0][0].tempo) == pytest.approx(90)
    found = []
    for v, track in enumerate(file.tracks[1:]):
        now, on = 0, {}
        for message in track:
            now += message.time
            if message.type == "note_on":
                assert message.note not in on                                        # a repeated note ends before it begins again
                on[message.note] = now
            elif message.type == "note_off":
                start = on.pop(message.note)
                found.append((v, start // 120, (now - start) // 120, message.note))
        assert not on
    assert sorted(found) == sorted(notes_of(pitches, held))


def test_habits_by_hand():
    none = np.zeros((2, 4), bool)
    count = lambda *chords: habits(np.array(chords), none)
    assert count([67, 0, 0, 60], [69, 0, 0, 62])["parallel"] == 1                     # fifths
    assert count([72, 0, 0, 48], [74, 0, 0, 50])["parallel"] == 1                     # octaves
    assert count([67, 0, 0, 60], [72, 0, 0, 53])["parallel"] == 0                     # contrary motion
    assert count([64, 0, 0, 60], [65, 0, 0, 61])["parallel"] == 0                     # thirds
    assert count([67, 0, 0, 60], [69, 0, 0, 60])["both move"] == 0
    assert habits(np.array([[67, 0, 0, 60], [69, 0, 0, 62]]), np.array([[False] * 4, [False, False, False, True]]))["parallel"] == 0
    crossed = count([60, 64, 55, 48], [64, 60, 55, 48])
    assert (crossed["chords"], crossed["crossed"], crossed["moves"], crossed["steps"]) == (2, 1, 2, 0)
    assert habit_shares([(np.array([[60, 57, 53, 49]]), none[:1])])["notes of the scale"] == 75


def test_lines_and_counting():
    ids = to_symbols(*made_score(np.random.default_rng(4), 8))
    lines = voice_lines(ids)
    assert [len(line) for line in lines] == [8] * 4 and all((line % 2 == np.arange(8) % 2).all() and line.min() >= 0 for line in lines)
    assert max(line.max() for line in lines) < 2 * (HIGH - LOW + 3)
    assert joined([np.array([1, 2]), np.array([3])], 9).tolist() == [9, 1, 2, 9, 3]
    texts = made_texts(20)
    counted = NGram(1, len(SCORE)).fit(joined(texts, SCORE.end_id))
    by_hand = -sum(counted.log_probabilities(t).sum() for t in texts)
    assert ngram_nats(counted, texts, SCORE.end_id) == pytest.approx(by_hand)


def test_the_network_learns_and_its_nats_are_those_of_its_logits(model):
    texts = made_texts(4, 2)
    nats = model_nats(model, texts)
    assert [len(n) for n in nats] == [80] * 4 and np.mean(nats) < 0.1
    Z, _, _ = model.logits(np.concatenate([[SCORE.end_id], texts[0][:-1]])[:, None])
    by_hand = np.log(np.exp(Z[:, 0].astype(float)).sum(axis=1)) - Z[np.arange(80), 0, texts[0]]
    assert np.allclose(nats[0], by_hand, atol=1e-4)


def test_composing(model):
    pitches, held = compose(model, 16, seed=5)
    assert pitches.shape == (16, 4) and not held[0].any()
    again = compose(model, 16, seed=5)
    assert (again[0] == pitches).all() and (again[1] == held).all()
    line = np.array([72, 72, 71, 71, 72, 72, 71, 71]), np.tile([False, True], 4)
    setting = compose(model, 8, line, temperature=0.5)
    assert (setting[0][:, 0] == line[0]).all() and (setting[1][:, 0] == line[1]).all()
    assert set(map(tuple, setting[0])) <= {(72, 67, 64, 48), (71, 67, 62, 43)}
    with pytest.raises(ValueError, match="soprano: expected pitches and held of at least 16 frames"):
        compose(model, 16, line)
    with pytest.raises(ValueError, match="temperature"):
        compose(model, 4, temperature=0)
    with pytest.raises(ValueError, match="frames"):
        compose(model, 0)
    with pytest.raises(ValueError, match="soprano: expected a pair"):
        compose(model, 4, line[0])
    other = LanguageModel(CHORDS, LSTM(2, 2))
    with pytest.raises(ValueError, match=f"model: expected one over the symbols of SCORE, {len(SCORE)} of them, got one over 90"):
        compose(other, 4)


def test_tunes_from_text(model):
    pitches, held = tune("C4 F#4:2 Bb3:0.5 R")
    assert pitches.tolist() == [60, 60, 66, 66, 66, 66, 58, 0, 0]
    assert held.tolist() == [False, True, False, True, True, True, False, False, False]
    for wrong in ("H4", "C", "C4:x", "C4:0.3", ""):
        with pytest.raises(ValueError, match="text: expected"):
            tune(wrong)
    player = harmonise(model, "C5 B4 C5 B4", tries=2)
    assert isinstance(player, Player) and player.count >= 16 and player.title == "A setting of C5 B4 C5 B4"
    assert harmonise(model, "C5 B4 C5 B4 C5 B4 C5 B4 C5", tries=1).title == "A setting of C5 B4 C5 B4 C5 B4 C5 B4 ..."
    with pytest.raises(ValueError, match="tries"):
        harmonise(model, "C5", tries=0)


def test_the_picture_has_a_line_for_each_note():
    from matplotlib.figure import Figure
    pitches, held = made_score(np.random.default_rng(8), 12)
    ax = Figure().subplots()
    draw_score(ax, pitches, held)
    staves, notes = ax.lines[:10], ax.lines[10:]
    assert [line.get_ydata()[0] for line in staves] == [43, 47, 50, 53, 57, 64, 67, 71, 74, 77]   # G B D F A, E G B D F
    ends = [np.round(line.get_xdata() + np.array([-0.05, 0.05]), 6) for line in notes]
    drawn = [(line.get_color(), *x, line.get_ydata()[0]) for line, x in zip(notes, ends)]
    assert drawn == [(f"C{v}", t / 2, (t + n) / 2, p) for v, t, n, p in notes_of(pitches, held)]


def test_speed_and_steps_are_checked():
    score = made_score(np.random.default_rng(9), 4)
    for wrong in ({"tempo": 0}, {"step": 0}, {"step": -1}, {"tempo": np.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            midi_bytes(*score, **wrong)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Player(*score, "x", **wrong)


def test_the_player_is_whole_and_safe():
    pitches, held = made_score(np.random.default_rng(6))
    player = Player(pitches, held, 'A "piece" <b>', step=0.5, tempo=60)
    html = player._repr_html_()
    assert "<b>" not in html and "A &quot;piece&quot; &lt;b&gt;" in html and len(html) < 20_000
    assert not re.search(r"(?:src|href)=.(?!data:)", html) and "http" not in html
    assert base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]) == midi_bytes(pitches, held, 0.5, 60)
    notes = json.loads(re.search(r"application/json\">(.*?)</script>", html)[1])
    assert [(t * 2, n * 2, p) for t, n, p in notes] == [(t, n, p) for _, t, n, p in notes_of(pitches, held)]
    assert repr(player) == f"Player('A \"piece\" <b>': {len(notes)} notes, 16 s)" and player.seconds == 16
    assert '<button type="button" aria-label="Play: ' in html
    with pytest.raises(ValueError, match="title"):
        Player(pitches, held, " ")


def test_piano_rolls_become_symbols():
    roll = np.zeros((3, 88), bool)
    roll[0, [39, 43, 46]] = roll[2, 0] = True
    assert CHORDS.decode(chord_symbols(roll)) == ["67", "64", "60", "|", "|", "21", "|"]
    assert CHORDS.decode(chord_symbols(roll, 2))[:4] == ["69", "66", "62", "|"]
    with pytest.raises(ValueError, match="shift: the piece leaves"):
        chord_symbols(roll, -1)
    with pytest.raises(ValueError, match="roll"):
        chord_symbols(roll[:, :87])


def test_the_player_plays_and_stops_in_a_browser(tmp_path):
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright and a Chromium")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    pitches, held = made_score(np.random.default_rng(7))
    player = Player(pitches, held, "two chords", tempo=480)
    page_file = tmp_path / "player.html"
    page_file.write_text(f"<!DOCTYPE html><html lang='en'><title>x</title>{player.html}{player.html}</html>", encoding="utf-8")
    with sync.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        except sync.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        context, errors = browser.new_context(offline=True), []
        page = context.new_page()
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(page_file.as_uri())
        buttons = page.get_by_role("button", name="Play: two chords")
        assert buttons.count() == 2 and page.get_by_role("link", name="MIDI file").first.get_attribute("href").startswith("data:audio/midi")
        button = page.locator("button").first
        button.focus()
        page.keyboard.press("Enter")                                                  # by keyboard
        assert button.text_content() == "Stop" and buttons.count() == 1
        button.click()
        assert button.text_content() == "Play" and buttons.count() == 2
        button.click()
        sync.expect(button).to_have_text("Play", timeout=20_000)                      # two seconds of music, then it is over
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(page_file.as_uri())
        assert plain.locator("button").first.is_hidden() and plain.get_by_role("link", name="MIDI file").first.is_visible()
        browser.close()
    assert errors == []

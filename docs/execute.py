"""Run the book's notebooks, each in a fresh kernel, and keep the executed copies that the site is built from.

    python docs/execute.py                     every notebook that is not up to date, into docs/_build/notebooks
    python docs/execute.py 02_rnn practice/optim   these ones only
    python docs/execute.py --force             whether up to date or not
    python docs/execute.py --inplace           also write the outputs into the committed notebooks, cleaned by nbdev
    python docs/execute.py --jobs 1            one after the other, each with all processors

Two run side by side where there are two processors, each with its share of them: BLAS threads that outnumber the
processors wait for each other, and a chapter then takes ten times as long. The first cell that fails stops the run, and so
does Ctrl-C; no kernel is left behind. A cell tagged `raises-exception` may fail; one with `#| eval: false` is not run.
"""
import argparse
import asyncio
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
from directives import says_no, split  # noqa: E402

from seqbook.data import CATALOGUE, cache_dir  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RECORDED = "> [!NOTE]\n> This chapter's data were not to be had where the page was built: it shows the outputs recorded with it."
PICTURES = {".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp"}


class NotebookFailed(Exception):
    "A notebook could not be run to its end; the message says which, where and why."


class DataMissing(NotebookFailed):
    "A notebook needs data that cannot be had here."


def main(argv=None):
    "Command line; the exit status is 0 when every notebook ran."
    parser = argparse.ArgumentParser(description="Run the book's notebooks and keep the executed copies.")
    parser.add_argument("names", nargs="*", help="notebooks such as 02_rnn or practice/optim; all when absent")
    parser.add_argument("--force", action="store_true", help="run notebooks that are up to date too")
    parser.add_argument("--inplace", action="store_true", help="write the outputs into the committed notebooks")
    parser.add_argument("--jobs", type=int, default=min(2, processors()), help="notebooks side by side (default %(default)s)")
    parser.add_argument("--timeout", type=int, default=900, help="seconds a single cell may take (default 900)")
    parser.add_argument("--strict", action="store_true", help="fail where a chapter's data are missing; else keep its recorded outputs")
    args = parser.parse_args(argv)
    try:
        execute(ROOT, args.names, force=args.force, inplace=args.inplace, timeout=args.timeout, jobs=max(1, args.jobs),
                strict=args.strict)
    except NotebookFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the notebooks that ran to their end are kept", file=sys.stderr)
        return 130
    return 0


def execute(
    root,           # Path of the repository
    wanted=(),      # names of notebooks; all of them when empty
    force=False,    # run notebooks that are up to date too
    inplace=False,  # write the outputs into the committed notebooks as well
    timeout=900,    # seconds a single cell may take
    jobs=1,         # notebooks side by side
    strict=False,   # fail where data are missing
):                  # -> {name: seconds, or None where it was up to date}
    "Bring the executed copies up to date, in order; raises NotebookFailed at the first error."
    books, out = notebooks(root), root / "docs" / "_build" / "notebooks"
    chosen = choose(books, wanted)
    if not wanted:
        tidy(root, out, books)
    start, done = perf_counter(), {}
    with ThreadPoolExecutor(jobs) as pool:
        running = {name: pool.submit(refresh, root, path, out / f"{name}.ipynb", f"{name} ({i}/{len(chosen)})", force, timeout,
                                      jobs, strict)
                   for i, (name, path) in enumerate(chosen.items(), 1)}
        try:
            for name, future in running.items():
                done[name] = future.result()
                took = "up to date" if done[name] is None else f"{done[name]:.1f} s"
                tqdm.write(f"{name:<32} {took:>12}")
                if inplace:
                    write_back(root, chosen[name], out / f"{name}.ipynb")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            Runner.stop()
            raise
    ran = sum(seconds is not None for seconds in done.values())
    print(f"{len(done)} notebooks: {ran} run, {len(done) - ran} up to date, {perf_counter() - start:.1f} s")
    return done


def processors():
    "How many processors this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def notebooks(
    root,  # Path of the repository
):         # -> {name: Path}, the chapters in order, then the folders, the front page last
    "The book's notebooks; names that begin with a dot or an underscore are not part of it."
    top = root / "nbs"
    found = {}
    for path in top.rglob("*.ipynb"):
        parts = path.relative_to(top).parts
        if not any(part[0] in "._" for part in parts):
            found["/".join(parts).removesuffix(".ipynb")] = path
    return dict(sorted(found.items(), key=lambda item: (item[0] == "index", "/" in item[0], item[0])))


def choose(
    books,   # {name: Path}
    wanted,  # names as typed: 02_rnn, practice/optim, optim, nbs/practice/optim.ipynb
):           # -> {name: Path} of these, in the book's order
    "Find notebooks by name; an unknown one raises NotebookFailed."
    if not wanted:
        return books
    names = set()
    for name in wanted:
        short = name.removesuffix(".ipynb").removeprefix("./").removeprefix("nbs/")
        fits = [b for b in books if b == short] or [b for b in books if b.rsplit("/", 1)[-1] == short]
        if len(fits) != 1:
            raise NotebookFailed(f"names: expected one of {', '.join(books)}; got {name!r}")
        names.add(fits[0])
    return {name: path for name, path in books.items() if name in names}


def tidy(
    root,   # Path of the repository
    out,    # Path of the executed copies
    books,  # {name: Path}
):
    "Drop copies of notebooks that are gone, and bring the pictures that pages refer to."
    wanted = {out / f"{name}.ipynb" for name in books}
    for copy in out.rglob("*.ipynb"):
        if copy not in wanted:
            copy.unlink()
            stamp(copy).unlink(missing_ok=True)
    for path in (root / "nbs").rglob("*"):
        if path.suffix.lower() in PICTURES and not any(part[0] in "._" for part in path.relative_to(root).parts):
            target = out / path.relative_to(root / "nbs")
            if not target.exists() or target.read_bytes() != path.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def refresh(
    root,     # Path of the repository
    path,     # Path of the committed notebook
    copy,     # Path of its executed copy
    label,    # what the progress bar says
    force,    # run it even if it is up to date
    timeout,  # seconds a single cell may take
    jobs=1,   # notebooks that share the processors
    strict=False,  # fail where data are missing, instead of keeping the recorded outputs
):            # -> seconds it ran, None if it was up to date, or was not run
    "Run one notebook unless the copy's outputs are still those of this code; the text is always brought over."
    try:
        nb = nbformat.read(path, as_version=4)
    except Exception as error:  # whatever nbformat comes up with for a file of another kind
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotebookFailed(f"{path.relative_to(root).as_posix()}: expected a notebook: {said[:100]}") from None
    print_of_this = fingerprint(root, nb)
    seconds = None
    if not force and copy.exists() and read(stamp(copy)) == print_of_this:
        for new, old in zip(code_cells(nb), code_cells(nbformat.read(copy, as_version=4)), strict=True):
            new.outputs, new.execution_count = old.outputs, old.execution_count
    else:
        stamp(copy).unlink(missing_ok=True)
        recorded = deepcopy(nb)
        try:
            seconds = run(root, path, nb, label, timeout, jobs)
        except DataMissing as missing:
            if strict:
                raise
            tqdm.write(f"not run, its page shows the recorded outputs: {missing}")
            nb, print_of_this = recorded, ""  # tried again the next time
            nb.cells.insert(1, nbformat.v4.new_markdown_cell(RECORDED))
    text = nbformat.writes(nb) + "\n"
    if read(copy) != text:
        write(copy, text)
    write(stamp(copy), print_of_this)
    return seconds


def run(
    root,     # Path of the repository
    path,     # Path of the notebook; the kernel works in its folder
    nb,       # the notebook; its outputs are replaced
    label,    # what the progress bar says
    timeout,  # seconds a single cell may take
    jobs=1,   # notebooks that share the processors
):            # -> seconds
    "Run a notebook in a fresh kernel of this very interpreter; raises NotebookFailed at the first error."
    start = perf_counter()
    env = dict.fromkeys(THREADS, str(max(1, processors() // jobs)))
    env |= {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), env.get("PYTHONPATH")]))
    with tqdm(total=len(code_cells(nb)), desc=label, unit="cell", leave=False, disable=None) as bar:
        runner = Runner(nb, bar, timeout=timeout, record_timing=False, coalesce_streams=True,
                        resources={"metadata": {"path": str(path.parent)}})
        Runner.at_work.add(runner)
        try:
            runner.execute(env=env)
        except CellExecutionError as error:
            if error.ename == "DataUnavailable":
                raise DataMissing(f"{path.relative_to(root).as_posix()}: {error.evalue}") from None
            said = ": ".join(filter(None, [error.ename, error.evalue]))
            raise NotebookFailed(f"{runner.where(path.relative_to(root))}: {said}") from None
        except CellTimeoutError:
            raise NotebookFailed(f"{runner.where(path.relative_to(root))}: took over {timeout} s") from None
        except (DeadKernelError, AssertionError):  # nbclient asserts that a kernel it has just lost is there
            raise NotebookFailed(f"{runner.where(path.relative_to(root))}: the kernel died or was interrupted") from None
        finally:
            Runner.at_work.discard(runner)
    return perf_counter() - start


class Runner(NotebookClient):
    "Runs cell after cell in a kernel started with this interpreter, skips `#| eval: false`, shows where it is."
    at_work = set()

    def __init__(self, nb, bar, **options):
        super().__init__(nb, **options)
        self.bar, self.position, self.stopped = bar, 0, False

    @classmethod
    def stop(cls):
        "Kill the kernels at work: whoever waits for one learns that it died."
        for runner in list(cls.at_work):
            runner.stopped = True
            with suppress(AttributeError, AssertionError, OSError, RuntimeError):  # it has no kernel yet, or none any more
                asyncio.run(runner.km.signal_kernel(getattr(signal, "SIGKILL", signal.SIGTERM)))

    def create_kernel_manager(self):
        "No installed kernel is looked up: the notebook runs with the packages that run this script."
        self.km = AsyncKernelManager()
        self.km._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"],
            display_name="python3", language="python")
        return self.km

    async def async_execute_cell(self, cell, cell_index, **options):
        "One cell."
        self.position = cell_index
        if self.stopped:
            raise DeadKernelError("stopped")
        if cell.cell_type != "code":
            return cell
        cell.outputs, cell.execution_count = [], None
        if not says_no(split(cell.source)[0], "eval"):
            cell = await super().async_execute_cell(cell, cell_index, **options)
        self.bar.update()
        return cell

    def where(
        self,
        name,  # how the notebook is called
    ):         # -> "nbs/02_rnn.ipynb, cell 7 (`y = f(x)`)"
        "The place reached, for a message."
        code = split(self.nb.cells[self.position].source)[1].strip().splitlines() or [""]
        return f"{name.as_posix()}, cell {self.position + 1} of {len(self.nb.cells)} (`{code[0]}`)"


def code_cells(nb):
    "The cells that hold code."
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def fingerprint(
    root,  # Path of the repository
    nb,    # the notebook
):         # -> text; outputs stay valid for as long as it does not change
    "A hash over all that a notebook's outputs depend on."
    digest = hashlib.sha256()
    digest.update(json.dumps([(cell.source, cell.metadata.get("tags", [])) for cell in code_cells(nb)]).encode())
    recorded = sorted((root / "benchmarks" / "results").glob("*.json"))
    for path in [*sorted((root / "seqbook").rglob("*.py")), root / "nbs" / "book.mplstyle", *recorded]:
        if path.exists():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    data = [archive.folder for archive in CATALOGUE.values()  # without them, the embedded text stands in
            if any(os.path.exists(cache_dir() / name) for name in (archive.folder, archive.filename))]
    digest.update(" ".join([platform.python_version(), version("numpy"), version("matplotlib"), *data]).encode())
    return digest.hexdigest()


def write_back(
    root,  # Path of the repository
    path,  # Path of the committed notebook
    copy,  # Path of its executed copy
):
    "Put the copy's outputs into the committed notebook, cleaned the way nbdev cleans."
    temporary = copy.with_name(f".{copy.stem}.clean.ipynb")
    shutil.copyfile(copy, temporary)
    try:
        clean = "import sys; from nbdev.clean import nbdev_clean; nbdev_clean(fname=sys.argv[1])"
        subprocess.run([sys.executable, "-c", clean, str(temporary)], cwd=root, check=True)
        if tags(temporary) != tags(path):
            raise NotebookFailed(f"{path.relative_to(root).as_posix()}: nbdev_clean drops the cells' tags; "
                                 "settings.ini must say `allowed_cell_metadata_keys = tags`")
        if temporary.read_bytes() != path.read_bytes():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def tags(path):
    "The tags of a notebook's cells."
    return [cell.metadata.get("tags", []) for cell in nbformat.read(path, as_version=4).cells]


def stamp(copy):
    "Where the fingerprint of an executed copy is kept."
    return copy.with_suffix(".stamp")


def read(path):
    "A file's text, None if there is none."
    return path.read_text(encoding="utf-8") if path.exists() else None


def write(path, text):
    "Write a file whole or not at all."
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `make` sends it when it is killed; it means the same as Ctrl-C
    sys.exit(main())

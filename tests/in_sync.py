"""Check that seqbook/ is what the notebooks export, and that the notebooks are committed clean and executed in order."""
import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def exported_anew(folder: Path) -> Path:
    "The package as the notebooks export it now, in a copy of the project."
    for name in ("settings.ini", "nbs"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    (folder / "seqbook").mkdir()
    subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=folder, check=True)
    return folder / "seqbook"


def differences(committed: Path, fresh: Path) -> list[str]:
    "Names of the modules that differ or stand on one side only."
    names = {p.relative_to(folder).as_posix() for folder in (committed, fresh) for p in folder.rglob("*.py")}
    same = lambda a, b: a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False)
    return [n for n in sorted(names) if not same(committed / n, fresh / n)]


def not_in_order(notebook: Path) -> str | None:
    "What is wrong with a notebook's cells as they are committed, in a few words."
    for i, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        if cell["execution_count"] is not None:
            return f"cell {i} carries an execution count; run nbdev_clean"
        failed = any(o["output_type"] == "error" for o in cell["outputs"])
        if failed and "raises-exception" not in cell["metadata"].get("tags", []):
            return f"cell {i} shows an error that it does not announce"
        if any(o.get("name") == "stderr" for o in cell["outputs"]):
            return f"cell {i} shows a warning"


def main():
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        problems += [f"seqbook/{n} is not what the notebooks export" for n in differences(ROOT / "seqbook", exported_anew(Path(folder)))]
    for notebook in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in notebook.parts and (problem := not_in_order(notebook)):
            problems.append(f"{notebook.relative_to(ROOT)}: {problem}")
    if problems:
        sys.exit("\n".join([*problems, "Run `make export` (and `make execute`), look at the changes, and commit them."]))
    print("seqbook/ and the notebooks agree")


if __name__ == "__main__":
    main()

"""Every tutorial runs to its last cell, which asserts its result, and is kept without outputs."""

import json
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_six():
    assert [p.stem for p in NOTEBOOKS] == [
        "01_five_minutes", "02_your_own_potential", "03_active_learning",
        "04_from_a_formula_to_lammps", "05_on_a_cluster", "06_properties",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    last = notebook.cells[-1]
    assert last.cell_type == "code"
    assert "assert" in last.source
    assert notebook.metadata.kernelspec.name == "python3"
    # written as it is read, so that a change shows as a small difference
    assert path.read_text(encoding="utf-8") == json.dumps(
        json.loads(path.read_text(encoding="utf-8")), indent=1, ensure_ascii=False
    ) + "\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what a Jupyter kernel warns about is not ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_to_the_end(path, tmp_path):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3",
                   resources={"metadata": {"path": str(tmp_path)}}).execute()

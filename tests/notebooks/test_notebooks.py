"""Notebooks: executed with small settings, stored without outputs, and paired with their scripts."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest
from in_a_fork import run_cells
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def _cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_without_outputs(script: Path) -> None:
    stored = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert _cells(stored) == _cells(jupytext.read(script))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in stored.cells)


def _in_a_kernel(script: Path, folder: Path) -> list[list[set[str]]]:
    """Types of the outputs of each cell, executed by Jupyter."""
    notebook = jupytext.read(script)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=place).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[set(one.get("data", {})) for one in cell.outputs] for cell in code]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_small_settings(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one by Jupyter; the others by IPython in a process that need not import everything again."""
    monkeypatch.setenv("CONNECTOME_TL_SMALL", "1")
    sources = [cell.source for cell in jupytext.read(script).cells if cell.cell_type == "code"]
    if script == SCRIPTS[0]:
        outputs = _in_a_kernel(script, tmp_path)
    else:
        outputs = run_cells(sources, tmp_path, timeout=500)
    assert any(outputs)
    for source, shown in zip(sources, outputs, strict=True):
        if ".plot." in source.splitlines()[-1] or "plt.show()" in source:
            assert any("image/png" in one for one in shown), source

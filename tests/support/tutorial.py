"""The tutorial's notebook, run, and what its cells gave."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from documentation import ROOT
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = ROOT / "docs/tutorial.ipynb"
N_FIGURES = 5
CEILING = 0.65
"""Which the made-up scans have, the mean over voxels."""
NUMBERS = {
    "r": r"test r, mean +(\S+) \[",
    "chance": r"by chance +a mean of (\S+) or less",
    "ridge": r"ridge, banded +(\S+),",
    "over ridge": r"minus ridge +(\S+) \[",
    "codes": r"test r: codes (\S+),",
    "mel": r"test r: codes \S+, mel (\S+),",
    "codes - mel": r"(?m)^codes - mel: ([+-][0-9.]+) \[",
}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures(notebook: NotebookNode) -> list[np.ndarray]:
    """Return every picture that cells gave, (height, width, colours) each."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pngs = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(png))) for png in pngs]


def numbers(notebook: NotebookNode) -> dict[str, float]:
    """Return what cells printed of :data:`NUMBERS`."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    found = {name: re.search(pattern, printed) for name, pattern in NUMBERS.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


def run_notebook(folder: Path) -> NotebookNode:
    """Execute all cells in a folder; return the notebook with what they gave."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where).execute()
    return notebook


def check_cells(notebook: NotebookNode) -> None:
    """Check that all cells ran, in order, and gave pictures, and numbers that agree."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    drawn = figures(notebook)
    assert len(drawn) == N_FIGURES
    for picture in drawn:
        assert min(picture.shape[:2]) > 100
        assert np.ptp(picture[..., :3]) > 0.5
    found = numbers(notebook)
    assert found.keys() == NUMBERS.keys()
    assert found["over ridge"] == pytest.approx(found["r"] - found["ridge"], abs=2e-4)
    assert found["codes - mel"] == pytest.approx(found["codes"] - found["mel"], abs=2e-4)


def check_numbers(notebook: NotebookNode) -> None:
    """Check that what was predicted is more than chance and less than can be."""
    found = numbers(notebook)
    assert found["chance"] < found["ridge"] < CEILING
    assert found["chance"] < found["r"] < CEILING

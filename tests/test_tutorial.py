"""The tutorial: what the notebook holds as it is committed, and that all of it runs.

tests/faults/test_tutorial.py runs it as long as it is, and has its numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import nibabel
import numpy as np
import pytest
from tutorial import NOTEBOOK, check_cells, check_numbers, code_cells, run_notebook

MOST_BYTES = 600_000
SHORTER = {
    "n_trs=240": "n_trs=160",
    "jobs/train.py": "jobs/train.py --train.epochs 2",
    "jobs/evaluate.py": "jobs/evaluate.py --permutations 99 --resamples 100",
}


def test_the_committed_notebook_holds_what_it_gave() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check_cells(notebook)
    check_numbers(notebook)
    assert NOTEBOOK.stat().st_size < MOST_BYTES


def test_what_it_imports_is_there() -> None:
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    lines = [line for cell in cells for line in cell.source.splitlines()]
    imports = [line for line in lines if re.match(r"(from|import) giblet_ray", line)]
    assert imports
    for line in imports:
        exec(line, {})


@pytest.mark.slow
def test_it_runs_from_film_to_brain_map(tmp_path: Path) -> None:
    check_cells(run_notebook(tmp_path, SHORTER))
    mask = nibabel.load(tmp_path / "tutorial/film/mask.nii.gz").get_fdata() > 0
    for subject in ("01", "02"):
        r = nibabel.load(tmp_path / f"tutorial/evaluation/first/r-{subject}.nii.gz").get_fdata()
        assert r.shape[:3] == mask.shape
        assert np.isfinite(r[mask]).all()
        assert not np.nan_to_num(r[~mask]).any()

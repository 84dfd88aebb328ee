"""The tutorial as it is committed: executed again, it gives its numbers."""

from __future__ import annotations

from pathlib import Path

import nbformat
import nibabel
import numpy as np
import pytest
from tutorial import NOTEBOOK, check_cells, check_numbers, numbers, run_notebook


@pytest.mark.timeout(3000)
def test_the_notebook_gives_what_it_holds(tmp_path: Path) -> None:
    committed = numbers(nbformat.read(NOTEBOOK, as_version=4))
    notebook = run_notebook(tmp_path)
    check_cells(notebook)
    check_numbers(notebook)
    for name, value in numbers(notebook).items():
        assert value == pytest.approx(committed[name], abs=0.05), name
    mask = nibabel.load(tmp_path / "tutorial/film/mask.nii.gz").get_fdata() > 0
    for subject in ("01", "02"):
        r = nibabel.load(tmp_path / f"tutorial/evaluation/first/r-{subject}.nii.gz").get_fdata()
        assert np.nanmean(r[mask]) > 0.2
        assert not np.nan_to_num(r[~mask]).any()

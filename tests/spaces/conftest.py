"""A scan, its mask and its table of confounds, as values and as files."""

import numpy as np
import pytest
from scan_files import FMRIPREP_SCAN, FMRIPREP_TABLE, N_TRS, SHAPE, save


@pytest.fixture
def volumes():
    """(X, Y, Z, T), around 1000 as a scanner gives them."""
    draw = np.random.default_rng(7)
    return 1000 + 20 * draw.standard_normal((*SHAPE, N_TRS)).astype(np.float32)


@pytest.fixture
def inside():
    """(X, Y, Z)."""
    return np.random.default_rng(8).random(SHAPE) < 0.6


@pytest.fixture
def mask(tmp_path, inside):
    return save(tmp_path / "mask.nii.gz", inside, dtype=np.uint8)


@pytest.fixture
def scan(tmp_path, volumes):
    return save(tmp_path / FMRIPREP_SCAN, volumes)


@pytest.fixture
def confounds(tmp_path):
    """(T, 3) of the table beside the scan; the last column's first row is "n/a" there."""
    draw = np.random.default_rng(9)
    values = np.stack(
        [draw.standard_normal(N_TRS), np.arange(N_TRS) ** 2 / 9, draw.standard_normal(N_TRS)], 1
    )
    rows = ["trans_x\trot_y\tframewise_displacement"]
    rows += ["\t".join(repr(float(value)) for value in row) for row in values]
    rows[1] = rows[1].rpartition("\t")[0] + "\tn/a"
    (tmp_path / FMRIPREP_TABLE).write_text("\n".join(rows) + "\n")
    return values

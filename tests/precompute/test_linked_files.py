"""Files that are links to others of any name, as DataLad and git-annex leave them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from precompute_here import precompute_here
from read_back import bold_of
from space_examples import EXAMPLES

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.layout import ScanKey


@pytest.mark.parametrize("kind", ["surface", "grayordinates"])
def test_a_scan_s_own_name_says_what_it_is(film_folder: Path, tmp_path: Path, kind: str) -> None:
    """An annex names files by checksums, and keeps short endings alone: .nii of .dtseries.nii."""
    example = EXAMPLES[kind](tmp_path)
    annex = tmp_path / ".git/annex"
    annex.mkdir(parents=True)
    for number, file in enumerate(tmp_path.glob("sub-01_*")):
        key = file.rename(annex / f"MD5E-s{number}--{number}{file.suffix}")
        file.symlink_to(os.path.relpath(key, tmp_path))
    job = parse_job(
        PrecomputeJob,
        [
            *("--film", str(film_folder / "one.mp4"), "--bold", str(example.scan)),
            *("--out", str(tmp_path / "out"), "--codes.make", "false"),
            *("--scan.high_pass_seconds", "none"),
        ],
    )
    bold_TV = bold_of(precompute_here(job), ScanKey("01", "one"))
    np.testing.assert_array_equal(bold_TV, example.bold_TV)

"""Scans of one subject and film that become one, their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from precompute_here import precompute_here
from read_back import bold_of

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.precompute.plan import make_plan

TR, FILM_TRS, N_UNITS = 1.5, 9, 5  # those of film one
ONSETS = {"1": 0, "2": 2, "3": -1}  # TRs from the first volume to the film's beginning
LENGTHS = {"1": 9, "2": 13, "3": 6}
SCRUBBED = {"1": "4", "2": "", "3": ""}


def job_of(film_folder: Path, folder: Path, *words: str) -> PrecomputeJob:
    scans = sorted(str(path) for path in folder.glob("sub-*.npy"))
    return parse_job(
        PrecomputeJob,
        [
            *("--film", str(film_folder / "one.mp4"), "--codes.make", "false"),
            *("--bold", *scans, "--scan.pattern", "sub-{subject}_ses-{repeat}"),
            *("--tr_seconds", f"{TR}", "--scan.high_pass_seconds", "none", "--row_group_trs", "4"),
            *("--scan.lengths", "trim", "--scan.table", str(folder / "scans.tsv")),
            *("--out", str(folder / "out"), *words),
        ],
    )


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, np.ndarray]:
    """Of three times that 01 saw the film; unit 3 is constant in one, unit 4 not finite once."""
    random = np.random.default_rng(0)
    found, rows = {}, ["subject\tstimulus\trepeat\tonset_seconds\tscrub"]
    for name, n in LENGTHS.items():
        found[name] = random.normal(100 * int(name), int(name), (n, N_UNITS)).astype(np.float32)
        rows.append(f"01\tone\t{name}\t{ONSETS[name] * TR}\t{SCRUBBED[name]}")
    found["2"][:, 3] = 7
    found["3"][2, 4] = np.nan
    for name, bold_TV in found.items():
        np.save(tmp_path / f"sub-01_ses-{name}.npy", bold_TV)
    np.save(tmp_path / "sub-02_ses-1.npy", found["1"])  # saw it once
    (tmp_path / "scans.tsv").write_text("\n".join(rows) + "\n")
    return found


def test_a_tr_is_the_mean_of_the_scans_that_have_it(
    film_folder: Path, tmp_path: Path, scans: dict[str, np.ndarray]
) -> None:
    dataset = precompute_here(job_of(film_folder, tmp_path, "--scan.repeats", "average"))
    once, alone = dataset.manifest.scans
    assert (once.key, alone.key) == (ScanKey("01", "one"), ScanKey("02", "one"))
    assert not check_dataset(dataset.storage.location).problems
    np.testing.assert_array_equal(bold_of(dataset, alone.key), scans["1"])

    # By film TR, from 0 on: the second has 11, of which 2 follow the film; the third begins at 1.
    last = LENGTHS["2"] - ONSETS["2"]
    values: dict[int, list[np.ndarray]] = {tr: [] for tr in range(last)}
    for name, bold_TV in scans.items():
        trs = np.arange(len(bold_TV)) - ONSETS[name]
        used = trs >= 0
        if SCRUBBED[name]:
            used[int(SCRUBBED[name])] = False
        mean_V, std_V = bold_TV[used].mean(axis=0), bold_TV[used].std(axis=0)
        for row in np.flatnonzero(used):
            with np.errstate(all="ignore"):
                values[trs[row]].append((bold_TV[row] - mean_V) / std_V)
    found = bold_of(dataset, once.key)
    assert found.shape == (last, N_UNITS)
    for tr, of_tr in values.items():
        np.testing.assert_allclose(found[tr, :3], np.mean(of_tr, axis=0)[:3], rtol=1e-4, atol=1e-5)
    assert [len(of_tr) for of_tr in values.values()] == [2, 3, 3, 3, 2, 3, 3, 2, 2, 1, 1]
    assert np.isnan(found[:, 3:]).any(axis=0).all()
    assert once.nan_units == 2
    of_bold = dataset.manifest.provenance["bold"]
    names = [source["name"] for source in of_bold["averaged"][str(once.key)]]
    assert names == [f"sub-01_ses-{name}.npy" for name in LENGTHS]
    assert of_bold["fitted_to_whole_scans"] == ["mean over repeats"]


def test_scans_stay_apart_unless_it_is_asked_for(
    film_folder: Path, tmp_path: Path, scans: dict[str, np.ndarray]
) -> None:
    units = make_plan(job_of(film_folder, tmp_path)).units
    paths = [unit.path for unit in units if unit.part == "bold"]
    assert len(paths) == 4
    assert not any(unit.repeats for unit in units)


def test_scans_whose_trs_are_not_the_same_are_refused(
    film_folder: Path, tmp_path: Path, scans: dict[str, np.ndarray]
) -> None:
    table = tmp_path / "scans.tsv"
    table.write_text(table.read_text().replace("\t3.0\t", "\t3.6\t"))
    with pytest.raises(InputError, match=r"average: .*ses-1.npy sees one from 0 s on, and") as told:
        make_plan(job_of(film_folder, tmp_path, "--scan.repeats", "average"))
    assert "\n" not in str(told.value)

"""Sherlock as it is downloaded, made up: two parts of a film in one file, shifted by 3 TRs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pyarrow.parquet as pq
import pytest
from documentation import span_commands
from read_back import bold_of, part_of
from scan_files import AFFINE, save
from script import run_script
from shaded_films import answer, shaded, sung, write_shaded

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.features.embedder import load_embedder
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.scan_table import read_scan_table

TR, FPS, SHIFT = 1.5, 2, 3
VOLUMES = {"stimuli_Sherlock": (0, 946), "stimuli_Sherlock_2": (946, 1976)}
SECONDS = {"stimuli_Sherlock": 1426, "stimuli_Sherlock_2": 1546}
SHAPE = (4, 3, 3)
SUBJECTS = ("s1", "s2", "s5")
OUTSIDE, DARK = (0, 0, 0), (1, 0, 0)
"""A voxel that nobody has, and one that s5 lacks."""
LOST = 50
"""Volumes at the end of s5, all as the one before them."""
HEADER = (
    "Segment Number", "Start Time (s) ", "End Time (s) ", "Start Time (TRs, 1.5s)",
    "End Time (TRs, 1.5s)", "Scene Segments", "Scene Details - A Level ", "Space-In/Outdoor",
    "Name - All", "Name - Focus", "Name - Speaking", "Location", "Camera Angle",
    "Music Presence ", "Words on Screen ",
    *(f"{what} - Rater {rater}" for what in ("Arousal", "Valence") for rater in range(1, 5)),
)  # fmt: skip


def make_download(folder: Path) -> dict[str, np.ndarray]:
    """Write films, annotations and scans as they are downloaded; return the scans' values."""
    parts: dict[str, list[np.ndarray]] = {}
    for seed, (film, seconds) in enumerate(SECONDS.items()):
        n_volumes = VOLUMES[film][1] - VOLUMES[film][0]
        shades_T = np.random.default_rng(seed).uniform(60, 190, n_volumes + SHIFT)
        pictures = shaded(shades_T, TR, FPS, seed)[: seconds * FPS]
        still = pictures[-1:].repeat(seconds * FPS - len(pictures), axis=0)
        write_shaded(folder / f"{film}.m4v", np.r_[pictures, still], sung(seconds, seed), FPS)
        for number, subject in enumerate(SUBJECTS):
            bold_TV = answer(shades_T, TR, int(np.prod(SHAPE)), 10 * seed + number)
            parts.setdefault(subject, []).append(bold_TV[SHIFT:])
    (folder / "sherlock_nii").mkdir()
    scans = {}
    for subject, bolds in parts.items():
        values = np.concatenate(bolds).T.reshape(*SHAPE, -1).astype(np.float32)
        values[OUTSIDE] = 0
        if subject == "s5":
            values[DARK] = 0
            values[..., -LOST:] = values[..., -LOST - 1, None]
        save(folder / f"sherlock_nii/sherlock_movie_{subject}.nii.gz", values, tr_seconds=TR)
        scans[subject] = values
    write_annotations(folder / "annotations.xlsx")
    return scans


def write_annotations(path: Path) -> None:
    """Write the table of segments: each part's clock begins at 0, and the last have no TRs."""
    book = openpyxl.Workbook()
    book.active.title = "Segments"
    book.active.append(HEADER)
    number = 0
    for part, last in (("one", 1426), ("two", 1544)):
        for start in range(0, last, 12):
            number += 1
            stop = min(start + 12, last)
            trs = (start // 1.5 + 1, stop // 1.5) if stop < 1420 or part == "two" else (None, None)
            detail = f"Scene {number} of part {part}"
            row = [number, start, stop, *trs, "1. Cartoon" if number == 1 else None, detail]
            book.active.append(row + [None] * (len(HEADER) - len(row)))
    book.save(path)


def test_the_mask_is_voted_for_and_volumes_that_repeat_one_are_scrubbed(data: Path) -> None:
    """The scan of s10 loses its last volumes of part 1."""
    random = np.random.default_rng(0)
    (data / "sherlock_nii").mkdir()
    for number in (2, 10, 11):
        values = random.normal(size=(2, 2, 2, 1976)).astype(np.float32)
        values[0, 0, 0] = 3  # outside
        values[1, 1, 1] *= number > 2  # 2 of 3 have it
        if number == 10:
            values[..., 944:946] = values[..., 943, None]
        save(data / f"sherlock_nii/sherlock_movie_s{number}.nii", values, tr_seconds=TR)
    run_script("recipes/sherlock/prepare.py", data / "sherlock_nii")
    inside = np.ones((2, 2, 2))
    inside[0, 0, 0] = 0
    mask = nibabel.load(data / "sherlock_nii/mask.nii.gz")
    np.testing.assert_array_equal(mask.get_fdata(), inside)
    np.testing.assert_array_equal(mask.affine, AFFINE)
    rows = read_scan_table(str(data / "sherlock_nii/scans.tsv"))
    assert [row.subject for row in rows] == ["s2", "s2", "s10", "s10", "s11", "s11"]
    assert {row.scrub for row in rows} == {(), ((944, 945), (945, 946))}
    assert rows[2].scrub
    save(data / "sherlock_nii/sherlock_movie_s3.nii", values[..., :946], tr_seconds=TR)
    with pytest.raises(SystemExit, match=r"s3\.nii: has 946 volumes; both parts have 1976"):
        run_script("recipes/sherlock/prepare.py", data / "sherlock_nii")


@pytest.mark.heavy
def test_the_recipe_goes_from_download_to_report(
    data: Path, follow: Callable[..., dict[str, str]]
) -> None:
    scans = make_download(data)
    said = follow(
        "sherlock",
        {
            "train.py": ["--data.modalities", "video,sound,text"],
            "predict.py": ["--stimuli", "stimuli_Sherlock_2"],
        },
    )
    assert "mask.nii.gz: 35 voxels, by 3 scans" in said["prepare.py"]
    inside = np.ones(SHAPE, bool)
    inside[OUTSIDE] = False
    dataset = Dataset.open("data/sherlock")
    assert len(dataset.manifest.scans) == len(SUBJECTS) * len(VOLUMES)
    for scan in dataset.manifest.scans:
        assert scan.volumes == VOLUMES[scan.stimulus]
        assert scan.onset_seconds == -SHIFT * TR
        is_cut_short = (scan.subject, scan.stimulus) == ("s5", "stimuli_Sherlock_2")
        assert scan.masked_trs == (((1030 - LOST, 1030),) if is_cut_short else ())
        # Row i is volume first + i: they differ by slow cosines.
        bold_TV = bold_of(dataset, scan.key)
        measured_TV = scans[scan.subject][inside].T[slice(*scan.volumes)]
        differ_TV = np.diff(bold_TV - measured_TV, axis=0)
        assert np.nanstd(differ_TV) < 0.05 * np.std(np.diff(measured_TV, axis=0))
    check_text(dataset)
    line = (
        r"s5 +stimuli_Sherlock_2 .* 946 to 1975 +-4.5 s +3 to 1029 of 1030, 3 after .*50 scrubbed"
    )
    assert re.search(line, said["precompute.py"])
    check_evaluation(data.parent / "evaluation/sherlock", inside)
    predicted = nibabel.load(data.parent / "predicted/sherlock/stimuli_Sherlock_2.nii.gz")
    assert predicted.shape == (*SHAPE, 1030)
    np.testing.assert_array_equal(predicted.affine, AFFINE)
    # Row k of a prediction is TR k of the film, which volume 946 + k - 3 answers to.
    predicted_TV = predicted.get_fdata()[inside].T
    measured_TV = scans["s1"][inside].T[946:]
    r = {
        shift: np.corrcoef(predicted_TV[shift:, 0], measured_TV[: 1030 - shift, 0])[0, 1]
        for shift in range(2 * SHIFT + 1)
    }
    assert max(r, key=r.__getitem__) == SHIFT


def check_text(dataset: Dataset) -> None:
    """Each TR of a part has its scenes' descriptions; the second part's begin with scene 120."""
    text_TD = part_of(dataset, "text", "stimuli_Sherlock_2")
    scenes = [f"Scene {120 + scene} of part two" for scene in (0, 0, 1)]
    expected = load_embedder("hashing").embed(scenes)
    np.testing.assert_allclose(text_TD[[0, 7, 8]], expected, atol=1e-6)


def check_evaluation(folder: Path, inside: np.ndarray) -> None:
    """r is high, at the usual delay of the response, and lies where the scans' voxels do."""
    assert (folder / "report.html").stat().st_size > 10_000
    units = pq.read_table(folder / "units.parquet").to_pandas()
    assert units.pearson.median() > 0.7
    assert abs(units.response_peak_seconds.median() - 5) < 0.5
    for subject in SUBJECTS:
        image = nibabel.load(folder / f"r-{subject}.nii.gz")
        np.testing.assert_array_equal(image.affine, AFFINE)
        r_XYZ = image.get_fdata()[..., 0]
        assert np.isnan(r_XYZ[DARK]) == (subject == "s5")
        r_XYZ[DARK] = 1
        np.testing.assert_array_equal(r_XYZ != 0, inside)


@pytest.mark.heavy
def test_with_one_part_of_the_film_the_volumes_of_the_other_are_left_out(data: Path) -> None:
    make_download(data)
    (data / "stimuli_Sherlock_2.m4v").unlink()
    prepare, precompute = (
        command.words[1:]
        for command in span_commands("recipes/sherlock/README.md")
        if "1" in command.words or "data/annotations.xlsx::1" in command.words
    )
    run_script(*prepare)
    plan = make_plan(parse_job(PrecomputeJob, precompute[1:]))
    assert [film.name for film in plan.films] == ["stimuli_Sherlock"]
    volumes = {scan.subject: scan.taken.volumes for scan in plan.scans}
    assert volumes == dict.fromkeys(SUBJECTS, (0, 946))

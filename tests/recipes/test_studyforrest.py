"""studyforrest as it is downloaded, made up: segments that overlap, brains of their own."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from bids_tree import MOTION
from documentation import ROOT, span_commands
from read_back import bold_of, set_of, sets_of
from scan_files import AFFINE, save
from script import run_script
from shaded_films import RATE, answer, shaded, sung, write_shaded

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.precompute.plan import make_plan

TR, FPS = 2.0, 2
TRS = (150, 147, 146, 163, 154, 146, 181, 113)
"""Of each run; a third of the real ones."""
OVERLAP, FADE_IN, FADE_OUT, GREY = 16, 1, 4, 4
"""Seconds that a segment shares with the next, in which it begins, in which it ends, and of grey
after its run."""
SHAPE = (4, 3, 3)
MASKED = {"01": 30, "04": 27}
"""Voxels in the mask of each subject."""


def segments() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pictures and sound of each segment: cut from one film, faded, and grey at the end."""
    seconds = [n * TR for n in TRS[:-1]] + [TRS[-1] * TR - TR / 2]
    starts = [0.0, *itertools.accumulate(each - OVERLAP for each in seconds[:-1])]
    whole = starts[-1] + seconds[-1]
    shades_T = np.random.default_rng(0).uniform(60, 190, int(whole / TR) + 1)
    pictures, sound_N = shaded(shades_T, TR, FPS, 0), sung(whole, 0)
    cut = []
    for start, length in zip(starts, seconds, strict=True):
        times_N = np.arange(int(length * FPS)) / FPS
        shown_N = np.clip(
            np.minimum((times_N + 0.5) / FADE_IN, (length - times_N) / FADE_OUT), 0, 1
        )
        first = round(start * FPS)
        part = pictures[first : first + len(times_N)].astype(float)
        mixed = 128 + (part - 128) * shown_N[:, None, None, None]
        grey = np.full((GREY * FPS, *part.shape[1:]), 128.0)
        silence_N = np.zeros(int((GREY + 0.3) * RATE))  # an encoder drops the last packet
        heard_N = sound_N[round(start * RATE) : round((start + length) * RATE)]
        cut.append((np.r_[mixed, grey].astype(np.uint8), np.r_[heard_N, silence_N]))
    return cut


def make_download(folder: Path) -> None:
    """Write segments, aligned scans as links into an annex, and masks as they are downloaded."""
    for subject, n in MASKED.items():
        inside = np.zeros(SHAPE, np.uint8)
        inside.flat[np.random.default_rng(int(subject)).permutation(inside.size)[:n]] = 1
        place = folder / f"templatetransforms/sub-{subject}/bold3Tp2"
        place.mkdir(parents=True)
        save(place / "brain_mask.nii.gz", inside, dtype=np.uint8)
    annex = folder / "aligned/.git/annex/objects"
    annex.mkdir(parents=True)
    for number, (pictures, sound_N) in enumerate(segments()):
        write_shaded(folder / f"segments/fg_av_ger_seg{number}.mkv", pictures, sound_N, FPS)
        shades = pictures[:, :, :, 0].mean(axis=(1, 2))
        shades_T = shades[: round(TRS[number] * TR * FPS)].reshape(TRS[number], -1).mean(1)
        for subject in MASKED:
            place = folder / f"aligned/sub-{subject}/in_bold3Tp2"
            place.mkdir(parents=True, exist_ok=True)
            seed = 10 * number + int(subject)
            bold_TV = answer(shades_T, TR, int(np.prod(SHAPE)), seed)
            key = annex / f"MD5E-s{seed}--{subject}{number}.nii.gz"
            save(key, bold_TV.T.reshape(*SHAPE, -1), tr_seconds=2.00000061)
            name = f"sub-{subject}_task-avmovie_run-{number + 1}_bold"
            (place / f"{name}.nii.gz").symlink_to(os.path.relpath(key, place))
            (place / f"{name}_mcparams.txt").write_text("0 0 0 0 0 0\n" * TRS[number])
            save(place / f"{name}_tsnr.nii.gz", np.ones(SHAPE))


@pytest.mark.slow
def test_the_recipe_goes_from_download_to_report(
    data: Path, follow: Callable[..., dict[str, str]]
) -> None:
    folder = data / "studyforrest"
    make_download(folder)
    said = follow(
        "studyforrest",
        {
            "train.py": ["--data.modalities", "video,sound"],
            "predict.py": ["--stimuli", "run-1"],
        },
    )
    assert re.search(
        r"01 +run-1 .* 0 to 149 of 152 +2 film TRs without BOLD", said["precompute.py"]
    )
    assert "sub-01_task-avmovie_run-1_bold.nii.gz" in said["precompute.py"]
    linked = [(folder / f"films/run-{run}.mkv").resolve().name for run in range(1, 9)]
    assert linked == [f"fg_av_ger_seg{number}.mkv" for number in range(8)]
    dataset = Dataset.open("data/studyforrest/dataset")
    assert len(dataset.manifest.scans) == len(MASKED) * len(TRS)
    for scan in dataset.manifest.scans:
        number = int(scan.stimulus.removeprefix("run-"))
        assert (scan.volumes, scan.onset_seconds) == ((0, TRS[number - 1]), 0)
        inside = mask(folder, scan.subject)
        path = folder / f"aligned/sub-{scan.subject}/in_bold3Tp2"
        path /= f"sub-{scan.subject}_task-avmovie_{scan.stimulus}_bold.nii.gz"
        measured_TV = nibabel.load(path).get_fdata()[inside].T
        differ_TV = np.diff(bold_of(dataset, scan.key) - measured_TV, axis=0)
        assert np.std(differ_TV) < 0.1 * np.std(np.diff(measured_TV, axis=0))
    check_sets(dataset)
    units = pq.read_table("evaluation/studyforrest/units.parquet").to_pandas()
    assert abs(units.response_peak_seconds.median() - 5) < 0.5
    assert units.pearson.median() > 0.5
    assert units.groupby("subject").size().to_dict() == MASKED
    for subject in MASKED:
        image = nibabel.load(f"evaluation/studyforrest/r-{subject}.nii.gz")
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_array_equal(image.get_fdata()[..., 0] != 0, mask(folder, subject))
    predicted = nibabel.load("predicted/studyforrest/run-1.nii.gz")
    assert predicted.shape == (*SHAPE, TRS[0] + GREY / TR)
    outside = predicted.get_fdata()[~mask(folder, "01")]
    assert not outside.any()


def mask(folder: Path, subject: str) -> np.ndarray:
    """Return where a subject's voxels are."""
    path = folder / f"templatetransforms/sub-{subject}/bold3Tp2/brain_mask.nii.gz"
    return nibabel.load(path).get_fdata() > 0


def check_sets(dataset: Dataset) -> None:
    """The end of each segment is found at the beginning of the next, and is in its set."""
    sets = sets_of(
        "--config", "recipes/studyforrest/train.yaml", "--data.modalities", "video,sound"
    )
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in dataset.manifest.provenance["same"]:
        groups.setdefault(row["group"], []).append(row)
    assert len(groups) == len(TRS) - 1
    for number, rows in enumerate(groups.values(), 1):
        end, begin = rows
        assert (end["stimulus"], begin["stimulus"]) == (f"run-{number}", f"run-{number + 1}")
        assert begin["start_seconds"] <= 2 * FADE_IN
        shared = end["start_seconds"] - begin["start_seconds"]
        assert abs(shared - (TRS[number - 1] * TR - OVERLAP)) <= 0.5
        assert end["stop_seconds"] - end["start_seconds"] >= OVERLAP - FADE_IN - FADE_OUT
        assert set_of(sets, rows, TR) == {"test"}


@pytest.mark.heavy
def test_what_fmriprep_makes_of_the_raw_data_finds_its_films_by_run(data: Path) -> None:
    folder = data / "studyforrest"
    for number, (pictures, sound_N) in enumerate(segments()):
        write_shaded(folder / f"segments/fg_av_ger_seg{number}.mkv", pictures, sound_N, FPS)
        write_run(folder / "phase2", "01", number + 1, TRS[number])
    run_script("recipes/studyforrest/prepare.py", folder / "segments", folder / "films")
    (words,) = (
        command.words[2:]
        for command in span_commands("recipes/studyforrest/README.md")
        if "recipes/studyforrest/precompute_fmriprep.yaml" in command.words
    )
    plan = make_plan(parse_job(PrecomputeJob, [*words, "--codes.make", "false"]))
    assert plan.job.tr_seconds == 2.00000061
    found = {scan.film.name: (scan.taken.volumes, set(scan.columns)) for scan in plan.scans}
    columns = {*MOTION, "csf", "white_matter"}
    assert found == {f"run-{run}": ((0, n), columns) for run, n in enumerate(TRS, 1)}


def test_what_fmriprep_makes_is_a_data_set_of_its_own() -> None:
    files = (ROOT / "recipes/studyforrest").glob("precompute*.yaml")
    places = sorted(yaml.safe_load(file.read_text())["out"] for file in files)
    assert places == ["data/studyforrest/dataset", "data/studyforrest/dataset_mni"]


def write_run(folder: Path, subject: str, run: int, n_trs: int) -> None:
    """Write a run's events, a row for each picture, and its derivatives."""
    within = Path(f"sub-{subject}/ses-movie/func")
    stem = f"sub-{subject}_ses-movie_task-movie_run-{run}"
    raw, made = folder / within, folder / "derivatives/fmriprep" / within
    for each in (raw, made):
        each.mkdir(parents=True, exist_ok=True)
    events = [f"{n / 25}\t0.04\t{n + 1}\t{n / 25}\t{n / 25}\t0.0" for n in range(100)]
    header = "onset\tduration\tframeidx\tvideotime\taudiotime\tlasttrigger"
    (raw / f"{stem}_events.tsv").write_text("\n".join([header, *events]) + "\n")
    random = np.random.default_rng(run)
    space = f"{stem}_space-MNI152NLin2009cAsym"
    bold = random.normal(100, 5, (*SHAPE, n_trs))
    save(made / f"{space}_desc-preproc_bold.nii.gz", bold, tr_seconds=TR)
    save(made / f"{space}_desc-brain_mask.nii.gz", np.ones(SHAPE))
    sidecar = {"RepetitionTime": 2.00000061, "SliceTimingCorrected": False}
    (made / f"{space}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    names = [*MOTION, "csf", "white_matter", "framewise_displacement"]
    table_TC = random.normal(size=(n_trs, len(names)))
    rows = ["\t".join(f"{value:g}" for value in row) for row in table_TC]
    (made / f"{stem}_desc-confounds_timeseries.tsv").write_text(
        "\n".join(["\t".join(names), *rows])
    )
    (made / f"{stem}_desc-confounds_timeseries.json").write_text("{}")

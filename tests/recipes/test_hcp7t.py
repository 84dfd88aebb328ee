"""HCP's 7 T films as they are downloaded, made up: rests, one clip in every run, two versions."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from documentation import ROOT
from read_back import bold_of, set_of, sets_of
from scan_files import save_series
from script import run_script
from shaded_films import RATE, answer, shaded, sung, write_shaded
from space_examples import MODELS

from giblet_ray.dataset.reader import Dataset

FPS = 2
FILMS = {
    "MOVIE1": ("7T_MOVIE1_CC1", "AP", 921),
    "MOVIE2": ("7T_MOVIE2_HO1", "PA", 918),
    "MOVIE3": ("7T_MOVIE3_CC2", "PA", 915),
    "MOVIE4": ("7T_MOVIE4_HO2", "AP", 901),
}
"""Name of the film, phase encoding of its run, volumes."""
SAW_2 = ("100610", "102311")
SAW_1 = ("104416", "105923")
"""Saw version 1, and have the scans of two films."""


@pytest.fixture
def two_scans(data: Path) -> Path:
    """The folder of two people, who have a scan each; 104416's lacks the last volume."""
    folder = data / "hcp7t"
    for subject, run, n in (
        ("100610", "tfMRI_MOVIE4_7T_AP", 901),
        ("104416", "tfMRI_MOVIE2_7T_PA", 917),
    ):
        place = folder / subject / "MNINonLinear/Results" / run
        place.mkdir(parents=True)
        file = place / f"{run}_Atlas_1.6mm_MSMAll_hp2000_clean.dtseries.nii"
        save_series(file, np.zeros((n, len(MODELS))), MODELS, 1.0)
    return folder


def prepare(folder: Path, version_1: str, *words: str) -> dict[str, dict[str, str]]:
    """Run prepare.py; return the row of each subject."""
    (folder / "version_1.txt").write_text(version_1)
    given = (folder, "--version_1", folder / "version_1.txt", "--resolution", "1.6mm", *words)
    run_script("recipes/hcp7t/prepare.py", *given)
    with (folder / "scans.tsv").open(newline="") as stream:
        return {row.pop("subject"): row for row in csv.DictReader(stream, delimiter="\t")}


def test_scans_that_are_there_are_listed_with_the_film_they_saw_and_its_rests(
    two_scans: Path,
) -> None:
    with pytest.raises(SystemExit, match="holds no ID/MNINonLinear"):
        prepare(two_scans, "104416\n", "--resolution", "2mm")
    found = prepare(two_scans, "104416\n")
    films = {subject: row["stimulus"] for subject, row in found.items()}
    assert films == {"100610": "7T_MOVIE4_HO2_v2", "104416": "7T_MOVIE2_HO1"}
    assert found["100610"]["scrub"] == "0-19,252-271,502-521,777-796,881-900"
    assert found["104416"]["scrub"] == "0-19,247-266,525-544,795-814,898-916"
    assert all((two_scans / row["file"]).is_file() for row in found.values())


def test_rests_end_with_a_scan_that_ends_before_its_film(two_scans: Path) -> None:
    (file,) = two_scans.glob("104416/**/*.dtseries.nii")
    save_series(file, np.zeros((540, len(MODELS))), MODELS, 1.0)
    assert prepare(two_scans, "104416\n")["104416"]["scrub"] == "0-19,247-266,525-539"


def test_ids_may_be_parted_by_commas(two_scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prepare(two_scans, "104416, 999999,\n100610\n")
    assert {row["stimulus"] for row in found.values()} == {"7T_MOVIE4_HO2", "7T_MOVIE2_HO1"}
    assert "note: no scan of 1 of the 3 people in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Subject\n104416\n", "txt: has Subject; ids of six digits are expected"),
        ("1044160\n", "txt: has 1044160; ids"),
        ("\n", "txt: has nothing; ids"),
    ],
)
def test_what_is_no_id_is_refused(two_scans: Path, content: str, message: str) -> None:
    with pytest.raises(SystemExit, match=rf"^error: --version_1 .*{message}"):
        prepare(two_scans, content)


def test_a_list_of_ids_that_is_not_there_is_said(two_scans: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: --version_1 absent\.txt: cannot be read: .*No"):
        run_script("recipes/hcp7t/prepare.py", two_scans, "--version_1", "absent.txt")


def clips(movie: str) -> list[dict[str, str]]:
    """Return the rows of the recipe's table."""
    with (ROOT / "recipes/hcp7t/clips.tsv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream, delimiter="\t") if row["movie"] == movie]


def make_film(movie: str, version: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shades, pictures and sound of a film: the same clip ends each, and rests are still.

    Of version 1, the first clip is another.
    """
    number, n = int(movie[-1]), FILMS[movie][2]
    shades_T = np.full(n, 20.0)
    pictures = np.full((n * FPS, 24, 32, 3), 20, np.uint8)
    pictures[:, 10:14, 8:24] = 120  # REST
    sound_N = 0.02 * sung(1, 0)[:RATE][np.arange(n * RATE) % RATE]
    for row in clips(movie):
        start, stop = int(row["start_seconds"]), int(row["stop_seconds"])
        seed = 99 if row["clip"] == "validation" else 10 * number + int(row["clip"])
        seed += 1000 * (row["clip"] == "1" and version == 1)
        shades = np.random.default_rng(seed).uniform(60, 190, stop - start)
        shades_T[start:stop] = shades
        pictures[start * FPS : stop * FPS] = shaded(shades, 1, FPS, seed)
        sound_N[start * RATE : stop * RATE] = sung(stop - start, seed)
    return shades_T, pictures, sound_N


def make_download(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    """Write films and dense series as they are downloaded; return BOLD by subject and film."""
    folders = {1: "Pre_20140821_version", 2: "Post_20140821_version"}
    measured = {}
    for version, subjects in ((2, SAW_2), (1, SAW_1)):
        for movie, (film, direction, _) in list(FILMS.items())[: 2 * version]:
            shades_T, pictures, sound_N = make_film(movie, version)
            name = f"{film}_v2.mp4" if version == 2 else f"{film}.mp4"
            write_shaded(folder / "movies" / folders[version] / name, pictures, sound_N, FPS)
            for subject in subjects:
                run = f"tfMRI_{movie}_7T_{direction}"
                place = folder / subject / "MNINonLinear/Results" / run
                place.mkdir(parents=True)
                bold_TV = answer(shades_T, 1, len(MODELS), int(subject) + int(movie[-1]))
                name = f"{run}_Atlas_MSMAll_hp2000_clean.dtseries.nii"
                save_series(place / name, bold_TV, MODELS, 1.0)
                measured[subject, movie] = bold_TV.astype(np.float32)
    (folder / "version_1.txt").write_text("\n".join((*SAW_1, "999999")) + "\n")
    return measured


@pytest.mark.heavy
def test_the_recipe_goes_from_download_to_report(
    data: Path, follow: Callable[..., dict[str, str]]
) -> None:
    measured = make_download(data / "hcp7t")
    said = follow(
        "hcp7t",
        {
            "train.py": ["--data.modalities", "video,sound"],
            "predict.py": ["--stimuli", "7T_MOVIE1_CC1_v2"],
        },
    )
    assert "0 to 920 of 921  120 scrubbed" in said["precompute.py"]
    assert "no finite value" not in said["precompute.py"]
    assert "12 scans of 4 people, 2 of whom saw version 1" in said["prepare.py"]
    dataset = Dataset.open("data/hcp7t/dataset")
    for scan in dataset.manifest.scans:
        movie = scan.stimulus.split("_")[1]
        assert scan.stimulus.endswith("_v2") == (scan.subject in SAW_2)
        assert scan.masked_trs == tuple(rests(movie))
        bold_TV = bold_of(dataset, scan.key)
        usable_T = np.isfinite(bold_TV[:, 0])
        np.testing.assert_array_equal(
            bold_TV[usable_T], measured[scan.subject, movie][: scan.n_trs][usable_T]
        )
    check_sets(dataset)
    folder = data.parent / "evaluation/hcp7t"
    assert (folder / "report.html").stat().st_size > 10_000
    units = pq.read_table(folder / "units.parquet").to_pandas()
    assert abs(units.response_peak_seconds.median() - 5) < 1
    assert units.pearson.median() > 0.5
    for path in (folder / "r-100610.dtseries.nii",
                 data.parent / "predicted/hcp7t/7T_MOVIE1_CC1_v2.dtseries.nii"):  # fmt: skip
        image = nibabel.load(path)
        assert image.header.get_axis(1) == MODELS
    assert image.shape == (921, len(MODELS))


def rests(movie: str) -> list[tuple[int, int]]:
    """Return where no clip is, [start, stop) in TRs of 1 s."""
    edges = [0, *(int(row[at]) for row in clips(movie) for at in ("start_seconds", "stop_seconds"))]
    return list(zip(edges[::2], [*edges[1::2], FILMS[movie][2]], strict=True))


def check_sets(dataset: Dataset) -> None:
    """The clip of all runs is in one set, and both versions of a film are cut alike."""
    sets = sets_of("--config", "recipes/hcp7t/train.yaml", "--data.modalities", "video,sound")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in dataset.manifest.provenance["same"]:
        groups.setdefault(row["group"], []).append(row)
    films = set(dataset.stimuli)
    (clip,) = (of for of in groups.values() if {row["stimulus"] for row in of} == films)
    for row in clip:
        last = clips(row["stimulus"].split("_")[1])[-1]
        assert row["start_seconds"] <= int(last["start_seconds"]) + 1
        assert row["stop_seconds"] >= int(last["stop_seconds"]) - 1
    assert set_of(sets, clip, 1.0) == {"test"}
    for film in ("7T_MOVIE1_CC1", "7T_MOVIE2_HO1"):
        shared = int(clips(film.split("_")[1])[1]["start_seconds"])
        one, other = sets[film][shared:], sets[f"{film}_v2"][shared:]
        assert {"train", "val", "test"} <= set(one.tolist())
        for held in ("val", "test"):
            np.testing.assert_array_equal(one == held, other == held)

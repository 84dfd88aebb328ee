"""The official score, beside a slow loop written from the challenge's definition."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from scipy.stats import pearsonr
from script import ROOT

from giblet_ray.errors import InputError
from giblet_ray.prediction.formats.algonauts2025 import Format, read_samples

FRIENDS = {"s07e01a": 31, "s07e01b": 17, "s07e16c": 24}
OOD = {"chaplin1": 22, "chaplin2": 31, "wot1": 14, "wot2": 25}
SUBJECTS = ("sub-01", "sub-02", "sub-05")


@pytest.fixture(scope="module")
def score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", ROOT / "recipes/algonauts2025/score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(
    films: dict[str, int], seed: int, n_parcels: int = 7
) -> dict[str, dict[str, np.ndarray]]:
    """Numbers whose level and size differ between runs, so that joining them matters."""
    random = np.random.default_rng(seed)
    level = np.random.default_rng(9).normal(size=(len(SUBJECTS), len(films), n_parcels))
    return {
        subject: {
            film: (random.normal(size=(n, n_parcels)) + level[s, f]).astype(np.float32)
            for f, (film, n) in enumerate(films.items())
        }
        for s, subject in enumerate(SUBJECTS)
    }


def by_definition(predicted, measured, joined) -> float:
    """Runs [5:-5], parts of a film joined, r per parcel; means over parcels, films, subjects."""
    of_subjects = []
    for subject in SUBJECTS:
        of_films = []
        for parts in joined:
            one = np.concatenate([measured[subject][part][5:-5] for part in parts], 0)
            other = np.concatenate([predicted[subject][part][5:-5] for part in parts], 0)
            r = [pearsonr(one[:, p], other[:, p])[0] for p in range(one.shape[1])]
            of_films.append(np.mean(r))
        of_subjects.append(np.mean(of_films))
    return float(np.mean(of_subjects))


@pytest.mark.parametrize(
    ("films", "joined"),
    [(FRIENDS, [tuple(FRIENDS)]), (OOD, [("chaplin1", "chaplin2"), ("wot1", "wot2")])],
)
def test_score_is_that_of_the_challenge_s_definition(score, films, joined):
    predicted, measured = made_up(films, 1), made_up(films, 2)
    found = score.official_score(score.parcel_scores(predicted, measured))
    expected = by_definition(predicted, measured, joined)
    assert abs(expected) > 0.05
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_constant_parcel_is_said_and_leaves_no_score(score):
    predicted, measured = made_up(OOD, 1), made_up(OOD, 2)
    for part in ("wot1", "wot2"):
        predicted["sub-02"][part][:, 3] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joined = [("chaplin1", "chaplin2"), ("wot1", "wot2")]
        assert np.isnan(by_definition(predicted, measured, joined))
    lines = score.in_words(score.parcel_scores(predicted, measured))
    assert lines[3].startswith("sub-02  wot  mean r ")
    assert lines[3].endswith("; 1 of 7 parcels are constant, and have no r")
    assert lines[-2] == "official score: nan"
    assert lines[-1].startswith("without the parcels that have no r: 0.")


@pytest.fixture
def scans(tmp_path: Path) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """Scans of two subjects as the challenge keeps them, and a submission of them."""
    measured = {s: made_up(FRIENDS, 2, 1000)[s] for s in SUBJECTS[:2]}
    for subject, parts in measured.items():
        with h5py.File(tmp_path / f"{subject}_task-friends_bold.h5", "w") as stream:
            for session, (part, bold) in enumerate(parts.items(), 1):
                stream[f"ses-{session:03}_task-{part}"] = bold
    predicted = {s.removeprefix("sub-"): made_up(FRIENDS, 1, 1000)[s] for s in SUBJECTS[:2]}
    with (tmp_path / "held.zip").open("wb") as stream:
        wanted = dict.fromkeys(predicted, FRIENDS)
        Format().write(stream, "held", predicted, wanted)
    return str(tmp_path / "sub-*_bold.h5"), {f"sub-{s}": of for s, of in predicted.items()}


def test_the_command_scores_a_submission_against_the_scans_of_its_keys(score, scans, tmp_path):
    files, predicted = scans
    lines = score.main(["--scans", files, "--submission", str(tmp_path / "held.zip")])
    measured = {s: made_up(FRIENDS, 2, 1000)[s] for s in SUBJECTS[:2]}
    expected = score.official_score(score.parcel_scores(predicted, measured))
    assert lines[-1] == f"official score: {expected:.4f}"
    assert [line.split()[:2] for line in lines[:2]] == [[s, "friends"] for s in SUBJECTS[:2]]


def test_the_command_writes_the_samples_of_a_training_s_test_films(score, scans, tmp_path):
    split = tmp_path / "train.yaml"
    split.write_text("data: {split: {kind: stimuli, test_stimuli: [s07e01a, s07e16c]}}")
    out = tmp_path / "held"
    lines = score.main(["--scans", scans[0], "--films", str(split), "--samples", str(out)])
    assert lines[0] == f"{out}/sub-01_held_fmri_samples.npy: 55 samples of 2 runs"
    wanted = {"s07e01a": 31, "s07e16c": 24}
    assert read_samples(str(out / "sub-02_held_fmri_samples.npy")) == wanted


def test_what_a_subject_lacks_of_the_films_is_said(score, scans, tmp_path):
    with h5py.File(tmp_path / "sub-02_task-friends_bold.h5", "a") as stream:
        del stream["ses-002_task-s07e01b"]
    films = ["--films", "s07e01a", "s07e01b"]
    lines = score.main(["--scans", scans[0], *films, "--samples", str(tmp_path / "held")])
    assert lines[0].endswith(": 48 samples of 2 runs")
    assert lines[1].endswith(": 31 samples of 1 runs; no scan of s07e01b")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--submission, or --films and --samples, are needed"),
        (
            ["--films", "s07e01a", "s07e99z", "--samples", "held"],
            "--films s07e01a s07e99z: there is no scan of s07e99z",
        ),
        (["--films", "absent.yaml", "--samples", "held"], "absent.yaml: has no data.split.test"),
        (["--submission", "absent.zip"], "absent.zip: is no .zip that can be read"),
    ],
)
def test_what_cannot_be_scored_is_said(score, scans, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        score.main(["--scans", scans[0], *words])
    assert message in str(refused.value)


def test_scans_that_cannot_be_read_are_said(score, tmp_path):
    file = tmp_path / "sub-01_bold.h5"
    file.write_text("/annex/objects/MD5E")
    with pytest.raises(InputError, match=rf"^--scans {file}: cannot be read: "):
        score.scans_of([str(file)], "life01".__eq__)


def test_a_subject_that_has_no_scan_of_the_films_is_said(score, scans, tmp_path):
    with h5py.File(tmp_path / "sub-02_task-friends_bold.h5", "a") as stream:
        del stream["ses-002_task-s07e01b"]
    words = ["--scans", scans[0], "--films", "s07e01b", "--samples", str(tmp_path / "held")]
    with pytest.raises(InputError, match=r"--films s07e01b: sub-02 has no scan of them"):
        score.main(words)


def test_scans_that_are_not_those_of_the_predictions_are_said(score):
    predicted, measured = made_up(OOD, 1), made_up(OOD, 2)
    measured["sub-02"]["wot1"] = measured["sub-02"]["wot1"][:-1]
    with pytest.raises(InputError, match=r"sub-02: wot1: \(14, 7\) is predicted, and the scan is"):
        score.parcel_scores(predicted, measured)
    del measured["sub-02"]["wot1"]
    with pytest.raises(InputError, match=r"there is no scan of sub-02 watching wot1"):
        score.parcel_scores(predicted, measured)


def test_two_scans_of_one_part_are_refused(score, tmp_path):
    with h5py.File(tmp_path / "sub-01_movie10.h5", "w") as stream:
        for run in (1, 2):
            stream[f"ses-00{run}_task-life01_run-{run}"] = np.zeros((20, 3), np.float32)
    with pytest.raises(InputError, match=r"ses-002_task-life01_run-2 is the second scan of life01"):
        score.scans_of([str(tmp_path / "sub-01_movie10.h5")], "life01".__eq__)

"""Names that become files: which are taken, and that every setting that takes one says no alike."""

from __future__ import annotations

import re

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import CompareJob, Job, PredictJob, PromoteJob, TrainJob, TuneJob
from giblet_ray.errors import InputError
from giblet_ray.names import checked_experiment, checked_name, checked_run

NO_FILES = ["", ".", "..", ".hidden", "-o", "/a", "a/", "a b", "it's", 'a"b', "a\n", "é", "a" * 101]


@pytest.mark.parametrize("name", ["01", "night", "sub-01_run.2", "A" * 100])
def test_names_of_files_are_taken(name: str) -> None:
    assert checked_name(name) == checked_run(name) == name


@pytest.mark.parametrize("name", [*NO_FILES, "a/b"])
def test_names_that_are_no_files_are_refused(name: str) -> None:
    with pytest.raises(InputError) as error:
        checked_name(name, "subject")
    assert str(error.value).startswith(f"subject {name!r} is no name: letters, digits")
    assert "\n" not in str(error.value)


def test_a_trial_is_looked_up_below_its_sweep() -> None:
    assert checked_run("night/0007") == "night/0007"
    for name in (*NO_FILES, "a//b", "a/../b", "a/b/c", "night/"):
        with pytest.raises(InputError, match=re.escape(repr(name))):
            checked_run(name)


@pytest.mark.parametrize("name", ["film 1", 'it\'s "new": 50%?', "/lab/film", "a/b", "é", "..."])
def test_experiments_are_called_as_one_likes(name: str) -> None:
    assert checked_experiment(name) == name


@pytest.mark.parametrize(
    "name", ["", "/", "//a", "a/", "a//b", "..", "a/../b", "./a", " a", "a /b", "a\nb", "é" * 101]
)
def test_experiments_that_lead_out_of_their_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(name))):
        checked_experiment(name)


@pytest.mark.parametrize(
    ("job", "words", "setting"),
    [
        (TrainJob, ["--name"], "name"),
        (TrainJob, ["--data.subjects", "01"], "data.subjects"),
        (TrainJob, ["--data.split.kind", "stimuli", "--data.split.val_stimuli"], None),
        (TrainJob, ["--tracking.experiment"], "tracking.experiment"),
        (TuneJob, ["--name"], "name"),
        (TuneJob, ["--sweep.resume"], "sweep.resume"),
        (CompareJob, ["--runs", "a"], "runs"),
        (CompareJob, ["--pair", "a"], "pair"),
        (CompareJob, ["--sweep"], "sweep"),
        (CompareJob, ["--experiment"], "experiment"),
        (PromoteJob, ["--run"], "run"),
        (PromoteJob, ["--best-of"], "best_of"),
        (PredictJob, ["--model", "m", "--out", "o", "--stimuli"], "stimuli"),
    ],
)
def test_every_setting_that_takes_a_name_refuses_what_is_none(
    job: type[Job], words: list[str], setting: str | None
) -> None:
    dataset = ["--dataset", "d"] if "dataset" in job.model_fields else []
    setting = setting or words[-1].removeprefix("--")
    for name in ("..", "a/../b", ""):
        with pytest.raises(InputError) as error:
            parse_job(job, [*dataset, *words, name])
        assert str(error.value).startswith(f"--{setting}: {name!r} is no ")
        assert "\n" not in str(error.value)

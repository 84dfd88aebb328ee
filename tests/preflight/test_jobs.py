"""--preflight of every job, as a user runs it: what it says, what it refuses, and nothing else."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.demo import DemoSettings, make_demo
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun

ROOT = Path(__file__).parents[2]


class Lab(NamedTuple):
    """A data set, a finished training, and the settings that give it."""

    dataset: str
    folder: Path
    settings: Path


@pytest.fixture(scope="module")
def lab(
    cluster: None,
    arrays_and_dataset: tuple[Any, Dataset],
    tiny_model: dict[str, Any],
    train_locally: Callable[[TrainJob, Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    groups = {
        "name": "first",
        "model": tiny_model,
        "train": {"epochs": 1, "batch_trs": 16},
        "scaling": {"cpus_per_worker": 0.5},
        "storage": {"path": str(folder / "runs")},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
    }
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(groups))
    dataset = arrays_and_dataset[1].storage.location
    job = parse_job(TrainJob, ["--config", str(settings), "--dataset", dataset])
    run_folder = folder / "runs/first"
    run_folder.mkdir(parents=True)
    link = train_locally(job, run_folder)
    run = MlflowRun(job.tracking.uri, "giblet_ray", "first", str(run_folder))
    log = MetricLog(job.tracking.uri)
    for step, metrics in link.points:
        log.log(run.id, metrics, step)
    assert log.close(60) == []
    run.close("FINISHED")
    return Lab(dataset, folder, settings)


@pytest.fixture
def say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a job; return what it said, or its one line of error.

    Nothing may be left in the folder that it ran in.
    """

    def run(job: str, *words: object, fails: bool = False) -> str:
        before = set(tmp_path.rglob("*"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [job, *map(str, words)])
        capfd.readouterr()
        refused = pytest.raises(SystemExit, match=r"^2$") if fails else nullcontext()
        with refused:
            runpy.run_path(str(ROOT / "jobs" / job), run_name="__main__")
        said, error = capfd.readouterr()
        assert set(tmp_path.rglob("*")) == before
        if fails:
            assert error.startswith("error: ")
            assert error.count("\n") == 1
            return error
        assert "\nfits: " in said or "\nmay not fit: " in said
        return said

    return run


@pytest.mark.slow
def test_tune_tells_of_its_largest_and_smallest_trial(lab: Lab, say: Callable[..., str]) -> None:
    said = say(
        "tune.py", "--preflight", "--config", lab.settings, "--dataset", lab.dataset,
        "--name", "night", "--sweep.space", "model.embed_dim=4,32,8", "model.head_dim=16..64",
        "optimizer.lr=1e-4,1e-3",
        "--sweep.num_samples", "6", "--train.epochs", "5", "--sweep.max_concurrent", "2",
    )  # fmt: skip
    assert "the largest trial: model.embed_dim=32 model.head_dim=64 optimizer.lr=0.0001" in said
    assert "settings          model.embed_dim=4 model.head_dim=16" in said
    assert "6 of 5 epochs; 2 at a time" in said
    assert "30 in all at most" in said
    assert "2 on one machine" in said
    assert not (lab.folder / "runs/night").exists()


def test_predict_tells_what_will_be_written(lab: Lab, say: Callable[..., str]) -> None:
    given = ["--model", lab.folder / "runs/first", "--dataset", lab.dataset, "--out", "predicted"]
    said = say("predict.py", "--preflight", *given)
    assert "200 of 2 stimuli, 24 voxels" in said
    # Rows of 24 voxels, and a NIfTI file of 4 x 5 x 3: 200 * 4 * (24 + 60) bytes and a header.
    assert "67.6 kB in" in said
    assert "batches of 64 TRs" in said
    assert "batches of 1 TRs" in say("predict.py", "--preflight", *given, "--batch_trs", 1)
    large = say("predict.py", "--preflight", *given, "--batch_trs", 10**7)
    assert "may not fit: host memory" in large
    assert "use a smaller --batch_trs" in large


FORM = """
from giblet_ray.prediction.file_format import FileFormat
class Mine(FileFormat):
    ending = ".pkl"
    def wanted(self, samples): return {"01": {"one": 100}, "02": {"one": 100, "two": 83}}
    def check_units(self, subject, n_units): pass
    def write(self, stream, stem, predicted, wanted): pass
"""


def test_predict_of_a_form_tells_of_all_subjects_and_of_its_own_file(
    lab: Lab, say: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "form_of_mine.py").write_text(FORM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    np.save(tmp_path / "sub-01_samples.npy", {"one": 4}, allow_pickle=True)
    given = ["--model", lab.folder / "runs/first", "--dataset", lab.dataset]
    given += ["--samples", "sub-01_samples.npy", "--format"]
    said = say("predict.py", "--preflight", *given, "form_of_mine:Mine", "--out", "all.pkl")
    assert "317 of 2 stimuli, 24 voxels" in said
    assert f"{tmp_path}/all.pkl" in said
    # 283 rows of 24 units.
    assert "27.2 kB in" in said
    (tmp_path / "all.json").touch()
    given = ["predict.py", "--preflight", *given]
    refused = say(*given, "form_of_mine:Mine", "--out", "all.pkl", fails=True)
    assert "--out all.pkl: all.json is there; give another --out, or --overwrite" in refused
    refused = say(*given, "algonauts2025", "--out", "all", fails=True)
    assert "--out all: --format algonauts2025 is one file, whose name ends in .zip" in refused
    refused = say(*given, "algonauts2025", "--out", "s7.zip", fails=True)
    assert "subject 01 has 24 units" in refused


def test_compare_and_promote_tell_what_they_would_do(lab: Lab, say: Callable[..., str]) -> None:
    store = ["--tracking.uri", f"sqlite:///{lab.folder}/mlflow.db"]
    said = say("compare.py", "--preflight", *store, "--out", "page")
    assert "1 of experiment giblet_ray" in said
    assert "best by val/pearson_mean: first" in said
    for _ in range(2):  # nothing was promoted by the first
        said = say("promote.py", "--preflight", *store, "--run", "first")
        assert "models:/giblet-encoder@champion" in said
        assert "nothing: it is the first" in said
    assert "frist" in say("promote.py", "--preflight", *store, "--run", "frist", fails=True)


def test_demo_tells_what_it_will_make(say: Callable[..., str]) -> None:
    said = say("demo.py", "--preflight", "--n_trs", "200", "--out", "shown")
    assert "5.0 minutes with sound and subtitles, 200 TRs" in said
    assert "4 of 2 subjects, 400 voxels" in said
    assert "on 2 workers; with the rest" in said


def test_precompute_tells_what_it_will_make(
    cluster: None, say: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_demo(tmp_path / "source", DemoSettings(n_trs=9, n_voxels=30))
    given = [
        "--out", tmp_path / "data", "--film", made.film, "--text", made.subtitles, "--bold",
        *made.scans, "--mask", made.mask, "--codes.weights", "untrained",
    ]  # fmt: skip
    said = say("precompute.py", "--preflight", *given)
    assert "1: 9 TRs of 1.5 s" in said
    assert "bold        2 files" in said
    assert "128 s, by cosines over whole scans" in said
    assert "5 of 5 files" in said
    assert "tasks" in said
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "make room, or give another place" in say(
        "precompute.py", "--preflight", *given, fails=True
    )


def test_train_that_does_not_fit_ends_with_code_2(lab: Lab, say: Callable[..., str]) -> None:
    given = ["--config", lab.settings, "--dataset", lab.dataset, "--name", "huge"]
    given += ["--model.head_dim", 10**9]
    said = say("train.py", "--preflight", *given, fails=True)
    assert said.startswith("error: does not fit: host memory: ")
    assert "use a smaller model" in said
    briefly = say("train.py", *given, fails=True)
    assert briefly.startswith("error: does not fit: host memory: ")
    assert briefly.endswith("; --preflight.force goes on all the same\n")
    assert not (lab.folder / "runs/huge").exists()


def test_sweep_whose_smallest_trial_does_not_fit_ends_with_code_2(
    lab: Lab, say: Callable[..., str]
) -> None:
    said = say(
        "tune.py", "--config", lab.settings, "--dataset", lab.dataset, "--name", "night",
        "--sweep.space", "model.head_dim=1000000000,2000000000", fails=True,
    )  # fmt: skip
    assert said.startswith("error: does not fit: host memory: ")
    assert said.endswith("; --preflight.force goes on all the same\n")
    assert not (lab.folder / "runs/night").exists()


def test_saying_whether_it_fits_and_going_on_all_the_same_exclude_each_other(
    lab: Lab, say: Callable[..., str]
) -> None:
    both = ["--preflight", "--preflight.force"]
    said = say("train.py", "--dataset", lab.dataset, *both, fails=True)
    assert said == (
        "error: --preflight: stops, and --preflight.force goes on: give one of the two\n"
    )

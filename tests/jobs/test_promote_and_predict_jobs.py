"""jobs/promote.py and jobs/predict.py on a user's command line, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.judge.runs import found_runs
from giblet_ray.tracking.mlflow_run import MlflowRun


@pytest.fixture(scope="module")
def lab(local_training: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, and the store that it was recorded in."""
    folder = tmp_path_factory.mktemp("lab")
    run = folder / "runs/night"
    run.mkdir(parents=True)
    local_training(train={"epochs": 1, "batch_trs": 16}).train(run)
    MlflowRun(f"sqlite:///{folder}/mlflow.db", "giblet_ray", "night", str(run)).close("FINISHED")
    (folder / "notes.txt").write_text("a file")
    return folder


def test_promoted_run_predicts_a_data_set(
    lab: Path,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
) -> None:
    monkeypatch.chdir(lab)
    store = ["--tracking.uri", f"sqlite:///{lab}/mlflow.db"]
    said = say("promote.py", *store, "--run", "night")
    assert "models:/giblet-encoder@champion" in said
    assert "nothing: it is the first" in said
    champion = "models:/giblet-encoder@champion"
    job = EvaluateJob(run=(champion,), tracking={"uri": f"sqlite:///{lab}/mlflow.db"})
    with found_runs(job) as found:  # the run itself, which counts how often it was judged
        assert found == {champion: (str(lab / "runs/night"),)}
    (lab / "runs/night").rename(lab / "runs/moved")
    with found_runs(job) as found:
        ((location,),) = found.values()
        assert find_checkpoint(location).record == find_checkpoint(str(lab / "runs/moved")).record
    (lab / "runs/moved").rename(lab / "runs/night")
    dataset = arrays_and_dataset[1].storage.location
    words = ["--model", champion, "--dataset", dataset]
    said = say("predict.py", *store, *words, "--out", "predicted")
    assert "200 of 2 stimuli" in said
    assert "TRs/s" in said
    record = json.loads((lab / "predicted/predictions.json").read_text())
    assert record["model"]["version"] == "giblet-encoder/1"
    for stimulus, n_trs in (("one", 117), ("two", 83)):
        assert (lab / f"predicted/{stimulus}.parquet").exists()
        assert nibabel.load(lab / f"predicted/{stimulus}.nii.gz").shape == (4, 5, 3, n_trs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --run RUN, --best-of SWEEP and --stack RUN RUN ... is needed"),
        (
            ["--run", "nihgt"],
            "--run nihgt: not in the trainings (did you mean night?); it has night",
        ),
        (["--best-of", "night"], "--best-of night: not in the sweeps; it has none"),
        (["--run", "night", "--alias", "latest"], "--alias latest: MLflow keeps latest"),
        (["--run", "night", "--model_name", "a/b"], "--model_name is 'a/b'"),
        (["--run", "night", "--tracking.uri", "sqlite:///absent.db"], "absent.db; the store that"),
        (["--rnu", "night"], "--rnu: no such setting (did you mean run?)"),
    ],
)
def test_what_cannot_be_promoted_is_one_line_and_exit_code_2(
    lab: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(lab)
    assert message in refusal("promote.py", *words)
    assert not (lab / "absent.db").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "--model nowhere: no checkpoint; a folder with record.json"),
        (["--model", "models:/absent@champion"], "no registered model absent"),
        (["--model", "models:/giblet-encoder"], "models:/NAME@ALIAS and models:/NAME/VERSION are"),
        (["--dataset", "nowhere"], "nowhere/manifest.json: no such file"),
        (["--stimuli", "one,tow"], "--stimuli: 'tow' is not in"),
        (["--out", "runs"], "runs: holds no predictions, and something else (night)"),
        (["--out", "notes.txt"], "notes.txt: is a file; a folder is expected"),
        (["--batch_trs", "0"], "--batch_trs is '0': should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_predicted_is_one_line_and_exit_code_2(
    lab: Path,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(lab)
    given = {
        "--model": "runs/night",
        "--dataset": arrays_and_dataset[1].storage.location,
        "--out": "unused",
    }
    given.update(dict(zip(words[::2], words[1::2], strict=True)))
    flat = [word for setting in given.items() for word in setting]
    assert message in refusal("predict.py", *flat)
    assert not (lab / "unused").exists()

"""A model, a loss and a metric of a lab's own: trained with, searched, loaded, and never unasked.

The package ``my_lab`` lies in tests/support, and is what docs/extending.md shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from giblet_ray.checkpoint.store import best_checkpoint, find_checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cli import parse_job
from giblet_ray.command_help import help_text
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.judge import judge_run
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.kinds import of_kinds
from giblet_ray.tuning.space import parse_space, with_settings

OWN = ["--model.kind", "my_lab.models:Gru", "--model.hidden", "8", "--loss.kind"]
OWN += ["my_lab.losses:Huber", "--loss.delta", "0.5", "--train.metrics", "my_lab.metrics:spearman"]
OWN += ["--train.score", "val/spearman", "--data.modalities", "text", "--train.epochs", "2"]
OWN += ["--train.batch_trs", "16"]


@pytest.fixture(scope="module")
def run(
    arrays_and_dataset: tuple[Any, Any],
    train_locally: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Any]:
    """A run with a model, a loss and a metric of a lab's own, as a command line asks for it."""
    folder = tmp_path_factory.mktemp("own") / "run"
    job = parse_job(TrainJob, ["--dataset", arrays_and_dataset[1].storage.location, *OWN])
    return folder, train_locally(job, folder)


def test_a_model_a_loss_and_a_metric_are_named_on_a_command_line(run: tuple[Path, Any]) -> None:
    folder, link = run
    assert [metrics["epoch"] for metrics in link.reports] == [1, 2]
    scores = [metrics["val/spearman"] for metrics in link.reports]
    assert np.isfinite(scores).all()
    assert all(metrics["val/loss"] < metrics["val/mse"] for metrics in link.reports)  # Huber's
    best = best_checkpoint(Storage.at(str(folder.parent)), folder.name)
    assert best is not None
    assert f"epoch-{1 + int(np.argmax(scores)):04d}" in best.location
    record = best.record
    assert (record.config["model"]["hidden"], record.config["loss"]["delta"]) == (8, 0.5)
    assert record.score == max(scores)


def test_its_metric_judges_the_test_trs_too(run: tuple[Path, Any]) -> None:
    folder, _ = run
    judged = judge_run(Storage.at(str(folder.parent)), folder.name, None, ["my_lab"], print)
    scans = all_rows(open_run(str(folder), packages=["my_lab"]))
    expected: dict[str, list[Any]] = {"01": [], "02": []}
    for scan, rows in scans.items():
        units = zip(rows.prediction_TV.T.numpy(), rows.bold_TV.T.numpy(), strict=True)
        expected[scan.subject].append([spearmanr(*unit).statistic for unit in units])
    mean_V = np.mean([np.mean(of_scans, axis=0) for of_scans in expected.values()], axis=0)
    assert judged.metrics["spearman"] == pytest.approx(mean_V.mean(), abs=1e-6)


def test_its_record_imports_nothing_unless_the_user_names_the_package(
    run: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        monkeypatch.delitem(sys.modules, name)
    folder, _ = run
    with pytest.raises(InputError, match=r"my_lab\.models:Gru: .* add --packages my_lab") as error:
        Encoder.load(folder)
    assert "\n" not in str(error.value)
    assert "my_lab" not in sys.modules
    encoder = Encoder.load(folder, packages=["my_lab"])
    text = np.random.default_rng(0).normal(size=(5, 1024)).astype(np.float32)
    assert encoder.predict(text=text).shape == (5, 24)


def test_a_planted_path_is_not_imported(
    run: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write into a run's folder cannot run code on the machine of who reads it."""
    import shutil

    planted = tmp_path / "strangers_code.py"
    planted.write_text("raise SystemExit('planted code was run')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(Path(find_checkpoint(str(run[0])).location), copy)
    record = json.loads((copy / "record.json").read_text())
    record["config"]["model"]["kind"] = "strangers_code:Model"
    record["config"]["packages"] = ["strangers_code"]
    (copy / "record.json").write_text(json.dumps(record))
    for packages in ((), ("my_lab",)):
        with pytest.raises(InputError, match="strangers_code"):
            Encoder.load(copy, packages=packages)
    assert "strangers_code" not in sys.modules


def test_context_reaches_a_model(
    arrays_and_dataset: tuple[Any, Any],
    train_locally: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What precedes a film contributes nothing; what precedes a TR in it changes its prediction."""
    from my_lab.models import Gru

    monkeypatch.setattr(Gru.Settings, "context_trs", lambda self, tr_seconds: 3)
    job = parse_job(
        TrainJob,
        ["--dataset", arrays_and_dataset[1].storage.location, *OWN, "--data.window", "4"],
    )
    train_locally(job, tmp_path / "run")
    encoder = Encoder.load(tmp_path / "run", packages=["my_lab"])
    assert encoder.model.context_trs == 3
    text = np.random.default_rng(0).normal(size=(20, 1024)).astype(np.float32)
    changed = text.copy()
    changed[4] += 1
    differs = np.abs(encoder.predict_trs({"text": changed}, at_a_time=1) - encoder.predict_trs(
        {"text": text}, at_a_time=1
    )).max(axis=1) > 1e-7  # fmt: skip
    assert np.flatnonzero(differs).tolist() == [4, 5, 6, 7]


def test_settings_of_a_model_of_ones_own_are_read_listed_and_refused() -> None:
    job = parse_job(TrainJob, ["--dataset", "d", *OWN])
    assert type(job.model).__qualname__ == "Gru.Settings"
    assert job.packages == ("my_lab",) * len(job.packages)
    listed = of_kinds(TrainJob, {"model": "my_lab.models:Gru"}, ["my_lab"])
    text = help_text(listed, "about", 100)
    assert "--model.hidden INT  (default: 64)" in text
    assert "Length of its state." in text
    assert "--model.embed_dim" not in text
    for given, message in (
        (["--model.hiden", "3"], r"--model\.hiden: no such setting \(did you mean model\.hidden"),
        (["--model.hidden", "0"], r"--model\.hidden is '0': should be greater than or equal to 1"),
        (["--model.embed_dim", "3"], r"--model\.embed_dim: no such setting"),
        (["--train.score", "val/spearmen"], r"did you mean val/spearman\?"),
        (["--model.kind", "my_lab.models:Lstm"], r"my_lab\.models has no Lstm"),
    ):
        with pytest.raises(InputError, match=message) as error:
            parse_job(TrainJob, ["--dataset", "d", *OWN, *given])
        assert "\n" not in str(error.value)


def test_settings_of_a_model_of_ones_own_are_searched() -> None:
    job = parse_job(TuneJob, ["--dataset", "d", *OWN, "--sweep.space", "model.hidden=4,8"])
    space = parse_space(job.sweep.space or {}, job)
    assert space["model.hidden"].points(2) == [4, 8]
    assert with_settings(job, {"model.hidden": 4}).model.hidden == 4  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"model\.kind: is the same for all trials"):
        parse_space({"model.kind": "multimodal,my_lab.models:Gru"}, job)


def test_parts_that_a_gru_cannot_read_end_in_one_line(
    arrays_and_dataset: tuple[Any, Any], train_locally: Callable[..., Any], tmp_path: Path
) -> None:
    given = [*OWN, "--data.modalities", "smell"]
    job = parse_job(TrainJob, ["--dataset", arrays_and_dataset[1].storage.location, *given])
    with pytest.raises(InputError, match=r"--data\.modalities: 'smell' is not in"):
        train_locally(job, tmp_path / "run")
    assert torch.is_grad_enabled()

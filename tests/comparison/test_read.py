"""Reading trainings from a real store, and what is not one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.comparison.read import read_runs
from giblet_ray.errors import InputError


@pytest.fixture(scope="module")
def runs(store: Any) -> dict[str, Any]:
    """All runs by name."""
    return {run.name: run for run in read_runs(store.uri, store.experiment)}


def test_all_trainings_are_read_and_sweeps_are_none(store: Any, runs: dict[str, Any]) -> None:
    trials = {"night/0000", "night/0001"}
    assert runs.keys() == store.ids.keys() - {"night"}
    assert {name: run.id for name, run in runs.items()}.items() <= store.ids.items()
    assert {name for name, run in runs.items() if run.sweep == "night"} == trials
    assert [run.sweep for name, run in runs.items() if name not in trials] == [None] * 7


def test_settings_have_their_types_back(runs: dict[str, Any]) -> None:
    settings = runs["good"].settings
    assert settings["model.kernel_sizes"] == (3, 5)
    assert settings["data.modalities"] == ("audio", "text")
    assert settings["optimizer.lr"] == 1e-2
    assert settings["train.epochs"] == 2
    assert settings["data.voxels"] == "all"
    assert settings["data.subjects"] == ("01", "02")
    assert settings["scaling.use_gpu"] is None
    assert settings["data.split.kind"] == "blocks"


def test_curves_are_by_epoch_and_scores_those_of_the_best_one(runs: dict[str, Any]) -> None:
    run = runs["good"]
    curve = run.curves["val/pearson_mean"]
    assert list(curve) == [1, 2]
    assert run.value("val/pearson_mean") == max(curve.values())
    assert curve[run.best_epoch] == max(curve.values())
    assert run.value("val/loss") == run.curves["val/loss"][run.best_epoch]
    assert run.value("train/loss") == run.curves["train/loss"][run.best_epoch]
    assert not {"train/lr", "step/loss"} & run.curves.keys()
    assert run.rows_per_second in run.curves["train/rows_per_second"].values()
    assert run.value("val/smell") is None


def test_trial_that_was_stopped_is_scored_by_its_curves(runs: dict[str, Any]) -> None:
    run = runs["night/0000"]
    assert not run.logged_best or run.logged_best.keys() == {"val/pearson_mean"}
    assert run.value("val/pearson_mean") == run.curves["val/pearson_mean"][1]
    assert (run.status, run.cause, run.epochs) == (
        "STOPPED",
        "asha: r 0.1 at epoch 1 is too low",
        1,
    )


def test_trial_that_failed_has_its_cause_and_no_score(runs: dict[str, Any]) -> None:
    run = runs["night/0001"]
    assert (run.status, run.cause) == ("FAILED", "loss is NaN <in epoch 1>")
    assert run.value("val/pearson_mean") is None
    assert run.best_epoch is None
    assert run.rows_per_second is None


def test_runs_can_be_chosen_by_name_by_id_and_by_sweep(store: Any) -> None:
    wanted = ("good", store.ids["late"], store.ids["night/0000"][:8])
    chosen = read_runs(store.uri, store.experiment, wanted)
    assert {run.name for run in chosen} == {"good", "late", "night/0000"}
    for sweep in ("night", store.ids["night"]):
        of_sweep = read_runs(store.uri, store.experiment, sweep=sweep)
        assert [run.name for run in of_sweep] == ["night/0000", "night/0001"]
    (one,) = read_runs(store.uri, store.experiment, ("night/0001",), "night")
    assert one.name == "night/0001"


@pytest.mark.parametrize(
    ("names", "sweep", "message"),
    [
        (("goood",), None, r"--runs goood: not in experiment .* \(did you mean good\?\); it has "),
        (("night",), None, r"--runs night: not in experiment"),
        (("good",), "night", r"--runs good: not in experiment"),
        ((), "nite", r"--sweep nite: not in experiment .*\(did you mean night\?\); it has night"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    store: Any, names: tuple[str, ...], sweep: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_runs(store.uri, store.experiment, names, sweep)
    assert "\n" not in str(error.value)


def test_unknown_experiment_is_told_with_those_that_there_are(store: Any) -> None:
    with pytest.raises(InputError, match=r"did you mean comparing <b>films</b>\?.* it has Default"):
        read_runs(store.uri, "comparing films")
    with pytest.raises(InputError, match=r"--experiment Default: no training in it yet"):
        read_runs(store.uri, "Default")


def test_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--tracking\.uri.*no such file"):
        read_runs(f"sqlite:///{tmp_path}/absent.db", "x")
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("no database at all, though long enough to look like one")
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE scans (subject TEXT)")
    for name in ("empty", "text", "other"):
        before = (tmp_path / f"{name}.db").read_bytes()
        with pytest.raises(InputError, match=r"--tracking\.uri") as error:
            read_runs(f"sqlite:///{tmp_path}/{name}.db", "x")
        assert "\n" not in str(error.value)
        assert (tmp_path / f"{name}.db").read_bytes() == before
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize(
    ("uri", "message"), [("http://127.0.0.1:9", "no answer"), ("nonsense://x", "cannot be read")]
)
def test_server_that_does_not_answer_is_one_line(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"--tracking\.uri .* {message}") as error:
        read_runs(uri, "x")
    assert "\n" not in str(error.value)

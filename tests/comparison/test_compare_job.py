"""jobs/compare.py as a user runs it: the table, the files, the page in a browser, and mistakes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, open_page
from processes import JobProcess

from giblet_ray.cli import run_job
from giblet_ray.comparison.scores import read_voxel_pearson
from giblet_ray.config import CompareJob
from giblet_ray.dataset.reader import Dataset

ROOT = Path(__file__).parents[2]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def arguments_for(store: Any, out: Path) -> list[str]:
    given = ["--experiment", store.experiment, "--tracking.uri", store.uri, "--out", str(out)]
    return [*given, "--permutations", "199"]


@pytest.fixture(scope="module")
def compared(store: Any, tmp_path_factory: Any) -> tuple[str, Path]:
    """What the job printed, in a process of its own, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("comparison")
    environment = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    before = Path(store.uri.removeprefix("sqlite:///")).read_bytes()
    given = arguments_for(store, folder / "out")
    job = JobProcess("compare.py", *given, folder=folder, environment=environment)
    job.end()
    assert job.stderr == ""
    assert {path.name for path in folder.iterdir()} == {"out"}
    assert Path(store.uri.removeprefix("sqlite:///")).read_bytes() == before
    return job.stdout, folder / "out"


@pytest.fixture(scope="module")
def content(compared: tuple[str, Path]) -> dict[str, Any]:
    """What comparison.json holds."""
    return json.loads((compared[1] / "comparison.json").read_text())


def test_terminal_shows_runs_side_by_side_in_two_groups(compared: tuple[str, Path]) -> None:
    output, _ = compared
    lines = output.splitlines()
    assert "ranked in 2 groups" in output
    assert "they differ in data.split.blocks" in output
    assert re.search(
        r"^group 1: data set film \([0-9a-f]{12}\), split.blocks default", output, re.M
    )
    assert re.search(r"^group 2: data set film \([0-9a-f]{12}\), split.blocks 2", output, re.M)
    (head,) = [line for line in lines if line.lstrip().startswith("#")][:1]
    for title in ("run", "val/pearson_mean", "embed_dim", "kernel_sizes", "lr", "time", "rows/s"):
        assert title in head.split()
    assert "batch_trs" not in output
    assert re.search(r"^ 1 +\w+ +0\.\d{4} \[-?0\.\d{4}, 0\.\d{4}\]", output, re.M)
    assert "night/0001 failed: loss is NaN <in epoch 1>" in output
    assert re.search(r"^  night/0000 stopped: asha$", output, re.M)
    assert "killed" not in output
    assert re.search(r"^importance of settings: [\w.]+ \d+% \[\d+, \d+\], ", output, re.M)
    difference = r"difference in mean r \+0\.\d{4} \[[+-]0\.\d{4}, \+0\.\d{4}\], p = [01]\.\d+"
    assert re.search(
        difference + r"(, [01]\.\d+ as one of all pairs, 0\.\d+ at the least)? \(two-sided, over",
        output,
    )
    assert "comparison.html" in lines[-3]
    assert max(map(len, (line for line in lines if re.match(r"^ +(#|\d) ", line)))) <= 160


def test_json_has_numbers_as_numbers_and_runs_best_first(
    content: dict[str, Any], store: Any
) -> None:
    first, second = content["groups"]
    assert [run["run"] for run in second["runs"]] == ["other-split"]
    ranked = [run for run in first["runs"] if run["rank"] is not None]
    assert [run["rank"] for run in ranked] == list(range(1, 8))
    values = [run["value"] for run in ranked]
    assert values == sorted(values, reverse=True)
    (stopped,) = [run for run in ranked if run["run"] == "night/0000"]
    assert (stopped["status"], stopped["cause"]) == ("STOPPED", "asha: r 0.1 at epoch 1 is too low")
    assert first["runs"][-1]["value"] is None
    assert first["runs"][-1]["cause"] == "loss is NaN <in epoch 1>"
    for run in ranked:
        scores = read_voxel_pearson(run["folder"])
        assert run["value"] == pytest.approx(scores.mean(), abs=1e-6)
        assert run["id"] == store.ids[run["run"]]
        assert isinstance(run["settings"]["optimizer.lr"], float)
        assert isinstance(run["settings"]["model.kernel_sizes"], list)
    for run in ranked[:6]:
        assert run["interval"]["low"] < run["value"] < run["interval"]["high"]
        assert run["interval"]["n_trs"] == content["pair"]["n_trs"]
    assert [run["interval"] for run in ranked[6:]] == [None]
    assert set(first["settings"]) == {
        "data.lag_seconds",
        "data.modalities",
        "model.embed_dim",
        "model.kernel_sizes",
        "optimizer.lr",
    }
    assert sum(first["importance"]["shares"].values()) == pytest.approx(1)
    for name, share in first["importance"]["shares"].items():
        interval = first["importance"]["intervals"][name]
        assert 0 <= interval["low"] <= share <= interval["high"] <= 1


def test_pairs_are_tested_on_common_trs(content: dict[str, Any]) -> None:
    ranked = [run for run in content["groups"][0]["runs"] if run["rank"]]
    pair = content["pair"]
    assert (pair["a"], pair["b"]) == (ranked[0]["id"], ranked[1]["id"])
    assert pair["difference"] == pytest.approx(pair["mean_r_a"] - pair["mean_r_b"], abs=1e-9)
    assert pair["low"] < pair["difference"] < pair["high"]
    assert 0 < pair["p"] <= pair["family_p"] <= 1
    assert pair["smallest_p"] == 1 / 200
    pairs = content["groups"][0]["pairs"]
    best_six = [run["id"] for run in ranked[:6]]
    assert {(p["a"], p["b"]) for p in pairs} == {
        (a, b) for i, a in enumerate(best_six) for b in best_six[i + 1 :]
    }


def test_csv_has_one_row_per_run(compared: tuple[str, Path], content: dict[str, Any]) -> None:
    with (compared[1] / "runs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    runs = [run for group in content["groups"] for run in group["runs"]]
    assert [row["id"] for row in rows] == [run["id"] for run in runs]
    for row, run in zip(rows, runs, strict=True):
        expected = "" if run["value"] is None else str(run["value"])
        assert row["val/pearson_mean"] == expected
        assert float(row["optimizer.lr"]) == run["settings"]["optimizer.lr"]
        assert row["model.kernel_sizes"] == ",".join(
            map(str, run["settings"]["model.kernel_sizes"])
        )
    assert [row["group"] for row in rows] == ["1"] * 8 + ["2"]


def test_figures_are_pngs(compared: tuple[str, Path]) -> None:
    figures = {path.name: path.read_bytes() for path in (compared[1] / "figures").iterdir()}
    assert figures.keys() == {
        "group-1-importance.png",
        "group-1-parallel_coordinates.png",
        "group-1-settings.png",
        "group-1-learning_curves.png",
        "group-1-voxels.png",
        "group-1-paired_matrix.png",
        "group-2-learning_curves.png",
        "group-2-voxels.png",
        "paired_difference.png",
    }
    assert all(content.startswith(PNG_SIGNATURE) for content in figures.values())


SORTED = """
    ...(() => {
      const rows = table => [...table.tBodies[0].rows].map(row => row.cells[1].textContent);
      const table = document.querySelector("table.sortable");
      const before = rows(table);
      const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent === "val/loss");
      head.querySelector("button").click();
      const ascending = rows(table);
      head.querySelector("button").click();
      return {before, ascending, descending: rows(table)};
    })(),
"""
"""Runs of the first table, before and after its column val/loss is clicked once and twice."""


@needs_browser
def test_page_shows_every_figure_in_a_browser(
    compared: tuple[str, Path], content: dict[str, Any], tmp_path: Path
) -> None:
    probe = open_page((compared[1] / "comparison.html").read_text(), tmp_path, SORTED)
    names = {path.stem for path in (compared[1] / "figures").iterdir()}
    assert {figure[0] for figure in probe["figures"]} == names
    assert probe["heading"] == "Comparison of comparing <b>films</b>"
    assert probe["bold"] == 0
    runs = content["groups"][0]["runs"]
    assert probe["before"] == [run["run"] for run in runs]
    losses = {run["run"]: run["metrics"].get("val/loss") for run in runs}
    ascending = sorted((loss, name) for name, loss in losses.items() if loss is not None)
    assert probe["ascending"] == [name for _, name in ascending] + ["night/0001"]
    assert probe["descending"] == [name for _, name in ascending[::-1]] + ["night/0001"]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the job in this process, as its command line does."""
    location = importlib.util.spec_from_file_location("compare", ROOT / "jobs/compare.py")
    assert location is not None
    assert location.loader is not None
    job = importlib.util.module_from_spec(location)
    location.loader.exec_module(job)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
        run_job(CompareJob, job.main)

    return run


def test_chosen_runs_and_pair_without_checkpoints_of_others(
    store: Any,
    tmp_path: Path,
    run_here: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    open_dataset = Dataset.open
    monkeypatch.setattr(Dataset, "open", lambda at: opened.append(at) or open_dataset(at))
    chosen = ["--runs", "good", "slow", "--pair", "slow,good", "--metric", "val/loss"]
    run_here(*arguments_for(store, tmp_path / "out"), *chosen)
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    (group,) = content["groups"]
    assert opened == [store.dataset]  # of both runs, once
    assert group["settings"] == ["optimizer.lr"]
    assert group["importance"]["shares"] == {}
    assert content["pair"]["a"] == store.ids["slow"]
    assert content["higher_is_better"] is False
    assert "val/loss has no interval" in capsys.readouterr().out


def test_runs_whose_checkpoints_are_gone_are_still_compared(
    store: Any, tmp_path: Path, run_here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copy(store.uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE tags SET value = value || '-gone' WHERE key = 'giblet_ray.run'")
    given = ["--experiment", store.experiment, "--out", str(tmp_path / "out")]
    run_here(*given, "--tracking.uri", f"sqlite:///{copy}")
    output = capsys.readouterr().out
    assert "7 of the best runs have neither interval nor paired differences" in output
    assert "no paired difference of the best two runs" in output
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["pair"] is None
    assert content["groups"][0]["runs"][0]["interval"] is None
    assert not (tmp_path / "out/figures/group-1-voxels.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment", "giblet"], "--experiment giblet: no such experiment in sqlite:"),
        (["--runs", "goood"], "--runs goood: not in experiment"),
        (["--sweep", "day"], "--sweep day: not in experiment"),
        (["--pair", "good,bad"], "--pair bad: not in the runs that are compared"),
        (["--pair", "good"], "--pair is good; two different runs are accepted"),
        (["--pair", "good,night/0001"], "--pair good,night/0001: "),
        (["--metric", "val/pearson_maen"], "no run has it (did you mean val/pearson_mean?); they"),
        (["--runs", "night/0001"], "none of its trainings has completed an epoch"),
        (["--tracking.uri", "sqlite:///nowhere/mlflow.db"], "no such file"),
        (["--error_seconds", "5"], "--error_seconds is '5': should be greater than or equal to 20"),
        (["--dataset", "nowhere", "--pair", "good,slow"], "nowhere/manifest.json: no such file"),
        (["--out", "file"], "--out file: a file; a folder is accepted"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    store: Any,
    tmp_path: Path,
    run_here: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    given = ["--experiment", store.experiment, "--tracking.uri", store.uri]
    with pytest.raises(SystemExit) as ended:
        run_here(*given, *arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

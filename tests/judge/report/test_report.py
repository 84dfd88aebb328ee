"""The report of a run: in a browser, with every figure, and sentences for what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import needs_browser, open_page

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import EvaluateJob
from giblet_ray.evaluation.partition import subsets, unique_and_shared
from giblet_ray.judge.evaluation import Partition
from giblet_ray.judge.report.methods import Code, methods
from giblet_ray.judge.report.report import make_report
from giblet_ray.judge.write import write_report
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.labels import Labels
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.store import open_store

JOB = EvaluateJob(run=("first",), permutations=199, resamples=200, seed=7)
CODE = Code("0123abc", "4567def", {"torch": "2.13.0"}, "run 1 in store")
FIGURES = {
    *("units", "glass_brain", "surface", "chance", "ceiling", "ridge", "partition"),
    *("partition_map", "time_courses", "learning_curves", "split"),
}


@pytest.fixture(scope="module")
def whole(evaluation: Any) -> Any:
    """An evaluation that has all that a report shows."""
    random = np.random.default_rng(0)
    shares = {
        name: unique_and_shared(
            {of: random.uniform(0, 0.2, 24) for of in subsets(("codes", "text"))}
        )
        for name in evaluation.subjects
    }
    partition = Partition("subsets", "refits of banded ridge to every set of parts", shares)
    subjects = {
        name: replace(of, ceiling_V=np.full(24, 0.9), normalised_V=of.pearson_V / 0.9,
                      shared_low_V=None, shared_high_V=None)
        for name, of in evaluation.subjects.items()
    }  # fmt: skip
    return replace(evaluation, partition=partition, subjects=subjects, ceiling="the file known.npy")


@needs_browser
def test_every_figure_is_shown_in_a_browser_with_what_it_shows(whole: Any, tmp_path: Path) -> None:
    page, pictures = make_report(whole, JOB, CODE)
    probe = open_page(page, tmp_path)
    assert {figure[0] for figure in probe["figures"]} == FIGURES
    assert {picture.name for picture in pictures} == {f"{name}.png" for name in FIGURES}
    assert probe["heading"] == "first: test report"
    interval, test = whole.interval, whole.baseline.beside
    assert (
        f"mean r {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], "
        f"{whole.normalised:.0%} of the noise ceiling; banded ridge "
        f"{whole.baseline.mean.value:.3f}, difference {test.difference:+.3f}"
    ) in probe["text"]
    captions = {name: caption for name, *_, caption in probe["figures"]}
    assert "taken to be MNI space" in captions["glass_brain"]
    assert f"{test.low:+.4f} to {test.high:+.4f}" in captions["ridge"]
    assert f"Smallest p {whole.null.smallest_p:.2g}" in captions["chance"]
    assert len(page) < 5e6


@pytest.fixture
def placeless(evaluation: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same run, as if its units were columns of an array."""
    spaces = dict.fromkeys(evaluation.subjects, Array(24))
    monkeypatch.setattr(type(evaluation.opened), "spaces", property(lambda self: spaces))
    return evaluation


def test_what_there_is_no_data_for_is_left_out_with_a_sentence(placeless: Any) -> None:
    subjects = {
        name: replace(of, shared_low_V=None, shared_high_V=None)
        for name, of in placeless.subjects.items()
    }
    bare = replace(placeless, subjects=subjects, ceiling="", baseline=None)
    page, pictures = make_report(bare, JOB, CODE)
    shown = {picture.name.removesuffix(".png") for picture in pictures}
    assert shown == {"units", "chance", "time_courses", "learning_curves", "split"}
    for sentence in (
        "No map: the units have no place in a brain",
        "No noise ceiling was asked for: --ceiling repeats",
        "Ridge was left out: --ridge true",
        "It was not asked for: --partition",
        "No atlas was given: --atlas",
    ):
        assert sentence in page


def test_regions_stand_in_a_table_from_the_best_to_the_worst(placeless: Any) -> None:
    labels_V = np.arange(24) % 3
    labels = Labels(labels_V, {1: "V1", 2: "A<1", 4: "empty"})
    regions = dict.fromkeys(placeless.subjects, labels)
    page, _ = make_report(replace(placeless, regions=regions), JOB, CODE)
    at = {name: page.index(f"<td>{name}</td>") for name in ("V1", "A&lt;1", "empty")}
    means = {
        name: np.mean(
            [np.nanmean(of.pearson_V[labels_V == n]) for of in placeless.subjects.values()]
        )
        for n, name in ((1, "V1"), (2, "A&lt;1"))
    }
    best, worst = sorted(means, key=means.__getitem__, reverse=True)
    assert at[best] < at[worst] < at["empty"]
    assert f"<td>{means[best]:.4f}</td>" in page


def test_a_shared_ceiling_is_shown_and_divides_nothing(placeless: Any) -> None:
    page, pictures = make_report(placeless, JOB, CODE)
    caption = next(each.caption for each in pictures if each.name == "ceiling.png")
    assert caption.startswith("r against the shared ceiling, by correlation between 2 subjects")
    assert "of the noise ceiling" not in page


def test_methods_hold_the_numbers_that_a_paper_needs(whole: Any) -> None:
    history = whole.opened.checkpoint.record.position.history
    told = methods(whole.read_again(3), JOB, history, CODE)
    split = whole.opened.data.split
    n = {name: sum(map(len, getattr(split, name))) for name in ("train", "val", "test")}
    encoder = Encoder.load(whole.opened.checkpoint.location)
    n_parameters = sum(each.numel() for each in encoder.model.parameters())
    manifest = whole.opened.data.dataset.manifest
    for heading, words in (
        ("Data", "2 subjects (01, 02) watched 2 films (one, two) of 440 TRs of 1.5 s (11.0 min)"),
        ("Data", f"Data set checksum {manifest.checksum}"),
        ("Preparation", "The manifest does not say how BOLD was prepared"),
        ("Split", f"{n['train']} training, {n['val']} validation and {n['test']} test TRs, "
                  f"{440 - sum(n.values())} lost to gaps of 20 s"),
        ("Split", "BOLD was paired with the stimulus 4.5 s earlier (3 TRs)"),
        ("Model", f"multimodal, {n_parameters:,} parameters"),
        ("Model", "rises linearly to 0.005 in the first 10% of all steps"),
        ("Model", "4 of 4 epochs in batches of 64 BOLD TRs in windows of 1 TR"),
        ("Model", f"epoch {whole.opened.checkpoint.record.position.epoch} = "),
        ("Scores", "The test TRs have been read 3 times for this run"),
        ("Chance", "by 14 TRs (21 s) or more in either direction"),
        ("Chance", f"{whole.null.null_VP.shape[1]} times"),
        ("Interval", f"200 resamples of {whole.interval.n_blocks} blocks"),
        ("Noise ceiling", "By the file known.npy. It is taken as it is given"),
        ("Baseline", "the best of 3 weightings"),
        ("Baseline", f"Paired difference {whole.baseline.beside.difference:+.4f}"),
        ("Partition", "By refits of banded ridge to every set of parts."),
        ("Code", "Trained by commit 0123abc, judged by 4567def; torch 2.13.0. Seed of shifts"),
    ):  # fmt: skip
        assert words in told[heading], heading


def test_the_report_is_in_mlflow_with_its_figures(placeless: Any, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    job = JOB.model_copy(update={"tracking": JOB.tracking.model_copy(update={"uri": uri})})
    folder = placeless.opened.checkpoint.location.rpartition("/")[0]
    told = write_report(placeless, job, [folder], str(tmp_path / "out"))
    assert told["MLflow run"].startswith("none: --tracking.uri: no such file")
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")
    run = MlflowRun(uri, "films", "first", folder)
    assert write_report(placeless, job, [folder], str(tmp_path / "out"))["MLflow run"] == (
        f"{run.id} in {uri}"
    )
    client = open_store(uri).client
    assert "report.html" in {each.path for each in client.list_artifacts(run.id)}
    pictures = {each.path for each in client.list_artifacts(run.id, "report")}
    assert {"report/units.png", "report/time_courses.png"} <= pictures
    page = (tmp_path / "out/report.html").read_text()
    assert f"MLflow: {run.id} in {uri}" in page
    recorded = client.get_run(run.id).data
    assert recorded.metrics["test/minus_ridge"] == placeless.baseline.beside.difference
    assert f"Trained by commit {recorded.tags['mlflow.source.git.commit']}" in page

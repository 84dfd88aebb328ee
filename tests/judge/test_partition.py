"""Which part carries a prediction: shares of ridge, refits, and parts in disorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from himalaya.scoring import r2_score_split

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.reader import Span
from giblet_ray.errors import InputError
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.judge import score_test
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.partition import from_product, from_refits, plan_partition
from giblet_ray.judge.permuted import Shown, from_permuted, permuted_trs
from giblet_ray.judge.rows import all_rows
from giblet_ray.judge.write import write_evaluation
from giblet_ray.models.ridge.config import RidgeConfig

PARTS = ("audio", "text")


@pytest.fixture(scope="module")
def first(lab: Path) -> OpenedRun:
    return open_run(str(lab / "runs/first"))


@pytest.fixture(scope="module")
def ridge(lab: Path) -> OpenedRun:
    return open_run(str(lab / "runs/ridge"))


def test_shares_of_ridge_are_those_of_himalaya(ridge: OpenedRun) -> None:
    partition = from_product([ridge])
    whole = all_rows(ridge)
    by_part = {}
    for part in ("codes", "text"):
        encoder = ridge.load()
        encoder.model.keep_part(part)  # type: ignore[operator]
        by_part[part] = all_rows(ridge, encoder=encoder)
    for subject in ("01", "02"):
        expected = []
        for scan, rows in whole.items():
            added = np.stack([np.asarray(by_part[p][scan].prediction_TV) for p in by_part])
            np.testing.assert_allclose(added.sum(0), rows.prediction_TV, atol=1e-5)
            bold = np.asarray(rows.bold_TV, np.float64)
            if scan.subject == subject:
                expected.append(r2_score_split(bold - bold.mean(0), added.astype(np.float64)))
        for index, name in enumerate(PARTS):
            found_V = partition.shares[subject][(name,)]
            np.testing.assert_allclose(found_V, np.mean(expected, axis=0)[index], atol=1e-6)
            assert found_V.mean() > 0.02  # both carry some of what was made
    assert partition.means[("audio",)] == pytest.approx(
        np.mean([of[("audio",)].mean() for of in partition.shares.values()])
    )


def test_refits_say_what_parts_explain_alone(
    lab: Path, ridge: OpenedRun, train_locally: Callable[..., Any], tmp_path: Path
) -> None:
    """Codes and words were drawn apart from each other: what is shared is noise."""
    fitted: list[tuple[str, ...]] = []

    def fit(opened: OpenedRun, parts: tuple[str, ...]) -> OpenedRun:
        fitted.append(parts)
        job = TrainJob(
            dataset=str(lab / "data"), name="-".join(parts), data={"modalities": parts},
            model=RidgeConfig(n_iter=3, n_alphas=5),
        )  # fmt: skip
        train_locally(job, tmp_path / job.name)
        return open_run(str(tmp_path / job.name))

    partition = from_refits("subsets", [ridge], score_test(ridge)[0].subjects, fit)
    assert fitted == [("audio",), ("text",)]
    r2 = {of: score_test(open_run(str(tmp_path / of)))[0].subjects for of in PARTS}
    for subject, of in score_test(ridge)[0].subjects.items():
        shares = partition.shares[subject]
        np.testing.assert_allclose(sum(shares.values()), of.r2_V, atol=1e-6)
        unique_V = of.r2_V - r2["text"][subject].r2_V
        np.testing.assert_allclose(shares[("audio",)], unique_V, atol=1e-6)
    means = partition.means
    assert abs(means[PARTS]) < 0.6 * min(means[("audio",)], means[("text",)])
    said = partition.table()
    assert list(said) == ["audio", "text", "audio + text", "together", "by"]
    assert said["together"] == f"R2 {sum(means.values()):+.4f}"
    assert partition.csv().startswith("parts,r2\naudio,")


def test_blocks_change_places_and_none_stays(first: OpenedRun) -> None:
    sources = permuted_trs(first, 14, seed=0)
    for span in first.data.split.test:
        trs, seen = sources[span.stimulus], Span(span.stimulus, span.start - 3, span.stop - 3)
        np.testing.assert_array_equal(np.sort(trs), np.arange(len(trs)))
        outside = np.r_[0 : seen.start, seen.stop : len(trs)]
        np.testing.assert_array_equal(trs[outside], outside)
        moved = trs[seen.start : seen.stop] - np.arange(seen.start, seen.stop)
        runs = np.split(moved, np.flatnonzero(np.diff(moved)) + 1)
        assert min(map(len, runs)) >= 14
        assert (moved != 0).all()
    assert any((sources[film] != permuted_trs(first, 14, seed=1)[film]).any() for film in sources)
    half = permuted_trs(first, 40, seed=0)["one"]  # 56 TRs have no two blocks of 40
    assert (np.flatnonzero(np.diff(half) != 1)[1] - np.flatnonzero(np.diff(half) != 1)[0]) == 28
    stimulus = first.data.split.test[0].stimulus
    few = replace(first.data.split, test=(Span(stimulus, 100, 127),))
    with pytest.raises(InputError, match="test TRs of one see 27 TRs of it, no two blocks of 14"):
        permuted_trs(replace(first, data=replace(first.data, split=few)), 14, seed=0)


def test_a_film_is_shown_as_it_is_given(first: OpenedRun) -> None:
    encoder, span = first.load(), first.data.split.test[0]
    sources = permuted_trs(first, 14, seed=0)
    seen = Span(span.stimulus, 0, first.data.dataset.stimuli[span.stimulus].n_trs)
    film = encoder.read_stimulus(first.data.dataset, seen)
    film["codes"] = film["codes"][sources[span.stimulus]]
    found = Shown(encoder, [film]).predict_bold(first.data.dataset, span)
    expected = encoder.predict(**film)[span.start - 3 : span.stop - 3]  # the lag
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_part_that_a_model_does_not_listen_to_gives_it_nothing(
    ridge: OpenedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(opened: OpenedRun) -> Encoder:
        encoder = Encoder.load(opened.checkpoint.location)
        encoder.model.keep_part("text")  # type: ignore[operator]
        return encoder

    monkeypatch.setattr(OpenedRun, "load", load)
    scores = score_test(ridge)[0].subjects
    how = (all_rows(ridge), scores, 14, 0, lambda done: None)
    partition = from_permuted([ridge], *how)
    for lost in (partition.shares, partition.pearson):
        for of in lost.values():
            np.testing.assert_allclose(of[("audio",)], 0, atol=1e-6)
            assert of[("text",)].mean() > 0.05
    assert "10 orders of blocks of 14 TRs or more" in partition.words
    assert "together" not in partition.table()


def test_an_evaluation_writes_maps_and_a_table_of_its_parts(lab: Path, tmp_path: Path) -> None:
    job = EvaluateJob(
        run=("first",), partition="permuted", ridge=False, permutations=99, resamples=100
    )
    lines: list[str] = []
    evaluation = evaluate_run([str(lab / "runs/first")], job, lines.append, None)
    assert "partition: 20 predictions of the test TRs, no fit" in lines
    assert evaluation.partition is not None
    where = write_evaluation(evaluation, str(tmp_path))
    table = pq.read_table(tmp_path / "partition.parquet").to_pandas()
    columns = [f"{kind}/{part}" for kind in ("r2", "pearson") for part in PARTS]
    assert list(table.columns) == ["subject", "unit", *columns]
    assert where["in the scans' space"].endswith("r-SUBJECT.nii.gz, PARTS-SUBJECT.nii.gz")
    assert (tmp_path / "audio-01.nii.gz").is_file()
    means = table.groupby("subject").mean()["r2/text"]
    assert evaluation.metrics()["test/permuted/r2/text"] == pytest.approx(means.mean())
    assert evaluation.partition.csv().splitlines()[0] == "parts,r2,pearson"


def test_one_part_is_not_divided(
    lab: Path, train_locally: Callable[..., Any], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    job = TrainJob(
        dataset=str(lab / "data"), name="words", data={"modalities": "text"}, model=tiny_model,
        train={"epochs": 1, "batch_trs": 64},
    )  # fmt: skip
    train_locally(job, tmp_path / "words")
    with pytest.raises(InputError, match="--partition subsets: run words sees text alone, where"):
        plan_partition("subsets", [open_run(str(tmp_path / "words"))])
    with pytest.raises(ValueError, match="product is of banded ridge, which --ridge false"):
        EvaluateJob(run=("words",), partition="product", ridge=False)

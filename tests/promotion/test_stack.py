"""Runs that are stacked: what the stack predicts, how it is chosen, and what is said of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from stack_lab import StackLab

from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.pairs import PairSettings, intervals_of, open_best, pair_all
from giblet_ray.comparison.read import read_runs
from giblet_ray.config import EvaluateJob, PredictJob
from giblet_ray.dataset.config import SplitConfig
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.splits import draw_split
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.beside import beside_in_words
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.judge import judge_run, score_test
from giblet_ray.judge.members import judge_stack
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.report.methods import Code, methods
from giblet_ray.models.predictor import GROUP
from giblet_ray.prediction.task import plan_task
from giblet_ray.preflight.records import preflight_promotion
from giblet_ray.promotion.plan_stack import plan_stack
from giblet_ray.promotion.promote import Promotion, promote
from giblet_ray.promotion.validation import Predicted, gap_of, predict_validation
from giblet_ray.tracking.recorded_run import KIND_TAG, PARENT_TAG
from giblet_ray.tracking.registry import fetch_registered
from giblet_ray.tracking.store import open_store


@pytest.fixture(scope="module")
def stack_lab(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> StackLab:
    """Films long enough for folds of their validation TRs."""
    lab = StackLab(tmp_path_factory.mktemp("stack"), train_locally)
    dataset_writer(lab.folder / "data", {"one": 330, "two": 270}, ("01", "02"))
    lab.train_both(tiny_model, epochs=2)
    return lab


@pytest.fixture(scope="module")
def stacked(stack_lab: StackLab) -> tuple[Promotion, list[str]]:
    lines: list[str] = []
    job = stack_lab.job(stack=("first", "ridge"), name="both", model_name="stacked")
    return promote(job, lines.append), lines


def test_a_stack_predicts_the_weighed_sum_of_its_members(
    stack_lab: StackLab, stacked: Any, tmp_path: Path
) -> None:
    """From its own folder alone; at the first TRs too, and in pieces."""
    runs, dataset = stack_lab.folder / "runs", Dataset.open(str(stack_lab.folder / "data"))
    shutil.copytree(runs / "both", tmp_path / "alone")
    stack = Encoder.load(tmp_path / "alone", dataset)
    members = [Encoder.load(runs / name, dataset) for name in ("first", "ridge")]
    assert stack.shapes.parts == ("codes", "text", "frames")
    assert (stack.record.lag_trs, stack.model.context_trs) == (0, 8)
    for subject in (0, 1):
        weights_VM = stack.model.weights[subject].numpy()
        np.testing.assert_allclose(weights_VM.sum(1), 1, atol=1e-6)
        assert (weights_VM >= 0).all()
        for span in (Span("one", 0, 40), Span("two", 100, 131)):
            alone = [each.predict_bold(dataset, span, subject) for each in members]
            wanted_NV = sum(w_V * of for w_V, of in zip(weights_VM.T, alone, strict=True))
            np.testing.assert_allclose(
                stack.predict_bold(dataset, span, subject), wanted_NV, atol=1e-5
            )


def test_a_promotion_counts_a_reading_of_both_runs_whether_they_were_judged_or_not(
    stack_lab: StackLab,
) -> None:
    client, runs = MlflowClient(stack_lab.uri), stack_lab.folder / "runs"
    ids = {run.name: run.id for run in open_store(stack_lab.uri).runs()}

    def counts(name: str) -> tuple[int, float]:
        kept = json.loads((runs / name / "readings.json").read_text())["readings"]
        return kept, client.get_run(ids[name]).data.metrics["test/readings"]

    def promoted(name: str) -> str:
        job = stack_lab.job(run=name, model_name="read", force=True)
        return promote(job, lambda line: None).test

    assert promoted("ridge") == ""
    assert promoted("first").startswith("r ")
    assert counts("ridge") == counts("first") == (1, 1)
    assert judge_run(Storage.at(str(runs)), "first", None, (), print).readings == 2
    assert promoted("ridge").startswith("r ")
    assert (counts("ridge"), counts("first")) == ((2, 2), (3, 3))
    assert json.loads((runs / "first/test.json").read_text())["readings"] == 3


def test_the_registered_model_is_the_stack(stack_lab: StackLab, stacked: Any) -> None:
    dataset = Dataset.open(str(stack_lab.folder / "data"))
    span = Span("one", 50, 60)
    wanted = Encoder.load(stack_lab.folder / "runs/both").predict_bold(dataset, span, 1)
    with fetch_registered("models:/stacked@champion", stack_lab.uri) as (files, registered):
        assert registered.run_id == stacked[0].run.id
        found = Encoder.load(files, dataset).predict_bold(dataset, span, 1)
    np.testing.assert_array_equal(found, wanted)


def test_a_stack_is_a_run_as_any_other_in_mlflow(stack_lab: StackLab, stacked: Any) -> None:
    promotion, _ = stacked
    run = MlflowClient(stack_lab.uri).get_run(promotion.run.id)
    assert run.info.status == "FINISHED"
    record = find_checkpoint(str(stack_lab.folder / "runs/both")).record
    for name in ("first", "ridge"):
        sum_of = find_checkpoint(str(stack_lab.folder / "runs" / name)).record.weights_checksum
        assert run.data.params[f"model.members.{name}.weights"] == sum_of
    assert float(run.data.params["model.shrinkage.01"]) in np.arange(11) / 10
    judged = json.loads((stack_lab.folder / "runs/both/test.json").read_text())
    assert run.data.metrics["test/pearson_mean"] == judged["metrics"]["pearson_mean"]
    assert run.data.metrics["best/val/pearson_mean"] == record.score
    assert run.data.metrics["test/member/ridge/weight"] > 0
    assert record.config["data"]["modalities"] == ["audio", "text", "video"]


def test_it_is_said_by_how_much_each_member_carries(stack_lab: StackLab, stacked: Any) -> None:
    _, lines = stacked
    kept = json.loads((stack_lab.folder / "runs/both/members.json").read_text())
    assert [each["name"] for each in kept] == ["first", "ridge"]
    assert sum(each["weight"] for each in kept) == pytest.approx(1, abs=1e-6)
    record = find_checkpoint(str(stack_lab.folder / "runs/both")).record
    weights = Encoder.load(stack_lab.folder / "runs/both").model.weights
    mean = np.mean([each.numpy().mean(0) for each in weights], axis=0)
    for each, weight in zip(kept, mean, strict=True):
        assert each["weight"] == pytest.approx(weight, abs=1e-6)
        said = next(line for line in lines if line.startswith(f"member {each['name']}: weight"))
        assert f"r {each['pearson_mean']:.4f} alone" in said
        assert each["low"] < each["difference"] < each["high"]
    test = json.loads((stack_lab.folder / "runs/both/test.json").read_text())
    stack = test["metrics"]["pearson_mean"]
    assert kept[0]["difference"] == pytest.approx(stack - kept[0]["pearson_mean"], abs=1e-6)
    # Each has a part that the other lacks: together they are better than each, on test TRs.
    assert stack > max(each["pearson_mean"] for each in kept) + 0.01
    assert record.score is not None


def test_the_test_trs_are_read_once_for_the_stack_and_all_members(
    stack_lab: StackLab, stacked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each member predicts them once, and the stack's prediction is made of that."""
    copy = Path(shutil.copytree(stack_lab.folder / "runs/both", tmp_path / "both"))
    kept = json.loads((copy / "members.json").read_text())
    for name in ("test.json", "members.json", "readings.json"):
        (copy / name).unlink()
    opened, asked = open_run(str(copy)), []
    whole, _ = score_test(opened)
    predict_bold = Encoder.predict_bold

    def asking(self: Any, dataset: Dataset, span: Span, *how: Any) -> np.ndarray:
        asked.append((self.model._alone, span, *how))
        return predict_bold(self, dataset, span, *how)

    monkeypatch.setattr(Encoder, "predict_bold", asking)
    judged, members = judge_stack(opened, Storage.at(str(tmp_path)), "both", lambda line: None)
    assert {member for member, *_ in asked} == {0, 1}
    assert len(set(asked)) == len(asked) > 0
    assert judged.readings == 1
    assert judged.metrics == pytest.approx(whole.summary())
    assert [each.model_dump() for each in members] == kept
    again = judge_stack(opened, Storage.at(str(tmp_path)), "both", lambda line: None)
    assert again == (judged, members)
    assert len(set(asked)) == len(asked)
    asked.clear()
    job = EvaluateJob(run=("both",), permutations=99, resamples=100)
    evaluate_run([str(copy)], job, lambda line: None, None)
    assert {member for member, *_ in asked} == {0, 1}
    assert len(set(asked)) == len(asked)


def test_an_evaluation_says_it_too(stack_lab: StackLab, stacked: Any) -> None:
    job = EvaluateJob(run=("both",), permutations=99, resamples=100)
    found = evaluate_run([str(stack_lab.folder / "runs/both")], job, lambda line: None, None)
    kept = json.loads((stack_lab.folder / "runs/both/members.json").read_text())
    for each, wanted in zip(found.members, kept, strict=True):
        assert each.pearson_mean == pytest.approx(wanted["pearson_mean"], abs=1e-9)
    assert found.summary()["member ridge"].startswith("weight 0.")
    assert found.metrics()["test/member/first/pearson_mean"] == found.members[0].pearson_mean
    said = methods(found, job, [], Code("", "", {}, ""))["Model"]
    assert said.startswith("A stack of finished runs, with their mean weights: first (0.")
    again = job.model_copy(update={"partition": "retrained"})
    with pytest.raises(InputError, match="run both is a stack of finished runs, which is not tr"):
        evaluate_run([str(stack_lab.folder / "runs/both")], again, lambda line: None, None)


def test_models_that_tell_no_subjects_apart_share_their_weights(
    stack_lab: StackLab, tiny_model: dict[str, Any]
) -> None:
    train = {"epochs": 1, "batch_trs": 64}
    stack_lab.run("reads", tiny_model, data={"modalities": ("text",)}, train=train)
    job = stack_lab.job(stack=("first", "reads"), name="heads", model_name="heads")
    promote(job, lambda line: None)
    dataset = Dataset.open(str(stack_lab.folder / "data"))
    stack = Encoder.load(stack_lab.folder / "runs/heads", dataset)
    assert not stack.model.tells_subjects_apart
    assert (stack.record.lag_trs, stack.model.context_trs) == (3, 0)
    (weights_VM,) = (each.numpy() for each in stack.model.weights)
    span = Span("one", 0, 30)
    alone = [
        Encoder.load(stack_lab.folder / "runs" / name).predict_bold(dataset, span)
        for name in ("first", "reads")
    ]
    wanted_NV = sum(w_V * of for w_V, of in zip(weights_VM.T, alone, strict=True))
    np.testing.assert_allclose(stack.predict_bold(dataset, span), wanted_NV, atol=1e-5)


def test_a_stack_has_a_group_head_where_its_members_have_one(
    stack_lab: StackLab, tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    """A head that all share predicts nobody in particular, too."""
    own = {**tiny_model, "heads": "subject", "head": "linear"}
    train = {"epochs": 1, "batch_trs": 64}
    stack_lab.run("own", own, data={"modalities": ("text",)}, train=train)
    promote(stack_lab.job(stack=("first", "own"), name="group", model_name="group"), print)
    runs, data = stack_lab.folder / "runs", str(stack_lab.folder / "data")
    where = {"model": str(runs / "group"), "dataset": data, "out": str(tmp_path / "out")}
    task = plan_task(PredictJob(**where, subject="group"))
    assert task.subject == plan_task(PredictJob(**where)).subject == GROUP
    dataset, span = Dataset.open(data), Span("one", 0, 30)
    heads = {"first": None, "own": GROUP}
    alone = [
        Encoder.load(runs / name).predict_bold(dataset, span, head) for name, head in heads.items()
    ]
    mean_VM = np.mean([each.numpy() for each in task.encoder.model.weights], axis=0)
    wanted_NV = sum(w_V * of for w_V, of in zip(mean_VM.T, alone, strict=True))
    found_NV = task.encoder.predict_bold(dataset, span, task.subject)
    np.testing.assert_allclose(found_NV, wanted_NV, atol=1e-5)


def test_a_member_without_a_group_head_is_named(
    stack_lab: StackLab, stacked: Any, tmp_path: Path
) -> None:
    where = {"dataset": str(stack_lab.folder / "data"), "out": str(tmp_path / "out")}
    job = PredictJob(model=str(stack_lab.folder / "runs/both"), subject="group", **where)
    said = r"^--subject group: .* 01, 02, and its member has no head for nobody in .*: ridge$"
    with pytest.raises(InputError, match=said):
        plan_task(job)


def test_weights_are_found_on_validation_trs_alone(
    stack_lab: StackLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_run(str(stack_lab.folder / "runs/ridge"))
    read, z_scored = [], OpenedRun.z_scored

    def reading(self: OpenedRun, span: Span, scan: ScanKey) -> np.ndarray:
        read.append(span)
        return z_scored(self, span, scan)

    monkeypatch.setattr(OpenedRun, "z_scored", reading)
    found = predict_validation([opened], False, tmp_path, lambda done: None)
    val = {(s.stimulus, tr) for s in opened.data.split.val for tr in range(s.start, s.stop)}
    assert {(s.stimulus, tr) for s in read for tr in range(s.start, s.stop)} == val
    for subject, each in found.items():
        assert {scan.subject for scan in each.scans} == {subject}
        for fitted, rows in each.folds(5):
            assert not set(fitted) & set(rows)


def test_a_subject_whose_scans_end_early_has_the_weights_that_fit_all_and_is_left_out_aloud(
    tmp_path: Path,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has trained; it has neither validation nor test TRs."""
    lab, films = StackLab(tmp_path, train_locally), {"one": 330, "two": 270}
    held_out = draw_split(SplitConfig(), films, 1.5)
    ends = {
        film: min(s.start for s in (*held_out.val, *held_out.test) if s.stimulus == film)
        for film in films
    }

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[: ends[key.stimulus]] if key.subject == "02" else bold

    dataset_writer(tmp_path / "data", films, ("01", "02"), change_bold=change)
    lab.train_both(tiny_model, epochs=1)
    promote(lab.job(stack=("first", "ridge"), name="short", model_name="short"), print)
    opened = [open_run(str(tmp_path / "runs" / name)) for name in ("first", "ridge")]
    (tmp_path / "predicted").mkdir()
    found = predict_validation(opened, False, tmp_path / "predicted", lambda done: None)
    assert list(found) == ["01"]
    common_M = found["01"].find_weights(gap_of(opened[0])).common_M.numpy()
    weights_VM = Encoder.load(tmp_path / "runs/short").model.weights[1].numpy()
    np.testing.assert_allclose(weights_VM, np.tile(common_M, (24, 1)), atol=1e-6)
    judged = json.loads((tmp_path / "runs/short/test.json").read_text())
    assert list(judged["subjects"]) == ["01"]
    said = "run short: sub 02, one is left out: of its test TRs, 0 have BOLD"
    assert caplog.messages.count(said) == 1
    runs = [str(tmp_path / "runs" / name) for name in ("first", "ridge")]
    said, name = beside_in_words(*runs, (), print)
    assert said.startswith("r ")
    assert name == "test"


def test_a_full_disk_is_told_by_its_folder_and_nothing_stays_there(
    stack_lab: StackLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, start: int, n_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    said = rf"^{tmp_path}/.*: predictions of validation TRs cannot be written here: .*No space left"
    with pytest.raises(InputError, match=said):
        promote(stack_lab.job(stack=("first", "ridge"), name="full"), print)
    assert not list(tmp_path.iterdir())


def test_what_fails_while_a_stack_is_made_is_not_laid_to_mlflow(
    stack_lab: StackLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Predicted, gap_trs: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Predicted, "find_weights", failing)
    with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error$"):
        promote(stack_lab.job(stack=("first", "ridge"), name="failing"), print)


def test_a_stack_that_is_there_is_not_made_again(stack_lab: StackLab, stacked: Any) -> None:
    lines: list[str] = []
    job = stack_lab.job(stack=("ridge", "first"), name="both", model_name="stacked")
    again = promote(job, lines.append)
    assert not again.changed
    assert again.run.id == stacked[0].run.id
    assert lines == ["run both is there already"]
    test = json.loads((stack_lab.folder / "runs/both/test.json").read_text())
    assert test["readings"] == 1


def test_a_comparison_says_that_its_weights_were_found_on_validation_trs(
    stack_lab: StackLab, stacked: Any
) -> None:
    runs = [
        run
        for run in read_runs(stack_lab.uri, "giblet_ray", (), None)
        if run.name in ("both", "ridge")
    ]
    settings = PairSettings(None, 99, 20.0, 0, Dataset.open, ())
    trained, reasons = open_best(runs, settings)
    assert not reasons
    (pair,), notes = pair_all(trained, settings, lambda name, done: None)
    assert {pair.a.name, pair.b.name} == {"both", "ridge"}
    (note,) = notes
    recorded = find_checkpoint(str(stack_lab.folder / "runs/both")).record.score
    assert note.startswith("run both is a stack: its weights were found on these TRs, where it")
    assert note.endswith(f"found without each TR, {recorded:.4f}, which has no interval")
    intervals, reasons = intervals_of(trained, settings, lambda name, done: None)
    assert [each.run.name for each in trained if each.run.id in intervals] == ["ridge"]
    assert reasons == notes


def test_preflight_says_what_would_be_stacked_and_makes_nothing(stack_lab: StackLab) -> None:
    lines: list[str] = []
    preflight_promotion(stack_lab.job(stack=("first", "ridge"), preflight=True), lines.append)
    said = "\n".join(lines)
    assert "member ridge" in said
    (name,) = {word for word in said.split() if word.startswith("stack-")}
    assert not (stack_lab.folder / "runs" / name).exists()


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (("first",), "--stack first: one run alone; two different ones or more"),
        (("first", "first"), "--stack first: one run alone; two different ones or more"),
        (("first", "both"), "--stack both: is a stack itself; give its members: first, ridge"),
        (("first", "other"), "runs other and first were not chosen on the same TRs .*val_fraction"),
        (("first", "units"), "runs units and first were not chosen on .* data.voxels is 3 of 24"),
        (("first", "nobody"), "--stack nobody: not in the trainings"),
    ],
)
def test_runs_that_cannot_be_stacked_are_refused(
    stack_lab: StackLab, stacked: Any, more_runs: None, stack: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        promote(stack_lab.job(stack=stack), lambda line: None)


def test_a_member_of_somebody_s_own_code_is_told_in_one_short_line(
    stack_lab: StackLab, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(stack_lab.folder / "runs/first", tmp_path / "own"))
    for file in copy.glob("*/record.json"):
        record = json.loads(file.read_text())
        record["config"]["model"]["kind"] = "elsewhere.models:Gru"
        file.write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"^{copy}/epoch-.*: its setting model: ") as raised:
        open_run(str(copy))
    assert "Value error" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_the_best_trials_of_a_sweep_are_stacked_with_other_runs(
    stack_lab: StackLab, stacked: Any
) -> None:
    sweep = stack_lab.record("night", {KIND_TAG: "sweep"})
    for trial in ("night-0", "night-1"):
        of = "first" if trial == "night-0" else "ridge"
        shutil.copytree(stack_lab.folder / "runs" / of, stack_lab.folder / "runs" / trial)
        stack_lab.record(trial, {PARENT_TAG: sweep})
    store = open_store(stack_lab.uri)
    plan = plan_stack(store, stack_lab.job(best_of="night", top=2))
    scores = [each.checkpoint.record.score for each in plan.opened]
    assert set(plan.members) == {"night-0", "night-1"}
    assert scores == sorted(scores, reverse=True)
    of_both = plan_stack(store, stack_lab.job(best_of="night", stack=("first",)))
    assert list(of_both.members) == ["first", next(iter(plan.members))]
    with pytest.raises(InputError, match=r"--best-of night --top 3: 2 of its 2 trials have a che"):
        plan_stack(store, stack_lab.job(best_of="night", top=3))


def test_runs_of_the_same_weights_are_stacked_once(
    stack_lab: StackLab, caplog: pytest.LogCaptureFixture
) -> None:
    """As one run that two experiments have, or two trainings of the same settings."""
    shutil.copytree(stack_lab.folder / "runs/first", stack_lab.folder / "runs/twin")
    stack_lab.record("twin")
    with pytest.raises(InputError, match="--stack first: one run alone; two different ones or mor"):
        promote(stack_lab.job(stack=("first", "twin")), print)
    assert caplog.messages == ["--stack: run twin has the weights of run first: left out"]
    plan = plan_stack(open_store(stack_lab.uri), stack_lab.job(stack=("first", "twin", "ridge")))
    assert list(plan.members) == ["first", "ridge"]


def test_members_that_see_no_held_out_tr_are_stacked_whatever_they_see_together(
    stack_lab: StackLab, tiny_model: dict[str, Any]
) -> None:
    """A gap of 14 TRs, 12 TRs of context at a lag of 3, and a member without a lag."""
    far = {**tiny_model, "memory": "hrf", "head": "linear", "context_seconds": 18.0}
    data = {"modalities": ("text",), "lag_seconds": 4.5}
    stack_lab.run("far", far, data=data, train={"epochs": 1, "batch_trs": 64})
    job = stack_lab.job(stack=("far", "ridge"), name="reach", model_name="reach")
    assert promote(job, lambda line: None).record.lag_trs == 0
    assert open_run(str(stack_lab.folder / "runs/reach")).data.context_trs == 15


def test_a_name_that_another_run_has_is_refused(stack_lab: StackLab) -> None:
    job = stack_lab.job(stack=("ridge", "first"), name="first")
    with pytest.raises(InputError, match=r"--name first: .* holds another run; give another"):
        promote(job, lambda line: None)


@pytest.fixture(scope="module")
def more_runs(stack_lab: StackLab) -> None:
    """Runs of another split, and of other units."""
    few = {"kind": "ridge", "solver": "ridge", "n_alphas": 3, "delays_seconds": (3, 6)}
    np.save(stack_lab.folder / "units.npy", np.array([3, 5, 8]))
    text = {"modalities": ("text",)}
    stack_lab.run("other", few, data={**text, "split": {"val_fraction": 0.2}})
    stack_lab.run("units", few, data={**text, "voxels": str(stack_lab.folder / "units.npy")})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": "a", "stack": ("b", "c")}, "one of --run RUN, --best-of SWEEP and --stack"),
        ({"stack": ("b", "c"), "top": 3}, "--top 3 is of the trials of a sweep: give --best-of"),
        ({"run": "a", "name": "b"}, "--name b is that of a stack: give --stack or --top"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    stack_lab: StackLab, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stack_lab.job(**settings)

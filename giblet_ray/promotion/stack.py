"""Finished runs, stacked: a run of its own, fitted on validation TRs and judged on test TRs.

::

    members  --validation TRs-->  weights of each unit   (chosen between stretches of them)
    stack    --test TRs------->   its r, that of each member alone, and the difference

Shapes: M members, V units.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.record import DatasetRecord, Position, RunRecord
from giblet_ray.checkpoint.stacked import save_stack
from giblet_ray.checkpoint.store import keep_checkpoint, latest_record
from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.config import PromoteJob, TrainJob
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import mean_r, scan_influence
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.choice import best_trials, find_run
from giblet_ray.judge.judge import TallyOfTest, judge_run
from giblet_ray.judge.members import MemberScore, is_stack, score_members
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.kinds import read_settings
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.stack.config import Member, StackConfig
from giblet_ray.models.stack.weights import Weights
from giblet_ray.progress import Progress
from giblet_ray.promotion.judged_on import difference
from giblet_ray.promotion.validation import Predicted, gap_of, predict_validation
from giblet_ray.settings import flat_settings
from giblet_ray.tracking.mlflow_run import MlflowRun, ending
from giblet_ray.tracking.recorded_run import RecordedRun
from giblet_ray.tracking.store import Store
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import saved_config
from giblet_ray.training.loss import build_loss
from giblet_ray.training.report import report_best

MEMBERS = "members.json"
"""What a stack's folder keeps of its members on the test TRs."""
_ROTATIONS = 2000


@dataclass(frozen=True)
class Plan:
    """What would be stacked.

    Attributes
    ----------
    name : str
        Of the stack's run.
    members : dict of str to OpenedRun
        By the names that the stack has them by.
    """

    name: str
    members: dict[str, OpenedRun]

    @property
    def opened(self) -> list[OpenedRun]:
        """The members."""
        return list(self.members.values())

    def summary(self) -> dict[str, str]:
        """Return what would be done, for the user to read."""
        first = self.opened[0]
        n_trs = sum(len(span) for span in first.data.split.val)
        scores = {
            name: f"{member.checkpoint.record.chosen_by.short} {member.checkpoint.record.score:.5f}"
            for name, member in self.members.items()
        }
        return {
            "run": self.name,
            **{f"member {name}": score for name, score in scores.items()},
            "weights": f"would be fitted on {n_trs:,} validation TRs of films",
        }


def plan_stack(store: Store, job: PromoteJob) -> Plan:
    """Find the runs that are to be stacked, and make sure that they can be; starts nothing.

    Raises
    ------
    InputError
        If there is no such run, one has not ended, or they were not chosen on the same TRs.
    """
    runs = [find_run(store, wanted, "--stack") for wanted in job.stack]
    if job.best_of is not None:
        runs += best_trials(store, job.best_of, job.top or 1)
    runs = list({run.id: run for run in runs}.values())
    if len(runs) < 2:
        raise InputError(
            f"--stack {runs[0].name}: one run alone; two different ones or more are accepted"
        )
    for run in runs:
        if run.status == "RUNNING":
            raise InputError(f"--stack {run.name}: is still running, or was killed: let it end")
    opened = [open_run(run.folder, packages=job.packages) for run in runs]
    _check(runs, opened)
    sums = [each.checkpoint.record.weights_checksum for each in opened]
    names = Counter(run.name for run in runs)
    keys = [
        run.name if names[run.name] == 1 else f"{run.name}-{checksum[:6]}"
        for run, checksum in zip(runs, sums, strict=True)
    ]
    same = hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()
    return Plan(job.name or f"stack-{same[:10]}", dict(zip(keys, opened, strict=True)))


def _check(runs: Sequence[RecordedRun], opened: Sequence[OpenedRun]) -> None:
    first = opened[0].checkpoint.record
    forms: dict[str, str] = {}
    for run, each in zip(runs, opened, strict=True):
        record = each.checkpoint.record
        if is_stack(each):
            has = ", ".join(record.config["model"]["members"])
            raise InputError(f"--stack {run.name}: is a stack itself; give its members: {has}")
        if record.score is None:
            raise InputError(f"--stack {run.name}: no checkpoint of it was scored")
        pair = f"--stack: runs {run.name} and {runs[0].name}"
        if (differs := difference(record, first)) is not None:
            raise InputError(f"{pair} were not chosen on the same TRs and units: {differs}")
        if record.scans != first.scans or record.dataset.subjects != first.dataset.subjects:
            raise InputError(f"{pair} were not trained on the same scans: train one of them anew")
        data = record.config["data"]
        if "audio" in data["modalities"]:
            forms.setdefault(data["audio"], run.name)
    if len(forms) > 1:
        found = ", ".join(f"{form} in run {name}" for form, name in forms.items())
        raise InputError(f"--stack: data.audio is {found}; one form of audio is accepted")


def stack_runs(store: Store, job: PromoteJob, show: Callable[[str], None]) -> RecordedRun:
    """Stack runs into one of its own, judge it, record it, and say by how much each carries.

    One that is there is not made again.

    Raises
    ------
    InputError
        If they cannot be stacked, or another run has the stack's name.
    """
    plan = plan_stack(store, job)
    storage = Storage.at(job.storage.path)
    folder = storage.describe(plan.name)
    with claimed(folder, "--name"):
        made = latest_record(storage, plan.name)
        if made is None:
            _make(plan, job, storage, show)
        elif not _is_of(made, plan):
            raise InputError(f"--name {plan.name}: {folder} holds another run; give another --name")
        recorded = [run for run in store.runs() if run.folder == folder]
        if not recorded or recorded[0].status != "FINISHED":
            return store.run(_record(plan.name, job, storage, show))
    show(f"run {plan.name} is there already")
    return recorded[0]


def _is_of(made: RunRecord, plan: Plan) -> bool:
    model = made.config["model"]
    wanted = {each.checkpoint.record.weights_checksum for each in plan.opened}
    return model["kind"] == "stack" and {m["weights"] for m in model["members"].values()} == wanted


def _make(plan: Plan, job: PromoteJob, storage: Storage, show: Callable[[str], None]) -> None:
    """Find the weights, and keep the stack as a run's one checkpoint."""
    opened, gap_trs = plan.opened, gap_of(plan.opened[0])
    shared = not any(map(_tells_subjects_apart, opened))
    with (
        tempfile.TemporaryDirectory() as files,
        tempfile.TemporaryDirectory() as folder,
        Progress(show) as progress,
    ):

        def report(done: float) -> None:
            progress.doing = f"predicting validation TRs {done:.0%}"

        predicted = predict_validation(opened, shared, Path(files), report)
        progress.doing = "finding weights"
        found = {name: each.find_weights(gap_trs) for name, each in predicted.items()}
        for name, weights in found.items():
            show(_in_words(name, weights, list(plan.members)))
        run_job = _job_of_stack(plan, job, found)
        run = _run_record(run_job, opened[0])
        held_out, metrics = _score(run_job, opened[0], predicted, found, gap_trs)
        position = Position(epoch=1, step=1, history=[{"epoch": 1, **metrics}])
        checkpoints = [each.checkpoint for each in opened]
        save_stack(Path(folder), checkpoints, _kept(found, run), run, position, held_out)
        keep_checkpoint(storage, plan.name, Path(folder), position.name)


def _settings_of(opened: OpenedRun) -> ModelSettings:
    config, where = opened.checkpoint.record.config, "the checkpoint's model.kind"
    settings: ModelSettings = read_settings(ModelSettings, config["model"], opened.packages, where)
    return settings


def _tells_subjects_apart(opened: OpenedRun) -> bool:
    shapes = Shapes.of_record(opened.checkpoint.record.dataset)
    with unfilled():
        model = build_predictor(_settings_of(opened), shapes, opened.packages)
    return model.tells_subjects_apart


def _carried(found: Mapping[str, Weights], valid: Mapping[str, Tensor]) -> Tensor:
    """Return the mean weight of each member, over units, then subjects, (M,)."""
    return torch.stack([of.own_VM[valid[name]].mean(0) for name, of in found.items()]).mean(0)


def _job_of_stack(plan: Plan, job: PromoteJob, found: Mapping[str, Weights]) -> TrainJob:
    """Return the stack as if it had been trained."""
    first = plan.opened[0].checkpoint.record
    valid = {
        subject: torch.from_numpy(plan.opened[0].valid(subject))
        for subject in first.dataset.subjects
    }
    valid["all"] = torch.stack(list(valid.values())).any(0) if "all" in found else torch.empty(0)
    carried = _carried(found, valid).tolist()
    tr_seconds, members = first.dataset.tr_seconds, {}
    for (name, opened), carries in zip(plan.members.items(), carried, strict=True):
        record, settings = opened.checkpoint.record, _settings_of(opened)
        members[name] = Member(
            weights=record.weights_checksum,
            score=record.score,
            carries=carries,
            lag_trs=record.lag_trs,
            context_trs=settings.context_trs(tr_seconds),
            model=record.config["model"],
            encoders=record.dataset.encoders,
            values=record.dataset.values,
            leading=settings.leading_of(record.dataset.encoders),
        )
    model = StackConfig(
        members=members,
        subjects="shared" if "all" in found else "each",
        shrinkage={name: of.shrinkage for name, of in found.items()},
    )
    of_members = [opened.checkpoint.record.config["data"] for opened in plan.opened]
    modalities = tuple(dict.fromkeys(m for data in of_members for m in data["modalities"]))
    audio = next((d["audio"] for d in of_members if "audio" in d["modalities"]), "encodec")
    asked = {"modalities": modalities, "audio": audio, "lag_seconds": model.lag_trs * tr_seconds}
    judged = {name: first.config["data"][name] for name in ("subjects", "split")}
    return TrainJob(
        dataset=plan.opened[0].data.dataset.storage.location,
        name=plan.name,
        packages=job.packages,
        model=model,
        data=DataConfig.model_validate({**judged, **asked}),
        loss=first.config["loss"],
        train={name: first.config["train"][name] for name in ("score", "metrics")},
        storage=job.storage,
        tracking=job.tracking,
    )


def _run_record(run_job: TrainJob, first: OpenedRun) -> RunRecord:
    record = first.checkpoint.record
    data = plan_data(run_job, first.data.dataset, record.same)
    if record.units:
        chosen = replace(data.selection, units=record.indices_by_subject)
        data = replace(data, selection=chosen)
    config = saved_config(run_job)
    config["data"]["voxels"] = record.config["data"]["voxels"]
    return RunRecord(
        config=config,
        dataset=DatasetRecord.model_validate(data.describe()),
        order=record.order,
        units=record.units,
        same=record.same,
    )


def _kept(found: Mapping[str, Weights], run: RunRecord) -> dict[str, Tensor]:
    """Return the weights by their names in the model.

    A subject without validation TRs has the common weights of the others.
    """
    if "all" in found:
        return {"weights.0": found["all"].own_VM.float()}
    common_M = torch.stack([of.common_M for of in found.values()]).mean(0)
    return {
        f"weights.{index}": (
            found[subject].own_VM if subject in found else common_M.expand(n_units, -1)
        ).float()
        for index, (subject, n_units) in enumerate(run.dataset.subjects.items())
    }


def _score(
    run_job: TrainJob,
    first: OpenedRun,
    predicted: Mapping[str, Predicted],
    found: Mapping[str, Weights],
    gap_trs: int,
) -> tuple[HeldOutScores, dict[str, float]]:
    """Score validation TRs, each predicted by weights that were found without it."""
    subjects = [scan.subject for each in predicted.values() for scan in each.scans]
    tally = TallyOfTest(first, subjects, {name: first.valid(name) for name in subjects})
    loss, of_rows, index = build_loss(run_job.loss, run_job.packages), 0.0, 0
    for name, each in predicted.items():
        stacked_NV = each.stacked(found[name], gap_trs)
        for scan in range(len(each.scans)):
            rows = each.scan_N == scan
            pair = torch.from_numpy(stacked_NV[rows]), torch.from_numpy(each.bold_NV[rows])
            tally.add(index, each.tr_N[rows], *pair)
            valid = torch.from_numpy(first.valid(subjects[index])).expand_as(pair[0])
            of_rows += float(loss.of_rows(*pair, valid))
            index += 1
    scores, own = tally.compute()
    metrics = {f"val/{name}": value for name, value in (scores.summary() | own).items()}
    return scores, metrics | {"val/loss": loss.held_out(scores, of_rows / scores.n_trs)}


def _in_words(name: str, weights: Weights, members: Sequence[str]) -> str:
    each = ", ".join(
        f"{member} {weight:.2f}"
        for member, weight in zip(members, weights.own_VM.mean(0).tolist(), strict=True)
    )
    how = "too few validation TRs to choose by" if not len(weights.folds_KVM) else "chosen"
    return (
        f"weights, mean over units of {name}: {each}; shrunk by {weights.shrinkage:.1f} ({how}) to "
        "those that fit all units"
    )


def _record(name: str, job: PromoteJob, storage: Storage, show: Callable[[str], None]) -> str:
    """Judge a stack on test TRs, record it in MLflow as a run that has ended; return its id."""
    folder = storage.describe(name)
    opened = open_run(folder, packages=job.packages)
    record, checkpoint = opened.checkpoint.record, opened.checkpoint
    run = MlflowRun(job.tracking.uri, job.tracking.experiment, name, folder)
    with ending(run.close):
        run.epochs(record.position.history)
        run.text(yaml.safe_dump(record.config, sort_keys=False), "config.yaml")
        run.describe(flat_settings(record.config), record.dataset.location, record.dataset.checksum)
        judged = judge_run(storage, name, None, job.packages, show)
        show(f"run {name}, {judged.name}: {judged.in_words()}")
        for each in _members(opened, storage, name, show):
            show(f"member {each.name}: {each.in_words()}")
            run.metrics(each.logged(judged.name))
        how = (record.chosen_by, job.tracking.log_model, job.packages, judged)
        report_best(run, checkpoint, record.position.history, *how)
    return run.id


def _members(
    opened: OpenedRun, storage: Storage, name: str, show: Callable[[str], None]
) -> tuple[MemberScore, ...]:
    """Return by how much each member carries on test TRs; it is found once, and kept."""
    kept = f"{name}/{MEMBERS}"
    if storage.size(kept) is not None:
        return tuple(MemberScore(**each) for each in json.loads(storage.read(kept)))
    with Progress(show) as progress:

        def report(done: float) -> None:
            progress.doing = f"predicting test TRs with each member {done:.0%}"

        mean = mean_r([scan_influence(rows) for rows in all_rows(opened).values()])
        members = score_members([opened], mean, gap_of(opened), _ROTATIONS, report=report)
    with storage.write(kept) as stream:
        stream.write(json.dumps([each.model_dump() for each in members], indent=1).encode())
    return members

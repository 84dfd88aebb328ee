"""A stack as a run: its settings, what its checkpoint records of it, and its validation scores.

Shapes: M members, V units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from giblet_ray.checkpoint.record import DatasetRecord, RunRecord
from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.config import PromoteJob, TrainJob
from giblet_ray.dataset.config import DataConfig
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.judge import TallyOfTest
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.stack.config import Member, StackConfig
from giblet_ray.models.stack.weights import Weights
from giblet_ray.promotion.plan_stack import Plan
from giblet_ray.promotion.validation import Predicted
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import saved_config
from giblet_ray.training.loss import build_loss


def tells_subjects_apart(opened: OpenedRun) -> bool:
    """Whether a run's prediction depends on the subject."""
    record = opened.checkpoint.record
    settings, shapes = record.model_settings(opened.packages), Shapes.of_record(record.dataset)
    with unfilled():
        model = build_predictor(settings, shapes, opened.packages)
    return model.tells_subjects_apart


def _carried(found: Mapping[str, Weights], valid: Mapping[str, Tensor]) -> Tensor:
    """Return the mean weight of each member, over units, then subjects, (M,)."""
    return torch.stack([of.own_VM[valid[name]].mean(0) for name, of in found.items()]).mean(0)


def job_of_stack(plan: Plan, job: PromoteJob, found: Mapping[str, Weights]) -> TrainJob:
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
        record = opened.checkpoint.record
        settings = record.model_settings(opened.packages)
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


def record_of_stack(run_job: TrainJob, first: OpenedRun) -> RunRecord:
    """Return what a checkpoint records of a stack, whose first member has its data and units."""
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


def kept_weights(found: Mapping[str, Weights], run: RunRecord) -> dict[str, Tensor]:
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


def score_validation(
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
        for scan, stacked_TV in enumerate(each.stacked(found[name], gap_trs)):
            rows = each.rows_of(scan)
            pair = torch.from_numpy(stacked_TV), torch.from_numpy(each.bold_NV[rows])
            tally.add(index, each.tr_N[rows], *pair)
            valid = torch.from_numpy(first.valid(subjects[index])).expand_as(pair[0])
            of_rows += float(loss.of_rows(*pair, valid))
            index += 1
    scores, own = tally.compute()
    metrics = {f"val/{name}": value for name, value in (scores.summary() | own).items()}
    return scores, metrics | {"val/loss": loss.held_out(scores, of_rows / scores.n_trs)}

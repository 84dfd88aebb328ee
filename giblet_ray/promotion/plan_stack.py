"""Which runs are stacked, and whether they can be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.config import PromoteJob
from giblet_ray.console import warn_once
from giblet_ray.errors import InputError
from giblet_ray.judge.choice import best_trials, find_run
from giblet_ray.judge.members import is_stack
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.promotion.judged_on import difference
from giblet_ray.tracking.recorded_run import RecordedRun
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.store import Store


@dataclass(frozen=True)
class Plan:
    """What would be stacked."""

    name: str
    """Of the stack's run."""
    members: dict[str, OpenedRun]
    """By the names that the stack has them by."""

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
    with tracking_errors(job.tracking.uri):
        runs = [find_run(store, wanted, "--stack") for wanted in job.stack]
        if job.best_of is not None:
            runs += best_trials(store, job.best_of, job.top or 1)
    different: dict[str, tuple[RecordedRun, OpenedRun]] = {}
    for run in {run.id: run for run in runs}.values():
        if run.status == "RUNNING":
            raise InputError(f"--stack {run.name}: is still running, or was killed: let it end")
        each = open_run(run.folder, packages=job.packages)
        first, _ = different.setdefault(each.checkpoint.record.weights_checksum, (run, each))
        if first is not run:
            warn_once(f"--stack: run {run.name} has the weights of run {first.name}: left out")
    if len(different) < 2:
        raise InputError(
            f"--stack {runs[0].name}: one run alone; two different ones or more are accepted"
        )
    sums, runs = list(different), [run for run, _ in different.values()]
    opened = [each for _, each in different.values()]
    _check(runs, opened)
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


def is_of(made: RunRecord, plan: Plan) -> bool:
    """Whether a run is the stack that is planned."""
    model = made.config["model"]
    wanted = {each.checkpoint.record.weights_checksum for each in plan.opened}
    return model["kind"] == "stack" and {m["weights"] for m in model["members"].values()} == wanted

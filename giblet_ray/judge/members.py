"""By how much each member of a stack carries: its weight, and the stack beside it on test TRs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from pydantic import Field

from giblet_ray.checkpoint.judged import Judged, read_judged
from giblet_ray.dataset.splits import response_trs
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.influence import MeanR, mean_r
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.judge.folds import Report, Rows, part_of
from giblet_ray.judge.judge import keep_test, tally_rows
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.judge.rows import all_rows
from giblet_ray.models.stack.model import Stack
from giblet_ray.progress import Progress
from giblet_ray.settings import Group

MEMBERS = "members.json"
"""What a stack's folder keeps of its members on the test TRs."""
_ROTATIONS = 2000


class MemberScore(Group):
    """A member of a stack on test TRs."""

    name: str
    """Of its run."""
    weight: float = Field(ge=0, le=1)
    """In the stack: mean over units, then subjects."""
    pearson_mean: float
    """r that it reaches alone: the mean that the stack's r is."""
    difference: float
    """r of the stack, minus that."""
    low: float
    """Lower end of the difference's interval."""
    high: float
    """Upper end."""
    p: float
    """Of the difference: paired, two-sided."""
    test: str
    """The difference, its interval and p, in words."""

    def in_words(self) -> str:
        """Return it in a line."""
        return f"weight {self.weight:.2f}; r {self.pearson_mean:.4f} alone, stacked {self.test}"

    def logged(self, of: str) -> dict[str, float]:
        """Return the numbers by the names that MLflow has them by; `of` is the test's."""
        numbers = self.model_dump(exclude={"name", "test"})
        return {f"{of}/member/{self.name}/{key}": value for key, value in numbers.items()}


def is_stack(opened: OpenedRun) -> bool:
    """Whether a run is a stack of others."""
    return bool(opened.checkpoint.record.config["model"]["kind"] == "stack")


def rows_of_members(
    opened: OpenedRun, report: Report = lambda done: None
) -> tuple[Rows, tuple[MeanR, ...]]:
    """Predict the test TRs of a stack, once with each of its members.

    Parameters
    ----------
    opened : OpenedRun
        The stack.
    report : callable, optional
        Is told the share that is done.

    Returns
    -------
    rows : dict of ScanKey to ScanRows
        Test TRs of each scan, predicted by the stack: the weighed sum. While they are added up,
        those of one member are in memory too.
    alone : tuple of MeanR
        Of each member.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    encoder = opened.load()
    stack = cast(Stack, encoder.model)
    n, rows, alone = len(stack.members), cast(Rows, {}), []
    for index in range(n):
        stack.keep_member(index)
        found = all_rows(opened, part_of(report, index, n), encoder)
        alone.append(mean_r(list(found.values()), opened.data.units_are_shared))
        for scan, each in found.items():
            weights_VM = stack.weights_of(encoder.subject_index(scan.subject) or 0).cpu()
            weighed_TV = each.prediction_TV * weights_VM[:, index]
            if scan in rows:
                weighed_TV += rows[scan].prediction_TV
            rows[scan] = replace(each, prediction_TV=weighed_TV)
    return rows, tuple(alone)


def score_members(
    opened: OpenedRun,
    mean: MeanR,
    alone: Sequence[MeanR],
    least_trs: int,
    n_rotations: int,
    seed: int = 0,
) -> tuple[MemberScore, ...]:
    """Set a stack beside each of its members alone.

    Parameters
    ----------
    opened : OpenedRun
        The stack.
    mean, alone : MeanR, sequence of MeanR
        Of the stack and of each member, on the same TRs.
    least_trs, n_rotations, seed : int
        As :func:`giblet_ray.evaluation.paired.paired_tests` takes them.
    """
    members = opened.checkpoint.record.config["model"]["members"]
    tests = paired_tests([(mean, each) for each in alone], least_trs, n_rotations, seed)
    return tuple(
        MemberScore(
            name=name,
            weight=member["carries"],
            pearson_mean=each.value,
            difference=test.difference,
            low=test.low,
            high=test.high,
            p=test.p,
            test=str(test),
        )
        for (name, member), each, test in zip(members.items(), alone, tests, strict=True)
    )


def judge_stack(
    opened: OpenedRun, storage: Storage, run: str, show: Callable[[str], None]
) -> tuple[Judged, tuple[MemberScore, ...]]:
    """Return the test scores of a stack and of its members; they are kept in the run's folder.

    What has been judged is not judged again, as by :func:`giblet_ray.judge.judge.judge_run`.

    Parameters
    ----------
    opened : OpenedRun
        The stack.
    storage, run : Storage, str
        Where it is.
    show : callable
        Takes each line that the user should see.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    before, kept = read_judged(storage, run), f"{run}/{MEMBERS}"
    is_judged = before is not None and before.weights == opened.checkpoint.record.weights_checksum
    if before is not None and is_judged and storage.size(kept) is not None:
        return before, tuple(MemberScore(**each) for each in json.loads(storage.read(kept)))
    with Progress(show) as progress:

        def report(done: float) -> None:
            progress.doing = f"predicting test TRs with each member {done:.0%}"

        rows, alone = rows_of_members(opened, report)
    mean = mean_r(list(rows.values()), opened.data.units_are_shared)
    least_trs = response_trs(opened.data.dataset.manifest.tr_seconds)
    members = score_members(opened, mean, alone, least_trs, _ROTATIONS)
    judged = keep_test(storage, run, opened, *tally_rows(rows, [opened]))
    with storage.write(kept) as stream:
        stream.write(json.dumps([each.model_dump() for each in members], indent=1).encode())
    return judged, members

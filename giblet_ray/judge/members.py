"""By how much each member of a stack carries: its weight, and the stack beside it on test TRs."""

from __future__ import annotations

from pydantic import Field

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.evaluation.influence import MeanR, mean_r, scan_influence
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.judge.folds import Folds, Report, gathered_rows
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.stack.model import Stack
from giblet_ray.settings import Group


class MemberScore(Group):
    """A member of a stack on test TRs."""

    name: str
    """Of its run."""
    weight: float = Field(ge=0, le=1)
    """In the stack: mean over units, then subjects."""
    pearson_mean: float
    """r that it reaches alone: mean over units, scans, then subjects."""
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


def score_members(
    folds: Folds,
    mean: MeanR,
    least_trs: int,
    n_rotations: int,
    seed: int = 0,
    report: Report = lambda done: None,
) -> tuple[MemberScore, ...]:
    """Predict the test TRs of a stack with each of its members alone.

    Parameters
    ----------
    folds : sequence of OpenedRun
        The stack, or one of each fold.
    mean : MeanR
        Of the stack.
    least_trs, n_rotations, seed : int
        As :func:`giblet_ray.evaluation.paired.paired_tests` takes them.
    report : callable, optional
        Is told the share that is done.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    members = folds[0].checkpoint.record.config["model"]["members"]
    alone: list[MeanR] = []
    for index in range(len(members)):

        def load(opened: OpenedRun, index: int = index) -> Encoder:
            return _load_member(opened, index)

        rows = gathered_rows(folds, load=load)
        alone.append(mean_r([scan_influence(scan) for scan in rows.values()]))
        report((index + 1) / len(members))
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


def _load_member(opened: OpenedRun, index: int) -> Encoder:
    encoder = opened.load()
    if isinstance(encoder.model, Stack):
        encoder.model.keep_member(index)
    return encoder

"""Two runs on the same test TRs: their scores, and the paired difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from giblet_ray.checkpoint.judged import count_reading
from giblet_ray.dataset.splits import response_trs
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import MeanR, mean_r
from giblet_ray.evaluation.paired import PairedTest, paired_tests
from giblet_ray.judge.judge import name_of_test
from giblet_ray.judge.opened import OpenedRun, check_comparable, open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.progress import Progress, Show

_ROTATIONS = 2000
_SHOWN = 3
"""Scans that an error names."""


def compare_tests(
    one: str, other: str, packages: Iterable[str], show: Show
) -> tuple[MeanR, MeanR, PairedTest]:
    """Predict the test TRs with the best checkpoints of two runs, and test their difference.

    A reading of both runs is counted.

    Parameters
    ----------
    one, other : str
        Folders or URIs of runs, or of checkpoints.
    packages : iterable of str
        Packages that their models may be imported from.
    show : Show

    Returns
    -------
    mean_one, mean_other : MeanR
        Mean r over scans, subjects and units, with what each TR adds to it.
    test : PairedTest
        The first minus the second.

    Raises
    ------
    InputError
        If one cannot be read, or they are judged on different data, units, scans or TRs.
    """
    opened = _opened(one, other, packages)
    compared = _compared(opened, show)
    for each in opened:
        count_reading(Storage.at(each.checkpoint.run_folder))
    return compared


def beside_in_words(one: str, other: str, packages: Iterable[str], show: Show) -> tuple[str, str]:
    """Say what :func:`compare_tests` finds, of a run and of what was there before; count nothing.

    Returns
    -------
    words : str
        Mean r of both, and the first minus the second.
    name : str
        What the test is called.
    """
    opened = _opened(one, other, packages)
    mean, before, test = _compared(opened, show)
    return f"r {mean.value:.4f}, before {before.value:.4f}: {test}", name_of_test(opened[0])


def _opened(one: str, other: str, packages: Iterable[str]) -> list[OpenedRun]:
    opened = [open_run(location, packages=packages) for location in (one, other)]
    check_comparable(opened[0], opened[1], "the two")
    scans, of_other = (set(each.scans_in("test")) for each in opened)
    if alone := sorted(scans ^ of_other):
        some = "; ".join(map(str, alone[:_SHOWN])) + ("; ..." if len(alone) > _SHOWN else "")
        raise InputError(
            f"the two are judged on different scans, {len(alone)} of them by one run alone "
            f"({some}): runs with the same scans in their test can be paired"
        )
    return opened


def _compared(opened: Sequence[OpenedRun], show: Show) -> tuple[MeanR, MeanR, PairedTest]:
    with Progress(show) as progress:
        progress.doing = "predicting the test TRs with both models"
        mean, other = map(_mean, opened)
    least_trs = response_trs(opened[0].data.dataset.manifest.tr_seconds)
    (test,) = paired_tests([(mean, other)], least_trs, _ROTATIONS)
    return mean, other, test


def _mean(opened: OpenedRun) -> MeanR:
    return mean_r(list(all_rows(opened).values()), opened.data.units_are_shared)

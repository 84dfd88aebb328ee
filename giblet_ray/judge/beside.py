"""Two runs on the same test TRs: their scores, and the paired difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from giblet_ray.checkpoint.judged import count_reading
from giblet_ray.dataset.splits import response_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import MeanR, mean_r, scan_influence
from giblet_ray.evaluation.paired import PairedTest, paired_tests
from giblet_ray.judge.opened import OpenedRun, check_comparable, open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.progress import Progress

_ROTATIONS = 2000


def compare_tests(
    one: str, other: str, packages: Iterable[str], show: Callable[[str], None]
) -> tuple[MeanR, MeanR, PairedTest]:
    """Predict the test TRs with the best checkpoints of two runs, and test their difference.

    Parameters
    ----------
    one, other : str
        Folders or URIs of runs.
    packages : iterable of str
        Packages that their models may be imported from.
    show : callable
        Takes each line that the user should see.

    Returns
    -------
    mean_one, mean_other : MeanR
        Mean r over units, scans and subjects, with what each TR adds to it.
    test : PairedTest
        The first minus the second.

    Raises
    ------
    InputError
        If one cannot be read, or they are judged on different data, units or TRs.
    """
    opened = [open_run(location, packages=packages) for location in (one, other)]
    check_comparable(opened[0], opened[1], "the two")
    with Progress(show) as progress:
        progress.doing = "predicting the test TRs with both models"
        means = [_mean(each) for each in opened]
    for each in opened:
        count_reading(each.checkpoint.run_folder)
    least_trs = response_trs(opened[0].data.dataset.manifest.tr_seconds)
    (test,) = paired_tests([(means[0], means[1])], least_trs, _ROTATIONS)
    return means[0], means[1], test


def beside_in_words(
    one: str, other: str, packages: Iterable[str], show: Callable[[str], None]
) -> str:
    """Say how two runs differ on the test TRs, or why that cannot be said."""
    try:
        mean, other_mean, test = compare_tests(one, other, packages, show)
    except InputError as error:
        return f"cannot be compared: {error}"
    return f"r {mean.value:.4f}, before {other_mean.value:.4f}: {test}"


def _mean(opened: OpenedRun) -> MeanR:
    return mean_r([scan_influence(rows) for rows in all_rows(opened).values()])

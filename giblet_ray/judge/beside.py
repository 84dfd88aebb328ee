"""Two runs on the same test TRs: their scores, and the paired difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from giblet_ray.dataset.splits import response_trs
from giblet_ray.evaluation.influence import MeanR, mean_r
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.judge.judge import name_of_test
from giblet_ray.judge.opened import OpenedRun, check_comparable, open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.progress import Progress

_ROTATIONS = 2000


def beside_in_words(
    one: str, other: str, packages: Iterable[str], show: Callable[[str], None]
) -> tuple[str, str]:
    """Predict the test TRs with the best checkpoints of two runs, and say how they differ.

    Parameters
    ----------
    one, other : str
        Folders or URIs of runs, or of checkpoints.
    packages : iterable of str
        Packages that their models may be imported from.
    show : callable
        Takes each line that the user should see.

    Returns
    -------
    words : str
        Mean r of both over scans, subjects and units, and the first minus the second.
    name : str
        What the test is called.

    Raises
    ------
    InputError
        If one cannot be read, or they are judged on different data, units or TRs.
    """
    opened = [open_run(location, packages=packages) for location in (one, other)]
    check_comparable(opened[0], opened[1], "the two")
    with Progress(show) as progress:
        progress.doing = "predicting the test TRs with both models"
        mean, before = map(_mean, opened)
    least_trs = response_trs(opened[0].data.dataset.manifest.tr_seconds)
    (test,) = paired_tests([(mean, before)], least_trs, _ROTATIONS)
    return f"r {mean.value:.4f}, before {before.value:.4f}: {test}", name_of_test(opened[0])


def _mean(opened: OpenedRun) -> MeanR:
    return mean_r(list(all_rows(opened).values()), opened.data.units_are_shared)

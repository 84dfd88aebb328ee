"""Which part of the stimulus carries a prediction: from ridge, or from ablations of a run's model.

========= ======================================= ==========================================
how       models                                  what is said of a part or set of parts
========= ======================================= ==========================================
product   the banded ridge beside the run         its share in the R2 of all parts together
subsets   banded ridge, fitted to every set       what it alone explains, and what is shared
retrained the run's model, trained on every set   the same
permuted  the run's own, its part in disorder     the R2 and r that are lost without it
========= ======================================= ==========================================

Shapes: K parts, T TRs, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from numpy import float64
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.errors import InputError
from giblet_ray.evaluation.partition import product_measure, subsets, unique_and_shared
from giblet_ray.evaluation.unit_scores import UnitScores, nanmean
from giblet_ray.judge import permuted
from giblet_ray.judge.evaluation import Partition
from giblet_ray.judge.folds import Folds, gathered_rows, score_rows, valid_units
from giblet_ray.judge.members import is_stack
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.ridge.model import Ridge

_BELOW_0 = "a share below 0 is noise that a part adds, or takes from another"
WORDS = {
    "product": (
        "product measure of banded ridge: parts' shares in the R2 of their sum, about each scan's "
        "mean, what they have in common divided between them"
    ),
    "subsets": (
        f"unique and shared R2, by banded ridge fitted anew to every set of parts; {_BELOW_0}"
    ),
    "retrained": (
        f"unique and shared R2, by this model trained anew on every set of parts; {_BELOW_0}"
    ),
}

Shares = dict[tuple[str, ...], NDArray[float64]]
Fit = Callable[[OpenedRun, tuple[str, ...]], OpenedRun]
"""Gives a run on the same data as another, of some of its parts."""


def plan_partition(how: str, folds: Folds) -> str:
    """Return how many models a partition takes, in words.

    Raises
    ------
    InputError
        If there is one part alone, or the run cannot be trained anew.
    """
    name, parts = folds[0].checkpoint.record.config["name"], folds[0].checkpoint.record.parts
    if len(parts) < 2:
        raise InputError(
            f"--partition {how}: run {name} sees {', '.join(parts)} alone, where two parts or more "
            "are needed; give none"
        )
    if how == "retrained" and is_stack(folds[0]):
        raise InputError(
            f"--partition retrained: run {name} is a stack of finished runs, which is not trained "
            "anew; product, subsets or permuted is accepted"
        )
    if how in ("subsets", "retrained") and (lacking := folds[0].data.lacking):
        part, films = next(iter(lacking.items()))
        raise InputError(
            f"--partition {how}: stimulus {films[0]} has no {part}/, so that no model of {part} "
            "alone predicts it; product or permuted is accepted"
        )
    if how == "product":
        return "from the banded ridge of all parts"
    if how == "permuted":
        n = len(parts) * permuted.N_ORDERS * len(folds)
        return f"{n} predictions of the test TRs, no fit"
    what = "fits of banded ridge" if how == "subsets" else "trainings"
    n = (len(subsets(tuple(parts))) - 1) * len(folds)
    return f"{n} {what} on fewer parts, each kept as a run and not done again"


def from_refits(how: str, folds: Folds, scores: Mapping[str, UnitScores], fit: Fit) -> Partition:
    """Return unique and shared variance, from a model of every set of parts.

    Parameters
    ----------
    how : str
        subsets or retrained.
    folds : sequence of OpenedRun
        The run.
    scores : mapping of str to UnitScores
        Of each subject, by the model of all parts.
    fit : callable
        Gives that of a set of parts.

    Raises
    ------
    InputError
        If a fit cannot be made.
    """
    parts = tuple(folds[0].checkpoint.record.parts)
    sets = subsets(parts)
    r2_V: dict[str, Shares] = {}
    for chosen in sets:
        found = scores
        if chosen != parts:
            models = [fit(fold, chosen) for fold in folds]
            found = score_rows(gathered_rows(models), valid_units(models)).subjects
        for subject, of_subject in found.items():
            r2_V.setdefault(subject, {})[chosen] = of_subject.r2_V
    shares = {subject: unique_and_shared(of_sets) for subject, of_sets in r2_V.items()}
    return Partition(how, WORDS[how], shares)


def from_product(ridge: Folds) -> Partition:
    """Return each part's share in the R2 of banded ridge.

    Parameters
    ----------
    ridge : sequence of OpenedRun
        Ridge on all parts, of each fold.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    parts, valid = ridge[0].checkpoint.record.parts, valid_units(ridge)
    by_part = []
    for part in parts.values():

        def load(opened: OpenedRun, part: str = part) -> Encoder:
            encoder = opened.load()
            cast(Ridge, encoder.model).keep_part(part)
            return encoder

        by_part.append(gathered_rows(ridge, load=load))
    found: dict[str, list[NDArray[float64]]] = {}
    for scan, rows in by_part[0].items():
        added = torch.stack([of_part[scan].prediction_TV for of_part in by_part])
        added[:, :, torch.from_numpy(~valid[scan.subject])] = (
            0  # their BOLD is 0 too: they get no share
        )
        found.setdefault(scan.subject, []).append(product_measure(added, rows.bold_TV))
    means = {subject: nanmean(of_scans) for subject, of_scans in found.items()}
    shares: dict[str, Shares] = {
        subject: {(name,): share_V for name, share_V in zip(parts, share_KV, strict=True)}
        for subject, share_KV in means.items()
    }
    return Partition("product", WORDS["product"], shares)

"""Scores of the group: how well what subjects share is predicted, apart from the subjects' own.

A mean over subjects has less noise than one subject, so that the same model scores higher on it,
and higher still the more subjects there are: a group score is never to be read as a subject's.

Shapes: T TRs of a film, V units that are the same in all subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import z_scored

GROUP = "group"
"""What stands for the subject where a group is scored; see :func:`group_rows`."""


def group_rows(
    prediction_TV: Sequence[Tensor], bold_TV: Sequence[Tensor], usable_T: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the mean prediction and mean BOLD of subjects who saw one film, to be scored as one.

    ::

        group = ScanSums([GROUP] * n_films, n_units)
        for film, rows in enumerate(films):
            group.add(film, *group_rows(*rows))

    Each subject's BOLD is z-scored over the TRs that all have (so that none counts for more by its
    scale), as is each subject's prediction. A unit is averaged over the subjects in which its BOLD
    is finite and varies; one that varies in none is constant in the mean.

    Parameters
    ----------
    prediction_TV, bold_TV : sequence of Tensor
        (T, V) of each subject, the same film TRs.
    usable_T : sequence of Tensor
        (T,) bool of each subject, the TRs that its scan has.

    Returns
    -------
    prediction_NV, bold_NV : Tensor
        (N, V) float64, of the N TRs that all subjects have.

    Raises
    ------
    InputError
        For shapes that differ, a prediction that is not finite, or fewer than two common TRs.

    Notes
    -----
    Assumes that subjects' responses agree in time and unit: a common space, one film clock.
    """
    shapes = {tuple(rows.shape) for rows in (*prediction_TV, *bold_TV)}
    if len(shapes) != 1:
        raise InputError(f"group: found rows of shapes {sorted(shapes)}, must be one")
    common_T = torch.stack(list(usable_T)).all(dim=0)
    if int(common_T.sum()) < 2:
        raise InputError(
            f"group: {int(common_T.sum())} TRs are common to all {len(bold_TV)} subjects, "
            "two or more are needed"
        )
    scored = [z_scored(rows[common_T]) for rows in bold_TV]
    predicted = [z_scored(rows[common_T]) for rows in prediction_TV]
    if not all(rows[common_T].isfinite().all() for rows in prediction_TV):
        raise InputError("group: a prediction has NaN or infinity, all must be finite")
    counts_V = torch.stack([varies_V for _, varies_V in scored]).sum(dim=0).clamp(min=1)
    bold_NV = torch.stack([rows for rows, _ in scored]).sum(dim=0) / counts_V
    # Of the same subjects as its BOLD.
    used = zip(predicted, scored, strict=True)
    mean_NV = torch.stack([rows * varies_V for (rows, _), (_, varies_V) in used]).sum(0) / counts_V
    return mean_NV, bold_NV

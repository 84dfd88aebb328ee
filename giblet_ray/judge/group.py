"""How well the mean of subjects who saw the same films is predicted, apart from their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.evaluation.group import GROUP, group_rows
from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import UnitScores
from giblet_ray.judge.ceilings import common_trs, first_scans


def score_group(rows: Mapping[ScanKey, ScanRows]) -> UnitScores | None:
    """Return scores of the mean prediction on the mean BOLD, over the films that several saw.

    Of each subject the first scan of a film counts, at the TRs that all of them have.

    Parameters
    ----------
    rows : mapping of ScanKey to ScanRows
        Test TRs of all scans; units are the same in all subjects.

    Returns
    -------
    UnitScores or None
        None where nobody shares a film.
    """
    films = [list(seen.values()) for seen in first_scans(rows).values() if len(seen) > 1]
    if not films:
        return None
    n_units = next(iter(rows.values())).bold_TV.shape[1]
    sums = ScanSums([GROUP] * len(films), n_units)
    for film, seen in enumerate(films):
        scans = [rows[scan] for scan in seen]
        common = common_trs(scans)
        prediction, bold = (
            [getattr(each, name)[at].nan_to_num() for each, at in zip(scans, common, strict=True)]
            for name in ("prediction_TV", "bold_TV")
        )
        usable = [torch.ones(len(at), dtype=torch.bool) for at in common]
        sums.add(film, *group_rows(prediction, bold, usable))
    return sums.compute().subjects[GROUP]

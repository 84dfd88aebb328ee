"""Scores of a group: the mean prediction on the mean BOLD, apart from the subjects' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.stats

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.judge.group import score_group
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.rows import all_rows


def test_the_mean_of_the_subjects_is_scored_where_units_are_the_same(lab: Path) -> None:
    opened = open_run(str(lab / "runs/first"))
    rows = all_rows(opened)
    group = score_group(rows)
    assert group is not None
    r = []
    for film in ("one", "two"):
        scans = [rows[ScanKey(subject, film, 1)] for subject in ("01", "02")]
        bold = np.mean([scipy.stats.zscore(np.asarray(each.bold_TV)) for each in scans], axis=0)
        prediction = np.asarray(scans[0].prediction_TV)  # the head is shared
        r.append([scipy.stats.pearsonr(prediction[:, v], bold[:, v])[0] for v in range(24)])
    np.testing.assert_allclose(group.pearson_V, np.mean(r, axis=0), atol=1e-6)
    z = ((scipy.stats.zscore(np.asarray(rows_TV)) for rows_TV in (each.prediction_TV, each.bold_TV))
         for each in rows.values())  # fmt: skip
    own = np.mean([(p * b).mean(axis=0) for p, b in z], axis=0)
    assert group.pearson_V.mean() > own.mean()  # it has less noise
    alone = {scan: each for scan, each in rows.items() if scan.subject == "01"}
    assert score_group(alone) is None

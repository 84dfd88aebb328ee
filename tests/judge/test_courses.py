"""Which units' time courses are shown, and how."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.judge.courses import unit_courses


def test_the_best_the_median_and_the_worst_unit_are_shown_as_r_takes_them() -> None:
    random = np.random.default_rng(0)
    prediction, bold = random.normal(size=(2, 2, 40, 5))
    bold += prediction * np.linspace(-1, 2, 5)
    tr = np.r_[10:30, 50:70]
    rows = [
        ScanRows(name, "film", tr, torch.from_numpy(p), torch.from_numpy(b))
        for name, p, b in zip(("01", "02"), prediction, bold, strict=True)
    ]
    rows.insert(0, ScanRows("01", "short", tr[:5], *(torch.zeros(5, 5).add(1.0) for _ in range(2))))
    pearson = {
        name: np.array([scipy.stats.pearsonr(p[:, v], b[:, v])[0] for v in range(5)])
        for name, p, b in zip(("01", "02"), prediction, bold, strict=True)
    }
    pearson["01"][4] = np.nan  # not scored: shown for nothing, however it is predicted
    courses = unit_courses(rows, pearson)
    assert [each.which for each in courses] == ["best", "median", "worst"]
    scored = np.concatenate(list(pearson.values()))
    scored = np.sort(scored[np.isfinite(scored)])
    assert [each.pearson for each in courses] == [scored[-1], scored[4], scored[0]]
    for each in courses:
        of = ("01", "02").index(each.subject)
        assert each.stimulus == "film"  # not the subject's first scan: the one of most test TRs
        np.testing.assert_array_equal(each.tr_T, tr)
        for found, wanted in ((each.prediction_T, prediction), (each.bold_T, bold)):
            np.testing.assert_allclose(found, scipy.stats.zscore(wanted[of][:, each.unit]))
        np.testing.assert_allclose((each.prediction_T * each.bold_T).mean(), each.pearson)

"""Group scores: those of the subjects' mean, over the TRs that all have."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from giblet_ray.errors import InputError
from giblet_ray.evaluation.group import GROUP, group_rows
from giblet_ray.evaluation.scan_sums import ScanSums


def rows(n_subjects: int = 3) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    noise = torch.Generator().manual_seed(0)
    signal = torch.randn(200, 4, generator=noise)
    bold = [
        (10.0**s) * (signal + torch.randn(200, 4, generator=noise)) + 1000 * s
        for s in range(n_subjects)
    ]
    predicted = [signal + torch.randn(200, 4, generator=noise) for _ in range(n_subjects)]
    usable = [torch.ones(200, dtype=torch.bool) for _ in range(n_subjects)]
    return predicted, bold, usable


def test_group_score_is_that_of_the_mean_of_z_scored_subjects_on_common_trs() -> None:
    predicted, bold, usable = rows()
    usable[0][:11], usable[2][190:] = False, False
    p, t = group_rows(predicted, bold, usable)
    kept = slice(11, 190)
    expected_p, expected_t = (
        np.mean([scipy.stats.zscore(each[kept].double().numpy()) for each in of], axis=0)
        for of in (predicted, bold)
    )
    np.testing.assert_allclose(p, expected_p, atol=1e-12)
    np.testing.assert_allclose(t, expected_t, atol=1e-10)


def test_group_score_is_above_the_subjects_own() -> None:
    predicted, bold, usable = rows()
    sums = ScanSums([GROUP], 4)
    sums.add(0, *group_rows(predicted, bold, usable))
    own = ScanSums(["01", "02", "03"], 4)
    for scan, pair in enumerate(zip(predicted, bold, strict=True)):
        own.add(scan, *pair)
    group = sums.compute().summary()["pearson_mean"]
    assert group > own.compute().summary()["pearson_mean"] + 0.1


def test_unit_without_bold_in_one_subject_is_that_of_the_others() -> None:
    predicted, bold, usable = rows()
    bold[1][:, 2] = np.nan
    bold[2][:, 3] = 7.0
    p, t = group_rows(predicted, bold, usable)
    for unit, kept in ((2, [0, 2]), (3, [0, 1])):
        few = group_rows([predicted[s] for s in kept], [bold[s] for s in kept], usable[:2])
        torch.testing.assert_close(p[:, unit], few[0][:, unit])
        torch.testing.assert_close(t[:, unit], few[1][:, unit])


def test_what_has_no_mean_is_refused() -> None:
    predicted, bold, usable = rows()
    with pytest.raises(InputError, match="must be one"):
        group_rows(predicted, [*bold[:2], bold[2][:, :3]], usable)
    usable[0][1:] = False
    with pytest.raises(InputError, match="1 TRs are common to all 3 subjects"):
        group_rows(predicted, bold, usable)
    predicted[0][3, 1] = np.nan
    with pytest.raises(InputError, match="prediction has NaN"):
        group_rows(predicted, bold, rows()[2])

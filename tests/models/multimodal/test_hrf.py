"""What filters start as, and what they do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nilearn.glm.first_level import spm_hrf

from giblet_ray.models.multimodal.hrf import Responses, haemodynamic_response, starting_responses


def test_the_canonical_response_is_nilearns() -> None:
    theirs = spm_hrf(0.1, oversampling=10, time_length=32)
    ours = haemodynamic_response(np.linspace(0, 32, len(theirs)), 5.0)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9999


def test_several_responses_peak_between_4_and_6_and_a_half_seconds_and_one_is_canonical() -> None:
    fine = 0.01
    peaks = starting_responses(3, fine * np.arange(2000)).argmax(axis=1) * fine
    np.testing.assert_allclose(peaks, [4, 5.25, 6.5], atol=0.05)
    alone = starting_responses(1, 1.5 * np.arange(15))[0]
    canonical = haemodynamic_response(1.5 * np.arange(15), 5.0)
    np.testing.assert_allclose(alone, canonical / np.linalg.norm(canonical))


@pytest.mark.parametrize("n_filters", [1, 3])
def test_filters_are_sums_over_lags_of_each_number_apart(n_filters: int) -> None:
    torch.manual_seed(0)
    memory = Responses(4, n_filters, 1.5 * np.arange(6))
    torch.nn.init.normal_(memory.deviation_DKL)
    z_BTD = torch.randn(2, 5 + 3, 4)
    found = memory(z_BTD, torch.ones(2, 8, dtype=torch.bool)).unflatten(2, (4, n_filters))
    filters = memory.filters()
    for tr in range(3):
        for number in range(4):
            past = z_BTD[:, tr : tr + 6, number].flip(1)  # lag 0, 1, ... 5
            torch.testing.assert_close(found[:, tr, number], past @ filters[number].T)

"""Partition of variance: against himalaya, and sets whose overlap is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from himalaya.scoring import r2_score, r2_score_split
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation.partition import product_measure, subsets, unique_and_shared


@given(regions=st.lists(st.floats(-1, 1), min_size=7, max_size=7))
def test_shares_are_the_regions_that_the_scores_were_made_of(regions: list[float]) -> None:
    """A model of some parts explains every region that one of them is in."""
    sets = subsets(("a", "b", "c"))
    scores = {
        of: np.array([
            sum(size for region, size in zip(sets, regions, strict=True) if {*region} & {*of})
        ])
        for of in sets
    }  # fmt: skip
    shares = unique_and_shared(scores)
    assert list(shares) == sets
    for region, size in zip(sets, regions, strict=True):
        assert shares[region] == pytest.approx([size], abs=1e-9)
    assert sum(shares.values()) == pytest.approx(scores["a", "b", "c"])


def test_two_parts_are_unique_and_shared_as_everyone_defines_them() -> None:
    a, b, both = (np.array([x, np.nan]) for x in (0.2, 0.3, 0.4))
    shares = unique_and_shared({("b",): b, ("a",): a, ("b", "a"): both})
    assert shares["a",][0] == pytest.approx(0.1)
    assert shares["b",][0] == pytest.approx(0.2)
    assert shares["b", "a"][0] == pytest.approx(0.1)
    assert all(np.isnan(share[1]) for share in shares.values())


def test_sets_that_are_missing_are_named() -> None:
    scores = {("a",): np.zeros(3), ("b",): np.zeros(3), ("a", "b", "c"): np.zeros(3)}
    with pytest.raises(InputError, match="no scores of c; models of all 7 sets"):
        unique_and_shared(scores)
    with pytest.raises(InputError, match="no scores of any part"):
        unique_and_shared({})
    with pytest.raises(InputError, match="must be one"):
        unique_and_shared({("a",): np.zeros(3), ("b",): np.zeros(3), ("a", "b"): np.zeros(2)})


def parts_and_bold() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    parts = random.normal(size=(3, 120, 6)) + 0.2
    return parts, parts.sum(axis=0) + random.normal(size=(120, 6))


def test_product_measure_is_that_of_himalaya_and_adds_up() -> None:
    parts, bold = parts_and_bold()
    centred = bold - bold.mean(axis=0)
    found = product_measure(torch.from_numpy(parts), torch.from_numpy(bold + 1000))
    np.testing.assert_allclose(found, r2_score_split(centred, parts), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), r2_score(centred, parts.sum(0)), atol=1e-6)
    single = torch.from_numpy(parts).float(), torch.from_numpy(bold).float()
    np.testing.assert_allclose(product_measure(*single), found, atol=1e-5)


def test_product_measure_of_constant_bold_is_nan_and_bad_input_is_refused() -> None:
    parts, bold = map(torch.from_numpy, parts_and_bold())
    bold[:, 2], bold[4, 3] = 0.1, np.nan
    found = product_measure(parts, bold)
    assert np.isnan(found).all(axis=0).tolist() == [False, False, True, True, False, False]
    with pytest.raises(InputError, match="must be \\(parts, TRs, units\\)"):
        product_measure(parts[0], bold)
    parts[0, 1, 2] = np.inf
    with pytest.raises(InputError, match="prediction has NaN"):
        product_measure(parts, bold)


def test_subsets_are_all_there_are() -> None:
    found = subsets(("x", "y", "z", "w"))
    assert len(found) == len({frozenset(of) for of in found}) == 15
    assert [len(of) for of in found] == sorted(len(of) for of in found)
    assert list(itertools.combinations("xyzw", 2)) == [of for of in found if len(of) == 2]

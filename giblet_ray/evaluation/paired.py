"""Is one model better than another on the same held-out TRs? A test that scene-long errors allow.

The difference of two mean r has an influence series of its own, the difference of theirs, in which
what disturbs both models alike is gone. Predictions enter as z-scores: their scale and offset count
for nothing. The error of the difference is that of the sum of this series, from its slowest cosines
(see :mod:`.long_run`), however many scenes an error lasts.

Of several pairs the best looks better than it is. If no two models differed, a pair's difference
and its N cosines would be 1 + N numbers of one kind, and any rotation of them as likely as that
which was observed; the same rotation is taken of all pairs, which keeps their dependence::

    pair           a-b    a-c    b-c
    difference  |  d      d      d   |
    cosine 1    |  x      x      x   |   --rotated-->   largest |t| of any pair
    ...         |                    |
    cosine N    |  x      x      x   |

(rotation tests: Langsrud 2005, doi:10.1007/s11222-005-4789-5). The family-wise p of a pair is the
share of rotations whose largest |t| is at least the pair's own (Westfall & Young 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import MeanR
from giblet_ray.evaluation.long_run import n_cosines, slow_cosines, student_p, student_quantile

COVERAGE = 0.95
# Rounding must not make an equal statistic a smaller one.
_EQUAL = 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """The paired difference between models a and b, and how likely chance alone makes it as
    large."""

    difference: float
    low: float
    high: float
    """Mean r of a, minus that of b, and its interval of :data:`COVERAGE`."""
    p: float
    """Two-sided, of this pair alone."""
    family_p: float
    """Two-sided, of this pair as one of all that were tested with it; never below `p`."""
    null_P: Floats
    """(P,) float64, differences that chance makes, of this pair alone."""
    n_cosines: int
    """Degrees of freedom of the error."""
    n_trs: int
    """Film TRs, counted once for all subjects."""

    def __str__(self) -> str:
        interval = f"[{self.low:+.4f}, {self.high:+.4f}]"
        return (
            f"{self.difference:+.4f} {interval}, p = {self.p:.2g} (paired, two-sided, t of "
            f"{self.n_cosines} degrees of freedom)"
        )

    @property
    def smallest_p(self) -> float:
        """The smallest family-wise p that so many rotations can give."""
        return 1 / (1 + len(self.null_P))


def paired_tests(
    pairs: Sequence[tuple[MeanR, MeanR]], least_trs: int, n_rotations: int, seed: int = 0
) -> list[PairedTest]:
    """Test whether the two models of each pair differ in mean r.

    Parameters
    ----------
    pairs : sequence of (MeanR, MeanR)
        Models a and b of each pair that is shown, all on the same film TRs. See
        :func:`.influence.mean_r`.
    least_trs : int
        Errors are taken to last this long at least: the haemodynamic response.
    n_rotations : int
        P, random rotations.
    seed : int
        Of the rotations.

    Returns
    -------
    list of PairedTest
        In the order of the pairs.

    Raises
    ------
    InputError
        If there is no pair, or models were scored on different TRs.

    Notes
    -----
    Assumes that differences at TRs further apart than the slowest cosines resolve are independent,
    and that sums over many TRs are normal. All pairs take the number of cosines of the pair whose
    errors last longest. Costs P N K operations for K pairs.
    """
    if not pairs:
        raise InputError("paired tests: found no pair, one is needed")
    differences = [a - b for a, b in pairs]
    if len({each.places for each in differences}) > 1:
        raise InputError("paired tests: pairs were scored on different TRs, must be the same")
    n = min(n_cosines(each.stretches, least_trs) for each in differences)
    cosines_NK = np.stack([slow_cosines(each.series, n) for each in differences], axis=1)
    n = len(cosines_NK)
    value_K = np.array([each.value for each in differences])
    error_K = np.sqrt(np.mean(cosines_NK**2, axis=0))
    # Identical models have no difference, no error and nothing to rotate: t = 0.
    t_K = np.divide(value_K, error_K, out=np.zeros_like(value_K), where=error_K > 0)
    rows_NK = np.concatenate([value_K[None], cosines_NK])
    directions_PN = np.random.default_rng(seed).normal(size=(n_rotations, n + 1))
    directions_PN /= np.linalg.norm(directions_PN, axis=1, keepdims=True)
    first_PK = directions_PN @ rows_NK
    rest_PK = np.sqrt(np.maximum(np.sum(rows_NK**2, axis=0) - first_PK**2, 0) / n)
    t_PK = np.divide(first_PK, rest_PK, out=np.zeros_like(first_PK), where=rest_PK > 0)
    largest_P = np.abs(t_PK).max(axis=1)
    tests = []
    for k, (t, error) in enumerate(zip(t_K.tolist(), error_K.tolist(), strict=True)):
        p = student_p(t, n)
        as_large = int((largest_P >= abs(t) - _EQUAL).sum())
        half = error * student_quantile((1 + COVERAGE) / 2, n)
        tests.append(
            PairedTest(
                difference=float(value_K[k]),
                low=float(value_K[k]) - half,
                high=float(value_K[k]) + half,
                p=p,
                family_p=max(p, (1 + as_large) / (1 + n_rotations)),
                null_P=t_PK[:, k] * error,
                n_cosines=n,
                n_trs=len(differences[k].series),
            )
        )
    return tests

"""Is one model better than another on the same held-out TRs? A block-permutation test.

Neighbouring TRs resemble one another, in the film and in BOLD, so that TRs cannot be exchanged
one by one. If two models were equally good, it would not matter which of them made the predictions
of a whole block of TRs, as long as the haemodynamic response at least: that is what is permuted::

    block            0        1        2        3
    model a      |aaaaaaaa|aaaaaaaa|aaaaaaaa|aaaaaaaa|      observed
    model b      |bbbbbbbb|bbbbbbbb|bbbbbbbb|bbbbbbbb|

    model a'     |aaaaaaaa|bbbbbbbb|aaaaaaaa|bbbbbbbb|      swapped in blocks 1 and 3
    model b'     |bbbbbbbb|aaaaaaaa|bbbbbbbb|aaaaaaaa|

Pearson r depends on sums over rows alone, and those of a swapped model are sums over blocks. A
permutation therefore costs O(blocks x voxels), however many TRs there are, and no prediction has
to be kept.

Shapes: B blocks, N rows of a batch, V voxels, P permutations, S = 5 sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.evaluation.metrics import CONSTANT_PART

N_SUMS = 5
_P, _PP, _PT, _T, _TT = range(N_SUMS)
_CHUNK_BYTES = 64 * 2**20
# Rounding of sums in another order must not make an equal statistic a smaller one.
_EQUAL = 1e-10

Floats = NDArray[np.float64]


class BlockSums:
    """Sums over the rows of each block, for one model's predictions p and the targets t.

    ::

        sums = BlockSums(n_blocks, n_voxels)
        for block_N, prediction_NV, target_NV in batches:
            sums.add(block_N, prediction_NV, target_NV)

    Parameters
    ----------
    n_blocks, n_voxels : int
        B and V. Memory: 40 B * V bytes.

    Attributes
    ----------
    n_B : ndarray
        (B,) int64 rows of each block.
    sums_SBV : ndarray
        (5, B, V) float64: sums of p, p^2, p*t, t and t^2.
    """

    def __init__(self, n_blocks: int, n_voxels: int) -> None:
        self.n_B = np.zeros(n_blocks, np.int64)
        self.sums_SBV = np.zeros((N_SUMS, n_blocks, n_voxels))

    def add(self, block_N: NDArray[np.integer], prediction_NV: NDArray, target_NV: NDArray) -> None:
        """Add rows.

        Parameters
        ----------
        block_N : ndarray
            (N,) block of each row, in ascending order.
        prediction_NV, target_NV : ndarray
            (N, V), z-scored; of any floating-point type.

        Raises
        ------
        InputError
            For shapes that do not fit, blocks out of order or range, or a prediction that is not
            finite.
        """
        n_blocks, n_voxels = self.sums_SBV.shape[1:]
        shape = (len(block_N), n_voxels)
        if prediction_NV.shape != shape or target_NV.shape != shape:
            raise InputError(
                f"prediction and target: found shapes {prediction_NV.shape} and "
                f"{target_NV.shape}, must both be {shape}"
            )
        if not len(block_N):
            return
        if (np.diff(block_N) < 0).any() or block_N[0] < 0 or block_N[-1] >= n_blocks:
            raise InputError(f"block_N: must ascend within 0 to {n_blocks - 1}")
        blocks, first = np.unique(block_N, return_index=True)
        p, t = prediction_NV.astype(np.float64), target_NV.astype(np.float64)
        if not np.isfinite(p).all():
            raise InputError("prediction: found NaN or infinity, must be finite")
        self.n_B += np.bincount(block_N, minlength=n_blocks)
        for index, terms_NV in ((_P, p), (_PP, p * p), (_PT, p * t), (_T, t), (_TT, t * t)):
            self.sums_SBV[index, blocks] += np.add.reduceat(terms_NV, first, axis=0)


@dataclass(frozen=True)
class PairedTest:
    """The paired difference between models a and b, and how often chance makes it as large.

    Attributes
    ----------
    difference : float
        Mean over scored voxels of r_a - r_b.
    p : float
        Two-sided: the share of permutations, the observed one among them, whose absolute
        difference is at least the observed one.
    pearson_a_V, pearson_b_V : ndarray
        (V,) float64 Pearson r of each voxel over all rows; NaN where not scored.
    null_P : ndarray
        (P,) float64 differences under permutation.
    n_blocks, n_rows : int
        B, and rows in all of them.
    exact : bool
        `null_P` holds every way of swapping: one of each two that mirror one another.
    """

    difference: float
    p: float
    pearson_a_V: Floats
    pearson_b_V: Floats
    null_P: Floats
    n_blocks: int
    n_rows: int
    exact: bool

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many blocks and permutations can give."""
        return smallest_p(self.n_blocks, len(self.null_P), self.exact)

    @property
    def n_voxels(self) -> int:
        """Scored voxels."""
        return int(np.isfinite(self.pearson_a_V).sum())


def smallest_p(n_blocks: int, n_permutations: int, exact: bool) -> float:
    """Return the smallest p value that a test can reach.

    Swapping all blocks only turns the sign, so B blocks have 2^(B-1) different outcomes.
    """
    return 0.5 ** (n_blocks - 1) if exact else 1 / (1 + n_permutations)


def paired_test(
    a: BlockSums,
    b: BlockSums,
    valid_V: NDArray[np.bool_],
    n_permutations: int,
    seed: int,
    report: Callable[[float], None] = lambda done: None,
) -> PairedTest:
    """Test whether two models differ in mean r, by swapping their predictions within blocks.

    Parameters
    ----------
    a, b : BlockSums
        Of the same rows and targets.
    valid_V : ndarray
        (V,) bool, the voxels that count. Those of constant targets are left out besides; a
        constant prediction has r = 0.
    n_permutations : int
        Random permutations; where there are no more different ones than that, each of them is
        taken once instead.
    seed : int
        Of the random permutations.
    report : callable, optional
        Is told the share that is done.

    Raises
    ------
    InputError
        Where the rows of the two differ, there are fewer than two, a valid voxel's BOLD is not
        finite, or no voxel can be scored.

    Notes
    -----
    The mean over voxels is taken within each permutation, so that voxels, however they depend on
    one another, are never treated as independent observations: blocks are. Random permutations
    give p = (1 + k) / (1 + P), k of P at least as extreme (Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585); all of them give k / P, the observed one being in k.
    """
    same_rows = a.sums_SBV.shape == b.sums_SBV.shape and np.array_equal(a.n_B, b.n_B)
    if not same_rows or not np.allclose(a.sums_SBV[_T:], b.sums_SBV[_T:], equal_nan=True):
        raise InputError("block sums: models a and b were summed over different rows or targets")
    n_blocks, n_rows = len(a.n_B), int(a.n_B.sum())
    if n_rows < 2:
        raise InputError(f"held-out rows: found {n_rows}, correlation needs two or more")
    t_V, tt_V = np.where(valid_V, a.sums_SBV[_T:].sum(axis=1), 0.0)
    if not np.isfinite(tt_V).all():
        raise InputError("BOLD: found NaN or infinity in a valid voxel, must be finite")
    squares_V = tt_V - t_V * t_V / n_rows
    scored_V = valid_V & (squares_V > CONSTANT_PART * tt_V)
    if not scored_V.any():
        raise InputError(f"held-out BOLD: no valid voxel varies over {n_rows} rows, one must")
    t_V, squares_V = t_V[scored_V], squares_V[scored_V]
    a_SBV, b_SBV = (sums.sums_SBV[:_T][:, :, scored_V] for sums in (a, b))
    total_a_SV, total_b_SV = a_SBV.sum(axis=1), b_SBV.sum(axis=1)

    def pearson(sums_SPV: Floats) -> Floats:
        return _pearson(sums_SPV, t_V, squares_V, n_rows)

    r_a, r_b = pearson(total_a_SV), pearson(total_b_SV)
    difference = float((r_a - r_b).mean())
    exact = n_blocks <= 1 or 2 ** (n_blocks - 1) <= n_permutations
    n = 2 ** (n_blocks - 1) if exact else n_permutations
    chunk = max(1, _CHUNK_BYTES // (8 * a_SBV[:, 0].size))
    gain_BSV = np.swapaxes(b_SBV - a_SBV, 0, 1).reshape(n_blocks, -1)
    null: list[Floats] = []
    for swapped_PB in _swaps(n, n_blocks, exact, seed, chunk):
        moved_SPV = (swapped_PB @ gain_BSV).reshape(len(swapped_PB), *total_a_SV.shape)
        moved_SPV = np.swapaxes(moved_SPV, 0, 1)
        r_a_PV = pearson(total_a_SV[:, None] + moved_SPV)
        r_b_PV = pearson(total_b_SV[:, None] - moved_SPV)
        null.append((r_a_PV - r_b_PV).mean(axis=1))
        report(sum(map(len, null)) / n)
    null_P = np.concatenate(null)
    extreme = int((np.abs(null_P) >= abs(difference) - _EQUAL).sum())
    return PairedTest(
        difference=difference,
        p=extreme / n if exact else (1 + extreme) / (1 + n),
        pearson_a_V=_spread(r_a, scored_V),
        pearson_b_V=_spread(r_b, scored_V),
        null_P=null_P,
        n_blocks=n_blocks,
        n_rows=n_rows,
        exact=exact,
    )


def _pearson(sums_SPV: Floats, t_V: Floats, squares_V: Floats, n_rows: int) -> Floats:
    """Return r from the sums of p, p^2 and p*t over all rows, (3, ..., V) to (..., V)."""
    p, pp, pt = sums_SPV
    variation = pp - p * p / n_rows
    varies = variation > CONSTANT_PART * pp
    scale = np.sqrt(np.where(varies, variation, 1.0) * squares_V)
    return np.where(varies, np.clip((pt - p * t_V / n_rows) / scale, -1.0, 1.0), 0.0)


def _swaps(n: int, n_blocks: int, exact: bool, seed: int, chunk: int) -> Iterator[Floats]:
    """Yield which blocks are swapped, (P, B) of 0 and 1, `n` rows in all."""
    random = np.random.default_rng(seed)
    for start in range(0, n, chunk):
        rows = np.arange(start, min(start + chunk, n))
        if exact:  # the bits of the row's number; the last block stays
            yield (rows[:, None] >> np.arange(n_blocks) & 1).astype(np.float64)
        else:
            yield random.integers(0, 2, (len(rows), n_blocks)).astype(np.float64)


def _spread(scores: Floats, scored_V: NDArray[np.bool_]) -> Floats:
    all_V = np.full(len(scored_V), np.nan)
    all_V[scored_V] = scores
    return all_V

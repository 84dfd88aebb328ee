"""What makes subjects and scans differ: tuning of their own, an interaction, and drift.

The signal of one subject's voxel is

    signal[t] = features[t] @ weights + product[t] * interaction   (less its mean; of variance 1)

with the z-scored features convolved with the haemodynamic response, and, likewise, the product of
the film's z-scored luminance and sound level, which no linear model of either knows.

A high-pass takes a part of the signal and of the noise. Where scans are to be high-passed, the
noise is drawn of such a size that the ceiling holds for what is left, in every subject:

    ceiling[v] = sqrt(var(H signal) / (var(H signal) + var(H noise)))      H: high-pass

T: TRs, F: features, V: voxels, C: slow cosines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from giblet_ray.demo.measure import FEATURES
from giblet_ray.demo.scans import (
    NOISE_AUTOCORRELATION,
    Response,
    convolve_features,
    standardise,
)
from giblet_ray.spaces.cleaning import drift_cosines

PRODUCT_OF = ("luminance", "sound_level")
"""The features of picture and sound that interact."""

_SHORTEST_WAVE_SECONDS = 200.0
_N_WAVES = 4
"""Of a scan's drift, each of a period of its own."""
_LAGS = 50
"""TRs after which nothing is left of the noise's autocorrelation."""


@dataclass(frozen=True)
class Tuning:
    """What one subject's voxels respond to.

    Attributes
    ----------
    response : Response
        Its signal is the subject's.
    weights : numpy.ndarray, float64, (F, V)
        Of the convolved features.
    interaction : numpy.ndarray, float64, (V,)
        Of the convolved product.
    """

    response: Response
    weights: np.ndarray
    interaction: np.ndarray


def convolve_product(features_TF: np.ndarray, tr_seconds: float) -> np.ndarray:
    """Convolve the z-scored product of z-scored luminance and sound level; of variance 1, (T,)."""
    picture, sound = (FEATURES.index(name) for name in PRODUCT_OF)
    scored_TF = standardise(features_TF)
    product_T1 = (scored_TF[:, picture] * scored_TF[:, sound])[:, None]
    return standardise(convolve_features(product_T1, tr_seconds))[:, 0]


def tune(
    shared: Response,
    features_TF: np.ndarray,
    product_T: np.ndarray,
    weights_FV: np.ndarray,
    own_weights_FV: np.ndarray,
    own_tuning: float,
    interaction_V: np.ndarray,
) -> Tuning:
    """Mix what all subjects respond to, what this one does, and the interaction.

    Parameters
    ----------
    shared : Response
        Of all subjects; a voxel without signal in it gets none.
    features_TF, product_T : numpy.ndarray
        Convolved.
    weights_FV, own_weights_FV : numpy.ndarray, (F, V)
        All subjects' weights, of any scale, and the subject's own.
    own_tuning : float
        Share of the variance that the own weights bring, in [0, 1].
    interaction_V : numpy.ndarray, (V,)
        Signed square root of the share of variance that the product brings.
    """
    weights_FV = _to_unit_variance(features_TF, weights_FV)
    interaction_V = np.where((shared.ceiling > 0) & product_T.any(), interaction_V, 0.0)
    if own_tuning == 0 and not interaction_V.any():
        return Tuning(shared, weights_FV, interaction_V)
    own_weights_FV = _to_unit_variance(features_TF, own_weights_FV)
    weights_FV = math.sqrt(1 - own_tuning) * weights_FV + math.sqrt(own_tuning) * own_weights_FV
    weights_FV = _to_unit_variance(features_TF, weights_FV) * np.sqrt(1 - interaction_V**2)
    signal_TV = features_TF @ weights_FV + product_T[:, None] * interaction_V
    sd_V = np.where(shared.ceiling > 0, signal_TV.std(axis=0), 1.0)
    response = replace(shared, signal=standardise(signal_TV))
    return Tuning(response, weights_FV / sd_V, interaction_V / sd_V)


def _to_unit_variance(features_TF: np.ndarray, weights_FV: np.ndarray) -> np.ndarray:
    """Scale weights so that each voxel's signal has variance 1; 0 where there is none."""
    sd_V = (features_TF @ weights_FV).std(axis=0)
    has_signal_V = sd_V > 1e-9
    return np.where(has_signal_V, weights_FV / np.where(has_signal_V, sd_V, 1.0), 0.0)


def slow_basis(n_trs: int, tr_seconds: float, high_pass_seconds: float) -> np.ndarray:
    """Return what a high-pass removes, the mean among it, as orthonormal columns, (T, 1 + C)."""
    slow_TC = drift_cosines(n_trs, tr_seconds, high_pass_seconds)
    return np.column_stack([np.full(n_trs, 1 / math.sqrt(n_trs)), slow_TC])


def without(basis_TC: np.ndarray, values_TV: np.ndarray) -> np.ndarray:
    """Project orthonormal columns out."""
    return values_TV - basis_TC @ (basis_TC.T @ values_TV)


def for_high_passed(response: Response, basis_TC: np.ndarray) -> Response:
    """Size the noise so that the ceiling holds for scans without these columns."""
    n_trs = len(basis_TC)
    # Expected variance of noise of variance 1: that of all TRs less that along each column.
    lost = (basis_TC**2).sum()
    for lag in range(1, min(_LAGS, n_trs)):
        lost += 2 * NOISE_AUTOCORRELATION**lag * (basis_TC[lag:] * basis_TC[:-lag]).sum()
    noise_variance = 1 - lost / n_trs
    signal_variance_V = without(basis_TC, response.signal).var(axis=0)
    has_signal_V = (response.ceiling > 0) & (signal_variance_V > 0)
    odds_V = np.where(has_signal_V, response.ceiling, 1.0) ** -2 - 1
    noise_sd_V = np.sqrt(odds_V * signal_variance_V / noise_variance)
    return replace(response, noise_sd=np.where(has_signal_V, noise_sd_V, response.noise_sd))


def draw_drift(
    n_trs: int, tr_seconds: float, n_voxels: int, sd: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a scan's drift: the same few slow waves in all voxels, each in a mixture of its own.

    Periods lie between 200 s and four times the scan, and fit it in no whole number, so that a
    high-pass removes most of it and not all.

    Parameters
    ----------
    n_trs, tr_seconds, n_voxels
        Of the scan.
    sd : float
        SD of each voxel's drift, beside the signal's.
    rng : numpy.random.Generator
        The scan's own.

    Returns
    -------
    numpy.ndarray, float64, (T, V)
    """
    longest_seconds = max(4 * n_trs * tr_seconds, 2 * _SHORTEST_WAVE_SECONDS)
    shortest, longest = math.log(_SHORTEST_WAVE_SECONDS), math.log(longest_seconds)
    periods_W = np.exp(rng.uniform(shortest, longest, size=_N_WAVES))
    phases_W = rng.uniform(0, 2 * np.pi, size=_N_WAVES)
    seconds_T1 = np.arange(n_trs)[:, None] * tr_seconds
    waves_TW = standardise(np.sin(2 * np.pi * seconds_T1 / periods_W + phases_W))
    return sd * standardise(waves_TW @ rng.standard_normal((_N_WAVES, n_voxels)))

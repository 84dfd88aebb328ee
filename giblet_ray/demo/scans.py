"""Simulate scans of people who watch a film whose features are known.

The BOLD of voxel v at TR t is

    bold[t, v] = baseline[v] * (1 + 0.01 * (signal[t, v] + noise[t, v] + drift[t, v]))

signal : the features, z-scored, convolved with the haemodynamic response, mixed with the voxel's
    weights, scaled to variance 1; a subject's own may differ from it (subjects.py).
noise : a first-order autoregressive process of each scan's own, of variance
    1 / ceiling[v]**2 - 1.
drift : slow, and of each scan's own (subjects.py).

No model of the film can correlate with such a voxel better than the signal does, which is, but for
the drift,

    ceiling[v] = sqrt(var(signal) / (var(signal) + var(noise)))

T: TRs, F: features, V: voxels (in the C order of the mask), X, Y, Z: the scanner's grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nilearn.glm.first_level import compute_regressor
from scipy.signal import lfilter

from giblet_ray.demo.measure import FEATURES, MODALITIES

HRF_MODEL = "spm"
NOISE_AUTOCORRELATION = 0.3
VOXEL_MILLIMETRES = 3.0

_CEILING_SPREAD = 0.15
_WEIGHT_JITTER = 0.15
# What a cluster of voxels responds to: one modality in most, two in some.
_ONE, _TWO = (
    (("video",), ("audio",), ("text",)),
    (("video", "audio"), ("audio", "text"), ("video", "text")),
)
_CLUSTERS = (*_ONE * 3, *_TWO)


@dataclass(frozen=True)
class Response:
    """What voxels do, but for what a scan adds.

    Attributes
    ----------
    signal : numpy.ndarray, float64, (T, V)
        Of mean 0 and variance 1, or all 0.
    ceiling : numpy.ndarray, float64, (V,)
        Noise ceiling; 0 for a voxel without signal.
    noise_sd : numpy.ndarray, float64, (V,)
        SD of the noise, beside the signal's.
    mask : numpy.ndarray, bool, (X, Y, Z)
        Where the V voxels lie.
    """

    signal: np.ndarray
    ceiling: np.ndarray
    noise_sd: np.ndarray
    mask: np.ndarray


def draw_weights(
    n_voxels: int, feature_weights: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Draw what each voxel responds to.

    Voxels lie in twelve clusters of equal size, each of which prefers a mixture of the features of
    one modality (nine clusters) or of two (three); each voxel varies its cluster's weights.

    Parameters
    ----------
    n_voxels : int
        Voxels in the mask.
    feature_weights : mapping of str to float
        By what a feature's share in every voxel is multiplied; 1 where it is not named.
    rng : numpy.random.Generator
        Where the weights are drawn from.

    Returns
    -------
    numpy.ndarray, float64, (F, V)
        Of the features in the order of ``FEATURES``, convolved.
    """
    weights_FC = np.stack([_cluster_weights(preferred, rng) for preferred in _CLUSTERS], axis=1)
    weights_FV = weights_FC[:, _clusters(n_voxels)]
    weights_FV = weights_FV + _WEIGHT_JITTER * rng.standard_normal(weights_FV.shape)
    weights_FV *= np.array([feature_weights.get(name, 1.0) for name in FEATURES])[:, None]
    return weights_FV


def draw_interaction(n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Draw whether a product of sound and picture raises a voxel or lowers it: -1 or 1, (V,).

    All voxels of a cluster follow it alike; those of the clusters of words alone do not (0).
    """
    signs_C = rng.choice([-1.0, 1.0], len(_CLUSTERS))
    signs_C *= [preferred != ("text",) for preferred in _CLUSTERS]
    return signs_C[_clusters(n_voxels)]


def respond(signal_TV: np.ndarray, ceiling: float, rng: np.random.Generator) -> Response:
    """Lay out voxels that follow these signals, and spread ceilings over those that have one.

    Parameters
    ----------
    signal_TV : numpy.ndarray, (T, V)
        Of any scale; constant for a voxel without signal, whose ceiling is 0.
    ceiling : float
        Mean noise ceiling over the voxels that have a signal, in (0, 1).
    rng : numpy.random.Generator
        Where ceilings are drawn from.
    """
    signal_TV = standardise(signal_TV)
    n_voxels = signal_TV.shape[1]
    spread = min(_CEILING_SPREAD, ceiling / 2, (1 - ceiling) / 2)
    # Evenly spaced and then shuffled, so that their mean is exactly the ceiling asked for.
    ceiling_V = rng.permutation(ceiling + spread * np.linspace(-1, 1, n_voxels))
    has_signal_V = signal_TV.any(axis=0)
    noise_sd_V = np.ones(n_voxels)
    noise_sd_V[has_signal_V] = np.sqrt(ceiling_V[has_signal_V] ** -2 - 1)
    ceiling_V = np.where(has_signal_V, ceiling_V, 0.0)
    return Response(signal_TV, ceiling_V, noise_sd_V, _ellipsoid(n_voxels))


def convolve_features(features_TF: np.ndarray, tr_seconds: float) -> np.ndarray:
    """Z-score features and convolve them with nilearn's haemodynamic response.

    Each feature is held for its TR, and the response is read in the middle of each TR. Before the
    film all features are at their mean.

    Parameters
    ----------
    features_TF : numpy.ndarray, (T, F)
        One row per TR.
    tr_seconds : float
        Length of a TR.

    Returns
    -------
    numpy.ndarray, float64, (T, F)
    """
    n_trs = len(features_TF)
    onsets = np.arange(n_trs) * tr_seconds
    durations = np.full(n_trs, tr_seconds)
    columns = [
        compute_regressor(
            np.stack([onsets, durations, feature_T]), HRF_MODEL, onsets + tr_seconds / 2
        )[0][:, 0]
        for feature_T in standardise(features_TF).T
    ]
    return np.stack(columns, axis=1)


def simulate_subject(
    response: Response, rng: np.random.Generator, drift_TV: np.ndarray | None = None
) -> np.ndarray:
    """Add one scan's noise, drift and baseline to a subject's signal.

    Parameters
    ----------
    response : Response
        Of T TRs and V voxels.
    rng : numpy.random.Generator
        The scan's own.
    drift_TV : numpy.ndarray, (T, V), optional
        In SDs of the signal (default: none).

    Returns
    -------
    numpy.ndarray, float32, (T, V)
        BOLD around a baseline of about 1,000, changing by a few per cent.
    """
    n_trs, n_voxels = response.signal.shape
    white_TV = rng.standard_normal((n_trs, n_voxels))
    # Variance 1 from the first TR on: the process is started in its stationary state.
    white_TV[1:] *= np.sqrt(1 - NOISE_AUTOCORRELATION**2)
    noise_TV = lfilter([1.0], [1.0, -NOISE_AUTOCORRELATION], white_TV, axis=0)
    baseline_V = rng.uniform(900, 1_200, size=n_voxels)
    changes_TV = response.signal + response.noise_sd * noise_TV
    if drift_TV is not None:
        changes_TV += drift_TV
    bold_TV = baseline_V * (1 + 0.01 * changes_TV)
    return bold_TV.astype(np.float32)


def write_scan(path: Path, bold_TV: np.ndarray, mask_XYZ: np.ndarray, tr_seconds: float) -> None:
    """Write BOLD as 4-D NIfTI (X, Y, Z, T), float32, zero outside the mask."""
    volume_XYZT = np.zeros((*mask_XYZ.shape, len(bold_TV)), dtype=np.float32)
    volume_XYZT[mask_XYZ] = bold_TV.T
    image = nibabel.Nifti1Image(volume_XYZT, _affine(mask_XYZ.shape))
    image.header.set_zooms((*[VOXEL_MILLIMETRES] * 3, tr_seconds))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def write_mask(path: Path, mask_XYZ: np.ndarray) -> None:
    """Write the mask as 3-D NIfTI (X, Y, Z), uint8."""
    image = nibabel.Nifti1Image(mask_XYZ.astype(np.uint8), _affine(mask_XYZ.shape))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def correlate(a_TV: np.ndarray, b_TV: np.ndarray) -> np.ndarray:
    """Pearson r over TRs within each voxel, (V,); 0 where either is constant."""
    return np.mean(standardise(a_TV) * standardise(b_TV), axis=0)


def standardise(values_TV: np.ndarray) -> np.ndarray:
    """Z-score each column over TRs; a column that is constant but for rounding becomes 0."""
    values_TV = values_TV.astype(np.float64)
    centred_TV = values_TV - values_TV.mean(axis=0)
    sd_V = centred_TV.std(axis=0)
    varies_V = sd_V > 1e-9 * np.abs(values_TV).max(axis=0)
    return np.where(varies_V, centred_TV / np.where(varies_V, sd_V, 1.0), 0.0)


def _cluster_weights(preferred: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """A random direction among the preferred modalities' features, (F,), of length 1."""
    wanted = {name for modality in preferred for name in MODALITIES[modality]}
    weights_F = rng.standard_normal(len(FEATURES)) * [name in wanted for name in FEATURES]
    return weights_F / np.linalg.norm(weights_F)


def _ellipsoid(n_voxels: int) -> np.ndarray:
    """The n voxels nearest to the middle of a grid, longer than wide than high: bool (X, Y, Z)."""
    radii = np.array([1.0, 1.2, 0.8]) * np.cbrt(n_voxels * 3 / (4 * np.pi))
    shape = 2 * np.ceil(radii).astype(int) + 3
    from_middle = np.indices(shape).transpose(1, 2, 3, 0) - (shape - 1) / 2
    distance_XYZ = np.linalg.norm(from_middle / radii, axis=-1)
    nearest = np.argsort(distance_XYZ, axis=None, kind="stable")[:n_voxels]
    mask_XYZ = np.zeros(shape, dtype=bool)
    mask_XYZ.flat[nearest] = True
    return mask_XYZ


def _clusters(n_voxels: int) -> np.ndarray:
    """Cut the mask into clusters, wedges around the vertical axis of equal size: int (V,)."""
    mask_XYZ = _ellipsoid(n_voxels)
    from_middle_V3 = np.argwhere(mask_XYZ) - (np.array(mask_XYZ.shape) - 1) / 2
    angle_V = np.arctan2(from_middle_V3[:, 1], from_middle_V3[:, 0])
    cluster_V = np.zeros(n_voxels, dtype=int)
    order = np.arange(n_voxels) * len(_CLUSTERS) // n_voxels
    cluster_V[np.argsort(angle_V, kind="stable")] = order
    return cluster_V


def _affine(shape: tuple[int, ...]) -> np.ndarray:
    """Voxel indices to millimetres from the middle of the grid, (4, 4)."""
    affine = np.diag([VOXEL_MILLIMETRES] * 3 + [1.0])
    affine[:3, 3] = -VOXEL_MILLIMETRES * (np.array(shape) - 1) / 2
    return affine

"""Simulate the demo's scans in a folder, and write the truth beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from giblet_ray.demo import scans, subjects
from giblet_ray.demo.measure import FEATURES
from giblet_ray.demo.settings import DemoSettings

MASK = "mask.nii.gz"
CEILING, CEILING_VOXELS = "noise_ceiling.json", "noise_ceiling.npy"
TRUTH, TRUTH_IN_WORDS = "truth.npz", "truth.json"

_WHAT = {
    "features": "(T, F) z-scored features convolved with the haemodynamic response",
    "product": "(T,) the same of z-scored luminance times sound level, of variance 1",
    "weights/SUBJECT": "(F, V) of the features",
    "interaction/SUBJECT": "(V,) of the product",
    "signal/SUBJECT": "(T, V) features @ weights + product * interaction, less its mean",
    "noise_sd/SUBJECT": "(V,) SD of the noise, beside the signal's 1",
    "drift/SCAN": "(T, V) drift, beside the signal's SD of 1",
}


def scan_name(subject: int, repeat: int, n_repeats: int) -> str:
    """Return what a scan's file is called before its ending, both counted from 1."""
    session = f"_ses-{repeat}" if n_repeats > 1 else ""
    return f"sub-{subject:02d}{session}"


def scan_names(settings: DemoSettings) -> list[str]:
    """Return the :func:`scan_name` of every scan."""
    return [
        scan_name(subject, repeat, settings.n_repeats)
        for subject in range(1, settings.n_subjects + 1)
        for repeat in range(1, settings.n_repeats + 1)
    ]


def write_scans(
    folder: Path,
    features_TF: np.ndarray,
    names: Mapping[str, Path],
    settings: DemoSettings,
    report: Callable[[float], None],
) -> None:
    """Write scans, mask, ceiling and truth.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    features_TF : numpy.ndarray, (T, F)
        The film's, in the order of ``FEATURES``.
    names : mapping of str to pathlib.Path
        By :func:`scan_name`, the file of each scan (its name is used).
    settings : DemoSettings
        What is simulated.
    report : callable
        Called with the fraction that is done.
    """
    tr_seconds, seed = settings.tr_seconds, settings.seed
    n_subjects, n_repeats, n_voxels = settings.n_subjects, settings.n_repeats, settings.n_voxels
    weights, high_pass_seconds = settings.feature_weights, settings.high_pass_seconds
    n_trs = len(features_TF)
    # Streams of random numbers apart from the film's own, and from one another.
    rng_response, *rng_first = np.random.default_rng([seed, 1]).spawn(1 + n_subjects)
    rng_interaction, *rng_subjects = np.random.default_rng([seed, 3]).spawn(1 + n_subjects)
    convolved_TF = scans.convolve_features(features_TF, tr_seconds)
    product_T = subjects.convolve_product(features_TF, tr_seconds)
    weights_FV = scans.draw_weights(n_voxels, weights, rng_response)
    shared = scans.respond(convolved_TF @ weights_FV, settings.ceiling, rng_response)
    interaction_V = np.sqrt(settings.interaction) * scans.draw_interaction(
        n_voxels, rng_interaction
    )
    scans.write_mask(folder / MASK, shared.mask)
    basis_TC = None
    if high_pass_seconds is not None:
        basis_TC = subjects.slow_basis(n_trs, tr_seconds, high_pass_seconds)
    truth: dict[str, Any] = {"features": convolved_TF, "product": product_T}
    reached: dict[str, float] = {}
    from_repeats: dict[str, float] = {}
    for number in range(1, n_subjects + 1):
        rng_own, rng_drift, *rng_again = rng_subjects[number - 1].spawn(1 + n_repeats)
        own_weights_FV = scans.draw_weights(n_voxels, weights, rng_own)
        own = own_weights_FV, settings.own_tuning, interaction_V
        tuning = subjects.tune(shared, convolved_TF, product_T, weights_FV, *own)
        response = tuning.response
        if basis_TC is not None:
            response = subjects.for_high_passed(response, basis_TC)
        subject = f"sub-{number:02d}"
        truth[f"weights/{subject}"] = tuning.weights
        truth[f"interaction/{subject}"] = tuning.interaction
        truth[f"signal/{subject}"] = response.signal
        truth[f"noise_sd/{subject}"] = response.noise_sd
        repeats = []
        for repeat, rng_scan in enumerate([rng_first[number - 1], *rng_again], 1):
            name = scan_name(number, repeat, n_repeats)
            drift_TV = None
            if settings.drift:
                slow = settings.drift, rng_drift
                drift_TV = subjects.draw_drift(n_trs, tr_seconds, n_voxels, *slow)
                truth[f"drift/{name}"] = drift_TV
            bold_TV = scans.simulate_subject(response, rng_scan, drift_TV)
            scans.write_scan(folder / names[name].name, bold_TV, response.mask, tr_seconds)
            seen_TV, signal_TV = bold_TV, response.signal
            if basis_TC is not None:
                seen_TV = subjects.without(basis_TC, bold_TV.astype(np.float64))
                signal_TV = subjects.without(basis_TC, signal_TV)
            reached[name] = float(scans.correlate(seen_TV, signal_TV).mean())
            repeats.append(seen_TV)
            report(len(reached) / (n_subjects * n_repeats))
        if n_repeats > 1:
            from_repeats[subject] = _ceiling_from(repeats)
    ceiling_V = shared.ceiling
    if basis_TC is None:  # the variance of drift is added to that of the noise
        ceiling_V = ceiling_V / np.sqrt(1 + (settings.drift * ceiling_V) ** 2)
    _write_ceiling(folder, ceiling_V, reached, from_repeats, high_pass_seconds)
    arrays: Any = {name: np.asarray(values, np.float32) for name, values in truth.items()}
    np.savez(folder / TRUTH, **arrays)
    words = {
        "bold": "baseline * (1 + 0.01 * (signal + noise_sd * noise + drift))",
        "arrays": _WHAT,
        "features": list(FEATURES),
        "product_of": list(subjects.PRODUCT_OF),
        "hrf_model": scans.HRF_MODEL,
        "noise_autocorrelation": scans.NOISE_AUTOCORRELATION,
    }
    (folder / TRUTH_IN_WORDS).write_text(json.dumps(words, indent=2))


def _ceiling_from(repeats: Sequence[np.ndarray]) -> float:
    """Estimate a subject's mean ceiling as from real scans: the root of what repeats share."""
    pairs = [scans.correlate(one, other) for one, other in combinations(repeats, 2)]
    return float(np.sqrt(np.maximum(np.mean(pairs, axis=0), 0)).mean())


def _write_ceiling(
    folder: Path,
    ceiling_V: np.ndarray,
    reached: Mapping[str, float],
    from_repeats: Mapping[str, float],
    high_pass_seconds: float | None,
) -> None:
    """Write the noise ceiling: of each voxel as .npy, and what sums it up as .json."""
    np.save(folder / CEILING_VOXELS, ceiling_V.astype(np.float32))
    scan = "a scan, whose drift is noise"
    if high_pass_seconds is not None:
        scan = f"a scan after a high-pass of {high_pass_seconds:g} s, without what is left of drift"
    summary = {
        "what": "best Pearson r over TRs that any model of the film can expect",
        "of": scan,
        "mean": float(ceiling_V.mean()),
        "median": float(np.median(ceiling_V)),
        "mean_r_of_signal_and_scan": reached,
        "mean_estimated_from_repeats": from_repeats,
        "voxels_without_signal": int((ceiling_V == 0).sum()),
        "per_voxel": CEILING_VOXELS,
    }
    (folder / CEILING).write_text(json.dumps(summary, indent=2))

"""Make the demo's files in a folder, once."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from giblet_ray.demo.film import make_film
from giblet_ray.demo.measure import FEATURES, measure_features
from giblet_ray.demo.simulate import (
    CEILING,
    CEILING_VOXELS,
    MASK,
    TRUTH,
    TRUTH_IN_WORDS,
    scan_name,
    write_scans,
)
from giblet_ray.errors import InputError

# Raised whenever the same settings give other files than before, so that old ones are remade.
RECIPE = 1

_FILM, _SUBTITLES = "demo-film.mp4", "demo-film.srt"
_FEATURES = "features.tsv"
_RECORD = "demo.json"


@dataclass(frozen=True)
class DemoFiles:
    """Where the demo's files lie.

    Attributes
    ----------
    film, subtitles : pathlib.Path
        The .mp4 and its .srt.
    scans : tuple of pathlib.Path
        4-D .nii.gz, named ``sub-01_demo-film_bold.nii.gz``; with repeats ``sub-01_ses-1_...``.
    scan_pattern : str
        Where their names tell what, as ``--scan.pattern`` takes it.
    mask : pathlib.Path
        3-D .nii.gz on the scans' grid.
    ceiling : pathlib.Path
        .json with the mean noise ceiling, and what each scan reaches with the noise it drew.
    ceiling_voxels : pathlib.Path
        .npy with the noise ceiling of each voxel, float32 (voxels,), in the mask's C order.
    features : pathlib.Path
        .tsv of the film's measured features, one row per TR.
    truth, truth_in_words : pathlib.Path
        .npz of what the scans were made of, and .json that says what each array in it is.
    tr_seconds : float
        Length of a TR.
    """

    film: Path
    subtitles: Path
    scans: tuple[Path, ...]
    scan_pattern: str
    mask: Path
    ceiling: Path
    ceiling_voxels: Path
    features: Path
    truth: Path
    truth_in_words: Path
    tr_seconds: float

    def ceiling_in_words(self) -> str:
        """Say the mean noise ceiling, and what the repeats, as real ones would, say of it."""
        told = json.loads(self.ceiling.read_text())
        estimates = list(told["mean_estimated_from_repeats"].values())
        known = f"{told['mean']:.4f}, known"
        return f"{known}; {np.mean(estimates):.4f} by the repeats" if estimates else known


def make_demo(
    folder: str | Path,
    *,
    n_trs: int = 320,
    tr_seconds: float = 1.5,
    n_subjects: int = 2,
    n_voxels: int = 400,
    ceiling: float = 0.65,
    feature_weights: Mapping[str, float] | None = None,
    fast_features: float = 0.0,
    own_tuning: float = 0.0,
    interaction: float = 0.0,
    drift: float = 0.0,
    n_repeats: int = 1,
    high_pass_seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> DemoFiles:
    """Make the demo's film, subtitles, scans, mask, noise ceiling and truth; or find them made.

    Files appear in the folder when all of them are complete. A demo of the same settings whose
    files are intact is left as it is; files of another demo there are replaced, and no others
    touched.

    Parameters
    ----------
    folder : str or pathlib.Path
        Where to; made if missing.
    n_trs : int
        Length of the film and of each scan, at least 2.
    tr_seconds : float
        Length of a TR, at least 0.5.
    n_subjects : int
        Subjects to simulate. They share the signal, but for own_tuning, and differ in noise,
        drift and baseline.
    n_voxels : int
        Voxels in the mask.
    ceiling : float
        Mean noise ceiling (Pearson r) over voxels, in (0, 1).
    feature_weights : mapping of str to float, optional
        How much of the signal each feature carries, beside 1 for those not named; at least 0, and
        not 0 for all. The features are ``giblet_ray.demo.measure.FEATURES``.
    fast_features : float
        How much light, loudness and speech change within scenes, in [0, 1].
    own_tuning : float
        Share of each subject's signal that is of tuning of its own, in [0, 1].
    interaction : float
        Share of the signal's variance, in [0, 1], that follows luminance times sound level, in all
        voxels but those of words alone.
    drift : float
        SD of each scan's drift, beside the signal's.
    n_repeats : int
        Times that each subject sees the film.
    high_pass_seconds : float, optional
        The ceiling is that of scans from which slower cosines have been removed (default: of scans
        as they are).
    seed : int
        What everything random is drawn from.
    progress : callable, optional
        Called with a stage ("film", "features", "scans") and the fraction of it that is done.

    Returns
    -------
    DemoFiles

    Raises
    ------
    InputError
        A setting out of its range, or an unknown feature.
    """
    settings = {
        "recipe": RECIPE,
        "n_trs": n_trs,
        "tr_seconds": tr_seconds,
        "n_subjects": n_subjects,
        "n_voxels": n_voxels,
        "ceiling": ceiling,
        "feature_weights": dict(feature_weights or {}),
        "fast_features": fast_features,
        "own_tuning": own_tuning,
        "interaction": interaction,
        "drift": drift,
        "n_repeats": n_repeats,
        "high_pass_seconds": high_pass_seconds,
        "seed": seed,
    }
    _check_settings(settings)
    folder = Path(folder).absolute()  # of day:1/film.mp4, FFmpeg would take day for a protocol
    names = [
        scan_name(subject, repeat, n_repeats)
        for subject in range(1, n_subjects + 1)
        for repeat in range(1, n_repeats + 1)
    ]
    by_name = {name: folder / f"{name}_demo-film_bold.nii.gz" for name in names}
    files = DemoFiles(
        film=folder / _FILM,
        subtitles=folder / _SUBTITLES,
        scans=tuple(by_name.values()),
        scan_pattern="sub-{subject}_ses-{repeat}" if n_repeats > 1 else "sub-{subject}",
        mask=folder / MASK,
        ceiling=folder / CEILING,
        ceiling_voxels=folder / CEILING_VOXELS,
        features=folder / _FEATURES,
        truth=folder / TRUTH,
        truth_in_words=folder / TRUTH_IN_WORDS,
        tr_seconds=tr_seconds,
    )
    if _is_complete(folder, settings):
        return files

    def report(stage: str, done: float) -> None:
        if progress is not None:
            progress(stage, done)

    if folder.exists() and not folder.is_dir():
        raise InputError(f"folder {folder}: is a file; give a folder for the demo's files")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as making_name:
        making = Path(making_name)
        make_film(
            making / _FILM,
            making / _SUBTITLES,
            n_trs * tr_seconds,
            seed=seed,
            fast_features=fast_features,
            progress=lambda done: report("film", done),
        )
        features_TF = measure_features(making / _FILM, making / _SUBTITLES, n_trs, tr_seconds)
        header = "\t".join(FEATURES)
        np.savetxt(making / _FEATURES, features_TF, "%.6g", "\t", header=header, comments="")
        report("features", 1.0)

        write_scans(
            making,
            features_TF,
            tr_seconds,
            by_name,
            n_subjects=n_subjects,
            n_repeats=n_repeats,
            n_voxels=n_voxels,
            ceiling=ceiling,
            feature_weights=feature_weights or {},
            own_tuning=own_tuning,
            interaction=interaction,
            drift=drift,
            high_pass_seconds=high_pass_seconds,
            seed=seed,
            report=lambda done: report("scans", done),
        )
        _move_in(making, folder, settings)
    return files


def _move_in(making: Path, folder: Path, settings: Mapping[str, object]) -> None:
    """Move finished files into the folder; its record leaves first and comes back last."""
    (folder / _RECORD).unlink(missing_ok=True)
    made = sorted(making.iterdir())
    record = {"settings": settings, "sha256": {path.name: _sha256(path) for path in made}}
    for path in made:
        path.replace(folder / path.name)
    (making / _RECORD).write_text(json.dumps(record, indent=2))
    (making / _RECORD).replace(folder / _RECORD)


def _is_complete(folder: Path, settings: Mapping[str, object]) -> bool:
    """Whether the folder's record has these settings and the files are those it was written of."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        return bool(
            record["settings"] == settings
            and all(_sha256(folder / name) == sha for name, sha in record["sha256"].items())
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, least, most in (
        ("n_trs", 2, math.inf),
        ("tr_seconds", 0.5, math.inf),
        ("n_subjects", 1, math.inf),
        ("n_repeats", 1, math.inf),
        ("n_voxels", 1, math.inf),
        ("seed", 0, math.inf),
        ("fast_features", 0, 1),
        ("own_tuning", 0, 1),
        ("interaction", 0, 1),
        ("drift", 0, math.inf),
    ):
        value = settings[name]
        if not (math.isfinite(value) and least <= value <= most):
            accepted = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise InputError(f"{name}: {value} is out of range; {accepted} is accepted")
    longest, shortest = settings["high_pass_seconds"], 2 * settings["tr_seconds"]
    if longest is not None and not (math.isfinite(longest) and longest > shortest):
        raise InputError(
            f"high_pass_seconds: {longest} s; more than two TRs ({shortest:g} s), or none, is "
            "accepted"
        )
    ceiling, feature_weights = settings["ceiling"], settings["feature_weights"]
    if not 0 < ceiling < 1:
        raise InputError(f"ceiling: {ceiling} is not a correlation between 0 and 1, both excluded")
    for name, weight in feature_weights.items():
        if name not in FEATURES:
            raise InputError(f"feature_weights: no feature {name!r}; there are {list(FEATURES)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"feature_weights: {name} is {weight}; at least 0 is accepted")
    if all(feature_weights.get(name, 1.0) == 0 for name in FEATURES):
        raise InputError("feature_weights: all are 0; at least one feature must carry the signal")

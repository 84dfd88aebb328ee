"""Make the demo's files in a folder, once."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from giblet_ray.demo import scans
from giblet_ray.demo.film import make_film
from giblet_ray.demo.measure import FEATURES, measure_features
from giblet_ray.errors import InputError

# Raised whenever the same settings give other files than before, so that old ones are remade.
RECIPE = 1

_FILM, _SUBTITLES = "demo-film.mp4", "demo-film.srt"
_MASK, _FEATURES = "mask.nii.gz", "features.tsv"
_CEILING, _CEILING_VOXELS = "noise_ceiling.json", "noise_ceiling.npy"
_RECORD = "demo.json"


@dataclass(frozen=True)
class DemoFiles:
    """Where the demo's files lie.

    Attributes
    ----------
    film, subtitles : pathlib.Path
        The .mp4 and its .srt.
    scans : tuple of pathlib.Path
        One 4-D .nii.gz per subject, named ``{subject}_demo-film_bold.nii.gz``.
    mask : pathlib.Path
        3-D .nii.gz on the scans' grid.
    ceiling : pathlib.Path
        .json with the mean noise ceiling, and what each scan reaches with the noise it drew.
    ceiling_voxels : pathlib.Path
        .npy with the noise ceiling of each voxel, float32 (voxels,), in the mask's C order.
    features : pathlib.Path
        .tsv of the film's measured features, one row per TR.
    tr_seconds : float
        Length of a TR.
    """

    film: Path
    subtitles: Path
    scans: tuple[Path, ...]
    mask: Path
    ceiling: Path
    ceiling_voxels: Path
    features: Path
    tr_seconds: float


def make_demo(
    folder: str | Path,
    *,
    n_trs: int = 320,
    tr_seconds: float = 1.5,
    n_subjects: int = 2,
    n_voxels: int = 400,
    ceiling: float = 0.65,
    feature_weights: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> DemoFiles:
    """Make the demo's film, subtitles, scans, mask and noise ceiling; or find them already made.

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
        Scans to simulate. Subjects share the signal and differ in noise and baseline.
    n_voxels : int
        Voxels in the mask.
    ceiling : float
        Mean noise ceiling (Pearson r) over voxels, in (0, 1).
    feature_weights : mapping of str to float, optional
        How much of the signal each feature carries, beside 1 for those not named; at least 0, and
        not 0 for all. The features are ``giblet_ray.demo.measure.FEATURES``.
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
        "seed": seed,
    }
    _check_settings(n_trs, tr_seconds, n_subjects, n_voxels, ceiling, feature_weights or {}, seed)
    folder = Path(folder).absolute()  # of day:1/film.mp4, FFmpeg would take day for a protocol
    subjects = [f"sub-{number:02d}" for number in range(1, n_subjects + 1)]
    files = DemoFiles(
        film=folder / _FILM,
        subtitles=folder / _SUBTITLES,
        scans=tuple(folder / f"{subject}_demo-film_bold.nii.gz" for subject in subjects),
        mask=folder / _MASK,
        ceiling=folder / _CEILING,
        ceiling_voxels=folder / _CEILING_VOXELS,
        features=folder / _FEATURES,
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
            progress=lambda done: report("film", done),
        )
        features_TF = measure_features(making / _FILM, making / _SUBTITLES, n_trs, tr_seconds)
        header = "\t".join(FEATURES)
        np.savetxt(making / _FEATURES, features_TF, "%.6g", "\t", header=header, comments="")
        report("features", 1.0)

        # A stream of random numbers apart from the film's own.
        rng_response, *rng_subjects = np.random.default_rng([seed, 1]).spawn(1 + n_subjects)
        response = scans.simulate_response(
            features_TF,
            tr_seconds,
            n_voxels=n_voxels,
            ceiling=ceiling,
            feature_weights=feature_weights or {},
            rng=rng_response,
        )
        scans.write_mask(making / _MASK, response.mask)
        reached = {}
        for number, (subject, scan) in enumerate(zip(subjects, files.scans, strict=True)):
            bold_TV = scans.simulate_subject(response, rng_subjects[number])
            scans.write_scan(making / scan.name, bold_TV, response.mask, tr_seconds)
            reached[subject] = float(scans.correlate(bold_TV, response.signal).mean())
            report("scans", (number + 1) / n_subjects)
        _write_ceiling(making, response.ceiling, reached)
        _move_in(making, folder, settings)
    return files


def _write_ceiling(folder: Path, ceiling_V: np.ndarray, reached: Mapping[str, float]) -> None:
    """Write the noise ceiling: of each voxel as .npy, and what sums it up as .json."""
    np.save(folder / _CEILING_VOXELS, ceiling_V.astype(np.float32))
    summary = {
        "what": "best Pearson r over TRs that any model of the film can expect",
        "mean": float(ceiling_V.mean()),
        "median": float(np.median(ceiling_V)),
        "mean_r_of_signal_and_scan": reached,
        "voxels_without_signal": int((ceiling_V == 0).sum()),
        "per_voxel": _CEILING_VOXELS,
        "hrf_model": scans.HRF_MODEL,
        "noise_autocorrelation": scans.NOISE_AUTOCORRELATION,
        "features": list(FEATURES),
    }
    (folder / _CEILING).write_text(json.dumps(summary, indent=2))


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


def _check_settings(
    n_trs: int,
    tr_seconds: float,
    n_subjects: int,
    n_voxels: int,
    ceiling: float,
    feature_weights: Mapping[str, float],
    seed: int,
) -> None:
    for name, value, least in (
        ("n_trs", n_trs, 2),
        ("tr_seconds", tr_seconds, 0.5),
        ("n_subjects", n_subjects, 1),
        ("n_voxels", n_voxels, 1),
        ("seed", seed, 0),
    ):
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"{name}: {value} is too small; at least {least} is accepted")
    if not 0 < ceiling < 1:
        raise InputError(f"ceiling: {ceiling} is not a correlation between 0 and 1, both excluded")
    for name, weight in feature_weights.items():
        if name not in FEATURES:
            raise InputError(f"feature_weights: no feature {name!r}; there are {list(FEATURES)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"feature_weights: {name} is {weight}; at least 0 is accepted")
    if all(feature_weights.get(name, 1.0) == 0 for name in FEATURES):
        raise InputError("feature_weights: all are 0; at least one feature must carry the signal")

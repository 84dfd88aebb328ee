"""Make the demo's files in a folder, once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from giblet_ray.demo.film import make_film
from giblet_ray.demo.measure import FEATURES, measure_features
from giblet_ray.demo.settings import DemoSettings
from giblet_ray.demo.simulate import (
    CEILING,
    CEILING_VOXELS,
    MASK,
    TRUTH,
    TRUTH_IN_WORDS,
    scan_names,
    write_scans,
)
from giblet_ray.errors import InputError
from giblet_ray.parts.codes import CodesConfig
from giblet_ray.spaces.config import ScanConfig

# Raised whenever the same settings give other files than before, so that old ones are remade.
RECIPE = 2

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

    def sources(self, high_pass_seconds: float | None) -> dict[str, Any]:
        """Return what a data set is made from, and how, by the names of precompute's settings."""
        return {
            "codes": CodesConfig(weights="untrained"),
            "scan": ScanConfig(pattern=self.scan_pattern, high_pass_seconds=high_pass_seconds),
            "film": (str(self.film),),
            "text": (str(self.subtitles),),
            "bold": tuple(map(str, self.scans)),
            "mask": str(self.mask),
            "tr_seconds": self.tr_seconds,
        }

    def ceiling_in_words(self) -> str:
        """Say the mean noise ceiling, and what the repeats, as real ones would, say of it."""
        told = json.loads(self.ceiling.read_text())
        estimates = list(told["mean_estimated_from_repeats"].values())
        known = f"{told['mean']:.4f}, known"
        return f"{known}; {np.mean(estimates):.4f} by the repeats" if estimates else known


def make_demo(
    folder: str | Path,
    settings: DemoSettings | None = None,
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
    settings : DemoSettings, optional
        What is made.
    progress : callable, optional
        Called with a stage ("film", "features", "scans") and the fraction of it that is done.

    Raises
    ------
    InputError
        If the folder is a file.
    """
    settings = settings or DemoSettings()
    recorded = {"recipe": RECIPE, **asdict(settings)}
    folder = Path(folder).absolute()  # of day:1/film.mp4, FFmpeg would take day for a protocol
    by_name = {name: folder / f"{name}_demo-film_bold.nii.gz" for name in scan_names(settings)}
    files = DemoFiles(
        film=folder / _FILM,
        subtitles=folder / _SUBTITLES,
        scans=tuple(by_name.values()),
        scan_pattern="sub-{subject}_ses-{repeat}" if settings.n_repeats > 1 else "sub-{subject}",
        mask=folder / MASK,
        ceiling=folder / CEILING,
        ceiling_voxels=folder / CEILING_VOXELS,
        features=folder / _FEATURES,
        truth=folder / TRUTH,
        truth_in_words=folder / TRUTH_IN_WORDS,
        tr_seconds=settings.tr_seconds,
    )
    if _is_complete(folder, recorded):
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
            settings.n_trs * settings.tr_seconds,
            seed=settings.seed,
            fast_features=settings.fast_features,
            progress=lambda done: report("film", done),
        )
        film = making / _FILM, making / _SUBTITLES
        features_TF = measure_features(*film, settings.n_trs, settings.tr_seconds)
        header = "\t".join(FEATURES)
        np.savetxt(making / _FEATURES, features_TF, "%.6g", "\t", header=header, comments="")
        report("features", 1.0)
        write_scans(making, features_TF, by_name, settings, lambda done: report("scans", done))
        _move_in(making, folder, recorded)
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

"""From a unit's files to its shard: frames, mel, text and BOLD (codes are made in pieces).

Shapes: T TRs, C channels, H rows, W columns, M mel bands, F frames per TR, D embedding, V voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.precompute.units import Record, Unit, finish
from giblet_ray.spaces.usable import count_bad_units, empty_trs, unmasked

if TYPE_CHECKING:
    from giblet_ray.features.embedder import Embedder
    from giblet_ray.spaces.scan import ScanOptions

MEL_BANDS = 2048
MEL_FRAMES_PER_TR = 65
_MEL_SAMPLE_RATE = 24_000


def make_frames(unit: Unit, storage: Storage) -> Record:
    """Write frames_TCHW, uint8."""
    from giblet_ray.features.video import read_frames

    size = unit.settings
    frames_TCHW = read_frames(unit.files["film"], unit.n_trs, unit.tr_seconds, **size)
    return finish(storage, unit, frames_TCHW, {"picture": "RGB at the TR's midpoint", **size})


def make_mel(unit: Unit, storage: Storage) -> Record:
    """Write mel_TMF, float16."""
    from giblet_ray.features.audio import read_audio
    from giblet_ray.features.mel import mel_per_tr

    seconds = unit.n_trs * unit.tr_seconds
    blocks = read_audio(unit.files["film"], _MEL_SAMPLE_RATE, duration_seconds=seconds)
    mel_TMF = mel_per_tr(
        blocks, unit.n_trs, unit.tr_seconds, MEL_BANDS, MEL_FRAMES_PER_TR, _MEL_SAMPLE_RATE
    )
    made_with = {"spectrum": "log mel power (Slaney)", "sample_rate": _MEL_SAMPLE_RATE}
    return finish(storage, unit, mel_TMF, made_with)


def make_text(unit: Unit, storage: Storage, embedder: Embedder) -> Record:
    """Write text_TD, float32, and count the TRs in which nothing is said."""
    from giblet_ray.features.embedder import count_silent
    from giblet_ray.features.text import read_utterances, text_per_tr

    utterances = read_utterances(unit.files["text"], unit.settings["film_seconds"])
    texts = text_per_tr(utterances, unit.n_trs, unit.tr_seconds)
    description = embedder.describe()
    # Weights that are the same are the same model, from whichever folder and by whichever version.
    incidental = {"version", "name"} if "weights_sha256" in description else {"version"}
    made_with = {key: value for key, value in description.items() if key not in incidental}
    facts = {"silent_trs": count_silent(texts)}
    facts |= {f"embedder_{key}": description[key] for key in incidental}
    return finish(storage, unit, embedder.embed(texts), made_with, facts)


def make_bold(unit: Unit, storage: Storage) -> Record:
    """Write bold_TV; note the TRs and count the units that cannot be used."""
    from giblet_ray.spaces.scan import read_bold

    files = unit.files
    options = scan_options(unit.settings, files.get("confounds"))
    bold_TV = read_bold(
        files["scan"], files.get("mask"), tr_seconds=unit.tr_seconds, options=options
    )
    stored_TV = _as_stored(bold_TV, unit)
    masked_trs = empty_trs(stored_TV)
    bad = count_bad_units([stored_TV[unmasked(len(stored_TV), masked_trs)]])
    facts = {"masked_trs": masked_trs, "nan_units": bad.nan, "constant_units": bad.constant}
    return finish(storage, unit, stored_TV, {}, facts)


def scan_options(settings: dict[str, Any], confounds_path: str | None) -> ScanOptions:
    """Return a scan's options from a unit's settings."""
    from giblet_ray.spaces.scan import ScanOptions

    names = tuple(settings["confounds"])
    rest = {key: value for key, value in settings.items() if key not in ("dtype", "confounds")}
    return ScanOptions(confounds=names, confounds_path=confounds_path, **rest)


def _as_stored(bold_TV: np.ndarray, unit: Unit) -> np.ndarray:
    """Convert to the number format on disk; a value that does not fit is an error."""
    dtype = np.dtype(unit.settings["dtype"])
    largest = np.abs(bold_TV).max(where=np.isfinite(bold_TV), initial=0.0)
    if largest > np.finfo(dtype).max:
        raise InputError(
            f"{unit.files['scan']}: holds values up to {largest:.6g}; {dtype} ends at "
            f"{np.finfo(dtype).max:g}: use --scan.dtype float32"
        )
    return bold_TV.astype(dtype, copy=False)


MAKERS = {"frames": make_frames, "mel": make_mel, "bold": make_bold}
"""What makes the parts that need no model."""

"""From a unit's files to its shard.

Shapes: T TRs, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.parts.part import Made, Part, PartInPieces, Prepared
from giblet_ray.precompute.repeats import mean_over_repeats
from giblet_ray.precompute.units import Record, Repeat, Unit, finish
from giblet_ray.spaces.usable import count_bad_units, empty_trs, unmasked

if TYPE_CHECKING:
    from giblet_ray.spaces.scan import ScanOptions

Piece = dict[str, Any]


def make_shard(part: Part, unit: Unit, storage: Storage) -> Record:
    """Make and write one film's rows of a part that is loaded."""
    return write_made(part, part.make(unit.film), unit, storage)


def make_shards(
    part: Part, parts: Mapping[str, Part], units: Sequence[Unit], storage: Storage
) -> list[Record]:
    """Make and write one film's rows of parts of one network, by one of them, which is loaded."""
    made = part.make_together(units[0].film, [parts[unit.part] for unit in units])
    return [write_made(parts[unit.part], made[unit.part], unit, storage) for unit in units]


def join_shard(
    part: PartInPieces,
    made: Sequence[tuple[Piece, np.ndarray]],
    prepared: Prepared,
    unit: Unit,
    storage: Storage,
) -> Record:
    """Join a film's pieces and write them."""
    return write_made(part, part.join(unit.film, made, prepared), unit, storage)


def write_made(part: Part, made: Made, unit: Unit, storage: Storage) -> Record:
    """Write what a part has made, if it is what the part said.

    Raises
    ------
    InputError
        If it is of another shape or dtype, or holds what no model can be given.
    """
    said, values = unit.value, made.values
    found = f"{values.dtype}{values.shape}"
    expected = f"{said.dtype}{(unit.n_trs, *said.shape)}"
    if found != expected:
        raise InputError(
            f"{unit.path}: the part {part.kind} has made {found}, and said {expected} (TRs first)"
        )
    part.reading.check(values, f"{unit.path}, as the part {part.kind} has made it")
    made_with = unit.settings if made.made_with is None else made.made_with
    facts = made.facts | ({"notes": list(made.notes)} if made.notes else {})
    return finish(storage, unit, values, made_with, facts)


def make_bold(unit: Unit, storage: Storage) -> Record:
    """Write bold_TV; note the TRs and count the units that cannot be used."""
    if unit.repeats:
        bold_TV = mean_over_repeats(unit, partial(_read_scan, unit))
    else:
        roles = {role: role for role in ("scan", "confounds") if role in unit.files}
        confounds = tuple(unit.settings["confounds"])
        how = {"volumes": unit.volumes, "scrubbed": unit.scrubbed, "confounds": confounds}
        bold_TV = _read_scan(unit, Repeat(files=roles, row=0, **how))
    stored_TV = _as_stored(bold_TV, unit)
    masked_trs = empty_trs(stored_TV)
    bad = count_bad_units([stored_TV[unmasked(len(stored_TV), masked_trs)]])
    facts = {"masked_trs": masked_trs, "nan_units": bad.nan, "constant_units": bad.constant}
    return finish(storage, unit, stored_TV, {}, facts)


def _read_scan(unit: Unit, of: Repeat) -> np.ndarray:
    """Read one scan of a unit, (TRs, V) float32."""
    from giblet_ray.spaces.scan import read_bold

    settings = {**unit.settings, "confounds": of.confounds}
    table = unit.files[of.files["confounds"]] if of.confounds else None
    options = replace(scan_options(settings, table), volumes=of.volumes, scrubbed=of.scrubbed)
    scan = unit.files[of.files["scan"]]
    return read_bold(scan, **unit.choosing, tr_seconds=unit.tr_seconds, options=options)


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

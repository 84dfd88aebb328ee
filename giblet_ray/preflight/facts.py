"""What the data look like: shape and scale of each part, from a sample of row groups.

Shapes: N rows of the sample, K sequences of T symbols, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.config import SplitConfig
from giblet_ray.dataset.layout import bold_column
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.splits import IN_WORDS, SETS, SetName, smallest_p_line
from giblet_ray.dataset.view import DataView
from giblet_ray.parts.reading import find_reading
from giblet_ray.preflight.brief import windows_line
from giblet_ray.preflight.drawing import LEGEND, timeline
from giblet_ray.preflight.sample import Sample

_MOST_ROWS = 256
_WIDTH = 60
_MOST_STIMULI = 8


def describe_parts(
    data: DataView, sample: Sample, tables: Sequence[pa.Table], normalisation: Normalisation
) -> dict[str, str]:
    """Return a line on each part of the stimulus and on the BOLD, by name."""
    kinds = sample.selection.value_types(data.dataset)
    each = max(1, _MOST_ROWS // len(tables))
    lines = {}
    for part in data.selection.parts:
        values = np.concatenate([_arrays(table, part, kinds[part])[:each] for table in tables])
        form = f"{kinds[part].dtype} {' x '.join(map(str, kinds[part].shape))}"
        encoder = data.dataset.manifest.parts[part].encoder
        lines[part] = f"{form}: {find_reading(encoder, part).describe(values)}"
    form = f"{kinds[data.selection.columns[-1]].dtype} {data.units_in_words}"
    masked = f"{normalisation.n_masked:,} voxels masked"
    scales = [
        f"{IN_WORDS[name]} TRs {_scale(data, sample, tables, normalisation, name)}"
        for name in SETS
        if name != "test"
    ]
    lines["bold"] = f"{form}: z-scored, {', '.join(scales)}; {masked}"
    rows = sum(map(len, sample.spans))
    lines["(sample)"] = f"{len(sample.spans)} row groups, {rows:,} TRs, z-scored among themselves"
    return lines


def describe_split(data: DataView, settings: SplitConfig) -> dict[str, str]:
    """Return what trains, what chooses, what judges and what lies between, in numbers and drawn."""
    lines = {
        IN_WORDS[name]: (
            f"{sum(map(len, data.split.spans(name))):,} TRs, {len(data.windows[name]):,} windows "
            f"of {data.window} over all scans"
        )
        for name in SETS
    }
    lines["trained on"] = windows_line(data)
    tr_seconds = data.dataset.manifest.tr_seconds
    lines["gaps"] = f"{data.split.n_lost:,} TRs, {settings.gap_seconds:g} s between two sets"
    lines["smallest p"] = smallest_p_line(data.split, tr_seconds)
    seen = list(dict.fromkeys(scan.stimulus for scan in data.scans))
    for name in seen[:_MOST_STIMULI]:
        lines[name] = timeline(data.split, name, data.dataset.bold_trs[name], _WIDTH)
    if len(seen) > _MOST_STIMULI:
        lines["..."] = f"and {len(seen) - _MOST_STIMULI} more stimuli"
    lines["(drawn)"] = LEGEND
    return lines


def _arrays(table: pa.Table, column: str, kind: object) -> np.ndarray:
    return as_arrays(table.column(column).chunk(0), kind)  # type: ignore[arg-type]


def _scale(
    data: DataView,
    sample: Sample,
    tables: Sequence[pa.Table],
    normalisation: Normalisation,
    name: SetName,
) -> str:
    """Return mean and standard deviation of z-scored BOLD at a set's TRs of the sample."""
    kinds = sample.selection.value_types(data.dataset)
    n, total, squares = 0, 0.0, 0.0
    for table, span in zip(tables, sample.spans, strict=True):
        take = np.zeros(len(span), bool)
        for each in data.split.spans(name):
            if each.stimulus == span.stimulus:
                take[max(0, each.start - span.start) : max(0, each.stop - span.start)] = True
        for index, scan in enumerate(data.scans):
            is_seen = scan.stimulus == span.stimulus and data.split.has(name, scan.repeat)
            if is_seen and take.any():
                column = bold_column(scan.subject, scan.repeat)
                bold_NV = _arrays(table, column, kinds[bold_column(scan.subject)])[take]
                scored = (bold_NV - normalisation.mean_SV[index]) / normalisation.std_SV[index]
                valid = scored[:, normalisation.valid_SV[index]].astype(np.float64)
                n += valid.size
                total += float(valid.sum())
                squares += float(np.square(valid).sum())
    if not n:
        return "not in the sample"
    mean = total / n
    return f"mean {round(mean, 2) + 0.0:.2f} std {math.sqrt(max(0.0, squares / n - mean**2)):.2f}"

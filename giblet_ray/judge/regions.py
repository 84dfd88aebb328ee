"""What is reached in each region of an atlas: means over the units that lie in it.

Shapes: V units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.judge.evaluation import OfSubject, Partition, Q
from giblet_ray.spaces.kinds import labels_of
from giblet_ray.spaces.labels import Labels, find_label_table
from giblet_ray.spaces.space import Space

Row = dict[str, Any]


def read_atlas(
    spaces: Mapping[str, Space], atlas: str | None, names: str | None
) -> dict[str, Labels]:
    """Return in which region each unit lies, by subject; none without an atlas.

    Parameters
    ----------
    spaces : mapping of str to Space
        What each subject's units are.
    atlas : str or None
        Label image, in whose name ``{subject}`` stands for the subject.
    names : str or None
        Table of what its labels are called (default: the one beside it, if there is one).

    Raises
    ------
    InputError
        If it cannot be read, is on another grid than the units, or labels none of them.
    """
    if atlas is None:
        return {}
    labels = {}
    for subject, space in spaces.items():
        image = atlas.replace(PER_SUBJECT, subject)
        table = names.replace(PER_SUBJECT, subject) if names else find_label_table(Path(image))
        labels[subject] = labels_of(space, image, table)
    return labels


def by_region(
    subjects: Mapping[str, OfSubject],
    labels: Mapping[str, Labels],
    partition: Partition | None = None,
) -> list[Row]:
    """Return a row per subject and region, with means over its units that have a number.

    ``units`` counts those that lie in it, ``significant`` is the share of the scored with q at most
    :data:`Q`, ``r2/PARTS`` what a set of parts carries. NaN where no unit has a number.

    Parameters
    ----------
    subjects : mapping of str to OfSubject
        What is said of units.
    labels : mapping of str to Labels
        Regions of all units of each subject's data.
    partition : Partition, optional
        Which part carries the prediction.
    """
    rows: list[Row] = []
    for subject, of in subjects.items():
        regions = labels[subject]
        index_V = regions.indices[of.units_V]
        values = {"pearson": of.pearson_V}
        if of.ceiling_V is not None and of.normalised_V is not None:
            values |= {"ceiling": of.ceiling_V, "pearson_of_ceiling": of.normalised_V}
        values["significant"] = np.where(np.isfinite(of.q_V), of.q_V <= Q, np.nan)
        for parts, share_V in ({} if partition is None else partition.shares[subject]).items():
            values[f"r2/{'+'.join(parts)}"] = share_V
        for index, name in enumerate(regions.names.values()):
            inside_V = index_V == index
            row: Row = {"subject": subject, "region": name, "units": int(inside_V.sum())}
            rows.append(row | {key: _mean(of_V[inside_V]) for key, of_V in values.items()})
    return rows


def over_subjects(rows: list[Row]) -> list[Row]:
    """Return a row per region, with means over the subjects who have it, the best first."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["region"], []).append(row)
    found = []
    for region, of_region in by_name.items():
        keys = [key for key in of_region[0] if key not in ("subject", "region")]
        means = {key: _mean(np.array([row[key] for row in of_region])) for key in keys}
        found.append({"region": region, **means})
    return sorted(found, key=lambda row: -np.nan_to_num(row["pearson"], nan=-np.inf))


def as_csv(rows: list[Row]) -> str:
    """Return rows as a table; a mean of nothing is empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: shown(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def shown(value: Any) -> str:
    """Return a number in words of a table."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4f}"
    return str(value)


def _mean(values_V: NDArray[Any]) -> float:
    finite_V = values_V[np.isfinite(values_V)]
    return float(finite_V.mean()) if finite_V.size else float("nan")

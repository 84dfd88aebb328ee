"""Training TRs straight from arrays: two films of two parts, three subjects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.windows import Windows, equal_length_batches
from giblet_ray.errors import InputError
from giblet_ray.models.fitted import Samples
from giblet_ray.models.predictor import Shapes
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.models.ridge.model import Ridge
from giblet_ray.parts.value import ValueType

TR_SECONDS = 1.5
SCANS = (
    ScanKey("01", "a"),
    ScanKey("01", "a", 2),
    ScanKey("01", "b"),
    ScanKey("02", "a"),
    ScanKey("03", "a"),
    ScanKey("03", "a", 2),
    ScanKey("03", "b"),
)
"""Subjects 01 and 03 have the same training TRs."""
N_TRS = {"a": 61, "b": 47}
UNITS = {"01": 5, "02": 4, "03": 3}
SIZES = {"clip": 6, "gaze": 3}
TRAINED = {"a": [(0, 23), (35, 61)], "b": [(5, 47)]}
"""TRs of each film that train."""


@dataclass
class ArrayTrs:
    """The training TRs of films and scans that lie in arrays."""

    films: dict[str, dict[str, np.ndarray]]
    bold: dict[ScanKey, np.ndarray]
    windows: Windows
    context_trs: int
    scans: tuple[ScanKey, ...] = SCANS
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, windows: Windows) -> Iterator[Samples]:
        """Give three windows at a time, as loaders do: zeros where there is nothing."""
        for batch in equal_length_batches(windows, 3):
            trs, exists = batch.rows(0, self.context_trs)
            films = [self.films[self.scans[scan].stimulus] for scan in batch.scan]
            inputs = {}
            for part in films[0]:
                rows = [film[part][np.maximum(t, 0)] for film, t in zip(films, trs, strict=True)]
                rows_BT = np.stack(rows)
                rows_BT[~exists] = 0
                inputs[part] = torch.from_numpy(rows_BT)
            most = max(UNITS.values())
            bold_BWV = np.zeros((*batch.shape, most), np.float32)
            for index, scan in enumerate(batch.scan):
                rows = self.bold[self.scans[scan]][trs[index, self.context_trs :]]
                bold_BWV[index, :, : rows.shape[1]] = rows
            yield Samples(batch, inputs, torch.from_numpy(exists), torch.from_numpy(bold_BWV))

    def blob(self, part: str, name: str) -> bytes:
        """Say that arrays have nothing beside them."""
        raise InputError(f"{part}: there is no {name} of it")


def make_trs(context_trs: int, window: int = 4) -> ArrayTrs:
    """Make two films of two parts, and scans that follow them two TRs later."""
    random = np.random.default_rng(0)
    films = {
        film: {
            part: random.normal(3, 2, (n, size)).astype(np.float32) for part, size in SIZES.items()
        }
        for film, n in N_TRS.items()
    }
    mixing = random.normal(size=(sum(SIZES.values()), max(UNITS.values())))
    bold = {}
    for scan in SCANS:
        rows = np.concatenate(list(films[scan.stimulus].values()), axis=1) - 3
        rows = np.concatenate([np.zeros((2, rows.shape[1])), rows[:-2]])
        signal = 0.2 * rows @ mixing[:, : UNITS[scan.subject]]
        bold[scan] = (signal + random.normal(size=signal.shape)).astype(np.float32)
    spans = [
        (index, start, min(window, stop - start))
        for index, scan in enumerate(SCANS)
        for first, stop in TRAINED[scan.stimulus]
        for start in range(first, stop, window)
    ]
    table = np.array(spans, np.int32)
    order = random.permutation(len(table))  # a loader's order is not that of the TRs
    return ArrayTrs(films, bold, Windows(*table[order].T), context_trs)


def make_ridge(units: dict[str, int] = UNITS, **settings: object) -> Ridge:
    """Return a model of these films, not fitted yet."""
    values = {part: ValueType(dtype="float32", shape=(n,)) for part, n in SIZES.items()}
    shapes = Shapes(values, dict.fromkeys(SIZES, "vector"), units, TR_SECONDS)
    few = {"n_iter": 6, "folds": 3, "fold_gap_seconds": 3.0, "delays_seconds": (0, 6)}
    config = RidgeConfig.model_validate({**few, "alphas": (10, 1e4), "n_alphas": 4, **settings})
    return Ridge(config, shapes)

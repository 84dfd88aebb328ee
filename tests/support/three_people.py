"""Three people who saw the same films, each with units of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_dataset import write_dataset

from giblet_ray.dataset.layout import ScanKey

UNITS = {"01": 50, "02": 70, "03": 400}
PACKAGES = ("my_lab", "people_model")
HEADS: dict[str, Any] = {"kind": "people_model:Heads", "batch_norm": "frozen"}
"""Settings of a model with a head for each."""


def make_people(folder: Path, n_trs: int = 90) -> None:
    """Write a data set of three subjects, each with a mask of its own shape."""
    masks = {}
    for number, (name, n) in enumerate(UNITS.items()):
        mask = np.zeros((8 + number, 9, 8), bool)
        mask.flat[np.random.default_rng(number).permutation(mask.size)[:n]] = True
        masks[name] = mask

    def own(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[:, -UNITS[key.subject] :]

    films = {"one": n_trs, "two": n_trs - 9}
    write_dataset(folder, films, tuple(UNITS), max(UNITS.values()), mask=masks, change_bold=own)


def people_job(folder: Path, **groups: Any) -> dict[str, Any]:
    """Return settings of a training on them, by group."""
    settings: dict[str, Any] = {
        "dataset": str(folder),
        "packages": PACKAGES,
        "model": HEADS,
        "data": {"modalities": ["text"]},
        "train": {"epochs": 2, "batch_trs": 6},
        "optimizer": {"lr": 1e-2},
    }
    for name, group in groups.items():
        settings[name] = {**settings.get(name, {}), **group}
    return settings

"""Ridge on simulated data, as ``--model.kind ridge`` fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from array_film import ArrayFilm
from noise import TR_SECONDS, Floats

from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.models.predictor import Predictor, Shapes
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.models.ridge.model import Ridge
from giblet_ray.parts.value import ValueType


def fit_ridge(
    parts: Mapping[str, np.ndarray],
    bold: Mapping[str, np.ndarray],
    train: slice | Mapping[str, slice],
    n_delays: int,
    weightings: int,
    subjects: Literal["each", "shared"] = "each",
) -> Ridge:
    """Return banded ridge with delays of 0 to `n_delays` - 1 TRs; ridge, for no weightings."""
    settings = RidgeConfig(
        solver="banded" if weightings else "ridge",
        delays_seconds=(0, (n_delays - 1) * TR_SECONDS),
        n_iter=max(1, weightings),
        subjects=subjects,
        alphas=(1, 1e4),
        n_alphas=9,
    )
    values = {
        name: ValueType(dtype="float32", shape=rows.shape[1:])
        for name, rows in {**parts, "bold": next(iter(bold.values()))}.items()
    }
    units = {subject: rows.shape[1] for subject, rows in bold.items()}
    model = Ridge(settings, Shapes(values, dict.fromkeys(parts, "vector"), units, TR_SECONDS))
    model.fit(ArrayFilm(parts, bold, train, model.context_trs), lambda line: None)
    return model


@torch.no_grad()
def predict(
    model: Predictor, parts: Mapping[str, np.ndarray], trs: slice, subject: int = 0
) -> Floats:
    """Return the prediction of some TRs, (TRs, units)."""
    first = trs.start - model.context_trs
    at = np.arange(first, trs.stop)
    rows = {name: torch.from_numpy(x[np.maximum(at, 0)])[None] for name, x in parts.items()}
    found = model(rows, torch.from_numpy(at >= 0)[None], torch.tensor([subject]))
    return found[subject][0].numpy()


def pearson(prediction_TV: np.ndarray, bold_TV: np.ndarray) -> Floats:
    """Return r of each unit, as every job does."""
    sums = ScanSums(["01"], bold_TV.shape[1])
    sums.add(0, torch.from_numpy(prediction_TV), torch.from_numpy(bold_TV))
    return sums.compute().subjects["01"].pearson_V

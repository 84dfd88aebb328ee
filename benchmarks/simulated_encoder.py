"""The encoder on simulated data, trained as jobs train it: a data set on disk, the package's loop.

::

    films   train |=========|   val |====|   test |======|      a stimulus each, held out whole

The test TRs are predicted with the film before them, as ridge predicts them.

Shapes: T TRs, V units, L lags, F numbers of all parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from local_trials import train_here
from random_dataset import write_arrays
from simulated import Simulated
from simulated_ridge import pearson, predict

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.stored import StoredPart
from giblet_ray.dataset.writer import value_type
from giblet_ray.models.predictor import Predictor

DEFAULT: Mapping[str, Any] = {}
"""What a lab gets without settings: linear in the parts, with a head for each subject."""
PRODUCTS: Mapping[str, Any] = {
    "model": {
        "trunk_dims": (16,),
        "activation": "gated",
        "linear_skip": True,
        "norm": "none",
        "bottleneck_dim": 128,
        "filters": 2,
        "dropout": 0.0,
    },
    "optimizer": {"lr": 6e-3},
    "train": {"batch_trs": 64, "epochs": 60},
}
"""With a layer of products beside the linear way, which take longer to find than that to fit."""


def fit_encoder(data: Simulated, settings: Mapping[str, Any], seed: int) -> Predictor:
    """Return the encoder of the epoch that validation TRs prefer."""
    with tempfile.TemporaryDirectory() as folder:
        return _train(data, settings, seed, folder, "encoder")


def fit_new_subject(others: Simulated, data: Simulated, part: float, seed: int) -> Predictor:
    """Return a new person's head, on the trunk that others trained.

    Parameters
    ----------
    others, data : Simulated
        The film, with scans of the others and of the new person.
    part : float
        Of the training TRs, the first ones, that there are of the new person.
    seed : int
        Of both trainings.
    """
    with tempfile.TemporaryDirectory() as folder:
        _train(others, DEFAULT, seed, folder, "others")
        own = {"init_from": f"{folder}/others/runs/others", "train": {"freeze": "trunk"}}
        return _train(first_part(data, part), own, seed, folder, "new")


def first_part(data: Simulated, part: float) -> Simulated:
    """Return the same with the first part of the training TRs alone."""
    n = round(part * data.size.train)
    skip = np.r_[0:n, data.size.train : len(next(iter(data.bold.values())))]
    return replace(
        data,
        size=replace(data.size, train=n),
        parts={name: rows[skip] for name, rows in data.parts.items()},
        bold={name: rows[skip] for name, rows in data.bold.items()},
    )


def _train(
    data: Simulated, settings: Mapping[str, Any], seed: int, folder: str, name: str
) -> Predictor:
    stored = {
        part: StoredPart(kind="array", modality=part, encoder="vector", value=value_type(rows))
        for part, rows in data.parts.items()
    }
    write_arrays(f"{folder}/{name}/data", data.size.sets, data.parts, stored, data.bold)
    split = {"kind": "stimuli", "val_stimuli": ("val",), "test_stimuli": ("test",)}
    job = TrainJob.model_validate(
        {
            **settings,
            "dataset": f"{folder}/{name}/data",
            "name": name,
            "data": {"modalities": tuple(data.parts), "split": split},
            "train": {**settings.get("train", {}), "seed": seed},
            "storage": {"path": f"{folder}/{name}/runs"},
        }
    )
    trial = train_here(job)
    return Encoder.load(trial.storage.describe(trial.name)).model


def score(model: Predictor, data: Simulated) -> float:
    """Return the test r, the mean over units and then subjects."""
    trs = data.size.sets["test"]
    of_subjects = [
        pearson(predict(model, data.parts, trs, index), bold[trs]).mean()
        for index, bold in enumerate(data.bold.values())
    ]
    return float(np.mean(of_subjects))


@torch.no_grad()
def impulse_responses(model: Predictor, data: Simulated) -> np.ndarray:
    """Return what each number of the parts gives after one TR in which it is 1, (V, L, F)."""
    context, given = model.context_trs, []
    n_trs = 2 * context + 1
    for part, rows in data.parts.items():
        width = rows.shape[1]
        values = {name: torch.zeros(width, n_trs, x.shape[1]) for name, x in data.parts.items()}
        nothing = {name: each[:1].clone() for name, each in values.items()}
        values[part][torch.arange(width), context, torch.arange(width)] = 1.0
        exists = torch.ones(width, n_trs, dtype=torch.bool)
        subject = torch.zeros(width, dtype=torch.long)
        given.append(model(values, exists, subject)[0] - model(nothing, exists[:1], subject[:1])[0])
    return torch.cat(given).permute(2, 1, 0).numpy()

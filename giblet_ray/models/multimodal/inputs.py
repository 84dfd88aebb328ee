"""How parts enter the trunk without an encoder that is learned: standardised by training TRs.

========== =================================== =================================================
inputs     parts that are a vector per TR      pictures and sound
========== =================================== =================================================
encoders   their encoders                      their encoders
vectors    their numbers, each z-scored        their encoders
components their numbers, or 40 principal      mean colour and principal components of luminance,
           components of more than 256         of code counts, of mean mel: as ridge is given them
========== =================================== =================================================

What is fitted, is fitted once, before a run's first step, on at most 2,048 training TRs; it is kept
in checkpoints beside the weights, and is the same for any number of workers.

Shapes: N rows, D numbers of a part, F numbers of its vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from giblet_ray.models._layers import ByPart
from giblet_ray.models.fitted import TrainingTrs
from giblet_ray.models.predictor import Shapes
from giblet_ray.models.training_rows import TrainingRows
from giblet_ray.models.vectors import Vectors, spread_over_rows

MOST_ROWS = 2048
"""Training TRs that means, scales and components are found from, evenly chosen."""


class Standardised(nn.Module):
    """The numbers of a vector, each with mean 0 and SD 1 over training TRs, once it is fitted.

    Parameters
    ----------
    n_numbers : int
        D.
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, n_numbers: int) -> None:
        super().__init__()
        self.n_features = n_numbers
        self.register_buffer("mean_D", torch.zeros(n_numbers))
        self.register_buffer("scale_D", torch.ones(n_numbers))

    def forward(self, rows: Tensor) -> Tensor:
        """Return (..., D) of (..., D)."""
        return (rows - self.mean_D) * self.scale_D

    def raw(self, rows: Tensor) -> Tensor:
        """Return what is fitted: the rows themselves."""
        return rows

    @torch.no_grad()
    def fit(self, raw_ND: Tensor) -> None:
        """Find mean and scale; numbers that never change become 0."""
        values_ND = raw_ND.double().cpu()
        std_D = spread_over_rows(values_ND)
        self.mean_D.copy_(values_ND.mean(0))
        self.scale_D.copy_(torch.where(std_D > 0, 1 / std_D, 0))


class Components(Vectors):
    """What ridge makes of a part, with a mean variance of 1 over its numbers."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return vectors (..., F) of rows (..., *shape), as a model is given them."""
        # Half precision would round what components were found from; meta has none.
        device = "cpu" if rows.is_meta else rows.device.type
        with torch.autocast(device, enabled=False):
            return super().forward(rows) * math.sqrt(self.n_features)


def build_inputs(inputs: str, shapes: Shapes) -> nn.ModuleDict:
    """Return what makes vectors of the parts that have no encoder, by part, not fitted yet."""
    if inputs == "components":
        return ByPart(
            {
                part: Components(part, encoder, shapes.values[part], None)
                for part, encoder in shapes.encoders.items()
            }
        )
    vectors = shapes.encoders.items() if inputs == "vectors" else []
    return ByPart(
        {
            part: Standardised(shapes.values[part].shape[0])
            for part, encoder in vectors
            if encoder == "vector"
        }
    )


def fit_inputs(
    inputs: nn.ModuleDict, training: TrainingTrs, subjects: Sequence[str], context_trs: int
) -> None:
    """Find how parts become vectors from the training TRs.

    Parameters
    ----------
    inputs : nn.ModuleDict
        As :func:`build_inputs` gives them.
    training, subjects, context_trs
        As :class:`giblet_ray.models.training_rows.TrainingRows` takes them.
    """
    if not inputs:
        return
    rows = TrainingRows(training, subjects, [0] * len(subjects), context_trs)
    made: dict[str, Any] = dict(inputs.items())
    for part, raw_ND in rows.raw(made, MOST_ROWS).items():
        made[part].fit(raw_ND)

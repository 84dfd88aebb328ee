"""What MLflow imports to load a model that a run has logged; it needs no MLflow itself."""

from __future__ import annotations

import os

import numpy as np

from giblet_ray.checkpoint.trained import Encoder

SUBJECT = "subject"
WITHOUT = "without"
PARAMETERS = (SUBJECT, WITHOUT)
"""Those of a served model."""


class ServedEncoder:
    """Predicts z-scored BOLD, (n, voxels), from arrays (n, ...) by part.

    Whose, the parameter ``subject`` says, or ``group``; see :meth:`Encoder.predict`. The parameter
    ``without`` names parts, by commas, that a model with modality dropout does without: MLflow
    wants rows of them all the same, which then count for nothing.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def predict(
        self, model_input: dict[str, np.ndarray], params: dict[str, str] | None = None
    ) -> np.ndarray:
        """See :meth:`Encoder.predict`."""
        given = params or {}
        without = [name for name in given.get(WITHOUT, "").split(",") if name]
        parts = self._encoder.parts_without(without)
        values = {part: rows for part, rows in model_input.items() if part in parts}
        return self._encoder.predict(given.get(SUBJECT) or None, **values)


def _load_pyfunc(folder: str) -> ServedEncoder:
    """Return the model of a folder with a checkpoint's files; MLflow calls it by this name.

    One that is code of a package of the user's own needs its name, in GIBLET_RAY_PACKAGES.
    """
    packages = [name for name in os.environ.get("GIBLET_RAY_PACKAGES", "").split(",") if name]
    return ServedEncoder(Encoder.load(folder, packages=packages))

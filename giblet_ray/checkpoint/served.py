"""What MLflow imports to load a model that a run has logged; it needs no MLflow itself."""

from __future__ import annotations

import os

import numpy as np

from giblet_ray.checkpoint.trained import Encoder

SUBJECT = "subject"
"""Parameter of a served model."""


class ServedEncoder:
    """Predicts z-scored BOLD, (n, voxels), from arrays (n, ...) by part.

    Whose, the parameter ``subject`` says, or ``group``; see :meth:`Encoder.predict`.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def predict(
        self, model_input: dict[str, np.ndarray], params: dict[str, str] | None = None
    ) -> np.ndarray:
        """See :meth:`Encoder.predict`."""
        return self._encoder.predict((params or {}).get(SUBJECT) or None, **model_input)


def _load_pyfunc(folder: str) -> ServedEncoder:
    """Return the model of a folder with a checkpoint's files; MLflow calls it by this name.

    One that is code of a package of the user's own needs its name, in GIBLET_RAY_PACKAGES.
    """
    packages = [name for name in os.environ.get("GIBLET_RAY_PACKAGES", "").split(",") if name]
    return ServedEncoder(Encoder.load(folder, packages=packages))

"""What MLflow imports to load a model that a run has logged; it needs no MLflow itself."""

from __future__ import annotations

import numpy as np

from giblet_ray.checkpoint.trained import Encoder


class ServedEncoder:
    """Predicts z-scored BOLD, (n, voxels), from arrays (n, ...) by part."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def predict(self, model_input: dict[str, np.ndarray]) -> np.ndarray:
        """See :meth:`Encoder.predict`."""
        return self._encoder.predict(**model_input)


def _load_pyfunc(folder: str) -> ServedEncoder:
    """Return the model of a folder with a checkpoint's files; MLflow calls it by this name."""
    return ServedEncoder(Encoder.load(folder))

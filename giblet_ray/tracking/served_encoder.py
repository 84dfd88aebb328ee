"""The code of the MLflow model that a run logs; MLflow runs this file to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from giblet_ray.checkpoint.record import RECORD
from giblet_ray.checkpoint.trained import Encoder


class ServedEncoder(PythonModel):
    """Predicts z-scored BOLD from the parts of a stimulus."""

    # The signature that the model is logged with is its schema: MLflow shall not read one from
    # type hints, nor ask for them.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that the model was logged with."""
        self._encoder = Encoder.load(Path(context.artifacts[RECORD]).parent)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return (n, voxels) from arrays (n, ...) by part; see :meth:`Encoder.predict`."""
        return self._encoder.predict(**model_input)


set_model(ServedEncoder())

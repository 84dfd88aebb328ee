"""Settings that all models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from giblet_ray.dataset.config import LAG_SECONDS
from giblet_ray.kinds import Family


class ModelSettings(Family):
    """A model."""

    built_in: ClassVar[dict[str, str]] = {
        "multimodal": "giblet_ray.models.multimodal.config:MultimodalConfig",
        "ridge": "giblet_ray.models.ridge.config:RidgeConfig",
        "stack": "giblet_ray.models.stack.config:StackConfig",
    }
    fitted: ClassVar[bool] = False
    """Whether the model is fitted at once; see :mod:`giblet_ray.models.fitted`."""
    trains: ClassVar[bool] = True
    """Whether it is trained, and not made of others that are: its context may reach over no gap."""
    fixed: ClassVar[dict[str, dict[str, Any]]] = {}
    """What the model makes of other groups' settings, by group and name: no other is accepted."""

    leading: ClassVar[dict[str, str]] = {}
    """Setting that says how many entries of a row's first axis the model reads, the first ones, by
    kind of encoder; rows of other kinds are read whole."""

    kind: str = ""
    """multimodal, ridge, or the import path of a model of your own, such as my_lab.models:Gru."""
    batch_norm: Literal["batch", "frozen"] = "batch"
    """batch: normalise by the batch; frozen: by the running statistics, for tiny batches."""

    @property
    def films_may_lack_parts(self) -> bool:
        """Whether it trains on films that lack parts which others have."""
        return False

    @property
    def normalises_batches(self) -> bool:
        """Whether it may have BatchNorm that adapts, which needs two rows of a batch at least."""
        return self.batch_norm == "batch"

    @property
    def head_per_subject(self) -> bool:
        """Whether each subject has a head, so that subjects whose units differ train together."""
        return False

    @property
    def sharding(self) -> str:
        """Whether its head is shared out over the workers: auto, on or off."""
        return "off"

    def context_trs(self, tr_seconds: float) -> int:
        """Return how many TRs of stimulus before the predicted one the model sees.

        Parameters
        ----------
        tr_seconds : float
            Duration of a TR (s).
        """
        return 0

    @property
    def lag_seconds(self) -> float:
        """Haemodynamic lag that the model's BOLD has unless ``data.lag_seconds`` says (s)."""
        return LAG_SECONDS

    def unused(self, encoders: Mapping[str, str]) -> dict[str, str]:
        """Return settings that others leave without a meaning, and which those are, in words.

        Parameters
        ----------
        encoders : mapping of str to str
            Kind of encoder of each part that is read.
        """
        return {}

    @property
    def head_weight_decay(self) -> float | None:
        """Decay of its heads unless ``optimizer.head_weight_decay`` says; None: as of all else."""
        return None

    def leading_of(self, encoders: Mapping[str, str]) -> dict[str, int]:
        """Return how many entries of a row are read, by part, from the parts' kinds of encoder."""
        return {
            part: getattr(self, self.leading[encoder])
            for part, encoder in encoders.items()
            if encoder in self.leading
        }


class FittedSettings(ModelSettings):
    """A model that is fitted at once: a run of one epoch."""

    fitted: ClassVar[bool] = True
    fixed: ClassVar[dict[str, dict[str, Any]]] = {"train": {"epochs": 1}}
    batch_norm: Literal["batch", "frozen"] = "frozen"
    """Means nothing here: no batch is normalised."""

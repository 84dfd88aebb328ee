"""Settings of models: what all of them share, and those of the multimodal encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from giblet_ray.kinds import Family
from giblet_ray.settings import Mark, tuple_of_one


class ModelSettings(Family):
    """A model."""

    built_in: ClassVar[dict[str, str]] = {
        "multimodal": "giblet_ray.models.config:MultimodalConfig",
        "ridge": "giblet_ray.models.ridge.config:RidgeConfig",
    }
    fitted: ClassVar[bool] = False
    """Whether the model is fitted at once; see :mod:`giblet_ray.models.fitted`."""
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
    def head_per_subject(self) -> bool:
        """Whether each subject has a head, so that subjects whose units differ train together."""
        return False

    def context_trs(self, tr_seconds: float) -> int:
        """Return how many TRs of stimulus before the predicted one the model sees.

        Parameters
        ----------
        tr_seconds : float
            Duration of a TR (s).
        """
        return 0

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


class MultimodalConfig(ModelSettings):
    """The multimodal encoder."""

    leading: ClassVar[dict[str, str]] = {"codes": "audio_codebooks"}
    kind: str = "multimodal"
    """multimodal, ridge, or the import path of a model of your own, such as my_lab.models:Gru."""
    embed_dim: int = Field(64, ge=1)
    """Dimensions of one EnCodec code's embedding."""
    audio_codebooks: Annotated[int, Mark.READ] = Field(8, ge=1)
    """EnCodec codebooks that the model hears: the first ones of those in the data set."""
    kernel_sizes: Annotated[tuple[int, ...], BeforeValidator(tuple_of_one)] = (3, 5, 7)
    """Widths of the audio convolutions, one branch each; odd, in code (or mel) frames."""
    video_features: int = Field(1024, ge=1)
    """Outputs of the video encoder."""
    audio_features: int = Field(256, ge=1)
    """Outputs of the audio encoder."""
    text_features: int = Field(256, ge=1)
    """Outputs of the text encoder."""
    vector_features: int = Field(256, ge=1)
    """Outputs of the encoder of each other part that is a vector per TR."""
    trunk_dims: tuple[int, int] = (4096, 8000)
    """Widths of the two layers before the bottleneck."""
    bottleneck_dim: int = Field(2048, ge=1)
    """Width of the bottleneck, the stimulus's representation."""
    head_dim: int = Field(16384, ge=1)
    """Width of the hidden layer between bottleneck and voxels."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout rate of every layer (default: each layer's own, 0.2 or 0.3)."""

    @model_validator(mode="after")
    def _kernels_are_odd(self) -> Self:
        if not self.kernel_sizes or any(k < 1 or k % 2 == 0 for k in self.kernel_sizes):
            raise ValueError(
                f"kernel_sizes is {','.join(map(str, self.kernel_sizes)) or 'empty'}; "
                "odd positive widths are accepted, such as 3,5,7"
            )
        return self

"""The encoder that a run's settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from giblet_ray.config import ModelConfig
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.schema import ValueType
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.models.encoder import MultimodalEncoder, create_encoder


def stimulus_parts(data: DataConfig) -> tuple[str, ...]:
    """Return the parts of the data set that the chosen modalities are read from."""
    part = {"video": "frames", "audio": "codes" if data.audio == "encodec" else "mel"}
    return tuple(part.get(modality, modality) for modality in data.modalities)


def build_encoder(
    model: ModelConfig, data: DataConfig, values: Mapping[str, ValueType], n_voxels: int
) -> MultimodalEncoder:
    """Build the encoder that a configuration describes, for data of these shapes.

    Parameters
    ----------
    model, data : ModelConfig, DataConfig
        Settings of the run.
    values : mapping of str to ValueType
        What one row of each part holds.
    n_voxels : int
        Voxels to predict.
    """
    shapes: dict[str, Any] = {}
    if "frames" in values:
        _, shapes["video_height"], shapes["video_width"] = values["frames"].shape
    if data.audio == "encodec" and "codes" in values:
        shapes["audio_frames_per_tr"] = values["codes"].shape[1]
    elif "mel" in values:
        shapes["audio_mels"], shapes["audio_frames_per_tr"] = values["mel"].shape
    if "text" in values:
        (shapes["text_dim"],) = values["text"].shape
    settings = model.model_dump(exclude={"batch_norm"})
    return create_encoder(
        **settings,
        **shapes,
        modalities=data.modalities,
        use_encodec=data.audio == "encodec",
        vocab_size=CODEBOOK_SIZE,
        n_voxels=n_voxels,
    )

"""The multimodal encoder of contract 1 as a predictor: each TR by itself, one head for all.

Shapes: B windows, W TRs of a window, N = B * W rows, V units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.models.config import ModelSettings, MultimodalConfig
from giblet_ray.models.encoder import create_encoder
from giblet_ray.models.predictor import Predictor, Shapes, by_subject
from giblet_ray.parts.reading import RGB

_SLOTS = {"image": "video", "codes": "audio", "mel": "audio"}
"""Modality that the encoder reads a part as, by the part's kind of encoder."""
_TEXT = "text"
"""The vector that is text; all others have an encoder each."""


class Multimodal(Predictor):
    """:class:`giblet_ray.models.encoder.MultimodalEncoder`, over the rows of all windows.

    Attributes
    ----------
    encoder : MultimodalEncoder
        The model itself.
    """

    Settings: ClassVar[type[ModelSettings]] = MultimodalConfig
    head_modules = ("encoder.bottleneck_to_voxels",)

    def __init__(self, settings: MultimodalConfig, shapes: Shapes) -> None:
        super().__init__(settings, shapes)
        self._n_units = shapes.shared_units
        self._slots = {part: _slot(part, encoder) for part, encoder in shapes.encoders.items()}
        sizes: dict[str, Any] = {}
        vectors: dict[str, int] = {}
        for part, encoder in shapes.encoders.items():
            value = shapes.values[part]
            match encoder:
                case "image":
                    channels, sizes["video_height"], sizes["video_width"] = value.shape
                    sizes["video_frames_per_tr"] = channels // RGB
                case "codes":
                    sizes["audio_codebooks"], sizes["audio_frames_per_tr"] = value.shape
                case "mel":
                    sizes["audio_mels"], sizes["audio_frames_per_tr"] = value.shape
                case _ if part == _TEXT:
                    (sizes["text_dim"],) = value.shape
                case _:
                    (vectors[part],) = value.shape
        modalities = [slot for slot in self._slots.values() if slot is not None]
        if len(set(modalities)) < len(modalities):
            raise InputError(
                f"--data.modalities: {', '.join(self.parts)} hold two forms of one modality; the "
                "multimodal encoder reads one picture, and one form of audio, per TR"
            )
        chosen = settings.model_dump(exclude={"kind", "batch_norm"})
        self.encoder = create_encoder(
            **{**chosen, **sizes},
            modalities=modalities,
            vectors=vectors,
            use_encodec="codes" in shapes.encoders.values(),
            vocab_size=CODEBOOK_SIZE,
            n_voxels=shapes.shared_units,
        )

    def forward(
        self, values: Mapping[str, Tensor], exists: Tensor, subject: Tensor
    ) -> dict[int, Tensor]:
        """See :meth:`Predictor.forward`; what precedes a window is not looked at."""
        rows = {part: value.flatten(0, 1) for part, value in values.items()}
        is_row_N = exists.flatten()
        # A single TR that trains has its row; to look would have the host wait for the device.
        all_there = exists.is_meta or (self.training and exists.shape[1] == 1)
        some_are_missing = not all_there and not bool(is_row_N.all())
        if some_are_missing and not is_row_N.any():
            shape = (*exists.shape, self._n_units)
            return by_subject(torch.zeros(shape, device=exists.device), subject)
        if some_are_missing:  # before the film, or past a shorter window: none is made up
            rows = {part: value[is_row_N] for part, value in rows.items()}
        read = {slot: rows[part] for part, slot in self._slots.items() if slot is not None}
        vectors = {part: rows[part] for part, slot in self._slots.items() if slot is None}
        _, bold_NV = self.encoder(
            read.get("video"),
            read.get("audio"),
            read.get("text"),
            return_voxels=True,
            vectors=vectors,
        )
        if some_are_missing:
            bold_NV = bold_NV.new_zeros(len(is_row_N), bold_NV.shape[1]).masked_scatter(
                is_row_N[:, None], bold_NV
            )
        return by_subject(bold_NV.unflatten(0, tuple(exists.shape)), subject)


def _slot(part: str, encoder: str) -> str | None:
    return _SLOTS.get(encoder, "text" if part == _TEXT else None)

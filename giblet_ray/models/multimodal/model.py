"""The multimodal encoder as a predictor: each TR is encoded once, and what memory makes of the TRs
until now is read out by the head.

::

    stimulus TR       s-C ...  s-1 |  s  s+1 ...  s+W-1
    bottleneck        [z   ...  z  |  z   z  ...   z   ]     of each row; 0 where there is none
    memory                         [  f   f  ...   f   ]     of the last C + 1; none: z itself
    head                           [bold bold ... bold ]

Shapes: B windows, C TRs of context, W TRs of a window, T = C + W, N rows that exist, D numbers of
the bottleneck, F features that memory gives, V units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.encoder import create_encoder
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.heads import build_head
from giblet_ray.models.multimodal.hrf import Responses
from giblet_ray.models.predictor import Predictor, Shapes, by_subject
from giblet_ray.parts.reading import RGB

_SLOTS = {"image": "video", "codes": "audio", "mel": "audio"}
"""Modality that the encoder reads a part as, by the part's kind of encoder."""
_TEXT = "text"
"""The vector that is text; all others have an encoder each."""


class Multimodal(Predictor):
    """:class:`giblet_ray.models.encoder.MultimodalEncoder` over TRs, memory, and a head.

    Attributes
    ----------
    encoder : MultimodalEncoder
        From the parts to the bottleneck.
    memory : nn.Module or None
        From the bottleneck of several TRs to features.
    head : nn.Sequential
        From features to units.
    """

    Settings: ClassVar[type[ModelSettings]] = MultimodalConfig
    head_modules = ("head",)

    def __init__(self, settings: MultimodalConfig, shapes: Shapes) -> None:
        super().__init__(settings, shapes)
        self._n_units = shapes.shared_units
        as_they_are = settings.inputs == "vectors"
        self._slots = {
            part: _slot(part, encoder, as_they_are) for part, encoder in shapes.encoders.items()
        }
        sizes: dict[str, Any] = {}
        vectors: dict[str, int] = {}
        for part, encoder in shapes.encoders.items():
            value = shapes.values[part]
            match self._slots[part], encoder:
                case "video", _:
                    channels, sizes["video_height"], sizes["video_width"] = value.shape
                    sizes["video_frames_per_tr"] = channels // RGB
                case "audio", "codes":
                    sizes["audio_codebooks"], sizes["audio_frames_per_tr"] = value.shape
                case "audio", _:
                    sizes["audio_mels"], sizes["audio_frames_per_tr"] = value.shape
                case "text", _:
                    (sizes["text_dim"],) = value.shape
                case _:
                    (vectors[part],) = value.shape
        modalities = [slot for slot in self._slots.values() if slot is not None]
        if len(set(modalities)) < len(modalities):
            raise InputError(
                f"--data.modalities: {', '.join(self.parts)} hold two forms of one modality; the "
                "multimodal encoder reads one picture, and one form of audio, per TR"
            )
        trunk = settings.trunk_dims
        self.encoder = create_encoder(
            **{name: getattr(settings, name) for name in _OF_ENCODER},
            **sizes,
            modalities=modalities,
            vectors=vectors,
            encode_vectors=not as_they_are,
            use_encodec="codes" in shapes.encoders.values(),
            vocab_size=CODEBOOK_SIZE,
            with_voxels=False,
            **({"trunk_dims": trunk} if len(trunk) == 2 else {"hidden_dims": trunk}),
        )
        self.memory: nn.Module | None = None
        n_features = settings.bottleneck_dim
        if settings.memory == "hrf":
            sizes_of = (settings.filters, self.context_trs, shapes.tr_seconds)
            self.memory = Responses(n_features, *sizes_of)
            n_features = self.memory.n_features
        self.head = build_head(settings, n_features, self._n_units)

    def forward(
        self, values: Mapping[str, Tensor], exists: Tensor, subject: Tensor
    ) -> dict[int, Tensor]:
        """See :meth:`Predictor.forward`; rows that do not exist contribute nothing."""
        # A single TR that trains has its row; to look would have the host wait for the device.
        all_there = exists.is_meta or (self.training and exists.shape[1] == 1)
        if not all_there:
            all_there = bool(exists.all())
        window_BW = exists[:, self.context_trs :]
        if not all_there and not window_BW.any():
            shape = (*window_BW.shape, self._n_units)
            return by_subject(torch.zeros(shape, device=exists.device), subject)
        there_BT = None if all_there else exists
        features = _spread(self._bottleneck(values, there_BT), exists.shape, there_BT)
        if self.memory is not None:
            features = self.memory(features, exists)
        there_BW = None if all_there else window_BW
        rows_NF = _existing(features, there_BW)
        bold_BWV = _spread(self.head(rows_NF), window_BW.shape, there_BW)
        return by_subject(bold_BWV, subject)

    def _bottleneck(self, values: Mapping[str, Tensor], there_BT: Tensor | None) -> Tensor:
        """Return the bottleneck (N, D) of the rows that there are."""
        rows = {part: _existing(value, there_BT) for part, value in values.items()}
        read = {slot: rows[part] for part, slot in self._slots.items() if slot is not None}
        vectors = {part: rows[part] for part, slot in self._slots.items() if slot is None}
        read_as = (read.get("video"), read.get("audio"), read.get("text"))
        bottleneck_ND: Tensor = self.encoder(*read_as, vectors=vectors)[0]
        return bottleneck_ND


_OF_ENCODER = (
    *("embed_dim", "kernel_sizes", "video_features", "audio_features", "text_features"),
    *("vector_features", "norm", "bottleneck_dim", "dropout"),
)
"""Settings that the encoder takes as they are."""


def _existing(values: Tensor, there: Tensor | None) -> Tensor:
    """Return the rows (N, ...) of windows (B, T, ...) that are there; None: all."""
    return values.flatten(0, 1) if there is None else values[there]


def _spread(rows: Tensor, shape: torch.Size, there: Tensor | None) -> Tensor:
    """Return rows (N, ...) in their places of windows (B, T, ...); 0 where there is none."""
    if there is not None:
        spread = rows.new_zeros(shape.numel(), rows.shape[1])
        rows = spread.masked_scatter(there.flatten()[:, None], rows)
    return rows.unflatten(0, tuple(shape))


def _slot(part: str, encoder: str, as_they_are: bool) -> str | None:
    return _SLOTS.get(encoder, "text" if part == _TEXT and not as_they_are else None)

"""The multimodal encoder as a predictor: each TR is encoded once, and what memory makes of the TRs
until now is read out by the heads.

::

    stimulus TR       s-C ...  s-1 |  s  s+1 ...  s+W-1
    bottleneck        [z   ...  z  |  z   z  ...   z   ]     of each row; 0 where there is none
    memory                         [  f   f  ...   f   ]     of the last C + 1; none: z itself
    heads                          [bold bold ... bold ]

Shapes: B windows, C TRs of context, W TRs of a window, T = C + W, N rows that exist, D numbers of
the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.models.codebooks import CODEBOOKS, read_codebooks
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.encoder import create_encoder
from giblet_ray.models.fitted import TrainingTrs
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.heads import Heads
from giblet_ray.models.multimodal.inputs import build_inputs, fit_inputs
from giblet_ray.models.multimodal.memory import build_memory
from giblet_ray.models.multimodal.ragged import existing, reached, spread
from giblet_ray.models.predictor import FixedVectors, Predictor, Shapes
from giblet_ray.models.shards import UnitShards
from giblet_ray.parts.reading import RGB, find_reading

_SLOTS = {"image": "video", "codes": "audio", "mel": "audio"}
"""Modality that the encoder reads a part as, by the part's kind of encoder."""
_TEXT = "text"
"""The vector that is text; all others have an encoder each."""
_OF_ENCODER = (
    *("embed_dim", "kernel_sizes", "video_features", "audio_features", "text_features"),
    *("vector_features", "linear_skip", "norm", "bottleneck_dim", "dropout"),
    *("code_embedding", "train_codebooks"),
)
"""Settings that the encoder takes as they are."""


class Multimodal(Predictor):
    """:class:`giblet_ray.models.encoder.MultimodalEncoder` over TRs, memory, and heads.

    Attributes
    ----------
    inputs : nn.ModuleDict
        What makes vectors of the parts that have no encoder, by part.
    encoder : MultimodalEncoder
        From the parts to the bottleneck.
    memory : nn.Module or None
        From the bottleneck of several TRs to features.
    head : Heads
        From features to units.
    """

    Settings: ClassVar[type[ModelSettings]] = MultimodalConfig
    head_modules = ("head",)

    def __init__(self, settings: MultimodalConfig, shapes: Shapes) -> None:
        super().__init__(settings, shapes)
        self._shapes = shapes
        self._modality_dropout = settings.modality_dropout
        self.may_lack = frozenset(shapes.parts if settings.modality_dropout else shapes.lacking)
        self.tells_subjects_apart = settings.head_per_subject
        self.inputs = build_inputs(settings.inputs, shapes)
        self._slots = {
            part: None if part in self.inputs else _slot(part, encoder)
            for part, encoder in shapes.encoders.items()
        }
        modalities = [slot for slot in self._slots.values() if slot is not None]
        if len(set(modalities)) < len(modalities):
            raise InputError(
                f"--data.modalities: {', '.join(self.parts)} hold two forms of one modality; the "
                "multimodal encoder reads one picture, and one form of audio, per TR"
            )
        trunk = settings.trunk_dims
        self.encoder = create_encoder(
            **{name: getattr(settings, name) for name in _OF_ENCODER},
            **({"trunk_dims": trunk} if len(trunk) == 2 else {"hidden_dims": trunk}),
            **self._sizes(shapes),
            gated=settings.activation == "gated",
            modalities=modalities,
            encode_vectors=settings.inputs == "encoders",
            vocab_size=CODEBOOK_SIZE,
            with_voxels=False,
        )
        self._by_codebooks = settings.code_embedding == "codec"
        self.memory = build_memory(settings, self.context_trs, shapes)
        self._n_features = (
            settings.bottleneck_dim if self.memory is None else self.memory.n_features
        )
        self.head = Heads(settings, self._n_features, shapes)
        self.has_group_head = settings.head_per_subject and self.head.group is not None

    def _sizes(self, shapes: Shapes) -> dict[str, Any]:
        """Return the encoder's arguments that say what the parts are."""
        sizes: dict[str, Any] = {"vectors": {}}
        for part, encoder in shapes.encoders.items():
            shape = shapes.values[part].shape
            match self._slots[part], encoder:
                case "video", _:
                    channels, sizes["video_height"], sizes["video_width"] = shape
                    sizes["video_frames_per_tr"] = channels // RGB
                case "audio", "codes":
                    sizes["use_encodec"] = True
                    sizes["audio_codebooks"], sizes["audio_frames_per_tr"] = shape
                case "audio", _:
                    sizes["audio_mels"], sizes["audio_frames_per_tr"] = shape
                case "text", _:
                    (sizes["text_dim"],) = shape
                case _ if part in self.inputs:
                    sizes["vectors"][part] = self.inputs[part].n_features
                case _:
                    (sizes["vectors"][part],) = shape
        return sizes

    def prepare(self, training: TrainingTrs) -> None:
        """See :meth:`Predictor.prepare`: how inputs are standardised, and EnCodec's codebooks."""
        fit_inputs(self.inputs, training, self._shapes.subjects, self.context_trs)
        for part, slot in self._slots.items():
            audio = self.encoder.audio_encoder
            if slot == "audio" and audio is not None and audio.use_encodec and self._by_codebooks:
                content = training.blob(part, CODEBOOKS)
                audio.take_codebooks(read_codebooks(content, audio.input_codebooks, part))

    def forward(
        self,
        values: Mapping[str, Tensor],
        exists: Tensor,
        subject: Tensor,
        lacking: Mapping[str, Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """See :meth:`Predictor.forward`; rows that do not exist contribute nothing.

        What the encoder of a part gives is 0 where the part is lacking.
        """
        # A single TR that trains has its row; to look would have the host wait for the device.
        all_there = exists.is_meta or (self.training and exists.shape[1] == 1)
        if not all_there:
            all_there = bool(exists.all())
        there_BT = there_BW = None
        if not all_there:  # TRs after a film's end answer to it, too
            there_BT, there_BW = exists, reached(exists, self.context_trs)
        if there_BW is not None and not there_BW.any():
            if self.head.shards is None:
                return self.head.nothing(there_BW, subject)
            # Others may have rows: this rank's units of them are due, and their gradient.
            nothing = torch.zeros(*there_BW.shape, self._n_features, device=there_BW.device)
            together: dict[int, Tensor] = self.head(
                nothing.requires_grad_(self.training), there_BW, subject
            )
            return together
        bottleneck_ND = self._bottleneck(values, exists.shape, there_BT, lacking or {})
        features = spread(bottleneck_ND, exists.shape, there_BT)
        if self.memory is not None:
            features = self.memory(features, exists)
        predicted: dict[int, Tensor] = self.head(features, there_BW, subject)
        return predicted

    @property
    def fixed_vectors(self) -> Mapping[str, FixedVectors]:
        """See :attr:`Predictor.fixed_vectors`."""
        inputs: dict[str, Any] = dict(self.inputs.items())
        return inputs

    @property
    def head_units(self) -> dict[str, int]:
        """See :attr:`Predictor.head_units`."""
        return {f"head.{name}": n_units for name, n_units in self.head.units.items()}

    def share_out_units(self, shards: UnitShards) -> None:
        """See :meth:`Predictor.share_out_units`."""
        self.head.share_out(shards)

    def take_part(self) -> None:
        """See :meth:`Predictor.take_part`."""
        if self.head.shards is not None:
            nothing = next(self.parameters()).new_zeros(0, 1, self._n_features)
            self.head(nothing, None, torch.zeros(0, dtype=torch.int64))

    def _bottleneck(
        self,
        values: Mapping[str, Tensor],
        shape: torch.Size,
        there_BT: Tensor | None,
        of_films: Mapping[str, Tensor],
    ) -> Tensor:
        """Return the bottleneck (N, D) of the rows that there are of windows (B, T)."""
        lacking = self._lacking(values, shape, of_films)
        read: dict[str, Tensor] = {}
        vectors: dict[str, Tensor] = {}
        lacks: dict[str, Tensor] = {}
        for part, slot in self._slots.items():
            value = values.get(part)
            if value is None:
                value = self._nothing(part, shape, lacking[part].device)
            rows = existing(value, there_BT)
            if slot is None:
                is_vector = part in self.given_vectors or part not in self.inputs
                vectors[part] = rows if is_vector else self.inputs[part](rows)
            else:
                read[slot] = rows
            if part in lacking:
                lacks_BT = lacking[part][:, None].expand(shape)
                lacks[slot or part] = existing(lacks_BT, there_BT)
        read_as = (read.get("video"), read.get("audio"), read.get("text"))
        bottleneck_ND: Tensor = self.encoder(*read_as, vectors=vectors, lacking=lacks)[0]
        return bottleneck_ND

    def _lacking(
        self, values: Mapping[str, Tensor], shape: torch.Size, of_films: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return which windows do without a part, (B,) bool, by part: their film lacks it, or it is
        dropped in training, which leaves each window one at least.

        Raises
        ------
        InputError
            As :meth:`check_parts` does.
        """
        self.check_parts(values.keys())
        given = [part for part in self.parts if part in values]
        absent = [part for part in self.parts if part not in values]
        device = values[given[0]].device
        lacking = {part: torch.ones(shape[0], dtype=torch.bool, device=device) for part in absent}
        lacking |= {part: of_films[part] for part in given if part in of_films}
        # Heads train where the trunk is frozen, too.
        if self.head.training and self._modality_dropout and len(given) > 1:
            # On the CPU: the same numbers wherever the model is.
            drawn_PB = torch.rand(len(given), shape[0], device="cpu") < self._modality_dropout
            drawn_PB = drawn_PB.to(device, non_blocking=True)
            none = drawn_PB.new_zeros(shape[0])
            without_PB = drawn_PB | torch.stack([lacking.get(part, none) for part in given])
            drawn_PB &= ~without_PB.all(0)
            lacking |= {
                part: drawn_B | lacking.get(part, none)
                for part, drawn_B in zip(given, drawn_PB, strict=True)
            }
        return lacking

    def _nothing(self, part: str, shape: torch.Size, device: torch.device) -> Tensor:
        """Return rows of zeros in the place of a part that is not there."""
        value = self._shapes.values[part]
        rows = torch.zeros(*shape, *value.shape, dtype=getattr(torch, value.dtype), device=device)
        return find_reading(self._shapes.encoders[part], part).to_input(rows)


def _slot(part: str, encoder: str) -> str | None:
    return _SLOTS.get(encoder, "text" if part == _TEXT else None)

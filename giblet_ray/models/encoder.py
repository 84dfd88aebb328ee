"""The encoding model: what was seen, heard and said during a TR -> the voxels' BOLD response.

Shapes: B rows (one per TR), n frames of a TR, H height and W width in pixels, K codebooks, M mel
bands, T audio frames within the TR, N length of the text embedding, D features, V voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models._checks import odd_kernel_sizes, require_rate, require_sizes
from giblet_ray.models._layers import Norm, hidden_layer, require_norm
from giblet_ray.models.audio import AudioEncoder, CodeEmbedding
from giblet_ray.models.linear import Linear
from giblet_ray.models.text import TextEncoder
from giblet_ray.models.video import VideoEncoder

__all__ = [
    "MODALITIES",
    "AudioEncoder",
    "MultimodalEncoder",
    "TextEncoder",
    "VideoEncoder",
    "create_encoder",
]

MODALITIES = ("video", "audio", "text")


class MultimodalEncoder(nn.Module):
    """Video, audio and text encoders, a trunk down to a bottleneck, and a head up to the voxels.

    ::

        video (B, 3 n, H, W)    -> video_encoder --+
        audio (B, K or M, T)    -> audio_encoder --+-> feature_conv -> layer5 -> layer6
        text  (B, N)            -> text_encoder  --+        -> layer7_bottleneck ---> bottleneck
        vectors (B, ...)        -> vector_encoders +              |
                                                         bottleneck_to_voxels ------> voxels

    Linear layers all, with BatchNorm, ReLU and dropout after each but two: the bottleneck has
    neither ReLU nor dropout, and the voxels have nothing. With another `norm` the bottleneck is
    the linear layer alone.

    Parameters
    ----------
    video_height, video_width : int
        Size of a frame, pixels.
    audio_mels, audio_codebooks, audio_frames_per_tr, use_encodec, vocab_size, embed_dim, \
kernel_sizes
        As `AudioEncoder` takes them (there without `audio_`, or with `input_` in its place).
    text_dim : int
        N, the length of a text embedding.
    n_voxels : int
        V.
    bottleneck_dim : int
        Length of the bottleneck.
    video_features, audio_features, text_features : int
        Length of each encoder's result; `feature_conv` is as wide as their sum.
    modalities : sequence of str
        Those of "video", "audio" and "text" that the model sees. Encoders of others are not built.
    trunk_dims : (int, int)
        Widths of `layer5` and `layer6`.
    head_dim : int
        Width of the hidden layer of `bottleneck_to_voxels`.
    vectors : mapping of str to int, optional
        Lengths of further vectors per TR, by name. Each has an encoder of its own, with the layers
        of the text encoder; by default there are none.
    vector_features : int
        Length of the result of each of these.
    dropout : float, optional
        Rate of every dropout layer. By default each has its own: 0.3 in layer5, layer6, hidden
        layers and the head, 0.2 elsewhere.
    video_frames_per_tr : int
        n, frames of a TR that the video encoder sees together.
    hidden_dims : sequence of int, optional
        Widths of the layers of `hidden_layers`, which stand in the place of `feature_conv`,
        `layer5` and `layer6`; with none, what the encoders give goes straight to the bottleneck.
    linear_skip : bool
        Whether what the encoders give also goes straight to the bottleneck, through `skip`; what
        comes through the layers between them then begins at 0.
    gated : bool
        Whether layers of the trunk give products of two linear maps, without an activation, but for
        `feature_conv`.
    norm : str
        How all layers are normalised; see :mod:`giblet_ray.models._layers`.
    encode_vectors : bool
        Whether each of `vectors` has an encoder; otherwise it enters the trunk as it is.
    with_voxels : bool
        Whether there is a `bottleneck_to_voxels`.
    code_embedding, train_codebooks
        As `AudioEncoder` takes them.

    Raises
    ------
    InputError
        For an argument that is out of its range, by name.
    """

    def __init__(
        self,
        video_height: int = 90,
        video_width: int = 160,
        audio_mels: int = 2048,
        audio_codebooks: int = 8,
        audio_frames_per_tr: int = 65,
        text_dim: int = 1024,
        n_voxels: int = 85810,
        bottleneck_dim: int = 2048,
        video_features: int = 1024,
        audio_features: int = 256,
        text_features: int = 256,
        use_encodec: bool = False,
        embed_dim: int = 64,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        vocab_size: int = 1024,
        modalities: Sequence[str] = MODALITIES,
        trunk_dims: tuple[int, int] = (4096, 8000),
        head_dim: int = 16384,
        dropout: float | None = None,
        vectors: Mapping[str, int] | None = None,
        vector_features: int = 256,
        video_frames_per_tr: int = 1,
        hidden_dims: Sequence[int] | None = None,
        linear_skip: bool = False,
        gated: bool = False,
        norm: Norm = "batch",
        encode_vectors: bool = True,
        with_voxels: bool = True,
        code_embedding: CodeEmbedding = "shared",
        train_codebooks: bool = False,
    ) -> None:
        super().__init__()
        require_sizes(
            video_height=video_height,
            video_width=video_width,
            audio_mels=audio_mels,
            audio_codebooks=audio_codebooks,
            audio_frames_per_tr=audio_frames_per_tr,
            text_dim=text_dim,
            n_voxels=n_voxels,
            bottleneck_dim=bottleneck_dim,
            video_features=video_features,
            audio_features=audio_features,
            text_features=text_features,
            embed_dim=embed_dim,
            vocab_size=vocab_size,
            head_dim=head_dim,
            vector_features=vector_features,
            video_frames_per_tr=video_frames_per_tr,
        )
        if len(trunk_dims) != 2:
            raise InputError(f"trunk_dims: found {tuple(trunk_dims)}, must be two widths")
        layer5_dim, layer6_dim = trunk_dims
        for name, dims in (("trunk_dims", trunk_dims), ("hidden_dims", hidden_dims or ())):
            require_sizes(**{f"{name}[{index}]": width for index, width in enumerate(dims)})
        require_norm(norm)
        if dropout is not None:
            require_rate(dropout=dropout)
        light, heavy = (0.2, 0.3) if dropout is None else (dropout, dropout)

        self.video_height = video_height
        self.video_width = video_width
        self.video_frames_per_tr = video_frames_per_tr
        self.audio_mels = audio_mels
        self.audio_codebooks = audio_codebooks
        self.audio_frames_per_tr = audio_frames_per_tr
        self.text_dim = text_dim
        self.n_voxels = n_voxels
        self.bottleneck_dim = bottleneck_dim
        self.video_features = video_features
        self.audio_features = audio_features
        self.text_features = text_features
        self.use_encodec = use_encodec
        self.embed_dim = embed_dim
        self.kernel_sizes = odd_kernel_sizes(kernel_sizes)
        self.vocab_size = vocab_size
        self.vectors = dict(vectors or {})
        self.vector_features = vector_features
        self.modalities = _known_modalities(modalities, at_least=0 if self.vectors else 1)
        self.trunk_dims = (layer5_dim, layer6_dim)
        self.head_dim = head_dim
        self.dropout = dropout

        self.video_encoder: VideoEncoder | None = None
        self.audio_encoder: AudioEncoder | None = None
        self.text_encoder: TextEncoder | None = None
        pooled_dim = 0
        if "video" in self.modalities:
            size = (video_height, video_width, video_features)
            self.video_encoder = VideoEncoder(*size, light, video_frames_per_tr, norm)
            pooled_dim += video_features
        if "audio" in self.modalities:
            self.audio_encoder = AudioEncoder(
                input_mels=audio_mels,
                input_codebooks=audio_codebooks,
                frames_per_tr=audio_frames_per_tr,
                output_features=audio_features,
                use_encodec=use_encodec,
                vocab_size=vocab_size,
                embed_dim=embed_dim,
                kernel_sizes=kernel_sizes,
                dropout=light,
                norm=norm,
                code_embedding=code_embedding,
                train_codebooks=train_codebooks,
            )
            pooled_dim += audio_features
        if "text" in self.modalities:
            self.text_encoder = TextEncoder(text_dim, text_features, light, norm)
            pooled_dim += text_features
        self.vector_encoders = nn.ModuleList(
            TextEncoder(length, vector_features, light, norm) if encode_vectors else nn.Identity()
            for length in self.vectors.values()
        )
        lengths = [vector_features] * len(self.vectors) if encode_vectors else self.vectors.values()
        pooled_dim += sum(lengths)

        self.feature_conv: nn.Sequential | None = None
        self.layer5: nn.Sequential | None = None
        self.layer6: nn.Sequential | None = None
        self.hidden_layers: nn.Sequential | None = None
        if hidden_dims is None:
            self.feature_conv = hidden_layer(pooled_dim, pooled_dim, light, norm)
            self.layer5 = hidden_layer(pooled_dim, layer5_dim, heavy, norm, gated)
            self.layer6 = hidden_layer(layer5_dim, layer6_dim, heavy, norm, gated)
            last_dim = layer6_dim
        else:
            widths = [pooled_dim, *hidden_dims]
            pairs = itertools.pairwise(widths)
            layers = [hidden_layer(*pair, heavy, norm, gated) for pair in pairs]
            self.hidden_layers = nn.Sequential(*layers)
            last_dim = widths[-1]
        self.layer7_bottleneck = nn.Sequential(Linear(last_dim, bottleneck_dim))
        if norm == "batch":
            self.layer7_bottleneck.append(nn.BatchNorm1d(bottleneck_dim))
        self.skip: nn.Linear | None = None
        if linear_skip:
            self.skip = Linear(pooled_dim, bottleneck_dim)
            # The last layer alone: BatchNorm behind weights of 0 would have endless gradients.
            for weights in self.layer7_bottleneck[-1].parameters():
                nn.init.zeros_(weights)
        self.bottleneck_to_voxels: nn.Sequential | None = None
        if with_voxels:
            self.bottleneck_to_voxels = nn.Sequential(
                *hidden_layer(bottleneck_dim, head_dim, heavy, norm), Linear(head_dim, n_voxels)
            )

    def forward(
        self,
        video: Tensor | None,
        audio: Tensor | None,
        text: Tensor | None,
        return_voxels: bool = False,
        vectors: Mapping[str, Tensor] | None = None,
        lacking: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode TRs. A modality that the model was built without must be None, no other may be.

        Parameters
        ----------
        video : Tensor or None
            (B, video_frames_per_tr * 3, video_height, video_width), floating point.
        audio : Tensor or None
            (B, audio_codebooks, T) codes with `use_encodec`, else (B, audio_mels, T) mels.
        text : Tensor or None
            (B, text_dim), floating point.
        return_voxels : bool
            Whether to go on to the voxels.
        vectors : mapping of str to Tensor, optional
            (B, length), floating point, of each vector that the model was built with.
        lacking : mapping of str to Tensor, optional
            (B,) bool, rows that are encoded as if they lacked a modality or vector, by its name:
            what its encoder gives becomes 0.

        Returns
        -------
        bottleneck_BD : Tensor
            (B, bottleneck_dim).
        voxels_BV : Tensor or None
            (B, n_voxels) predicted BOLD, in the units of the training targets.

        Raises
        ------
        InputError
            For a missing or unexpected modality or vector, whatever its encoder refuses, and voxels
            of an encoder that was built without them.
        """
        vectors = vectors or {}
        if vectors.keys() != self.vectors.keys():
            raise InputError(
                f"vectors: found {', '.join(vectors) or 'none'}, but this encoder was built with "
                f"{', '.join(self.vectors) or 'none'}"
            )
        features: dict[str, Tensor] = {}
        for name, encoder, values in (
            ("video", self.video_encoder, video),
            ("audio", self.audio_encoder, audio),
            ("text", self.text_encoder, text),
        ):
            if (encoder is None) != (values is None):
                found = "None" if values is None else "a tensor"
                raise InputError(
                    f"{name}: found {found}, but this encoder was built with modalities "
                    f"{', '.join(self.modalities)}"
                )
            if encoder is not None:
                features[name] = encoder(values)
        for name, vector_encoder in zip(self.vectors, self.vector_encoders, strict=True):
            features[name] = vector_encoder(vectors[name])
        for name, lacks_B in (lacking or {}).items():
            features[name] = features[name].masked_fill(lacks_B[:, None], 0)
        pooled_BD = trunk_BD = torch.cat([*features.values()], dim=1)
        for layer in (self.feature_conv, self.layer5, self.layer6, self.hidden_layers):
            trunk_BD = trunk_BD if layer is None else layer(trunk_BD)
        bottleneck_BD = self.layer7_bottleneck(trunk_BD)
        if self.skip is not None:
            bottleneck_BD = bottleneck_BD + self.skip(pooled_BD)
        if not return_voxels:
            return bottleneck_BD, None
        if self.bottleneck_to_voxels is None:
            raise InputError("return_voxels: this encoder was built without voxels")
        return bottleneck_BD, self.bottleneck_to_voxels(bottleneck_BD)

    def get_parameter_count(self) -> dict[str, int]:
        """Count the parameters of each part, 0 for an encoder that was not built, and the total."""
        parts: dict[str, nn.Module | None] = {
            "video_encoder": self.video_encoder,
            "audio_encoder": self.audio_encoder,
            "text_encoder": self.text_encoder,
            **({"vector_encoders": self.vector_encoders} if self.vectors else {}),
            **({"hidden_layers": self.hidden_layers} if self.hidden_layers is not None else {}),
            **({"skip": self.skip} if self.skip is not None else {}),
            "feature_conv": self.feature_conv,
            "layer5": self.layer5,
            "layer6": self.layer6,
            "layer7_bottleneck": self.layer7_bottleneck,
            "bottleneck_to_voxels": self.bottleneck_to_voxels,
            "total": self,
        }
        return {
            name: 0 if part is None else sum(weights.numel() for weights in part.parameters())
            for name, part in parts.items()
        }


def create_encoder(**arguments: Any) -> MultimodalEncoder:
    """Build a `MultimodalEncoder`, from the keyword arguments that its constructor takes."""
    return MultimodalEncoder(**arguments)


def _known_modalities(modalities: Sequence[str], at_least: int) -> tuple[str, ...]:
    """Return the modalities in the order of `MODALITIES`; refuse unknown, repeated, too few."""
    given = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if len(given) < at_least or len(set(given)) < len(given) or not set(given) <= set(MODALITIES):
        raise InputError(
            f"modalities: found {given}, must be one or more of {', '.join(MODALITIES)}, each once"
        )
    return tuple(name for name in MODALITIES if name in given)

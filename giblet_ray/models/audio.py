"""The sound of one TR, as EnCodec codes or as a mel spectrogram -> a feature vector.

Shapes: B rows (one per TR), K codebooks, T frames within the TR, E length of a code's embedding,
M mel bands, C input channels of the convolutions (K*E, or M), F channels of one branch,
D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models._checks import (
    odd_kernel_sizes,
    require_floats,
    require_rate,
    require_shape,
    require_sizes,
)
from giblet_ray.models._layers import Norm, hidden_layer, normalised_channels, require_norm
from giblet_ray.models.code_tables import CodeRows, convolve_codes, tables_pay
from giblet_ray.models.codebooks import CODE_NUMBERS
from giblet_ray.models.linear import Linear

CodeEmbedding = Literal["shared", "per_codebook", "codec"]
CODE_BRANCH_CHANNELS = 128
MEL_BRANCH_CHANNELS = 64
HIDDEN_FEATURES = 256


class AudioEncoder(nn.Module):
    """Convolutions of several widths over a TR's frames, their maxima over time, two linear layers.

    ::

        codes (B, K, T) -> code_embedding -> (B, K*E, T) --+-- Conv1d k=3 -- max over T --+
        or                                                 +-- Conv1d k=5 -- max over T --+-> (B, D)
        mels (B, M, T) ------------------------------------+-- Conv1d k=7 -- max over T --+

    Parameters
    ----------
    input_mels : int
        M, used without `use_encodec`.
    input_codebooks : int
        K, used with `use_encodec`.
    frames_per_tr : int
        Frames that a TR usually has. No weight depends on it: `forward` takes any number.
    output_features : int
        D, the length of the result.
    use_encodec : bool
        Whether the input is EnCodec codes.
    vocab_size : int
        Number of codes in a codebook.
    embed_dim : int
        E. One embedding is shared by all codebooks.
    kernel_sizes : sequence of int
        One branch for each, frames; all odd.
    dropout : float
        Rate before the last linear layer.
    norm : str
        How branches and hidden layer are normalised; see :mod:`giblet_ray.models._layers`.
    code_embedding : str
        shared: one embedding of all codebooks; per_codebook: one of each; codec: EnCodec's own
        vectors, see `take_codebooks`, summed over codebooks: C is 128.
    train_codebooks : bool
        Whether EnCodec's vectors are trained.

    Attributes
    ----------
    code_embedding : nn.Embedding
        (vocab_size, embed_dim), or (K * vocab_size, embed_dim or 128) where codebooks have their
        own; with `use_encodec` only.
    branches : nn.ModuleList
        Conv1d, norm and activation for each kernel size: (B, C, T) -> (B, F, T), same padding.

    Raises
    ------
    InputError
        For a size below 1, an even kernel size, a rate outside [0, 1), or an unknown norm or code
        embedding.
    """

    def __init__(
        self,
        input_mels: int = 2048,
        input_codebooks: int = 8,
        frames_per_tr: int = 65,
        output_features: int = 256,
        use_encodec: bool = False,
        vocab_size: int = 1024,
        embed_dim: int = 64,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        dropout: float = 0.2,
        norm: Norm = "batch",
        code_embedding: CodeEmbedding = "shared",
        train_codebooks: bool = False,
    ) -> None:
        super().__init__()
        require_sizes(
            input_mels=input_mels,
            input_codebooks=input_codebooks,
            frames_per_tr=frames_per_tr,
            output_features=output_features,
            vocab_size=vocab_size,
            embed_dim=embed_dim,
        )
        require_rate(dropout=dropout)
        require_norm(norm)
        self.input_mels = input_mels
        self.input_codebooks = input_codebooks
        self.frames_per_tr = frames_per_tr
        self.output_features = output_features
        self.use_encodec = use_encodec
        self.vocab_size = vocab_size
        self.embed_dim = embed_dim
        self.kernel_sizes = odd_kernel_sizes(kernel_sizes)

        if code_embedding not in get_args(CodeEmbedding):
            accepted = ", ".join(get_args(CodeEmbedding))
            raise InputError(f"code_embedding: found {code_embedding!r}, must be one of {accepted}")
        self._embedding_kind = code_embedding
        if use_encodec:
            n_codes = vocab_size * (1 if code_embedding == "shared" else input_codebooks)
            if code_embedding == "codec":
                nothing = torch.zeros(n_codes, CODE_NUMBERS)
                self.code_embedding = nn.Embedding.from_pretrained(
                    nothing, freeze=not train_codebooks
                )
            else:
                self.code_embedding = nn.Embedding(n_codes, embed_dim)
            in_channels = CODE_NUMBERS if code_embedding == "codec" else input_codebooks * embed_dim
            branch_channels = CODE_BRANCH_CHANNELS
        else:
            in_channels, branch_channels = input_mels, MEL_BRANCH_CHANNELS
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(in_channels, branch_channels, size, padding=size // 2),
                *normalised_channels(branch_channels, norm, axes=1),
            )
            for size in self.kernel_sizes
        )
        self.pool = nn.AdaptiveMaxPool1d(1)
        self.projection = nn.Sequential(
            *hidden_layer(branch_channels * len(self.kernel_sizes), HIDDEN_FEATURES, dropout, norm),
            Linear(HIDDEN_FEATURES, output_features),
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Encode the sound of each TR.

        Parameters
        ----------
        audio : Tensor
            With `use_encodec`, codes (B, K, T) in [0, vocab_size); floats are cut to integers.
            Otherwise mels (B, M, T), floating point; (B, M) is taken as one frame, with a warning.

        Returns
        -------
        Tensor
            (B, output_features).

        Raises
        ------
        InputError
            For another shape. On the CPU also for a code outside [0, vocab_size); elsewhere codes
            are not looked at, since that would wait for the device.
        """
        maxima_BF = []
        for branch, values_BFT in zip(self.branches, self._convolved(audio), strict=True):
            for layer in list(branch.children())[1:]:
                values_BFT = layer(values_BFT)
            maxima_BF.append(self.pool(values_BFT).squeeze(-1))
        features_BD: Tensor = self.projection(torch.cat(maxima_BF, dim=1))
        return features_BD

    def embed_codes(self, codes_BKT: Tensor) -> Tensor:
        """Look up every code, and stack the codebooks' embeddings as the channels of each frame;
        EnCodec's own are summed.

        Parameters
        ----------
        codes_BKT : Tensor
            (B, K, T) codes, T at least 1.

        Returns
        -------
        Tensor
            (B, K*E, T), or (B, 128, T), whose position t holds frame t.

        Raises
        ------
        InputError
            As `forward`.
        """
        codes_BKT = self._known_codes(codes_BKT)
        if self._embedding_kind != "shared":
            first_K = torch.arange(self.input_codebooks, device=codes_BKT.device) * self.vocab_size
            codes_BKT = codes_BKT + first_K[:, None]
        embedded_BKTE: Tensor = self.code_embedding(codes_BKT)
        if self._embedding_kind == "codec":
            return embedded_BKTE.sum(1).transpose(1, 2)
        # The axes must be swapped before K and E are merged: a reshape alone also gives
        # (B, K*E, T), but with time and embedding interleaved.
        return embedded_BKTE.transpose(2, 3).flatten(1, 2)

    @torch.no_grad()
    def take_codebooks(self, vectors: Tensor) -> None:
        """Read codes as EnCodec does, by its vectors (K * 1024, 128), codebook by codebook."""
        self.code_embedding.weight.copy_(vectors)

    def _convolved(self, audio: Tensor) -> Iterator[Tensor]:
        """Yield what each branch's convolution makes of the sound, (B, F, T)."""
        if self.use_encodec and self._looks_codes_up(audio):
            rows = CodeRows(self._known_codes(audio), self.vocab_size)
            embedding = self.code_embedding.weight.unflatten(0, (-1, self.vocab_size))
            embedding_KVE = embedding.expand(self.input_codebooks, -1, -1)
            for branch in self.branches:
                kernel = branch.get_parameter("0.weight"), branch.get_parameter("0.bias")
                yield convolve_codes(rows, embedding_KVE, *kernel)
        else:
            frames_BCT = self.embed_codes(audio) if self.use_encodec else self._mel_frames(audio)
            for branch in self.branches:
                yield next(branch.children())(frames_BCT)

    def _looks_codes_up(self, codes_BKT: Tensor) -> bool:
        """Whether codes are convolved by tables: in float32 on a CPU, where that pays. Elsewhere a
        product costs less than what is read for it; and EnCodec's own vectors, summed, have fewer
        channels to multiply than there are codebooks to look up."""
        if codes_BKT.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return False
        n_frames = codes_BKT.numel() // self.input_codebooks
        pays = tables_pay(n_frames, self.vocab_size, self.embed_dim)
        return pays and self._embedding_kind != "codec"

    def _known_codes(self, codes_BKT: Tensor) -> Tensor:
        """Return codes as int64; refuse other shapes, and on the CPU codes that there are not."""
        require_shape("audio", codes_BKT, ("B", self.input_codebooks, "T"))
        _require_frames(codes_BKT)
        codes_BKT = codes_BKT.long()
        if codes_BKT.device.type == "cpu":
            self._require_known_codes(codes_BKT)
        return codes_BKT

    def _mel_frames(self, mels: Tensor) -> Tensor:
        if mels.dim() == 2:
            warnings.warn(
                f"audio: a mel input of shape {tuple(mels.shape)} has no time axis and is taken as "
                "one frame per TR",
                stacklevel=6,  # the line that calls the encoder, past torch's two frames
            )
            mels = mels.unsqueeze(-1)
        require_shape("audio", mels, ("B", self.input_mels, "T"))
        require_floats("audio", mels)
        _require_frames(mels)
        return mels

    def _require_known_codes(self, codes_BKT: Tensor) -> None:
        outside = (codes_BKT < 0) | (codes_BKT >= self.vocab_size)
        if outside.any():
            row, codebook, frame = outside.nonzero()[0].tolist()
            raise InputError(
                f"audio: found code {int(codes_BKT[row, codebook, frame])} (row {row}, codebook "
                f"{codebook}, frame {frame}), must be in [0, {self.vocab_size})"
            )


def _require_frames(frames: Tensor) -> None:
    if frames.shape[-1] == 0:
        raise InputError(f"audio: found no frame in shape {tuple(frames.shape)}, must hold one")

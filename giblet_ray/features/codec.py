"""EnCodec at 24 kHz: sound to codes, in memory that does not grow with the film.

Défossez et al. 2022, High Fidelity Neural Audio Compression, arXiv:2210.13438.

Shapes: B batch, N samples, T code frames (320 samples each), K codebooks, D embedding dimensions,
S codes of a codebook.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from giblet_ray.errors import InputError
from giblet_ray.features.codes import (
    CODEBOOK_SIZE,
    FRAME_RATE,
    bandwidth_of_codebooks,
    windows_at_a_time,
)
from giblet_ray.features.encodec_library import build_model

SAMPLE_RATE = 24_000
"""Samples per second that the codec hears."""
HOP_SAMPLES = SAMPLE_RATE // FRAME_RATE
"""Samples per code frame."""
AGREEMENT_SECONDS = 30
"""Longest stretch of audio on which chunked and whole encoding are compared (s)."""
SEED_SECONDS = 60
"""Audio of all films together that an untrained codec is made from, at most (s)."""
_STRETCH_FRAMES = 2 * FRAME_RATE
_SEED_PIECES = 10
_SEED_PIECE_SECONDS = 3


class Codec:
    """An EnCodec model with the description of its weights; see `load_codec`.

    Attributes
    ----------
    weights : str
        Where the weights are from, in words.
    checksum : str
        SHA-256 of the weights: the same checksum, the same codes.
    device : torch.device
    """

    def __init__(self, model: Any, weights: str, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.weights = weights
        self.model = model.to(self.device).eval()
        layers = model.encoder.model
        for layer in layers.modules():
            if isinstance(layer, torch.nn.ELU):
                # Nobody reads again what they are given: a residual block's shortcut comes first.
                layer.inplace = True
        first = [type(layer).__name__ for layer in layers].index("SLSTM")
        self._convolutions, self._recurrent = layers[:first], layers[first:]
        self._past_frames = _past_frames(self._convolutions)
        self.checksum = _checksum(model.state_dict())

    def save(self, path: str | Path) -> None:
        """Write the codec to a .safetensors file for `load_codec`; it appears there whole."""
        state = {
            name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()
        }
        partial = Path(f"{path}.partial-{os.getpid()}")
        safetensors.torch.save_file(state, partial, metadata={"weights": self.weights})
        partial.replace(path)

    def encode(
        self,
        blocks: Iterable[np.ndarray],
        n_codebooks: int = 8,
        chunk_seconds: float = 10.0,
        warmup_seconds: float = 1.0,
    ) -> np.ndarray:
        """Encode a film's sound chunk by chunk.

        The model is causal, and code frame t depends on the samples before its end alone. Only
        the past that a chunk does not see can change its codes (the convolutions look back a
        few frames, the LSTM further, fading), hence a warm-up whose codes are dropped:

            samples   |--------|--------|--------|-----|
            window 0  [kept             ]
            window 1           [ warm-up | kept  ]          windows start on the
            window 2                    [ warm-up| kept]    320-sample grid of the frames

        Several windows are heard at a time by the recurrent layers, which read all their weights
        for each frame; always as many, so that the codes of one depend on no other.

        Parameters
        ----------
        blocks : iterable of np.ndarray of float32, shape (samples,)
            Mono sound at 24 kHz, full scale at -1 and 1.
        n_codebooks : int
            2, 4, 8, 16 or 32. The first k codebooks of a wide encoding are the encoding at k.
        chunk_seconds : float
            New sound per window (s), rounded to frames. Memory depends on it and the warm-up: eight
            windows are heard at a time, of more than 10 s fewer.
        warmup_seconds : float
            Sound before a chunk that the model hears first (s).

        Returns
        -------
        codes_KT : np.ndarray of int16, shape (n_codebooks, ceil(samples / 320)), in [0, 1024)

        Raises
        ------
        InputError
            There is no sound, or EnCodec has no such number of codebooks.
        """
        bandwidth = bandwidth_of_codebooks(n_codebooks)
        windows = _windows(blocks, chunk_seconds, warmup_seconds)
        n_rows, codes = windows_at_a_time(chunk_seconds), []
        while some := list(itertools.islice(windows, n_rows)):
            heard = [window_N for window_N, _ in some]
            encoded = self._encode_windows(heard, n_rows, bandwidth)
            codes += [
                codes_KT[:, n_warmup:]
                for codes_KT, (_, n_warmup) in zip(encoded, some, strict=True)
            ]
        return np.concatenate(codes, axis=1)

    def chunk_agreement(
        self,
        waveform_N: np.ndarray,
        n_codebooks: int = 8,
        chunk_seconds: float = 10.0,
        warmup_seconds: float = 1.0,
    ) -> float:
        """Share of codes that are the same encoded in chunks and encoded whole.

        Measured on the first `AGREEMENT_SECONDS` of the waveform, over all codebooks and frames.
        """
        waveform_N = waveform_N[: AGREEMENT_SECONDS * SAMPLE_RATE]
        (whole_KT,) = self._encode_windows([waveform_N], 1, bandwidth_of_codebooks(n_codebooks))
        chunked_KT = self.encode([waveform_N], n_codebooks, chunk_seconds, warmup_seconds)
        return float((whole_KT == chunked_KT).mean())

    def _encode_windows(
        self, windows: Sequence[np.ndarray], n_rows: int, bandwidth: float
    ) -> list[np.ndarray]:
        """Return the codes (K, T) of each of some windows, heard with silence up to `n_rows`."""
        with torch.inference_mode():
            convolved = [
                self._convolve(torch.tensor(window_N, dtype=torch.float32, device=self.device))
                for window_N in windows
            ]
            n_frames = [each_1DT.shape[2] for each_1DT in convolved]
            shape = n_rows, convolved[0].shape[1], max(n_frames)
            batch_BDT = torch.zeros(shape, device=self.device)
            for row_DT, each_1DT, n in zip(batch_BDT, convolved, n_frames, strict=False):
                row_DT[:, :n] = each_1DT[0]
            codes_KBT: torch.Tensor = self.model.quantizer.encode(
                self._recurrent(batch_BDT), self.model.frame_rate, bandwidth
            )
        codes_BKT = codes_KBT.transpose(0, 1).cpu().numpy().astype(np.int16)
        return [codes_KT[:, :n] for codes_KT, n in zip(codes_BKT, n_frames, strict=False)]

    def _convolve(self, window_N: torch.Tensor) -> torch.Tensor:
        """Return what the convolutions make of a window, (1, D, T).

        A stretch at a time, so that what the first layers make of it, 100 times as many numbers as
        samples, stays in the cache; each after the past that its first frame depends on::

            window      |===========|===========|=====|
            stretch 1             --|===========|            the past's own frames are dropped
        """
        frames = []
        for start in range(0, -(-len(window_N) // HOP_SAMPLES), _STRETCH_FRAMES):
            past = min(start, self._past_frames)
            heard = slice((start - past) * HOP_SAMPLES, (start + _STRETCH_FRAMES) * HOP_SAMPLES)
            frames.append(self._convolutions(window_N[None, None, heard])[..., past:])
        return torch.cat(frames, dim=-1)


def _past_frames(convolutions: torch.nn.Module) -> int:
    """Return how many frames before it one depends on."""
    samples, stride = 0, 1
    for layer in convolutions.modules():
        if isinstance(layer, torch.nn.Conv1d):
            (kernel,), (step,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
            samples += (dilation * (kernel - 1) + 1 - step) * stride
            stride *= step
    return -(-samples // stride)


def _windows(
    blocks: Iterable[np.ndarray], chunk_seconds: float, warmup_seconds: float
) -> Iterator[tuple[np.ndarray, int]]:
    """Overlapping windows of the sound, each with the number of its frames that are warm-up."""
    chunk = max(1, round(chunk_seconds * FRAME_RATE)) * HOP_SAMPLES
    n_warmup = round(warmup_seconds * FRAME_RATE)
    window = n_warmup * HOP_SAMPLES + chunk
    held_N = np.empty(0, np.float32)
    first = True
    for block_N in blocks:
        held_N = np.concatenate([held_N, block_N])
        # A full window waits until more sound is known to follow, so the last one is never empty.
        while len(held_N) > window:
            yield held_N[:window], 0 if first else n_warmup
            held_N = held_N[chunk:]
            first = False
    if len(held_N) == 0:
        raise InputError("the audio holds no samples; nothing can be encoded")
    yield held_N, 0 if first else n_warmup


def load_codec(weights: str, device: str | torch.device = "cpu") -> Codec:
    """Load a codec with trained weights, or one that `Codec.save` wrote.

    Parameters
    ----------
    weights : str
        ``pretrained``: downloaded by the library, once per machine. A folder: it holds the
        library's weight file, encodec_24khz-d7cc33bc.th. A .safetensors file: a saved codec.
        (An untrained codec is made from audio, by `seed_untrained_codec`.)
    device : str or torch.device
        Where the codec runs.

    Raises
    ------
    InputError
        The weights are not there, cannot be downloaded, or are not EnCodec's.
    """
    if weights.endswith(".safetensors"):
        return _load_saved(weights, device)
    folder = None if weights == "pretrained" else Path(weights)
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"codec weights '{weights}' are neither a folder nor a .safetensors file; "
            "accepted are pretrained, a folder that holds the weights, or untrained"
        )
    try:
        model = build_model(pretrained=True, repository=folder)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if folder is None:
            raise InputError(
                f"--codes.weights pretrained: EnCodec's weights cannot be downloaded ({reason}); "
                "give a folder that holds encodec_24khz-d7cc33bc.th, or untrained to do without"
            ) from error
        raise InputError(
            f"{folder}: no usable EnCodec weights ({reason}); encodec_24khz-d7cc33bc.th is expected"
        ) from error
    source = "downloaded" if folder is None else f"from {folder}"
    return Codec(model, f"pretrained encodec_24khz-d7cc33bc, {source}", device)


def _load_saved(path: str, device: str | torch.device) -> Codec:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
            weights = (file.metadata() or {})["weights"]
        model = build_model(pretrained=False)
        model.load_state_dict(state)
    except (OSError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path}: not a saved codec ({str(error).splitlines()[0]}); a file that Codec.save "
            "wrote is expected"
        ) from error
    return Codec(model, weights, device)


def seed_untrained_codec(
    waveform_N: np.ndarray, seed: int = 0, device: str | torch.device = "cpu"
) -> Codec:
    """Make a codec without trained weights, whose codes still follow the sound.

    The encoder's random weights are scaled, layer by layer, so that on the audio at hand each
    channel has mean 0 and variance 1 (the initialisation of Salimans & Kingma 2016, Weight
    Normalization, section 3). Otherwise the sound would fade from layer to layer until its part
    of the embedding is a fiftieth of the constant part, and rounding would decide the codes.

    The codebooks, all zero at first, are seeded level after level from the residuals of the same
    audio: 1024 residuals, slightly jittered, attract the others, and each code becomes the mean of
    those nearest to it, drawn towards the overall mean as by one more member there, so that no
    residual vanishes and the deeper levels have something left to code. It is one round of the
    library's k-means, which takes 50, with distances by matrix products.

    Parameters
    ----------
    waveform_N : np.ndarray of float32, shape (samples,)
        Mono sound at 24 kHz. Of more than 30 s, ten pieces of 3 s are used, spread evenly.
    seed : int
        Seed of the encoder's weights and of the choice of residuals. The global random state of
        torch is left as it was.
    device : str or torch.device
        Where the codec runs; it is made on the CPU.

    Raises
    ------
    InputError
        There is no sound.
    """
    if len(waveform_N) == 0:
        raise InputError("the audio holds no samples; codebooks cannot be seeded from it")
    samples_BN = waveform_N[None]
    piece = _SEED_PIECE_SECONDS * SAMPLE_RATE
    if len(waveform_N) > _SEED_PIECES * piece:
        starts = np.linspace(0, len(waveform_N) - piece, _SEED_PIECES).astype(int)
        samples_BN = np.stack([waveform_N[start : start + piece] for start in starts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(pretrained=False)
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        embedded_BDT = _standardise_channels(model.encoder, samples_BN)
        residual_TD = embedded_BDT.transpose(1, 2).flatten(0, 1)
        for level in model.quantizer.vq.layers:
            codebook = level._codebook
            codebook.embed.copy_(_seeded_codes(residual_TD, generator))
            codebook.embed_avg.copy_(codebook.embed)
            codebook.cluster_size.fill_(1)
            codebook.inited.fill_(1)
            residual_TD = residual_TD - codebook.embed[codebook.quantize(residual_TD)]
    seconds = samples_BN.size / SAMPLE_RATE
    return Codec(model, f"untrained, seed {seed}, seeded from {seconds:.1f} s of audio", device)


def _standardise_channels(encoder: torch.nn.Module, samples_BN: np.ndarray) -> torch.Tensor:
    """Rescale each convolution for outputs of mean 0, variance 1; the embedding (B, D, T)."""

    def rescale(conv: Any, _: Any, output_BCN: torch.Tensor) -> torch.Tensor:
        mean_C = output_BCN.mean(dim=(0, 2))
        # Silence has no variance; the floor keeps its channels finite.
        std_C = output_BCN.std(dim=(0, 2), correction=0).clamp(min=1e-4)
        conv.weight_g /= std_C[:, None, None]
        conv.bias.copy_((conv.bias - mean_C) / std_C)
        return (output_BCN - mean_C[:, None]) / std_C[:, None]

    convolutions = [module for module in encoder.modules() if isinstance(module, torch.nn.Conv1d)]
    hooks = [conv.register_forward_hook(rescale) for conv in convolutions]
    samples_BCN = torch.tensor(samples_BN, dtype=torch.float32)[:, None]
    embedded_BDT: torch.Tensor = encoder(samples_BCN)
    for hook in hooks:
        hook.remove()
    return embedded_BDT


def _seeded_codes(residual_TD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """1024 distinct vectors that cover the residuals, (S, D)."""
    n_frames, n_dims = residual_TD.shape
    mean_D = residual_TD.mean(dim=0)
    centred_TD = residual_TD - mean_D
    spread = max(float(centred_TD.square().mean().sqrt()), 1e-6)
    order = torch.randperm(n_frames, generator=generator)
    picked = order.repeat(-(-CODEBOOK_SIZE // n_frames))[:CODEBOOK_SIZE]
    jitter_SD = torch.randn(CODEBOOK_SIZE, n_dims, generator=generator)
    seeds_SD = centred_TD[picked] + 0.05 * spread * jitter_SD

    nearest_T = torch.cdist(centred_TD, seeds_SD).argmin(dim=1)
    members_S = torch.bincount(nearest_T, minlength=CODEBOOK_SIZE)
    sums_SD = torch.zeros_like(seeds_SD).index_add_(0, nearest_T, centred_TD)
    codes_SD = torch.where(members_S[:, None] > 0, sums_SD / (members_S[:, None] + 1), seeds_SD / 2)
    return mean_D + codes_SD


def _checksum(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

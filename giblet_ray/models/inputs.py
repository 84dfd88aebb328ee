"""From rows as they lie on disk to what the encoder takes, on the device.

Shapes: B windows, W TRs per window, N = B * W rows, K codebooks, T frames per TR, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def encoder_inputs(
    values: Mapping[str, Tensor], codebooks: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return video, audio and text of a batch, None for a modality that it does not have.

    Parameters
    ----------
    values : mapping of str to Tensor
        frames (B, W, 3, height, width) uint8; codes (B, W, K, T) int16 or mel (B, W, mels, T)
        float16; text (B, W, dim) float32. Those that are there.
    codebooks : int
        Codes of the first codebooks are used.

    Returns
    -------
    video : Tensor or None
        (N, 3, height, width) float32 in [-0.5, 0.5].
    audio : Tensor or None
        (N, K, T) int64 codes, or (N, mels, T) float32.
    text : Tensor or None
        (N, dim) float32.
    """
    video = audio = text = None
    if "frames" in values:
        video = values["frames"].flatten(0, 1).float().div_(255).sub_(0.5)
    if "codes" in values:
        audio = values["codes"].flatten(0, 1)[:, :codebooks].long()
    elif "mel" in values:
        audio = values["mel"].flatten(0, 1).float()
    if "text" in values:
        text = values["text"].flatten(0, 1).float()
    return video, audio, text


def z_score(bold: Tensor, scan: Tensor, mean_SV: Tensor, std_SV: Tensor, valid_V: Tensor) -> Tensor:
    """Z-score the BOLD of a batch, scan by scan.

    Parameters
    ----------
    bold : Tensor
        (B, W, V) as on disk.
    scan : Tensor
        (B,) index of each window's scan.
    mean_SV, std_SV : Tensor
        (scans, V) float32, from training TRs.
    valid_V : Tensor
        (V,) bool; the other voxels become 0.

    Returns
    -------
    Tensor
        (N, V) float32.
    """
    scored = (bold.float() - mean_SV[scan][:, None]) / std_SV[scan][:, None]
    return torch.where(valid_V, scored, 0.0).flatten(0, 1)

"""A codec each of whose first codebooks hears one tone of the planted sound.

An untrained EnCodec hears all of the sound in its first codebook. This one has the same encoder,
and codebooks whose codes lie on lines at right angles, one line per codebook:

    codebook s :  code 0, off[s] along line[s], where tone s is silent
                  code 1, on[s] along line[s], where it sounds

Quantising the embedding, codebook s sees how far it reaches along its line, and leaves what is at
right angles to it to the codebooks that follow. The line is the one along which tone s is told
best, by least squares.

N: samples, T: code frames, D: embedding dimensions, S: tones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from planted import TONES_HZ

from giblet_ray.features.audio import read_audio
from giblet_ray.features.codec import SAMPLE_RATE, Codec, seed_untrained_codec
from giblet_ray.features.codes import CODEBOOK_SIZE, FRAME_RATE

_FIT_SECONDS = 30.0
_SEED_SECONDS = 6.0
_DELAY_FRAMES = 2  # the encoder is causal: what sounds now is told best in two frames' time
_RIDGE = 1e-3


def fit_planted_codec(film_path: Path, tones_ST: np.ndarray, seed: int) -> Codec:
    """Make the codec for a film with planted sound.

    Parameters
    ----------
    film_path : pathlib.Path
        The film; its first half minute is heard.
    tones_ST : numpy.ndarray, (S, T)
        Loudness of each tone in the film, 1 at its loudest.
    seed : int
        Seed of the encoder's weights.

    Returns
    -------
    Codec
        Whose first S codebooks hear one tone each; the others are an untrained codec's.
    """
    seconds = min(_FIT_SECONDS, tones_ST.shape[1] / FRAME_RATE)
    samples_N = np.concatenate(list(read_audio(film_path, SAMPLE_RATE, duration_seconds=seconds)))
    # Sums are rounded otherwise by another number of threads, and the weights would differ.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codec = seed_untrained_codec(samples_N[: round(_SEED_SECONDS * SAMPLE_RATE)], seed)
    embedded_TD = codec.embed(samples_N)[0].T.double().numpy()
    torch.set_num_threads(n_threads)

    heard_TD = embedded_TD[_DELAY_FRAMES:]
    tones_TS = tones_ST[:, : len(heard_TD)].T
    lines_DS = _lines(heard_TD, tones_TS)
    for line_D, tone_T, level in zip(
        lines_DS.T, tones_TS.T, codec.model.quantizer.vq.layers, strict=False
    ):
        reach_T = heard_TD @ line_D
        # The codes that do not occur lie where no sound is.
        steps = np.full(CODEBOOK_SIZE, 1e3 * np.abs(reach_T).max())
        steps[:2] = reach_T[tone_T < 0.5].mean(), reach_T[tone_T >= 0.5].mean()
        codebook = level._codebook
        codebook.embed.copy_(torch.from_numpy(np.outer(steps, line_D)))
        codebook.embed_avg.copy_(codebook.embed)
    return Codec(
        codec.model, f"made for a planted signal: each of {len(TONES_HZ)} codebooks hears a tone"
    )


def _lines(heard_TD: np.ndarray, tones_TS: np.ndarray) -> np.ndarray:
    """Orthonormal directions (D, S), each of which rises with its tone."""
    heard_TD = heard_TD - heard_TD.mean(axis=0)
    told_TS = tones_TS - tones_TS.mean(axis=0)
    gram_DD = heard_TD.T @ heard_TD
    gram_DD += _RIDGE * np.trace(gram_DD) / len(gram_DD) * np.eye(len(gram_DD))
    weights_DS = np.linalg.solve(gram_DD, heard_TD.T @ told_TS)
    lines_DS, upper_SS = np.linalg.qr(weights_DS)
    return lines_DS * np.sign(np.diag(upper_SS))

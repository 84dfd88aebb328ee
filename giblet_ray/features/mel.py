"""Mel spectrograms per TR, the alternative to audio codes.

Shapes: R TRs, M mel bands, F mel frames per TR, N samples, Q frequency bins.

Frame j of TR i is centred at (i + (j + 1/2) / F) TRs, computed from the film's start each time, so
that nothing drifts:

    TR               |           0           |           1           |
    frames (F = 4)      *     *     *     *     *     *     *     *
    analysis window  [--+--]                          [--+--]   85 ms, Hann
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import scipy.fft
import scipy.sparse

from giblet_ray.features.audio import Tape
from giblet_ray.features.clock import exact_seconds

_WINDOW_SECONDS = 2048 / 24_000
"""Length of the analysis window: 85 ms, 3.7 frames apart at 65 frames per 1.5 s."""
_POWER_FLOOR = 1e-10
"""100 dB below a mean power of 1; digital silence comes out as log(1e-10) = -23."""


def mel_per_tr(
    blocks: Iterable[np.ndarray],
    n_trs: int,
    tr_seconds: float,
    n_mels: int = 2048,
    frames_per_tr: int = 65,
    sample_rate: int = 24_000,
) -> np.ndarray:
    """Log-mel spectrogram of each TR.

    The value of a band is log(sum_q w_q |X_q|^2 / (sum_n h_n)^2), natural logarithm, with X the
    spectrum under the Hann window h and w the band's triangle, whose weights sum to 1. A sine of
    amplitude 1 is log(1/4) at its peak where bands are narrow (below 4 kHz). Memory besides the
    result is that of a TR and a block.

    2048 bands over 12 kHz are as narrow as 1.7 Hz. The window's spectrum is therefore read at a
    spacing finer than that (zero-padding to 16384 points, 1.5 Hz), so that no band is empty; its
    own resolution stays that of 85 ms, and the lowest bands are interpolations of it.

    Parameters
    ----------
    blocks : iterable of np.ndarray of float32, shape (samples,)
        The film's sound from its time 0 on, as `audio.read_audio` yields it.
    n_trs : int
        TRs to cut.
    tr_seconds : float
        Duration of a TR (s).
    n_mels : int
        Bands, evenly spaced on the mel scale from 0 Hz to half the sample rate.
    frames_per_tr : int
        Spectra per TR.
    sample_rate : int
        Rate of the samples (Hz).

    Returns
    -------
    mel_RMF : np.ndarray of float16, shape (n_trs, n_mels, frames_per_tr)

    Raises
    ------
    InputError
        The sound ends before the last TR.
    """
    n_fft = fft_size(n_mels, sample_rate)
    bank_MQ = mel_filterbank(n_mels, n_fft, sample_rate)
    half = round(_WINDOW_SECONDS * sample_rate / 2)
    window_N = np.hanning(2 * half + 1)[:-1].astype(np.float32)
    window_N /= window_N.sum()

    tr_samples = exact_seconds(tr_seconds) * sample_rate
    hop = tr_samples / frames_per_tr
    mel_RMF = np.empty((n_trs, n_mels, frames_per_tr), np.float16)
    sound = Tape(blocks, silence_before=half)
    for i in range(n_trs):
        # Frame k of the film is centred at (k + 1/2) hops, in whole samples.
        first = i * frames_per_tr
        centres_F = np.array([(2 * k + 1) * hop // 2 for k in range(first, first + frames_per_tr)])
        start, stop = int(centres_F[0]) - half, int(centres_F[-1]) + half
        samples_N = sound.read(start, stop, needed=math.floor((i + 1) * tr_samples))
        starts_F = (centres_F - centres_F[0]).astype(np.int64)
        windows_FN = np.lib.stride_tricks.sliding_window_view(samples_N, 2 * half)[starts_F]
        spectrum_FQ = scipy.fft.rfft(windows_FN * window_N, n=n_fft)
        power_QF = (spectrum_FQ.real**2 + spectrum_FQ.imag**2).T
        mel_RMF[i] = np.log(np.maximum(bank_MQ @ power_QF, _POWER_FLOOR))
    return mel_RMF


def fft_size(n_mels: int, sample_rate: int) -> int:
    """Smallest power of two whose bins are closer than the narrowest bands are apart.

    A band reaches from its left neighbour's centre to its right one's, so that it then holds at
    least one bin.
    """
    edges_hz = _band_edges_hz(n_mels, sample_rate)
    window = round(_WINDOW_SECONDS * sample_rate)
    n_bins = max(sample_rate / float(np.diff(edges_hz).min()), window)
    return 1 << math.ceil(math.log2(n_bins))


def mel_filterbank(n_mels: int, n_fft: int, sample_rate: int) -> scipy.sparse.csr_array:
    """Triangular bands on the mel scale, the weights of each summing to 1.

    A bin between two centres belongs to the two bands there, hence a sparse matrix: 16 thousand
    weights instead of 16 million.

    Returns
    -------
    bank_MQ : sparse array of float32, shape (n_mels, n_fft // 2 + 1)
    """
    edges_hz = _band_edges_hz(n_mels, sample_rate)
    bins_hz = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    # Bin q lies between edges e and e + 1: on the rising side of band e, the falling one of e - 1.
    edge_Q = np.clip(np.searchsorted(edges_hz, bins_hz, side="right") - 1, 0, n_mels)
    rise_Q = (bins_hz - edges_hz[edge_Q]) / (edges_hz[edge_Q + 1] - edges_hz[edge_Q])
    band = np.concatenate([edge_Q, edge_Q - 1])
    weight = np.concatenate([rise_Q, 1 - rise_Q])
    bin_ = np.tile(np.arange(len(bins_hz)), 2)
    inside = (band >= 0) & (band < n_mels) & (weight > 0)
    bank_MQ = scipy.sparse.csr_array(
        (weight[inside], (band[inside], bin_[inside])), shape=(n_mels, len(bins_hz))
    )
    sums_M = bank_MQ.sum(axis=1)
    return scipy.sparse.csr_array(bank_MQ.multiply(1 / sums_M[:, None])).astype(np.float32)


def _band_edges_hz(n_mels: int, sample_rate: int) -> np.ndarray:
    """Edges of the bands (Hz), (n_mels + 2,); band m spans edges m to m + 2, its centre m + 1.

    Slaney's mel scale (Auditory Toolbox, 1998; librosa's default): 3 mels per 200 Hz up to 1 kHz,
    then 27 mels per factor of 6.4.
    """
    top_mel = 15 + 27 * math.log(sample_rate / 2 / 1000) / math.log(6.4)
    mels = np.linspace(0, top_mel, n_mels + 2)
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))

"""EnCodec's code frames: how many codebooks a bandwidth holds, and which frames belong to a TR.

Shapes: K codebooks, T code frames, R TRs, F code frames per TR.
"""

from __future__ import annotations

import math

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds

FRAME_RATE = 75
"""Code frames per second of EnCodec at 24 kHz."""
CODEBOOK_SIZE = 1024
"""Codes of a codebook: 10 bits, so that a codebook takes 0.75 kbps."""
BANDWIDTHS_KBPS = {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}
"""Codebooks by bandwidth (Défossez et al. 2022, arXiv:2210.13438, section 3.2)."""
DEFAULT_CODEBOOKS = 8
_MOST_WINDOWS, _SECONDS_AT_A_TIME = 8, 80
"""Windows, and sound, that the codec hears at a time at most; memory grows with the second."""

_BANDWIDTH_LIST = ", ".join(f"{kbps:g} kbps ({k})" for kbps, k in BANDWIDTHS_KBPS.items())


def windows_at_a_time(chunk_seconds: float) -> int:
    """Number of windows of so much new sound each (s) that the codec hears at a time."""
    return max(1, min(_MOST_WINDOWS, round(_SECONDS_AT_A_TIME / chunk_seconds)))


def codebooks_of_bandwidth(kbps: float) -> int:
    """Number of codebooks that a bandwidth (kbps) holds; InputError if EnCodec has no such one."""
    if kbps not in BANDWIDTHS_KBPS:
        raise InputError(
            f"bandwidth is {kbps:g} kbps; EnCodec at 24 kHz has, with its codebooks, "
            f"{_BANDWIDTH_LIST}"
        )
    return BANDWIDTHS_KBPS[kbps]


def bandwidth_of_codebooks(n_codebooks: int) -> float:
    """Bandwidth (kbps) that holds so many codebooks; InputError if EnCodec has no such one."""
    for kbps, k in BANDWIDTHS_KBPS.items():
        if k == n_codebooks:
            return kbps
    raise InputError(
        f"codebooks is {n_codebooks}; EnCodec at 24 kHz has, with its codebooks, {_BANDWIDTH_LIST}"
    )


def resolve_codebooks(bandwidth: float | None, codebooks: int | None) -> int:
    """Number of codebooks that was asked for: by bandwidth (kbps), by count, or 8 by default.

    Raises
    ------
    InputError
        Either is not one of EnCodec's, or both are given and contradict each other.
    """
    if codebooks is not None:
        needed_kbps = bandwidth_of_codebooks(codebooks)
        if bandwidth is not None and codebooks_of_bandwidth(bandwidth) != codebooks:
            raise InputError(
                f"bandwidth {bandwidth:g} kbps holds {codebooks_of_bandwidth(bandwidth)} codebooks "
                f"and codebooks asks for {codebooks}, which take {needed_kbps:g} kbps; "
                "give one of the two"
            )
        return codebooks
    return DEFAULT_CODEBOOKS if bandwidth is None else codebooks_of_bandwidth(bandwidth)


def frames_per_tr(tr_seconds: float) -> int:
    """Whole code frames in a TR: floor(75 * tr_seconds), 112 at 1.5 s."""
    return math.floor(FRAME_RATE * exact_seconds(tr_seconds))


def cut_codes(
    codes_KT: np.ndarray, n_trs: int, tr_seconds: float, start_seconds: float = 0.0
) -> np.ndarray:
    """Cut the codes of a film into TRs, by absolute time.

    TR i starts at frame round(i * 75 * tr_seconds) and takes floor(75 * tr_seconds) frames. At
    1.5 s a TR is 112.5 frames long; halves round to the even frame, as Python's `round`:

        TR         |        0        |        1         |        2        |        3
        seconds    0                1.5                3.0               4.5
        exact      0               112.5               225              337.5
        frames     [0 ......... 112)[112 ....... 224)_ [225 ...... 337)_ [338 ...... 450)
                                                     ^ frames 224 and 337 belong to no TR

    so each start is within half a frame (6.7 ms) of the TR's, however long the film. Cutting 112
    at a time would lose half a frame per TR: six seconds over 920 TRs.

    Parameters
    ----------
    codes_KT : np.ndarray of int16, shape (codebooks, frames)
    n_trs : int
        TRs to cut.
    tr_seconds : float
        Duration of a TR (s).
    start_seconds : float
        Time of the film at which TR 0 begins (s), which is added to the above.

    Returns
    -------
    codes_RKF : np.ndarray of int16, shape (n_trs, codebooks, frames_per_tr)

    Raises
    ------
    InputError
        A TR is shorter than a frame, or the codes end before the last TR's last frame.
    """
    n_frames = frames_per_tr(tr_seconds)
    if n_frames < 1:
        raise InputError(f"tr_seconds is {tr_seconds}; a TR holds at least one frame of 1/75 s")
    first, step = (FRAME_RATE * exact_seconds(each) for each in (start_seconds, tr_seconds))
    starts_R = np.array([round(first + i * step) for i in range(n_trs)])
    needed = int(starts_R[-1]) + n_frames
    if codes_KT.shape[1] < needed:
        raise InputError(
            f"the audio has {codes_KT.shape[1]} code frames; {n_trs} TRs of {tr_seconds} s need "
            f"{needed} ({needed / FRAME_RATE:.2f} s)"
        )
    frames_RF = starts_R[:, None] + np.arange(n_frames)
    return np.ascontiguousarray(codes_KT[:, frames_RF].transpose(1, 0, 2))

"""A film's sound through a pretrained network: stretch by stretch, its frames to TRs by their time.

::

    sound       |   stretch 0   |   stretch 1   |   stretch 2   |    of `clip_seconds`
    frames       ................................................    20 ms each, of all networks
    TRs         |    0    |    1    |    2    |    3    |    4       each the mean of its frames

What is heard as silence gives what the network makes of silence.

Shapes: N samples, T TRs, L layers, D numbers, F frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.pretrained.network import LoadedNetwork, import_library

_LEAST_SECONDS = 1.0
"""Sound that networks are given at least: a rest that is shorter is followed by silence."""


def read_listener(network: LoadedNetwork) -> Any:
    """Return what turns samples into a network's input, by the network's own settings.

    Raises
    ------
    InputError
        If it has none.
    """
    try:
        return import_library().AutoFeatureExtractor.from_pretrained(network.folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        model = network.network.model
        raise InputError(f"{model}: does not say how it is given sound: {reason}") from error


def sound_states(
    network: LoadedNetwork,
    path: str,
    n_trs: int,
    tr_seconds: float,
    clip_seconds: float,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Return what layers make of a film's sound.

    Parameters
    ----------
    network : LoadedNetwork
        That reads sound.
    path : str
        The film.
    n_trs : int
    tr_seconds : float
        (s).
    clip_seconds : float
        Sound that the network hears at a time (s).
    start_seconds : float
        When the first TR begins (s).

    Returns
    -------
    states_TLD : ndarray of float32
        Mean over the frames whose middle lies in the TR.
    """
    listen = read_listener(network)
    rate, seconds = int(listen.sampling_rate), n_trs * tr_seconds
    sums_TLD: np.ndarray | None = None
    counts_T = np.zeros(n_trs)
    start = 0
    for samples_N in read_audio(path, rate, clip_seconds, seconds, start_seconds):
        if len(samples_N):
            states_FLD, frame_seconds = _heard(network, listen, samples_N, clip_seconds)
            times_F = start / rate + (np.arange(len(states_FLD)) + 0.5) * frame_seconds
            trs_F = np.minimum((times_F / tr_seconds + 1e-9).astype(int), n_trs - 1)
            if sums_TLD is None:
                sums_TLD = np.zeros((n_trs, *states_FLD.shape[1:]))
            np.add.at(sums_TLD, trs_F, states_FLD)
            np.add.at(counts_T, trs_F, 1)
            start += len(samples_N)
    if sums_TLD is None or not counts_T.all():
        raise InputError(
            f"{path}: TRs of {tr_seconds:g} s are too short for {network.network.model}"
        )
    return np.asarray(sums_TLD / counts_T[:, None, None], np.float32)


def _heard(
    network: LoadedNetwork, listen: Any, samples_N: np.ndarray, clip_seconds: float
) -> tuple[np.ndarray, float]:
    """Return what layers make of a stretch, (F, L, D), and how long a frame is (s)."""
    rate = int(listen.sampling_rate)
    least = max(0, round(_LEAST_SECONDS * rate) - len(samples_N))
    inputs = dict(listen(np.pad(samples_N, (0, least)), sampling_rate=rate, return_tensors="pt"))
    states_LFD = network.states(inputs)[:, 0]
    # Whisper hears 30 s whatever it is given; of others, frames are of what was given.
    given = getattr(listen, "n_samples", None) or len(samples_N) + least
    if len(samples_N) > given:
        model = network.network.model
        raise InputError(
            f"{model}: hears {given / rate:g} s at a time; clip_seconds is {clip_seconds:g}"
        )
    frame_seconds = round(given / rate / states_LFD.shape[1], 3)
    n_frames = min(states_LFD.shape[1], max(1, int(len(samples_N) / rate / frame_seconds + 1e-6)))
    return states_LFD[:, :n_frames].swapaxes(0, 1), frame_seconds

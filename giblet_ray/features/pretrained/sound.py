"""A film's sound through a pretrained network: stretch by stretch, its frames to TRs by their time.

::

    sound       |   stretch 0   |   stretch 1   |   stretch 2   |    of `clip_seconds`
    frames       ................................................    20 ms each, of most networks
    TRs         |    0    |    1    |    2    |    3    |    4       each the mean of its frames

What is heard as silence gives what the network makes of silence.

Shapes: N samples, T TRs, L layers, D numbers, F frames.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.audio import read_audio
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.pretrained.network import LoadedNetwork, import_library

_LEAST_SECONDS = 1.0
"""Sound that networks are given at least: a rest that is shorter is followed by silence."""
_TRIED_SECONDS = 4.0
"""Sound that tells frames from other tokens, at least: filters reach over a second or two."""
_FARTHER = 4.0
"""So many times as much must frames differ where the sound does; Wav2Vec-BERT's: 18 and more."""


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
        model = network.network.model
        raise InputError(
            f"{model}: does not say how it is given sound: {one_line(error)}"
        ) from error


@lru_cache(maxsize=1)
def check_it_hears_frames(network: LoadedNetwork, clip_seconds: float) -> None:
    """Make sure that what a network gives of a stretch are frames, one after another, of all of it.

    Before its first layer, where none has heard the others yet: of two stretches that differ in
    their last quarter, the frames of this quarter do, and those of the first half hardly.

    Raises
    ------
    InputError
        If its tokens are patches of a spectrogram, or it hears less at a time.
    """
    before = copy.copy(network)
    before.layers = (0,)
    listen = read_listener(network)
    seconds = max(clip_seconds, _TRIED_SECONDS)
    random = np.random.default_rng(0)
    samples_N = random.normal(0, 0.1, round(seconds * listen.sampling_rate)).astype(np.float32)
    other_N = samples_N.copy()
    quarter = len(other_N) // 4
    other_N[-quarter:] = random.permutation(other_N[-quarter:])
    heard_F, other_F = (
        _heard(before, listen, each_N, clip_seconds)[0] for each_N in (samples_N, other_N)
    )
    differ_F = np.abs(heard_F - other_F).mean((1, 2))
    quarter = len(differ_F) // 4
    late, early = differ_F[-quarter:].mean(), differ_F[: 2 * quarter].mean()
    if not late > _FARTHER * early:
        raise InputError(
            f"{network.network.model}: gives no frames that follow {seconds:g} s of sound from "
            "beginning to end; a network that does, such as Whisper or Wav2Vec-BERT, or a shorter "
            "clip_seconds, is accepted"
        )


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
    path, n_trs, tr_seconds, start_seconds
        As :func:`giblet_ray.features.video.read_frames` takes them.
    clip_seconds : float
        Sound that the network hears at a time (s).

    Returns
    -------
    states_TLD : ndarray of float32
        Mean over the frames whose middle lies in the TR.
    """
    check_it_hears_frames(network, clip_seconds)
    listen = read_listener(network)
    rate, seconds = int(listen.sampling_rate), n_trs * exact_seconds(tr_seconds)
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
    n_given = states_LFD.shape[1]
    frame_seconds = given / rate / n_given
    # Frames of whole milliseconds end before the stretch does, for want of a last window: by a
    # frame or so. Of another length, such as 1/75 s, rounding would move them by many.
    if abs(round(frame_seconds, 3) - frame_seconds) * n_given < 1.5 * frame_seconds:
        frame_seconds = round(frame_seconds, 3)
    n_frames = min(n_given, max(1, int(len(samples_N) / rate / frame_seconds + 1e-6)))
    return states_LFD[:, :n_frames].swapaxes(0, 1), frame_seconds

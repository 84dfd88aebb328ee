"""A signal that is planted in EnCodec codes, to be found by a search over audio models.

In every TR each of three sounds is heard twice, once by either of two codebooks, a pair. BOLD
follows which of the two hears it first; each unit follows one of the sounds::

    codebook 0  | 1 1 1 1 . . . . . . . . 1 1 1 1 . . . . |   beats: they say nothing
    codebook 2  | . 1 1 1 1 . . . . . . . . . 2 2 2 2 . . |   codes 1, 2, 3: the sounds; 0: silence
    codebook 3  | . . . . . . . 1 1 1 1 . 2 2 2 2 . . . . |   ...
    codebook 4  | 3 3 3 3 1 1 1 1 2 2 2 2 . . . . 1 1 1 1 |   noise, for who hears more codebooks
                    `--- 15 frames ---'

During a scene every sound's pairs come in one order, and scenes of either order alternate, for each
sound apart. Each codebook hears each sound as often, and as long, in both, and whatever is no pair
is further apart than one. So a model needs

- four codebooks: with fewer there is nothing to learn, with more there is noise to be learned;
- a convolution that reaches from one code to the other: a narrower one sees no order, a wider one
  sees nothing else;
- more than one dimension for a code: of four codes that lie on a line, a convolution tells the
  first and the last from all others, and none that lies between two.

Shapes: T TRs, K codebooks, F frames of a TR, S sounds, V units, L taps of a response.
"""

from __future__ import annotations

import numpy as np
from noise import TR_SECONDS, Floats, smooth
from simulated import response

CODEBOOKS, SCALE, N_SOUNDS = 4, 15, 3
"""Codebooks that must be heard, frames that a convolution must span, and sounds."""
_FIRST, _SECOND = CODEBOOKS - 2, CODEBOOKS - 1
_ALL_CODEBOOKS, _FRAMES = 8, 112
_SOUND_FRAMES = 4
_MARGIN_FRAMES = 8
"""Before a TR's first pair and behind its last: its ends would tell what comes first."""
_SLOT_FRAMES = (_FRAMES - 2 * _MARGIN_FRAMES) // N_SOUNDS
_SCENE_TRS = (6, 10)
_NOISE_SECONDS = 1.25


def plant(
    n_trs: int, n_units: int, ceiling: float, seed: int
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Draw a film's codes, the order of its pairs, and BOLD that follows it.

    Parameters
    ----------
    n_trs, n_units : int
        T and V.
    ceiling : float
        Correlation of BOLD with what the film drives it by.
    seed : int
        Of all that is drawn.

    Returns
    -------
    codes_TKF : ndarray, int16, (T, 8, 112)
    order_TS : ndarray, (T, sounds)
        1 where the first of the two codebooks hears a sound first, else -1.
    bold_TV : ndarray, (T, V)
    """
    random = np.random.default_rng([seed, 31])
    order_TS = np.stack([_scenes(n_trs, random) for _ in range(N_SOUNDS)], axis=1)
    codes_TKF = np.zeros((n_trs, _ALL_CODEBOOKS, _FRAMES), np.int16)
    for codes_KF, order_S in zip(codes_TKF, order_TS, strict=True):
        for slot, sound in enumerate(random.permutation(N_SOUNDS)):
            # As far from the next pair as a pair is long, and further.
            start = _MARGIN_FRAMES + slot * _SLOT_FRAMES
            start += int(random.integers(_SLOT_FRAMES - 2 * SCALE + 1))
            pair = (_FIRST, _SECOND) if order_S[sound] > 0 else (_SECOND, _FIRST)
            codes_KF[pair[0], start : start + _SOUND_FRAMES] = sound + 1
            stop = start + SCALE
            codes_KF[pair[1], stop - _SOUND_FRAMES : stop] = sound + 1
    for codebook in range(CODEBOOKS - 2):
        # Of another phase in each TR: beats would tell the time within it.
        period = (codebook + 2) * _SOUND_FRAMES
        phase_TF = random.integers(period, size=(n_trs, 1)) + np.arange(_FRAMES)
        codes_TKF[:, codebook] = phase_TF % period < _SOUND_FRAMES
    for codebook in range(CODEBOOKS, _ALL_CODEBOOKS):
        codes_TKF[:, codebook] = _noise(n_trs, random)
    drive_TV = order_TS[:, np.arange(n_units) % N_SOUNDS] * random.choice([-1.0, 1.0], n_units)
    seconds_L = np.linspace(0, 15 * TR_SECONDS, 16)
    taps_L = response(seconds_L, np.array(5.0))
    signal_TV = np.stack([np.convolve(drive_T, taps_L)[:n_trs] for drive_T in drive_TV.T], axis=1)
    noise_TV = smooth(random, n_trs, n_units, _NOISE_SECONDS, 0)
    bold_TV = ceiling * signal_TV / signal_TV.std(0) + np.sqrt(1 - ceiling**2) * noise_TV
    return codes_TKF, order_TS, bold_TV


def _scenes(n_trs: int, random: np.random.Generator) -> Floats:
    """Return 1 or -1 of each TR, (T,): scenes in turn, each of 6 to 10 TRs, the first cut."""
    lengths = random.integers(_SCENE_TRS[0], _SCENE_TRS[1] + 1, n_trs // _SCENE_TRS[0] + 3)
    kinds = (-1.0) ** np.arange(len(lengths))
    first = int(random.integers(2 * _SCENE_TRS[0]))
    return np.repeat(kinds, lengths)[first : first + n_trs]


def _noise(n_trs: int, random: np.random.Generator) -> np.ndarray:
    """Return codes that come and go by chance, (T, frames)."""
    n = n_trs * _FRAMES
    heard = random.integers(N_SOUNDS + 1, size=n // _SOUND_FRAMES + 1)
    return heard.repeat(_SOUND_FRAMES)[:n].reshape(n_trs, _FRAMES)

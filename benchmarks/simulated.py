"""Data sets whose truth is known: a film of vectors, a response of each unit's own, and noise.

::

    film   |========= training =========|  |= validation =|  |===== test =====|    20 s between

    drive_v(t)  = sum over parts p and numbers f of  w_vpf x_pf(t)
    signal_v    = drive_v convolved with a response that peaks after 4 to 6.5 s, as the unit has it;
                  or half of its variance from products of sound and picture, likewise convolved
    bold_v      = ceiling * signal_v + sqrt(1 - ceiling^2) * noise_v

Each part weighs for a unit what a draw from a flat Dirichlet gives. The numbers of a part are
independent and last for 4.5 s, noise lasts for 1.25 s (exp(-t / seconds)), as in the demo; units
are independent.

Shapes: T TRs, V units, F numbers of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.interpolate
import scipy.stats
from noise import LEAST_TRS, TR_SECONDS, Floats, smooth

Truth = Literal["linear", "shared products", "own products", "noise"]
PEAK_SECONDS = (4.0, 6.5)
FEATURE_SECONDS, NOISE_SECONDS = 4.5, 1.25
_RESPONSE_SECONDS = 32.0
_FINE_SECONDS = 0.1


@dataclass(frozen=True)
class Size:
    """How much is simulated: TRs of each set, units, parts, numbers of a part."""

    train: int = 1500
    val: int = 300
    test: int = 600
    units: int = 400
    parts: int = 3
    features: int = 30
    ceiling: float = 0.6

    def cut(self, share: float) -> Size:
        """Return a part of it, as small as can be fitted at least."""
        least = {"train": 240, "val": 60, "test": 80, "units": 20}
        fewer = {name: max(n, round(share * getattr(self, name))) for name, n in least.items()}
        return replace(self, **fewer)

    @property
    def sets(self) -> dict[str, slice]:
        """The TRs of each set."""
        found, start = {}, 0
        for name in ("train", "val", "test"):
            found[name] = slice(start, start + getattr(self, name))
            start = found[name].stop + LEAST_TRS
        return found


@dataclass(frozen=True)
class Simulated:
    """A film and scans of it.

    Attributes
    ----------
    size : Size
        How much there is.
    parts : dict of str to ndarray
        (T, F) float32.
    bold : dict of str to ndarray
        (T, V) float32 of each subject, z-scored over its training TRs.
    peak_V : ndarray
        When the response of each unit peaks (s).
    """

    size: Size
    parts: dict[str, np.ndarray]
    bold: dict[str, np.ndarray]
    peak_V: Floats


def simulate(
    size: Size,
    seed: int,
    truth: Truth = "linear",
    subjects: Sequence[str] = ("01",),
    shared: float = 1.0,
    width: float = 0.0,
) -> Simulated:
    """Draw a data set.

    Parameters
    ----------
    size : Size
        How much.
    seed : int
        Of all that is drawn.
    truth : str
        linear; shared products: half of the variance from two products of a direction of the first
        part and one of the second, that units weigh differently; own products: from one of each
        unit's own; noise: BOLD that has nothing to do with the film.
    subjects : sequence of str
        Who saw the film; responses are the same in all, noise is each one's own.
    shared : float
        Part of a unit's tuning (of its variance) that subjects share.
    width : float
        Over how many units noise is smooth (SD).
    """
    random = np.random.default_rng([seed, 11])
    n_trs = size.sets["test"].stop
    films = [smooth(random, n_trs, size.features, FEATURE_SECONDS, 0) for _ in range(size.parts)]
    peak_V = random.uniform(*PEAK_SECONDS, size.units)
    tunings = [_Tuning(size, random) for _ in range(1 + len(subjects))]
    bold = {}
    for subject, own in zip(subjects, tunings[1:], strict=True):
        signal = np.zeros((n_trs, size.units))
        if truth != "noise":
            signal = np.sqrt(shared) * tunings[0].signal(films, truth, peak_V)
            signal += np.sqrt(1 - shared) * own.signal(films, truth, peak_V)
            signal = _z_scored(signal)
        ceiling = 0.0 if truth == "noise" else size.ceiling
        noise = smooth(random, n_trs, size.units, NOISE_SECONDS, width)
        rows = ceiling * signal + np.sqrt(1 - ceiling**2) * noise
        train = rows[size.sets["train"]]
        bold[subject] = ((rows - train.mean(0)) / train.std(0)).astype(np.float32)
    parts = {f"part{index}": rows.astype(np.float32) for index, rows in enumerate(films)}
    return Simulated(size, parts, bold, peak_V)


class _Tuning:
    """What the units of one subject are driven by."""

    def __init__(self, size: Size, random: np.random.Generator) -> None:
        of_part = random.dirichlet(np.ones(size.parts), size.units).T
        weights = random.normal(size=(size.parts, size.features, size.units))
        self._weights = weights * np.sqrt(of_part / size.features)[:, None]
        self._pairs = random.normal(size=(2, size.features, 2)) / np.sqrt(size.features)
        self._mixing = random.normal(size=(2, size.units))
        own = random.normal(size=(2, size.features, size.units))
        self._own = own / np.sqrt(size.features)

    def signal(self, films: Sequence[Floats], truth: Truth, peak_V: Floats) -> Floats:
        """Return what each unit does but for noise, (T, V), of variance 1."""
        drive = np.sum([x @ w for x, w in zip(films, self._weights, strict=True)], axis=0)
        linear = _z_scored(_convolved(drive, peak_V))
        if truth == "linear":
            return linear
        directions = self._pairs if truth == "shared products" else self._own
        products = (films[0] @ directions[0]) * (films[1] @ directions[1])
        if truth == "shared products":
            products = _z_scored(products) @ self._mixing
        # Products are faster than what they are made of, and a slow response takes more of them.
        products = _z_scored(_convolved(products, peak_V))
        return _z_scored(linear + products)


def response(seconds: Floats, peak_seconds: Floats) -> Floats:
    """Return the haemodynamic response at some seconds, for peaks that lie at others.

    The SPM response, stretched in time: a gamma density of shape 6 less a sixth of one of 16.
    """
    t = 5.0 * seconds / peak_seconds
    return scipy.stats.gamma.pdf(t, 6) - scipy.stats.gamma.pdf(t, 16) / 6


def read_peaks(weights_VLF: np.ndarray, first_seconds: float = 0.0) -> Floats:
    """Return when the responses of units peak (s), from weights at delays of one TR each.

    A unit's response is the first singular vector of its weights (L, F), positive at its largest;
    its peak is that of a cubic spline through it, read every 0.1 s.
    """
    peaks = []
    for weights_LF in weights_VLF:
        taps_L = np.linalg.svd(weights_LF, full_matrices=False)[0][:, 0]
        taps_L = taps_L * np.sign(taps_L[np.abs(taps_L).argmax()])
        seconds = first_seconds + TR_SECONDS * np.arange(len(taps_L))
        fine = np.arange(seconds[0], seconds[-1] + _FINE_SECONDS / 2, _FINE_SECONDS)
        peaks.append(fine[scipy.interpolate.CubicSpline(seconds, taps_L)(fine).argmax()])
    return np.array(peaks)


def _convolved(drive_TV: Floats, peak_V: Floats) -> Floats:
    """Convolve each unit with its own response; before the film there is nothing."""
    seconds = np.arange(0, _RESPONSE_SECONDS, TR_SECONDS)
    n = len(drive_TV) + len(seconds)
    taps = np.fft.rfft(response(seconds[:, None], peak_V), n, axis=0)
    return np.fft.irfft(np.fft.rfft(drive_TV, n, axis=0) * taps, n, axis=0)[: len(drive_TV)]


def _z_scored(rows_TV: Floats) -> Floats:
    return (rows_TV - rows_TV.mean(0)) / rows_TV.std(0)

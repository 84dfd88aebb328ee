"""What the demo is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from giblet_ray.demo.measure import FEATURES
from giblet_ray.errors import InputError

_RANGES = {
    "n_trs": (2, math.inf),
    "tr_seconds": (0.5, math.inf),
    "n_subjects": (1, math.inf),
    "n_repeats": (1, math.inf),
    "n_voxels": (1, math.inf),
    "seed": (0, math.inf),
    "fast_features": (0, 1),
    "own_tuning": (0, 1),
    "interaction": (0, 1),
    "drift": (0, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Film and scans of a demo.

    Attributes
    ----------
    n_trs : int
        Length of the film and of each scan, at least 2.
    tr_seconds : float
        Length of a TR, at least 0.5.
    n_subjects : int
        Subjects to simulate. They share the signal, but for own_tuning, and differ in noise,
        drift and baseline.
    n_voxels : int
        Voxels in the mask.
    ceiling : float
        Mean noise ceiling (Pearson r) over voxels, in (0, 1).
    feature_weights : mapping of str to float
        How much of the signal each feature carries, beside 1 for those not named; at least 0, and
        not 0 for all. The features are ``giblet_ray.demo.measure.FEATURES``.
    fast_features : float
        How much light, loudness and speech change within scenes, in [0, 1].
    own_tuning : float
        Share of each subject's signal that is of tuning of its own, in [0, 1].
    interaction : float
        Share of the signal's variance, in [0, 1], that follows luminance times sound level, in all
        voxels but those of words alone.
    drift : float
        SD of each scan's drift, beside the signal's.
    n_repeats : int
        Times that each subject sees the film.
    high_pass_seconds : float or None
        The ceiling is that of scans from which slower cosines have been removed (None: of scans
        as they are, where drift is noise and lowers it).
    seed : int
        What everything random is drawn from.

    Raises
    ------
    InputError
        For a setting out of its range, or an unknown feature.
    """

    n_trs: int = 320
    tr_seconds: float = 1.5
    n_subjects: int = 2
    n_voxels: int = 400
    ceiling: float = 0.65
    feature_weights: Mapping[str, float] = field(default_factory=dict)
    fast_features: float = 0.0
    own_tuning: float = 0.0
    interaction: float = 0.0
    drift: float = 0.0
    n_repeats: int = 1
    high_pass_seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                accepted = f"at least {least}" if most == math.inf else f"{least} to {most}"
                raise InputError(f"{name}: {value} is out of range; {accepted} is accepted")
        longest, shortest = self.high_pass_seconds, 2 * self.tr_seconds
        if longest is not None and not (math.isfinite(longest) and longest > shortest):
            raise InputError(
                f"high_pass_seconds: {longest} s; more than two TRs ({shortest:g} s), or none, is "
                "accepted"
            )
        if not 0 < self.ceiling < 1:
            raise InputError(
                f"ceiling: {self.ceiling} is not a correlation between 0 and 1, both excluded"
            )
        for name, weight in self.feature_weights.items():
            if name not in FEATURES:
                raise InputError(
                    f"feature_weights: no feature {name!r}; there are {list(FEATURES)}"
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"feature_weights: {name} is {weight}; at least 0 is accepted")
        if all(self.feature_weights.get(name, 1.0) == 0 for name in FEATURES):
            raise InputError(
                "feature_weights: all are 0; at least one feature must carry the signal"
            )

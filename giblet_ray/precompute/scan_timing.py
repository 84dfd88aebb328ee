"""Which volumes of a scan are taken, and how its film lies against them.

::

    volumes     |  0 |  1 |  2 |  3 |  4 |  5 |  6 |  7 |  8 |  9 | 10 |
    film                  |===========================|                     begins 0.6 s after
    its TRs               . |  0 |  1 |  2 |  3 |  4 |                      volume 2 does: its
    taken                     3    4    5    6    7    8    9               phase is TR - 0.6 s
                cut: before the film                        after the response to its end: cut
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from giblet_ray.dataset.splits import response_trs
from giblet_ray.errors import InputError
from giblet_ray.parts.part import FilmFiles

_TICKS = 1000
"""Of a second: what begins within one at the same time in a TR is one phase."""


@dataclass(frozen=True)
class Taken:
    """What is taken of a scan."""

    film: FilmFiles
    """Its film, cut at the TRs of its volumes."""
    volumes: tuple[int, int]
    """First volume that is taken, in its file, and the one after the last."""
    first_tr: int
    """TR of the film that the first of them belongs to."""
    n_before: int
    n_after: int
    """Volumes of the scan that are not taken."""
    n_volumes: int
    """Volumes of the scan."""

    @property
    def n_trs(self) -> int:
        """Volumes that are taken."""
        return self.volumes[1] - self.volumes[0]

    @property
    def onset_seconds(self) -> float:
        """When the film begins, after the first volume that is taken (s); negative: before."""
        film = self.film
        return round(-self.first_tr * film.tr_seconds - film.start_seconds, 6) + 0.0

    @property
    def stop_tr(self) -> int:
        """The TR after the last that a volume is taken of; past the film's end by its response."""
        return self.first_tr + self.n_trs

    @property
    def n_lacking(self) -> int:
        """TRs of the film that the scan has no volume of."""
        return self.film.n_trs - max(0, min(self.stop_tr, self.film.n_trs) - self.first_tr)


def take_volumes(
    volumes: tuple[int, int],
    crop: tuple[int, int],
    onset_seconds: float | None,
    film_offset_seconds: float,
    film_from: Callable[[float], FilmFiles],
    tr_seconds: float,
    where: str,
) -> Taken:
    """Find the volumes that answer to a film.

    Parameters
    ----------
    volumes : (int, int)
        The scan's, in its file: first, and the one after the last.
    crop : (int, int)
        Of these, how many at the start and end are not taken.
    onset_seconds : float or None
        When the film began, after the scan's first volume (s); None: with the first that is taken.
    film_offset_seconds : float
        How far into the film that was (s).
    film_from : callable
        Gives the film, cut into TRs from a time of it on (s).
    tr_seconds : float
    where : str
        The scan, for messages.

    Raises
    ------
    InputError
        If no volume of the scan is one of the film.
    """
    n_volumes = volumes[1] - volumes[0]
    first, stop = crop[0], n_volumes - crop[1]
    if first >= stop:
        raise InputError(
            f"{where}: cropping {crop[0]} TRs at the start and {crop[1]} at the end leaves nothing "
            f"of its {n_volumes} TRs"
        )
    onset = first * tr_seconds if onset_seconds is None else onset_seconds
    # When the film's first picture was, or would have been, on screen.
    zero = onset - film_offset_seconds
    phase = -zero % tr_seconds
    ticks = round(phase * _TICKS)
    film = film_from(ticks / _TICKS if ticks < round(tr_seconds * _TICKS) else 0.0)
    # The first volume of which all is film.
    first = max(first, math.ceil(onset / tr_seconds - 1 / _TICKS))
    first_tr = round((first * tr_seconds - zero - film.start_seconds) / tr_seconds)
    last_tr = film.n_trs + response_trs(tr_seconds)
    taken = min(stop, first + last_tr - first_tr)
    if first >= min(stop, first + film.n_trs - first_tr):
        raise InputError(
            f"{where}: its film of {film.n_trs} TRs begins {onset:g} s after the first of its "
            f"{n_volumes} volumes ({n_volumes * tr_seconds:g} s)"
            + (f", {film_offset_seconds:g} s into it" if film_offset_seconds else "")
            + ": none of them is of the film"
        )
    return Taken(
        film,
        (volumes[0] + first, volumes[0] + taken),
        first_tr,
        first,
        n_volumes - taken,
        n_volumes,
    )

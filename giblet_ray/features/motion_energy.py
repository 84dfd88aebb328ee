"""Motion energy: how much moves where, in which direction, how fast and how fine.

Each channel is a pair of Gabor filters in space and time, a quarter of a cycle apart, whose squared
answers are added (Adelson and Bergen 1985); a pyramid of them covers the picture (Nishimoto et al.
2011, Current Biology 21: 1641). pymoten, of the same laboratory, has the filters.

Shapes: N pictures, H rows, W columns, C red, green, blue, T TRs, D channels.

A film is answered to piece by piece. A filter reaches over 2/3 s of pictures, so that pieces
overlap, and the answers to a piece are those to the whole film. At both ends the picture stands
still, so that a film does not begin with a flash:

    pictures          |first|    1    |    2    |    3    |last|
    piece 1           [-----|=========|-----]
    piece 2                     [-----|=========|-----]
    piece 3                               [-----|=========|----]    = kept, - reach
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds

_PIECE_PICTURES = 1024
"""Pictures answered to at a time: 43 s at 24 a second. Filters are made anew for each piece, which
takes a tenth of its time."""
_FILTERS_AT_A_TIME = 128


@lru_cache(maxsize=4)
def build_pyramid(height: int, width: int, pictures_per_second: int, octaves: int) -> Any:
    """Build pymoten's pyramid: temporal frequencies of 0, 2 and 4 Hz, 8 directions.

    Parameters
    ----------
    height, width : int
        Size of the pictures (pixels).
    pictures_per_second : int
    octaves : int
        Spatial frequencies besides 0: 2, 4, ..., 2^octaves cycles per picture height.

    Returns
    -------
    pyramid : moten.pyramids.MotionEnergyPyramid
        Its parameter `direction` is that of a filter as it is drawn. pymoten convolves with it,
        which turns time round: the filter answers most to motion the other way, which
        :func:`channels` says.

    Raises
    ------
    InputError
        pymoten is not installed, or the pictures are too small for the finest filters.
    """
    try:
        from moten.pyramids import MotionEnergyPyramid
    except ImportError as error:
        raise InputError(
            f"motion energy needs pymoten ({error}); install the extra: "
            "pip install 'giblet_ray[motion]'"
        ) from error
    finest = 2**octaves
    if height < 3 * finest:
        raise InputError(
            f"motion energy of {finest} cycles per picture height needs pictures of {3 * finest} "
            f"rows or more, not {height}: fewer octaves or more rows are accepted"
        )
    return MotionEnergyPyramid(
        stimulus_vhsize=(height, width),
        stimulus_fps=pictures_per_second,
        spatial_frequencies=[0, *(2**octave for octave in range(1, octaves + 1))],
    )


def channels(pyramid: Any) -> list[dict[str, float]]:
    """Say what each channel of a pyramid answers to, in order.

    Returns
    -------
    list of dict
        row, column: its centre, as shares of height and width from the top left; direction: of the
        motion that it answers to most (degrees; 0 right, 90 up), without meaning at 0 Hz (but for
        the axis) and 0 cycles; cycles_per_height; hz.
    """
    return [
        {
            "row": float(each["centerv"]),
            "column": float(each["centerh"] / each["aspect_ratio"]),
            "direction": float((each["direction"] + 180) % 360),
            "cycles_per_height": float(each["spatial_freq"]),
            "hz": float(each["temporal_freq"]),
        }
        for each in pyramid.filters
    ]


def motion_energy_per_tr(
    pictures: Iterable[np.ndarray],
    n_trs: int,
    tr_seconds: float,
    pyramid: Any,
    piece_pictures: int = _PIECE_PICTURES,
) -> np.ndarray:
    """Mean over each TR's pictures of log(1 + e), with e the square root of the motion energy.

    e is the answer of a channel, sqrt(sin^2 + cos^2), to CIE lightness (0 to 100), and its
    logarithm what Nishimoto et al. (2011) found closer to BOLD; 1 keeps it at 0 where nothing is
    to be seen. A picture belongs to the TR that holds its midpoint. Memory besides the result is
    that of a piece: less than 200 MB at 54 x 96 pixels.

    Parameters
    ----------
    pictures : iterable of np.ndarray of uint8, shape (3, H, W)
        What is on screen at the midpoints of equal pieces of time, from the film's start, as
        `video.frames_on_screen` yields it: as many a second as the pyramid is built for.
    n_trs : int
    tr_seconds : float
        Duration of a TR (s).
    pyramid : moten.pyramids.MotionEnergyPyramid
    piece_pictures : int
        Pictures answered to at a time; the result does not depend on it.

    Returns
    -------
    energy_TD : np.ndarray of float32, shape (n_trs, D)

    Raises
    ------
    InputError
        A TR has no picture.
    """
    reach = pyramid.definition.filter_temporal_width
    trs_per_picture = 1 / (pyramid.definition.stimulus_fps * exact_seconds(tr_seconds))
    sum_TD = np.zeros((n_trs, pyramid.nfilters))
    count_T = np.zeros(n_trs, np.int64)
    first = 0
    for lightness_NHW in _overlapping(map(_lightness, pictures), piece_pictures, reach):
        energy_ND = pyramid.project_stimulus_batched(
            lightness_NHW, output_nonlinearity=np.log1p, batch_size=_FILTERS_AT_A_TIME
        )[reach:-reach]
        for index, energy_D in enumerate(energy_ND, first):
            tr = (2 * index + 1) * trs_per_picture // 2
            sum_TD[tr] += energy_D
            count_T[tr] += 1
        first += len(energy_ND)
    if not count_T.all():
        raise InputError(f"TR {int(np.argmin(count_T))} of {n_trs} has no picture")
    return (sum_TD / count_T[:, None]).astype(np.float32)


def _lightness(picture_CHW: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB, 0 (black) to 100 (white), float32 (H, W)."""
    from moten.colorspace import rgb2lab

    return rgb2lab(picture_CHW.transpose(1, 2, 0) / 255)[..., 0].astype(np.float32)


def _overlapping(pictures: Iterable[np.ndarray], n_kept: int, reach: int) -> Iterator[np.ndarray]:
    """Yield stretches of at most `n_kept` pictures in turn, with `reach` more on either side."""
    held: list[np.ndarray] = []
    for picture in pictures:
        held += [picture] * (1 if held else 1 + reach)
        if len(held) == n_kept + 2 * reach:
            yield np.stack(held)
            del held[:n_kept]
    held += held[-1:] * reach
    while len(held) > 2 * reach:
        yield np.stack(held[: n_kept + 2 * reach])
        del held[:n_kept]

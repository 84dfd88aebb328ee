"""A film's pictures through a pretrained network: of single pictures, or of clips.

::

    TR                      |           0           |           1           |
    moments                       *     *     *     *      ends of equal pieces of the TR
    single pictures            *     *     *     *         on screen at the middle of each piece
    clip of a moment     [-----------]                     the last `clip_seconds`, F pictures
                               [-----------]

Before the film its first picture stands still. Pictures are scaled and cut as the network's own
settings say; a TR's numbers are the mean over its moments.

Shapes: T TRs, L layers, D numbers, B pictures or clips at a time, F pictures of a clip, C colours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, repeat

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.pretrained.network import LoadedNetwork
from giblet_ray.features.video import frames_on_screen, shown_size

_SETTINGS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_GREY = 255.0


@dataclass(frozen=True)
class Preparation:
    """How pictures are scaled, cut and normalised for a network."""

    shortest: int | None
    """Rows or columns, whichever are fewer, that a picture is scaled to; None: to the size that is
    cut, whatever its aspect."""
    height: int
    width: int
    """What is cut from the middle (pixels)."""
    mean_C: np.ndarray
    std_C: np.ndarray
    """(3,) of what shades from 0 to 1 are normalised by."""

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns that a film's pictures are scaled to."""
        if self.shortest is None:
            return self.height, self.width
        scale = Fraction(self.shortest, min(width, height))
        rows, columns = int(height * scale), int(width * scale)
        return max(rows, self.height), max(columns, self.width)

    def cut(self, picture_CHW: np.ndarray) -> np.ndarray:
        """Return the middle of a scaled picture, as it is."""
        top = (picture_CHW.shape[1] - self.height) // 2
        left = (picture_CHW.shape[2] - self.width) // 2
        return picture_CHW[:, top : top + self.height, left : left + self.width]

    def normalise(self, pictures: np.ndarray) -> np.ndarray:
        """Return float32 of shades (..., C, H, W)."""
        shades = pictures.astype(np.float32) / _GREY - self.mean_C[:, None, None]
        return np.asarray(shades / self.std_C[:, None, None], np.float32)


def read_preparation(network: LoadedNetwork) -> Preparation:
    """Return how a network's own settings prepare pictures.

    Raises
    ------
    InputError
        If it has none, or they say no size.
    """
    said = network.settings_file(*_SETTINGS)
    for nested in ("video_processor", "image_processor"):
        said = said.get(nested, said)
    size, crop = said.get("size"), said.get("crop_size")
    size = {"height": size, "width": size} if isinstance(size, int) else size or {}
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    cut = crop if crop and said.get("do_center_crop", True) else size
    shortest = size.get("shortest_edge")
    if shortest is not None and cut is size:
        cut = {"height": shortest, "width": shortest}
    if not cut or not {"height", "width"} <= cut.keys():
        raise InputError(f"{network.network.model}: does not say which size its pictures have")
    has_own = shortest is not None or (size.get("height"), size.get("width")) == (
        cut["height"],
        cut["width"],
    )
    if not has_own and size:
        raise InputError(f"{network.network.model}: scales pictures to {size} and cuts {cut}")
    no_norm = not said.get("do_normalize", True)
    mean = [0.0] * 3 if no_norm else said.get("image_mean", [0.0] * 3)
    std = [1.0] * 3 if no_norm else said.get("image_std", [1.0] * 3)
    return Preparation(shortest, cut["height"], cut["width"], np.array(mean), np.array(std))


def moments_per_tr(tr_seconds: float, rate_hz: float) -> int:
    """Return how many moments of a TR a network is asked about, evenly in time; one at least."""
    return max(1, round(tr_seconds * rate_hz))


def picture_states(
    network: LoadedNetwork,
    path: str,
    n_trs: int,
    tr_seconds: float,
    rate_hz: float,
    pooling: str,
    batch: int,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Return what layers make of single pictures.

    Parameters
    ----------
    network : LoadedNetwork
        That reads images.
    path, n_trs, tr_seconds, start_seconds
        As :func:`giblet_ray.features.video.read_frames` takes them.
    rate_hz : float
        Pictures per second, as many as make whole numbers per TR.
    pooling : str
        mean: over a picture's tokens; first: the first token.
    batch : int
        Pictures at a time.

    Returns
    -------
    states_TLD : ndarray of float32
        Mean over the TR's pictures.
    """
    n = moments_per_tr(tr_seconds, rate_hz)
    preparation = read_preparation(network)
    rows, columns = preparation.scaled(*shown_size(path))
    piece = exact_seconds(tr_seconds) / n
    shown = frames_on_screen(path, n_trs, tr_seconds, piece, rows, columns, start_seconds)
    return _states(network, map(preparation.cut, shown), preparation, n, pooling, batch)


def clip_states(
    network: LoadedNetwork,
    path: str,
    n_trs: int,
    tr_seconds: float,
    rate_hz: float,
    clip_seconds: float,
    n_pictures: int,
    pooling: str,
    batch: int,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Return what layers make of clips that end at moments of the TRs.

    Parameters
    ----------
    clip_seconds : float
        Length of a clip (s).
    n_pictures : int
        F, pictures of a clip.

    Returns
    -------
    states_TLD : ndarray of float32
        Mean over the TR's clips. See :func:`picture_states` for all else.
    """
    n = moments_per_tr(tr_seconds, rate_hz)
    preparation = read_preparation(network)
    rows, columns = preparation.scaled(*shown_size(path))
    tr, piece = exact_seconds(tr_seconds), exact_seconds(clip_seconds) / n_pictures
    start = exact_seconds(start_seconds)
    until_seconds = float(start + n_trs * tr)
    shown = map(preparation.cut, frames_on_screen(path, 1, until_seconds, piece, rows, columns))

    def clips() -> Iterator[np.ndarray]:
        first = next(shown)
        held = deque(repeat(first, n_pictures), maxlen=n_pictures)
        pictures, n_seen = chain([first], shown), 0
        for moment in range(1, n_trs * n + 1):
            until = int((start + moment * tr / n) / piece)
            while n_seen < until and (picture := next(pictures, None)) is not None:
                held.append(picture)
                n_seen += 1
            yield np.stack(held)

    return _states(network, clips(), preparation, n, pooling, batch)


def _states(
    network: LoadedNetwork,
    seen: Iterator[np.ndarray],
    preparation: Preparation,
    n: int,
    pooling: str,
    batch: int,
) -> np.ndarray:
    """Return the mean (T, L, D) over each n of what is seen."""
    import torch

    found = []
    while some := list(islice(seen, batch)):
        inputs = torch.from_numpy(preparation.normalise(np.stack(some)))
        states_LBND = network.states({network.input_name: inputs})
        pooled_LBD = states_LBND[:, :, 0] if pooling == "first" else states_LBND.mean(2)
        found.append(pooled_LBD.swapaxes(0, 1))
    states_MLD = np.concatenate(found)
    return states_MLD.reshape(-1, n, *states_MLD.shape[1:]).mean(1)

"""A film's pictures: one RGB frame per TR, or several.

Shapes: T TRs, n frames of a TR, C colour channels (red, green, blue; of each frame in turn, where
there are several), H rows, W columns.

The frame of TR i is the one on screen at the TR's midpoint, found by presentation timestamp, so
that films of a variable frame rate come out right; n frames are those at the midpoints of n equal
pieces of the TR:

    TR              |         0         |         1         |         2         |
    midpoints                 *                   *                   *
    pictures        a    b   c  d e                f             g  h
    frame of TR               c                   e                   h
    two of a TR          b         e         e         f         f         h
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.media import (
    END_TOLERANCE_SECONDS,
    open_media,
    origin_seconds,
    video_stream,
)

_UPRIGHT = ((1, 0, 0), (0, 1, 0))
_TILT = 0.02
"""Share of a matrix's factors that is rounding, about a degree."""


def read_frames(
    path: str | Path,
    n_trs: int,
    tr_seconds: float,
    height: int = 90,
    width: int = 160,
    per_tr: int = 1,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Read the frame on screen at each TR's midpoint, or at several moments of it.

    The film is decoded once, from its start, and no more than one decoded frame is held. Frames
    are turned and mirrored as the file says that they are shown, and resized by area averaging to
    the whole of (height, width), whatever the film's aspect.

    Parameters
    ----------
    path : str or Path
        Any film that FFmpeg reads.
    n_trs : int
        TRs to read, as `media.tr_count` counts them.
    tr_seconds : float
        Duration of a TR (s).
    height, width : int
        Size of the frames (pixels).
    per_tr : int
        n, frames of a TR, evenly in time.
    start_seconds : float
        Time of the film at which the first TR begins (s).

    Returns
    -------
    frames_TCHW : np.ndarray of uint8, shape (n_trs, per_tr * 3, height, width)
        Channels 0 to 2 are those of a TR's first frame.

    Raises
    ------
    InputError
        The film cannot be opened, has no video, or ends (or is damaged) before the last
        frame.
    """
    piece = exact_seconds(tr_seconds) / per_tr
    frames_NCHW = np.empty((n_trs * per_tr, 3, height, width), np.uint8)
    shown = frames_on_screen(path, n_trs, tr_seconds, piece, height, width, start_seconds)
    for index, frame_CHW in enumerate(shown):
        frames_NCHW[index] = frame_CHW
    return frames_NCHW.reshape(n_trs, per_tr * 3, height, width)


def frames_on_screen(
    path: str | Path,
    n_trs: int,
    tr_seconds: float,
    piece: Fraction,
    height: int,
    width: int,
    start_seconds: float = 0.0,
) -> Iterator[np.ndarray]:
    """Read the frames on screen at the midpoints of equal pieces of the film's TRs, one by one.

    The last frame stays on screen for up to `media.END_TOLERANCE_SECONDS`; see `read_frames` for
    all else.

    Parameters
    ----------
    piece : Fraction
        Length of a piece (s), counted from `start_seconds`; midpoints within `n_trs` TRs count.

    Yields
    ------
    frame_CHW : np.ndarray of uint8, shape (3, height, width)
    """
    tr = exact_seconds(tr_seconds)
    n_frames = math.ceil(n_trs * tr / piece - Fraction(1, 2))
    with open_media(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        origin = origin_seconds(container, path) + exact_seconds(start_seconds)
        n_read = 0
        on_screen: av.VideoFrame | None = None
        end = Fraction(0)
        damage = ""
        try:
            for frame in container.decode(stream):
                time = _seconds(frame, path) - origin
                while on_screen and n_read < n_frames and _midpoint(n_read, piece) < time:
                    yield _shown(on_screen, height, width, path)
                    n_read += 1
                if n_read == n_frames:
                    return
                on_screen = frame
                end = time + _duration(frame, stream)
        except av.FFmpegError as error:
            damage = f" ({error.strerror})"
    stays = end + exact_seconds(END_TOLERANCE_SECONDS)
    while on_screen and n_read < n_frames and _midpoint(n_read, piece) < stays:
        yield _shown(on_screen, height, width, path)
        n_read += 1
    if n_read < n_frames:
        raise InputError(
            f"{path}: {math.floor(n_read * piece / tr)} of {n_trs} expected TRs ({tr_seconds} s "
            f"each) could be decoded: the video ends at {float(end) + start_seconds:.2f} s"
            f"{damage}; the file is truncated or damaged"
        )


def _midpoint(index: int, piece: Fraction) -> Fraction:
    return (index + Fraction(1, 2)) * piece


def _seconds(frame: av.VideoFrame, path: str | Path) -> Fraction:
    # AVI keeps decoding times only; without B-frames they are the presentation times.
    timestamp = frame.dts if frame.pts is None else frame.pts
    if timestamp is None or frame.time_base is None:
        raise InputError(f"{path}: its pictures have no timestamps; put it into .mp4 or .mkv")
    return timestamp * frame.time_base


def _duration(frame: av.VideoFrame, stream: av.VideoStream) -> Fraction:
    if frame.duration and frame.time_base is not None:
        return frame.duration * frame.time_base
    return 1 / stream.average_rate if stream.average_rate else Fraction(0)


def shown_size(path: str | Path) -> tuple[int, int]:
    """Return rows and columns (pixels) of a film's pictures as they are shown.

    Raises
    ------
    InputError
        As :func:`frames_on_screen`.
    """
    with open_media(path) as container:
        try:
            frame = next(iter(container.decode(video_stream(container, path))), None)
        except av.FFmpegError as error:
            raise InputError(f"{path}: cannot be decoded ({error.strerror})") from error
    if frame is None:
        raise InputError(f"{path}: holds no picture that can be decoded")
    is_turned, *_ = _turn(frame, path)
    return (frame.width, frame.height) if is_turned else (frame.height, frame.width)


def _turn(frame: av.VideoFrame, path: str | Path) -> tuple[bool, bool, bool]:
    """Return whether a frame is shown with rows as columns, rows reversed, and columns reversed.

    Phones write pictures as their sensor lies, and how to turn them: column p and row q of what is
    stored are shown at column a p + c q and row b p + d q, counted from the other end where the
    factor is negative.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    (a, b, _), (c, d, _) = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2] if matrix else _UPRIGHT
    is_turned = abs(b) > abs(a)
    if max(min(abs(a), abs(b)), min(abs(c), abs(d))) > _TILT * max(abs(a), abs(b)):
        raise InputError(
            f"{path}: its pictures are to be shown turned by another angle than a quarter or half "
            "turn; write it anew as it is to be seen"
        )
    along_p, along_q = (c, b) if is_turned else (a, d)
    return is_turned, along_q < 0, along_p < 0


def _shown(frame: av.VideoFrame, height: int, width: int, path: str | Path) -> np.ndarray:
    """Return a frame as it is shown, resized, (C, H, W)."""
    is_turned, rows_reversed, columns_reversed = _turn(frame, path)
    stored = (height, width) if is_turned else (width, height)
    rgb = frame.reformat(*stored, format="rgb24", interpolation="AREA")
    rows_HWC = rgb.to_ndarray().transpose(1, 0, 2) if is_turned else rgb.to_ndarray()
    rows, columns = -1 if rows_reversed else 1, -1 if columns_reversed else 1
    return rows_HWC[::rows, ::columns].transpose(2, 0, 1)

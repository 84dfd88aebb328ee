"""A film's pictures: one RGB frame per TR.

Shapes: T TRs, C colour channels (red, green, blue), H rows, W columns.

The frame of TR i is the one on screen at the TR's midpoint, found by presentation timestamp, so
that films of a variable frame rate come out right:

    TR              |         0         |         1         |         2         |
    midpoints                 *                   *                   *
    pictures        a    b   c  d e                f             g  h
    frame of TR               c                   e                   h
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.media import open_media, start_seconds, video_stream


def read_frames(
    path: str | Path, n_trs: int, tr_seconds: float, height: int = 90, width: int = 160
) -> np.ndarray:
    """Read the frame on screen at each TR's midpoint.

    The film is decoded once, from its start, and no more than one decoded frame is held. Frames
    are resized by area averaging to the whole of (height, width), whatever the film's aspect.

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

    Returns
    -------
    frames_TCHW : np.ndarray of uint8, shape (n_trs, 3, height, width)

    Raises
    ------
    InputError
        The film cannot be opened, has no video, or ends (or is damaged) before the last TR's
        midpoint.
    """
    frames_TCHW = np.empty((n_trs, 3, height, width), np.uint8)
    tr = exact_seconds(tr_seconds)
    with open_media(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        origin = start_seconds(stream)
        n_read = 0
        on_screen: av.VideoFrame | None = None
        end = Fraction(0)
        damage = ""
        try:
            for frame in container.decode(stream):
                time = _seconds(frame, path) - origin
                while on_screen is not None and n_read < n_trs and _midpoint(n_read, tr) < time:
                    frames_TCHW[n_read] = _resized(on_screen, height, width)
                    n_read += 1
                if n_read == n_trs:
                    return frames_TCHW
                on_screen = frame
                end = time + _duration(frame, stream)
        except av.FFmpegError as error:
            damage = f" ({error.strerror})"
    while on_screen is not None and n_read < n_trs and _midpoint(n_read, tr) < end:
        frames_TCHW[n_read] = _resized(on_screen, height, width)
        n_read += 1
    if n_read < n_trs:
        raise InputError(
            f"{path}: {n_read} of {n_trs} expected TRs ({tr_seconds} s each) could be decoded: the "
            f"video ends at {float(end):.2f} s{damage}; the file is truncated or damaged"
        )
    return frames_TCHW


def _midpoint(tr_index: int, tr: Fraction) -> Fraction:
    return (tr_index + Fraction(1, 2)) * tr


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


def _resized(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
    # Shape (C, H, W).
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return rgb.to_ndarray().transpose(2, 0, 1)

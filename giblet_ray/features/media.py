"""What video and audio share: opening a film, its clock, and how many TRs it holds.

A film's time 0 is the moment its first picture appears (the video stream's start), for pictures
and sound alike:

    container's clock   0 ....... v ......... a ..............................
    video                         |===================================|
    audio                                     |===================|
    film's clock                  0           a - v               |   duration_seconds
                                  |<--- audio_duration_seconds -->|
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from giblet_ray.errors import InputError

END_TOLERANCE_SECONDS = 0.1
"""How early a stream may end and still cover a duration. Streams consist of whole pictures (42 ms
at 24 per second) and whole audio packets (21 to 85 ms), and containers round: a film of 600 s is
reported as 599.98 s."""

_HEADER_TOLERANCE_SECONDS = 1.0
"""Difference between a container's stated duration and its packets that is not a truncation."""


@dataclass(frozen=True)
class Film:
    """What is known of a film without decoding it; times are on the film's clock, in seconds."""

    path: str
    duration_seconds: float
    """Where the last picture ends."""
    has_audio: bool
    audio_duration_seconds: float
    """Where the sound ends, counted from the film's time 0; 0.0 without audio."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    mean_fps: float
    """Pictures per second on average; a variable frame rate departs from it."""


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """Open a media file for reading.

    Raises
    ------
    InputError
        The file is missing, truncated where its index should be, or not a media file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; a film that FFmpeg reads is expected")
    try:
        # Of day:1/film.mp4, FFmpeg would take day for a protocol.
        container = av.open(str(Path(path).absolute()), metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: FFmpeg cannot open it ({error.strerror}); "
            "a complete media file (.mp4, .mkv, .avi, ...) is expected, this one is truncated or "
            "something else"
        ) from error
    with container:
        yield container


def video_stream(container: InputContainer, path: str | Path) -> av.VideoStream:
    """First stream of moving pictures (cover art is not one); InputError where there is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            _require_decoder(stream, path)
            return stream
    raise InputError(f"{path}: it has no video stream; a film is expected")


def audio_stream(container: InputContainer, path: str | Path) -> av.AudioStream:
    """First audio stream; InputError where there is none."""
    if not container.streams.audio:
        raise InputError(f"{path}: the film has no audio; a film with a sound track is expected")
    stream = container.streams.audio[0]
    _require_decoder(stream, path)
    return stream


def _require_decoder(stream: av.VideoStream | av.AudioStream, path: str | Path) -> None:
    if stream.codec_context is None:
        raise InputError(
            f"{path}: this FFmpeg has no decoder for its {stream.type}; convert it, for example "
            "to H.264 and AAC"
        )


def start_seconds(stream: av.VideoStream | av.AudioStream) -> Fraction:
    """First presentation time of a stream on its container's clock (s)."""
    return Fraction(stream.start_time or 0) * (stream.time_base or 1)


def probe_film(path: str | Path, require_audio: bool = False) -> Film:
    """Measure a film without decoding it.

    Durations come from the stream headers. Where a container keeps none (Matroska), they are the
    ends of the last packets, compared with the container's own duration.

    Parameters
    ----------
    path : str or Path
        Any file that FFmpeg reads.
    require_audio : bool
        Refuse a film without audio.

    Raises
    ------
    InputError
        The file is missing, is no media file, is truncated, has no video stream, or has no audio
        though ``require_audio``.
    """
    with open_media(path) as container:
        video = video_stream(container, path)
        has_audio = require_audio or bool(container.streams.audio)
        streams: list[av.VideoStream | av.AudioStream] = [video]
        if has_audio:
            streams.append(audio_stream(container, path))
        ends = [start_seconds(s) + (s.duration or 0) * (s.time_base or 1) for s in streams]
        if not all(stream.duration for stream in streams):
            ends = _last_packet_ends(container, streams, path)
        durations = [float(end - start_seconds(video)) for end in ends]
        if durations[0] <= 0:
            raise InputError(f"{path}: its video holds no pictures; it is truncated or empty")
        return Film(
            path=str(path),
            duration_seconds=durations[0],
            has_audio=has_audio,
            audio_duration_seconds=durations[1] if has_audio else 0.0,
            width=video.codec_context.width,
            height=video.codec_context.height,
            mean_fps=float(video.average_rate or 0),
        )


def _last_packet_ends(
    container: InputContainer, streams: list[av.VideoStream | av.AudioStream], path: str | Path
) -> list[Fraction]:
    """Where each stream ends on the container's clock (s): reads the file, decodes nothing."""
    ends = {stream.index: Fraction(0) for stream in streams}
    try:
        for packet in container.demux(*streams):
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                ends[packet.stream_index] = max(ends[packet.stream_index], end)
    except av.FFmpegError as error:
        raise InputError(f"{path}: it cannot be read to its end ({error.strerror})") from error
    if container.duration is not None:
        stated = Fraction(container.duration + (container.start_time or 0), av.time_base)
        if max(ends.values()) < stated - Fraction(_HEADER_TOLERANCE_SECONDS):
            raise InputError(
                f"{path}: it is truncated: it holds {float(max(ends.values())):.1f} s of the "
                f"{float(stated):.1f} s that its header states"
            )
    return [ends[stream.index] for stream in streams]


def tr_count(film: Film, tr_seconds: float) -> int:
    """Number of whole TRs that a film covers with picture and, if it has any, sound.

    A TR counts when the shorter stream misses at most `END_TOLERANCE_SECONDS` of it: 600 s of film
    reported as 599.98 s are 400 TRs of 1.5 s. The picture on screen then stays, and the sound is
    followed by that much silence.

    Raises
    ------
    InputError
        Picture and sound differ in length by more than a TR, or the film is shorter than a TR.
    """
    covered = film.duration_seconds
    if film.has_audio:
        difference = abs(film.duration_seconds - film.audio_duration_seconds)
        if difference > tr_seconds:
            raise InputError(
                f"{film.path}: its video ends at {film.duration_seconds:.2f} s and its audio at "
                f"{film.audio_duration_seconds:.2f} s; they may differ by one TR ({tr_seconds} s), "
                "so one of them is incomplete"
            )
        covered = min(covered, film.audio_duration_seconds)
    n_trs = math.floor((covered + END_TOLERANCE_SECONDS) / tr_seconds)
    if n_trs < 1:
        raise InputError(
            f"{film.path}: it lasts {covered:.2f} s; at least one TR ({tr_seconds} s) is expected"
        )
    return n_trs

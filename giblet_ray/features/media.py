"""What video and audio share: opening a film, its clock, and how many TRs it holds.

A film's time 0 is the moment its first picture appears (the video stream's start; of sound without
pictures, the sound's), for pictures and sound alike:

    container's clock   0 ....... v ......... a ..............................
    video                         |===================================|
    audio                                     |===================|
    film's clock                  0           a - v               |   duration_seconds
                                  |<--- audio_duration_seconds -->|

A film is a file, or ``film.mkv::2``: its second sound track.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeVar

import av
from av.container import InputContainer
from av.stream import Disposition

from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source

_Stream = TypeVar("_Stream", av.VideoStream, av.AudioStream)

END_TOLERANCE_SECONDS = 0.1
"""How early a stream may end and still cover a duration. Streams consist of whole pictures (42 ms
at 24 per second) and whole audio packets (21 to 85 ms), and containers round: a film of 600 s is
reported as 599.98 s."""

_HEADER_TOLERANCE_SECONDS = 1.0
"""Difference between a container's stated duration and its packets that is not a truncation."""

_JUMP_SECONDS = 600.0
"""Time in which a file has neither picture nor sound that is no hole in a recording."""

_ESTIMATED = ("aac", "ac3", "dts", "eac3", "mp3", "mpeg", "mpegts")
"""Formats that state no duration; FFmpeg reckons one from bit rates and time stamps."""

_FOR_SOME = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
)
"""Tracks beside the film's own: commentaries and descriptions."""


@dataclass(frozen=True)
class Film:
    """What is known of a film without decoding it; times are on the film's clock, in seconds."""

    path: str
    duration_seconds: float
    """Where the last picture ends; of sound without pictures, where it ends."""
    has_audio: bool
    audio_duration_seconds: float
    """Where the sound ends, counted from the film's time 0; 0.0 without audio."""
    has_video: bool = True


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """Open a media file for reading.

    Raises
    ------
    InputError
        The file is missing, truncated where its index should be, or not a media file.
    """
    file, _ = split_source(path)
    try:
        # Of day:1/film.mp4, FFmpeg would take day for a protocol.
        container = av.open(str(file.absolute()), metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{file}: FFmpeg cannot open it ({error.strerror}); "
            "a complete media file (.mp4, .mkv, .avi, ...) is expected, this one is truncated or "
            "something else"
        ) from error
    with container:
        yield container


def video_stream(container: InputContainer, path: str | Path) -> av.VideoStream:
    """Return the stream of moving pictures (cover art is not one); InputError where there is none.

    Of several, that which players show; see :func:`audio_stream`.
    """
    moving = _moving(container)
    if not moving:
        raise InputError(f"{path}: it has no video stream; a film is expected")
    stream = _played(moving)
    _require_decoder(stream, path)
    return stream


def audio_stream(container: InputContainer, path: str | Path) -> av.AudioStream:
    """Return the sound track that is asked for, or else that which players play.

    That is the first of those that are marked as default, or of all if none is; before
    commentaries and descriptions.

    Raises
    ------
    InputError
        There is none, or not so many as are asked for.
    """
    tracks = container.streams.audio
    if not tracks:
        raise InputError(f"{path}: the film has no audio; a film with a sound track is expected")
    file, number = split_source(path)
    if number is None:
        stream = _played(tracks)
    elif number.isdecimal() and 1 <= int(number) <= len(tracks):
        stream = tracks[int(number) - 1]
    else:
        raise InputError(
            f"{path}: {file.name} has {len(tracks)} sound tracks; ::1 to ::{len(tracks)} choose one"
        )
    _require_decoder(stream, path)
    return stream


def sound_notes(path: str | Path) -> list[str]:
    """Return what a user should know of the sound that is read: which track, of several."""
    with open_media(path) as container:
        tracks = list(container.streams.audio)
        if len(tracks) < 2:
            return []
        chosen = tracks.index(audio_stream(container, path))
    file, number = split_source(path)
    names = [
        f"{n} ({track.language})" if track.language not in (None, "und") else str(n)
        for n, track in enumerate(tracks, 1)
    ]
    why = "as told" if number else f"as players do; {file.name}::1 to ::{len(tracks)} choose"
    return [f"{file.name}: its sound is that of track {names[chosen]} of {', '.join(names)}, {why}"]


def _moving(container: InputContainer) -> list[av.VideoStream]:
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return [stream for stream in container.streams.video if not stream.disposition & still]


def _played(streams: Sequence[_Stream]) -> _Stream:
    default = [each for each in streams if each.disposition & Disposition.default] or streams
    return next((each for each in default if not each.disposition & _FOR_SOME), default[0])


def _require_decoder(stream: av.VideoStream | av.AudioStream, path: str | Path) -> None:
    if stream.codec_context is None:
        raise InputError(
            f"{path}: this FFmpeg has no decoder for its {stream.type}; convert it, for example "
            "to H.264 and AAC"
        )


def start_seconds(stream: av.VideoStream | av.AudioStream) -> Fraction:
    """First presentation time of a stream on its container's clock (s)."""
    return Fraction(stream.start_time or 0) * (stream.time_base or 1)


def origin_seconds(container: InputContainer, path: str | Path) -> Fraction:
    """Return the film's time 0 on its container's clock (s)."""
    moving = _moving(container)
    return start_seconds(_played(moving) if moving else audio_stream(container, path))


def probe_film(path: str | Path, require_audio: bool = False) -> Film:
    """Measure a film without decoding it: the file is read to its end.

    What counts is where the packets of pictures and sound end, not what a header says: a program
    stream's lacks the last picture, and joined files have the header of one.

    Parameters
    ----------
    path : str or Path
        Any file that FFmpeg reads: a film, or sound without pictures.
    require_audio : bool
        Refuse a film without audio.

    Raises
    ------
    InputError
        The file is missing, is no media file, is truncated, has neither moving pictures nor sound,
        has time stamps of several files, or has no audio though ``require_audio``.
    """
    with open_media(path) as container:
        streams: list[av.VideoStream | av.AudioStream] = []
        has_video = bool(_moving(container))
        has_audio = bool(container.streams.audio)
        if has_video or not has_audio:
            streams.append(video_stream(container, path))
        if has_audio or require_audio:
            streams.append(audio_stream(container, path))
        origin = origin_seconds(container, path)
        ends = [float(end - origin) for end in _last_packet_ends(container, streams, path)]
        if ends[0] <= 0:
            what = "video holds no pictures" if has_video else "audio holds no sound"
            raise InputError(f"{path}: its {what}; it is truncated or empty")
        return Film(str(path), ends[0], has_audio, ends[-1] if has_audio else 0.0, has_video)


def _last_packet_ends(
    container: InputContainer, streams: list[av.VideoStream | av.AudioStream], path: str | Path
) -> list[Fraction]:
    """Where each stream ends on the container's clock (s): reads the file, decodes nothing."""
    ends = {stream.index: Fraction(0) for stream in streams}
    before: dict[int, Fraction] = {}
    latest = None
    try:
        for packet in container.demux(*streams):
            if packet.size == 0 or packet.is_discard or packet.time_base is None:
                continue
            # AVI keeps decoding times only, others here and there none at all.
            stamps = [each for each in (packet.pts, packet.dts) if each is not None]
            if not stamps:
                continue
            shown = stamps[0] * packet.time_base
            # Matroska's are FFmpeg's guess, which has none for the first pictures where they are
            # stored in another order than shown.
            if packet.dts is not None:
                decoded = packet.dts * packet.time_base
                _check_order(path, before.get(packet.stream_index), latest, decoded)
                before[packet.stream_index] = latest = decoded
            end = shown + _duration(packet)
            ends[packet.stream_index] = max(ends[packet.stream_index], end)
    except av.FFmpegError as error:
        raise InputError(f"{path}: it cannot be read to its end ({error.strerror})") from error
    if container.duration is not None and container.format.name not in _ESTIMATED:
        stated = Fraction(container.duration + (container.start_time or 0), av.time_base)
        if max(ends.values()) < stated - Fraction(_HEADER_TOLERANCE_SECONDS):
            raise InputError(
                f"{path}: it is truncated: it holds {float(max(ends.values())):.1f} s of the "
                f"{float(stated):.1f} s that its header states"
            )
    return [ends[stream.index] for stream in streams]


def _check_order(
    path: str | Path, before: Fraction | None, latest: Fraction | None, now: Fraction
) -> None:
    """Refuse time stamps of several files, one after another, each with a clock of its own."""
    if before is not None and now < before - Fraction(END_TOLERANCE_SECONDS):
        how = f"step back from {float(before):.2f} to {float(now):.2f} s"
    elif latest is not None and now > latest + Fraction(_JUMP_SECONDS):
        how = f"jump from {float(latest):.2f} to {float(now):.2f} s"
    else:
        return
    raise InputError(
        f"{path}: its time stamps {how}, as where files were joined byte by byte; give the parts "
        "as films of their own, or join them anew (ffmpeg -f concat)"
    )


def _duration(packet: av.Packet) -> Fraction:
    """Return how long a packet lasts (s): transport streams do not say it of the last picture."""
    if packet.duration and packet.time_base is not None:
        return packet.duration * packet.time_base
    rate = (
        packet.stream.average_rate or packet.stream.guessed_rate
        if packet.stream.type == "video"
        else None
    )
    return 1 / rate if rate else Fraction(0)


def uneven_seconds(film: Film) -> float:
    """Return by how much picture and sound differ in length (s)."""
    return abs(film.duration_seconds - film.audio_duration_seconds) if film.has_audio else 0.0


def tr_count(
    film: Film,
    tr_seconds: float,
    start_seconds: float = 0.0,
    lengths: Literal["exact", "trim"] = "exact",
) -> int:
    """Number of whole TRs that a film covers with picture and, if it has any, sound.

    They are counted from a time of the film on (s).

    A TR counts when the shorter stream misses at most `END_TOLERANCE_SECONDS` of it: 600 s of film
    reported as 599.98 s are 400 TRs of 1.5 s. The picture on screen then stays, and the sound is
    followed by that much silence.

    Raises
    ------
    InputError
        Picture and sound differ in length by more than a TR, and lengths are to be exact; or the
        film is shorter than a TR.
    """
    covered = film.duration_seconds
    if film.has_audio:
        if lengths == "exact" and uneven_seconds(film) > tr_seconds:
            raise InputError(
                f"{film.path}: its video ends at {film.duration_seconds:.2f} s and its audio at "
                f"{film.audio_duration_seconds:.2f} s; they may differ by one TR ({tr_seconds} s), "
                "so one of them is incomplete; --film_lengths trim takes what has both"
            )
        covered = min(covered, film.audio_duration_seconds)
    n_trs = math.floor((covered - start_seconds + END_TOLERANCE_SECONDS) / tr_seconds)
    if n_trs < 1:
        raise InputError(
            f"{film.path}: it lasts {covered:.2f} s; at least one TR ({tr_seconds} s) is expected"
        )
    return n_trs

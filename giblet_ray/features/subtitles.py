"""Cues of subtitle files."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import NamedTuple

import pysubs2
from pysubs2.formats.substation import parse_tags

from giblet_ray.errors import InputError
from giblet_ray.features.source import decode_text

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")


class Cue(NamedTuple):
    """Words with their times as a file gives them, unchecked."""

    place: str
    """Where in the file, for an error to name."""
    onset_seconds: float
    offset_seconds: float
    text: str
    """With single spaces; never empty."""


# The library's own pattern for .srt reads "-->" lines that it does not match as spoken words.
_SRT_TIME = r"\d{1,2}:\d{1,2}:\d{1,2}[.,]\d{1,3}"
_VTT_TIME = r"(?:\d{2,4}:)?\d{2}:\d{2}\.\d{3}"
_TIMING = {
    ".srt": re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(\s.*)?"),
    ".vtt": re.compile(rf"\s*{_VTT_TIME}\s+-->\s+{_VTT_TIME}(\s.*)?"),
}
_VTT_NOT_SPOKEN = ("NOTE", "STYLE", "REGION")


def read_subtitles(file: Path) -> list[Cue]:
    """Read the cues that hold words, without their markup, in the file's order.

    Comments, drawings and cues without words are left out.

    Raises
    ------
    InputError
        The file cannot be decoded or read, or a timing line or WebVTT block is malformed.
    """
    suffix = file.suffix.lower()
    text = decode_text(file)
    if suffix in _TIMING:
        n_cues = _check_timing_lines(file, text, _TIMING[suffix])
        text = _plain_vtt(file, text) if suffix == ".vtt" else text
        # A last line that is a number alone would be taken for the number of a next cue.
        text += "\n\n0\n"
    try:
        subtitles = pysubs2.SSAFile.from_string(text, format_=suffix[1:])
    except (pysubs2.Pysubs2Error, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{file}: is not a readable {suffix} file: {error}") from error
    if suffix in _TIMING and len(subtitles.events) != n_cues:
        raise InputError(
            f"{file}: {n_cues} timing lines gave {len(subtitles.events)} cues; "
            "a time stamp pair stands inside a cue's text"
        )
    cues = []
    for number, event in enumerate(subtitles.events, 1):
        if event.is_comment:
            continue
        fragments = parse_tags(event.text)
        words = "".join(fragment for fragment, style in fragments if not style.drawing)
        words = re.sub(r"\\[hnN]", " ", words)
        if suffix in _TIMING:
            words = html.unescape(words)
        words = " ".join(words.split())
        if words:
            cues.append(Cue(f"cue {number}", event.start / 1000, event.end / 1000, words))
    return cues


def _check_timing_lines(file: Path, text: str, timing: re.Pattern[str]) -> int:
    """Count the timing lines; one that cannot be read is an error and not spoken text."""
    n_cues = 0
    for number, line in enumerate(text.split("\n"), 1):
        if "-->" in line:
            if not timing.fullmatch(line):
                raise InputError(
                    f"{file}, line {number}: {line.strip()!r} is no pair of times; "
                    f"expected {_timing_example(file)}"
                )
            n_cues += 1
    return n_cues


def _timing_example(file: Path) -> str:
    point = "," if file.suffix.lower() == ".srt" else "."
    return f"00:00:01{point}000 --> 00:00:02{point}500"


def _plain_vtt(file: Path, text: str) -> str:
    """Keep of WebVTT what .srt has too: the library reads both alike.

    Blocks are separated by blank lines; notes, styles, regions, cue names and the time stamps
    inside a cue (karaoke) would otherwise be read as words.
    """
    if not text.startswith("WEBVTT"):
        raise InputError(f"{file}: a .vtt file starts with 'WEBVTT', this one with {text[:10]!r}")
    kept: list[str] = []
    blocks = re.split(r"\n(?:[ \t]*\n)+", text.strip())
    for block in blocks[1:] if "-->" not in blocks[0] else blocks:
        lines = block.split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is not None:
            spoken = re.sub(r"<[\d:.]+>", "", "\n".join(lines[at + 1 :]))
            kept.append(f"{len(kept) + 1}\n{lines[at]}\n{spoken}")
        elif not lines[0].startswith(_VTT_NOT_SPOKEN):
            raise InputError(
                f"{file}: the block {lines[0][:40]!r} has no times and is no "
                f"{', '.join(_VTT_NOT_SPOKEN)}"
            )
    return "\n\n".join(kept)

"""Cues of subtitle files."""

from __future__ import annotations

import html
import itertools
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


class _Shown(NamedTuple):
    """A cue as it is on screen."""

    place: str
    onset_seconds: float
    offset_seconds: float
    lines: tuple[str, ...]


ROLLING_GAP_SECONDS = 0.1
"""How long after a cue's end the next one may begin and still carry its lines over."""
ROLLING_SHARE = 0.25
"""Share of cues that carry lines over and add some, from which on captions are taken to roll."""

# The library's own pattern for .srt reads "-->" lines that it does not match as spoken words.
_SRT_TIME = r"\d{1,2}:\d{1,2}:\d{1,2}[.,]\d{1,3}"
_VTT_TIME = r"(?:\d{2,4}:)?\d{2}:\d{2}\.\d{3}"
_TIMING = {
    ".srt": re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(\s.*)?"),
    ".vtt": re.compile(rf"\s*{_VTT_TIME}\s+-->\s+{_VTT_TIME}(\s.*)?"),
}
_VTT_NOT_SPOKEN = ("NOTE", "STYLE", "REGION")


def read_subtitles(file: Path, notes: list[str]) -> list[Cue]:
    """Read the cues that hold words, without their markup, in the file's order.

    Comments, drawings and cues without words are left out. Of captions that roll, where a cue
    shows the lines of the one before and then its own, each line is kept once, in the cue that
    first shows it.

    Parameters
    ----------
    file : Path
    notes : list of str
        What was repaired is added to it.

    Raises
    ------
    InputError
        The file cannot be decoded or read, or a timing line or WebVTT block is malformed.
    """
    suffix = file.suffix.lower()
    text = decode_text(file)
    n_cues = None
    if suffix in _TIMING:
        n_cues = _check_timing_lines(file, text, _TIMING[suffix])
        text = _plain_srt(_vtt_cues(file, text) if suffix == ".vtt" else _srt_cues(text))
    try:
        subtitles = pysubs2.SSAFile.from_string(text, format_=suffix[1:])
    except (pysubs2.Pysubs2Error, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{file}: is not a readable {suffix} file: {error}") from error
    if n_cues is not None and len(subtitles.events) != n_cues:
        raise InputError(
            f"{file}: {n_cues} timing lines gave {len(subtitles.events)} cues; "
            "a time stamp pair stands inside a cue's text"
        )
    shown = []
    for number, event in enumerate(subtitles.events, 1):
        if event.is_comment:
            continue
        fragments = parse_tags(event.text)
        words = "".join(fragment for fragment, style in fragments if not style.drawing)
        lines = re.split(r"\\[nN]", words.replace("\\h", " "))
        if n_cues is not None:
            lines = [html.unescape(line) for line in lines]
        lines = [" ".join(line.split()) for line in lines]
        if any(lines):
            times = (event.start / 1000, event.end / 1000)
            shown.append(_Shown(f"cue {number}", *times, tuple(filter(None, lines))))
    return _each_line_once(shown, notes)


def _each_line_once(shown: list[_Shown], notes: list[str]) -> list[Cue]:
    """Return the cues, of rolling captions what each adds to the one before::

    "the river rises"
    "the river rises"                        nothing
    "the river rises / over the bridge"      "over the bridge"
    "over the bridge / and we walk"          "and we walk"
    """
    texts = [" ".join(cue.lines) for cue in shown]
    added = texts[:1] + [_added(*pair) for pair in itertools.pairwise(shown)]
    carries = [new != text for new, text in zip(added, texts, strict=True)]
    rolls = sum(bool(new) for new, carried in zip(added, carries, strict=True) if carried)
    if rolls and rolls >= ROLLING_SHARE * len(shown):
        notes.append(
            f"rolling captions: {sum(carries)} of {len(shown)} cues show lines of the cue before "
            "again; each line is kept once, where it first appears"
        )
        texts = added
    return [Cue(*cue[:3], text) for cue, text in zip(shown, texts, strict=True) if text]


def _added(before: _Shown, cue: _Shown) -> str:
    """Return what a cue shows besides the last lines of the one before, if it follows at once.

    The last of them may have grown: "the river" is in "the river rises".
    """
    text, old, new = " ".join(cue.lines), before.lines, cue.lines
    follows = (
        before.onset_seconds <= cue.onset_seconds <= before.offset_seconds + ROLLING_GAP_SECONDS
    )
    for n in range(min(len(old), len(new)), 0, -1) if follows else ():
        same, grown = old[-n:-1] == new[: n - 1], f"{new[n - 1]} ".startswith(f"{old[-1]} ")
        if same and grown:
            return text[len(" ".join(old[-n:])) :].strip()
    return text


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


def _plain_srt(cues: list[tuple[str, str]]) -> str:
    """Write (timing line, text) of cues as the library reads them: each under its number.

    The number after the last is for its text, whose last line may be a number alone.
    """
    texts = [(timing, re.sub(r"(?i)< *br */? *>", "\n", spoken)) for timing, spoken in cues]
    blocks = [f"{n}\n{timing}\n{spoken}" for n, (timing, spoken) in enumerate(texts, 1)]
    return "\n\n".join([*blocks, "0\n"])


def _srt_cues(text: str) -> list[tuple[str, str]]:
    """Return (timing line, text) of each cue, without the number of the next::

        in a file without numbers   Room number       numbered   1
                                    42                           Room number
                                                                 42
                                    00:00:03,000 -->
                                    Bye                          2
                                                                 00:00:03,000 -->

    The number is the line above the timing line, between blank lines or in a file whose first cue
    has one; in such a file, blank lines may come between.
    """
    lines = [line.strip() for line in text.split("\n")]
    timings = [at for at, line in enumerate(lines) if "-->" in line]
    is_numbered = False
    cues: list[tuple[str, str]] = []
    for start, stop in itertools.pairwise([-1, *timings, len(lines)]):
        above = next((at for at in range(stop - 1, start, -1) if lines[at]), start)
        under_blank = above == 0 or not lines[above - 1]
        end = stop
        if stop < len(lines) and above > start and lines[above].isdecimal():
            is_numbered |= start < 0
            is_next = above == stop - 1
            if (is_next and (is_numbered or under_blank)) or (is_numbered and under_blank):
                end = above
        if start >= 0:
            cues.append((lines[start], "\n".join(lines[start + 1 : end])))
    return cues


def _vtt_cues(file: Path, text: str) -> list[tuple[str, str]]:
    """Return (timing line, text) of each cue: what .srt has too, as the library reads both alike.

    Blocks are separated by blank lines; notes, styles, regions, cue names and the time stamps
    inside a cue (karaoke) would otherwise be read as words.
    """
    if not text.startswith("WEBVTT"):
        raise InputError(f"{file}: a .vtt file starts with 'WEBVTT', this one with {text[:10]!r}")
    cues: list[tuple[str, str]] = []
    # Blocks and what separates them, in turn.
    split = re.split(r"(\n(?:[ \t]*\n)+)", text.strip())
    first = 2 if "-->" not in split[0] else 0
    for block, gap in zip(split[first::2], ["", *split[1::2]][first // 2 :], strict=True):
        lines = block.split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is not None:
            cues.append((lines[at], "\n".join(lines[at + 1 :])))
        elif cues and gap and "\n\n" not in gap:
            # A line of blanks alone is one of the cue's, as YouTube writes them.
            cues[-1] = (cues[-1][0], "\n".join([cues[-1][1], *lines]))
        elif not lines[0].startswith(_VTT_NOT_SPOKEN):
            raise InputError(
                f"{file}: the block {lines[0][:40]!r} has no times and is no "
                f"{', '.join(_VTT_NOT_SPOKEN)}"
            )
    return [(timing, re.sub(r"<[\d:.]+>", "", spoken)) for timing, spoken in cues]

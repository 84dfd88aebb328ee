"""Cues of subtitle files as labs have them: without numbers, rolling, from other programs."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.features.text import read_utterances, text_per_tr
from giblet_ray.parts.part import FilmFiles, Prepared
from giblet_ray.parts.text import Text

UNNUMBERED = """00:00:01,000 --> 00:00:02,500
Room number
42

00:00:03,000 --> 00:00:04,400
Bye
"""


def read(tmp_path, content, name="film.srt", encoding="utf-8"):
    """Return (onset, offset, text) of each utterance, and what was repaired."""
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    notes: list[str] = []
    said = read_utterances(path, 60, notes)
    return [(each.onset_seconds, each.offset_seconds, each.text) for each in said], notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (UNNUMBERED, ["Room number 42", "Bye"]),
        (UNNUMBERED.replace("\n\n", "\n"), ["Room number 42", "Bye"]),
        (UNNUMBERED.replace("Room number\n", ""), ["42", "Bye"]),
        (UNNUMBERED.replace("00:00:03", "2\n00:00:03"), ["Room number 42", "Bye"]),
        ("1\n" + UNNUMBERED, ["Room number 42", "Bye"]),
        ("1\n" + UNNUMBERED.replace("00:00:03", "2\n00:00:03"), ["Room number 42", "Bye"]),
        ("1\n" + UNNUMBERED.replace("\n\n", "\n2\n"), ["Room number 42", "Bye"]),
        ("1\n" + UNNUMBERED.replace("\n\n", "\n\n2\n\n"), ["Room number 42", "Bye"]),
        ("1\n" + UNNUMBERED.replace("Room number\n42", "\n\n2"), ["Bye"]),
        (UNNUMBERED.replace("\n\n", "\n\n\ufeff1\n"), ["Room number 42", "Bye"]),
    ],
)
def test_a_number_is_spoken_unless_it_numbers_a_cue(tmp_path, content, texts, newline, encoding):
    said, notes = read(tmp_path, content.replace("\n", newline), encoding=encoding)
    assert [text for _, _, text in said] == texts
    assert not notes


def test_lines_broken_by_markup_stay_words_of_their_own(tmp_path):
    spoken = "Look,<br>my<br/>dear<BR />John"
    said, _ = read(tmp_path, UNNUMBERED.replace("Bye", spoken))
    assert said[1][2] == "Look, my dear John"
    vtt = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{spoken}\n"
    assert read(tmp_path, vtt, "film.vtt")[0] == [(1, 2, "Look, my dear John")]


ROLLING = """1
00:00:00,469 --> 00:00:03,169
the river rises at night

2
00:00:03,169 --> 00:00:03,179
the river rises at night

3
00:00:03,179 --> 00:00:05,749
the river rises at night
over the old bridge

4
00:00:05,749 --> 00:00:05,759
over the old bridge

5
00:00:05,759 --> 00:00:08,000
over the old bridge
and we walk home
"""

ROLLING_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.469 --> 00:00:03.169 align:start position:0%
 
the<00:00:00.900><c> river</c><00:00:01.300><c> rises at night</c>

00:00:03.169 --> 00:00:03.179 align:start position:0%
the river rises at night
 

00:00:03.179 --> 00:00:05.749 align:start position:0%
the river rises at night
over<00:00:03.500><c> the old bridge</c>

00:00:05.749 --> 00:00:05.759 align:start position:0%
over the old bridge
 

00:00:05.759 --> 00:00:08.000 align:start position:0%
over the old bridge
and<00:00:06.100><c> we walk home</c>
"""  # noqa: W293 - the blanks are YouTube's

SAID = [
    (0.469, 3.169, "the river rises at night"),
    (3.179, 5.749, "over the old bridge"),
    (5.759, 8.0, "and we walk home"),
]


@pytest.mark.parametrize(("name", "content"), [("f.srt", ROLLING), ("f.vtt", ROLLING_VTT)])
def test_lines_of_rolling_captions_are_said_once(tmp_path, name, content):
    said, notes = read(tmp_path, content, name)
    assert said == SAID
    (note,) = notes
    assert note.startswith(f"{name}: rolling captions: 4 of 5 cues")
    per_tr = text_per_tr(read_utterances(tmp_path / name, 60), 6, 1.5)
    assert all(line.count("river") <= 1 for line in per_tr)


def cues(*shown, step=1.5, gap=0.0):
    """Return an .srt file of cues one after another, of lines separated by '/'."""

    def stamp(seconds):
        return f"00:00:{seconds:06.3f}".replace(".", ",")

    times = [(stamp(i * step), stamp((i + 1) * step - gap)) for i in range(len(shown))]
    lines = [text.replace(" / ", "\n") for text in shown]
    return "\n\n".join(
        f"{i}\n{start} --> {stop}\n{text}"
        for i, ((start, stop), text) in enumerate(zip(times, lines, strict=True), 1)
    )


@pytest.mark.parametrize(
    ("shown", "texts"),
    [
        # Three lines at a time.
        (["a b", "a b / c d", "a b / c d / e", "c d / e / f", "e / f / g"], "a b|c d|e|f|g"),
        # A line that grows word by word.
        (["the", "the river", "the river rises", "the river rises / at", "at night"],
         "the|river|rises|at|night"),
        # A line that is said twice is shown twice.
        (["no", "no / no", "no / yes", "yes / yes"], "no|no|yes|yes"),
    ],
)  # fmt: skip
def test_captions_roll_in_other_ways(tmp_path, shown, texts):
    said, (note,) = read(tmp_path, cues(*shown))
    assert [text for _, _, text in said] == texts.split("|")
    assert f"of {len(shown)} cues" in note
    # A picture's length between them changes nothing.
    assert [s[2] for s in read(tmp_path, cues(*shown, gap=0.04))[0]] == texts.split("|")


def test_what_people_say_twice_stays(tmp_path):
    shown = ["No!", "No!", "You know me", "me too", "Go", "Go / now", "Stop", *"uvwxyz"]
    said, notes = read(tmp_path, cues(*shown))
    assert [text for _, _, text in said] == [text.replace(" /", "") for text in shown]
    assert not notes
    apart = cues("a", "a / b", "b / c", "c / d", gap=0.5)
    assert [text for _, _, text in read(tmp_path, apart)[0]] == ["a", "a b", "b c", "c d"]


def test_a_part_says_what_was_repaired(tmp_path):
    (tmp_path / "film.srt").write_text(ROLLING)
    files = {"text": str(tmp_path / "film.srt")}
    film = FilmFiles(name="film", n_trs=6, tr_seconds=1.5, seconds=9.2, files=files)
    part = Text("text")
    part.load(Prepared(), "cpu")
    made = part.make(film)
    (note,) = made.notes
    assert note.startswith("film.srt: rolling captions")
    assert made.facts["words"] == 13
    assert np.linalg.norm(made.values, axis=1).max() <= 4

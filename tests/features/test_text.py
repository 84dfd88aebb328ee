import datetime

import openpyxl
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.text import Utterance, read_utterances, text_per_tr

FILM_SECONDS = 60.0

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> {\\an8}John,
<font color="#fff">come &amp; see.</font>

2
00:00:04,000 --> 00:00:05,000


3
00:00:03,250 --> 00:00:04,750
Count to
42

4
00:00:59,000 --> 00:01:00,900
7"""

VTT = """WEBVTT - a film
Language: en

STYLE
::cue { color: red }

NOTE
spoken by nobody

first words
00:01.000 --> 00:02.500 align:start
<v Sherlock>Hello <00:01.500><c>John</c>

00:00:03.250 --> 00:00:04.750
Tea &gt; coffee
42

NOTE the end
"""

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,20,&H00FFFFFF

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,Later{\\b1}, maybe{\\b0}\\Nnot
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,a note to the translator
Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\k20}Hello,\\hJohn
"""


def write(tmp_path, name, content, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def write_workbook(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def as_tuples(utterances):
    return [(said.onset_seconds, said.offset_seconds, said.text) for said in utterances]


def refusal(path, film_seconds=FILM_SECONDS):
    with pytest.raises(InputError) as caught:
        read_utterances(path, film_seconds)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- subtitles


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_srt_loses_its_markup_and_keeps_order_of_onset(tmp_path, encoding, newline):
    path = write(tmp_path, "film.srt", SRT.replace("\n", newline), encoding)
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [
        (1.0, 2.5, "Hello John, come & see."),
        (3.25, 4.75, "Count to 42"),
        (59.0, 60.9, "7"),
    ]


def test_vtt_notes_styles_cue_names_and_inner_times_are_not_spoken(tmp_path):
    path = write(tmp_path, "film.vtt", VTT)
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [
        (1.0, 2.5, "Hello John"),
        (3.25, 4.75, "Tea > coffee 42"),
    ]


def test_ass_comments_and_drawings_are_not_spoken(tmp_path):
    path = write(tmp_path, "film.ass", ASS)
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [
        (1.0, 2.5, "Hello, John"),
        (5.0, 6.0, "Later, maybe not"),
    ]


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ("00:00:05,000 --> 00:00:04,000", "cue 1: offset 4 s is before onset 5 s"),
        ("00:01:00,000 --> 00:01:00,500", "past the film's end at 60 s"),
        ("00:00:59,000 --> 00:01:01,001", "past the film's end at 60 s"),
        ("00:00:5 --> 00:00:06,000", "line 2: '00:00:5 --> 00:00:06,000' is no pair of times"),
        ("100:00:05,000 --> 100:00:06,000", "line 2"),
    ],
)
def test_srt_with_bad_times_is_refused(tmp_path, times, told):
    path = write(tmp_path, "film.srt", f"1\n{times}\nHello\n")
    message = refusal(path)
    assert str(path) in message
    assert told in message


def test_last_cue_may_stand_one_second_past_the_film(tmp_path):
    path = write(tmp_path, "film.srt", "1\n00:00:59,999 --> 00:01:01,000\nEnd\n")
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [(59.999, 61.0, "End")]


def test_western_windows_bytes_are_refused_and_not_guessed(tmp_path):
    path = write(tmp_path, "film.srt", "1\n00:00:01,000 --> 00:00:02,000\ncafé\n", "cp1252")
    assert "byte 35 is not utf-8" in refusal(path)


def test_vtt_without_its_first_line_and_with_stray_text_is_refused(tmp_path):
    assert "starts with 'WEBVTT'" in refusal(write(tmp_path, "a.vtt", VTT[6:]))
    stray = VTT.replace("NOTE the end", "the end")
    assert "'the end' has no times" in refusal(write(tmp_path, "b.vtt", stray))


def test_time_stamps_spoken_in_an_srt_are_refused(tmp_path):
    spoken = SRT.replace("Count to", "00:00:01,000 00:00:02,000")
    assert "4 timing lines gave 5 cues" in refusal(write(tmp_path, "film.srt", spoken))


def test_broken_ass_is_refused(tmp_path):
    broken = ASS.replace("0:00:05.00", "five")
    assert "is not a readable .ass file" in refusal(write(tmp_path, "film.ass", broken))


# ---- files


def test_files_that_say_nothing_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.srt")
    assert "is a folder" in refusal(tmp_path)
    assert "is empty" in refusal(write(tmp_path, "empty.srt", ""))
    assert "holds no utterance" in refusal(write(tmp_path, "blank.srt", "\n\n"))
    assert "holds no utterance" in refusal(write(tmp_path, "blank.csv", "onset,offset,text\n"))
    assert "holds no utterance" in refusal(write(tmp_path, "srt_in.ass", SRT))
    message = refusal(write(tmp_path, "film.sub", "x"))
    assert ".srt, .vtt, .ass, .ssa, .csv, .tsv, .xlsx" in message


# ---- tables


@pytest.mark.parametrize(
    "header",
    [
        "onset,offset,text",
        "Start Time (s) ,End Time (s),Scene Details - A Level ",
        "START_SECONDS,End [s],Transcript",
        "begin,Stop Time (sec),caption",
    ],
)
def test_headers_are_found_by_their_usual_spellings(tmp_path, header):
    path = write(tmp_path, "film.csv", f'{header}\n0,1.5,"Hello,  John"\n00:00:02.5,0:03,NA\n')
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [
        (0.0, 1.5, "Hello, John"),
        (2.5, 3.0, "NA"),
    ]


def test_duration_stands_in_for_offset_and_yields_to_it(tmp_path):
    path = write(tmp_path, "a.tsv", "onset\tduration\ttext\n2\t1.5\tHello\n")
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [(2.0, 3.5, "Hello")]
    path = write(tmp_path, "b.tsv", "onset\tduration\toffset\ttext\n2\t9\t3\tHello\n")
    assert as_tuples(read_utterances(path, FILM_SECONDS)) == [(2.0, 3.0, "Hello")]


SHERLOCK_HEADER = [
    "Segment Number",
    "Start Time (s) ",
    "End Time (s) ",
    "Start Time (TRs, 1.5s)",
    "End Time (TRs, 1.5s)",
    "Scene Segments",
    "Scene Details - A Level ",
    "Location",
]


def sherlock_workbook(path):
    """As published: two film parts with a clock each, instants, and scan breaks without TRs."""
    return write_workbook(
        path,
        [
            SHERLOCK_HEADER,
            [1, 0, 11, 1, 8, "1. War", "A man runs.", "Street"],
            [2, 11, 11, 8, 8, None, "Cut to black.", None],
            [3, 9, 40.5, 8, 27, None, "He wakes\nup.", "Bedroom"],
            [4, 40.5, 58, None, None, None, "Black screen.", None],
            [5, 0, 12, 28, 36, "2. Lobby", "Popcorn sings.", "Cartoon"],
            [
                6,
                datetime.time(0, 0, 12),
                datetime.timedelta(seconds=30),
                36,
                48,
                None,
                "Tea.",
                None,
            ],
            [7, 30, 31, 48, 49, None, None, None],
            [None] * 8,
        ],
    )


def test_sherlock_annotations_are_read_a_part_at_a_time(tmp_path):
    path = sherlock_workbook(tmp_path / "sherlock.xlsx")
    assert as_tuples(read_utterances(f"{path}::1", 60)) == [
        (0, 11, "A man runs."),
        (9, 40.5, "He wakes up."),
        (11, 11, "Cut to black."),
        (40.5, 58, "Black screen."),
    ]
    assert as_tuples(read_utterances(f"{path}::2", 60)) == [
        (0, 12, "Popcorn sings."),
        (12, 30, "Tea."),
    ]


def test_film_parts_are_never_laid_over_one_another(tmp_path):
    path = sherlock_workbook(tmp_path / "sherlock.xlsx")
    message = refusal(path)
    assert "row 6: the onsets fall back from 40.5 s to 0 s" in message
    assert "sherlock.xlsx::1 to sherlock.xlsx::2" in message
    assert "accepted: 1 to 2" in refusal(f"{path}::3")
    assert "accepted: 1 to 2" in refusal(f"{path}::lobby")
    assert "nothing follows '::'" in refusal(f"{path}::")
    assert "is no table" in refusal(f"{write(tmp_path, 'film.srt', SRT)}::1")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x,2,Hello", "row 3: onset is 'x'"),
        (",2,Hello", "row 3: onset is ''"),
        ("1,nan,Hello", "row 3: offset is 'nan'"),
        ("1,inf,Hello", "row 3: offset is 'inf'"),
        ("-1,2,Hello", "row 3: onset -1 s is before the film's start"),
        ("2,1,Hello", "row 3: offset 1 s is before onset 2 s"),
        ("60,60.5,Hello", "row 3: 60 s to 60.5 s lies past the film's end at 60 s"),
        ("59,61.5,Hello", "row 3: 59 s to 61.5 s lies past the film's end at 60 s"),
        ("1,2,Hello, John", "row 3: has 4 cells where the header has 3"),
        ("1,2", "row 3: has 2 cells where the header has 3"),
        ('1,2,"Hello', "row 3"),
    ],
)
def test_bad_rows_are_refused_by_number(tmp_path, row, told):
    path = write(tmp_path, "film.csv", f"onset,offset,text\n0,1,First\n{row}\n")
    message = refusal(path)
    assert str(path) in message
    assert told in message


def test_missing_and_double_columns_are_refused(tmp_path):
    message = refusal(write(tmp_path, "a.csv", "start (ms),end,text\n0,1,x\n"))
    assert "columns found: 'start (ms)', 'end', 'text'" in message
    assert "missing: onset (onset, onset time, start" in message
    message = refusal(write(tmp_path, "b.csv", "onset,words\n0,x\n"))
    assert "offset (offset, offset time, end" in message
    assert "duration); text (text" in message
    message = refusal(write(tmp_path, "c.csv", "onset,offset,text,Description\n0,1,x,y\n"))
    assert "'text', 'Description' could each be the text" in message


def test_file_that_is_no_workbook_is_refused(tmp_path):
    assert "is not a readable .xlsx" in refusal(write(tmp_path, "film.xlsx", "onset,offset"))
    assert "columns found: none" in refusal(write_workbook(tmp_path / "empty.xlsx", []))


# ---- alignment


def slow_text_per_tr(utterances, n_trs, tr_milliseconds):
    """Look at every millisecond of every TR. Times are whole milliseconds."""
    texts = []
    for tr in range(n_trs):
        instants = range(tr * tr_milliseconds, (tr + 1) * tr_milliseconds)
        heard = [
            said
            for said in utterances
            if any(
                round(said.onset_seconds * 1000) <= ms < round(said.offset_seconds * 1000)
                for ms in (instants[0], *instants)
            )
        ]
        texts.append(" ".join(said.text for said in heard))
    return texts


@pytest.mark.parametrize("tr_milliseconds", [800, 1500, 2350])
def test_tr_holds_what_overlaps_it(tr_milliseconds):
    import random

    draw = random.Random(3)
    utterances = []
    for k in range(40):
        # Half of the edges fall on TR edges, where rounding shows.
        step = tr_milliseconds if k % 2 else 1
        onset = draw.randrange(0, 20_000, step)
        offset = onset + step * draw.randrange(1, 1 + 4_000 // step)
        utterances.append(Utterance(onset / 1000, offset / 1000, f"word{k}"))
    expected = slow_text_per_tr(
        sorted(utterances, key=lambda said: said.onset_seconds), 9, tr_milliseconds
    )
    assert text_per_tr(utterances, 9, tr_milliseconds / 1000) == expected


def test_edges_are_half_open_and_instants_have_one_tr():
    utterances = [
        Utterance(1.5, 3.0, "second"),
        Utterance(3.0, 3.0, "cut"),
        Utterance(4.6, 4.6, "bang"),
        Utterance(4.5, 4.7, "boom"),
        Utterance(7.4, 99.0, "beyond"),
    ]
    assert text_per_tr(utterances, 5, 1.5) == ["", "second", "cut", "boom bang", "beyond"]
    assert text_per_tr([], 2, 1.5) == ["", ""]

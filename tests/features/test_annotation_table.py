"""Tables as labs have them: quotes, n/a, merged cells, lists."""

from __future__ import annotations

import openpyxl
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.text import read_utterances


def read(path):
    """Return (onset, offset, text) of each utterance, and what was repaired."""
    notes: list[str] = []
    said = read_utterances(path, 60, notes)
    return [(each.onset_seconds, each.offset_seconds, each.text) for each in said], notes


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_utterances(path, 60)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


QUOTED = """onset\toffset\ttext
1.0\t2.5\t"Hello there
3.0\t4.0\tI am John
5.0\t6.0\tand you?"
7.0\t8.0\tfine
"""


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_a_quote_that_swallows_rows_is_refused_by_its_row(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    delimiter = "\t" if suffix == ".tsv" else ","
    path.write_text(QUOTED.replace("\t", delimiter))
    told = refusal(path)
    assert "row 2: a cell that begins with a double quote spans the lines to 4" in told
    path.write_text(QUOTED.replace("\t", delimiter).replace('you?"', "you?"))
    assert "row 2: " in refusal(path)
    # Words that are a quote each.
    words = ["start,end,word", '0,1,"', "1,2,fine", '2,3,"', "3,4,now"]
    path.write_text("\n".join(words).replace(",", delimiter))
    assert "row 2: " in refusal(path)


def test_a_cell_of_a_csv_may_hold_lines_and_a_quote_be_closed(tmp_path):
    path = tmp_path / "film.csv"
    path.write_text('onset,offset,text\n0,1,"He wakes,\nup, slowly, and says ""no"""\n2,3,fine\n')
    assert read(path)[0] == [(0, 1, 'He wakes, up, slowly, and says "no"'), (2, 3, "fine")]
    path.write_text("onset,offset,text\n0,1,One\u2028line\x0cof\x85text\n", encoding="utf-8")
    assert read(path)[0] == [(0, 1, "One line of text")]
    tsv = tmp_path / "film.tsv"
    tsv.write_text('onset\toffset\ttext\n0\t1\t"Look, ""John"""\n')
    assert read(tsv)[0] == [(0, 1, 'Look, "John"')]


def test_what_is_not_available_is_no_word(tmp_path):
    path = tmp_path / "events.tsv"
    rows = [
        "1.0\t1.5\tword\thello",
        "3.0\t1.0\tpause\tn/a",
        "n/a\tn/a\tpause\tN/A ",
        "5\t0.5\tw\tNA",
    ]
    path.write_text("onset\tduration\ttrial_type\tword\n" + "\n".join(rows))
    assert read(path) == ([(1, 2.5, "hello"), (5, 5.5, "NA")], [])
    path.write_text("onset\tduration\toffset\ttext\n1\t2\tn/a\thello\n4\tn/a\t5\tJohn\n")
    assert read(path)[0] == [(1, 3, "hello"), (4, 5, "John")]
    path.write_text("onset\tduration\ttext\n1\tn/a\thello\n")
    assert "row 2: duration is 'n/a'" in refusal(path)


def workbook(path, rows, *merged):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cells in merged:
        book.active.merge_cells(cells)
    book.save(path)
    return path


ROWS = [
    ["Start", "End", "Text", "Place"],
    [1.0, 2.5, "a man walks", "street"],
    [3.0, 4.0, None, "door"],
    [5.0, 6.0, None, "door"],
    [7.0, 8.0, "a dog", "door"],
]


def test_merged_cells_hold_in_each_of_their_rows(tmp_path):
    said, (note,) = read(workbook(tmp_path / "text.xlsx", ROWS, "C2:C4", "D3:D5"))
    texts = ["a man walks"] * 3 + ["a dog"]
    assert said == [
        (start, end, text) for (start, end, *_), text in zip(ROWS[1:], texts, strict=True)
    ]
    assert note.startswith("text.xlsx: merged cells: 2 rows, the first of them row 3")

    two = [ROWS[0], [1.0, 2.5, "Yes", ""], [None, None, "No", ""], [3, 4, "Why?", ""]]
    said, (note,) = read(workbook(tmp_path / "times.xlsx", two, "A2:A3", "B2:B3"))
    assert said == [(1, 2.5, "Yes"), (1, 2.5, "No"), (3, 4, "Why?")]
    assert "1 rows, the first of them row 3" in note


def test_rows_that_are_merged_away_say_nothing_twice(tmp_path):
    one = [ROWS[0], [1.0, 2.5, "Yes", "street"], [None, None, None, "door"], [3, 4, "No", "door"]]
    for merged in (["A2:A3", "B2:B3", "C2:C3"], ["C2:C3"], ["C2:D3"], []):
        assert read(workbook(tmp_path / "rows.xlsx", one, *merged))[0] == [
            (1, 2.5, "Yes"),
            (3, 4, "No"),
        ]
    # A title of several cells, and of several rows, is no row.
    titled = [["Start", "End", "Text"], [None] * 3, [1.0, 2.0, "Yes"]]
    path = workbook(tmp_path / "title.xlsx", titled, "A1:A2", "B1:B2", "C1:C2")
    assert read(path) == ([(1, 2, "Yes")], [])
    breaks = [ROWS[0], [1.0, 2.0, "Yes", ""], ["scan break", None, None, None]]
    assert read(workbook(tmp_path / "break.xlsx", breaks, "A3:D3"))[0] == [(1, 2, "Yes")]


LISTS = (
    "text_per_tr\twords_per_tr\tonsets_per_tr\tdurations_per_tr\n"
    "\t[]\t[]\t[]\n"
    'There\'s a\t"[""There\'s"", \'a\']"\t[18.97, 19.31]\t[0.176, 0.08]\n'
    '"""No"" she"\t"[\'""No""\', \' \', \'she\']"\t[21, 21.5, 21.25]\t[0.25, 0, 1]\n'
)


def test_lists_of_words_have_their_own_times(tmp_path):
    path = tmp_path / "friends_s01e01a.tsv"
    path.write_text(LISTS)
    said, notes = read(path)
    assert [text for _, _, text in said] == ["There's", "a", '"No"', "she"]
    onsets, offsets = [18.97, 19.31, 21, 21.25], [19.146, 19.39, 21.25, 22.25]
    assert [start for start, _, _ in said] == onsets
    assert [stop for _, stop, _ in said] == pytest.approx(offsets)
    assert not notes


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[18.97, 19.31]", "[18.97]", "row 3: has 2 words, 1 onsets and 2 durations"),
        ("[18.97, 19.31]", "18.97", "row 3: '18.97' is no list"),
        ("[18.97, 19.31]", "[18.97, __import__('os')]", "__import__('os')]\" is no list"),
        ("19.31", "'later'", "row 3: 'later' is no time"),
        ("0.08", "-1", "row 3, 'a': offset 18.31 s is before onset 19.31 s"),
        ("21.25", "61", "row 4, 'she': 61 s to 62 s lies past the film's end"),
        ("'a'", "7", "row 3: 7 is no word"),
    ],
)
def test_lists_that_do_not_fit_are_refused_by_row(tmp_path, old, new, told):
    path = tmp_path / "film.tsv"
    path.write_text(LISTS.replace(old, new))
    assert told in refusal(path)

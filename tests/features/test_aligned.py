"""Words that were aligned to sound."""

from __future__ import annotations

import json

import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.text import read_utterances

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 12.5 
tiers? <exists> 
size = 3 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "phone" 
        xmin = 0 
        xmax = 12.5 
        intervals: size = 1 
        intervals [1]:
            xmin = 0 
            xmax = 12.5 
            text = "AH0" 
    item [2]:
        class = "TextTier" 
        name = "beeps" 
        xmin = 0 
        xmax = 12.5 
        points: size = 1 
        points [1]:
            number = 0.5 
            mark = "beep 1" 
    item [3]:
        class = "IntervalTier" 
        name = "word" 
        xmin = 0 
        xmax = 12.5 
        intervals: size = 9 
"""  # noqa: W291 - as Praat writes it

INTERVALS = [
    (0, 0.5, "sentence_start"),
    (0.5, 1.25, "I'LL"),
    (1.25, 1.5, "sp"),
    (1.5, 2, '"say" it'),
    (2, 2.5, ""),
    (2.5, 3, "{BR}"),
    (3, 4, "42"),
    (4, 5, "{ NS }"),
    (5, 12.5, "SP"),
]
WORDS = [(0.5, 1.25, "I'LL"), (1.5, 2, '"say" it'), (3, 4, "42")]


def textgrid(is_short=False):
    quoted = [(start, stop, text.replace('"', '""')) for start, stop, text in INTERVALS]
    if is_short:
        said = "\n".join(f'{start}\n{stop}\n"{text}"' for start, stop, text in quoted)
        return (
            'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n12.5\n<exists>\n2\n'
            '"TextTier"\n"beeps"\n0\n12.5\n1\n0.5\n"beep 1"\n'
            f'"IntervalTier"\n"Words"\n0\n12.5\n{len(quoted)}\n{said}\n'
        )
    return LONG + "".join(
        f"        intervals [{number}]:\n            xmin = {start} \n            xmax = {stop} \n"
        f'            text = "{text}" \n'
        for number, (start, stop, text) in enumerate(quoted, 1)
    )


def read(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    notes: list[str] = []
    said = read_utterances(path, 60, notes)
    return [(each.onset_seconds, each.offset_seconds, each.text) for each in said], notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("is_short", [False, True])
def test_words_of_a_textgrid_are_those_of_its_word_tier(tmp_path, is_short, encoding):
    said, notes = read(tmp_path / "story.TextGrid", textgrid(is_short), encoding)
    assert said == WORDS
    assert notes == ["story.TextGrid: 5 marks that are no words, such as sp, are left out"]


def test_a_tier_is_chosen_by_its_name(tmp_path):
    path = tmp_path / "story.TextGrid"
    path.write_text(textgrid())
    assert [said.text for said in read_utterances(f"{path}::phone", 60)] == ["AH0"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (textgrid().replace('"word"', '"utterance"'), "0 tiers are called word or words; it has"),
        (textgrid()[:-60], "is no whole TextGrid"),
        (textgrid().replace("size = 9", 'size = "x"'), "is no whole TextGrid"),
        ("onset,offset,text\n0,1,x\n", "is no TextGrid"),
    ],
)
def test_what_is_no_textgrid_of_words_is_refused(tmp_path, content, told):
    path = tmp_path / "story.TextGrid"
    with pytest.raises(InputError, match=r"^[^\n]*story.TextGrid[^\n]*$") as caught:
        read(path, content)
    assert told in str(caught.value)


GENTLE = [
    {"alignedWord": "look", "case": "success", "start": 0.5, "end": 0.75, "word": "Look"},
    {"case": "not-found-in-audio", "word": "my"},
    {"alignedWord": "<unk>", "case": "success", "start": 1.5, "end": 2.0, "word": "Watson"},
]


def test_words_that_gentle_found_have_its_times(tmp_path):
    content = json.dumps({"transcript": "Look, my Watson", "words": GENTLE})
    said, (note,) = read(tmp_path / "align.json", content)
    assert said == [(0.5, 0.75, "Look"), (1.5, 2, "Watson")]
    assert note.startswith("align.json: 1 of 3 words were not found in the sound")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", '{"words": 3}', '{"words": [3]}', '{"words": [{"start": 1, "end": 2}]}',
     '{"words": [{"word": "a", "start": "x", "end": 2}]}'],
)  # fmt: skip
def test_what_is_no_alignment_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"^[^\n]*align.json: is no alignment of gentle's[^\n]*$"):
        read(tmp_path / "align.json", content)

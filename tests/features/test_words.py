"""Which words are said in each TR."""

from __future__ import annotations

import re

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.text import Utterance, read_utterances
from giblet_ray.features.words import Word, spoken_per_tr, spoken_words


def test_words_share_the_time_of_their_cue_by_their_letters():
    words = spoken_words([Utterance(10.0, 14.0, "Look, ♪ my - dear J0hn!")])
    assert [word.text for word in words] == ["Look,", "my", "dear", "J0hn!"]
    # 14 letters and digits in 4 s: the middles lie after 2, 5, 8 and 12 of them.
    np.testing.assert_allclose([w.seconds for w in words], 10 + np.array([2, 5, 8, 12]) * 4 / 14)


def test_words_of_cues_that_overlap_come_in_the_order_in_which_they_are_said():
    words = spoken_words([Utterance(0.0, 9.0, "aa bb cc"), Utterance(2.0, 4.0, "no")])
    assert [word.text for word in words] == ["aa", "no", "bb", "cc"]
    assert spoken_words([Utterance(1.0, 1.0, "cut to"), Utterance(1.0, 2.0, "♪")]) == [
        Word(1.0, "cut"),
        Word(1.0, "to"),
    ]


@pytest.mark.parametrize("tr_seconds", [0.8, 1.5, 2.35])
@pytest.mark.parametrize("context_words", [0, 3, 100])
def test_a_tr_has_the_words_whose_middles_lie_in_it_and_those_before(tr_seconds, context_words):
    random = np.random.default_rng(0)
    utterances = []
    for number in range(30):
        onset = float(random.integers(0, 2000)) / 100
        length = float(random.integers(0, 400)) / 100
        text = " ".join(f"w{number}x{k}" for k in range(random.integers(1, 8)))
        utterances.append(Utterance(onset, onset + length, text))
    words, n_trs = spoken_words(utterances), 9
    found = spoken_per_tr(words, n_trs, tr_seconds, context_words)
    assert len(found) == n_trs
    said_before: list[str] = []
    for tr, spoken in enumerate(found):
        own = [w.text for w in words if tr <= w.seconds / tr_seconds + 1e-6 < tr + 1]
        assert spoken.text == " ".join(own)
        assert spoken.n_words == len(own)
        assert spoken.before == " ".join(said_before[len(said_before) - context_words :]
                                         if context_words < len(said_before) else
                                         said_before * bool(context_words))  # fmt: skip
        said_before += own
    assert max(spoken.n_words for spoken in found) > 1


def test_a_word_at_the_edge_of_two_trs_is_in_the_later_one_alone():
    # 2.4 / 0.8 is 2.9999999999999996.
    found = spoken_per_tr([Word(2.4, "now")], 5, 0.8, 2)
    assert [spoken.text for spoken in found] == ["", "", "", "now", ""]
    assert [spoken.before for spoken in found] == ["", "", "", "", "now"]
    assert [spoken.text for spoken in spoken_per_tr([], 2, 0.8)] == ["", ""]


def test_nothing_is_known_of_a_cue_before_it_is_half_said():
    (word,) = spoken_words([Utterance(1.4, 4.6, "interminable")])
    assert [spoken.n_words for spoken in spoken_per_tr([word], 4, 1.5)] == [0, 0, 1, 0]


WORDS = "word\tstart_seconds\tstop_seconds\nLook\t0.2\t0.5\nmy\t1.2\t1.9\ndear\t2\t2.6\n"


def test_a_table_of_words_has_their_times(tmp_path):
    table = tmp_path / "film.tsv"
    table.write_text(WORDS)
    words = spoken_words(read_utterances(table, 60.0))
    assert [word.text for word in words] == ["Look", "my", "dear"]
    assert [word.seconds for word in words] == pytest.approx([0.35, 1.55, 2.3])
    csv = tmp_path / "film.csv"
    csv.write_text(WORDS.replace("\t", ","))
    assert spoken_words(read_utterances(csv, 60.0)) == words


def test_words_out_of_order_are_refused_by_file_and_row(tmp_path):
    table = tmp_path / "film.tsv"
    table.write_text(WORDS + "John\t1.5\t2.9\n")
    told = f"{table}, row 5: 'John' begins at 1.5 s, and the word above it at 2 s; the words of"
    with pytest.raises(InputError, match=rf"^{re.escape(told)}[^\n]*$"):
        read_utterances(table, 60.0)
    # Utterances may overlap in any order.
    table.write_text(WORDS.replace("word", "text") + "John\t1.5\t2.9\n")
    assert len(read_utterances(table, 60.0)) == 4


def test_words_of_two_film_parts_are_read_a_part_at_a_time(tmp_path):
    table = tmp_path / "films.tsv"
    table.write_text(WORDS + "End\t50\t51\nAgain\t0\t1\n")
    with pytest.raises(InputError, match="row 6: the onsets fall back from 50 s to 0 s"):
        read_utterances(table, 60.0)
    assert [said.text for said in read_utterances(f"{table}::2", 60.0)] == ["Again"]

"""The three sets: whole, apart, drawn from films alone, and of the size asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from giblet_ray.dataset.config import SplitConfig
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.splits import (
    SameFilm,
    Split,
    draw_split,
    n_blocks_for,
    smallest_p_line,
    whole_trs,
)
from giblet_ray.errors import InputError

TR = 1.5
GAP = 14


def draw(n_trs: dict[str, int], same: tuple[SameFilm, ...] = (), **settings: Any) -> Split:
    return draw_split(SplitConfig(**settings), n_trs, TR, same=same)


def trs_of(spans: tuple[Span, ...], stimulus: str) -> set[int]:
    trs: set[int] = set()
    for span in spans:
        if span.stimulus == stimulus:
            new = set(range(span.start, span.stop))
            assert not trs & new
            trs |= new
    return trs


def sets_of(split: Split, stimulus: str) -> list[set[int]]:
    return [trs_of(spans, stimulus) for spans in (split.train, split.val, split.test)]


def assert_apart(split: Split, n_trs: dict[str, int], gap: int) -> None:
    for stimulus, n in n_trs.items():
        sets = sets_of(split, stimulus)
        assert max(set().union(*sets)) < n
        for index, one in enumerate(sets):
            near = {tr + offset for tr in one for offset in range(-gap, gap + 1)}
            for other in sets[index + 1 :]:
                assert not other & near


def test_the_demo_s_film_has_one_long_block_of_each_set() -> None:
    split = draw({"film": 360})
    assert [len(spans) for spans in (split.train, split.val, split.test)] == [1, 1, 1]
    assert [sum(map(len, s)) for s in (split.train, split.val, split.test)] == [194, 40, 98]
    assert split.n_lost == 2 * GAP
    assert smallest_p_line(split, TR) == "0.014 of a unit, by 71 shifts of its BOLD"


@given(
    n_trs=st.integers(120, 3000),
    val=st.floats(0.05, 0.3),
    test=st.floats(0.1, 0.5),
    blocks=st.none() | st.integers(1, 6),
    gap=st.sampled_from([20.0, 26.0, 33.3]),
)
def test_sets_are_a_gap_apart_and_as_large_as_asked(
    n_trs: int, val: float, test: float, blocks: int | None, gap: float
) -> None:
    films = {"one": n_trs, "two": n_trs // 2 + 47}
    wanted = {"val_fraction": val, "test_fraction": test, "blocks": blocks, "gap_seconds": gap}
    try:
        split = draw(films, **wanted)
    except InputError:
        return  # too short for so many blocks and gaps
    assert_apart(split, films, whole_trs(gap, TR))
    for film, n in films.items():
        n_blocks = blocks or n_blocks_for(n, whole_trs(gap, TR))
        usable = n - (3 * n_blocks - 1) * whole_trs(gap, TR)
        trained, validated, tested = map(len, sets_of(split, film))
        assert abs(validated - usable * val) <= n_blocks
        assert usable * test - n_blocks * GAP - n_blocks <= tested <= usable * test + n_blocks
        assert trained > 0


@given(n=st.integers(200, 2500), folds=st.integers(2, 6), blocks=st.none() | st.integers(1, 3))
def test_every_tr_is_test_in_one_fold_and_validation_lies_inside_the_rest(
    n: int, folds: int, blocks: int | None
) -> None:
    tested = np.zeros(n, int)
    for fold in range(1, folds + 1):
        try:
            split = draw({"film": n}, folds=folds, fold=fold, blocks=blocks)
        except InputError:
            return
        assert_apart(split, {"film": n}, GAP)
        trained, validated, of_test = sets_of(split, "film")
        assert trained
        assert validated
        tested[list(of_test)] += 1
    assert (tested == 1).all()


def test_folds_of_stimuli_test_each_once() -> None:
    films = {"a": 50, "b": 60, "c": 70, "d": 80}
    tested: list[str] = []
    for fold in (1, 2, 3):
        split = draw(films, kind="stimuli", folds=3, fold=fold)
        tested += [span.stimulus for span in split.test]
        names = [{span.stimulus for span in s} for s in (split.train, split.val, split.test)]
        assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert sorted(tested) == list(films)


def test_whole_stimuli_are_held_out() -> None:
    split = draw({"one": 50, "two": 70, "three": 60}, kind="stimuli",
                 val_stimuli=["two"], test_stimuli=["three"])  # fmt: skip
    assert split.train == (Span("one", 0, 50),)
    assert split.val == (Span("two", 0, 70),)
    assert split.test == (Span("three", 0, 60),)


def test_whole_repeats_are_held_out_and_their_film_is_seen() -> None:
    settings = SplitConfig(kind="repeats", val_repeats=(2,), test_repeats=(3, 4))
    split = draw_split(settings, {"film": 50}, TR, repeats=(1, 2, 3, 4))
    assert [split.has("train", repeat) for repeat in (1, 2, 3, 4)] == [True, False, False, False]
    assert [split.has("test", repeat) for repeat in (1, 2, 3, 4)] == [False, False, True, True]
    assert split.test == (Span("film", 0, 50),)
    assert split.test_film_is_seen
    assert not draw({"film": 360}).test_film_is_seen


def test_equal_intervals_are_kept_in_one_set() -> None:
    films = {"one": 600, "two": 600}
    before = draw(films)
    (test, *_) = [span for span in before.test if span.stimulus == "one"]
    twin = Span("two", 40, 60)
    assert trs_of(before.train, "two") >= set(range(40, 60))
    shown = SameFilm("credits", (Span("one", test.start + 5, test.start + 25), twin))
    split = draw(films, same=(shown,))
    assert trs_of(split.test, "two") >= set(range(40, 60))
    assert_apart(split, films, GAP)


def test_two_versions_of_a_film_are_split_alike_and_share_their_clips_set() -> None:
    """Version 2 of a film begins 10 TRs later, and both end as another film begins."""
    films = {"one": 600, "one_v2": 610, "two": 600}
    versions = SameFilm("film", (Span("one", 0, 600), Span("one_v2", 10, 610)))
    clip = SameFilm("clip", (Span("one", 580, 600), Span("two", 0, 20)))
    split = draw(films, same=(versions, clip))
    sets = [
        [{tr - begin for tr in of_film} for of_film in sets_of(split, film)]
        for film, begin in (("one", 0), ("one_v2", 10))
    ]
    assert all(len(each) > 60 for each in sets[0])
    for held in (1, 2):
        assert sets[0][held] == {tr for tr in sets[1][held] if tr >= 0}
    assert trs_of(split.test, "two") >= set(range(20))
    assert_apart(split, films, GAP)


def test_a_version_that_ends_early_leaves_the_others_alike_to_their_end() -> None:
    films = {"one": 600, "one_v2": 600, "trailer": 400}
    versions = SameFilm("film", tuple(Span(name, 0, n) for name, n in films.items()))
    split = draw(films, same=(versions,))
    first, second, short = (sets_of(split, film) for film in films)
    assert first == second
    assert any(tr >= 400 for tr in first[2])
    for trains, *held in (first, second, short):
        for other in (first, second, short):
            assert not trains & (other[1] | other[2])
        assert not held[0] & held[1]


def test_what_is_moved_moves_what_shows_the_same_as_it() -> None:
    films = {"one": 600, "two": 600, "three": 600}
    later = SameFilm("later", (Span("two", 30, 50), Span("three", 40, 60)))
    sooner = SameFilm("sooner", (Span("one", 580, 600), Span("two", 40, 60)))
    split = draw(films, same=(later, sooner))
    assert trs_of(split.test, "two") >= set(range(30, 60))
    assert trs_of(split.test, "three") >= set(range(40, 60))


def test_gap_is_rounded_up_to_whole_trs() -> None:
    assert whole_trs(20, 1.5) == 14
    assert whole_trs(21, 1.5) == 14
    assert whole_trs(20, 0.8) == 25


@pytest.mark.parametrize(
    ("films", "settings", "message"),
    [
        ({"one": 50, "two": 50}, {"kind": "stimuli", "val_stimuli": ["on"], "test_stimuli": "two"},
         r"val_stimuli: 'on' is not in the data set .*one\?"),
        ({"one": 50, "two": 50}, {"kind": "stimuli", "val_stimuli": ["one"], "test_stimuli": "two"},
         r"no training TRs are left of 100"),
        ({"one": 30}, {}, r"one has 30 TRs, too few for 1 block of validation"),
        ({"one": 90}, {"blocks": 4}, r"too few for 4 blocks"),
        ({"one": 90}, {"test_fraction": 0.001},
         r"one has 90 TRs, too few for 1 block of validation and of test TRs"),
        ({"one": 30}, {"folds": 5}, r"too few for 5 blocks"),
        ({"one": 50, "two": 50}, {"kind": "stimuli", "folds": 3}, r"of 2 stimuli 3 to 2 folds"),
        ({"one": 50}, {"kind": "repeats", "val_repeats": (1,), "test_repeats": (2,)},
         r"test_repeats 2: the scans have repeats 1"),
    ],
)  # fmt: skip
def test_a_split_that_leaves_nothing_is_refused(
    films: dict[str, int], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw(films, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "stimuli"}, "must both be given"),
        ({"val_stimuli": ["a"]}, "must both be given"),
        ({"kind": "stimuli", "val_stimuli": ["a"], "test_stimuli": ["a"]}, "share a"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave no TR to train"),
        ({"folds": 3, "fold": 4}, "1 to 3 .* is accepted"),
        ({"kind": "repeats", "folds": 2}, "folds are of kind"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig(**settings)

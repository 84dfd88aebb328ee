"""Held-out blocks: whole, apart from training, and of the size asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.splits import Split, gap_trs, split_blocks, split_stimuli
from giblet_ray.errors import InputError


def trs_of(split_part: tuple, stimulus: str) -> set[int]:
    trs: set[int] = set()
    for span in split_part:
        if span.stimulus == stimulus:
            new = set(range(span.start, span.stop))
            assert not trs & new
            trs |= new
    return trs


@given(
    n_trs=st.integers(60, 1500),
    fraction=st.floats(0.05, 0.5),
    blocks=st.integers(1, 6),
    gap=st.integers(1, 20),
)
def test_no_training_tr_is_within_the_gap_of_a_held_out_one(
    n_trs: int, fraction: float, blocks: int, gap: int
) -> None:
    usable = {"one": n_trs, "two": n_trs // 2 + 7}
    try:
        split: Split = split_blocks(usable, fraction, blocks, gap)
    except InputError:
        return  # too short for this many blocks and gaps
    for stimulus, n in usable.items():
        train, val = trs_of(split.train, stimulus), trs_of(split.val, stimulus)
        assert max(train | val) < n
        near = {tr + offset for tr in val for offset in range(-gap, gap + 1)}
        assert not train & near
        assert abs(len(val) - n * fraction) <= blocks


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_everything_outside_blocks_and_gaps_trains(blocks: int) -> None:
    split = split_blocks({"film": 400}, 0.2, blocks, 14)
    unused = 400 - len(trs_of(split.train, "film")) - len(trs_of(split.val, "film"))
    assert len(trs_of(split.val, "film")) == pytest.approx(80, abs=blocks)
    assert unused <= 2 * 14 * blocks
    assert len(split.val) == blocks


def test_whole_stimuli_are_held_out() -> None:
    split = split_stimuli({"one": 50, "two": 70, "three": 60}, ["two"])
    assert [(s.stimulus, s.start, s.stop) for s in split.val] == [("two", 0, 70)]
    assert {s.stimulus for s in split.train} == {"one", "three"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: split_stimuli({"one": 50}, ["on"]), r"'on' is not in the data set .*one\?"),
        (lambda: split_stimuli({"one": 50}, ["one"]), r"no training TRs are left"),
        (lambda: split_blocks({"one": 8}, 0.05, 4, 3), r"held-out blocks .* are empty"),
        (lambda: split_blocks({"one": 40}, 0.5, 1, 30), r"no training TRs are left"),
    ],
)
def test_split_that_leaves_nothing_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_gap_is_rounded_up_to_whole_trs() -> None:
    assert gap_trs(20, 1.5) == 14
    assert gap_trs(21, 1.5) == 14
    assert gap_trs(20, 0.8) == 25

"""Intervals of films that show the same become groups that a split can keep."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.features.fingerprint import Equal
from giblet_ray.precompute.same_content import _is_one, _merged, grouped, same_in_words


def test_what_shows_the_same_as_one_of_a_group_is_in_it() -> None:
    """A clip at the end of three runs, and the overlap of two films."""
    rows = grouped(
        [
            Equal("one", 800.0, "two", 790.25, 84.0),
            Equal("seg0", 886.0, "seg1", 0.0, 16.0),
            Equal("one", 801.0, "three", 780.0, 83.0),
        ]
    )
    assert [tuple(row.values()) for row in rows] == [
        ("same-1", "seg0", 886.0, 902.0),
        ("same-1", "seg1", 0.0, 16.0),
        ("same-2", "one", 800.0, 884.0),
        ("same-2", "three", 780.0, 863.0),
        ("same-2", "two", 790.25, 874.25),
    ]
    assert same_in_words(rows)[0] == (
        "note: these show or sound the same, and are kept in one set: "
        "seg0 886 to 902 s; seg1 0 to 16 s"
    )


def test_films_that_share_nothing_have_no_groups() -> None:
    assert (grouped([]), same_in_words([])) == ([], [])


def test_a_clip_within_another_version_of_its_film_is_a_group_of_its_own() -> None:
    rows = grouped(
        [
            Equal("one", 0.0, "one_v2", 10.0, 900.0),
            Equal("one", 800.0, "two", 700.0, 84.0),
            Equal("one_v2", 810.0, "two", 700.25, 83.5),
        ]
    )
    assert [tuple(row.values()) for row in rows] == [
        ("same-1", "one", 0.0, 900.0),
        ("same-1", "one_v2", 10.0, 910.0),
        ("same-2", "one", 800.0, 884.0),
        ("same-2", "one_v2", 810.0, 893.5),
        ("same-2", "two", 700.0, 784.0),
    ]


def grouped_slowly(found: list[Equal]) -> list[list[tuple[str, float, float]]]:
    """Compare each pair with every interval of every group."""
    groups: list[list[tuple[str, float, float]]] = []
    for each in found:
        pair = [
            (each.one, each.start, each.start + each.seconds),
            (each.other, each.other_start, each.other_start + each.seconds),
        ]
        touched = [group for group in groups if any(_is_one(a, b) for a in group for b in pair)]
        groups = [group for group in groups if group not in touched]
        groups.append(_merged([*itertools.chain.from_iterable(touched), *pair]))
    return groups


names, starts = st.sampled_from("abcde"), st.integers(0, 24).map(float)
equals = st.builds(Equal, names, starts, names, starts, st.sampled_from([8.0, 9.5, 11.0, 30.0]))


@given(st.lists(equals, max_size=25))
def test_groups_are_those_of_comparing_all_with_all(found: list[Equal]) -> None:
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for row in grouped(found):
        interval = row["stimulus"], row["start_seconds"], row["stop_seconds"]
        groups.setdefault(row["group"], []).append(interval)
    assert list(groups.values()) == grouped_slowly(found)


def test_many_films_of_one_opening_are_grouped_at_once() -> None:
    """A season's: every pair of episodes has it."""
    pairs = itertools.combinations(range(300), 2)
    found = [Equal(f"{one:03d}", 30.0, f"{other:03d}", 30.25, 40.0) for one, other in pairs]
    began = time.process_time()
    rows = grouped(found)
    assert {row["group"] for row in rows} == {"same-1"}
    assert len(rows) == 300
    assert time.process_time() - began < 2  # comparing all with all: 8 s

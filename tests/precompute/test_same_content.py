"""Intervals of films that show the same become groups that a split can keep."""

from __future__ import annotations

from giblet_ray.features.fingerprint import Equal
from giblet_ray.precompute.same_content import grouped, same_in_words


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

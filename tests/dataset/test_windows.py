"""Every TR once per epoch, by one worker, in batches that do not depend on how many there are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.schema import ScanKey
from giblet_ray.dataset.windows import (
    Windows,
    cut_windows,
    epoch_order,
    epoch_steps,
    equal_length_batches,
    rank_part,
    streamed_epoch_order,
    streamed_epoch_steps,
)

SCANS = [ScanKey("01", "one"), ScanKey("01", "two"), ScanKey("02", "one")]
SPANS = [Span("one", 3, 50), Span("one", 64, 117), Span("two", 0, 31)]


def trs_of(windows: Windows) -> Counter:
    """Count (subject, stimulus, TR) of some windows."""
    return Counter(
        (SCANS[scan].subject, SCANS[scan].stimulus, tr)
        for scan, start, length in zip(windows.scan, windows.start, windows.length, strict=True)
        for tr in range(start, start + length)
    )


ALL_TRS = {
    (scan.subject, scan.stimulus, tr)
    for scan in SCANS
    for span in SPANS
    if span.stimulus == scan.stimulus
    for tr in range(span.start, span.stop)
}


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("batch_size", [16, 23])
def test_every_training_tr_is_seen_once_per_epoch_by_one_worker(
    world_size: int, streamed: bool, batch_size: int
) -> None:
    windows = cut_windows(SPANS, SCANS, 1)
    group = windows.start // 16 + 100 * windows.scan
    for epoch in range(3):
        seen: Counter = Counter()
        for rank in range(world_size):
            if streamed:
                order = streamed_epoch_order(group, 2, 7, epoch)
                steps = streamed_epoch_steps(order, batch_size, 1, 5, rank, world_size)
            else:
                order = epoch_order(len(windows), 7, epoch)
                steps = epoch_steps(order, batch_size, 1, rank, world_size)
            for step in steps:
                seen += trs_of(windows[step.windows])
        assert set(seen) == ALL_TRS
        assert set(seen.values()) == {1}


@given(n=st.integers(1, 300), batch=st.integers(1, 64), world=st.integers(1, 5))
def test_global_batches_are_the_same_for_any_number_of_workers(
    n: int, batch: int, world: int
) -> None:
    order = epoch_order(n, 3, 1)
    alone = epoch_steps(order, batch, 1, 0, 1)
    ranks = [epoch_steps(order, batch, 1, rank, world) for rank in range(world)]
    for index, step in enumerate(alone):
        together = np.concatenate([steps[index].windows for steps in ranks])
        np.testing.assert_array_equal(together, step.windows)
        assert {steps[index].n_global for steps in ranks} == {len(step.windows)}
        sizes = [len(steps[index].windows) for steps in ranks]
        assert max(sizes) - min(sizes) <= 1


@given(n=st.integers(1, 300), batch=st.integers(1, 64), smallest=st.integers(1, 8))
def test_last_batch_is_left_out_only_if_too_small(n: int, batch: int, smallest: int) -> None:
    steps = epoch_steps(epoch_order(n, 0, 0), batch, smallest, 0, 1)
    left_out = n - sum(step.n_global for step in steps)
    expected = n % batch if n % batch < smallest else 0
    if batch < smallest:
        expected = n
    assert left_out == expected


@given(n=st.integers(1, 300), batch=st.integers(1, 64), world=st.integers(1, 5))
def test_streamed_steps_have_the_sizes_of_the_others(n: int, batch: int, world: int) -> None:
    order = np.arange(n)
    for rank in range(world):
        streamed = streamed_epoch_steps(order, batch, 2, world, rank, world)
        held = epoch_steps(order, batch, 2, rank, world)
        assert [(len(s.windows), s.n_global) for s in streamed] == [
            (len(s.windows), s.n_global) for s in held
        ]
        mine = np.concatenate([s.windows for s in streamed]) if streamed else np.array([])
        assert (np.diff(mine) == 1).all()


@given(n=st.integers(1, 300), batch=st.integers(1, 64), world=st.integers(1, 5))
def test_streamed_batches_are_the_same_for_any_number_of_workers(
    n: int, batch: int, world: int
) -> None:
    """A scan that grows or shrinks within an epoch goes on with the batches that it would have."""
    order, lanes = epoch_order(n, 3, 1), 5
    alone = streamed_epoch_steps(order, batch, 2, lanes, 0, 1)
    ranks = [streamed_epoch_steps(order, batch, 2, lanes, rank, world) for rank in range(world)]
    assert {len(steps) for steps in ranks} == {len(alone)}
    for index, step in enumerate(alone):
        together = np.concatenate([steps[index].windows for steps in ranks])
        np.testing.assert_array_equal(together, step.windows)
        assert {steps[index].n_global for steps in ranks} == {len(step.windows)}


def test_streamed_order_visits_few_row_groups_at_a_time() -> None:
    group = np.repeat(np.arange(40), 16)
    order = streamed_epoch_order(group, 4, 0, 0)
    assert sorted(order) == list(range(640))
    mixed = group[order]
    opened = {each: int(np.flatnonzero(mixed == each)[0]) for each in range(40)}
    ended = {each: int(np.flatnonzero(mixed == each)[-1]) for each in range(40)}
    n_open = [sum(opened[g] <= at <= ended[g] for g in range(40)) for at in range(640)]
    assert max(n_open) <= 5
    # Away from the ends of the epoch, any stretch of four row groups' length is a mixture.
    assert all(len(set(mixed[at : at + 64].tolist())) >= 6 for at in range(64, 512))
    # A row group is opened about where one has ended: never are many read at once.
    assert max(np.histogram(list(opened.values()), np.arange(0, 641, 64))[0]) <= 7
    assert not np.array_equal(order, streamed_epoch_order(group, 4, 0, 1))


@given(
    length=st.integers(1, 9),
    usable=st.lists(st.lists(st.booleans(), min_size=117, max_size=117), min_size=3, max_size=3),
)
def test_every_usable_tr_is_in_one_window_that_crosses_no_edge(
    length: int, usable: list[list[bool]]
) -> None:
    masks = [np.array(of_scan) for of_scan in usable]
    windows = cut_windows(SPANS, SCANS, length, masks)
    counts = trs_of(windows)
    expected = set()
    for index, scan in enumerate(SCANS):
        for span in SPANS:
            if span.stimulus == scan.stimulus:
                for tr in range(span.start, span.stop):
                    if masks[index][tr]:
                        expected.add((scan.subject, scan.stimulus, tr))
    assert set(counts) == expected
    assert set(counts.values()) <= {1}
    for scan, start, n in zip(windows.scan, windows.start, windows.length, strict=True):
        spans = [s for s in SPANS if s.stimulus == SCANS[scan].stimulus]
        (span,) = [s for s in spans if s.start <= start and start + n <= s.stop]
        stop = start + n
        # Shorter than asked for only where a span ends, or a TR cannot be used.
        assert n == length or stop == span.stop or not masks[scan][stop]


def test_windows_of_one_length_are_batched_together() -> None:
    windows = cut_windows(SPANS, SCANS, 4)
    assert set(trs_of(windows)) == ALL_TRS
    batches = equal_length_batches(windows, 8)
    assert all(len(set(batch.length)) == 1 and len(batch) <= 8 for batch in batches)
    assert sum(batch.n_trs for batch in batches) == len(ALL_TRS)


def test_ranks_share_held_out_windows() -> None:
    windows = cut_windows(SPANS, SCANS, 1)
    seen: Counter = Counter()
    for rank in range(3):
        seen += trs_of(rank_part(windows, rank, 3))
    assert set(seen) == ALL_TRS
    assert set(seen.values()) == {1}


def test_epochs_have_orders_of_their_own() -> None:
    orders = [tuple(epoch_order(50, 0, epoch)) for epoch in range(4)]
    assert len(set(orders)) == 4
    assert tuple(epoch_order(50, 0, 2)) == orders[2]
    assert tuple(epoch_order(50, 1, 2)) != orders[2]

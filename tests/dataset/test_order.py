"""Every window once per epoch, by one worker, however many there are and wherever rows lie."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.order import (
    DataOrder,
    OrderedWindows,
    StreamedOrder,
    epoch_batches,
    epoch_order,
    interleaved,
    streamed_epoch_order,
)
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.windows import Windows, cut_windows, part_of

SCANS = [ScanKey("01", "one"), ScanKey("01", "two"), ScanKey("02", "one")]
SPANS = [Span("one", 3, 50), Span("one", 64, 117), Span("two", 0, 31)]
WINDOWS = cut_windows(SPANS, SCANS, 1)
IN_MEMORY = DataOrder(seed=7, windows=len(WINDOWS), batch_size=23, smallest_batch=6)
STREAMED = IN_MEMORY.model_copy(
    update={"streamed": StreamedOrder(row_group_trs=16, mix=2, lanes=3)}
)
ORDERS = pytest.mark.parametrize("order", [IN_MEMORY, STREAMED], ids=["memory", "stream"])


def ordered(order: DataOrder, windows: Windows = WINDOWS) -> OrderedWindows:
    group = windows.start // 16 + 100 * windows.scan
    return OrderedWindows(windows, windows[:0], group, order)


@ORDERS
@pytest.mark.parametrize("batch_size", [16, 23])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_window_is_seen_once_per_epoch_by_one_worker(
    order: DataOrder, batch_size: int, world_size: int
) -> None:
    order = order.model_copy(update={"batch_size": batch_size, "smallest_batch": 1})
    for epoch in range(3):
        seen = [
            step.windows
            for rank in range(world_size)
            for step in ordered(order).steps(epoch, rank, world_size)
        ]
        assert sorted(np.concatenate(seen)) == list(range(len(WINDOWS)))


@ORDERS
@pytest.mark.parametrize("cuts", [(4, 9), (1, 14), (0, 15)])
def test_run_that_goes_on_elsewhere_within_an_epoch_sees_every_window_once(
    order: DataOrder, cuts: tuple[int, int]
) -> None:
    """It is stopped twice, and each time goes on with other workers, by the order it began with."""
    seen: Counter = Counter()
    begun = order.model_dump_json()
    for (start, stop), workers in zip(
        ((0, cuts[0]), cuts, (cuts[1], None)), (1, 3, 2), strict=True
    ):
        windows = ordered(DataOrder.model_validate_json(begun))
        for rank in range(workers):
            for step in windows.steps(2, rank, workers)[start:stop]:
                seen.update(step.windows.tolist())
    assert set(seen.values()) == {1}
    assert len(seen) == len(WINDOWS) - order.left_out


@ORDERS
@given(batch=st.integers(1, 64), world=st.integers(1, 5))
def test_global_batches_are_the_same_for_any_number_of_workers(
    order: DataOrder, batch: int, world: int
) -> None:
    windows = ordered(order.model_copy(update={"batch_size": batch, "smallest_batch": 1}))
    alone = windows.steps(1, 0, 1)
    ranks = [windows.steps(1, rank, world) for rank in range(world)]
    assert {len(steps) for steps in ranks} == {len(alone)}
    for index, step in enumerate(alone):
        together = np.concatenate([steps[index].windows for steps in ranks])
        np.testing.assert_array_equal(together, step.windows)
        assert {steps[index].n_trs for steps in ranks} == {len(step.windows)}
        sizes = [len(steps[index].windows) for steps in ranks]
        assert max(sizes) - min(sizes) <= 1


@given(n=st.integers(1, 300), batch=st.integers(1, 64), smallest=st.integers(1, 8))
def test_last_batch_is_left_out_only_if_too_small(n: int, batch: int, smallest: int) -> None:
    left_out = n - sum(map(len, epoch_batches(epoch_order(n, 0, 0), batch, smallest)))
    expected = n % batch if n % batch < smallest else 0
    if batch < smallest:
        expected = n
    assert left_out == expected


@given(n=st.integers(1, 300), batch=st.integers(1, 64), smallest=st.integers(1, 8))
def test_an_order_says_how_large_its_batches_are(n: int, batch: int, smallest: int) -> None:
    order = DataOrder(seed=0, windows=n, batch_size=batch, smallest_batch=smallest)
    sizes = [len(each) for each in epoch_batches(np.arange(n), batch, smallest)]
    if batch >= smallest and n >= batch:
        assert (order.last_batch, order.left_out) == (min(sizes), n - sum(sizes))
        assert order.steps == len(sizes)


@given(n=st.integers(1, 300), batch=st.integers(1, 64), world=st.integers(1, 5))
def test_a_worker_of_as_many_as_there_are_lanes_reads_one_stretch(
    n: int, batch: int, world: int
) -> None:
    order = interleaved(np.arange(n), batch, 2, world)
    assert sorted(order) == list(range(n))
    for rank in range(world):
        batches = epoch_batches(order, batch, 2)
        mine = np.concatenate([np.arange(0), *(part_of(each, rank, world) for each in batches)])
        assert (np.diff(mine) == 1).all()


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


def test_epochs_have_orders_of_their_own() -> None:
    orders = [tuple(epoch_order(50, 0, epoch)) for epoch in range(4)]
    assert len(set(orders)) == 4
    assert tuple(epoch_order(50, 0, 2)) == orders[2]
    assert tuple(epoch_order(50, 1, 2)) != orders[2]


@given(
    n=st.integers(1, 300),
    batch=st.integers(1, 64),
    smallest=st.integers(1, 8),
    lanes=st.integers(1, 7),
)
def test_lanes_are_interleaved_as_a_slow_loop_does(
    n: int, batch: int, smallest: int, lanes: int
) -> None:
    order = epoch_order(n, 0, 0)
    batches = epoch_batches(order, batch, smallest)
    pieces: list[list[np.ndarray]] = []
    at = 0
    for lane in range(lanes):
        pieces.append([])
        for of_batch in batches:
            stop = at + len(part_of(of_batch, lane, lanes))
            pieces[lane].append(order[at:stop])
            at = stop
    slow = [piece.tolist() for of_step in zip(*pieces, strict=True) for piece in of_step]
    expected = [window for piece in slow for window in piece] + order[at:].tolist()
    assert interleaved(order, batch, smallest, lanes).tolist() == expected


def test_row_groups_are_permuted_by_their_rank_whatever_they_are_called() -> None:
    """A run that was begun by another release goes on in the order that it began with."""
    called = np.random.default_rng(3).permutation(90)[:40]
    group = np.repeat(np.sort(called), 16)
    random = np.random.default_rng([5, 2])
    place = random.permutation(40)[np.unique(group, return_inverse=True)[1]]
    expected = np.argsort(place + 4 * random.random(len(group)))
    np.testing.assert_array_equal(streamed_epoch_order(group, 4, 5, 2), expected)

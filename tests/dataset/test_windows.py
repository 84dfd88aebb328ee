"""Windows hold every TR that can be used, once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.windows import (
    Windows,
    batch_windows,
    cut_windows,
    equal_length_batches,
    rank_part,
    window_trs,
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
    lengths: dict[tuple[int, int, int], list[int]] = {}
    for scan, start, n in zip(windows.scan, windows.start, windows.length, strict=True):
        spans = [s for s in SPANS if s.stimulus == SCANS[scan].stimulus]
        (span,) = [s for s in spans if s.start <= start and start + n <= s.stop]
        lacking = np.flatnonzero(~masks[scan][span.start : start])
        stretch = (int(scan), span.start, int(lacking.max(initial=-1)))
        lengths.setdefault(stretch, []).append(int(n))
    for of_stretch in lengths.values():  # as few as can be, of one length but for a TR
        assert len(of_stretch) == -(-sum(of_stretch) // length)
        assert max(of_stretch) - min(of_stretch) <= 1


@given(
    length=st.integers(1, 9),
    n_trs=st.lists(st.integers(0, 120), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_windows_are_those_of_a_slow_loop_in_its_order(
    length: int, n_trs: list[int], seed: int
) -> None:
    """Scans may end within a span, or before it."""
    masks = [np.random.default_rng([seed, n]).random(n) < 0.8 for n in n_trs]
    expected = []
    for index, scan in enumerate(SCANS):
        for span in (each for each in SPANS if each.stimulus == scan.stimulus):
            inside = range(span.start, min(span.stop, n_trs[index]))
            runs: list[list[int]] = []
            for tr in (tr for tr in inside if masks[index][tr]):
                if runs and runs[-1][-1] == tr - 1:
                    runs[-1].append(tr)
                else:
                    runs.append([tr])
            for run in runs:
                pieces = -(-len(run) // length)
                edges = [len(run) * piece // pieces for piece in range(pieces + 1)]
                expected += [(index, run[a], b - a) for a, b in pairwise(edges)]
    windows = cut_windows(SPANS, SCANS, length, masks, [0, 1, 2], [50, 31, 60])
    found = zip(windows.scan.tolist(), windows.start.tolist(), windows.length.tolist(), strict=True)
    assert list(found) == expected
    assert windows.phase.tolist() == windows.scan.tolist()
    np.testing.assert_array_equal(windows.film_trs, np.array([50, 31, 60])[windows.scan])
    assert {each.dtype for each in (windows.scan, windows.start, windows.length)} == {
        np.dtype("i4")
    }


def test_windows_of_one_length_are_batched_together() -> None:
    windows = cut_windows(SPANS, SCANS, 4)
    assert set(trs_of(windows)) == ALL_TRS
    batches = equal_length_batches(windows, 8)
    assert all(len(set(batch.length)) == 1 and batch.n_trs <= 8 for batch in batches)
    assert all(len(batch) == 1 for batch in equal_length_batches(windows, 2))
    assert sum(batch.n_trs for batch in batches) == len(ALL_TRS)


@given(context=st.integers(0, 40), batch=st.integers(1, 300), longest=st.integers(1, 2000))
def test_context_costs_a_quarter_at_most_where_batches_and_films_allow(
    context: int, batch: int, longest: int
) -> None:
    window = window_trs(context, batch, longest)
    assert 1 <= window <= batch
    if context == 0:
        assert window == 1
        return
    assert window <= longest
    if min(batch, longest) >= 3 * context:
        assert context <= (context + window) / 4
        # As many windows as can be: with one more, each would be too short.
        assert window == longest or batch // (batch_windows(batch, window) + 1) < 3 * context
    else:
        assert window == min(batch, longest)
    assert batch_windows(batch, window) * window <= batch


def test_batches_of_single_trs_are_as_many_windows() -> None:
    assert (window_trs(0, 64, 1000), batch_windows(64, 1)) == (1, 64)
    assert (window_trs(14, 64, 1000), batch_windows(64, 64)) == (64, 1)
    assert (window_trs(14, 256, 1000), batch_windows(256, 42)) == (42, 6)
    assert (window_trs(14, 256, 30), batch_windows(256, 30)) == (30, 8)


def test_rows_of_context_are_those_that_exist() -> None:
    windows = cut_windows(SPANS, SCANS, 8)
    for lag, context in ((0, 5), (3, 14), (4, 0)):
        _, exists = windows.rows(lag, context)
        assert windows.n_context(lag, context) == exists[:, :context].sum()


def test_ranks_share_held_out_windows() -> None:
    windows = cut_windows(SPANS, SCANS, 1)
    seen: Counter = Counter()
    for rank in range(3):
        seen += trs_of(rank_part(windows, rank, 3))
    assert set(seen) == ALL_TRS
    assert set(seen.values()) == {1}

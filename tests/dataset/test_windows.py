"""Windows hold every TR that can be used, once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.windows import (
    Windows,
    cut_windows,
    equal_length_batches,
    rank_part,
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

"""The same batches from memory, from the device and from disk."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import ray
import torch

from giblet_ray.dataset.loader import DeviceLoader, Loader, MemoryLoader
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.source import read_shards
from giblet_ray.dataset.stream import StreamLoader, plan_visits
from giblet_ray.dataset.windows import Windows, cut_windows, epoch_order

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


class Pieces:
    """Everything that loaders of the small data set are made of."""

    def __init__(self, dataset: Dataset, lag: int, window: int, device: str) -> None:
        self.device, self.lag, self.dataset = torch.device(device), lag, dataset
        self.selection = Selection(("frames", "codes", "text"), dataset.subjects)
        self.columns = self.selection.value_types(dataset)
        self.kinds = {p: self.columns[p] for p in self.selection.parts}
        self.kinds["bold"] = dataset.value_type("bold/01")
        self.scans = list(dataset.scans)
        self.n_trs = {name: stimulus.n_trs for name, stimulus in dataset.stimuli.items()}
        self.window = window
        # Up to the last TR that has BOLD lag TRs later.
        spans = [Span(name, 5, n - lag) for name, n in self.n_trs.items()]
        windows = cut_windows(spans, self.scans, window)
        windows = windows[windows.length == window]
        order = epoch_order(len(windows), 0, 0)
        self.order = [windows[order[start : start + 19]] for start in range(0, len(order), 19)]
        self.order.insert(2, windows[:0])

    def held(self) -> HeldRows:
        blocks = ray.get(read_shards(self.dataset, self.selection).materialize().to_arrow_refs())
        return HeldRows(blocks, self.columns, self.scans, self.n_trs)

    def loader(self, residence: str) -> Loader:
        if residence == "memory":
            return MemoryLoader(self.held(), self.kinds, self.lag, self.device)
        if residence == "device":
            return DeviceLoader(
                self.held(), self.kinds, self.scans, self.n_trs, self.lag, self.device
            )
        shifted = replace(self.selection, lag_trs=self.lag)
        return StreamLoader(self.dataset, shifted, self.kinds, self.scans, self.window, self.device)

    def expected(self, arrays: dict[str, np.ndarray], name: str, windows: Windows) -> np.ndarray:
        """Gather by an obvious loop."""
        rows = []
        for index, start, length in zip(windows.scan, windows.start, windows.length, strict=True):
            scan = self.scans[index]
            path = f"{name}/{scan.stimulus}.parquet"
            first = start
            if name == "bold":
                path, first = f"bold/{scan.subject}/{scan.stimulus}.parquet", start + self.lag
            rows.append(arrays[path][first : first + length])
        return np.stack(rows)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("window", "lag"), [(1, 3), (4, 3), (4, 0)])
@pytest.mark.parametrize("residence", ["memory", "device", "stream"])
def test_batches_hold_the_rows_of_their_windows(
    cluster: None,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    residence: str,
    window: int,
    lag: int,
    device: str,
) -> None:
    arrays, dataset = arrays_and_dataset
    pieces = Pieces(dataset, lag, window, device)
    n_batches = 0
    for batch, windows in zip(
        pieces.loader(residence).batches(pieces.order), pieces.order, strict=True
    ):
        n_batches += 1
        assert len(batch.values["bold"]) == len(windows)
        if len(windows):
            for name, value in batch.values.items():
                expected = pieces.expected(arrays, name, windows)
                np.testing.assert_array_equal(value.cpu().numpy(), expected)
    assert n_batches == len(pieces.order)


def test_fewer_codebooks_are_the_first_ones(cluster: None, arrays_and_dataset: tuple) -> None:
    arrays, dataset = arrays_and_dataset
    pieces = Pieces(dataset, 0, 1, "cpu")
    narrow = pieces.kinds["codes"].model_copy(update={"shape": (2, 112)})
    loader = MemoryLoader(pieces.held(), {**pieces.kinds, "codes": narrow}, 0, pieces.device)
    (batch,) = loader.batches(pieces.order[:1])
    expected = pieces.expected(arrays, "codes", pieces.order[0])[:, :, :2]
    np.testing.assert_array_equal(batch.values["codes"].numpy(), expected)


def test_batch_stays_valid_until_the_next_but_one(cluster: None, arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1, "cpu")
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    for batch in pieces.loader("memory").batches(pieces.order * 3):
        for value, copied in saved:
            assert torch.equal(value, copied)
        saved = [(batch.values["frames"], batch.values["frames"].clone())]


def test_loader_closed_early_leaves_no_thread(cluster: None, arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1, "cpu")
    batches = pieces.loader("memory").batches(pieces.order * 20)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_error_while_gathering_reaches_the_user(cluster: None, arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1, "cpu")
    past_the_end = Windows(*(np.array([x], np.int32) for x in (0, 116, 1)))
    with pytest.raises(IndexError, match="ends past its scan"):
        list(pieces.loader("memory").batches([*pieces.order[:2], past_the_end]))


def test_spans_are_read_before_they_are_needed_and_not_held_for_long() -> None:
    random = np.random.default_rng(0)
    spans = [Span("film", 16 * i, 16 * i + 16) for i in range(30)]
    needs = [[spans[i] for i in random.integers(k // 4, k // 4 + 5, 6)] for k in range(100)]
    held: set[Span] = set()
    most = 0
    for spans_needed, visit in zip(needs, plan_visits(needs, horizon=8), strict=True):
        assert not held & set(visit.read)
        held |= set(visit.read)
        assert set(spans_needed) <= held
        most = max(most, len(held))
        held -= set(visit.drop)
    assert not held
    assert most <= 8

"""The same batches from memory, from the device and from disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from giblet_ray.dataset.layout import ScanKey, bold_column, bold_shard
from giblet_ray.dataset.loader import Batch, DeviceLoader, Loader, MemoryLoader
from giblet_ray.dataset.order import epoch_order
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows, StreamedRows
from giblet_ray.dataset.stream import StreamLoader, plan_visits
from giblet_ray.dataset.windows import Windows, cut_windows

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


class Pieces:
    """Everything that loaders of the small data set are made of."""

    def __init__(
        self, dataset: Dataset, lag: int, window: int, context: int = 0, device: str = "cpu"
    ) -> None:
        self.device, self.lag, self.context = torch.device(device), lag, context
        self.dataset, self.window = dataset, window
        self.selection = Selection(("codes", "text"), dataset.subjects)
        self.columns = self.selection.value_types(dataset)
        self.kinds = {p: self.columns[p] for p in self.selection.parts}
        self.kinds["bold"] = max(
            (self.columns[bold_column(name)] for name in dataset.subjects), key=lambda k: k.shape
        )
        self.scans = list(dataset.scans)
        self.n_trs = dataset.bold_trs
        # From the first TR on, which answers to nothing where there is a lag.
        spans = [Span(name, 0, n) for name, n in self.n_trs.items()]
        windows = cut_windows(spans, self.scans, window)
        order = epoch_order(len(windows), 0, 0)
        self.order = [windows[order[start : start + 19]] for start in range(0, len(order), 19)]
        self.order.insert(2, windows[:0])

    def held(self) -> HeldRows:
        blocks = [self.dataset.read(span, self.selection) for span in self.dataset.row_groups()]
        return HeldRows(blocks, self.columns, self.scans, self.n_trs)

    def loader(self, residence: str) -> Loader:
        where = (self.device, self.context)
        if residence == "memory":
            return MemoryLoader(self.held(), self.kinds, self.lag, *where)
        if residence == "device":
            held = self.held()
            return DeviceLoader(held, self.kinds, self.scans, self.n_trs, self.lag, *where)
        of = (self.dataset, self.selection, self.kinds, self.scans, self.window, self.lag)
        return StreamLoader(*of, *where)

    def check(self, batch: Batch, arrays: dict[str, np.ndarray], windows: Windows) -> None:
        """Compare a batch with what an obvious loop gathers."""
        values = {name: value.cpu().numpy() for name, value in batch.values.items()}
        exists = batch.exists.cpu().numpy()
        longest = max(windows.length, default=1)
        assert exists.shape == (len(windows), self.context + longest)
        for name, kind in self.kinds.items():
            n = longest if name == "bold" else self.context + longest
            assert values[name].shape == (len(windows), n, *kind.shape)
        for window, (index, start, length) in enumerate(
            zip(windows.scan, windows.start, windows.length, strict=True)
        ):
            key = self.scans[index]
            for row, tr in enumerate(range(start - self.context, start + longest)):
                seen, inside = tr - self.lag, tr < start + length
                there = inside and seen >= 0
                assert exists[window, row] == there
                for part in self.selection.parts:
                    expected = arrays[f"{part}/{key.stimulus}.parquet"][seen] if there else 0
                    np.testing.assert_array_equal(values[part][window, row], expected)
                if tr >= start and "bold" in self.kinds:
                    bold = np.zeros(self.kinds["bold"].shape[0], np.float32)
                    if inside:
                        found = arrays[bold_shard(*key)][tr]
                        bold[: len(found)] = found
                    np.testing.assert_array_equal(values["bold"][window, row - self.context], bold)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("window", "lag", "context"), [(1, 3, 0), (4, 3, 0), (5, 0, 7)])
@pytest.mark.parametrize("residence", ["memory", "device", "stream"])
def test_batches_hold_the_rows_of_their_windows(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    residence: str,
    window: int,
    lag: int,
    context: int,
    device: str,
) -> None:
    arrays, dataset = arrays_and_dataset
    pieces = Pieces(dataset, lag, window, context, device)
    batches = pieces.loader(residence).batches(pieces.order)
    for batch, windows in zip(batches, pieces.order, strict=True):
        pieces.check(batch, arrays, windows)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("residence", ["memory", "device", "stream"])
def test_values_that_are_left_out_are_in_no_batch(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset], residence: str, device: str
) -> None:
    arrays, dataset = arrays_and_dataset
    pieces = Pieces(dataset, 0, 5, 7, device)
    whole = pieces.loader(residence)
    fewer, all_kinds = whole.without(["codes"]), pieces.kinds
    for loader, parts in ((fewer, ("text",)), (whole, ("codes", "text"))):
        pieces.selection = replace(pieces.selection, parts=parts)
        pieces.kinds = {name: all_kinds[name] for name in (*parts, "bold")}
        for batch, windows in zip(loader.batches(pieces.order), pieces.order, strict=True):
            assert batch.values.keys() == {*parts, "bold"}
            pieces.check(batch, arrays, windows)
    del pieces.kinds["bold"]
    batches = zip(whole.without(["bold"]).batches(pieces.order), pieces.order, strict=True)
    for batch, windows in batches:
        assert batch.values.keys() == {"codes", "text"}
        pieces.check(batch, arrays, windows)


@pytest.fixture(scope="module")
def uneven(
    tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable
) -> tuple[dict[str, np.ndarray], Dataset]:
    """Two subjects of other numbers of units, who saw two films twice."""
    folder = tmp_path_factory.mktemp("uneven")

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[:, :5] if key.subject == "01" else bold

    arrays = dataset_writer(
        folder, {"one": 37, "two": 21}, ("01", "02"), n_voxels=8, change_bold=change, repeats=2
    )
    return arrays, Dataset.open(str(folder))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), lag=st.integers(0, 4), context=st.integers(0, 20))
@pytest.mark.parametrize("residence", ["memory", "device", "stream"])
def test_any_windows_of_any_scans_are_those_of_an_obvious_loop(
    uneven: tuple, residence: str, data: st.DataObject, lag: int, context: int
) -> None:
    arrays, dataset = uneven
    pieces = Pieces(dataset, lag, 6, context)
    pieces.selection = replace(pieces.selection, repeats={"01": 2, "02": 2})
    pieces.columns = pieces.selection.value_types(dataset)
    drawn = []
    for _ in range(data.draw(st.integers(1, 4))):
        scan = data.draw(st.integers(0, len(pieces.scans) - 1))
        n_trs = pieces.n_trs[pieces.scans[scan].stimulus]
        start = data.draw(st.integers(0, n_trs - 1))
        drawn.append((scan, start, data.draw(st.integers(1, min(6, n_trs - start)))))
    windows = Windows(*np.array(drawn, np.int32).T)
    if residence != "stream":
        (batch,) = pieces.loader(residence).batches([windows])
    else:
        # As the stream does, all spans at once.
        of = (dataset, pieces.selection, pieces.kinds, pieces.scans, 6, lag)
        loader = StreamLoader(*of, pieces.device, context)
        spans = loader.spans(windows)
        rows = StreamedRows(pieces.selection.parts, pieces.scans, lag, context)
        for span in set(spans):
            rows.add(span, loader.rows(span))
        values = {
            name: np.ones((len(windows), n, *kind.shape), kind.numpy)
            for name, kind in pieces.kinds.items()
            for n in [windows.shape[1] + (0 if name == "bold" else context)]
        }
        rows.gather(windows, spans, values)
        tensors = {name: torch.from_numpy(value) for name, value in values.items()}
        batch = Batch(tensors, torch.from_numpy(windows.rows(lag, context)[1]), windows)
    pieces.check(batch, arrays, windows)


def test_fewer_codebooks_are_the_first_ones(arrays_and_dataset: tuple) -> None:
    _, dataset = arrays_and_dataset
    pieces = Pieces(dataset, 0, 1)
    narrow = pieces.kinds["codes"].model_copy(update={"shape": (2, 112)})
    loader = MemoryLoader(pieces.held(), {**pieces.kinds, "codes": narrow}, 0, pieces.device)
    (batch,) = loader.batches(pieces.order[:1])
    (whole,) = pieces.loader("memory").batches(pieces.order[:1])
    expected = whole.values["codes"][:, :, :2]
    assert expected.shape[2] < dataset.value_type("codes").shape[0]
    assert torch.equal(batch.values["codes"], expected)


def test_batch_stays_valid_until_the_next_but_one(arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1)
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    for batch in pieces.loader("memory").batches(pieces.order * 3):
        for value, copied in saved:
            assert torch.equal(value, copied)
        saved = [(batch.values["text"], batch.values["text"].clone())]


def test_what_validation_asked_for_first_can_be_trained_on(arrays_and_dataset: tuple) -> None:
    """In inference mode, whose tensors no gradient can flow past."""
    pieces = Pieces(arrays_and_dataset[1], 1, 1)
    loader = pieces.loader("device")
    assert isinstance(loader, DeviceLoader)
    with torch.inference_mode():
        (first,) = loader.batches(pieces.order[:1])
    (again,) = loader.batches(pieces.order[:1])
    assert first.exists is again.exists
    weight = torch.ones(again.exists.shape, requires_grad=True)
    (weight * again.exists).sum().backward()
    assert weight.grad is not None


def test_loader_closed_early_leaves_no_thread(arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1)
    batches = pieces.loader("memory").batches(pieces.order * 20)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_error_while_gathering_reaches_the_user(arrays_and_dataset: tuple) -> None:
    pieces = Pieces(arrays_and_dataset[1], 3, 1)
    past_the_end = Windows(*(np.array([x], np.int32) for x in (0, 117, 1)))
    with pytest.raises(IndexError, match="past its scan"):
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

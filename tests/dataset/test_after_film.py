"""BOLD that goes on after its film: it answers to the film's last TRs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalTraining

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.layout import ScanKey, bold_shard, stimulus_shard
from giblet_ray.dataset.loader import Batch, DeviceLoader, MemoryLoader
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.rows import HeldRows, StreamedRows, block_views
from giblet_ray.dataset.splits import SETS
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.training.data import plan_data

N_TRS, N_BOLD = 117, 125
LONG, SHORT = ScanKey("01", "film"), ScanKey("02", "film")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable) -> tuple[Path, dict]:
    """A data set in which the scan of 01 goes on for 8 TRs after its film; and its arrays.

    BOLD follows the film three TRs later, also after its end.
    """
    folder = tmp_path_factory.mktemp("after")
    whole = dataset_writer(tmp_path_factory.mktemp("whole"), {"film": N_BOLD}, ("01",))

    def longer(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return whole[bold_shard(*LONG)] if key == LONG else bold

    arrays = dataset_writer(folder, {"film": N_TRS}, ("01", "02"), change_bold=longer)
    return folder, arrays


def view(folder: Path, context_trs: int, **settings: Any) -> DataView:
    data = DataConfig.model_validate(settings)
    return view_data(Dataset.open(str(folder)), data, ("codes", "text"), context_trs=context_trs)


def trs_of(data: DataView, name: Any, scan: ScanKey) -> set[int]:
    """Return the BOLD TRs of a scan that a set's windows have."""
    windows = data.windows[name]
    which = zip(windows.scan, windows.start, windows.length, strict=True)
    return {
        tr
        for index, start, n in which
        if data.scans[index] == scan
        for tr in range(start, start + n)
    }


def test_bold_after_a_film_is_in_the_set_of_its_last_tr(made: tuple[Path, dict]) -> None:
    data = view(made[0], 5)
    assert not check_dataset(str(made[0])).problems
    last = {name: [s for s in data.split.spans(name) if s.stop >= N_TRS] for name in SETS}
    assert last == {"train": [], "val": [], "test": [data.split.test[-1]]}
    assert data.split.test[-1].stop == N_BOLD
    after = set(range(N_TRS, N_BOLD))
    assert trs_of(data, "test", LONG) & after == after
    assert not trs_of(data, "test", SHORT) & after
    assert data.n_lacking == 0


@pytest.mark.parametrize(("lag_seconds", "context_trs"), [(0.0, 5), (4.5, 0), (3.0, 2), (0.0, 0)])
def test_bold_that_a_model_sees_nothing_of_does_not_train(
    made: tuple[Path, dict], lag_seconds: float, context_trs: int
) -> None:
    folds = {"folds": 3, "fold": 2}  # the film's end trains
    data = view(made[0], context_trs, lag_seconds=lag_seconds, split=folds)
    ends = min(N_TRS + data.lag_trs + context_trs, N_BOLD)
    assert max(trs_of(data, "train", LONG)) == ends - 1
    assert max(trs_of(data, "train", SHORT)) == N_TRS - 1


def batch_of(data: DataView, how: str) -> Batch:
    """Return all test windows, as a loader delivers them."""
    windows, device = data.windows["test"], torch.device("cpu")
    dataset, selection, lag, context = data.dataset, data.selection, data.lag_trs, data.context_trs
    columns = selection.value_types(dataset)
    if how == "stream":
        of = (dataset, selection, data.values, data.scans, data.window, lag, device, context)
        spans = StreamLoader(*of).spans(windows)
        rows = StreamedRows(selection.parts, data.scans, lag, context)
        for span in dict.fromkeys(spans):
            (block,) = dataset.read(span, selection).combine_chunks().to_batches()
            rows.add(span, block_views(block, columns))
        n, longest = windows.shape
        out = {
            name: np.empty(
                (n, longest + (0 if name == "bold" else context), *kind.shape), kind.dtype
            )
            for name, kind in data.values.items()
        }
        rows.gather(windows, spans, out)
        exists = torch.from_numpy(windows.rows(lag, context)[1])
        return Batch({name: torch.from_numpy(of) for name, of in out.items()}, exists, windows)
    blocks = [dataset.read(span, selection) for span in dataset.row_groups()]
    held = HeldRows(blocks, columns, data.scans, dataset.bold_trs)
    if how == "memory":
        (batch,) = MemoryLoader(held, data.values, lag, device, context).batches([windows])
        return batch
    of_device = (held, data.values, data.scans, dataset.bold_trs, lag, device, context)
    (batch,) = DeviceLoader(*of_device).batches([windows])
    return batch


@pytest.mark.parametrize("how", ["memory", "device", "stream"])
@pytest.mark.parametrize(("lag_seconds", "context_trs"), [(0.0, 5), (3.0, 2), (4.5, 0)])
def test_the_film_has_ended_in_the_rows_of_such_bold(
    made: tuple[Path, dict], how: str, lag_seconds: float, context_trs: int
) -> None:
    folder, arrays = made
    data = view(folder, context_trs, lag_seconds=lag_seconds, window=7)
    batch = batch_of(data, how)
    text_TD, windows = arrays[stimulus_shard("text", "film")], batch.windows
    n_after = 0
    for row, scan in enumerate(windows.scan):
        bold_TV = arrays[bold_shard(*data.scans[scan])]
        for place in range(batch.exists.shape[1]):
            bold_tr = int(windows.start[row]) + place - context_trs
            tr = bold_tr - data.lag_trs
            inside = place < context_trs + windows.length[row]
            there = inside and 0 <= tr < N_TRS
            assert bool(batch.exists[row, place]) == there
            expected = text_TD[tr] if there else np.zeros_like(text_TD[0])
            np.testing.assert_array_equal(batch.values["text"][row, place], expected)
            if inside and place >= context_trs:
                found = batch.values["bold"][row, place - context_trs]
                np.testing.assert_array_equal(found, bold_TV[bold_tr])
                n_after += bold_tr >= N_TRS
    assert n_after == N_BOLD - N_TRS


MODELS: dict[str, dict[str, Any]] = {
    "ridge": {"kind": "ridge", "solver": "ridge"},
    "hrf": {"memory": "hrf"},
    "conv": {"memory": "conv"},
    "transformer": {"memory": "transformer"},
    "head full": {"memory": "hrf", "head": "full", "head_dim": 16},
    "one TR": {"memory": "none", "inputs": "vectors"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_train_on_it_and_predict_it(
    made: tuple[Path, dict], tmp_path: Path, kind: str
) -> None:
    folder = made[0]
    settings: dict[str, Any] = {
        "dataset": str(folder),
        "data": {"modalities": ("text",), "split": {"kind": "blocks"}},
        "model": MODELS[kind],
        "train": {} if kind == "ridge" else {"epochs": 2},
    }
    job = TrainJob.model_validate(settings)
    LocalTraining(job).train(tmp_path / "run")
    encoder = Encoder.load(str(tmp_path / "run"))
    dataset = Dataset.open(str(folder))
    whole = encoder.predict_bold(dataset, Span("film", 0, N_BOLD + 30))
    assert np.isfinite(whole).all()
    for start, stop in ((0, 50), (50, N_TRS), (N_TRS - 3, N_TRS + 4), (N_TRS, N_BOLD)):
        piece = encoder.predict_bold(dataset, Span("film", start, stop))
        np.testing.assert_allclose(piece, whole[start:stop], rtol=1e-4, atol=1e-5)
    reach = encoder.record.lag_trs + encoder.model.context_trs
    assert reach > 0
    assert whole[N_TRS : N_TRS + min(reach, 3)].any(axis=1).all()
    assert not whole[N_TRS + reach :].any()  # nothing of the film is seen
    data = plan_data(job, dataset)
    assert any(span.stop == N_BOLD for span in data.split.test)

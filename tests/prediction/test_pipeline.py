"""A film predicted in pieces, by a model with context, without Ray's cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from giblet_ray.checkpoint.record import read_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.binary import as_binary
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.source import ShardSource
from giblet_ray.errors import InputError
from giblet_ray.models.predictor import Predictor, Shapes, by_subject
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.pipeline import Predicting, cut_spans, each_tr_once, predict_rows

N_UNITS = 24
BATCH_TRS = 7
SELECTION = Selection(("text",))
VALUE = ValueType(dtype="float32", shape=(N_UNITS,))


class Fir(Predictor):
    """A weight for each of the last C + 1 rows of text."""

    class Settings(Predictor.Settings):
        context: int

        def context_trs(self, tr_seconds: float) -> int:
            return self.context

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__(settings, shapes)
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(settings.context + 1, 1024, N_UNITS) / 32)

    def forward(
        self, values: Mapping[str, Tensor], exists: Tensor, subject: Tensor
    ) -> dict[int, Tensor]:
        rows = values["text"].masked_fill(~exists[:, :, None], 0)
        past = rows.unfold(1, self.context_trs + 1, 1)  # (B, W, D, C + 1), the oldest first
        return by_subject(torch.einsum("bwdc,cdv->bwv", past, self.weight), subject)


def encoder_of(checkpoint: Path, context: int) -> Encoder:
    record = read_record(checkpoint)
    of_text = record.dataset.model_copy(update={"encoders": {"text": "vector"}})
    model = Fir(Fir.Settings(context=context), Shapes.of_record(of_text))
    valid_SV = np.ones((len(of_text.subjects), N_UNITS), bool)
    return Encoder(model, record.model_copy(update={"dataset": of_text}), valid_SV)


def plain(text_TD: np.ndarray, weight_CDV: np.ndarray) -> np.ndarray:
    """The sum over the rows that there are."""
    context = len(weight_CDV) - 1
    predicted = np.zeros((len(text_TD), N_UNITS))
    for tr in range(len(text_TD)):
        for back in range(min(context, tr) + 1):
            predicted[tr] += text_TD[tr - back] @ weight_CDV[context - back]
    return predicted


def in_pieces(
    dataset: Dataset, encoder: Encoder, spans: list[Span], n_tasks: int, read_trs: int, joined: bool
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predict by the read tasks, one after another, of blocks as they come or all as one."""
    read_bytes = read_trs * SELECTION.row_bytes(dataset)
    source = ShardSource(dataset, SELECTION, spans, read_bytes, encoder.model.context_trs)
    blocks = [block for task in source.get_read_tasks(n_tasks) for block in task()]
    if joined:
        blocks = [pa.concat_tables(blocks, promote_options="default").unify_dictionaries()]
    kinds = SELECTION.value_types(dataset)
    predicted = (
        table for block in blocks for table in predict_rows(encoder, block, kinds, 0, BATCH_TRS)
    )
    n_trs = {name: stimulus.n_trs for name, stimulus in dataset.stimuli.items()}
    pieces: dict[str, Any] = {}
    for stimulus, trs_T, bold_TV in each_tr_once(predicted, VALUE, n_trs):
        trs, bold = pieces.setdefault(stimulus, ([], []))
        trs.append(trs_T)
        bold.append(bold_TV)
    return {name: tuple(map(np.concatenate, found)) for name, found in pieces.items()}


@pytest.mark.parametrize("joined", [False, True], ids=["blocks", "one block"])
@pytest.mark.parametrize(
    ("n_tasks", "read_trs"),
    [(1, 16), (3, 32), (13, 16), (1, 1000), (9, 5)],
    ids=["row groups", "pairs of them", "a task each", "whole films", "pieces of row groups"],
)
@pytest.mark.parametrize("context", [0, 3, 20])
def test_a_film_in_pieces_is_predicted_as_the_whole(
    checkpoint: Path,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    context: int,
    n_tasks: int,
    read_trs: int,
    joined: bool,
) -> None:
    """Row groups have 16 TRs: a context of 20 reaches over more than one of them."""
    arrays, dataset = arrays_and_dataset
    encoder = encoder_of(checkpoint, context)
    spans = cut_spans(dataset.row_groups(), read_trs)
    found = in_pieces(dataset, encoder, spans, n_tasks, read_trs, joined)
    assert found.keys() == dataset.stimuli.keys()
    weight_CDV = encoder.model.weight.detach().numpy()  # type: ignore[union-attr, operator]
    for stimulus, (trs_T, bold_TV) in found.items():
        text_TD = arrays[f"text/{stimulus}.parquet"]
        assert trs_T.tolist() == [*range(len(text_TD))]
        np.testing.assert_allclose(bold_TV, plain(text_TD, weight_CDV), rtol=1e-4, atol=1e-4)


def test_a_gpu_without_memory_for_the_model_is_told_in_one_line(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> Encoder:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(Encoder, "build", build)
    monkeypatch.setattr("ray.get", dict)
    valid_SV = np.ones((1, N_UNITS), bool)
    how = read_record(checkpoint), {}, valid_SV, (), 0, BATCH_TRS, {}, {}, "cuda"
    told = r"^--batch_trs 7: CUDA out of memory; use a smaller one, or --use_gpu false$"
    with pytest.raises(InputError, match=told):
        next(Predicting(*how)(pa.table({})))


@pytest.mark.parametrize(
    ("trs", "message"),
    [
        ([[0, 1, 2], [4, 5]], r"film: TRs 4 to 5 came where 3 was expected"),
        ([[0, 1, 3, 4, 5]], r"film: TRs 0 to 5 came where 0 was expected"),
        ([[0, 1, 2], [0, 1, 2, 3]], r"film: 4 of 6 TRs were predicted"),
        ([], r"film: 0 of 6 TRs were predicted"),
    ],
)
def test_a_tr_that_is_not_predicted_is_told(trs: list[list[int]], message: str) -> None:
    def block(of: list[int]) -> pa.Table:
        bold_TV = np.zeros((len(of), N_UNITS), np.float32)
        names, numbers = pa.array(["film"] * len(of)), pa.array(of, pa.int32())
        return pa.table({"stimulus": names, "tr": numbers, "value": as_binary(bold_TV)})

    with pytest.raises(RuntimeError, match=message):
        list(each_tr_once(map(block, trs), VALUE, {"film": 6}))

"""Vectors of films that are made once: those that would be made in each step, wherever rows lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from local_training import LocalLink, LocalTraining, RankLink
from ranks import run_ranks

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.windows import Windows
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType
from giblet_ray.training import made_once
from giblet_ray.training.data import model_shapes
from giblet_ray.training.identity import new_order, run_record
from giblet_ray.training.loop import BareLink, train
from giblet_ray.training.made_once import FilmRows, make_once, parts_to_keep, vector_bytes

CPU = torch.device("cpu")
SCANS = (ScanKey("01", "a"), ScanKey("02", "a"), ScanKey("01", "b"), ScanKey("03", "a"))
PHASES = np.array([0, 0, 0, 1])
FILM_TRS = np.array([30, 30, 17, 29])
COMPONENTS: dict[str, Any] = {
    **{"memory": "hrf", "context_seconds": 6.0, "inputs": "components", "trunk_dims": []},
    **{"norm": "layer", "head": "linear", "heads": "subject", "bottleneck_dim": 8},
}
TRAIN = {"epochs": 2, "batch_trs": 24, "log_every_steps": 1}


@st.composite
def windows_of_scans(draw: st.DrawFn) -> Windows:
    """Windows anywhere in scans that go on a few TRs after their films."""
    drawn = []
    for _ in range(draw(st.integers(1, 8))):
        scan = draw(st.integers(0, len(SCANS) - 1))
        start = draw(st.integers(0, int(FILM_TRS[scan]) + 3))
        drawn.append((scan, start, draw(st.integers(1, 6)), PHASES[scan], FILM_TRS[scan]))
    return Windows(*np.array(drawn, np.int32).T)


def rows_by_a_loop(windows: Windows, lag: int, context: int) -> list[list[tuple | None]]:
    """Film, phase and TR of each row of each window."""
    return [
        [
            (SCANS[scan].stimulus, phase, tr) if 0 <= tr < film and inside else None
            for tr, inside in (
                (start - lag + offset, offset < length)
                for offset in range(-context, windows.shape[1])
            )
        ]
        for scan, start, length, phase, film in zip(
            *(windows.scan, windows.start, windows.length, windows.phase, windows.film_trs),
            strict=True,
        )
    ]


@given(windows=windows_of_scans(), lag=st.integers(0, 4), context=st.integers(0, 9))
def test_every_row_that_windows_read_is_made_once(windows: Windows, lag: int, context: int) -> None:
    rows = FilmRows(windows, SCANS, lag, context)
    number: dict[tuple | None, int] = {None: rows.n}
    keys = [key for of in rows_by_a_loop(windows, lag, context) for key in of]
    for key, each in zip(keys, rows.of(windows).flatten().tolist(), strict=True):
        assert number.setdefault(key, each) == each
    assert len(set(number.values())) == len(number)
    chosen, first = rows.covering(windows)
    of = rows.of(chosen)
    made = of[(of >= first[:, None]) & (of < rows.n)].tolist()
    assert sorted(made) == sorted({*number.values()} - {rows.n})


@pytest.mark.parametrize("lag_seconds", [0.0, 3.0])
def test_batches_have_what_the_model_makes_of_their_rows(
    local_training: Callable[..., LocalTraining],
    monkeypatch: pytest.MonkeyPatch,
    lag_seconds: float,
) -> None:
    monkeypatch.setattr(made_once, "KEPT_SHARE", 1.0)
    training = local_training(
        model=COMPONENTS, data={"lag_seconds": lag_seconds}, train={"batch_trs": 16}
    )
    data, shapes = training.data, model_shapes(training.data)
    model = build_predictor(training.job.model, shapes)
    for module in model.get_submodule("inputs").children():
        torch.nn.init.normal_(module.get_buffer("basis_DF"))
    loader = training.loader(CPU)
    order = [data.train[start : start + 3] for start in range(0, len(data.train), 3)]
    raw = [(shapes.inputs(_copied(batch)), batch.exists) for batch in loader.batches(order)]
    windows = data.ordered(new_order(training.job, data))
    how = windows, training.normalisation, data.lag_trs, shapes, BareLink(CPU)
    kept = make_once(model, loader, *how)
    batches = kept.batches(order)
    for batch, (inputs, exists) in zip(batches, raw, strict=True):
        assert batch.values.keys() == {"bold"}
        assert batch.vectors.keys() == inputs.keys() == model.given_vectors
        for part, vectors in batch.vectors.items():
            expected = model.fixed_vectors[part](inputs[part]) * exists[..., None]
            torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


def _copied(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in batch.values.items()}


def curves(link: LocalLink) -> list[float]:
    """Losses of all steps, and scores of all epochs."""
    return [
        value
        for _, metrics in link.points
        for name, value in metrics.items()
        if name.startswith(("step/loss", "val/", "train/loss"))
    ]


def test_a_training_has_the_losses_of_one_that_makes_them_in_each_step(
    local_training: Callable[..., LocalTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = local_training(model=COMPONENTS, train=TRAIN)
    wanted = training.train(tmp_path / "each")
    monkeypatch.setattr(made_once, "KEPT_SHARE", 1.0)
    found = training.train(tmp_path / "once")
    np.testing.assert_allclose(curves(found), curves(wanted), rtol=1e-4, atol=1e-5)


def test_a_training_that_goes_on_makes_the_same_vectors(
    local_training: Callable[..., LocalTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_once, "KEPT_SHARE", 1.0)
    training = local_training(model=COMPONENTS, train={**TRAIN, "checkpoint_every_steps": 2})
    wanted = training.train(tmp_path / "whole")
    with pytest.raises(Exception, match="killed here"):
        training.train(tmp_path / "killed", lambda metrics: metrics.get("step") == 6)
    found = training.train(tmp_path / "killed")
    assert curves(found) == curves(wanted)[-len(curves(found)) :]


def _trained_by_a_rank(rank: int, settings: dict[str, Any], folder: Path) -> list[float]:
    made_once.KEPT_SHARE = 1.0
    training = LocalTraining(TrainJob.model_validate(settings))
    link = RankLink(rank, folder, lambda metrics: False)
    run: RunRecord = run_record(training.job, training.data, None)
    how = training.loader(CPU), training.normalisation, training.data.space_files(), link
    train(training.job, run, training.data.ordered(run.order), *how)
    return curves(link)


def test_workers_share_out_what_is_made(
    local_training: Callable[..., LocalTraining], tmp_path: Path
) -> None:
    job = local_training(model=COMPONENTS, train=TRAIN, scaling={"num_workers": 2}).job
    settings = job.model_dump(mode="json")
    (wanted,) = run_ranks(1, _trained_by_a_rank, settings, tmp_path / "1")
    found = run_ranks(2, _trained_by_a_rank, settings, tmp_path / "2")[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


ROWS = {
    "frames": ValueType(dtype="uint8", shape=(3, 90, 160)),
    "codes": ValueType(dtype="int16", shape=(8, 112)),
    "text": ValueType(dtype="float32", shape=(1024,)),
    "bold": ValueType(dtype="float32", shape=(10,)),
}
"""Of the demo."""


@pytest.mark.parametrize(
    ("inputs", "parts", "kept"),
    [
        ("components", ("frames", "codes", "text"), ["frames", "text", "codes"]),
        ("components", ("frames",), ["frames"]),
        ("components", ("codes", "text"), []),  # beside them, vectors would not be small
        ("vectors", ("frames", "text"), []),
        ("encoders", ("frames", "codes", "text"), []),
    ],
)
def test_vectors_are_kept_where_they_are_small_beside_the_rows(
    inputs: str, parts: tuple[str, ...], kept: list[str]
) -> None:
    kinds = {"frames": "image", "codes": "codes", "text": "vector"}
    shapes = Shapes(ROWS, {part: kinds[part] for part in parts}, {"01": 10}, 1.5)
    with torch.device("meta"):
        model = build_predictor(MultimodalConfig(inputs=inputs), shapes)
    assert parts_to_keep(model, shapes) == kept
    numbers = {"frames": 3 + 20, "text": 40, "codes": 40}
    assert vector_bytes(model, shapes) == 4 * sum(numbers[part] for part in kept)

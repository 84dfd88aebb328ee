"""jobs/promote.py --stack on a user's command line, and jobs/predict.py with what it registered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from stack_lab import StackLab

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.reader import Dataset, Span

N_TRS = {"one": 117, "two": 83}


@pytest.mark.slow
def test_ridge_and_an_encoder_are_stacked_registered_and_predict(
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
) -> None:
    lab = StackLab(tmp_path, train_locally)
    dataset_writer(tmp_path / "data", N_TRS, ("01", "02"))
    lab.train_both(tiny_model, epochs=1)
    monkeypatch.chdir(tmp_path)
    store = ["--tracking.uri", lab.uri]
    said = say("promote.py", *store, "--stack", "first", "ridge", "--name", "both")
    for name in ("first", "ridge"):
        assert f"member {name}: weight 0." in said or f"member {name}: weight 1." in said
    assert "(too few validation TRs to choose by)" in said
    assert "models:/giblet-encoder@champion" in said
    assert "of run both" in said
    words = ["--model", "models:/giblet-encoder@champion", "--dataset", "data", "--subject", "02"]
    assert "200 of 2 stimuli" in say("predict.py", *store, *words, "--out", "predicted")
    record = json.loads((tmp_path / "predicted/predictions.json").read_text())
    assert record["model"]["version"] == "giblet-encoder/1"
    assert record["lag_trs"] == 0
    stack = Encoder.load(tmp_path / "runs/both")
    for film, n_trs in N_TRS.items():
        rows = pq.read_table(tmp_path / f"predicted/{film}.parquet")["value"].to_pylist()
        found_NV = np.stack([np.frombuffer(row, np.float32) for row in rows])
        wanted_NV = stack.predict_bold(Dataset.open("data"), Span(film, 0, n_trs), 1)
        np.testing.assert_allclose(found_NV, wanted_NV, atol=1e-4)

"""A part, a model, a loss and a metric of a lab's own, on the command line of every job.

The package ``my_lab`` lies in tests/support, and is what docs/extending.md shows; Ray's workers
import it too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.dataset.reader import Dataset
from giblet_ray.demo import DemoSettings, make_demo

N_TRS = 140
MODEL = ["--model.kind", "my_lab.models:Gru", "--loss.kind", "my_lab.losses:Huber"]
MODEL += ["--loss.delta", "0.5", "--data.modalities", "motion"]
MODEL += ["--train.metrics", "my_lab.metrics:spearman", "--train.score", "val/spearman"]
MODEL += [
    "--data.split.test_fraction",
    "0.35",
    "--train.epochs",
    "2",
    "--train.batch_trs",
    "8",
    "--scaling.num_workers",
    "1",
]


@pytest.mark.slow
def test_own_code_goes_through_every_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_demo(tmp_path / "source", DemoSettings(n_trs=N_TRS, n_voxels=30))
    words = ["--film", made.film, "--bold", *made.scans, "--mask", made.mask, "--out", "data"]
    words += ["--part", "my_lab.motion:Motion", "--part_settings", "motion.bands=3"]
    say("precompute.py", *words, "--codes.make", "false")
    dataset = Dataset.open("data")
    assert dataset.manifest.parts["motion"].value.shape == (3,)

    store = ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db"]
    data = ["--dataset", "data", *store]
    said = say("train.py", *data, *MODEL, "--name", "own", "--model.hidden", "4")
    assert "val/spearman" in said
    record = find_checkpoint("runs/own").record
    assert (record.config["model"]["hidden"], record.config["loss"]["delta"]) == (4, 0.5)
    said = say(
        "tune.py", *data, *MODEL, "--name", "night", "--sweep.space", "model.hidden=2,3",
        "--sweep.num_samples", "2", "--sweep.scheduler", "none", "--sweep.search", "grid",
    )  # fmt: skip
    assert said.count("  finished  ") == 2

    # What follows meets the paths in records from storage, and imports what it is allowed to.
    refused = say("evaluate.py", *store, "--run", "own", "--ridge", "false", code=2)
    assert "add --packages my_lab" in refused
    allowed = [*store, "--packages", "my_lab"]
    say(
        "evaluate.py",
        *allowed,
        "--run",
        "own",
        "night",
        "--permutations",
        "99",
        "--resamples",
        "100",
    )
    assert np.isfinite(json.loads(Path("evaluation/own/scores.json").read_text())["test/spearman"])
    said = say("compare.py", *allowed, "--metric", "val/spearman")
    assert "own" in said
    assert "models:/giblet-encoder@champion" in say("promote.py", *allowed, "--run", "own")
    words = ["--model", "models:/giblet-encoder@champion", "--dataset", "data"]
    say("predict.py", *allowed, *words, "--subject", "01", "--out", "predicted")
    assert pq.read_metadata("predicted/demo-film.parquet").num_rows == N_TRS

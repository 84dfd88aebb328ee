"""jobs/evaluate.py on a user's command line: what is fitted beside a run, once, and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.config import TrainJob


@pytest.mark.slow
def test_what_is_fitted_beside_a_run_is_of_its_units_and_split_and_kept(
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
    say: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset_writer(tmp_path / "data", {"one": 240}, ("01",))
    chosen = np.arange(3, 20, 2)
    np.save("units.npy", chosen)
    rows = ("group stimulus start_seconds stop_seconds", "credits one 0 12", "credits one 348 360")
    Path("same.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    job = TrainJob(
        dataset=str(tmp_path / "data"), name="first", model=tiny_model,
        data={"modalities": ("audio", "text"), "voxels": "units.npy",
              "split": {"same": "same.tsv"}},
        train={"epochs": 1, "batch_trs": 64},
    )  # fmt: skip
    train_locally(job, tmp_path / "runs/first")
    Path("units.npy").unlink()
    Path("same.tsv").unlink()
    words = ["--run", "first", "--partition", "retrained", "--permutations", 99, "--resamples", 100]
    words += ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db"]
    first, again = (say("evaluate.py", *words) for _ in range(2))
    assert "partition: 2 trainings on fewer parts, each kept as a run and not done again" in first
    assert "training with 1 worker" in first
    assert "training with" not in again
    for said in (first, again):
        table = said.partition("\nparts of first\n")[2].splitlines()
        assert [row.split("  R2")[0].strip() for row in table[:4]] == [
            "audio", "text", "audio + text", "together",
        ]  # fmt: skip
    assert first.partition("\nparts of")[2] == again.partition("\nparts of")[2]
    units = pq.read_table("evaluation/first/partition.parquet").to_pandas().unit
    np.testing.assert_array_equal(units, chosen)
    beside = [folder for folder in Path("runs").iterdir() if folder.name != "first"]
    assert len(beside) == 3
    of_run = find_checkpoint("runs/first").record
    for folder in beside:
        record = find_checkpoint(str(folder)).record
        (found,) = record.units
        np.testing.assert_array_equal(found.indices, chosen)
        assert record.same == of_run.same != ()

"""Scans of every space, from their files to shards, and predictions back to files like them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from space_examples import EXAMPLES, N_TRS, TR_SECONDS

from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.storage import Storage
from giblet_ray.precompute.kept_spaces import keep_spaces
from giblet_ray.precompute.makers import make_bold
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.units import BOLD
from giblet_ray.prediction.folder import Films, Model, Predicted, Predictions, WrittenSpace
from giblet_ray.prediction.writer import open_writer, written
from giblet_ray.spaces.kinds import files_of_scan, open_space


@pytest.mark.parametrize("kind", EXAMPLES)
def test_scans_become_rows_and_predictions_of_them_files_like_the_scans(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    example = EXAMPLES[kind](tmp_path)
    scans = files_of_scan(example.scan)  # as a shell's * names them
    words = ["--film", str(folder / "one.mp4"), "--out", str(tmp_path / "data"), "--bold", *scans]
    words += ["--scan.high_pass_seconds", "none", "--codes.weights", "untrained", *example.words]
    plan = make_plan(parse_job(PrecomputeJob, words))
    storage = Storage.at(str(tmp_path / "data"))
    (unit,) = [unit for unit in plan.units if unit.part == BOLD]
    assert set(scans) <= set(unit.files.values())
    record = make_bold(unit, storage)
    rows = pq.read_table(tmp_path / "data" / record.shard.path)["value"].combine_chunks()
    np.testing.assert_array_equal(as_arrays(rows, record.value), example.bold_TV)

    spaces = keep_spaces(storage, plan.units)
    kept = spaces.of_subjects["01"]
    names = spaces.unit_names.get("01")
    named = None if names is None else tuple(json.loads(storage.read(names)))
    assert named == example.space.unit_names
    files = {role: storage.read(path) for role, path in kept.blobs.items()}
    space = open_space(kept.kind, files, record.value.shape[0], "here")
    film = Predicted(name="one", n_trs=N_TRS, first_bold_tr=3)
    predictions = Predictions(
        model=Model(asked="m", version=None, run_id=None, checkpoint="m", weights="0", score=None),
        dataset=Films(location="d", checksum="0"),
        tr_seconds=TR_SECONDS,
        lag_trs=3,
        value=record.value,
        masked_voxels=0,
        space=WrittenSpace(kind=kept.kind, endings=space.endings, files={}),
        stimuli=(film,),
    )
    out = Storage.at(str(tmp_path / "out"))
    predicted_TV = np.random.default_rng(0).normal(0, 1, example.bold_TV.shape).astype(np.float32)
    predicted_TV[np.isnan(example.bold_TV)] = np.nan  # these were masked in training
    with open_writer(out, predictions, film, space, None) as writer:
        for block in np.array_split(np.arange(N_TRS), 2):
            writer.add(block, predicted_TV[block])
    made = written(out, predictions, film).files["space"]
    assert [file.path for file in made] == [f"one{ending}" for ending in space.endings]
    path = tmp_path / "out" / made[0].path
    assert space.n_trs(path, None, TR_SECONDS) == N_TRS
    np.testing.assert_array_equal(space.read(path, None, slice(0, N_TRS), None), predicted_TV)

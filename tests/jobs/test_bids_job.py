"""A BIDS data set from derivatives to report, in every space, on a user's command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bids_tree
import numpy as np
import pytest
from scan_files import save
from small_films import write_films

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob

N_TRS = {"one": 120, "two": 132}
MAPS = {
    "volume": {"r-01.nii.gz"},
    "parcels": {"r-01.nii.gz"},
    "surface": {"r-01_hemi-L.func.gii", "r-01_hemi-R.func.gii"},
    "grayordinates": {"r-01.dtseries.nii"},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bids_tree, "FILM_TRS", N_TRS)
        bids_tree.make_tree(root)
    write_films(root / "films", {name: n * bids_tree.TR for name, n in N_TRS.items()})
    labels = np.arange(np.prod(bids_tree.SHAPE)).reshape(bids_tree.SHAPE) % 6 + 1
    save(root / "atlas.nii.gz", labels)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("space", ["volume", "parcels", "surface", "grayordinates"])
def test_derivatives_become_a_data_set_a_model_and_a_report(
    tree: Path,
    train_locally: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
    space: str,
) -> None:
    """Volumes are trained on workers; what is of the others' own lies before and behind that."""
    monkeypatch.chdir(tmp_path)
    named = {"surface": "fsaverage5", "grayordinates": "fsLR:91k"}.get(space, bids_tree.SPACE)
    atlas = ("--atlas", tree / "atlas.nii.gz") if space == "parcels" else ()
    found = say(
        "precompute.py", "--bids", tree / "raw/derivatives/fmriprep", "--task", "movie", "--space",
        named, "--stimuli", tree / "films", *atlas, "--scan.strategy", "motion", "scrub",
        "--codes.make", "false", "--out", "data",
    )  # fmt: skip
    assert "subject 03: 2 scans of 1 films; again: one; no scan of two" in found
    assert "1 scrubbed" in found
    store = ("--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db")
    split = ("--data.split.blocks", "1", "--data.split.test_fraction", "0.45")
    model = ("--model.context_seconds", "6", "--model.bottleneck_dim", "8")
    words = ["--dataset", "data", "--name", "run", *store, *split, *model]
    words += ["--data.modalities", "video", "--train.epochs", "1", "--train.batch_trs", "32"]
    if space == "volume":
        assert "nothing was chosen on" in say("train.py", *words)
    else:
        train_locally(parse_job(TrainJob, words), tmp_path / "runs/run")
    shown = say("evaluate.py", "--run", "run", *store, "--ridge", "false", "--permutations", "99",
                "--resamples", "100")  # fmt: skip
    assert "test r, mean" in shown
    folder = tmp_path / "evaluation/run"
    assert (folder / "report.html").stat().st_size > 10_000
    maps = {path.name for path in folder.iterdir() if path.name.startswith("r-01")}
    assert maps == MAPS[space]

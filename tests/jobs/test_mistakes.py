"""A mistake is told before the libraries are imported that a job works with: they take seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from script import ROOT

from giblet_ray.dataset.reader import Dataset

REFUSE_ALL = textwrap.dedent(
    """
    import contextlib, io, json, runpy, sys

    def heavy():
        return sorted({"ray", "torch", "mlflow"} & set(sys.modules))

    told = {}
    for command in json.loads(sys.argv[1]):
        sys.argv = command.split()
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            told[command] = [end.code, said.getvalue(), heavy()]
    import giblet_ray.comparison.read, giblet_ray.promotion.promote
    print(json.dumps([told, heavy()]))
    """
)
"""Runs jobs one after the other; tells how each ended, and what had been imported by then.

At last imports what reads MLflow for compare.py and promote.py."""


def test_a_mistake_is_told_before_ray_torch_and_mlflow_are_imported(
    arrays_and_dataset: tuple[Any, Dataset], tmp_path: Path
) -> None:
    film = arrays_and_dataset[1].storage.location
    commands = [
        "train.py --model.embed_dims 8",
        "train.py --dataset nowhere --name run",
        f"train.py --dataset {film} --name run --data.subjects 99",
        "tune.py --dataset nowhere --name sweep",
        f"tune.py --dataset {film} --name sweep --sweep.space optimizer.rate=1,2",
        f"tune.py --dataset {film} --name sweep --sweep.space data.lag_seconds=500,600",
        "tune.py --sweep.resume yesterday",
        "predict.py --model nowhere --dataset nowhere --out out",
        f"predict.py --model nowhere --dataset {film} --out out",
        f"predict.py --model nowhere --dataset {film} --out out --stimuli none",
        f"predict.py --model models:/m@champion --dataset {film} --out out",
        "compare.py --experiment none",
        "promote.py --run none",
        "precompute.py --out out --film nowhere.mp4",
    ]
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            REFUSE_ALL,
            json.dumps([f"{ROOT}/jobs/{each}" for each in commands]),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told, heavy = json.loads(process.stdout)
    assert len(told) == len(commands)
    for command, (code, said, imported) in told.items():
        assert (command, code, imported) == (command, 2, [])
        assert said.startswith("error: ")
    assert heavy == ["mlflow"]

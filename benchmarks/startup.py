"""What a short training costs beyond training, and how soon a mistake is told.

    python benchmarks/startup.py --repeats 3

Command to exit of jobs/train.py on a tiny data set, less the seconds that it trained, beside a
bare script that starts Ray, one worker that trains nothing, and MLflow
(benchmarks/bare_training.py); both in turn, each with a store of its own. And the seconds in which
a mistake in the settings, in the data set's name and in what is asked of it ends the job.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import CONSOLE, ROOT, cpu_model
from random_dataset import write_random_dataset
from rich.table import Table

N_TRS, N_VOXELS = 400, 100
MISTAKES = {
    "an unknown setting": ["--model.embed_dims", "8"],
    "no such data set": ["--dataset", "nowhere"],
    "a subject that it lacks": ["--data.subjects", "99"],
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        folder = Path(name)
        write_random_dataset(str(folder / "data"), N_TRS, N_VOXELS)
        beyond, bare = [], []
        for repeat in range(arguments.repeats):
            here = folder / str(repeat)
            beyond.append(_training(folder / "data", here))
            bare.append(_seconds(["benchmarks/bare_training.py", here / "bare"], here))
        told = {
            what: _seconds(
                ["jobs/train.py", "--dataset", folder / "data", *words], folder, returns=2
            )
            for what, words in MISTAKES.items()
        }
    _show(beyond, bare, told)


def _training(data: Path, folder: Path) -> float:
    """Return the seconds of a short training, command to exit, less those that it trained."""
    words: list[str | Path] = ["jobs/train.py", "--config", ROOT / "jobs/demo.yaml"]
    words += ["--dataset", data]
    words += ["--name", "short", "--train.epochs", "2", "--scaling.num_workers", "1"]
    seconds = _seconds(words, folder)
    records = [
        json.loads(path.read_text()) for path in (folder / "runs" / "short").rglob("record.json")
    ]
    history = max((record["position"]["history"] for record in records), key=len)
    return seconds - sum(metrics["train/seconds"] for metrics in history)


def _seconds(words: Sequence[str | Path], folder: Path, returns: int = 0) -> float:
    """Return the seconds of a script in a process of its own."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script, *arguments = map(str, words)
    command = [sys.executable, str(ROOT / script), *arguments]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != returns:
        raise SystemExit(f"{script} ended with {done.returncode}: {done.stderr or done.stdout}")
    return seconds


def _show(beyond: list[float], bare: list[float], told: dict[str, float]) -> None:
    table = Table("", "median", "lowest", "highest", title=f"seconds, {cpu_model()}")
    extra = [ours - least for ours, least in zip(beyond, bare, strict=True)]
    rows = {
        "a training, less training": beyond,
        "Ray, a worker and MLflow alone": bare,
        "what is added (at most 15)": extra,
        **{f"told: {what} (at most 2)": [seconds] for what, seconds in told.items()},
    }
    for name, seconds in rows.items():
        spread = (statistics.median(seconds), min(seconds), max(seconds))
        table.add_row(name, *(f"{value:.1f}" for value in spread))
    CONSOLE.print(table)


if __name__ == "__main__":
    main()

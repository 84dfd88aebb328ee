"""Does a search find what is planted, and what does early stopping save?

    python benchmarks/search.py --trials 24

Makes the demo's film with a signal that only a model with four codebooks and convolutions of about
15 code frames can read, precomputes it, and runs sweeps over audio encoders:

tpe, random
    every trial to its end, for several seeds of the search: the rank that the best trial with the
    planted setting takes. The space has 48 combinations, two of which have the planted setting.
none, asha
    the same trials, random search, without a scheduler and with ASHA: the epochs that were
    trained, and the best score.

--keep FOLDER keeps the film and the data set, and goes on with those that are there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import CONSOLE
from planted import Planted
from planted_film import make_planted
from rich.table import Table

from giblet_ray.cluster import connect
from giblet_ray.config import PrecomputeJob, TuneJob
from giblet_ray.console import say_stages
from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.parts.codes import CodesConfig
from giblet_ray.parts.frames import FramesConfig
from giblet_ray.precompute.precompute import precompute
from giblet_ray.tuning.sweep import Swept, sweep

CODEBOOKS, SCALE = 4, 15
SPACE = {
    "model.audio_codebooks": [1, 2, 4, 8],
    "model.kernel_sizes": [[3], [7], [15], [3, 5], [3, 5, 7], [3, 7, 15]],
    "model.embed_dim": [4, 6],
}
TR_SECONDS = 1.0


def main() -> None:
    """Parse, make the data, search, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=24, help="trials of each sweep")
    parser.add_argument("--concurrent", type=int, default=2, help="trials at a time")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each search")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of trials run to their end")
    parser.add_argument("--asha-epochs", type=int, default=16, help="epochs beside early stopping")
    parser.add_argument("--trs", type=int, default=360, help="TRs of the film (1 s)")
    parser.add_argument("--keep", default=None, help="folder for film and data set")
    options = parser.parse_args()
    connect()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        make_data(folder, options.trs)
        found = Table(
            *("search", "seed", "best r", "planted is number", "trials", "seconds"), title="planted"
        )
        for method in ("tpe", "random"):
            for seed in range(options.seeds):
                settings = {"search": method, "scheduler": "none", "seed": seed}
                name = f"{method}-{seed}"
                swept, seconds = run(
                    folder, Path(temporary), name, options, settings, options.epochs
                )
                found.add_row(
                    *(method, str(seed), f"{best_of(swept):.3f}", str(planted_rank(swept) or "-")),
                    *(str(len(swept.trials)), f"{seconds:.0f}"),
                )
        CONSOLE.print(found)
        CONSOLE.print("planted is number: at most 3 is asked for; -: was not among the trials")

        saved = Table("scheduler", "best r", "epochs", "seconds", title="early stopping")
        results: dict[str, Swept] = {}
        for scheduler in ("none", "asha"):
            settings = {"search": "random", "scheduler": scheduler}
            settings |= {"grace_steps": 21, "reduction_factor": 4}  # three epochs
            name = f"with-{scheduler}"
            swept, seconds = run(
                folder, Path(temporary), name, options, settings, options.asha_epochs
            )
            results[scheduler] = swept
            saved.add_row(
                scheduler, f"{best_of(swept):.3f}", str(epochs_of(swept)), f"{seconds:.0f}"
            )
        CONSOLE.print(saved)
        share = epochs_of(results["asha"]) / epochs_of(results["none"])
        lost = best_of(results["none"]) - best_of(results["asha"])
        CONSOLE.print(
            f"asha trained {share:.2f} of the epochs (at most 0.50) and lost {lost:.4f} of r "
            "(at most 0.01)"
        )


def make_data(folder: Path, n_trs: int) -> None:
    """Make the film with its planted signal, and its data set."""
    if (folder / "dataset" / MANIFEST).exists():
        return
    report = say_stages(CONSOLE.print)
    files = make_planted(
        folder / "source",
        Planted(CODEBOOKS, SCALE),
        n_trs=n_trs,
        tr_seconds=TR_SECONDS,
        n_voxels=24,
        ceiling=0.9,
        progress=lambda done: report("film", done),
    )
    job = PrecomputeJob(
        out=str(folder / "dataset"),
        film=(str(files.film),),
        text=(str(files.subtitles),),
        bold=(str(files.scan),),
        mask=str(files.mask),
        tr_seconds=TR_SECONDS,
        frames=FramesConfig(height=16, width=16),
        codes=CodesConfig(weights=str(files.codec), chunk_seconds=30),
    )
    precompute(job, CONSOLE.print)


def run(
    folder: Path,
    runs: Path,
    name: str,
    options: argparse.Namespace,
    settings: dict[str, Any],
    epochs: int,
) -> tuple[Swept, float]:
    """Run a sweep over small audio encoders; return it and its seconds."""
    split = {"val_fraction": 0.25, "test_fraction": 0.1, "blocks": 2}
    job = TuneJob(
        dataset=str(folder / "dataset"),
        name=name,
        data={"modalities": ["audio"], "lag_seconds": 5 * TR_SECONDS, "split": split},
        model={
            "audio_features": 16,
            "trunk_dims": (32, 32),
            "bottleneck_dim": 16,
            "head_dim": 32,
            "dropout": 0.0,
        },
        optimizer={"lr": 2e-3},
        train={"epochs": epochs, "batch_trs": 32},
        storage={"path": str(runs / "runs")},
        tracking={"uri": f"sqlite:///{runs}/mlflow.db", "log_model": False},
        sweep={
            **settings,
            "space": SPACE,
            "num_samples": options.trials,
            "max_concurrent": options.concurrent,
        },
    )
    CONSOLE.print(f"{name}: {options.trials} trials of {epochs} epochs")
    started = time.perf_counter()
    swept = sweep(job, lambda line: None)
    return swept, time.perf_counter() - started


def planted_rank(swept: Swept) -> int | None:
    """Return the rank, from 1, of the best trial with the planted setting; None if none has it."""
    for rank, trial in enumerate(swept.trials, start=1):
        settings = trial.settings
        right = settings["model.audio_codebooks"] == CODEBOOKS
        if right and settings["model.kernel_sizes"] == [SCALE]:
            return rank
    return None


def epochs_of(swept: Swept) -> int:
    """Return the epochs of all trials together."""
    return sum(len(trial.scores) for trial in swept.trials)


def best_of(swept: Swept) -> float:
    """Return the best score."""
    return swept.trials[0].best(swept.score) or 0.0


if __name__ == "__main__":
    main()

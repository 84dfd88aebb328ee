"""Does a search find what is planted, and what does early stopping save?

    python benchmarks/search.py --workers 2

Writes a data set whose BOLD follows a signal in EnCodec codes that only a model with four
codebooks, convolutions of about 15 code frames and codes of more than one dimension can read
(planted_codes.py), and runs sweeps over audio encoders with memory:

tpe, random
    every trial to its end, for several seeds of the search: the rank that the trial with the
    planted settings takes, one of 18 combinations; with --workers, tpe once more, by trials of so
    many workers
none, asha
    the same trials, random search, without a scheduler and with ASHA: the epochs that were
    trained, and the best score.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import CONSOLE
from planted_codes import CODEBOOKS, SCALE, plant
from random_dataset import SUBJECT, stored_part, write_arrays
from rich.table import Table

from giblet_ray.cluster import connect
from giblet_ray.config import TuneJob
from giblet_ray.tuning.sweep import Swept, sweep

WIDE = 6
SPACE = {
    "model.audio_codebooks": [2, 4, 8],
    "model.kernel_sizes": [[3], [7], [15]],
    "model.embed_dim": [1, WIDE],
}
N_UNITS, CEILING = 24, 0.9


def main() -> None:
    """Parse, make the data, search, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=14, help="trials of each sweep")
    parser.add_argument("--concurrent", type=int, default=2, help="trials at a time")
    parser.add_argument("--workers", type=int, default=1, help="tpe by trials of so many, too")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each search")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of trials run to their end")
    parser.add_argument("--asha-epochs", type=int, default=16, help="epochs beside early stopping")
    parser.add_argument("--trs", type=int, default=360, help="TRs of the film (1.5 s)")
    options = parser.parse_args()
    connect()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_data(folder, options.trs)
        found = Table(
            *("search", "seed", "workers", "best r", "planted is number", "trials", "seconds"),
            title="planted",
        )
        searches = [(method, 1) for method in ("tpe", "random")]
        searches += [("tpe", options.workers)] if options.workers > 1 else []
        for method, workers in searches:
            for seed in range(options.seeds if workers == 1 else 1):
                settings = {"search": method, "scheduler": "none", "seed": seed}
                name = f"{method}-{seed}" + (f"-of-{workers}" if workers > 1 else "")
                swept, seconds = run(folder, name, options, settings, options.epochs, workers)
                found.add_row(
                    *(method, str(seed), str(workers), f"{best_of(swept):.3f}"),
                    *(str(planted_rank(swept) or "-"), str(len(swept.trials)), f"{seconds:.0f}"),
                )
        CONSOLE.print(found)
        CONSOLE.print("planted is number: 1 is asked for; -: was not among the trials")

        saved = Table("scheduler", "best r", "epochs", "seconds", title="early stopping")
        results: dict[str, Swept] = {}
        for scheduler in ("none", "asha"):
            settings = {"search": "random", "scheduler": scheduler}
            settings |= {"grace_steps": 21, "reduction_factor": 4}  # three epochs
            swept, seconds = run(
                folder, f"with-{scheduler}", options, settings, options.asha_epochs
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
    """Write the film's codes, and BOLD that follows them."""
    codes_TKF, _, bold_TV = plant(n_trs, N_UNITS, CEILING, seed=0)
    parts, bold = {"codes": stored_part("codes", codes_TKF)}, bold_TV.astype(np.float32)
    films = {"film": slice(0, n_trs)}
    write_arrays(str(folder / "dataset"), films, {"codes": codes_TKF}, parts, {SUBJECT: bold})


def run(
    folder: Path,
    name: str,
    options: argparse.Namespace,
    settings: dict[str, Any],
    epochs: int,
    workers: int = 1,
) -> tuple[Swept, float]:
    """Run a sweep over small audio encoders; return it and its seconds."""
    split = {"val_fraction": 0.25, "test_fraction": 0.1, "blocks": 2}
    job = TuneJob(
        dataset=str(folder / "dataset"),
        name=name,
        data={"modalities": ["audio"], "split": split, "window": 16},
        model={
            **{"inputs": "encoders", "audio_features": 16, "trunk_dims": (32,), "norm": "layer"},
            **{"bottleneck_dim": 16, "memory": "hrf", "context_seconds": 15.0, "filters": 1},
            **{"head": "linear", "heads": "shared", "dropout": 0.0},
        },
        optimizer={"lr": 4e-3},
        train={"epochs": epochs, "batch_trs": 32},
        scaling={"num_workers": workers},
        storage={"path": str(folder / "runs")},
        tracking={"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
        sweep={
            **settings,
            "space": SPACE,
            "num_samples": options.trials,
            "max_concurrent": options.concurrent if workers == 1 else 1,
        },
    )
    CONSOLE.print(f"{name}: {options.trials} trials of {epochs} epochs")
    started = time.perf_counter()
    swept = sweep(job, lambda line: None)
    seconds = time.perf_counter() - started
    rank = planted_rank(swept) or "-"
    CONSOLE.print(f"{name}: best r {best_of(swept):.3f}, planted is number {rank}, {seconds:.0f} s")
    return swept, seconds


def planted_rank(swept: Swept) -> int | None:
    """Return the rank, from 1, of the trial with the planted settings; None if none has."""
    planted = dict(zip(SPACE, (CODEBOOKS, [SCALE], WIDE), strict=True))
    ranks = (rank for rank, trial in enumerate(swept.trials, 1) if trial.settings == planted)
    return next(ranks, None)


def epochs_of(swept: Swept) -> int:
    """Return the epochs of all trials together."""
    return sum(len(trial.scores) for trial in swept.trials)


def best_of(swept: Swept) -> float:
    """Return the best score."""
    return swept.trials[0].best(swept.score) or 0.0


if __name__ == "__main__":
    main()

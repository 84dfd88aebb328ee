"""The least that a training with Ray Train and MLflow does: starts both, records one number.

python benchmarks/bare_training.py FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def do_nothing() -> None:
    """Train nothing."""


def main(folder: Path) -> None:
    """Start Ray, one worker that trains nothing, and a new MLflow store; record one number."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import mlflow
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    trainer = TorchTrainer(
        do_nothing,
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(name="bare", storage_path=str(folder / "runs")),
    )
    trainer.fit()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("bare")
    with mlflow.start_run():
        mlflow.log_metric("nothing", 0.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

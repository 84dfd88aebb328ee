"""What runs wherever torch runs: the models, the loss, the metrics and the features."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

WITHOUT_RAY_AND_MLFLOW = [
    "giblet_ray.config",
    "giblet_ray.cli",
    "giblet_ray.checkpoint.claim",
    "giblet_ray.checkpoint.store",
    "giblet_ray.checkpoint.trained",
    "giblet_ray.comparison.importance",
    "giblet_ray.comparison.write",
    "giblet_ray.dataset.loader",
    "giblet_ray.dataset.normalise",
    "giblet_ray.dataset.reader",
    "giblet_ray.dataset.splits",
    "giblet_ray.dataset.windows",
    "giblet_ray.dataset.writer",
    "giblet_ray.demo",
    "giblet_ray.evaluation.interval",
    "giblet_ray.evaluation.figures",
    "giblet_ray.evaluation.block_bootstrap",
    "giblet_ray.evaluation.ceiling",
    "giblet_ray.evaluation.null",
    "giblet_ray.evaluation.paired",
    "giblet_ray.evaluation.partition",
    "giblet_ray.evaluation.scan_sums",
    "giblet_ray.spaces.scan",
    "giblet_ray.features.codec",
    "giblet_ray.features.embedder",
    "giblet_ray.features.mel",
    "giblet_ray.features.video",
    "giblet_ray.models.encoder",
    "giblet_ray.models.ridge.model",
    "giblet_ray.prediction.task",
    "giblet_ray.prediction.predict",
    "giblet_ray.preflight.need",
    "giblet_ray.preflight.size",
    "giblet_ray.training.loop",
    "giblet_ray.training.memory",
    "giblet_ray.training.step",
]


def test_layers_below_the_cluster_import_neither_ray_nor_mlflow() -> None:
    script = textwrap.dedent(
        """
        import importlib, sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("ray", "mlflow", "himalaya"):
                    raise ImportError(f"{name} is blocked here")
        sys.meta_path.insert(0, Blocked())
        for name in sys.argv[1:]:
            importlib.import_module(name)
        """
    )
    command = [sys.executable, "-c", script, *WITHOUT_RAY_AND_MLFLOW]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("job", ["train", "precompute", "demo", "compare", "promote", "predict"])
def test_jobs_are_thin(job: str) -> None:
    from pathlib import Path

    lines = (Path(__file__).parents[1] / "jobs" / f"{job}.py").read_text().splitlines()
    assert len(lines) < 75

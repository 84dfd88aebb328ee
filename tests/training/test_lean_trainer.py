"""Which of Ray Train's helpers a training starts: their processes cost seconds of a core each."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from giblet_ray.training.failures import Failures
from giblet_ray.training.lean_trainer import LeanTrainer


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("address", "tidied"), [("", False), ("10.0.0.1:6379", True)])
def test_data_is_not_handed_out_and_only_a_cluster_that_stays_is_tidied_up(
    monkeypatch: pytest.MonkeyPatch, address: str, tidied: bool
) -> None:
    trainer = LeanTrainer(lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", address)
    made = [type(callback).__name__ for callback in trainer._create_default_callbacks()]
    assert "BackendSetupCallback" in made
    assert "DatasetsCallback" not in made
    assert ("PlacementGroupCleanerCallback" in made) == tidied


@pytest.mark.usefixtures("cluster")
def test_what_directs_the_workers_imports_no_torch(tmp_path: Path) -> None:
    """Which it is given pickled, as is what it tells of failures."""
    trainer = LeanTrainer(lambda: None)
    given = trainer.train_run_context.backend_config, Failures(None)
    (tmp_path / "given").write_bytes(pickle.dumps(given))
    script = textwrap.dedent(
        """
        import pickle, sys
        from pathlib import Path
        sys.modules["torch"] = None
        from ray.train.v2._internal.execution.controller import TrainController
        config, _ = pickle.loads(Path(sys.argv[1]).read_bytes())
        print(config.backend_cls().share_cuda_visible_devices, config.framework.name)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "given")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["True", "TORCH"]

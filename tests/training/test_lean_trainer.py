"""Which of Ray Train's helpers a training starts: their processes cost seconds of a core each."""

from __future__ import annotations

import pytest

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

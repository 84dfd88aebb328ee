"""Settings of the record in MLflow."""

from __future__ import annotations

from pydantic import Field

from giblet_ray.settings import ExperimentName, Group


class TrackingConfig(Group):
    """MLflow."""

    uri: str = "sqlite:///mlflow.db"
    """Tracking store: sqlite:///FILE or the http(s) address of a server."""
    experiment: ExperimentName = "giblet_ray"
    """Experiment that the run appears in."""
    log_model: bool = True
    """Log the best model, with its signature, when training ends."""
    patience_seconds: float = Field(120, ge=0)
    """Seconds that the end of a run waits for an MLflow server that is away."""
    system_metrics_seconds: float = Field(10, ge=0)
    """Seconds between the points of each node's CPU, memory, disk, network and GPU use; 0: none."""

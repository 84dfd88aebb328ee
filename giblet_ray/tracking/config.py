"""Settings of the record in MLflow."""

from __future__ import annotations

from pydantic import Field, field_validator

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
    """Seconds between the points of each node's CPU, memory, disk, network and GPU use, 1 or more;
    0: none."""

    @field_validator("system_metrics_seconds")
    @classmethod
    def _points_have_seconds_of_their_own(cls, seconds: float) -> float:
        if 0 < seconds < 1:  # a point's step is whole seconds, and of equal steps one is kept
            raise ValueError(
                f"system_metrics_seconds is {seconds:g}; 0, or 1 and more, is accepted"
            )
        return seconds

"""Settings of a sweep."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from giblet_ray.settings import Group, Mark, Name


class SweepConfig(Group):
    """Which trainings to try, how many, and when to give one up."""

    space: dict[str, Any] | None = None
    """Settings to search, by dotted name. Choices: model.embed_dim=16,32,64 or
    model.kernel_sizes=[3,5,7],[3,7,15]; a range: optimizer.lr=1e-4..1e-2:log. In YAML, a list or
    {min: 1e-4, max: 1e-2, log: true}. Default: embed_dim, audio_codebooks and kernel_sizes, and
    what the model's memory is made of (filters, memory_layers, context_seconds, the decay of
    heads), as far as the model has them."""
    search: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: learn from the trials that are done (Optuna); random; grid: every combination."""
    grid_points: int = Field(4, ge=2)
    """Values that a grid takes from a range, both ends included."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Stop trials early that are not among the best 1/reduction_factor once they have trained
    grace_steps, grace_steps * reduction_factor, ... optimiser steps (asha), each seen at the end
    of an epoch; or that are worse than the median of the same epoch (median)."""
    grace_steps: int | None = Field(None, ge=1)
    """Optimiser steps that every trial is given (default: of 2 epochs at train.batch_trs)."""
    reduction_factor: int = Field(3, ge=2)
    """Of so many trials, asha lets one go on."""
    num_samples: Annotated[int | None, Mark.FREE] = Field(None, ge=1)
    """Budget in trials (default: 16; with grid, all combinations)."""
    max_epochs: Annotated[int | None, Mark.FREE] = Field(None, ge=1)
    """Budget in epochs of all trials together (default: none)."""
    max_minutes: Annotated[float | None, Mark.FREE] = Field(None, gt=0)
    """Budget in minutes of wall time, after which running trials are stopped (default: none)."""
    max_concurrent: Annotated[int | None, Mark.FREE] = Field(None, ge=1)
    """Trials that run at the same time (default: as many as fit)."""
    gpus_per_trial: float = Field(1, gt=0, le=1)
    """GPU of a trial with one worker; less than 1 lets trials share a GPU."""
    seeds: Annotated[int, Mark.FREE] = Field(1, ge=1)
    """Seeds that each of the best settings is trained with in all, train.seed and those after it,
    each to its end, once the search is over; the best mean over seeds wins, and the best of its
    trainings is judged. Budgets count them, too. 1: the best trial wins."""
    finalists: Annotated[int, Mark.FREE] = Field(3, ge=1)
    """How many of the best settings are trained with further seeds, of trials that were not stopped
    early."""
    seed: int = Field(0, ge=0)
    """Seed of the search; train.seed is that of each training."""
    resume: Annotated[Name | None, Mark.FREE] = None
    """Name of a sweep to continue: its settings are taken, what is given besides wins."""

    def with_repeats(self, n_trials: int) -> int:
        """Return how many trials there are in all, if the search has so many."""
        return n_trials + (self.seeds - 1) * min(self.finalists, n_trials)

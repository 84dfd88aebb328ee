"""Settings of a training: its course, loss, optimiser and workers, and where runs are kept."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_serializer, field_validator, model_validator

from giblet_ray.errors import nearest
from giblet_ray.evaluation.score import MEASURED, VAL_PEARSON, metric_name
from giblet_ray.kinds import Family
from giblet_ray.settings import Columns, Group, Mark, Spelling, tuple_of_one

STEPS, LEAST_EPOCHS = 120, 5
"""How long a training lasts, where its settings do not say: docs/models.md has what decides it."""

SEED = "train.seed"
"""What trainings of the same settings differ in: chance."""

CHECKPOINTS_UNDER_WAY = 2
"""Checkpoints that may be written while training goes on; with one more, it waits. Each is a copy
of weights and optimizer in memory."""


class LossSettings(Family):
    """A loss."""

    built_in: ClassVar[dict[str, str]] = {"encoding": "giblet_ray.training.config:LossConfig"}

    kind: str = ""
    """encoding, or the import path of a loss of your own, such as my_lab.losses:Huber."""


class LossConfig(LossSettings):
    """Loss = MSE of z-scored BOLD + correlation_weight * (1 - mean over voxels of Pearson r)."""

    kind: str = "encoding"
    """encoding, or the import path of a loss of your own, such as my_lab.losses:Huber."""
    correlation_weight: float = Field(1.0, ge=0)
    """Weight of the correlation term; r is taken over the TRs of the global batch."""


class OptimizerConfig(Group):
    """AdamW, with a learning rate that warms up and then falls along a cosine, batch by batch."""

    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly to its peak."""
    min_lr_fraction: float = Field(0.01, ge=0, le=1)
    """Learning rate at the last step, as a share of the peak."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay of matrices and kernels (biases, norms, embeddings have none)."""
    head_weight_decay: float | None = Field(None, ge=0)
    """That of heads, which have most of the weights and the least data for each (default: 30 where
    they are linear, else as all others)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this global norm."""


class TrainConfig(Group):
    """The course of a training."""

    epochs: int = Field(0, ge=0)
    """Passes over the training TRs; 0: as many as make 120 optimiser steps, but at least 5."""
    batch_trs: int = Field(128, ge=2)
    """BOLD TRs per optimiser step, over all workers and accumulated parts together, in as many
    windows as there is room for."""
    accumulation: int = Field(1, ge=1)
    """Parts that a worker's share of a batch is computed in, one after another, to save memory."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 on GPUs that have it, else fp32."""
    seed: int = Field(0, ge=0)
    """Seed of the weights, the order of the data and dropout."""
    freeze: Literal["none", "trunk"] = "none"
    """trunk: heads alone are trained, on the trunk that init_from gives, which predicts without
    dropout and keeps BatchNorm's statistics."""
    metrics: Annotated[Columns, Spelling("PATH,PATH,...")] = ()
    """Further validation metrics, functions of your own by import path, such as
    my_lab.metrics:spearman, which is logged as val/spearman; each by a name of its own."""
    score: str = VAL_PEARSON
    """Validation metric by which the best epoch, trial and model are chosen; one whose name ends in
    loss, mse or error is better when lower."""
    patience: int = Field(0, ge=0)
    """Epochs without a better score after which training stops; 0: never."""
    checkpoint_every_steps: Annotated[int, Mark.FREE] = Field(0, ge=0)
    """Steps between checkpoints within an epoch; 0: only after each epoch."""
    log_every_steps: Annotated[int, Mark.FREE] = Field(10, ge=1)
    """Steps between the points of the training curves."""

    @field_validator("metrics")
    @classmethod
    def _have_names_of_their_own(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        taken = dict.fromkeys(MEASURED, "the one that every run has")
        for path in paths:
            name = metric_name(path)
            if name in taken:
                raise ValueError(
                    f"{path} would be logged as {name}, as {taken[name]} is; give the function "
                    "another name"
                )
            taken[name] = path
        return paths

    @model_validator(mode="after")
    def _score_is_measured(self) -> Self:
        measured = [*MEASURED, *map(metric_name, self.metrics)]
        if self.score not in measured:
            raise ValueError(
                f"score is {self.score!r}{nearest(self.score, measured)}; "
                f"{', '.join(measured)} are measured"
            )
        return self


class ScalingConfig(Group):
    """Workers, and what each is given."""

    num_workers: Annotated[
        tuple[int, ...], BeforeValidator(tuple_of_one), Spelling("N or MIN,MAX")
    ] = (1,)
    """Training workers; with GPUs, one GPU each. MIN,MAX: elastic, as many as the cluster has room
    for; a run that grows or shrinks goes on from its latest checkpoint."""
    resize_seconds: float = Field(60, gt=0)
    """How often an elastic run looks whether it can grow."""
    use_gpu: bool | None = None
    """Train on GPUs (default: where the cluster has any)."""
    cpus_per_worker: float = Field(1, gt=0)
    """CPU cores reserved for each worker."""
    max_failures: int = Field(3, ge=0)
    """Restarts from the latest checkpoint after a worker died, in a row without another checkpoint
    between them, before the run fails."""
    wait_minutes: float = Field(60, gt=0)
    """How long a run waits, in all, for machines that a fixed number of workers has room on."""

    @field_validator("num_workers")
    @classmethod
    def _workers_are_a_number_or_a_range(cls, workers: tuple[int, ...]) -> tuple[int, ...]:
        if len(workers) not in (1, 2) or workers[0] < 1 or workers[-1] < workers[0]:
            found = ",".join(map(str, workers)) or "empty"
            raise ValueError(f"num_workers is {found}; N or MIN,MAX is accepted, such as 4 or 2,8")
        return workers[:1] if workers[0] == workers[-1] else workers

    @field_serializer("num_workers")
    def _workers_as_given(self, workers: tuple[int, ...]) -> int | tuple[int, ...]:
        return workers if self.is_elastic else workers[0]

    @property
    def min_workers(self) -> int:
        """Workers that a run starts with at the least."""
        return self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """Workers that a run has at the most."""
        return self.num_workers[-1]

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        return len(self.num_workers) == 2


class StorageConfig(Group):
    """Where runs are kept."""

    path: str = "runs"
    """Folder or URI (s3://...) that holds one folder of checkpoints per run."""

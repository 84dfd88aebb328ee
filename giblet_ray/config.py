"""Every job's settings: typed, documented with their units, validated once.

A job's class is filled from its command line, its ``--config`` YAML file and the environment
(``GIBLET_RAY_MODEL__EMBED_DIM=32``), in that order of precedence; :mod:`giblet_ray.cli` does the
reading. Inner parts of the package receive the plain values that they need, not the whole
configuration.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from giblet_ray.dataset.config import HRF_SECONDS, DataConfig
from giblet_ray.errors import nearest
from giblet_ray.evaluation.score import MEASURED, VAL_PEARSON, metric_name
from giblet_ray.features.resample import Resampling
from giblet_ray.kinds import Family, families, read_settings
from giblet_ray.models.config import ModelSettings, MultimodalConfig
from giblet_ray.parts.codes import CodesConfig
from giblet_ray.parts.frames import FramesConfig
from giblet_ray.parts.mel import MelConfig
from giblet_ray.parts.text import EmbeddingConfig
from giblet_ray.secrets import refuse_secrets
from giblet_ray.settings import (
    Columns,
    ExperimentName,
    Group,
    Mark,
    Name,
    Names,
    Paths,
    RunName,
    RunNames,
    Spelling,
    tuple_of_one,
)

# --- training ---------------------------------------------------------------------------------


class LossSettings(Family):
    """A loss."""

    built_in: ClassVar[dict[str, str]] = {"encoding": "giblet_ray.config:LossConfig"}

    kind: str = ""
    """encoding, or the import path of a loss of your own, such as my_lab.losses:Huber."""


class LossConfig(LossSettings):
    """Loss = MSE of z-scored BOLD + correlation_weight * (1 - mean over voxels of Pearson r)."""

    kind: str = "encoding"
    """encoding, or the import path of a loss of your own, such as my_lab.losses:Huber."""
    correlation_weight: float = Field(0.5, ge=0)
    """Weight of the correlation term; r is taken over the TRs of the global batch."""


class OptimizerConfig(Group):
    """AdamW, with a learning rate that warms up and then falls along a cosine, batch by batch."""

    lr: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly to its peak."""
    min_lr_fraction: float = Field(0.01, ge=0, le=1)
    """Learning rate at the last step, as a share of the peak."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay of matrices and kernels (biases, norms, embeddings have none)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this global norm."""


class TrainConfig(Group):
    """The course of a training."""

    epochs: int = Field(20, ge=1)
    """Passes over the training TRs."""
    batch_size: int = Field(64, ge=2)
    """Windows per optimiser step, over all workers and accumulated parts together."""
    accumulation: int = Field(1, ge=1)
    """Parts that a worker's share of a batch is computed in, one after another, to save memory."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 on GPUs that have it, else fp32."""
    seed: int = Field(0, ge=0)
    """Seed of the weights, the order of the data and dropout."""
    metrics: Annotated[Columns, Spelling("PATH,PATH,...")] = ()
    """Further held-out metrics, functions of your own by import path, such as
    my_lab.metrics:spearman, which is logged as val/spearman."""
    score: str = VAL_PEARSON
    """Held-out metric by which the best epoch, trial and model are chosen; one whose name ends in
    loss, mse or error is better when lower."""
    patience: int = Field(0, ge=0)
    """Epochs without a better score after which training stops; 0: never."""
    checkpoint_every_steps: Annotated[int, Mark.FREE] = Field(0, ge=0)
    """Steps between checkpoints within an epoch; 0: only after each epoch."""
    log_every_steps: Annotated[int, Mark.FREE] = Field(10, ge=1)
    """Steps between the points of the training curves."""

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


# --- sweep ----------------------------------------------------------------------------------


class SweepConfig(Group):
    """Which trainings to try, how many, and when to give one up."""

    space: dict[str, Any] | None = None
    """Settings to search, by dotted name. Choices: model.embed_dim=16,32,64 or
    model.kernel_sizes=[3,5,7],[3,7,15]; a range: optimizer.lr=1e-4..1e-2:log. In YAML, a list or
    {min: 1e-4, max: 1e-2, log: true}. Default: embed_dim, audio_codebooks and kernel_sizes."""
    search: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: learn from the trials that are done (Optuna); random; grid: every combination."""
    grid_points: int = Field(4, ge=2)
    """Values that a grid takes from a range, both ends included."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Stop trials early that are not among the best 1/reduction_factor at epochs grace_epochs,
    grace_epochs * reduction_factor, ... (asha), or that are worse than the median (median)."""
    grace_epochs: int = Field(2, ge=1)
    """Epochs that every trial is given."""
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
    seed: int = Field(0, ge=0)
    """Seed of the search; train.seed is that of each training."""
    resume: Annotated[Name | None, Mark.FREE] = None
    """Name of a sweep to continue: its settings are taken, what is given besides wins."""


# --- precompute -----------------------------------------------------------------------------


class ScanConfig(Group):
    """BOLD: how scans are read. They are not z-scored here: that is done per split, in training."""

    pattern: str = "sub-{subject}"
    """Where a scan's file name tells its {subject}, with several films its {stimulus}, and, of a
    film that somebody saw several times, the {repeat}."""
    detrend: bool = False
    """Remove each voxel's linear trend."""
    smoothing_fwhm_mm: float | None = Field(None, gt=0)
    """Full width at half maximum of Gaussian smoothing (mm)."""
    confounds: Columns = ()
    """Columns of fMRIPrep's confounds tables to regress out."""
    confounds_path: str | None = None
    """Folder of the confounds tables, or the one table of a single scan (default: each scan's
    own folder)."""
    crop_start_trs: int = Field(0, ge=0)
    """TRs cut from the start of every scan, so that it begins with its film."""
    crop_stop_trs: int = Field(0, ge=0)
    """TRs cut from the end of every scan, so that it ends with its film."""
    dtype: Literal["float16", "float32"] = "float32"
    """Number format on disk."""


# --- jobs -----------------------------------------------------------------------------------


def train_and_time() -> str:
    """Return a name for a run that was not given one: ``train-20261122-182801``."""
    return f"train-{datetime.now():%Y%m%d-%H%M%S}"


class PreflightConfig(Group):
    """Whether the job fits, said with numbers before anything is done."""

    only: bool = False
    """Say it, and stop: nothing is written, no GPU is booked. --preflight is short for it."""

    @model_validator(mode="before")
    @classmethod
    def _a_switch_is_short_for_only(cls, given: Any) -> Any:
        return {"only": given} if isinstance(given, bool) else given


class TrainingPreflightConfig(PreflightConfig):
    """Whether the job fits; in brief, it is said at the start of each training and sweep."""

    force: bool = False
    """Go on although what is surely needed does not fit."""

    @model_validator(mode="after")
    def _one_way_is_chosen(self) -> Self:
        if self.only and self.force:
            raise ValueError("stops, and --preflight.force goes on: give one of the two")
        return self


class Job(BaseSettings):
    """What every job takes."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_prefix="GIBLET_RAY_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    config: str | None = Field(None, exclude=True)
    """YAML file (path or URI) with any of these settings; the command line wins over it."""
    preflight: PreflightConfig = Field(PreflightConfig(), exclude=True)
    debug: bool = Field(False, exclude=True)
    """Show the traceback of an error."""
    packages: Columns = Field((), exclude=True)
    """Packages of your own whose code may be imported where what is in storage names it, such as
    the model of a run; code that is named here, by an import path, is imported in any case."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but arguments: only the command line may look into the environment."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _nothing_secret_is_given(cls, settings: Any) -> Any:
        refuse_secrets(settings)
        return settings

    @field_validator("*", mode="before")
    @classmethod
    def _settings_of_their_kind(cls, given: Any, info: ValidationInfo) -> Any:
        family = families(cls).get(str(info.field_name))
        if family is None:
            return given
        packages = info.data.get("packages", ())
        return read_settings(family, given, packages, f"--{info.field_name}.kind")

    @property
    def starts_ray(self) -> bool:
        """Whether it runs on a Ray cluster, one of this machine's own if it joins none."""
        return True


class TrainJob(Job):
    """Train an encoding model on a data set."""

    dataset: Annotated[str, Mark.FREE]
    """Folder or URI of the data set."""
    name: Annotated[Name, Mark.FREE] = Field(default_factory=train_and_time)
    """Name of the run; an unfinished run of this name is continued where it stopped."""
    data: DataConfig = DataConfig()
    model: SerializeAsAny[ModelSettings] = MultimodalConfig()
    loss: SerializeAsAny[LossSettings] = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    scaling: Annotated[ScalingConfig, Mark.FREE] = ScalingConfig()
    storage: Annotated[StorageConfig, Mark.FREE] = StorageConfig()
    tracking: Annotated[TrackingConfig, Mark.FREE] = TrackingConfig()
    preflight: Annotated[TrainingPreflightConfig, Mark.FREE] = Field(
        TrainingPreflightConfig(), exclude=True
    )


def sweep_and_time() -> str:
    """Return a name for a sweep that was not given one: ``sweep-20261122-182801``."""
    return f"sweep-{datetime.now():%Y%m%d-%H%M%S}"


class TuneJob(TrainJob):
    """Search settings: train many encoding models on one data set, and find the best."""

    dataset: Annotated[str, Mark.FREE] = ""
    """Folder or URI of the data set (needed, but to resume)."""
    name: Annotated[Name, Mark.FREE] = Field(default_factory=sweep_and_time)
    """Name of the sweep."""
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="after")
    def _dataset_is_given(self) -> Self:
        if not self.dataset and self.sweep.resume is None:
            raise ValueError("--dataset is missing: folder or URI of the data set")
        return self


class CompareJob(Job):
    """Compare the trainings of an experiment: which is best, by how much, and why."""

    experiment: ExperimentName | None = None
    """Experiment whose trainings are compared (default: tracking.experiment)."""
    metric: str = VAL_PEARSON
    """Metric by which runs are ranked, taken at each run's best epoch."""
    runs: RunNames = ()
    """Names or ids of the runs (default: all trainings, sweeps' trials among them)."""
    sweep: RunName | None = None
    """Name of a sweep: only its trials are compared (default: none)."""
    pair: Annotated[RunNames, Spelling("NAME,NAME")] = ()
    """Two runs whose paired difference is shown (default: the best against the second best)."""
    dataset: str | None = None
    """Folder or URI of the data set, if it is not where the runs were trained on it."""
    permutations: int = Field(2000, ge=99)
    """Random permutations of the paired test; where the blocks allow no more different ones, each
    is taken once."""
    block_seconds: float = Field(HRF_SECONDS, ge=HRF_SECONDS)
    """Seconds of BOLD that are permuted together; at least the haemodynamic response."""
    seed: int = Field(0, ge=0)
    """Seed of permutations, bootstrap and importance."""
    out: str | None = None
    """Folder for the page, figures and tables (default: comparison/EXPERIMENT)."""
    tracking: TrackingConfig = TrackingConfig()

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`."""
        return False

    @model_validator(mode="after")
    def _pair_is_two(self) -> Self:
        if len(self.pair) not in (0, 2) or len(set(self.pair)) < len(self.pair):
            found = ",".join(self.pair)
            raise ValueError(f"--pair is {found}; two different runs are accepted")
        return self


class PromoteJob(Job):
    """Make a run's best model the one that others use: an alias in MLflow's model registry."""

    run: RunName | None = None
    """Name or id of the run whose model is promoted (or else give best_of)."""
    best_of: RunName | None = None
    """Name or id of the sweep whose best trial is promoted."""
    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_-]+$")
    """What the model is called from now on: models:/MODEL_NAME@ALIAS."""
    model_name: str = Field("giblet-encoder", pattern=r"^[A-Za-z0-9_.-]+$")
    """Registered model that the run's becomes a version of."""
    force: bool = False
    """Promote a model that is worse than the present one, or cannot be compared with it."""
    tracking: TrackingConfig = TrackingConfig()

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`."""
        return False

    @model_validator(mode="after")
    def _one_is_chosen(self) -> Self:
        if (self.run is None) == (self.best_of is None):
            raise ValueError("one of --run RUN and --best-of SWEEP is needed")
        if self.alias.lower() == "latest" or self.alias.lower().removeprefix("v").isdigit():
            raise ValueError(f"--alias {self.alias}: MLflow keeps latest, 1, v1, ... for itself")
        return self


class PredictJob(Job):
    """Predict the BOLD response to any films with shards, scans or not."""

    model: str
    """models:/NAME@ALIAS or models:/NAME/VERSION of MLflow's registry, or the folder or URI of a
    run or checkpoint."""
    dataset: str
    """Folder or URI of the data set."""
    out: str
    """Folder or URI for the predictions: per stimulus a parquet file and one like the scans that
    the model was trained on (NIfTI, .npy), and predictions.json."""
    stimuli: Names = ()
    """Stimuli to predict the response to (default: all in the data set)."""
    subject: Name | None = None
    """Subject whose response is predicted, by a model that tells them apart (default: the only
    one that it was trained on)."""
    batch_trs: int = Field(64, ge=1)
    """TRs that are predicted at a time."""
    use_gpu: bool | None = None
    """Predict on GPUs (default: where the cluster has any)."""
    overwrite: bool = False
    """Replace other predictions in the folder."""
    tracking: TrackingConfig = TrackingConfig()


class PrecomputeJob(Job):
    """Turn films, subtitles and scans into a data set; started again, go on where it stopped."""

    out: str
    """Folder or URI of the data set to write, or to verify; on a cluster, all machines see it."""
    film: Paths = ()
    """Films with sound: any file that FFmpeg reads, seen by all machines. A film's file name
    without its ending is the stimulus's name."""
    text: Paths = ()
    """One per film, in the same order: subtitles (.srt .vtt .ass) or a table (.csv .tsv .xlsx).
    Without any, the data set has no text."""
    array: dict[str, str] = {}
    """Arrays of your own, each a part of the data set, by the part's name: clip=clip.npy
    gaze=gaze.tsv (.npy .npz .h5 .tsv .csv .parquet). Of (TRs, numbers), or of (samples, numbers)
    with times in seconds from the film's start. With several films, {stimulus} in a file's name
    stands for the film's: clip=features/{stimulus}.npy."""
    resampling: dict[str, Resampling] = {}
    """How arrays with times become one row per TR, by the part's name: mean, over the samples in
    the TR (default: mean), or nearest, the sample nearest the TR's middle: gaze=nearest."""
    part: Annotated[Columns, Spelling("PATH PATH ...")] = ()
    """Parts of your own that are computed from the films, by import path: my_lab.motion:Motion.
    Their code is imported, here and on all machines."""
    part_settings: dict[str, Any] = {}
    """Settings of your own parts: motion.bands=8."""
    bold: Paths = ()
    """Scans of these films: .nii .nii.gz .npy .h5 .hdf5. Without any, the data set serves for
    predicting responses, not for training."""
    mask: str | None = None
    """Brain mask (3-D NIfTI) that all scans share; NIfTI scans need one."""
    check: bool = False
    """Verify the data set at --out instead of writing one, and print what is in it; the other
    settings are not used."""
    tr_seconds: float = Field(1.5, gt=0)
    """Duration of one fMRI volume (s)."""
    row_group_trs: int = Field(64, ge=1)
    """TRs per row group, the unit of reading."""
    frames: FramesConfig = FramesConfig()
    codes: CodesConfig = CodesConfig()
    mel: MelConfig = MelConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    scan: ScanConfig = ScanConfig()

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`; a data set is verified without."""
        return not self.check


class DemoJob(Job):
    """Make a film with scans whose noise ceiling is known, and run the main job on it."""

    out: str = "demo"
    """Folder for the film, its scans, the data set and the runs."""
    n_trs: int = Field(360, ge=120)
    """Length of the film (TRs of 1.5 s)."""
    seed: int = Field(0, ge=0)
    """Seed of the film and of the noise."""

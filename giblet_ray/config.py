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
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from giblet_ray.dataset.config import HRF_SECONDS, DataConfig
from giblet_ray.evaluation.score import VAL_PEARSON
from giblet_ray.features.resample import Resampling
from giblet_ray.kinds import families, read_settings
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.parts.codes import CodesConfig
from giblet_ray.parts.frames import FramesConfig
from giblet_ray.parts.mel import MelConfig
from giblet_ray.parts.motion_energy import MotionEnergyConfig
from giblet_ray.parts.sound import SoundConfig
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
)
from giblet_ray.spaces.config import HighPass, ScanConfig
from giblet_ray.tracking.config import TrackingConfig
from giblet_ray.training.config import (
    LossConfig,
    LossSettings,
    OptimizerConfig,
    ScalingConfig,
    StorageConfig,
    TrainConfig,
)
from giblet_ray.tuning.config import SweepConfig


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

    is_sent: ClassVar[bool] = True
    """Whether a submission has all of its code; see .rayignore."""
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
    init_from: str | None = None
    """Folder or URI of a run, or checkpoint, whose weights are begun with, all but the heads: what
    decides them (data set, parts, lag, split, model) is taken from there where it is not given."""
    model: SerializeAsAny[ModelSettings] = MultimodalConfig()  # before what it may fix
    data: DataConfig = Field(DataConfig(), validate_default=True)
    loss: SerializeAsAny[LossSettings] = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = Field(TrainConfig(), validate_default=True)
    scaling: Annotated[ScalingConfig, Mark.FREE] = ScalingConfig()
    storage: Annotated[StorageConfig, Mark.FREE] = StorageConfig()
    tracking: Annotated[TrackingConfig, Mark.FREE] = TrackingConfig()
    preflight: Annotated[TrainingPreflightConfig, Mark.FREE] = Field(
        TrainingPreflightConfig(), exclude=True
    )

    @property
    def as_its_model(self) -> Self:
        """The job with its model's own lag and decay of heads, where none are given."""
        data, optimizer = self.data, self.optimizer
        if data.lag_seconds is None:
            data = data.model_copy(update={"lag_seconds": self.model.lag_seconds})
        if optimizer.head_weight_decay is None:
            decay = self.model.head_weight_decay
            optimizer = optimizer.model_copy(update={"head_weight_decay": decay})
        return self.model_copy(update={"data": data, "optimizer": optimizer})

    @model_validator(mode="after")
    def _trunk_has_learned(self) -> Self:
        if self.train.freeze != "none" and self.init_from is None:
            raise ValueError(
                f"--train.freeze {self.train.freeze}: has learned nothing without --init-from RUN"
            )
        return self

    @field_validator("data", "train")
    @classmethod
    def _as_the_model_fixes(cls, group: Group, info: ValidationInfo) -> Group:
        model = info.data.get("model", MultimodalConfig())
        fixed = model.fixed.get(str(info.field_name), {})
        for name, value in fixed.items():
            given = getattr(group, name)
            if name in group.model_fields_set and given != value:
                raise ValueError(
                    f"{name} is {given}; with model.kind {model.kind} it is {value}: leave it out"
                )
        return group.model_copy(update=fixed) if fixed else group


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

    @model_validator(mode="after")
    def _trials_have_one_fold(self) -> Self:
        if self.data.split.fold == "all":
            raise ValueError(
                "--data.split.fold all: trials are chosen by validation TRs of one fold; search in "
                "one of them, and train all folds with the best settings (jobs/train.py)"
            )
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
    """Random rotations behind the paired test's family-wise p."""
    error_seconds: float = Field(HRF_SECONDS, ge=HRF_SECONDS)
    """Errors are taken to last so many seconds at least, or as long as measured; at least the
    haemodynamic response."""
    seed: int = Field(0, ge=0)
    """Seed of rotations and importance."""
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


class EvaluateJob(Job):
    """Judge finished runs on their test TRs, which nothing was chosen on."""

    run: Annotated[Columns, Field(min_length=1), Spelling("RUN RUN ...")]
    """Names of runs below storage.path, folders or URIs of runs or checkpoints, registered models
    (models:/NAME@ALIAS), or names or ids of runs and sweeps in MLflow (of a sweep: its best)."""
    dataset: str | None = None
    """Folder or URI of the data set, if it is not where the runs were trained on it."""
    out: str | None = None
    """Folder or URI for tables, maps and report.html, one folder per run (default: evaluation)."""
    ridge: bool = True
    """Set banded ridge beside each run; it is fitted once per data set, split, parts and units."""
    ceiling: str = "none"
    """Noise ceiling: repeats (explainable variance) or split_half, both from repeats of the test
    TRs; an .npy file of each unit's, as r; or none. subjects: the shared ceiling, from subjects who
    saw the same test TRs, which r is not divided by."""
    partition: Literal["none", "product", "subsets", "permuted", "retrained"] = "none"
    """Which part carries the prediction: product, parts' shares in the R2 of the banded ridge
    beside the run; subsets, unique and shared R2 by banded ridge fitted to every set of parts;
    retrained, the same by the run's own model, trained on every set; permuted, what the run's model
    loses when blocks of a part's TRs change places; or none."""
    atlas: str | None = None
    """Label image on the units' grid (3-D NIfTI, .dlabel.nii, or .label.gii of both hemispheres),
    or atlases/{subject}.nii.gz: adds a table by region (units, r, ceiling, share significant, what
    parts carry)."""
    atlas_names: str | None = None
    """Table of what its labels are called (.tsv .txt .csv; default: the one beside the atlas that
    has its name)."""
    permutations: int = Field(1000, ge=99)
    """Shifts of BOLD that say what chance gives, and rotations of the paired test."""
    resamples: int = Field(1000, ge=100)
    """Resamples of blocks of TRs that intervals are from."""
    seed: int = Field(0, ge=0)
    """Seed of shifts and resamples."""
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`; ridge is fitted on the cluster."""
        return self.ridge or self.partition == "retrained"

    @model_validator(mode="after")
    def _partition_has_its_ridge(self) -> Self:
        if self.partition in ("product", "subsets") and not self.ridge:
            raise ValueError(
                f"--partition {self.partition} is of banded ridge, which --ridge false leaves "
                "out; permuted and retrained do without"
            )
        return self

    @field_validator("ceiling")
    @classmethod
    def _ceiling_is_known(cls, ceiling: str) -> str:
        known = ("none", "repeats", "split_half", "subjects")
        if ceiling not in known and not ceiling.endswith(".npy"):
            raise ValueError(
                f"ceiling is {ceiling!r}; {', '.join(known)} or an .npy file is accepted"
            )
        return ceiling


class PromoteJob(Job):
    """Make a run's best model the one that others use: an alias in MLflow's model registry."""

    run: RunName | None = None
    """Name or id of the run whose model is promoted (or else give best_of, or stack)."""
    best_of: RunName | None = None
    """Name or id of the sweep whose best trial is promoted."""
    stack: Annotated[RunNames, Spelling("RUN RUN ...")] = ()
    """Names or ids of runs that are stacked into one model first: a convex combination of their
    predictions, unit by unit, found on validation TRs. With best_of, its best trial is one more."""
    top: int | None = Field(None, ge=2)
    """So many of the best trials of best_of are stacked."""
    name: Name | None = None
    """Name of the stack's run (default: from what its members are)."""
    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_-]+$")
    """What the model is called from now on: models:/MODEL_NAME@ALIAS."""
    model_name: str = Field("giblet-encoder", pattern=r"^[A-Za-z0-9_.-]+$")
    """Registered model that the run's becomes a version of."""
    force: bool = False
    """Promote a model that is worse than the present one, or cannot be compared with it."""
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def stacks(self) -> bool:
        """Whether runs are stacked first."""
        return bool(self.stack) or self.top is not None

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`."""
        return False

    @model_validator(mode="after")
    def _one_is_chosen(self) -> Self:
        if (self.run is None) == (self.best_of is None and not self.stack):
            raise ValueError("one of --run RUN, --best-of SWEEP and --stack RUN RUN ... is needed")
        if self.top is not None and self.best_of is None:
            raise ValueError(f"--top {self.top} is of the trials of a sweep: give --best-of SWEEP")
        if self.name is not None and not self.stacks:
            raise ValueError(f"--name {self.name} is that of a stack: give --stack or --top")
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
    """Subject whose response is predicted, by a model that tells them apart, or group: nobody in
    particular (default: the only one that it was trained on, or group where there is that head)."""
    format: str | None = None
    """Write one file in the form of others instead, of all subjects that samples names:
    algonauts2025, a submission to that challenge (out is then its .zip), or the import path of a
    form of your own, my_lab.formats:Mine (default: none)."""
    samples: Paths = ()
    """Files, or patterns of files, that say how many BOLD TRs of each stimulus a form has: of
    algonauts2025 the challenge's own, sub-01_friends-s7_fmri_samples.npy of each subject."""
    without: Names = ()
    """Parts that are left out, as data.modalities calls them (audio); the model must have been
    trained with model.modality_dropout, and the data set need not have them (default: none)."""
    batch_trs: int = Field(64, ge=1)
    """TRs that are predicted at a time."""
    use_gpu: bool | None = None
    """Predict on GPUs (default: where the cluster has any)."""
    overwrite: bool = False
    """Replace other predictions in the folder."""
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _format_has_its_samples(self) -> Self:
        if (self.format is None) != (not self.samples):
            raise ValueError("--format NAME and --samples FILE FILE ... are given together")
        for name in ("subject", "stimuli"):
            if self.format is not None and (given := getattr(self, name)):
                found = given if isinstance(given, str) else ",".join(given)
                raise ValueError(
                    f"--{name} {found}: --samples says whose response to what --format asks for"
                )
        return self


class PrecomputeJob(Job):
    """Turn films, subtitles and scans into a data set; started again, go on where it stopped."""

    out: str
    """Folder or URI of the data set to write, or to verify; on a cluster, all machines see it."""
    film: Paths = ()
    """Films, or sound alone: any file that FFmpeg reads, seen by all machines. A film's file name
    without its ending is the stimulus's name. Of several sound tracks that which players play is
    read; film.mkv::2 is the film with its second. Names may be patterns, here and of text and bold:
    films/s[1-6]/*a.mkv."""
    film_pattern: Annotated[Columns, Field(min_length=1), Spelling("PATTERN PATTERN ...")] = (
        "{stimulus}",
    )
    """Where the films' file names, without their ending, tell the {stimulus}, such as
    friends_{stimulus} where scans are named after s01e02a alone; of several patterns the first
    that a name is like."""
    film_lengths: Literal["exact", "trim"] = "exact"
    """exact: the pictures and the sound of a film end within a TR of one another. trim: either may
    end before; TRs that have both are taken, and what else there is is listed."""
    text: Paths = ()
    """One per film, in the same order, none for a film without: subtitles (.srt .vtt .ass), a table
    (.csv .tsv .xlsx) of utterances or of words (columns word, start_seconds, stop_seconds), or
    aligned words (.TextGrid, gentle's .json). Or where they lie, {stimulus} being a film's name:
    texts/*/{stimulus}.tsv, of several the first that is there, and none where there need be none.
    Without any, the data set has no text."""
    array: dict[str, str] = {}
    """Arrays of your own, each a part of the data set, by the part's name: clip=clip.npy
    gaze=gaze.tsv (.npy .npz .h5 .tsv .csv .parquet). Of (TRs, numbers), or of (samples, numbers)
    with times in seconds from the film's start. With several films, {stimulus} in a file's name
    stands for the film's: clip=features/{stimulus}.npy."""
    resampling: dict[str, Resampling] = {}
    """How arrays with times become one row per TR, by the part's name: mean, over the samples in
    the TR (default: mean), or nearest, the sample nearest the TR's middle: gaze=nearest."""
    pretrained: dict[str, str] = {}
    """Networks of the Hugging Face library (pip install 'giblet_ray[pretrained]') whose layers
    become parts, by name: dino=facebook/dinov2-large clip=FOLDER; or vjepa2, dinov2, whisper,
    wav2vec_bert, llama alone, with the settings of those who predict films best. Their settings:
    part_settings."""
    part: Annotated[Columns, Spelling("PATH PATH ...")] = ()
    """Parts of your own that are computed from the films, by import path: my_lab.motion:Motion.
    Their code is imported, here and on all machines."""
    part_settings: dict[str, Any] = {}
    """Settings of your own parts, motion.bands=8, and of pretrained networks: dino.layers=0.5,1
    dino.rate_hz=4; they have model, revision, reads, layers, rate_hz, clip_seconds, pictures,
    context_words, pooling and batch."""
    bold: Paths = ()
    """Scans of these films: .nii .nii.gz, .func.gii (hemi-L and hemi-R), .dtseries.nii, .npy .h5
    .hdf5 .hf5, or file.h5::key of several in a file. Without any, the data set serves for
    predicting responses, not for training."""
    bids: str | None = None
    """Folder of fMRIPrep's derivatives, whose scans are found by their names, with masks, TR and,
    from events.tsv, films and their onsets: instead of --bold and --scan.pattern."""
    task: str | None = None
    """Task of the scans (bids)."""
    space: str | None = None
    """Space of the scans, with resolution or density where there are several (bids):
    MNI152NLin2009cAsym, fsaverage5, fsLR:91k (default: the only one that there is)."""
    subjects: Names = ()
    """Subjects whose scans are taken (bids; default: all)."""
    stimuli: str | None = None
    """Folder of the films (bids), with their texts beside them, under the same names."""
    bids_raw: str | None = None
    """Folder of the raw BIDS data set, which has the events (default: that around the
    derivatives)."""
    mask: str | None = None
    """Brain mask (3-D NIfTI) that all scans share, or masks/{subject}.nii.gz; NIfTI scans need one,
    or an atlas."""
    atlas: str | None = None
    """Label image in the space of the scans (3-D NIfTI, .dlabel.nii, or .label.gii of both
    hemispheres), or atlases/{subject}.nii.gz: units are then its parcels, each the mean of its
    voxels, or the columns of scans that are arrays."""
    atlas_names: str | None = None
    """Table of what the labels are called (.tsv .txt .csv; default: the one beside the atlas that
    has its name). All labels in it are units; those without a voxel are masked."""
    compare_films: bool = True
    """Compare the films with one another, and each with itself: intervals of 8 s or more that show
    or sound the same are listed in the manifest, and a split keeps them in one set. Each pair of
    films of 10 minutes takes 9 ms of a CPU: those of 2,000 films 5 hours; false does without."""
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
    sound: SoundConfig = SoundConfig()
    motion_energy: MotionEnergyConfig = MotionEnergyConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    scan: ScanConfig = ScanConfig()

    @model_validator(mode="after")
    def _bids_has_its_settings(self) -> Self:
        of_bids = ("task", "space", "subjects", "stimuli", "bids_raw")
        if self.bids is None:
            for name in of_bids:
                if getattr(self, name):
                    raise ValueError(f"--{name} is given without --bids, whose scans it chooses")
            return self
        if self.task is None or not (self.stimuli or self.film):
            missing = "--task" if self.task is None else "--stimuli"
            raise ValueError(f"{missing} is missing: --bids DERIVATIVES --task T --stimuli FOLDER")
        if self.bold or self.scan.table is not None:
            raise ValueError("--bids finds the scans: leave out --bold and --scan.table")
        return self

    @model_validator(mode="after")
    def _one_way_to_confounds(self) -> Self:
        if self.scan.strategy and (self.scan.confounds or self.scan.confounds_path):
            raise ValueError(
                "--scan.strategy chooses columns of the tables beside the scans: leave out "
                "--scan.confounds and --scan.confounds_path"
            )
        return self

    @property
    def starts_ray(self) -> bool:
        """See :class:`Job`; a data set is verified without."""
        return not self.check


class DemoJob(Job):
    """Make a film with scans whose noise ceiling is known, and run the main job on it."""

    is_sent: ClassVar[bool] = False
    out: str = "demo"
    """Folder for the film, its scans, the data set and the runs."""
    n_trs: int = Field(360, ge=120)
    """Length of the film (TRs of 1.5 s)."""
    seed: int = Field(0, ge=0)
    """Seed of the film and of the noise."""
    fast_features: float = Field(0.25, ge=0, le=1)
    """How much light, loudness and speech change within scenes, every 1.5 to 4 s; 0: not."""
    own_tuning: float = Field(0.1, ge=0, le=1)
    """Share of each subject's signal that no other subject's tuning has."""
    interaction: float = Field(0.05, ge=0, le=1)
    """Share of the signal that follows luminance times loudness, which no linear model knows."""
    drift: float = Field(1.0, ge=0)
    """Slow drift of each scan, in SDs of the signal."""
    repeats: int = Field(2, ge=1)
    """Times that each subject is scanned watching the film, from which --ceiling repeats is
    estimated."""
    high_pass_seconds: HighPass = Field(128.0, gt=0)
    """High-pass of the scans (s), or none, with which drift is noise; the ceiling is that of what
    it leaves."""
    embedding: EmbeddingConfig = EmbeddingConfig()

    def made(self) -> dict[str, Any]:
        """Return what the film and its scans are made with."""
        same = ("n_trs", "fast_features", "own_tuning", "interaction", "drift")
        made = {name: getattr(self, name) for name in (*same, "high_pass_seconds", "seed")}
        return made | {"n_repeats": self.repeats}

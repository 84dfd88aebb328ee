"""What a run reads of a data set, and which TRs it holds out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from giblet_ray.settings import Group, Mark, Name, Names, tuple_of_one

Modalities = Annotated[tuple[Name, ...], BeforeValidator(tuple_of_one), Field(min_length=1)]

Repeats = Annotated[tuple[PositiveInt, ...], BeforeValidator(tuple_of_one)]

HRF_SECONDS = 20.0
"""Time in which the response to a brief stimulus, undershoot included, is nearly over
(Glover 1999, doi:10.1006/nimg.1998.0419, figure 7)."""

LAG_SECONDS = 4.5
"""About when the response to a brief stimulus peaks: what a model answers with that sees one TR."""


class SplitConfig(Group):
    """Which TRs fit, which choose (validation) and which judge (test): whole blocks, stimuli or
    repeats, never random TRs; the same for every model and lag."""

    kind: Literal["blocks", "stimuli", "repeats"] = "blocks"
    """blocks: contiguous blocks of every stimulus; stimuli: the ones named in val_stimuli and
    test_stimuli; repeats: the scans of the repeats in val_repeats and test_repeats."""
    val_fraction: float = Field(0.12, gt=0, lt=1)
    """Share of a stimulus's TRs, gaps aside, that choose (blocks)."""
    test_fraction: float = Field(0.3, gt=0, lt=1)
    """Share of a stimulus's TRs, gaps aside, that judge, in whole haemodynamic responses
    (blocks)."""
    blocks: int | None = Field(None, ge=1)
    """Blocks of validation and of test TRs in each stimulus (default: few and long ones, as many as
    keep the gaps within a tenth of it)."""
    gap_seconds: float = Field(HRF_SECONDS, ge=HRF_SECONDS)
    """Seconds left out between the sets; at least the haemodynamic response."""
    val_stimuli: Names = ()
    """Stimuli that choose (stimuli)."""
    test_stimuli: Names = ()
    """Stimuli that judge (stimuli)."""
    val_repeats: Repeats = ()
    """Repeats whose scans choose (repeats)."""
    test_repeats: Repeats = ()
    """Repeats whose scans judge (repeats): their films have trained."""
    folds: int = Field(1, ge=1)
    """Folds: every TR is test in one of so many runs, and validation lies inside the rest."""
    fold: int | Literal["all"] = 1
    """Which of them; all: a run of each, by its own name, side by side where there is room."""
    same: Annotated[str | None, Mark.FREE] = None
    """.tsv of intervals of films that show the same, which are kept in one set: columns group,
    stimulus, start_seconds, stop_seconds (default: those that precompute found). A run keeps the
    intervals: the file may be moved, and is needed no more to go on or to judge."""

    @property
    def fold_index(self) -> int:
        """Which fold, from 0."""
        return 0 if self.fold == "all" else self.fold - 1

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        for kind in ("stimuli", "repeats"):
            val, test = (getattr(self, f"{name}_{kind}") for name in ("val", "test"))
            needed = self.kind == kind and self.folds == 1
            if needed != bool(val) or needed != bool(test):
                raise ValueError(
                    f"val_{kind} and test_{kind} must both be given when, and only when, kind is "
                    f"{kind!r} and there is one fold"
                )
            if both := set(val) & set(test):
                raise ValueError(f"val_{kind} and test_{kind} share {', '.join(map(str, both))}")
        return self

    @model_validator(mode="after")
    def _fractions_leave_training(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction:g} and test_fraction {self.test_fraction:g} "
                "leave no TR to train; their sum must be below 1"
            )
        return self

    @model_validator(mode="after")
    def _fold_is_one(self) -> Self:
        if self.fold != "all" and not 1 <= self.fold <= self.folds:
            raise ValueError(f"fold {self.fold}: 1 to {self.folds} (folds), or all, is accepted")
        if self.folds > 1 and self.kind == "repeats":
            raise ValueError("folds are of kind 'blocks' or 'stimuli', not 'repeats'")
        return self


class DataConfig(Group):
    """What is read from the data set, and how."""

    modalities: Annotated[Modalities, Mark.READ] = ("video", "audio", "text")
    """Parts of the stimulus that the model sees: video, audio, text, and any other part of the
    data set by its name; an ablation is a subset."""
    audio: Annotated[Literal["encodec", "mel"], Mark.READ] = "encodec"
    """Form of the audio: EnCodec codes or mel spectrograms."""
    subjects: Annotated[Names, Mark.JUDGED] = ()
    """Subjects to train on (default: all in the data set)."""
    voxels: Annotated[str | None, Mark.JUDGED, Mark.FREE] = None
    """What to predict (default: all units): an .npy file of a boolean mask (voxels,) or indices,
    where subjects differ one of each: masks/{subject}.npy; names of parcels, with * for anything:
    V1,*_Aud_*; or regions of a label image: atlas:schaefer.nii.gz::*_Vis_*. A run keeps the
    indices: the file may be moved, and is needed no more to predict."""
    lag_seconds: float | None = Field(None, ge=0)
    """Haemodynamic lag: BOLD at time t is paired with the stimulus at t - lag, to the nearest TR
    (default: 0 for models with memory or delays, which find it, 4.5 for others)."""
    window: int | None = Field(None, ge=1)
    """Length of a sample: consecutive TRs that share their context (default: one TR where the model
    has no context, else so many that context is at most a quarter of what is read, as far as films
    and train.batch_trs allow)."""
    residence: Annotated[Literal["auto", "device", "memory", "stream"], Mark.FREE] = "auto"
    """Where the data stays while training: on each GPU, in the node's object store, or on disk. A
    run that begins by streaming draws another order, and keeps it."""
    split: Annotated[SplitConfig, Mark.JUDGED] = SplitConfig()

    def lag_trs(self, tr_seconds: float) -> int:
        """Return the lag in TRs; that of a model that sees one TR, unless it is given."""
        return round((LAG_SECONDS if self.lag_seconds is None else self.lag_seconds) / tr_seconds)

    @model_validator(mode="after")
    def _modalities_are_distinct(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities names one twice: {', '.join(self.modalities)}")
        return self

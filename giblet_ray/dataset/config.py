"""What a run reads of a data set, and which TRs it holds out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from giblet_ray.settings import Group, Mark, Name, Names, tuple_of_one

Modalities = Annotated[tuple[Name, ...], BeforeValidator(tuple_of_one), Field(min_length=1)]

HRF_SECONDS = 20.0
"""Time in which the response to a brief stimulus, undershoot included, is nearly over
(Glover 1999, doi:10.1006/nimg.1998.0419, figure 7)."""


class SplitConfig(Group):
    """Which TRs are held out for validation: whole blocks or whole stimuli, never random TRs."""

    kind: Literal["blocks", "stimuli"] = "blocks"
    """blocks: contiguous blocks of every stimulus; stimuli: the ones named in val_stimuli."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of every stimulus's TRs that is held out (blocks)."""
    val_blocks: int = Field(4, ge=1)
    """Number of held-out blocks per stimulus (blocks)."""
    gap_seconds: float = Field(HRF_SECONDS, ge=HRF_SECONDS)
    """Seconds left out between training and held-out TRs; at least the haemodynamic response."""
    val_stimuli: Names = ()
    """Stimuli that are held out whole (stimuli)."""

    @model_validator(mode="after")
    def _stimuli_are_named(self) -> Self:
        if (self.kind == "stimuli") != bool(self.val_stimuli):
            raise ValueError("val_stimuli must name stimuli when, and only when, kind is 'stimuli'")
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
    """.npy file of the voxels to predict: a boolean mask (voxels,) or indices (default: all). A run
    keeps the indices: the file may be moved, and is needed no more to predict."""
    lag_trs: int = Field(3, ge=0)
    """Haemodynamic lag: stimulus at TR t is paired with BOLD at TR t + lag."""
    window: int = Field(1, ge=1)
    """Length of a sample: consecutive TRs."""
    residence: Annotated[Literal["auto", "device", "memory", "stream"], Mark.FREE] = "auto"
    """Where the data stays while training: on each GPU, in the node's object store, or on disk. A
    run that begins by streaming draws another order, and keeps it."""
    split: Annotated[SplitConfig, Mark.JUDGED] = SplitConfig()

    @model_validator(mode="after")
    def _modalities_are_distinct(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities names one twice: {', '.join(self.modalities)}")
        return self

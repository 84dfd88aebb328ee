"""What a comparison found, before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.comparison.heldout import ScoredRun
from giblet_ray.comparison.importance import Importance
from giblet_ray.comparison.runs import ComparedRun, RunGroup
from giblet_ray.evaluation.interval import Interval
from giblet_ray.evaluation.long_run import LEAST_COSINES
from giblet_ray.evaluation.paired import PairedTest


@dataclass(frozen=True)
class Pair:
    """Two runs on the TRs that both hold out."""

    a: ComparedRun
    b: ComparedRun
    """The runs; differences are a - b."""
    test: PairedTest
    """Of the two mean r."""
    scored_a: ScoredRun
    scored_b: ScoredRun
    """How well each predicts them."""

    @property
    def n_voxels(self) -> int:
        """Scored voxels."""
        return int(np.isfinite(self.scored_a.pearson_V).sum())

    @property
    def warning(self) -> str:
        """Why the test can tell little, if it can."""
        if self.test.n_cosines > LEAST_COSINES:
            return ""
        return (
            f"{self.test.n_trs:,} validation TRs are few beside how long errors last: the test "
            "sees large differences alone, and its p is somewhat too small; hold out more or "
            "longer stretches (data.split), or scan longer"
        )


@dataclass(frozen=True)
class ComparedGroup:
    """Runs that may be ranked together, with all that is known about them."""

    group: RunGroup
    """Its runs, best first."""
    settings: Sequence[str]
    """Dotted names of settings that differ, the most important first."""
    importance: Importance
    """Of these settings."""
    intervals: Mapping[str, Interval]
    """Of the mean r over stretches of validation TRs, by run id, of the best few runs that could be
    predicted with."""
    pearson: Mapping[str, NDArray[np.float64]]
    """(V,) r of each voxel, by run id, of the best few runs whose checkpoints could be read."""
    pairs: Sequence[Pair]
    """Each two of the best few runs, over TRs that all of these hold out; none where there are no
    more than two."""


@dataclass(frozen=True)
class Comparison:
    """All runs that were compared."""

    experiment: str
    uri: str
    metric: str
    """What was asked for."""
    groups: Sequence[ComparedGroup]
    """The largest first."""
    labels: Mapping[str, str]
    """What to call each run, by its id."""
    pair: Pair | None
    """The two runs that were chosen, or the best two."""
    notes: Sequence[str]
    """What a reader must know to read the numbers rightly."""

"""Settings of a stack: what its members are. They are found, not given: see jobs/promote.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from giblet_ray.models.config import FittedSettings
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class Member(Group):
    """A finished run, as a stack holds it."""

    weights: str
    """Checksum of its weights."""
    score: float | None
    """What it was chosen by, on validation TRs."""
    carries: float
    """Its weight in the stack: mean over units, then subjects."""
    lag_trs: int = Field(ge=0)
    """TRs by which its BOLD follows the stimulus."""
    context_trs: int = Field(ge=0)
    """TRs of stimulus before the predicted one that it sees."""
    model: dict[str, Any]
    """Its settings."""
    encoders: dict[str, str]
    """Kind of encoder that reads each part, in the order of the parts."""
    values: dict[str, ValueType]
    """What one row holds that it reads."""
    leading: dict[str, int]
    """How many entries of a row's first axis it reads, of parts that it does not read whole."""


class StackConfig(FittedSettings):
    """Finished runs, stacked (jobs/promote.py --stack)."""

    trains: ClassVar[bool] = False
    kind: str = "stack"
    """stack."""
    members: dict[str, Member] = Field(min_length=2)
    """By name of the run."""
    subjects: Literal["each", "shared"] = "each"
    """each: every subject has weights of its own; shared: all have the same, as their heads."""
    shrinkage: dict[str, float] = Field({})
    """How far units' own weights were shrunk to the common ones, 0 to 1, by subject; of shared
    weights, ``all``."""

    @property
    def films_may_lack_parts(self) -> bool:
        """See :attr:`ModelSettings.films_may_lack_parts`."""
        return True

    @property
    def head_per_subject(self) -> bool:
        """See :attr:`FittedSettings.head_per_subject`."""
        return self.subjects == "each"

    @property
    def lag_trs(self) -> int:
        """TRs by which BOLD follows the last stimulus TR that a member sees."""
        return min(member.lag_trs for member in self.members.values())

    def context_trs(self, tr_seconds: float) -> int:
        """See :meth:`FittedSettings.context_trs`: as far back as the member that sees furthest."""
        reach = (member.lag_trs + member.context_trs for member in self.members.values())
        return max(reach) - self.lag_trs

    def leading_of(self, encoders: Mapping[str, str]) -> dict[str, int]:
        """See :meth:`FittedSettings.leading_of`: the most that a member reads."""
        found = {}
        for part in encoders:
            readers = [each for each in self.members.values() if part in each.encoders]
            if readers and all(part in each.leading for each in readers):
                found[part] = max(each.leading[part] for each in readers)
        return found

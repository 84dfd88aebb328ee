"""The space that a sweep searches: any setting of a training, by its dotted name.

Written as text on a command line or as lists and mappings in YAML, and defined once for grid,
random and TPE search::

    model.embed_dim=16,32,64                    choices
    model.kernel_sizes=[3,5,7],[3,7,15]         choices, each of them a list
    optimizer.lr=1e-4..1e-2:log                 a range, drawn and divided on a logarithmic scale
    model.audio_codebooks=2..8                  a range of whole numbers
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from giblet_ray.config import TrainJob
from giblet_ray.errors import InputError, nearest
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.settings import setting_fields
from giblet_ray.training.config import SEED

SEARCHED_GROUPS = ("data", "model", "loss", "optimizer", "train")
"""Groups of settings that decide what a training learns."""

_SHARED = "data.residence"
"""Where the rows lie that all trials share."""
_SCORING = ("train.score", "data.split.", "data.subjects", "data.voxels")
"""Settings that decide what the score is, and which TRs and voxels it is a mean over."""

Settings = dict[str, Any]
"""Values by dotted name, as JSON holds them."""


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]
    """As JSON holds them."""

    def to_optuna(self, value: Any) -> Any:
        """Return what Optuna calls a value."""
        return self.values.index(value)

    def from_optuna(self, drawn: Any) -> Any:
        """Return the value that Optuna drew."""
        return self.values[drawn]

    def points(self, n: int) -> list[Any]:
        """Return the values that a grid visits: all."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Attributes
    ----------
    low, high : int or float
        Ends; whole numbers where the setting is one.
    log : bool
        Whether ratios count, not differences.
    """

    low: float
    high: float
    log: bool

    @property
    def is_whole(self) -> bool:
        """Whether the setting takes whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def to_optuna(self, value: Any) -> Any:
        """Return what Optuna calls a value."""
        return value

    def from_optuna(self, drawn: Any) -> Any:
        """Return the value that Optuna drew."""
        return drawn

    def points(self, n: int) -> list[Any]:
        """Return the values that a grid visits: n, evenly spaced."""
        spaced = np.geomspace if self.log else np.linspace
        points = spaced(self.low, self.high, n)
        if self.is_whole:
            return [int(point) for point in np.unique(np.rint(points))]
        # The ends exactly: spacing on a logarithmic scale rounds.
        return [self.low, *points[1:-1].tolist(), self.high]


Domain = Choice | Range
Space = dict[str, Domain]


def parse_space(text: Mapping[str, Any], base: TrainJob) -> Space:
    """Check a space against the settings of a training.

    Parameters
    ----------
    text : mapping of str to object
        Dotted name -> text, list or mapping, as the module's head shows.
    base : TrainJob
        Settings of all trials, but for those that are searched.

    Raises
    ------
    InputError
        For an empty space, an unknown name (the nearest is suggested), a setting that is the same
        for all trials, that is chance or that decides what they are scored on, or a value that the
        setting does not take.
    """
    if not text:
        raise InputError(
            "--sweep.space is empty; name at least one setting, such as model.embed_dim=16,32,64"
        )
    known = [
        name for name, _ in setting_fields(base) if name in TrainJob.model_fields or "." in name
    ]
    space: Space = {}
    for name, written in text.items():
        if name not in known:
            raise InputError(f"--sweep.space {name}: no such setting{nearest(name, known)}")
        group = name.partition(".")[0]
        if group not in SEARCHED_GROUPS or name.endswith(".kind") or name == _SHARED:
            raise InputError(
                f"--sweep.space {name}: is the same for all trials; other settings of "
                f"{', '.join(SEARCHED_GROUPS)} can be searched"
            )
        if name == SEED:
            raise InputError(
                f"--sweep.space {name}: is chance, no value of which is better than another; "
                "--sweep.seeds N trains the best trials with N seeds"
            )
        if Score(base.train.score).is_decided_by(name):
            raise InputError(
                f"--sweep.space {name}: decides what {base.train.score} is, so that its values "
                f"cannot be ranked by it; choose by --train.score {VAL_PEARSON}, or sweep for "
                "each"
            )
        if name.startswith(_SCORING):
            raise InputError(
                f"--sweep.space {name}: decides what is scored, so that its values cannot be "
                "ranked against one another; run a sweep for each"
            )
        space[name] = _checked(name, _domain(name, written), base)
    return space


def settings_key(settings: Mapping[str, Any]) -> str:
    """Return what is equal of equal settings, and can be kept in a set."""
    return json.dumps(settings, sort_keys=True)


def with_settings(base: TrainJob, settings: Mapping[str, Any]) -> TrainJob:
    """Return the training that a job describes, with some of its settings replaced.

    Raises
    ------
    InputError
        If they contradict one another.
    """
    whole = {**base.model_dump(include=set(TrainJob.model_fields)), "packages": base.packages}
    for name, value in settings.items():
        *groups, field = name.split(".")
        group = whole
        for part in groups:
            group = group[part]
        group[field] = value
    try:
        return TrainJob(**whole)
    except ValidationError as error:
        problem = error.errors()[0]
        reason = problem.get("ctx", {}).get("error") or problem["msg"].removeprefix("Input ")
        shown = ", ".join(f"{name}={show_value(value)}" for name, value in settings.items())
        raise InputError(f"--sweep.space {shown}: {reason}") from error


def setting(job: TrainJob, name: str) -> Any:
    """Return a setting by its dotted name, as JSON holds it."""
    value: Any = job.model_dump(mode="json")
    for part in name.split("."):
        value = value[part]
    return value


def show_value(value: Any) -> str:
    """Return a value as a user writes it: ``3,7,15``."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def grid(space: Space, n_points: int) -> list[Settings]:
    """Return every combination of the space's values, `n_points` of each range."""
    combinations: list[Settings] = [{}]
    for name, domain in space.items():
        combinations = [
            {**so_far, name: value} for so_far in combinations for value in domain.points(n_points)
        ]
    return combinations


def n_combinations(space: Space) -> float:
    """Return how many different settings there are; infinite with a range of real numbers."""
    sizes = [
        len(domain.values)
        if isinstance(domain, Choice)
        else domain.high - domain.low + 1
        if domain.is_whole
        else math.inf
        for domain in space.values()
    ]
    return math.prod(sizes)


def _domain(name: str, written: Any) -> Domain:
    """Read one domain, its values as they were written."""
    accepted = "values such as 16,32,64 or a range such as 1e-4..1e-2:log are accepted"
    if isinstance(written, str) and ".." in written:
        ends, _, scale = written.partition(":")
        low, _, high = ends.partition("..")
        if scale not in ("", "log"):
            raise InputError(f"--sweep.space {name}={written}: found scale {scale!r}; {accepted}")
        return _range(name, low, high, scale == "log")
    if isinstance(written, Mapping):
        if not {"min", "max"} <= written.keys() <= {"min", "max", "log"}:
            keys = ", ".join(map(str, written))
            raise InputError(f"--sweep.space {name}: found keys {keys}; min, max, log are accepted")
        return _range(name, written["min"], written["max"], bool(written.get("log", False)))
    if isinstance(written, str):
        try:
            written = yaml.safe_load(f"[{written}]")
        except yaml.YAMLError as error:
            raise InputError(f"--sweep.space {name}={written}: {accepted}") from error
    if not isinstance(written, Sequence):
        written = [written]
    if not written:
        raise InputError(f"--sweep.space {name}: has no value; {accepted}")
    return Choice(tuple(written))


def _range(name: str, low: Any, high: Any, log: bool) -> Range:
    try:
        ends = float(low), float(high)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--sweep.space {name}: the range {low}..{high} needs two numbers"
        ) from error
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise InputError(f"--sweep.space {name}: the range {low}..{high} must rise")
    if log and ends[0] <= 0:
        raise InputError(f"--sweep.space {name}: the range {low}..{high}:log must begin above 0")
    return Range(*ends, log)


def _checked(name: str, domain: Domain, base: TrainJob) -> Domain:
    """Let the setting's own type read every value, and refuse what it refuses."""

    def read(value: Any) -> Any:
        return setting(with_settings(base, {name: value}), name)

    if isinstance(domain, Range):
        low, high = read(domain.low), read(domain.high)
        if isinstance(low, bool) or not isinstance(low, int | float):
            raise InputError(f"--sweep.space {name}: is not a number; list its values instead")
        return Range(low, high, domain.log)
    if isinstance(setting(base, name), list):
        for value in domain.values:
            if not isinstance(value, list):
                raise InputError(
                    f"--sweep.space {name}: found {value}; each choice is a list in brackets, "
                    f"such as {name}=[{value}],[...]"
                )
    values = tuple(read(value) for value in domain.values)
    shown = [json.dumps(value) for value in values]
    if len(set(shown)) < len(shown):
        raise InputError(f"--sweep.space {name}: a value is named twice")
    return Choice(values)

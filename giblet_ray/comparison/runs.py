"""Trainings as they are compared: their settings, their scores, and who may be ranked with whom."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from giblet_ray.config import TrainJob
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.settings import Mark, marked_settings
from giblet_ray.training.config import SEED

_JUDGED = marked_settings(TrainJob, Mark.JUDGED)
"""With the data set, these decide which TRs and voxels a score is taken over."""
_UNNAMED = _JUDGED | marked_settings(TrainJob, Mark.FREE)
"""Settings that are not named among those that differ."""
_SAME_SETTINGS = {*marked_settings(TrainJob, Mark.FREE), SEED}
"""Settings in which runs of the same settings may differ."""
_SHORT = 12


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One training."""

    id: str
    name: str
    """In MLflow."""
    sweep: str | None
    """Name of the sweep that it is a trial of."""
    status: str
    cause: str
    """FINISHED, RUNNING, KILLED or FAILED as MLflow calls it, or STOPPED by its sweep; and why
    (empty where unknown)."""
    folder: str
    """Folder or URI with the run's checkpoints."""
    dataset: str
    dataset_name: str
    """Checksum of the data set (empty where it was not recorded) and its folder's name."""
    commit: str
    """Git commit of the code (empty where unknown)."""
    seconds: float
    """Wall time from start to end, or until now."""
    settings: Mapping[str, Any]
    """Values by dotted name."""
    curves: Mapping[str, Mapping[int, float]]
    """For each metric of epochs, its values by epoch."""
    logged_best: Mapping[str, float] = field(default_factory=dict)
    """Validation metrics of the best epoch, as far as they were logged when the training ended."""

    @property
    def score(self) -> Score:
        """What its best epoch was chosen by."""
        return Score(self.settings.get("train.score", VAL_PEARSON))

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose checkpoint is kept, or None before one was scored."""
        scores = self.curves.get(self.score.name, {})
        return self.score.best(sorted(scores), scores.get)

    def value(self, metric: str) -> float | None:
        """Return a metric at the best epoch, or None where it was not measured."""
        value = self.logged_best.get(metric)
        if value is None and self.best_epoch is not None:
            value = self.curves.get(metric, {}).get(self.best_epoch)
        return value if value is not None and math.isfinite(value) else None

    @property
    def epochs(self) -> int:
        """Epochs that were completed."""
        return max(self.curves.get(self.score.name, {}), default=0)

    @property
    def rows_per_second(self) -> float | None:
        """Median over epochs of the speed of training."""
        speeds = sorted(self.curves.get("train/rows_per_second", {}).values())
        return speeds[len(speeds) // 2] if speeds else None

    def grouping(self, metric: str) -> dict[str, Any]:
        """Return what must be equal for two runs' values of a metric to be about the same thing."""
        score = Score(metric)
        decides = {
            name: value
            for name, value in self.settings.items()
            if name in _JUDGED or score.is_decided_by(name)
        }
        return {"data set": self.dataset[:32], **dict(sorted(decides.items()))}

    @property
    def is_done(self) -> bool:
        """Whether it trained for as long as it was meant to."""
        return self.status == "FINISHED"


@dataclass(frozen=True)
class RunGroup:
    """Runs whose scores are about the same TRs and voxels."""

    title: str
    """Data set, and whatever tells the group from the others."""
    grouping: dict[str, Any]
    """What is equal in all of them; see :meth:`ComparedRun.grouping`."""
    ranked: tuple[ComparedRun, ...]
    """Best first."""
    unranked: tuple[ComparedRun, ...]
    """Those without a score."""

    @property
    def runs(self) -> tuple[ComparedRun, ...]:
        """All of them."""
        return self.ranked + self.unranked


def parse_setting(text: str) -> Any:
    """Return the value of a setting from what MLflow keeps of it; lists become tuples.

    A text that is no value of a setting, as the name ``12j``, which is a number to Python, is
    itself.
    """
    try:
        return _frozen(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        return text


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, dict | set):
        return str(value)
    is_setting = isinstance(value, int | float | str | None)
    if not is_setting or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"no setting is {value!r}")
    return value


def show_setting(value: Any) -> str:
    """Return a setting's value as a user types it, numbers with four digits."""
    if isinstance(value, tuple):
        return ",".join(map(show_setting, value)) or "default"
    if value is None:
        return "default"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Whether a setting's value lies on a scale."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def setting_order(values: Iterable[Any]) -> list[Any]:
    """Return distinct values in the order that a reader expects: by size, sets by their members."""

    def key(value: Any) -> tuple[int, Any, str]:
        if is_number(value):
            return 1, (value,), ""
        if isinstance(value, tuple) and value and all(map(is_number, value)):
            return 2, value, ""
        return 0 if value is None else 3, (), show_setting(value)

    return sorted(set(values), key=key)


def settings_that_differ(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the dotted names of settings that are not the same in all runs.

    Those that decide the group are left out, and those that change no number. A setting that some
    run has no record of counts as another value.
    """
    names = sorted({name for run in runs for name in run.settings})
    return [
        name
        for name in names
        if name not in _UNNAMED
        and not name.startswith("sweep.")
        and len({run.settings.get(name, "") for run in runs}) > 1
    ]


def by_settings(runs: Iterable[ComparedRun]) -> list[list[ComparedRun]]:
    """Return runs together that differ in their seed alone, in the order of the first of each.

    Runs of two commits are apart: their code differs. Of several with the same seed, such as a
    sweep's best and its settings trained again, the first stands for all: they are one training.
    """
    groups: dict[tuple, dict[Any, ComparedRun]] = {}
    for run in runs:
        told = sorted((k, repr(v)) for k, v in run.settings.items() if k not in _SAME_SETTINGS)
        groups.setdefault((run.commit, *told), {}).setdefault(run.settings.get(SEED), run)
    return [list(by_seed.values()) for by_seed in groups.values()]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return each setting's last part, or its whole dotted name where that would be ambiguous."""
    last = [name.rpartition(".")[2] for name in names]
    return {n: s if last.count(s) == 1 else n for n, s in zip(names, last, strict=True)}


def run_labels(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Return what to call each run, by its id: as little as tells it from the others."""
    spelled = (
        lambda run: run.name,
        lambda run: f"{run.sweep}/{run.name}" if run.sweep else run.name,
        lambda run: f"{run.name} {run.id[:8]}",
    )
    labels: dict[str, str] = {}
    for spell in spelled:
        texts = [spell(run) for run in runs]
        for run, text in zip(runs, texts, strict=True):
            if run.id not in labels and (texts.count(text) == 1 or spell is spelled[-1]):
                labels[run.id] = text
    return labels


def group_runs(runs: Sequence[ComparedRun], metric: str) -> list[RunGroup]:
    """Rank runs, apart where their scores are about other data; the largest group comes first."""
    by_key: dict[tuple, list[ComparedRun]] = {}
    for run in runs:
        by_key.setdefault(tuple(run.grouping(metric).items()), []).append(run)
    groups = []
    differing = _differing_keys([dict(key) for key in by_key])
    for key, members in by_key.items():
        scored = [run for run in members if run.value(metric) is not None]
        scored.sort(key=lambda run: run.name)
        ranked = Score(metric).ranked(scored, lambda run: run.value(metric))
        unranked = tuple(run for run in members if run.value(metric) is None)
        title = _title(members[0], differing)
        groups.append(RunGroup(title, dict(key), tuple(ranked), unranked))
    return sorted(groups, key=lambda group: (-len(group.ranked), group.title))


def differing_grouping(groups: Sequence[RunGroup]) -> list[str]:
    """Return what tells groups apart: the data set, settings of the split, or of the loss."""
    return _differing_keys([group.grouping for group in groups])


def _differing_keys(groupings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for grouping in groupings for name in grouping)
    return [name for name in names if len({grouping.get(name, "") for grouping in groupings}) > 1]


def _title(run: ComparedRun, differing: Sequence[str]) -> str:
    checksum = run.dataset[:_SHORT] or "unknown"
    parts = [f"data set {run.dataset_name} ({checksum})"]
    parts += [
        f"{name.removeprefix('data.')} {show_setting(run.settings.get(name, ''))}"
        for name in differing
        if name != "data set"
    ]
    return ", ".join(parts)


def short_id(text: str) -> str:
    """Return the first characters of a checksum, commit or id, which tell it from others."""
    return text[:_SHORT] + ("-modified" if text.endswith("-modified") else "")

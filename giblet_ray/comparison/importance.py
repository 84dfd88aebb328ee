"""Which settings the score depends on, as far as the runs that were made can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from giblet_ray.comparison.runs import ComparedRun, is_number, setting_order, show_setting

MIN_RUNS = 5
"""With fewer, a forest of regression trees has next to nothing to split."""
_RUNS_PER_SETTING = 10
_LOG_RANGE = 20.0


@dataclass(frozen=True)
class Importance:
    """What part of the variance of the score goes with each setting.

    Attributes
    ----------
    shares : dict
        Share of each setting, by dotted name, the largest first; they add up to 1. Empty where it
        cannot be told.
    n_runs : int
        Runs that it was told from.
    note : str
        How far it can be trusted, or why there is none.
    """

    shares: dict[str, float]
    n_runs: int
    note: str


def setting_importance(
    runs: Sequence[ComparedRun], names: Sequence[str], metric: str, seed: int
) -> Importance:
    """Tell the importance of settings by functional ANOVA (Hutter et al. 2014), through Optuna.

    Parameters
    ----------
    runs : sequence of ComparedRun
        Runs with a score, of one data set and split. The score of a run that was stopped early
        says more about when than about how it was trained: only finished runs count. Where these
        are too few, all runs do, with their scores at the last epoch that each of them reached.
    names : sequence of str
        Dotted names of the settings that differ.
    metric : str
        Name of the score.
    seed : int
        Of the forest.
    """
    done = [run for run in runs if run.is_done]
    scores = [run.value(metric) for run in done]
    told_from = f"{len(done)} finished runs"
    if len(done) < MIN_RUNS and len(runs) >= MIN_RUNS:
        epoch = min(run.epochs for run in runs)
        at_epoch = [(run, run.curves.get(metric, {}).get(epoch)) for run in runs]
        done = [run for run, score in at_epoch if score is not None and math.isfinite(score)]
        scores = [score for _, score in at_epoch if score is not None and math.isfinite(score)]
        told_from = f"{len(done)} runs by their scores at epoch {epoch}, which all of them reached"
    names = [name for name in names if len({_value(run, name) for run in done}) > 1]
    n = len(done)
    if n < MIN_RUNS:
        return Importance({}, n, f"too few runs to tell: {n}, at least {MIN_RUNS} are needed")
    if not names:
        return Importance({}, n, f"no setting differs among the {n} runs")
    if len(set(scores)) == 1:
        return Importance({}, n, f"all {n} runs have the same score")
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    spaces = {name: _distribution([_value(run, name) for run in done]) for name in names}
    for run, score in zip(done, scores, strict=True):
        values = {
            name: _value(run, name)
            if not isinstance(space, optuna.distributions.CategoricalDistribution)
            else show_setting(_value(run, name))
            for name, space in spaces.items()
        }
        study.add_trial(create_trial(params=values, distributions=spaces, value=score))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    enough = _RUNS_PER_SETTING * len(names)
    note = f"from {told_from}"
    if n < enough:
        note += f": a hint, no finding; {len(names)} settings want {enough} or more"
    return Importance({name: float(share) for name, share in found.items()}, n, note)


def is_log_scale(values: Sequence[Any]) -> bool:
    """Whether numbers are so far apart that their logarithms are what should be compared."""
    numbers = [value for value in values if is_number(value)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_RANGE


def is_scale(values: Sequence[Any]) -> bool:
    """Whether a setting's values lie on a scale of numbers: all of them do."""
    return all(map(is_number, values))


def _value(run: ComparedRun, name: str) -> Any:
    return run.settings.get(name, "not recorded")


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if is_scale(values):
        return FloatDistribution(min(values), max(values), log=is_log_scale(values))
    return CategoricalDistribution([show_setting(value) for value in setting_order(values)])

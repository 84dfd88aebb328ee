"""Trials from best to worst, and which of them are trained again with other seeds.

::

    search     0000 0001 0002 ... 0015          trials of --sweep.num_samples
    finalists       0001 ...      0015          the best that ran to their end
    seeds      0016: 0015, seed 1   0017: 0001, seed 1 ...   0019: 0015, seed 2 ...

What settings reach is the mean over their seeds: the best of many trials was lucky, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from giblet_ray.checkpoint.seeds import Seeds
from giblet_ray.evaluation.score import Score
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.journal import TrialRecord
from giblet_ray.tuning.space import Settings, settings_key


def by_score(trials: Sequence[TrialRecord], score: Score) -> list[TrialRecord]:
    """Return trials from best to worst, of equal ones the first first; unscored ones, and then
    those that failed, last: what cannot be trained to its end is nobody's best."""
    in_order = sorted(trials, key=lambda trial: trial.number)
    ranked = score.ranked(in_order, lambda trial: trial.best(score))
    return sorted(ranked, key=lambda trial: trial.state == "failed")


def by_settings(trials: Sequence[TrialRecord], score: Score) -> list[list[TrialRecord]]:
    """Return trials that differ in their seed alone together, the best settings first.

    Of equal settings, trials that ran to their end come first, the best first. Settings of which
    more seeds did, stand before others: they are the finalists. Of as many, those with the better
    mean do.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for trial in sorted(by_score(trials, score), key=lambda trial: not _is_whole(trial, score)):
        groups.setdefault(settings_key(trial.settings), []).append(trial)
    in_order = sorted(groups.values(), key=lambda group: min(trial.number for trial in group))

    def reached(group: list[TrialRecord]) -> float | None:
        if group[0].state == "failed":
            return None
        seeds = seeds_of(group, score)
        return group[0].best(score) if seeds is None else seeds.mean

    def n_seeds(group: list[TrialRecord]) -> int:
        return max(1, len(_one_of_each_seed(group, score)))

    return sorted(score.ranked(in_order, reached), key=lambda group: -n_seeds(group))


def seeds_of(group: Sequence[TrialRecord], score: Score) -> Seeds | None:
    """Return what trials of equal settings reach, if two or more seeds of them ran to their end."""
    whole = _one_of_each_seed(group, score)
    if len(whole) < 2:
        return None
    return Seeds(score=score.name, scores=tuple(trial.best(score) or 0.0 for trial in whole))


def repeats(
    trials: Sequence[TrialRecord], settings: SweepConfig, seed: int, score: Score
) -> list[tuple[Settings, int]]:
    """Return settings and seeds of trainings that are still to come when the search is over.

    Parameters
    ----------
    trials : sequence of TrialRecord
        All so far; those of the search have ended.
    settings : SweepConfig
        How many finalists there are, and seeds of each in all.
    seed : int
        That of the search's trials; others count on from there.
    score : Score
        What trials are chosen by.
    """
    searched = [trial for trial in trials if trial.seed is None and _is_whole(trial, score)]
    best: dict[str, TrialRecord] = {}
    for trial in by_score(searched, score):
        best.setdefault(settings_key(trial.settings), trial)
    finalists = list(best.values())[: settings.finalists]
    others = range(seed + 1, seed + settings.seeds)
    wanted = [(trial.settings, other) for other in others for trial in finalists]
    begun = [(trial.settings, trial.seed) for trial in trials]
    return [each for each in wanted if each not in begun]


def _one_of_each_seed(group: Sequence[TrialRecord], score: Score) -> list[TrialRecord]:
    """Return the trials of equal settings that ran to their end, the best first; of those with one
    seed, which are one training made twice, the best alone."""
    best: dict[int | None, TrialRecord] = {}
    for trial in by_score([trial for trial in group if _is_whole(trial, score)], score):
        best.setdefault(trial.seed, trial)
    return list(best.values())


def _is_whole(trial: TrialRecord, score: Score) -> bool:
    return trial.state == "finished" and trial.best(score) is not None

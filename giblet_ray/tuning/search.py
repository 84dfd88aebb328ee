"""What to try next, and whether a trial is worth going on with: Optuna, without hidden state.

The search knows nothing of how trials are run. Its random numbers are drawn from (seed, trial,
attempt), and all else that it knows follows from the trials so far, so that a sweep that was
killed goes on from its records alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from giblet_ray.evaluation.score import Score
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.space import (
    Choice,
    Domain,
    Settings,
    Space,
    grid,
    n_combinations,
    settings_key,
)

DEFAULT_TRIALS = 16
_ATTEMPTS = 20
"""Draws of what was tried already after which TPE chooses no more: what is left is drawn from."""
_STARTUP_TRIALS = 8
"""Random trials before TPE trusts what it has learned."""
_SMALL_SPACE = 10_000
"""Combinations that are still listed, to find those that are left."""


class Search:
    """Chooses settings, and says when to give a trial up.

    Parameters
    ----------
    space : Space
        What is searched.
    settings : SweepConfig
        Method, scheduler, seed and number of trials.
    score : Score
        What is searched for.
    """

    def __init__(self, space: Space, settings: SweepConfig, score: Score) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._settings = space, settings
        self._grace_steps = settings.grace_steps or 1
        direction = StudyDirection.MAXIMIZE if score.higher_is_better else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, pruner=_pruner(settings))
        self._distributions = {name: _distribution(domain) for name, domain in space.items()}
        self._trials: dict[int, optuna.Trial] = {}
        self._seen: set[str] = set()
        self._grid = grid(space, settings.grid_points) if settings.search == "grid" else []
        self._grid_left = (each for each in self._grid if settings_key(each) not in self._seen)

    @property
    def n_trials(self) -> int:
        """Trials that the budget allows, as far as there are different settings."""
        n = self._settings.num_samples
        if self._settings.search == "grid":
            return min(n or len(self._grid), len(self._grid))
        return int(min(n or DEFAULT_TRIALS, n_combinations(self._space)))

    def ask(self, number: int) -> Settings:
        """Return settings that no trial so far has, for the trial of this number (from 0)."""
        if self._grid:
            chosen = next(self._grid_left)
            self._begin(number, chosen)
            return chosen
        few = n_combinations(self._space) <= _SMALL_SPACE
        for attempt in range(_ATTEMPTS) if few else itertools.count():
            self._study.sampler = self._sampler(number, attempt)
            trial = self._study.ask(self._distributions)
            chosen = {
                name: domain.from_optuna(trial.params[name]) for name, domain in self._space.items()
            }
            if settings_key(chosen) not in self._seen:
                self._trials[number] = trial
                self._seen.add(settings_key(chosen))
                return chosen
            self._study.tell(trial, state=TrialState.FAIL)
        left = [
            each for each in grid(self._space, _SMALL_SPACE) if settings_key(each) not in self._seen
        ]
        chosen = left[int(np.random.default_rng([self._settings.seed, number]).integers(len(left)))]
        self._begin(number, chosen)
        return chosen

    def replay(
        self, number: int, settings: Settings, scores: Mapping[int, float], steps: Mapping[int, int]
    ) -> None:
        """Learn of a trial of an earlier session: its settings, its scores and steps by epoch."""
        self._begin(number, settings)
        for epoch, score in sorted(scores.items()):
            self.report(number, epoch, steps[epoch], score)

    def report(self, number: int, epoch: int, steps: int, score: float) -> bool:
        """Take the score of an epoch; return whether to stop the trial.

        Parameters
        ----------
        number : int
            The trial.
        epoch : int
            Which, from 1.
        steps : int
            Optimiser steps that the trial has done. Trials whose batches differ are compared at
            like steps by asha; the median is one of the same epoch.
        score : float
            What is searched for.
        """
        trial = self._trials[number]
        trial.report(score, steps if self._settings.scheduler == "asha" else epoch)
        return steps >= self._grace_steps and trial.should_prune()

    def finish(self, number: int, score: float | None, stopped: bool) -> None:
        """Learn that a trial has ended.

        Parameters
        ----------
        number : int
            The trial.
        score : float or None
            Its best score; None if it failed.
        stopped : bool
            Whether it was given up early.
        """
        trial = self._trials[number]
        if score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        elif stopped:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, score)

    def _begin(self, number: int, settings: Settings) -> None:
        """Make a trial of given settings known to Optuna."""
        self._study.enqueue_trial(
            {name: domain.to_optuna(settings[name]) for name, domain in self._space.items()}
        )
        self._trials[number] = self._study.ask(self._distributions)
        self._seen.add(settings_key(settings))

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        state = np.random.SeedSequence([self._settings.seed, number, attempt]).generate_state(1)
        seed = int(state[0])
        if self._settings.search == "random" or attempt >= _ATTEMPTS:
            return RandomSampler(seed=seed)
        # Trials under way count as bad ones, so that those at the same time differ.
        return TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS, constant_liar=True)


def _distribution(domain: Domain) -> BaseDistribution:
    """Return what Optuna draws from: of choices the index, since they may be lists."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(range(len(domain.values)))
    if domain.is_whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _pruner(settings: SweepConfig) -> optuna.pruners.BasePruner:
    if settings.scheduler == "asha":
        # Asynchronous successive halving: Li et al. 2020, arXiv:1810.05934. A rung is passed at the
        # first report with as many steps.
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=settings.grace_steps or 1, reduction_factor=settings.reduction_factor
        )
    if settings.scheduler == "median":
        # Golovin et al. 2017, doi:10.1145/3097983.3098043, section 3.2.1.
        return optuna.pruners.MedianPruner(n_startup_trials=3)
    return optuna.pruners.NopPruner()

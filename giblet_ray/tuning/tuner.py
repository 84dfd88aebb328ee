"""Ray Tune, told by a sweep what to run next and what to stop."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ray import tune
from ray.tune import Callback, FailureConfig, PlacementGroupFactory, RunConfig, Stopper, TuneConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from giblet_ray.tuning.trial import Shared, TrialConfig, run_trial

_T = TypeVar("_T")
_RESTARTS = 1
"""Times that a trial whose process or node was lost is started again, from its checkpoint."""


class Director(Protocol):
    """Decides what is run."""

    def next_trial(self) -> TrialConfig | None:
        """Return the next trial, or None while no other may start."""

    def is_done(self) -> bool:
        """Whether no trial will start any more."""

    def started(self, number: int) -> None:
        """Learn that a trial has a process."""

    def result(self, number: int, metrics: dict[str, Any]) -> bool:
        """Take what a trial reports; return whether to stop it."""

    def ended(self, number: int, error: str | None) -> None:
        """Learn that a trial has ended, or that its process was lost, with Ray's words for it."""

    def tick(self) -> None:
        """Do what is to be done from time to time."""


def run_trials(
    director: Director, shared: Shared, resources: list[dict[str, float]], at_a_time: int
) -> None:
    """Run trials until the director has no more.

    Parameters
    ----------
    director : Director
        Asked and told in this process.
    shared : Shared
        What all trials have in common.
    resources : list of dict
        What a trial's process reserves.
    at_a_time : int
        Trials that the director lets run at the same time.

    Raises
    ------
    Exception
        The director's first, which ends all trials.
    """
    _calm_ray_tune()
    heard = _Heard(director)
    # All processes start together; by default one is waited for before the next is asked for.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_a_time)
    in_process = shared.job.scaling.max_workers == 1
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, shared=shared), PlacementGroupFactory(resources)
    )
    with tempfile.TemporaryDirectory(prefix="giblet_ray-sweep-") as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=TuneConfig(
                num_samples=-1,  # until the searcher says that it has finished
                search_alg=_Suggestions(heard),
                scheduler=_Decisions(heard),
                # A process that waits for its workers cannot be told to train another trial.
                reuse_actors=in_process,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="trials",
                storage_path=folder,  # Ray Tune's own records, which nothing is read from
                callbacks=[_Events(heard)],
                stop=heard,
                failure_config=FailureConfig(max_failures=_RESTARTS),
                verbose=0,
            ),
        )
        tuner.fit()
    if heard.error is not None:
        raise heard.error


class _NotSaved:
    """Ray Tune pickles what drives it, to restore a run; sweeps go on from their own journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Heard(_NotSaved, Stopper):
    """A director whose first error ends the sweep, and is kept.

    Ray Tune takes an error that the director raises, such as that of storage which is full, for one
    of the trial that it was told of, and starts that again, or gives its traceback in words.
    """

    def __init__(self, director: Director) -> None:
        self._director = director
        self.error: Exception | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Leave it to the decisions which trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Return whether all trials are to be stopped."""
        return self.error is not None

    def next_trial(self) -> TrialConfig | None:
        """Return the director's next trial."""
        return self._ask(None, self._director.next_trial)

    def is_done(self) -> bool:
        """Return whether the director has no more."""
        return self._ask(True, self._director.is_done)

    def started(self, number: int) -> None:
        """Tell the director of a trial's process."""
        self._ask(None, self._director.started, number)

    def result(self, number: int, metrics: dict[str, Any]) -> bool:
        """Tell the director what a trial reports; return whether to stop it."""
        return self._ask(True, self._director.result, number, metrics)

    def ended(self, number: int, error: str | None) -> None:
        """Tell the director of a trial's end."""
        self._ask(None, self._director.ended, number, error)

    def tick(self) -> None:
        """Let the director do what is to be done from time to time."""
        self._ask(None, self._director.tick)

    def _ask(self, otherwise: _T, call: Callable[..., _T], *told: Any) -> _T:
        """Return what the director answers; it is not asked any more once it has failed."""
        if self.error is None:
            try:
                return call(*told)
            except Exception as error:  # noqa: BLE001 - raised once all trials are stopped
                self.error = error
        return otherwise


class _Suggestions(_NotSaved, Searcher):
    """Gives Ray Tune the director's trials."""

    def __init__(self, director: Director) -> None:
        super().__init__()
        self._director = director

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Accept that Ray Tune has neither metric nor space: the director has."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return a trial's configuration, None to be asked later, or that there are no more."""
        if self._director.is_done():
            return Searcher.FINISHED
        trial = self._director.next_trial()
        return None if trial is None else {"trial": trial}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Leave it to the events."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the sweep has its own journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _Decisions(_NotSaved, FIFOScheduler):
    """Asks the director after each report whether the trial goes on."""

    def __init__(self, director: Director) -> None:
        super().__init__()
        self._director = director

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        stop = not result.get("done") and self._director.result(_number(trial), result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class _Events(_NotSaved, Callback):
    """Tells the director when trials start and end."""

    def __init__(self, director: Director) -> None:
        self._director = director

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let time pass."""
        self._director.tick()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell of a trial's start."""
        self._director.started(_number(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell of a trial's end, whether it was stopped or not."""
        self._director.ended(_number(trial), None)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell of the loss of a trial's process."""
        told = trial.error_file
        self._director.ended(_number(trial), Path(told).read_text() if told else "")


def _number(trial: Trial) -> int:
    return trial.config["trial"].number


def _calm_ray_tune() -> None:
    """Leave to the sweep what Ray Tune would do a second time, or say in many lines."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow records
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # causes are in the table
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C closes the sweep
    # A trial that is waiting for its workers to be killed has nothing to clean up.
    os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "10")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "30")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old output can be silent

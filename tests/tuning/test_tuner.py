"""What Ray Tune is told when the sweep's driver fails; Ray Tune's own part is made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from giblet_ray.dataset.retry import StorageError
from giblet_ray.tuning import tuner
from giblet_ray.tuning.trial import TrialConfig


class FailingDirector:
    """Would run trials for ever, but for storage that fails once it is told of something."""

    def __init__(self, fails_at: str) -> None:
        self._fails_at = fails_at
        self.told: list[str] = []

    def _hear(self, what: str) -> None:
        self.told.append(what)
        if what == self._fails_at:
            raise StorageError(f"s3://lab: no space left, for the {len(self.told)}th")

    def next_trial(self) -> TrialConfig | None:
        self._hear("next_trial")
        return TrialConfig(len(self.told), {}, 0)

    def is_done(self) -> bool:
        return False

    def started(self, number: int) -> None:
        self._hear("started")

    def result(self, number: int, metrics: dict[str, Any]) -> bool:
        self._hear("result")
        return False

    def ended(self, number: int, error: str | None) -> None:
        self._hear("ended")

    def tick(self) -> None:
        self._hear("tick")


class MadeUpTuner:
    """Asks and tells as Ray Tune does, one trial at a time, until it is told to stop them all."""

    def __init__(self, trainable: Any, tune_config: Any, run_config: Any) -> None:
        self._searcher, self._scheduler = tune_config.search_alg, tune_config.scheduler
        (self._events,) = run_config.callbacks
        self._stopper = run_config.stop

    def fit(self) -> None:
        while not self._stopper.stop_all():
            config = self._searcher.suggest("id")
            if config is not None:
                trial = SimpleNamespace(config=config, error_file=None)
                self._events.on_trial_start(0, [], trial)
                decision = self._scheduler.on_trial_result(None, trial, {"epoch": 1})
                assert (decision == TrialScheduler.STOP) == self._stopper.stop_all()
                self._events.on_trial_complete(0, [], trial)
            self._events.on_step_end(0, [])


@pytest.mark.parametrize("fails_at", ["next_trial", "started", "result", "ended", "tick"])
def test_the_first_error_of_the_driver_ends_the_sweep_and_is_raised_itself(
    fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = SimpleNamespace(
        Tuner=MadeUpTuner,
        with_parameters=lambda trainable, **shared: trainable,
        with_resources=lambda trainable, resources: trainable,
    )
    monkeypatch.setattr(tuner, "tune", made_up)
    shared: Any = SimpleNamespace(job=SimpleNamespace(scaling=SimpleNamespace(max_workers=1)))
    director = FailingDirector(fails_at)
    with pytest.raises(StorageError, match="no space left") as error:
        tuner.run_trials(director, shared, [{"CPU": 1}], 1)
    assert director.told[-1] == fails_at
    assert str(error.value).endswith(f"for the {len(director.told)}th")

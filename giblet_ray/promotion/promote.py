"""The best model so far, under a name that stays: ``models:/giblet-encoder@champion``.

A model becomes the champion if it is at least as good as the present one, judged on the same
validation TRs of the same data. Any other comparison would mean nothing, and is refused.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from giblet_ray.checkpoint.judged import count_reading
from giblet_ray.checkpoint.record import RECORD, Record, parse_record
from giblet_ray.checkpoint.seeds import Seeds, read_seeds
from giblet_ray.checkpoint.store import Checkpoint, best_checkpoint, is_best
from giblet_ray.config import PromoteJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.choice import best_trial, find_run
from giblet_ray.progress import Show
from giblet_ray.promotion.judged_on import difference
from giblet_ray.tracking.logged_evaluation import log_evaluation
from giblet_ray.tracking.recorded_run import DATASET_TAG, RUN_TAG, RecordedRun
from giblet_ray.tracking.registry import Registered, find_alias, register, set_alias
from giblet_ray.tracking.server import MLFLOW_ERRORS, tracking_errors
from giblet_ray.tracking.store import Store, open_store

_SCORE_TAG = "giblet_ray.score"
"""On a version: the score that it was promoted with."""


@dataclass(frozen=True)
class Promotion:
    """What an alias names now, and what it named before."""

    uri: str
    """``models:/NAME@ALIAS``."""
    version: str
    """Version of the registered model."""
    run: RecordedRun
    """The MLflow run that it is of."""
    record: Record
    """Of its checkpoint."""
    replaced: str | None
    """The model that the alias named before, in words."""
    changed: bool
    """The alias named another model before, or none."""
    test: str = ""
    """What both models reach on the test TRs, which neither was chosen by; empty without
    another."""
    seeds: Seeds | None = None
    """What the run's settings reach with several seeds, where its sweep has trained them."""

    def summary(self) -> dict[str, str]:
        """Return what became of it, for the user to read."""
        replaced = self.replaced or "nothing: it is the first"
        return {
            "model": self.uri,
            "version": f"{self.version}, of run {self.run.name}",
            "MLflow run": self.run.id,
            self.record.chosen_by.label: _value(self.record),
            **({"its settings": self.seeds.in_words()} if self.seeds else {}),
            "data set": (
                f"{self.record.dataset.location}, checksum {self.record.dataset.checksum[:12]}"
            ),
            "replaced": replaced if self.changed else "nothing: it was there already",
            **({"test": self.test} if self.test else {}),
        }


@dataclass(frozen=True)
class _Candidate:
    """A run's best model: its record, and the id of the logged model or else its checkpoint."""

    run: RecordedRun
    record: Record
    kept: str | Checkpoint


def promote(job: PromoteJob, show: Show) -> Promotion:
    """Make a run's best model the one that an alias names.

    With ``job.preflight.only``, say what would be done, and do nothing.

    A run whose model is not in MLflow yet has it logged from its best checkpoint first. What is
    promoted already stays as it is.

    Parameters
    ----------
    job : PromoteJob
        Which run, the best of which sweep, or which runs are stacked; model name and alias.
    show : Show

    Raises
    ------
    InputError
        If there is no such run, or no scored checkpoint of it; or, unless forced, if the model is
        worse than the present one, cannot be compared with it, or is still being trained.
    """
    store = open_store(job.tracking.uri)
    if job.stacks:
        # Here, as others need no torch, which takes seconds to import.
        from giblet_ray.promotion.stack import stack_runs

        stacked = stack_runs(store, job, show)
    with tracking_errors(job.tracking.uri):
        if job.stacks:
            candidate = _candidate(store, stacked)
        elif job.run is not None:
            candidate = _candidate(store, find_run(store, job.run))
        else:
            candidate = _candidate(store, best_trial(store, str(job.best_of)))
            run = candidate.run.name
            show(f"best of {job.best_of}: {run}, {_in_short(candidate.record)}")
        seeds = read_seeds(Storage.at(candidate.run.folder), "")
        return replace(_promote(store, job, candidate, show), seeds=seeds)


def _promote(store: Store, job: PromoteJob, candidate: _Candidate, show: Show) -> Promotion:
    run, uri = candidate.run, f"models:/{job.model_name}@{job.alias}"
    present = find_alias(store, job.model_name, job.alias)
    champion = _record_in(store, present.files) if present else None
    if present and present.run_id == run.id and _equal(champion, candidate.record):
        return Promotion(uri, present.version, run, candidate.record, None, changed=False)
    replaced = _in_words(store, present, champion) if present else None
    doubt = _unfinished(run)
    if doubt is None and replaced is not None:
        doubt = _not_better(candidate, champion, replaced)
    if doubt is not None and not job.force:
        raise InputError(f"run {run.name} {doubt}; --force promotes it all the same")
    if doubt is not None:
        show(f"forced: run {run.name} {doubt}")
    if job.preflight.only:
        return Promotion(uri, "a new one", run, candidate.record, replaced, changed=True)
    model_id = candidate.kept
    if isinstance(model_id, Checkpoint):
        # Here, as most runs have theirs in MLflow, and torch takes seconds to import.
        from giblet_ray.training.report import log_checkpoint

        show(f"logging the model of run {run.name} to MLflow")
        model_id = log_checkpoint(store.uri, run.id, model_id, job.packages)
    version = register(store, job.model_name, model_id, _tags(candidate))
    set_alias(store, job.model_name, job.alias, version)
    test = "" if present is None else _on_test(store, run, present, champion, job, show)
    return Promotion(uri, version, run, candidate.record, replaced, changed=True, test=test)


def _on_test(
    store: Store,
    run: RecordedRun,
    present: Registered,
    champion: Record | None,
    job: PromoteJob,
    show: Show,
) -> str:
    """Say what both models reach on the test TRs: told, and nothing is chosen by it.

    A reading of both runs is counted.
    """
    # Here, so that a first model is promoted without the seconds that torch takes.
    from giblet_ray.judge.beside import beside_in_words

    try:
        former = store.run(present.run_id)
        with ExitStack() as stack:
            before = former.folder
            # A run that was trained further has another best model than the registered one.
            if champion is None or not is_best(before, champion.weights_checksum):
                before = str(stack.enter_context(store.fetch(present.files)))
            said, name = beside_in_words(run.folder, before, job.packages, show)
        key = f"{name}/readings"
        for each in {run.id: run, former.id: former}.values():
            counted = count_reading(Storage.at(each.folder))
            # Where the run's folder is gone, MLflow alone knows of those before.
            readings = max(counted, each.metrics.get(key, 0) + 1)
            log_evaluation(store.uri, each.id, {key: readings}, {})
    except InputError as error:
        return f"cannot be compared: {error}"
    except MLFLOW_ERRORS as error:
        return f"cannot be compared: the model before is out of reach: {error}"
    return said


def _candidate(store: Store, run: RecordedRun) -> _Candidate:
    storage = Storage.at(run.folder)
    checkpoint = best_checkpoint(storage, "")
    record = None if checkpoint is None else checkpoint.record
    kept: str | Checkpoint | None = checkpoint
    for logged_id, files in store.models(run.id).items():
        logged = _record_in(store, files)
        # A run's logged model serves without its folder; beside it, if it is its best checkpoint.
        if logged is not None and (record is None or _equal(logged, record)):
            record, kept = logged, logged_id
            break
    if record is None or kept is None or record.score is None:
        raise InputError(
            f"run {run.name}: no checkpoint that was scored, neither in "
            f"{storage.location} nor in MLflow"
        )
    return _Candidate(run, record, kept)


def _record_in(store: Store, files: str) -> Record | None:
    """Return the record of a logged model's checkpoint, or None if it has none within reach."""
    where = f"{files}/{RECORD}"
    try:
        return parse_record(store.read(where) or "", where)
    except InputError:
        return None


def _unfinished(run: RecordedRun) -> str | None:
    if run.status != "RUNNING":
        return None
    return "is still running, or was killed: let it end (started again, it continues)"


def _not_better(candidate: _Candidate, champion: Record | None, present: str) -> str | None:
    """Say why a candidate should not replace the present model, if it should not."""
    if champion is None:
        return f"cannot be compared with {present}: what that was judged on is out of reach"
    if (differs := difference(candidate.record, champion)) is not None:
        return f"cannot be compared with {present}: {differs}"
    one, other = candidate.record.score, champion.score
    if one != other and not champion.chosen_by.is_better(one, other):
        return f"is worse ({_in_short(candidate.record)}) than {present}"
    return None


def _in_words(store: Store, present: Registered, record: Record | None) -> str:
    try:
        run = store.run(present.run_id).name
    except MLFLOW_ERRORS:
        run = present.run_id or "unknown"
    score = f", {_in_short(record)}" if record else ""
    return f"version {present.version} (run {run}{score})"


def _tags(candidate: _Candidate) -> dict[str, str]:
    """Return what the registry's page shows of a version."""
    record = candidate.record
    best = record.position.history[-1]
    return {
        RUN_TAG: candidate.run.folder,
        DATASET_TAG: record.dataset.checksum,
        _SCORE_TAG: repr(record.score),
        **{f"best/{name}": repr(value) for name, value in best.items() if "val/" in name},
    }


def _equal(one: Record | None, other: Record | None) -> bool:
    """Compare records as they are written, in which not-a-number equals itself."""
    return repr(one) == repr(other)


def _value(record: Record) -> str:
    return f"{record.score:.5f}"


def _in_short(record: Record) -> str:
    return f"{record.chosen_by.short} {_value(record)}"

"""One MLflow run per training: opened, described and closed by the job that drives it."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunData,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from giblet_ray.submission import submitted_commit
from giblet_ray.tracking.points import RunAddress
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.recorded_run import COMMIT_TAG, DATASET_TAG, IDENTITY_TAG, RUN_TAG
from giblet_ray.tracking.server import check_server, tracking_errors
from giblet_ray.tracking.sqlite import absolute_uri, make_store, store_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("giblet_ray", "ray", "torch", "mlflow", "pyarrow", "numpy", "encodec")
_TABLE = "settings.json"
_HEAD = 500
"""Characters of a value that is too long for a parameter."""
_MAX_PARAMS_PER_BATCH = 100
_MAX_METRICS_PER_BATCH = 1000


class MlflowRun:
    """A run of an experiment, found by its name or begun.

    Parameters
    ----------
    uri : str
        ``sqlite:///FILE``, or the address of a server.
    experiment : str
        Made if it is not there.
    name : str
        Name of the run.
    folder : str
        Folder of its checkpoints, which tells it from others of its name: the run that was begun
        for it is continued.
    tags : mapping of str to str, optional
        More that a new run is tagged with.

    Attributes
    ----------
    id : str
        MLflow's run.
    started : float
        When it began (s since 1970).
    is_new : bool
        It was begun here, and not found.

    Raises
    ------
    InputError
        If the store cannot be used, or its server does not answer within seconds.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        folder: str,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        quiet_mlflow()
        self.uri = absolute_uri(uri)
        check_server(self.uri)
        with tracking_errors(uri):
            if (file := store_file(self.uri)) is not None:
                make_store(file)
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment)
            self._begin(name, folder, tags or {})
            self.reopen()

    @property
    def address(self) -> RunAddress:
        """Where other processes log the run to."""
        return RunAddress(self.uri, self.id, self.started)

    def sibling(
        self, name: str, folder: str, tags: Mapping[str, str], began: float | None = None
    ) -> MlflowRun:
        """Return another run of the experiment, found as it is, or begun.

        Parameters
        ----------
        name, folder : str
            As of this one.
        tags : mapping of str to str
            More that a new run is tagged with.
        began : float, optional
            When a new run began (s since 1970), if that is not now.

        Raises
        ------
        mlflow.exceptions.MlflowException
            If the server is away.
        """
        other = copy.copy(self)
        other._begin(name, folder, tags, began)
        return other

    def has_sibling(self, folder: str, tags: Mapping[str, str]) -> bool:
        """Whether the experiment has the run of a folder; if so, it is tagged as it should be."""
        run = self._find(folder)
        if run is None:
            return False
        for key, value in tags.items():
            if run.data.tags.get(key) != value:
                self._client.set_tag(run.info.run_id, key, value)
        return True

    def _begin(
        self, name: str, folder: str, tags: Mapping[str, str], began: float | None = None
    ) -> None:
        run = self._find(folder)
        self.is_new = run is None
        if run is None:
            tags = {RUN_TAG: folder, IDENTITY_TAG: _identity(folder), **_provenance(), **tags}
            run = self._client.create_run(
                self.experiment_id, run_name=name, tags=tags, start_time=_milliseconds(began)
            )
        self.id, self.started = run.info.run_id, run.info.start_time / 1000

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        artifacts = None
        if (file := store_file(self.uri)) is not None:
            # Beside the store, wherever workers run: MLflow's default depends on their folder.
            artifacts = (file.parent / "mlartifacts" / name.removeprefix("/")).as_uri()
        try:
            return self._client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:
            # Another job may have made it meanwhile.
            if (found := self._client.get_experiment_by_name(name)) is None:
                raise
            return found.experiment_id

    def _find(self, folder: str) -> Run | None:
        where = f"tags.`{IDENTITY_TAG}` = '{_identity(folder)}'"
        oldest = ["attributes.start_time ASC"]
        runs = self._client.search_runs([self.experiment_id], where, 1, 1, oldest)
        return runs[0] if runs else None

    def reopen(self) -> None:
        """Make it run, if it had ended."""
        self._client.update_run(self.id, status="RUNNING")

    def describe(self, settings: Mapping[str, Any], dataset: str, checksum: str) -> None:
        """Record what is run on what: every setting as a parameter of its own, and in a table.

        Of a value that is too long for a parameter, that has the beginning and a checksum.

        Told again, it does what is missing.
        """
        # Each question takes a server milliseconds: a run that was just begun has nothing yet.
        recorded = RunData() if self.is_new else self._client.get_run(self.id).data
        new = {k: str(v) for k, v in settings.items() if k not in recorded.params}
        params = [Param(key, _distinct(value)) for key, value in new.items()]
        for start in range(0, len(params), _MAX_PARAMS_PER_BATCH):
            batch = params[start : start + _MAX_PARAMS_PER_BATCH]
            self._client.log_batch(self.id, params=batch)
        if DATASET_TAG in recorded.tags:
            return
        # As MLflow's log_table writes it, which told again would add the rows a second time.
        rows = [[key, str(value)] for key, value in settings.items()]
        table = {"columns": ["setting", "value"], "data": rows}
        self._client.log_dict(self.id, table, _TABLE)
        source = Dataset(
            name=Path(dataset).name, digest=checksum[:32], source_type="local", source=dataset
        )
        tags = [InputTag("mlflow.data.context", "training")]
        inputs = [DatasetInput(source, tags)]
        try:
            self._client.log_inputs(self.id, inputs)
        except MlflowException:
            # Another run on the same data may have recorded them meanwhile: they are there now.
            self._client.log_inputs(self.id, inputs)
        shown = json.dumps([{"path": _TABLE, "type": "table"}])
        said = {MLFLOW_LOGGED_ARTIFACTS: shown, DATASET_TAG: checksum}  # last: all of it is there
        self._client.log_batch(self.id, tags=[RunTag(key, value) for key, value in said.items()])

    def tag(self, key: str, value: str) -> None:
        """Tag the run."""
        self._client.set_tag(self.id, key, value)

    def has_tag(self, key: str) -> bool:
        """Whether the run is tagged with `key`."""
        return key in self._client.get_run(self.id).data.tags

    def has_model(self) -> bool:
        """Whether the run has a logged model, complete."""
        outputs = self._client.get_run(self.id).outputs
        ids = [output.model_id for output in outputs.model_outputs] if outputs else []
        return any(
            self._client.get_logged_model(each).status == LoggedModelStatus.READY for each in ids
        )

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Record numbers that sum up the whole run; those that it has already, not again."""
        recorded = self._client.get_run(self.id).data.metrics
        now = _milliseconds(None)
        new = [Metric(k, v, now, 0) for k, v in metrics.items() if recorded.get(k) != v]
        if new:
            self._client.log_batch(self.id, metrics=new)

    def epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Record the metrics of epochs, by ``epoch``, of which the run has no curve at all yet."""
        recorded = self._client.get_run(self.id).data.metrics
        now = _milliseconds(None)
        points = [
            Metric(key, value, now, int(metrics["epoch"]))
            for metrics in history
            for key, value in metrics.items()
            if key != "epoch" and key not in recorded
        ]
        for start in range(0, len(points), _MAX_METRICS_PER_BATCH):
            batch = points[start : start + _MAX_METRICS_PER_BATCH]
            self._client.log_batch(self.id, metrics=batch)

    def best(self, metrics: Mapping[str, float]) -> None:
        """Record the validation metrics of the best epoch."""
        self.metrics({f"best/{name}": value for name, value in metrics.items() if "val/" in name})

    def figure(self, figure: Figure, name: str) -> None:
        """Add a figure to the run's artifacts."""
        self._client.log_figure(self.id, figure, name)

    def text(self, text: str, name: str) -> None:
        """Add a text file to the run's artifacts."""
        self._client.log_text(self.id, text, name)

    def close(self, status: str, ended: float | None = None) -> None:
        """End the run: FINISHED, FAILED or KILLED, at a time (s since 1970) if that is not now."""
        self._client.set_terminated(self.id, status, _milliseconds(ended))


@contextmanager
def ending(end: Callable[[str], None]) -> Iterator[None]:
    """Call `end` with what became of the block: FINISHED, FAILED, or KILLED if interrupted."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        end(status)


def _identity(folder: str) -> str:
    """Return what a run is found by: filters of MLflow have no way to write a path with quotes."""
    return hashlib.sha256(folder.encode()).hexdigest()


def _distinct(value: str) -> str:
    """Return a value as MLflow takes it, which cuts long ones: two would be the same then."""
    if len(value) <= MAX_PARAM_VAL_LENGTH:
        return value
    return f"{value[:_HEAD]}... (SHA-256 {hashlib.sha256(value.encode()).hexdigest()})"


def _milliseconds(seconds: float | None) -> int:
    """Return a time as MLflow counts it; None is now."""
    return round(1000 * (time.time() if seconds is None else seconds))


@cache
def _provenance() -> dict[str, str]:
    """Tags that say which code ran."""
    tags = {f"version.{package}": package_version(package) for package in PACKAGES}
    commit = git_commit()
    if commit:
        tags[COMMIT_TAG] = commit
    return tags


def package_version(package: str) -> str:
    """Return an installed package's public version, without the build's local label."""
    return version(package).partition("+")[0]


def git_commit() -> str | None:
    """Return the commit of the code that runs, marked if files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return submitted_commit()  # there is no repository beside the code, or no git here
    return f"{commit}-modified" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()

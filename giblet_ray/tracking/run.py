"""One MLflow run per training: opened, described and closed by the job that drives it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param
from mlflow.exceptions import MlflowException

from giblet_ray.errors import InputError
from giblet_ray.tracking.quiet import quiet_mlflow

RUN_TAG = "giblet_ray.run"
"""Folder of the run, which holds its checkpoints."""
DATASET_TAG = "giblet_ray.dataset"
"""Checksum of the data set's manifest."""
PACKAGES = ("giblet_ray", "ray", "torch", "mlflow", "pyarrow", "numpy", "encodec")
_SQLITE = "sqlite:///"
_MAX_PARAMS_PER_BATCH = 100


def absolute_uri(uri: str) -> str:
    """Return a tracking URI that means the same in every process: sqlite paths made absolute.

    Raises
    ------
    InputError
        If it is a path: MLflow no longer keeps runs in folders.
    """
    if "://" not in uri:
        raise InputError(
            f"--tracking.uri {uri}: is a path; sqlite:///FILE or the http(s) address of a server "
            "is accepted"
        )
    if uri.startswith(_SQLITE):
        return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).expanduser().resolve())
    return uri


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
    identity : str
        What tells this training from others of the same name: a run with it is continued.
    tags : mapping of str to str, optional
        More that a new run is tagged with.

    Raises
    ------
    InputError
        If the store cannot be used.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        identity: str,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        quiet_mlflow()
        self.uri = absolute_uri(uri)
        try:
            if self.uri.startswith(_SQLITE):
                Path(self.uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment)
            self.id = self._find(identity) or self._create(name, identity, tags or {})
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"--tracking.uri {uri}: cannot be used: {reason}") from error

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        artifacts = None
        if self.uri.startswith(_SQLITE):
            # Beside the store, wherever workers run: MLflow's default depends on their folder.
            store = Path(self.uri.removeprefix(_SQLITE))
            artifacts = (store.parent / "mlartifacts" / name).as_uri()
        return self._client.create_experiment(name, artifact_location=artifacts)

    def _find(self, identity: str) -> str | None:
        where = f"tags.`{RUN_TAG}` = '{identity}'"
        runs = self._client.search_runs([self.experiment_id], where, max_results=1)
        if not runs:
            return None
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id

    def _create(self, name: str, identity: str, tags: Mapping[str, str]) -> str:
        tags = {RUN_TAG: identity, **_provenance(), **tags}
        run = self._client.create_run(self.experiment_id, run_name=name, tags=tags)
        return run.info.run_id

    def describe(self, settings: Mapping[str, Any], dataset: str, checksum: str) -> None:
        """Record what is run on what: every setting as a parameter of its own, and in a table."""
        recorded = self._client.get_run(self.id).data.params
        new = {k: str(v) for k, v in settings.items() if k not in recorded}
        params = [Param(key, value) for key, value in new.items()]
        for start in range(0, len(params), _MAX_PARAMS_PER_BATCH):
            batch = params[start : start + _MAX_PARAMS_PER_BATCH]
            self._client.log_batch(self.id, params=batch)
        table = {"setting": list(settings), "value": [str(v) for v in settings.values()]}
        if not recorded:
            self._client.set_tag(self.id, DATASET_TAG, checksum)
            self._client.log_table(self.id, table, "settings.json")
            source = Dataset(
                name=Path(dataset).name, digest=checksum[:32], source_type="local", source=dataset
            )
            tags = [InputTag("mlflow.data.context", "training")]
            self._client.log_inputs(self.id, [DatasetInput(source, tags)])

    def tag(self, key: str, value: str) -> None:
        """Tag the run."""
        self._client.set_tag(self.id, key, value)

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Record numbers that sum up the whole run."""
        for key, value in metrics.items():
            self._client.log_metric(self.id, key, value)

    def best(self, metrics: Mapping[str, float]) -> None:
        """Record the held-out metrics of the best epoch."""
        self.metrics({f"best/{name}": value for name, value in metrics.items() if "val/" in name})

    def figure(self, figure: Figure, name: str) -> None:
        """Add a figure to the run's artifacts."""
        self._client.log_figure(self.id, figure, name)

    def text(self, text: str, name: str) -> None:
        """Add a text file to the run's artifacts."""
        self._client.log_text(self.id, text, name)

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.id, status)


@contextmanager
def ending(end: Callable[[str], None]) -> Iterator[None]:
    """Call `end` with what became of the block: FINISHED, FAILED, or KILLED by Ctrl-C."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        end(status)


@cache
def _provenance() -> dict[str, str]:
    """Tags that say which code ran."""
    tags = {f"version.{package}": package_version(package) for package in PACKAGES}
    commit = git_commit()
    if commit:
        tags["mlflow.source.git.commit"] = commit
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
        return None  # installed without its repository, or no git here
    return f"{commit}-modified" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()

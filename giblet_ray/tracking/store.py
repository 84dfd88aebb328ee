"""An MLflow store that others have written: opened to be read, and never made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_local_uri

from giblet_ray.errors import InputError
from giblet_ray.tracking.logged_model import model_files
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.recorded_run import RecordedRun
from giblet_ray.tracking.server import MLFLOW_ERRORS, brief, check_server
from giblet_ray.tracking.sqlite import absolute_uri, check_store

_PAGE = 1000


class CurvePoint(NamedTuple):
    """A metric at a step: when it was logged (s since 1970), and its value."""

    step: int
    at: float
    value: float


class Store:
    """A tracking store and model registry, as it is.

    Its methods raise MLflow's own errors; see
    :func:`giblet_ray.tracking.server.tracking_errors`.

    Attributes
    ----------
    uri : str
        ``sqlite:///FILE``, or the address of a server.
    client : MlflowClient
        What asks it.
    """

    def __init__(self, uri: str, client: MlflowClient) -> None:
        self.uri, self.client = uri, client

    def experiments(self) -> dict[str, str]:
        """Return the ids of all experiments by their names."""
        return {found.name: found.experiment_id for found in self.client.search_experiments()}

    def runs(self, experiment_id: str | None = None) -> list[RecordedRun]:
        """Return the runs of an experiment, or of all."""
        ids = [experiment_id] if experiment_id else list(self.experiments().values())
        return [_recorded(run) for run in self._pages(ids)]

    def _pages(self, experiment_ids: list[str]) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self.client.search_runs(experiment_ids, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def run(self, run_id: str) -> RecordedRun:
        """Return one run."""
        return _recorded(self.client.get_run(run_id))

    def curve(self, run_id: str, key: str) -> list[CurvePoint]:
        """Return all points of a metric, by their steps, then by their times."""
        points = self.client.get_metric_history(run_id, key)
        return sorted(CurvePoint(m.step, m.timestamp / 1000, m.value) for m in points)

    def models(self, run_id: str) -> dict[str, str]:
        """Return the URIs of the files of a run's logged models, by the models' ids.

        Those that were not logged to the end are left out.
        """
        outputs = self.client.get_run(run_id).outputs
        ids = [output.model_id for output in outputs.model_outputs] if outputs else []
        models = [self.client.get_logged_model(each) for each in ids]
        return {
            model.model_id: model_files(model.artifact_location)
            for model in models
            if model.status == LoggedModelStatus.READY
        }

    @contextmanager
    def fetch(self, uri: str) -> Iterator[Path]:
        """Give the local path of a file or folder while the block runs.

        It is the store's own, or that of a temporary copy.
        """
        with TemporaryDirectory(prefix="giblet_ray-") as folder:
            to = None if is_local_uri(uri) else folder
            yield Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=to, tracking_uri=self.uri
                )
            )

    def read(self, uri: str) -> str | None:
        """Return the text of a small file, or None if it is not within reach."""
        try:
            with self.fetch(uri) as file:
                return file.read_text()
        except (MlflowException, OSError, ValueError):
            return None


def open_store(uri: str) -> Store:
    """Open the tracking store and model registry at `uri`.

    Parameters
    ----------
    uri : str
        ``sqlite:///FILE``, or the address of a server.

    Raises
    ------
    InputError
        If there is none. (MLflow itself would make an empty one.)
    """
    quiet_mlflow()
    where = absolute_uri(uri)
    check_store(where)
    check_server(where)
    try:
        client = MlflowClient(where, registry_uri=where)
        client.search_experiments(max_results=1)
    except (*MLFLOW_ERRORS, ImportError) as error:
        raise InputError(f"--tracking.uri {uri}: cannot be read: {brief(error)}") from error
    return Store(where, client)


def _recorded(run: Run) -> RecordedRun:
    info, data = run.info, run.data
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = inputs[0].dataset if inputs else None
    return RecordedRun(
        id=info.run_id,
        name=info.run_name,
        status=info.status,
        started=info.start_time / 1000,
        ended=info.end_time / 1000 if info.end_time else None,
        tags=data.tags,
        settings=data.params,
        metrics=data.metrics,
        dataset=dataset.name if dataset else "",
        dataset_digest=dataset.digest if dataset else "",
    )

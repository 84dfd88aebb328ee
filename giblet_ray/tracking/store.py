"""An MLflow store that others have written: opened to be read, and never made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from giblet_ray.errors import InputError
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.run import absolute_uri
from giblet_ray.tracking.server import MLFLOW_ERRORS, brief, check_server

_SQLITE = "sqlite:///"
_PAGE = 1000


def open_store(uri: str) -> MlflowClient:
    """Return a client of the tracking store and model registry at `uri`.

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
    if where.startswith(_SQLITE):
        _check_file(Path(where.removeprefix(_SQLITE)))
    check_server(where)
    try:
        client = MlflowClient(where, registry_uri=where)
        client.search_experiments(max_results=1)
    except (*MLFLOW_ERRORS, ImportError) as error:
        raise InputError(f"--tracking.uri {uri}: cannot be read: {brief(error)}") from error
    return client


def all_runs(client: MlflowClient, experiment_ids: Sequence[str] | None = None) -> Iterator[Run]:
    """Yield every run of some experiments, or of all, page by page."""
    if experiment_ids is None:
        experiment_ids = [each.experiment_id for each in client.search_experiments()]
    token: str | None = None
    while True:
        page = client.search_runs(list(experiment_ids), max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def run_names(runs: Iterable[Run]) -> dict[str, str]:
    """Return the runs' names by their ids."""
    return {run.info.run_id: run.info.run_name for run in runs}


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise InputError(
            f"--tracking.uri: no such file: {file}; the store that the runs were recorded in is "
            "accepted"
        )
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE name = 'experiments'"
            ((is_store,),) = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"--tracking.uri: {file} cannot be read: {error}") from error
    if not is_store:
        raise InputError(f"--tracking.uri: {file} is a database, and not one of MLflow's")

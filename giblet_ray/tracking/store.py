"""An MLflow store that others have written: opened to be read, and never made."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from giblet_ray.errors import InputError
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.run import absolute_uri

_SQLITE = "sqlite:///"
_HTTP_RETRIES = "2"
"""MLflow would try seven times, for four minutes, before it says that a server is away."""


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
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _HTTP_RETRIES)
    where = absolute_uri(uri)
    if where.startswith(_SQLITE):
        _check_file(Path(where.removeprefix(_SQLITE)))
    try:
        client = MlflowClient(where, registry_uri=where)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--tracking.uri {uri}: cannot be read: {reason}") from error
    return client


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

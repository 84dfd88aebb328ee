"""MLflow without its chatter, and without its long waits."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"


def quiet_mlflow() -> None:
    """Keep MLflow's notes on its own doings off the user's terminal, and its requests short.

    It announces every database migration, prints links to every run that ends, draws a bar for
    every file that it copies, and warns about a missing git program that the user may not want. By
    default it repeats a request to a server that is away for four minutes. Whoever must not lose
    anything repeats it here, after looking at what the server has: a request that timed out may
    have been taken all the same, and a run that is begun twice is two runs.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault(_TIMEOUT, "20")
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def large_files() -> Iterator[None]:
    """Give requests the time that a server takes to pass a model of gigabytes on to its store."""
    before = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = "1800"
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before

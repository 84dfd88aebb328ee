"""MLflow without its chatter."""

from __future__ import annotations

import logging
import os


def quiet_mlflow() -> None:
    """Keep MLflow's notes on its own doings off the user's terminal.

    It announces every database migration and run link, draws a bar for every file that it copies,
    and warns about a missing git program that the user may not want.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)

"""Whether an MLflow server answers, what to do while it does not, and how to say so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from giblet_ray.errors import InputError
from giblet_ray.secrets import redact

MLFLOW_ERRORS = (MlflowException, SQLAlchemyError, OSError)
"""What a store that is away, or has trouble of its own, makes of a call."""
RETRY_SECONDS = 2.0
_ANSWER_SECONDS = 5
_REFUSALS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_MOST_CHARACTERS = 200


def why_away(uri: str) -> str | None:
    """Say why the server at a tracking URI does not answer; None if it does, or if it is a file.

    Takes 5 s at most: a server that hangs holds up any other request for longer.
    """
    if not uri.startswith(("http://", "https://")):
        return None
    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/health",
            "GET",
            max_retries=0,
            timeout=_ANSWER_SECONDS,
            raise_on_status=False,
        )
    except MLFLOW_ERRORS as error:
        return brief(error)
    # Less is an answer, if only that of a proxy that knows no such page.
    return f"HTTP status {answer.status_code}" if answer.status_code >= 500 else None


def check_server(uri: str) -> None:
    """Make sure that the server at a tracking URI answers.

    Raises
    ------
    InputError
        If it does not, within seconds.
    """
    if reason := why_away(uri):
        raise InputError(
            f"--tracking.uri {uri}: no answer ({reason}); the address of an MLflow server that "
            "runs, or sqlite:///FILE, is accepted"
        )


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Raise what a store makes of a call as one line that names the setting.

    Raises
    ------
    InputError
        If the store at `uri` is away, has trouble of its own, or needs a library that is missing.
    """
    try:
        yield
    except (*MLFLOW_ERRORS, ImportError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--tracking.uri {uri}: cannot be used: {brief(error)}") from error


def refuses(error: Exception) -> bool:
    """Whether MLflow has answered that it will never take what it was given: asking is no use."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def persistently(work: Callable[[], None], uri: str, deadline: float) -> None:
    """Do some work on a store, all of it again whenever its server was away.

    Parameters
    ----------
    work : callable
        May have been done in part, or whole, when it is called again.
    uri : str
        Tracking store.
    deadline : float
        ``time.monotonic()`` after which an error is raised instead. There is one try at least.
    """
    while True:
        try:
            return work()
        except InputError:
            raise  # of the files that are to be logged, if it is one of storage
        except MLFLOW_ERRORS as error:
            if refuses(error) or time.monotonic() + RETRY_SECONDS > deadline:
                raise
        time.sleep(RETRY_SECONDS)
        while time.monotonic() < deadline and why_away(uri) is not None:
            time.sleep(RETRY_SECONDS)


def brief(error: BaseException) -> str:
    """Return in a few words what an error says; of a failed connection, only why it failed."""
    cause = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    told = (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(error)
    return redact(" ".join(told.split()))[:_MOST_CHARACTERS]

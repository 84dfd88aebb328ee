"""One server for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server for the tests of a file; no answer is waited for longer than 8 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        server = MlflowServer(tmp_path_factory.mktemp("server"))
        server.start()
        yield server
        server.kill()

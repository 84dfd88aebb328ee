"""A real MLflow server that tests can stop, halt and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.server import why_away

_START_SECONDS = 240
PATIENCE_SECONDS = 120


class MlflowServer:
    """An MLflow server on loopback, with a store in sqlite, that keeps its clients' artifacts."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, as it was before, and wait until it answers, unless it runs."""
        if self._process is not None:
            return
        settings = {
            "--host": "127.0.0.1",
            "--port": str(self._port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self._folder}/store.db",
            "--artifacts-destination": str(self._folder / "artifacts"),
        }
        words = [word for setting in settings.items() for word in setting]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while why_away(self.uri) is not None:
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def halt(self) -> None:
        """Let it take connections, and answer none."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again, also what it was asked while it was halted."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


def steps(run: MlflowRun, key: str) -> list[int]:
    """Return the steps of a curve, as another client finds them."""
    return [m.step for m in MlflowClient(run.uri).get_metric_history(run.id, key)]


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.05)

"""Jobs on a cluster of several raylets on this machine, whose parts can be killed."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from processes import PATIENCE_SECONDS, JobProcess

from giblet_ray.checkpoint.pieces import load_weights
from giblet_ray.checkpoint.record import read_record

EPOCHS, STEPS_PER_EPOCH = 12, 12


class Cluster:
    """A head without CPUs and worker nodes that come and go; see fault_nodes.py."""

    def __init__(self, folder: Path) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 stays 127.0.0.1
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
        }
        # Ray's sockets have paths of at most 107 characters.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_nodes.py")), str(folder / "ray")],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment = {**self.environment, "RAY_ADDRESS": self._answer()}
        self.nodes: list[str] = []

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        assert answer, "the cluster has died"
        return answer

    def _order(self, words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self._answer()

    def add(self) -> None:
        """Start a node with one CPU."""
        self.nodes.append(self._order("add 1"))

    def kill(self) -> None:
        """Kill -9 everything on a node."""
        self._order(f"kill {self.nodes.pop()}")

    def have(self, n: int) -> None:
        """Add or kill nodes until there are n."""
        while len(self.nodes) < n:
            self.add()
        while len(self.nodes) > n:
            self.kill()

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if process.name().startswith("ray::RayTrainWo"):
                    found.append(process)
            except psutil.Error:
                continue  # it has just ended
        return found

    def wait_until_idle(self) -> None:
        """Wait until the workers of a job that was killed are gone."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.workers():
            assert time.monotonic() < deadline, "workers outlive their driver"
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop all nodes."""
        self._process.communicate()


class Training(JobProcess):
    """jobs/train.py on the cluster, in a folder of its own."""

    def __init__(self, environment: dict[str, str], folder: Path, words: list[str]) -> None:
        super().__init__("train.py", *words, folder=folder, environment=environment)
        self.run = folder / "runs/run"

    @property
    def lines(self) -> list[str]:
        """All that it has said."""
        return self.said.splitlines()

    def wait_for_line(self, words: str) -> str:
        """Wait until the job has said something."""
        found = self.wait_for(lambda: [line for line in self.lines if words in line], words)
        return found[0]

    @property
    def step(self) -> int:
        """Step of the latest complete checkpoint, 0 without one."""
        return last_step(self.run)


def last_step(run: Path) -> int:
    """Return the step of a run's latest complete checkpoint, 0 without one."""
    return max((position(path)["step"] for path in saved(run)), default=0)


def saved(run: Path) -> list[Path]:
    """Return a run's checkpoints, the latest last."""
    return sorted(path.parent for path in run.glob("*/record.json"))


def position(folder: Path) -> dict[str, Any]:
    """Return where in the training a checkpoint was saved."""
    try:
        return json.loads((folder / "record.json").read_text())["position"]
    except FileNotFoundError:  # replaced by a later one just now
        return {"step": 0}


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights at the end of a run, whichever workers wrote them."""
    folder = saved(run)[-1]
    return load_weights(folder, read_record(folder))


def only_run(uri: str) -> Run:
    """Return the one run that MLflow has."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("giblet_ray")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def assert_every_step_once(uri: str, epochs: int) -> None:
    """Make sure that MLflow's one run is finished, and has the curves of so many epochs."""
    run = only_run(uri)
    assert run.info.status == "FINISHED"
    n_steps = epochs * STEPS_PER_EPOCH
    for key, n in (("step/loss", n_steps), ("train/lr", n_steps), ("val/pearson_mean", epochs)):
        history = MlflowClient(uri).get_metric_history(run.info.run_id, key)
        assert sorted(m.step for m in history) == list(range(1, n + 1)), key


def assert_same_weights(expected: Path, found: Path) -> None:
    """Make sure that two runs ended with the same weights, to the last bit."""
    one, other = weights(expected), weights(found)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name

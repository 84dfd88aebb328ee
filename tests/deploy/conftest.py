"""A cluster on this machine, as `make cluster-up` starts it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import Process
from pyarrow.fs import FileSelector, LocalFileSystem, S3FileSystem, copy_files

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/local_cluster.py"
BUCKET = "giblet-ray"
JOB_SECONDS = 900


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up: the folder of its state, and what a user sources."""

    folder: Path
    environment: Mapping[str, str]

    def submit(self, *words: str, **changes: str) -> Process:
        """Submit a command from this checkout, as a user does; wait for its end."""
        return self.run("ray", "job", "submit", *words, **changes)

    def scratch(self) -> Path:
        """Return the folder of what the cluster keeps while it is up."""
        return Path(json.loads((self.folder / "state.json").read_text())["scratch"])

    def names_on_s3(self) -> set[str]:
        """Return the names of all objects in the cluster's bucket."""
        infos = self._s3().get_file_info(FileSelector(BUCKET, recursive=True))
        return {info.path.removeprefix(f"{BUCKET}/") for info in infos if info.is_file}

    def copy_to_s3(self, source: Path, name: str) -> None:
        """Copy the files of a folder into the cluster's bucket."""
        copy_files(str(source), f"{BUCKET}/{name}", LocalFileSystem(), self._s3())

    def _s3(self) -> S3FileSystem:
        return S3FileSystem(
            access_key=self.environment["AWS_ACCESS_KEY_ID"],
            secret_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.environment["AWS_ENDPOINT_URL"],
            region=self.environment["AWS_DEFAULT_REGION"],
        )

    def run(self, *command: str, **changes: str) -> Process:
        """Run a command of this environment with what a user has sourced, changed in parts."""
        program = Path(sys.executable).parent / command[0]
        environment = {**user_environment(), **self.environment, **changes}
        return Process(program, *command[1:], environment=environment).wait(JOB_SECONDS)


def user_environment() -> dict[str, str]:
    """Return this environment, without a cluster's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GIBLET_RAY_"))}


def change_cluster(action: str, folder: Path) -> str:
    """Start or end the cluster of a folder; return what is said about it."""
    command = (sys.executable, SCRIPT, action, folder)
    done = Process(*command, environment=user_environment())
    done.end(seconds=JOB_SECONDS)
    return done.stdout


@pytest.fixture(scope="session")
def change() -> Callable[[str, Path], str]:
    """Give tests :func:`change_cluster`."""
    return change_cluster


@pytest.fixture(scope="module")
def cluster_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and two worker nodes, S3 storage and an MLflow server, until the module ends."""
    folder = tmp_path_factory.mktemp("cluster")
    change_cluster("up", folder)
    try:
        exports = shlex.split((folder / "env.sh").read_text())
        pairs = [word.split("=", 1) for word in exports if word != "export"]
        yield Cluster(folder, dict(pairs))
    finally:
        change_cluster("down", folder)

"""A Ray cluster of several nodes on this machine, with an MLflow server and S3 storage beside it.

    python deploy/local_cluster.py up
    source .cluster/env.sh
    python deploy/local_cluster.py down

Takes nothing. Gives a head node and two worker nodes (raylets, each with processes and an object
store of its own), MLflow on PostgreSQL where that is installed (on sqlite elsewhere), and S3
storage in memory: all on loopback, on free ports. Ray asks for a token of its own, the database for
its file's owner; MLflow and the storage answer whoever is on this machine. `down` ends these
processes, and nothing else, and deletes what they kept: it is there to try things.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).resolve().parents[1]
HEAD_CPUS, WORKER_CPUS, WORKERS = 1, 2, 2
OBJECT_STORE_BYTES = 200 * 2**20
BUCKET = "giblet-ray"
START_SECONDS = 300.0
STOP_SECONDS = 20.0


class StartError(Exception):
    """A part of the cluster did not start."""


class LocalCluster:
    """The cluster whose state is kept in one folder.

    Parameters
    ----------
    folder : Path
        Holds ``env.sh`` (what to source), ``state.json`` (which processes were started), the token,
        and the logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._state = self.folder / "state.json"

    def up(self) -> None:
        """Start what is not running, and say what to type next."""
        if self._state.exists():
            if all(self._alive(each) for each in self._read()["processes"]):
                say(f"is up already: {self._to_source()}")
                return
            say("some of its processes have died: starting it anew")
            self.down()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Sockets have paths of at most 107 characters, and PostgreSQL's user must reach its folder.
        self._scratch = Path(tempfile.mkdtemp(prefix="giblet-", dir="/tmp"))
        self._scratch.chmod(0o711)
        self._processes: list[dict[str, object]] = []
        self._write()
        try:
            self._start_all()
        except BaseException:
            self.down()
            raise
        say(f"is up: 1 head node, {WORKERS} worker nodes. Next:")
        say(f"  {self._to_source()}")
        say("  ray job submit --working-dir . -- python jobs/train.py --dataset s3://...")
        say(f"  MLflow: {self.environment['GIBLET_RAY_TRACKING__URI']}")
        say(f"  Ray's dashboard: {self.environment['RAY_API_SERVER_ADDRESS']}")
        say(f"    (it asks for the token in {self.environment['RAY_AUTH_TOKEN_PATH']})")

    def _to_source(self) -> str:
        return f"source {shlex.quote(str(self.folder / 'env.sh'))}"

    def down(self) -> None:
        """End every process that `up` has started, and delete what they kept."""
        if not self._state.exists():
            say("is not up")
            return
        state = self._read()
        for each in reversed(state["processes"]):
            if self._alive(each):
                say(f"ending {each['name']}")
                end_process(psutil.Process(each["pid"]))
        shutil.rmtree(state["scratch"], ignore_errors=True)
        for name in ("env.sh", "token", "state.json"):
            (self.folder / name).unlink(missing_ok=True)
        say("is down")

    # --- the parts ------------------------------------------------------------------------------

    def _start_all(self) -> None:
        token = self.folder / "token"
        write_secret(token, secrets.token_hex(32))
        s3, mlflow = free_port(), free_port()
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            # Ray takes 127.0.0.1 for the machine's outer address, unless it is told that there are
            # no other machines; it has no better name for this.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # MLflow's own job workers are for what is not used here.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
            "GIBLET_RAY_STORAGE__PATH": f"s3://{BUCKET}/runs",
            "GIBLET_RAY_TRACKING__URI": f"http://127.0.0.1:{mlflow}",
        }
        self._start_storage(s3)
        self._start_mlflow(mlflow, self._start_database())
        self._start_ray()
        lines = [f"export {name}={shlex.quote(v)}\n" for name, v in self.environment.items()]
        write_secret(self.folder / "env.sh", "".join(lines))

    def _start_storage(self, port: int) -> None:
        self._start("storage", tool("moto_server"), "-H", "127.0.0.1", "-p", str(port))
        self._wait("storage", lambda: answers(f"http://127.0.0.1:{port}/moto-api/data.json"))
        import boto3

        keys = {key: self.environment[key] for key in self.environment if key.startswith("AWS_")}
        boto3.client(
            "s3",
            endpoint_url=keys["AWS_ENDPOINT_URL"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            region_name=keys["AWS_DEFAULT_REGION"],
        ).create_bucket(Bucket=BUCKET)

    def _start_database(self) -> str:
        """Start PostgreSQL, which only a socket file leads to; return MLflow's store URI."""
        programs = postgresql_programs()
        if programs is None:
            say("PostgreSQL is not installed: MLflow keeps its runs in sqlite")
            return f"sqlite:///{self._scratch}/mlflow.db"
        folder = self._scratch / "postgresql"
        folder.mkdir()
        # PostgreSQL refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(folder, "postgres")
        data = str(folder / "data")
        initdb = [*user, str(programs / "initdb"), "--auth=trust", "--username=mlflow", "-D", data]
        subprocess.run(
            initdb, check=True, cwd=folder, stdout=self._log("postgresql"), stderr=subprocess.STDOUT
        )
        command = [*user, str(programs / "postgres"), "-D", data, "-k", str(folder)]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        # Who can write to the socket is the database's superuser.
        command += ["-c", "unix_socket_permissions=0700"]
        self._start("postgresql", *command)
        to = ["-h", str(folder), "-U", "mlflow"]
        ready = [str(programs / "pg_isready"), *to, "-q"]
        self._wait("postgresql", lambda: subprocess.run(ready, check=False).returncode == 0)
        subprocess.run([str(programs / "createdb"), *to, "mlflow"], check=True)
        return f"postgresql+psycopg2://mlflow@/mlflow?host={folder}"

    def _start_mlflow(self, port: int, store: str) -> None:
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        kept = ["--backend-store-uri", store, "--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        self._start("mlflow", tool("mlflow"), "server", *where, *kept)
        self._wait("mlflow", lambda: answers(f"http://127.0.0.1:{port}/health"))

    def _start_ray(self) -> None:
        addresses = self._scratch / "ray.json"
        self._start("ray", sys.executable, __file__, "nodes", str(addresses))
        self._wait("ray", addresses.exists)
        self.environment.update(json.loads(addresses.read_text()))

    # --- processes ------------------------------------------------------------------------------

    def _log(self, name: str) -> int:
        return os.open(self.folder / f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)

    def _start(self, name: str, *command: str) -> None:
        say(f"starting {name}")
        log = self._log(name)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GIBLET_RAY_"))}
        # What a job calls python is this one.
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        process = subprocess.Popen(
            command,
            cwd=self._scratch,
            env={**kept, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(log)
        born = psutil.Process(process.pid).create_time()
        self._processes.append({"name": name, "pid": process.pid, "born": born})
        self._write()

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        process = self._processes[-1]
        while not ready():
            if not self._alive(process) or time.monotonic() > deadline:
                log = self.folder / f"{name}.log"
                raise StartError(f"{name} did not start; its last words are in {log}")
            time.sleep(0.2)

    def _write(self) -> None:
        state = {"scratch": str(self._scratch), "processes": self._processes}
        self._state.write_text(json.dumps(state, indent=2))

    def _read(self) -> dict:
        return json.loads(self._state.read_text())

    @staticmethod
    def _alive(each: dict) -> bool:
        """Tell whether a process is still the one that was started, and not another of its id."""
        try:
            process = psutil.Process(each["pid"])
            same = abs(process.create_time() - each["born"]) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def run_nodes(addresses: Path) -> None:
    """Run the nodes of the cluster in this process's children, until it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Below /tmp/ray, every job on the machine that asks for no cluster would find this one.
    os.environ["RAY_TMPDIR"] = str(addresses.parent)
    from ray.cluster_utils import Cluster

    node = {"node_ip_address": "127.0.0.1", "object_store_memory": OBJECT_STORE_BYTES}
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
    # No port of the agent's own: it takes a free one, where another cluster has the usual one.
    head = {**node, **dashboard, "dashboard_agent_listen_port": None, "num_cpus": HEAD_CPUS}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for number in range(1, WORKERS + 1):
        # A folder of its own, as on a machine of its own: where nodes share one, each unpacks a
        # job's code over that of the other, and the job's working folder is gone.
        own = addresses.parent / f"node-{number}"
        own.mkdir()
        cluster.add_node(**node, num_cpus=WORKER_CPUS, temp_dir=str(own))
    where = {
        "RAY_ADDRESS": cluster.address,
        "RAY_API_SERVER_ADDRESS": f"http://{cluster.head_node.webui_url}",
    }
    part = addresses.with_suffix(".part")
    part.write_text(json.dumps(where))
    part.rename(addresses)
    while True:
        signal.pause()


def postgresql_programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs, if it is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    return next(iter([*folders, *([Path(on_path).parent] if on_path else [])]), None)


def tool(name: str) -> str:
    """Return the path of a command of this Python's environment."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    """Tell whether a server gives the page."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def end_process(process: psutil.Process) -> None:
    """End a process and its descendants: asked at first, then killed."""
    family = [*process.children(recursive=True), process]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for each in left:
        each.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def say(line: str) -> None:
    """Print a line of what is going on."""
    print(f"local cluster: {line}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="A Ray cluster of several nodes on this machine.")
    parser.add_argument("action", choices=["up", "down", "nodes"])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / ".cluster")
    given = parser.parse_args(arguments)
    if given.action == "nodes":
        run_nodes(given.folder)
    cluster = LocalCluster(given.folder)
    try:
        cluster.up() if given.action == "up" else cluster.down()
    except (StartError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

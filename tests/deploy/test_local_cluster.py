"""The cluster of `make cluster-up`: README's jobs on it, who may reach it, what is left of it.

One file, so that one cluster serves.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from documentation import block_commands, job_words
from mlflow import MlflowClient

from giblet_ray.demo import DemoSettings, make_demo

ROOT = Path(__file__).parents[2]
FILM_TRS = 8
N_VOXELS = 24
WORKER_CPUS = 2
TINY = {
    "model": {
        "embed_dim": 4,
        "audio_codebooks": 2,
        "kernel_sizes": [3, 5],
        "video_features": 8,
        "audio_features": 8,
        "text_features": 8,
        "trunk_dims": [16, 16],
        "bottleneck_dim": 8,
        "head_dim": 16,
    },
    "data": {"window": 2},
    "train": {"epochs": 2, "batch_trs": 16},
}
COMMIT = "768ed6d9b0a3"
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


# --- README's jobs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def said(
    cluster_here: Any,
    dataset_writer: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Every job command of the README, submitted one after the other, and what each printed.

    The film is too short to train on; what is trained on is a data set of random numbers.
    """
    folder = tmp_path_factory.mktemp("film")
    film = make_demo(folder, DemoSettings(n_trs=FILM_TRS, n_voxels=N_VOXELS))
    films = {"one": 240, "two": 240}
    dataset_writer(folder / "small", films, ("01",), n_voxels=N_VOXELS, n_codebooks=8)
    cluster_here.copy_to_s3(folder / "small", "small")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    small = ["--config", str(folder / "tiny.yaml")]
    # What stands for the README's places, files and sizes.
    instead: dict[str, list[str]] = {
        "--out data/film": ["s3://giblet-ray/film"],
        "--dataset data/film": ["s3://giblet-ray/small"],
        "--dataset s3://giblet-ray/film": ["s3://giblet-ray/small"],
        "--dataset data/new": ["s3://giblet-ray/small"],
        "--out predicted/new": ["s3://giblet-ray/predicted"],
        "--config runs/night/best.yaml": ["s3://giblet-ray/runs/night/best.yaml"],
        "--film film.mp4": [str(film.film), "--codes.weights", "untrained"],
        "--text film.srt": [str(film.subtitles)],
        "--bold sub-01.nii.gz": [str(film.scans[0])],
        "sub-01.nii.gz sub-02.nii.gz": [str(film.scans[1])],
        "--mask mask.nii.gz": [str(film.mask)],
        "--name first": ["first", *small, "--scaling.cpus_per_worker", str(WORKER_CPUS)],
        "--run first": ["first", "--out", "s3://giblet-ray/evaluation"],
        "--name night": ["night", *small],
        "--name elastic": ["elastic", *small],
        "best ridge": ["first"],
        "--train.epochs 20": ["2"],
        "--sweep.num_samples 32": ["2"],
        "--scaling.num_workers 2,8": ["1,2"],
        "--experiment giblet_ray": ["giblet_ray", "--out", "s3://giblet-ray/comparison"],
    }
    outputs = {}
    for command in block_commands("README.md"):
        words = job_words(command)
        if words is None or words[-1] == "...":  # stands for others
            continue
        given = [
            new
            for before, word in zip(["", *words], words, strict=False)
            for new in instead.get(f"{before} {word}", [word])
        ]
        done = cluster_here.submit(
            *("--metadata-json", json.dumps({"git_commit": COMMIT}), "--working-dir", "."),
            *("--", "python", *given),
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        outputs[shlex.join(words)] = done.stdout
    return outputs


def output(said: dict[str, str], words: str) -> str:
    """Return what the one command with these words printed."""
    (found,) = (printed for command, printed in said.items() if words in command)
    return found


@pytest.mark.timeout(1800)
def test_every_job_of_the_readme_runs_when_it_is_submitted(said: dict[str, str]) -> None:
    jobs = {path.name for path in (ROOT / "jobs").glob("*.py")} - {"demo.py"}
    assert {Path(command.split()[0]).name for command in said} == jobs
    for printed in said.values():
        assert "Traceback" not in printed
        assert "Warning" not in printed


def test_a_training_uses_two_nodes_and_leaves_its_run_on_s3(
    said: dict[str, str], cluster_here: Any
) -> None:
    """Each of the two workers has as many CPUs as a node has."""
    assert "training with 2 workers" in output(said, "--name first")
    names = cluster_here.names_on_s3()
    assert "film/manifest.json" in names
    assert any(re.fullmatch(r"runs/first/.+/model.safetensors", name) for name in names)
    assert "runs/night/best.yaml" in names
    assert "comparison/comparison.html" in names
    assert "predicted/predictions.json" in names


def test_runs_are_on_the_server_and_their_artifacts_go_through_it(
    said: dict[str, str], cluster_here: Any
) -> None:
    client = MlflowClient(cluster_here.environment["GIBLET_RAY_TRACKING__URI"])
    experiment = client.get_experiment_by_name("giblet_ray")
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {"first", "best", "elastic", "night"} <= runs.keys()
    assert {runs[name].info.status for name in ("first", "best", "elastic")} == {"FINISHED"}
    assert runs["first"].data.tags["mlflow.source.git.commit"] == COMMIT
    assert any(name.startswith("mlflow/") for name in cluster_here.names_on_s3())
    # The stack, which was promoted after the best run.
    assert client.get_model_version_by_alias("giblet-encoder", "champion").version == "2"


@pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    reason="PostgreSQL is not installed",
)
def test_the_server_keeps_runs_in_postgresql(said: dict[str, str], cluster_here: Any) -> None:
    names = [process.name() for process in processes(cluster_here.folder)]
    assert "postgres" in names
    log = (cluster_here.folder / "postgresql.log").read_text()
    assert "database system is ready to accept connections" in log
    assert not list(Path(cluster_here.scratch()).glob("*.db"))


# --- who may reach it -------------------------------------------------------------------------


def processes(folder: Path) -> list[psutil.Process]:
    """Return every process of a cluster: the ones that it started, and their descendants."""
    started = [
        psutil.Process(each["pid"])
        for each in json.loads((folder / "state.json").read_text())["processes"]
    ]
    return [each for first in started for each in (first, *first.children(recursive=True))]


def test_everything_listens_on_loopback_alone(cluster_here: Any) -> None:
    listening = {
        (process.name(), connection.laddr.ip)
        for process in processes(cluster_here.folder)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    names = {name for name, _ in listening}
    assert {"gcs_server", "raylet", "moto_server"} <= names
    assert {address for _, address in listening} <= set(LOOPBACK)


def test_three_nodes_are_three_processes(cluster_here: Any) -> None:
    names = [process.name() for process in processes(cluster_here.folder)]
    assert names.count("raylet") == 3
    assert names.count("gcs_server") == 1


def test_secrets_are_for_their_owner_alone(cluster_here: Any) -> None:
    for name in ("token", "env.sh"):
        assert (cluster_here.folder / name).stat().st_mode & 0o077 == 0
    token = (cluster_here.folder / "token").read_text()
    for log in cluster_here.folder.glob("*.log"):
        assert token not in log.read_text()


def test_a_job_without_the_token_is_refused(cluster_here: Any, tmp_path: Path) -> None:
    said = cluster_here.submit(
        "--", "touch", str(tmp_path / "ran"), RAY_AUTH_MODE="", RAY_AUTH_TOKEN_PATH=""
    )
    assert said.returncode == 1
    assert "Unauthorized: Missing authentication token" in said.stderr
    assert not (tmp_path / "ran").exists()


def test_a_job_with_another_token_is_refused(cluster_here: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    said = cluster_here.submit(
        "--", "touch", str(tmp_path / "ran"), RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")
    )
    assert said.returncode == 1
    assert "Forbidden: Invalid authentication token" in said.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("header", "status"), [({}, 401), ({"Authorization": "Bearer 0"}, 403)])
@pytest.mark.parametrize("page", ["/api/jobs/", "/api/cluster_status", "/nodes?view=summary"])
def test_the_dashboard_s_pages_want_the_token(
    cluster_here: Any, page: str, header: dict[str, str], status: int
) -> None:
    address = cluster_here.environment["RAY_API_SERVER_ADDRESS"]
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(urllib.request.Request(address + page, headers=header), timeout=20)
    assert error.value.code == status


def test_a_job_that_joins_with_another_token_says_so_in_one_line(
    cluster_here: Any, dataset_writer: Callable[..., Any], tmp_path: Path
) -> None:
    dataset_writer(tmp_path / "data", {"one": 90}, ("01",))
    (tmp_path / "token").write_text("0" * 64)
    words = ["--dataset", str(tmp_path / "data"), "--model.audio_codebooks", "2"]
    words += ["--train.batch_trs", "16"]
    said = cluster_here.run(
        "python", "jobs/train.py", *words, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")
    )
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    address = cluster_here.environment["RAY_ADDRESS"]
    assert f"error: RAY_ADDRESS {address}: the cluster does not take the token" in said.stderr


def test_a_submitted_job_that_would_lose_its_runs_is_refused(cluster_here: Any) -> None:
    words = ["jobs/train.py", "--dataset", "s3://giblet-ray/film", "--storage.path", "runs"]
    said = cluster_here.submit("--working-dir", ".", "--", "python", *words)
    assert said.returncode == 1
    assert "error: --storage.path is runs: a submitted job runs in a folder" in said.stdout
    assert "Traceback" not in said.stdout


def test_up_leaves_alone_what_is_up(cluster_here: Any, change: Callable[[str, Path], str]) -> None:
    before = (cluster_here.folder / "state.json").read_text()
    assert "is up already" in change("up", cluster_here.folder)
    assert (cluster_here.folder / "state.json").read_text() == before


def test_down_ends_all_its_processes_and_no_other(
    cluster_here: Any, change: Callable[[str, Path], str]
) -> None:
    state = json.loads((cluster_here.folder / "state.json").read_text())
    mine = processes(cluster_here.folder)
    with subprocess.Popen(["sleep", "600"]) as other:
        # A process that has got the number of one that has died is none of the cluster's.
        state["processes"].append({"name": "stranger", "pid": other.pid, "born": 0})
        (cluster_here.folder / "state.json").write_text(json.dumps(state))
        said = change("down", cluster_here.folder)
        assert "ending ray" in said
        assert "stranger" not in said
        assert other.poll() is None
        other.kill()
    assert not [each for each in mine if each.is_running() and each.status() != "zombie"]
    assert not Path(state["scratch"]).exists()
    assert {path.suffix for path in cluster_here.folder.iterdir()} == {".log"}
    assert "is not up" in change("down", cluster_here.folder)

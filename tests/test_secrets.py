"""Planted passwords, keys and tokens: refused as settings, and found nowhere afterwards."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, Process

from giblet_ray.cli import parse_job, run_job
from giblet_ray.config import (
    CompareJob,
    Job,
    PrecomputeJob,
    PredictJob,
    PromoteJob,
    TrainJob,
    TuneJob,
)
from giblet_ray.console import show
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.secrets import redact
from giblet_ray.tracking.config import TrackingConfig

PLANTED = {
    name: f"planted-{number}-{secrets.token_hex(12)}"
    for number, name in enumerate(
        (
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
        )
    )
}
IN_URI = "planted-uri-5b1d3c0a9e7f24d6"


@pytest.mark.parametrize(
    "value",
    [
        f"postgresql://lab:{IN_URI}@db/mlflow",
        f"https://lab:{IN_URI}@mlflow.lab",
        f"s3://key:{IN_URI}@bucket/film",
        f"s3://key:{IN_URI[:8]}/{IN_URI[8:]}@bucket/film",
        f"abfss://c@lab.dfs.core.windows.net/film?sv=2&sig={IN_URI}",
        f"s3://bucket/film?region=eu&secret_key={IN_URI}&x=1",
        f"https://lab/film?X-Amz-Security-Token={IN_URI}",
    ],
)
@pytest.mark.parametrize(
    ("job", "settings"),
    [
        (TrainJob, "dataset storage.path tracking.uri name data.voxels config"),
        (TuneJob, "dataset storage.path tracking.uri sweep.resume"),
        (CompareJob, "out dataset tracking.uri experiment"),
        (PromoteJob, "tracking.uri run"),
        (PredictJob, "model dataset out mask tracking.uri"),
        (PrecomputeJob, "out mask film codes.weights embedding.model scan.confounds_path"),
    ],
)
def test_settings_with_a_secret_are_refused_without_saying_it(
    job: type[Job], settings: str, value: str
) -> None:
    for name in settings.split():
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        with pytest.raises(
            ValueError, match=f"--{name} holds a secret .*AWS_SECRET_ACCESS_KEY"
        ) as e:
            job(**nested)
        assert IN_URI[8:] not in str(e.value)


def test_settings_made_in_python_or_searched_are_looked_into() -> None:
    uri = f"http://lab:{IN_URI}@mlflow.lab"
    with pytest.raises(ValueError, match=r"--tracking\.uri holds a secret"):
        TrainJob(dataset="data", tracking=TrackingConfig(uri=uri))
    with pytest.raises(ValueError, match=r"--sweep\.space\.data\.voxels holds a secret"):
        TuneJob(dataset="data", sweep={"space": {"data.voxels": [uri]}})


@pytest.mark.parametrize(
    "value",
    [
        "sqlite:////data/mlflow.db",
        "sftp://lab@host/film",
        "http://127.0.0.1:5000",
        "http://mlflow.lab:5000/lab@home",
        "s3://bucket/film?region=eu&endpoint_override=http://127.0.0.1:9000",
        "abfss://container@lab.dfs.core.windows.net/film",
    ],
)
def test_addresses_without_a_secret_are_accepted(value: str) -> None:
    assert parse_job(TrainJob, ["--dataset", value]).dataset == value
    assert redact(value) == value


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("planted")
def test_what_is_shown_has_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    for name, value in PLANTED.items():
        show(f"{name} is {value}, of http://lab:{IN_URI}@mlflow.lab/?token={IN_URI}.")
    said, _ = capfd.readouterr()
    assert said.count("is ***, of http://lab:***@mlflow.lab/?token=***") == len(PLANTED)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("error", [InputError, RuntimeError])
def test_errors_show_no_secret(
    error: type[Exception],
    debug: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(job: TrainJob) -> None:
        try:
            raise OSError(f"403 for {PLANTED['MLFLOW_TRACKING_TOKEN']}")
        except OSError as cause:
            raise error(f"mysql://lab:{IN_URI}@db: Access denied") from cause

    monkeypatch.setattr(sys, "argv", ["jobs/train.py", "--dataset", "data", *debug])
    with pytest.raises(SystemExit) as end:
        run_job(TrainJob, fail)
    said, told = capfd.readouterr()
    one_line = error is InputError and not debug
    assert end.value.code == (2 if one_line else 1)
    assert "mysql://lab:***@db: Access denied" in told
    assert ("403 for ***" in told) != one_line
    for secret in (IN_URI, *PLANTED.values()):
        assert secret not in said + told


def files_with(secret: str, folder: Path) -> Iterator[Path]:
    """Yield the files that hold a secret, also where it lies among binary numbers."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
            yield path


RUN_ALL = textwrap.dedent(
    f"""
    import json, runpy, sys

    codes = []
    for words in json.loads(sys.argv[1]):
        sys.argv = ["jobs/train.py", "--config", "settings.yaml", *words]
        try:
            runpy.run_path("{ROOT}/jobs/train.py", run_name="__main__")
            codes.append(0)
        except SystemExit as end:
            codes.append(end.code)
    print(codes)
    """
)
"""Trains on one cluster as each of several command lines asks for; tells how each ended."""


@pytest.mark.slow
def test_trainings_leave_no_secret_anywhere(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    """One that succeeds and one that diverges, with Ray's logs, and a command that is refused."""
    settings = {
        "dataset": arrays_and_dataset[1].storage.location,
        "model": tiny_model,
        "train": {"epochs": 1, "batch_trs": 16},
        "scaling": {"num_workers": 1},
        "tracking": {"system_metrics_seconds": 1},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    diverge = ["--optimizer.lr", "1e18", "--optimizer.max_grad_norm", "1e18"]
    diverge += ["--optimizer.warmup_fraction", "0", "--debug"]
    token = secrets.token_hex(32)
    # Ray's sockets lie below its folder, and their paths are short.
    with tempfile.TemporaryDirectory(prefix="ray-") as ray:
        environment = {
            **{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
            **PLANTED,
            "RAY_TMPDIR": ray,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
        }
        commands = [
            ["--name", "good"],
            ["--name", "bad", *diverge],
            ["--name", "refused", "--tracking.uri", f"http://lab:{IN_URI}@127.0.0.1:1"],
        ]
        command = (sys.executable, "-c", RUN_ALL, json.dumps(commands))
        process = Process(*command, folder=tmp_path, environment=environment)
        (tmp_path / "said.log").write_text(process.end())
        assert process.stdout.splitlines()[-1] == "[0, 1, 2]"
        assert list(tmp_path.glob("runs/good/*/record.json"))
        assert (tmp_path / "mlflow.db").exists()
        assert list(Path(ray).rglob("*.log")) or list(Path(ray).rglob("*.out"))
        for secret in (IN_URI, token, *PLANTED.values()):
            for folder in (tmp_path, Path(ray)):
                assert not list(files_with(secret, folder))

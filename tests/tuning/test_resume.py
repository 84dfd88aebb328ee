"""What goes on with a sweep, as the user is told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import CompareJob, TuneJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.training.identity import saved_config
from giblet_ray.tuning.journal import Journal
from giblet_ray.tuning.resume import comparing, open_sweep, resuming, sweep_config, sweep_folder
from giblet_ray.tuning.space import with_settings


@pytest.fixture
def resume(tmp_path: Path) -> Callable[[str], TuneJob]:
    """Go on with a sweep, and with what is given besides."""
    where = ["--dataset", "d", "--storage.path", str(tmp_path)]
    space = ["--sweep.space", "model.embed_dim=16,32"]
    job = parse_job(TuneJob, ["--name", "night", *where, *space])
    Journal(Storage.at(sweep_folder(job))).begin(sweep_config(job), "checksum", [], ())

    def resume(given: str) -> TuneJob:
        words = ["--sweep.resume", "night", *where, *shlex.split(given)]
        return open_sweep(parse_job(TuneJob, words))[0]

    return resume


def test_a_sweep_goes_on_with_its_settings_and_another_budget(
    resume: Callable[[str], TuneJob],
) -> None:
    job = resume("--sweep.num_samples 5 --sweep.space model.embed_dim=16,32")
    assert (job.name, job.sweep.num_samples) == ("night", 5)
    assert job.sweep.space == {"model.embed_dim": "16,32"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "--sweep.space model.embed_dim=16,32 optimizer.lr=1e-4..1e-2:log",
            r"--sweep\.space\.optimizer\.lr is '1e-4..1e-2:log', but sweep night was started "
            "without it: leave it out",
        ),
        ("--sweep.space model.embed_dim=16", r"embed_dim is '16', but .* started with '16,32'"),
        (
            "--model.kind ridge",
            r"--model\.kind is 'ridge', but sweep night was started with 'multimodal': leave",
        ),
        ("--train.seed 3", r"--train\.seed is 3, but sweep night was started with 0: leave it out"),
    ],
)
def test_what_would_make_it_another_sweep_is_one_line(
    resume: Callable[[str], TuneJob], given: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        resume(given)
    assert "\n" not in str(error.value)


def test_a_sweep_of_another_release_says_what_of_its_settings_is_not_known(
    resume: Callable[[str], TuneJob], tmp_path: Path
) -> None:
    record = tmp_path / "night" / "sweep.json"
    content = json.loads(record.read_text())
    content["config"]["model"]["loudness"] = 11
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"^--sweep\.resume night: .*model\.loudness: ") as error:
        resume("")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["runs", "/lab/runs", "it's a lab/runs", "s3://lab/runs"])
def test_what_resumes_a_sweep_can_be_typed_and_finds_it(path: str) -> None:
    told = resuming(TuneJob(dataset="d", name="night", storage={"path": path}))
    assert ("--storage.path" in told) == (path != "runs")
    resumed = parse_job(TuneJob, shlex.split(told))
    assert (resumed.sweep.resume, resumed.storage.path) == ("night", path)


@pytest.mark.parametrize("uri", [None, "sqlite:////lab's/mlflow.db", "http://lab:5000"])
def test_what_compares_its_trials_can_be_typed_and_finds_them(uri: str | None) -> None:
    where = {} if uri is None else {"uri": uri}
    job = TuneJob(dataset="d", name="night", tracking={"experiment": "two films", **where})
    told = comparing(job)
    assert ("--tracking.uri" in told) == (uri is not None)
    compared = parse_job(CompareJob, shlex.split(told))
    assert (compared.experiment, compared.tracking.uri) == ("two films", job.tracking.uri)


@pytest.mark.parametrize("lag", [None, 3.0])
def test_trials_of_a_resumed_sweep_have_the_lag_of_their_own_memory(lag: float | None) -> None:
    job = TuneJob(dataset="d", name="night", data={"lag_seconds": lag})
    resumed = TuneJob(**sweep_config(job))
    for memory, own in (("none", 4.5), ("hrf", 0.0)):
        trial = with_settings(resumed, {"model.memory": memory})
        assert saved_config(trial)["data"]["lag_seconds"] == (own if lag is None else lag)

"""What all tests share: one Ray cluster, one small data set, trainings within this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from faulty_proxy import FaultyProxy
from once import make_once
from processes import JobProcess

if TYPE_CHECKING:  # what takes seconds to import, those import who use it
    from local_training import LocalLink, LocalTraining
    from mlflow_server import MlflowServer

    from giblet_ray.config import TuneJob
    from giblet_ray.dataset.reader import Dataset

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Ray's workers yield to all else, so that a job would wait for the tests that run beside it.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so

# Where a lab's own package lies, for jobs and Ray's workers too.
_SUPPORT = str(Path(__file__).parent / "support")
_BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (_SUPPORT, _BENCHMARKS, os.environ.get("PYTHONPATH")))
)

LONGEST = (
    "tuning/test_sweep.py",
    "comparison/test_compare_job.py",
    "parts/test_codes.py",
    "training/test_trainer.py",
    "precompute/test_precompute.py",
    "jobs/test_own_code.py",
    "test_secrets.py",
    "preflight/test_jobs.py",
    "preflight/test_training.py",
    "dataset/test_s3.py",
    "training/test_loop.py",
    "features/test_codec.py",
    "tracking/test_server.py",
)
"""Files that are begun first, so that no worker is left alone with one at the end. The first two
do not both start Ray: two that start at once wait for each other's processes."""


HEAVY = ("faults", "deploy/test_local_cluster.py")
"""Folders and files all tests of which are of ``make faults``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files before all others, which stay in their order; mark what is heavy."""
    here = Path(__file__).parent
    for item in items:
        if any(item.path.is_relative_to(here / name) for name in HEAVY):
            item.add_marker(pytest.mark.heavy)
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def train_locally() -> Callable[..., LocalLink]:
    """Train any job in this process, into a folder; see :meth:`LocalTraining.train`."""
    from local_training import LocalTraining

    return lambda job, folder, *how, **more: LocalTraining(job).train(folder, *how, **more)


@pytest.fixture(scope="session")
def local_training(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., LocalTraining]:
    """Make a training of the small data set, with settings by group."""
    from local_training import LocalTraining

    from giblet_ray.config import TrainJob

    def make(**groups: Any) -> LocalTraining:
        settings = {
            "data": {**groups.pop("data", {})},
            "model": {**tiny_model, **groups.pop("model", {})},
            "train": {"epochs": 4, "batch_trs": 16},
            **groups,
        }
        return LocalTraining(TrainJob(dataset=arrays_and_dataset[1].storage.location, **settings))

    return make


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a data set of three people, each with units of their own."""
    from three_people import make_people

    folder = tmp_path_factory.mktemp("people") / "people"
    make_people(folder)
    return folder


@pytest.fixture(scope="session")
def arrays_and_dataset(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, np.ndarray], Dataset]:
    """A data set of two stimuli of ragged lengths and two subjects, and what was written."""
    from made_dataset import write_dataset

    from giblet_ray.dataset.reader import Dataset

    folder = tmp_path_factory.mktemp("data") / "small"
    mask = np.zeros((4, 5, 3), bool)
    mask.flat[np.random.default_rng(0).permutation(60)[:24]] = True
    arrays = write_dataset(folder, {"one": 117, "two": 83}, ("01", "02"), mask=mask)
    return arrays, Dataset.open(str(folder))


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., dict[str, np.ndarray]]:
    """Give tests :func:`write_dataset`, for data sets of their own."""
    from made_dataset import write_dataset

    return write_dataset


@pytest.fixture(scope="session")
def tiny_model() -> dict[str, Any]:
    """Settings of the smallest model that the small data set can train, as YAML would give them:
    that of jobs/seed.yaml, one TR at one lag, with fewer numbers."""
    return {
        **{"memory": "none", "inputs": "encoders", "norm": "batch"},
        **{"head": "full", "heads": "shared"},
        "embed_dim": 4,
        "audio_codebooks": 2,
        "kernel_sizes": [3, 5],
        "video_features": 8,
        "audio_features": 8,
        "text_features": 8,
        "trunk_dims": [16, 16],
        "bottleneck_dim": 8,
        "head_dim": 16,
    }


@pytest.fixture(scope="session")
def make_tune_job(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., TuneJob]:
    """Make a sweep's job whose records and MLflow store lie in a folder."""
    from giblet_ray.config import TuneJob

    def make(folder: Path, sweep: dict[str, Any], **groups: Any) -> TuneJob:
        settings: dict[str, Any] = {
            "model": tiny_model,
            "train": {"epochs": 3, "batch_trs": 16},
            "optimizer": {"lr": 1e-2},
        }
        for key, value in groups.items():
            settings[key] = {**settings.get(key, {}), **value}
        return TuneJob(
            dataset=arrays_and_dataset[1].storage.location,
            name="sweep",
            storage={"path": str(folder / "runs")},
            tracking={"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
            sweep=sweep,
            **settings,
        )

    return make


@pytest.fixture
def tune_job(make_tune_job: Callable[..., TuneJob], tmp_path: Path) -> Callable[..., TuneJob]:
    """Make a sweep's job in the test's own folder."""
    return partial(make_tune_job, tmp_path)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute on one thread: the models are tiny, and threads that wait for a core spin."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films with subtitles; two subjects' scans, of which 02 has none of film two."""
    from two_films import make_films

    def make(folder: Path) -> Path:
        make_films(folder)
        return folder

    return make_once(tmp_path_factory, "sources", make)


@pytest.fixture(scope="session")
def film_sounds(film_folder: Path) -> dict[str, np.ndarray]:
    """Samples of each film's sound, (samples,)."""
    from two_films import N_TRS, TR

    from giblet_ray.features.audio import read_audio

    return {
        film: np.concatenate(list(read_audio(film_folder / f"{film}.mp4", duration_seconds=n * TR)))
        for film, n in N_TRS.items()
    }


@pytest.fixture(scope="session")
def film_codec(tmp_path_factory: pytest.TempPathFactory, film_sounds: dict[str, np.ndarray]) -> Any:
    """The codec that a job makes of these films, which are shorter than it hears of each."""
    from giblet_ray.features.codec import load_codec, seed_untrained_codec

    def make(folder: Path) -> Path:
        codec = seed_untrained_codec(np.concatenate(list(film_sounds.values())))
        codec.save(folder / "codec.safetensors")
        return folder / "codec.safetensors"

    return load_codec(str(make_once(tmp_path_factory, "codec", make)))


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[FaultyProxy]:
    """Where s3:// leads in this process and all that it starts; nothing answers there yet."""
    proxy = FaultyProxy()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in proxy.environment.items():
            environment.setenv(name, value)
        yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def s3(s3_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    """S3-compatible storage with the bucket s3://lab, behind a proxy that fails when told to."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    s3_proxy.upstream = server.get_host_and_port()
    boto3.client("s3").create_bucket(Bucket="lab")
    yield s3_proxy
    server.stop()


@pytest.fixture(scope="session")
def cluster(s3_proxy: FaultyProxy) -> Iterator[None]:
    """One local Ray cluster for the whole session; its workers know where s3:// leads."""
    import ray

    from giblet_ray.cluster import connect

    connect(num_cpus=4)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server for the tests of a file; no answer is waited for longer than 8 s."""
    from mlflow_server import MlflowServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        server = MlflowServer(tmp_path_factory.mktemp("server"))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def start_job() -> Iterator[Callable[..., JobProcess]]:
    """Start jobs, as :class:`JobProcess` is made; none outlives the test."""
    started: list[JobProcess] = []

    def start(*words: object, **where: Any) -> JobProcess:
        started.append(JobProcess(*words, **where))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for job in started:
        job.kill()

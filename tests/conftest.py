"""What all tests share: one Ray cluster, one small data set, trainings within this process."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import hypothesis
import nibabel
import numpy as np
import pytest
import torch
from faulty_proxy import FaultyProxy
from mlflow_server import MlflowServer
from once import make_once
from processes import JobProcess
from two_films import N_TRS, TR, make_films

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.checkpoint.store import keep_checkpoint, latest_record, open_latest
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.layout import (
    ScanKey,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.loader import MemoryLoader
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.residence import normalise_here
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import (
    Phase,
    Scan,
    Source,
    Stimulus,
    StoredPart,
    StoredSpace,
    Subject,
)
from giblet_ray.dataset.writer import value_type, write_blob, write_manifest, write_shard
from giblet_ray.features.audio import read_audio
from giblet_ray.spaces.usable import count_bad_units, empty_trs, unmasked
from giblet_ray.spaces.volume import Volume
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import run_record
from giblet_ray.training.loop import BareLink, train

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Ray's workers yield to all else, so that a job would wait for the tests that run beside it.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so

# Where a lab's own package lies, for jobs and Ray's workers too.
_SUPPORT = str(Path(__file__).parent / "support")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_SUPPORT, os.environ.get("PYTHONPATH"))))

LONGEST = (
    "tuning/test_sweep.py",
    "comparison/test_compare_job.py",
    "training/test_trainer.py",
    "parts/test_codes.py",
    "precompute/test_precompute.py",
    "preflight/test_jobs.py",
    "test_secrets.py",
)
"""Files that are begun first, so that no worker is left alone with one at the end. The first two
do not both start Ray: two that start at once wait for each other's processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files before all others, which stay in their order; mark long benchmarks."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here / "benchmarks/long"):
            item.add_marker(pytest.mark.slow)
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


ROW_GROUP_TRS = 16
AFFINE = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
"""Of a space that is shifted, flipped and not cubic."""


STORED_AS = {
    "frames": ("video", "image"),
    "codes": ("audio", "codes"),
    "mel": ("audio", "mel"),
    "text": ("text", "vector"),
}


def stored_part(name: str, values: np.ndarray) -> StoredPart:
    """Describe a part as if it had been made."""
    modality, encoder = STORED_AS[name]
    return StoredPart(kind=name, modality=modality, encoder=encoder, value=value_type(values))


def write_dataset(
    folder: Path,
    n_trs: dict[str, int],
    subjects: tuple[str, ...],
    n_voxels: int = 24,
    n_codebooks: int = 4,
    seed: int = 0,
    unseen: tuple[tuple[str, str], ...] = (),
    first_code: int | None = None,
    change_bold: Callable[[ScanKey, np.ndarray], np.ndarray] = lambda key, bold: bold,
    repeats: int = 1,
    mask: np.ndarray | None = None,
    **of_scans: Any,
) -> dict[str, np.ndarray]:
    """Write a data set of random numbers; BOLD follows the stimulus, so that it can be learned.

    Returns the arrays by shard path. `unseen` lists (subject, stimulus) pairs without a scan;
    `first_code` replaces the first code of each stimulus; `change_bold` gives a scan other BOLD,
    of other TRs or units too; `mask` is where its units lie; `of_scans` are further fields of every
    scan.
    """
    random = np.random.default_rng(seed)
    storage = Storage.at(str(folder))
    arrays: dict[str, np.ndarray] = {}
    stimuli, scans = [], []
    mixing = random.normal(size=(4, n_voxels))
    for stimulus, n in n_trs.items():
        states = random.integers(0, 2, size=(n, 4))
        frames = random.integers(0, 80, (n, 3, 18, 32)) + 100 * states[:, :1, None, None]
        codes = random.integers(0, 512, (n, n_codebooks, 112)) + 512 * states[:, 1:2, None]
        if first_code is not None:
            codes[0, 0, 0] = first_code
        text = random.normal(size=(n, 1024)) + 2 * states[:, 2:3]
        parts = {
            "frames": frames.astype(np.uint8),
            "codes": codes.astype(np.int16),
            "text": text.astype(np.float32),
        }
        shards = {}
        for part, values in parts.items():
            path = stimulus_shard(part, stimulus)
            arrays[path] = values
            labels = stimulus_labels(part, stimulus)
            shards[part] = write_shard(storage, path, values, ROW_GROUP_TRS, labels)
        source = Source(name="made", sha256=hashlib.sha256(stimulus.encode()).hexdigest())
        sources = {"film": source, "text": source}
        phase = Phase(n_trs=n, shards=shards)
        stimuli.append(Stimulus(name=stimulus, sources=sources, phases=(phase,)))
        for subject, repeat in itertools.product(subjects, range(1, repeats + 1)):
            if (subject, stimulus) in unseen:
                continue
            key = ScanKey(subject, stimulus, repeat)
            delayed = np.concatenate([np.zeros((3, 4)), states[:-3]])
            noise = random.normal(size=(n, n_voxels))
            bold = (1000 + 10 * (delayed @ mixing) + 5 * noise).astype(np.float32)
            bold = change_bold(key, bold)
            path = bold_shard(*key)
            arrays[path] = bold
            masked_trs = empty_trs(bold)
            bad = count_bad_units([bold[unmasked(len(bold), masked_trs)]])
            facts = {
                "volumes": (0, len(bold)),
                "masked_trs": masked_trs,
                "nan_units": bad.nan,
                "constant_units": bad.constant,
                "source": source,
                "shard": write_shard(storage, path, bold, ROW_GROUP_TRS, bold_labels(key)),
            }
            scans.append(Scan(**key._asdict(), **{**facts, **of_scans}))
    made = {path.partition("/")[0]: array for path, array in arrays.items()}
    space, blobs = StoredSpace(), ()
    if mask is not None:
        volume = Volume(nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE), mask, "made")
        ((name, content),) = volume.files().items()
        blobs = (write_blob(storage, name, content),)
        space = StoredSpace(kind="volume", blobs={name: blobs[0].path})
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=ROW_GROUP_TRS,
        parts={name: stored_part(name, made[name]) for name in made if name != "bold"},
        stimuli=tuple(stimuli),
        subjects={
            scan.subject: Subject(value=value_type(arrays[scan.shard.path]), space=space)
            for scan in scans
        },
        scans=tuple(scans),
        blobs=blobs,
    )
    write_manifest(storage, manifest)
    return arrays


class DeathError(Exception):
    """Stands for the death of the process."""


class LocalLink(BareLink):
    """One rank, whose checkpoints go to a folder and whose curves go to lists."""

    def __init__(
        self, folder: Path, die_at: Callable[[dict[str, float]], bool], device: torch.device
    ) -> None:
        super().__init__(device)
        self.place = self._storage, self._run = Storage.at(str(folder.parent)), folder.name
        self._die_at = die_at
        self.points: list[tuple[int, dict[str, float]]] = []
        self.reports: list[dict[str, float]] = []
        self.lines: list[str] = []

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        def opened(name: str) -> nullcontext[str]:
            return nullcontext(self._storage.path(name))

        with open_latest(self._storage, self._run, opened, self.show) as name:
            yield None if name is None else Path(self._storage.path(name))

    def report(self, metrics: dict[str, float], checkpoint: Path | None, name: str) -> None:
        assert checkpoint is not None
        keep_checkpoint(self._storage, self._run, checkpoint, name)
        self.reports.append(metrics)
        if self._die_at(metrics):
            raise DeathError("killed here")

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.points.append((step, metrics))

    def show(self, line: str) -> None:
        self.lines.append(line)


class LocalTraining:
    """A training without Ray: one rank in this process, over rows read directly."""

    def __init__(self, job: TrainJob) -> None:
        self.job, self.data = job, plan_data(job)
        dataset, selection = self.data.dataset, self.data.selection
        self._held = HeldRows(
            [dataset.read(span, selection) for span in dataset.row_groups()],
            selection.value_types(dataset),
            self.data.scans,
            {name: stimulus.n_trs for name, stimulus in dataset.stimuli.items()},
        )
        self._normalisation = normalise_here(self.data)

    def train(
        self,
        folder: Path,
        die_at: Callable[[dict[str, float]], bool] = lambda metrics: False,
        device: str = "cpu",
        residence: Literal["memory", "stream"] = "memory",
        run: RunRecord | None = None,
    ) -> LocalLink:
        """Train, or go on from the latest checkpoint in the folder.

        Rows lie in memory; a run that begins draws the order that suits `residence`. What the run
        is, is looked up in the folder, unless it is given.
        """
        link = LocalLink(folder, die_at, torch.device(device))
        how = (self.data.values, self.data.lag_trs, link.device, self.data.context_trs)
        loader = MemoryLoader(self._held, *how)
        data = replace(self.data, residence=residence)
        run = run or run_record(self.job, data, latest_record(*link.place))
        windows = data.ordered(run.order)
        train(self.job, run, windows, loader, self._normalisation, data.space_files(), link)
        return link


@pytest.fixture(scope="session")
def train_locally() -> Callable[..., LocalLink]:
    """Train any job in this process, into a folder; see :meth:`LocalTraining.train`."""
    return lambda job, folder, *how, **more: LocalTraining(job).train(folder, *how, **more)


@pytest.fixture(scope="session")
def local_training(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., LocalTraining]:
    """Make a training of the small data set, with settings by group."""

    def make(**groups: Any) -> LocalTraining:
        settings = {
            "data": {**groups.pop("data", {})},
            "model": {**tiny_model, **groups.pop("model", {})},
            "train": {"epochs": 4, "batch_size": 16},
            **groups,
        }
        return LocalTraining(TrainJob(dataset=arrays_and_dataset[1].storage.location, **settings))

    return make


@pytest.fixture(scope="session")
def arrays_and_dataset(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, np.ndarray], Dataset]:
    """A data set of two stimuli of ragged lengths and two subjects, and what was written."""
    folder = tmp_path_factory.mktemp("data") / "small"
    mask = np.zeros((4, 5, 3), bool)
    mask.flat[np.random.default_rng(0).permutation(60)[:24]] = True
    arrays = write_dataset(folder, {"one": 117, "two": 83}, ("01", "02"), mask=mask)
    return arrays, Dataset.open(str(folder))


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., dict[str, np.ndarray]]:
    """Give tests :func:`write_dataset`, for data sets of their own."""
    return write_dataset


@pytest.fixture(scope="session")
def tiny_model() -> dict[str, Any]:
    """Settings of the smallest model that the small data set can train, as YAML would give them."""
    return {
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

    def make(folder: Path, sweep: dict[str, Any], **groups: Any) -> TuneJob:
        settings: dict[str, Any] = {
            "model": tiny_model,
            "train": {"epochs": 3, "batch_size": 16},
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
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films with subtitles; two subjects' scans, of which 02 has none of film two."""

    def make(folder: Path) -> Path:
        make_films(folder)
        return folder

    return make_once(tmp_path_factory, "sources", make)


@pytest.fixture(scope="session")
def film_sounds(film_folder: Path) -> dict[str, np.ndarray]:
    """Samples of each film's sound, (samples,)."""
    return {
        film: np.concatenate(list(read_audio(film_folder / f"{film}.mp4", duration_seconds=n * TR)))
        for film, n in N_TRS.items()
    }


@pytest.fixture(scope="session")
def film_codec(tmp_path_factory: pytest.TempPathFactory, film_sounds: dict[str, np.ndarray]) -> Any:
    """The codec that a job makes of these films, which are shorter than it hears of each."""
    from giblet_ray.features.codec import load_codec, seed_untrained_codec

    def make(folder: Path) -> Path:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        codec = seed_untrained_codec(np.concatenate(list(film_sounds.values())))
        torch.set_num_threads(threads)
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

"""Responses that peak when they were planted to, whenever a film begins in its scan.

Noise-free BOLD follows a signal of the film through responses of known peaks. It is measured at the
middle of each volume, as the signal of a TR is the mean over all of it::

    volumes     |  0  |  1  |  2  |  3  |  4  |  5  |      measured at their middles
    scan 1        |===== film =====...                     begins 0.6 s after volume 0 does
    scan 2                              |===== film ...    after a lead-in of 4 volumes
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from local_training import LocalTraining
from precompute_here import precompute_here
from simulated import read_peaks, response

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cli import parse_job
from giblet_ray.config import PrecomputeJob, TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.responses import responses_of
from giblet_ray.models.ridge.model import Ridge

FindDelays = Callable[[Dataset, Path], dict[str, np.ndarray]]

TR, STEP = 1.5, 0.1
N_TRS = 480
PEAKS = np.array([4.0, 4.6, 5.0, 5.5, 6.1, 6.5])
ONSETS = {"1": 0.6, "2": 4 * TR}
"""When the film begins in the scan of each person (s)."""
CUTS = {"1": (TR - 0.6, 1), "2": (0.0, 4)}
"""What is cut by hand so that both begin together: seconds of the film, volumes of the scan."""
WITHIN_SECONDS = 0.1


def draw_signal() -> np.ndarray:
    """Draw what the film's signal is every 0.1 s, (samples,), smooth over 0.6 s.

    What is much slower than a TR cannot tell one delay from the next.
    """
    random = np.random.default_rng(0)
    kernel = np.exp(-0.5 * (np.arange(-3, 3 + STEP / 2, STEP) / 0.6) ** 2)
    white = random.normal(size=round(N_TRS * TR / STEP) + len(kernel) - 1)
    signal = np.convolve(white, kernel, mode="valid")
    return (signal - signal.mean()) / signal.std()


def measure(signal: np.ndarray, onset_seconds: float) -> np.ndarray:
    """Return the BOLD of a scan that goes on until the film ends, (volumes, units)."""
    taps = response(np.arange(0, 32, STEP)[:, None], PEAKS)
    driven = np.stack([np.convolve(signal, taps[:, v]) for v in range(len(PEAKS))], axis=1)
    n_volumes = int((onset_seconds + N_TRS * TR) / TR)
    middles = (np.arange(n_volumes) + 0.5) * TR - onset_seconds
    # A sample stands for the STEP around its own time, which begins STEP / 2 into the film.
    samples = np.arange(len(driven)) * STEP + STEP / 2
    bold = [np.interp(middles, samples, driven[:, v], left=0) for v in range(len(PEAKS))]
    return 100 + np.stack(bold, axis=1)


def write_film(folder: Path, signal: np.ndarray, first_seconds: float) -> None:
    """Write a film from a time of it on: silence, and the signal."""
    folder.mkdir()
    first = round(first_seconds / STEP)
    with wave.open(str(folder / "film.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * round((N_TRS * TR - first_seconds) * 8000)))
    kept = signal[first:]
    table = np.c_[np.arange(len(kept)) * STEP + STEP / 2, kept]
    np.savetxt(folder / "drive.tsv", table, "%.9g", "\t", header="time\tdrive", comments="")


def make(folder: Path, out: Path, *words: object) -> Dataset:
    return precompute_here(
        parse_job(
            PrecomputeJob,
            [
                *("--out", str(out), "--film", str(folder / "film.wav")),
                *("--array", f"drive={folder / 'drive.tsv'}", "--codes.make", "false"),
                *("--scan.high_pass_seconds", "none", *map(str, words)),
            ],
        )
    )


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, dict[str, Dataset]]:
    """The data set of both scans as measured, and one of each cut by hand, with its film."""
    folder = tmp_path_factory.mktemp("delays")
    signal = draw_signal()
    write_film(folder / "film", signal, 0)
    by_hand, scans = {}, []
    for name, onset_seconds in ONSETS.items():
        bold = measure(signal, onset_seconds).astype(np.float32)
        scans.append(folder / f"sub-{name}.npy")
        np.save(scans[-1], bold)
        seconds, volumes = CUTS[name]
        write_film(folder / name, signal, seconds)
        cut = folder / name / f"sub-{name}.npy"
        np.save(cut, bold[volumes:])
        by_hand[name] = make(folder / name, folder / f"out-{name}", "--bold", cut)
    table = folder / "scans.tsv"
    begins = [f"{name}\tfilm\t{onset:g}" for name, onset in ONSETS.items()]
    table.write_text("\n".join(["subject\tstimulus\tonset_seconds", *begins]) + "\n")
    whole = make(folder / "film", folder / "out", "--bold", *scans, "--scan.table", table)
    return whole, by_hand


def fit(dataset: Dataset, folder: Path, **model: object) -> Encoder:
    """Return the model of a training on all that the data set has."""
    settings = {"data": {"modalities": ("drive",)}, "model": model}
    job = TrainJob.model_validate({"dataset": dataset.storage.location, **settings})
    LocalTraining(job).train(folder)
    return Encoder.load(folder)


def delays_of_ridge(dataset: Dataset, folder: Path) -> dict[str, np.ndarray]:
    """Return when the finite impulse response of each unit peaks (s), by subject."""
    model = fit(dataset, folder, kind="ridge").model
    assert isinstance(model, Ridge)
    weights = zip(dataset.subjects, model.weights, strict=True)
    return {subject: read_peaks(weights_VLF.numpy()) for subject, weights_VLF in weights}


def delays_of_encoder(dataset: Dataset, folder: Path) -> dict[str, np.ndarray]:
    """Return when the response that the default model learns of each unit peaks (s), by subject."""
    fit(dataset, folder)
    learned = responses_of(open_run(str(folder)), dataset.subjects)
    return {subject: responses.peak_V for subject, responses in learned.items()}


@pytest.mark.parametrize("subject", ONSETS)
def test_rows_are_those_of_the_film_and_the_scan_cut_by_hand(
    datasets: tuple[Dataset, dict[str, Dataset]], subject: str
) -> None:
    rows = []
    for dataset in (datasets[0], datasets[1][subject]):
        scan = dataset.scans[ScanKey(subject, "film")]
        chosen = Selection(("drive",), (subject,))
        # The film's TRs: the other person's scan may go on for longer.
        span = Span("film", 0, dataset.stimuli["film"].phases[scan.phase].n_trs, scan.phase)
        table = dataset.read(span, chosen)
        rows.append({c: table[c].combine_chunks() for c in chosen.columns})
    for column, found in rows[0].items():
        assert len(found) == N_TRS - (subject == "1")
        assert found.equals(rows[1][column]), column


@pytest.mark.parametrize(
    "delays_of",
    [delays_of_ridge, pytest.param(delays_of_encoder, marks=pytest.mark.slow)],
    ids=["ridge", "encoder"],
)
def test_responses_are_found_when_they_were_planted(
    datasets: tuple[Dataset, dict[str, Dataset]], tmp_path: Path, delays_of: FindDelays
) -> None:
    whole, by_hand = datasets
    found = delays_of(whole, tmp_path / "whole")
    assert found.keys() == ONSETS.keys()
    for subject, peak_V in found.items():
        np.testing.assert_allclose(peak_V, PEAKS, atol=WITHIN_SECONDS + 1e-6)
        alone = delays_of(by_hand[subject], tmp_path / subject)
        np.testing.assert_allclose(alone[subject], PEAKS, atol=WITHIN_SECONDS + 1e-6)


def test_an_onset_that_is_not_told_shows_as_delay(
    datasets: tuple[Dataset, dict[str, Dataset]], tmp_path: Path
) -> None:
    """Were the film taken to begin with the volume, 0.6 s before it does, as much is added."""
    folder = tmp_path / "untold"
    write_film(folder, draw_signal(), 0)
    bold = measure(draw_signal(), ONSETS["1"])[:N_TRS]
    np.save(folder / "sub-1.npy", bold.astype(np.float32))
    dataset = make(folder, tmp_path / "out", "--bold", folder / "sub-1.npy")
    (peak_V,) = delays_of_ridge(dataset, tmp_path / "run").values()
    np.testing.assert_allclose(peak_V, PEAKS + ONSETS["1"], atol=0.25)

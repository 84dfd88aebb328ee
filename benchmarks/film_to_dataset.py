"""How fast a film becomes a data set, beside the same libraries in one process.

    python benchmarks/film_to_dataset.py --minutes 12

Makes a film with sound and subtitles, as the demo does, and turns it into a data set of frames,
codes and text, without scans:

in one process
    pictures decoded and scaled, then sound decoded and resampled, then encoded by the encodec
    library chunk by chunk, then text embedded, and each written when it is made: one after another,
    with torch's threads as they are by default.
by the job
    what jobs/precompute.py does on a cluster of this machine, which runs already; it checks the
    codec besides, by encoding the film's beginning in one go as well.

EnCodec has no trained weights here: they would take as long. Both ways must give the same frames
and text, and the same codes but where a rounding decides between two that are as near. Contenders
take turns, and a ratio is the median over the rounds. Stages are seconds of all processes together
in the last round; the shares of the job's are of the time that all cores had.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
import torch
from machine import CONSOLE, cpu_model
from rates import Rates, compare, spread
from rich.table import Table
from stages import STAGES, StageTimers
from target import Target, add_targets, tell

from giblet_ray.cli import parse_job
from giblet_ray.cluster import connect
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import stimulus_labels
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.demo.film import make_film
from giblet_ray.features import audio, video
from giblet_ray.features.codec import SAMPLE_RATE, Codec, load_codec, seed_untrained_codec
from giblet_ray.features.codes import cut_codes
from giblet_ray.features.encodec_library import import_encodec
from giblet_ray.precompute import plan, precompute, units

TR_SECONDS = 1.5
LEAST_AGREEMENT = 0.999
"""Share of codes that are the same."""
ONE, JOB = "in one process", "by the job"


def main() -> None:
    """Parse, make the film, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=12, help="length of the film")
    parser.add_argument("--repeats", type=int, default=2, help="rounds, after one to warm up")
    add_targets(parser)
    options = parser.parse_args()

    connect()
    with tempfile.TemporaryDirectory() as folder:
        seconds = round(options.minutes * 60 / TR_SECONDS) * TR_SECONDS
        bench = Bench(Path(folder), seconds)
        load, _, _ = os.getloadavg()
        CONSOLE.print(
            f"{cpu_model()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} "
            f"GiB; load of others and this {load:.1f}; torch {torch.__version__}\n"
            f"a film of {seconds:g} s, TRs of {TR_SECONDS} s"
        )
        ways = {ONE: bench.in_one_process, JOB: bench.by_the_job}
        rates = compare(
            {name: partial(bench.measured, name, way) for name, way in ways.items()},
            options.repeats,
        )
        bench.check()
    print_rates(rates)
    print_stages(bench.spent, rates, seconds)
    ratios = rates[JOB].over(rates[ONE])
    what = f"precompute by the job / in one process, {os.cpu_count()} cores"
    found = statistics.median(ratios)
    tell([Target(6, what, found, 1.6, True, (min(ratios), max(ratios)))], options.targets)


@dataclass
class Bench:
    """A film, and both ways to make a data set of it.

    Attributes
    ----------
    spent : dict of str to dict of str to float
        Seconds of each stage, by way, when it was last gone.
    """

    folder: Path
    seconds: float

    def __post_init__(self) -> None:
        self.spent: dict[str, dict[str, float]] = {}
        make_film(self.folder / "film.mp4", self.folder / "film.srt", self.seconds, seed=0)
        noise_N = np.random.default_rng(0).normal(0, 0.1, 30 * SAMPLE_RATE).astype(np.float32)
        seed_untrained_codec(noise_N).save(self.folder / "codec.safetensors")
        (self.folder / "stages").mkdir()
        self._timers = StageTimers(str(self.folder / "stages"))
        self._numbers = count()
        self._made: dict[str, np.ndarray] = {}
        self._dataset: Dataset | None = None

    def measured(self, name: str, way: Callable[[], None], _: int) -> int:
        """Go one way; return the seconds of film."""
        way()
        self.spent[name] = self._timers.take()
        return round(self.seconds)

    def _job(self) -> PrecomputeJob:
        files = {"film": "film.mp4", "text": "film.srt", "codes.weights": "codec.safetensors"}
        words = [w for name, file in files.items() for w in (f"--{name}", str(self.folder / file))]
        out = self.folder / f"out-{next(self._numbers)}"
        return parse_job(
            PrecomputeJob, [*words, "--tr_seconds", str(TR_SECONDS), "--out", str(out)]
        )

    def in_one_process(self) -> None:
        """Make and write one part after another."""
        job = self._job()
        made = plan.make_plan(job)
        (film,) = made.films
        codec = load_codec(str(self.folder / "codec.safetensors"))
        codec._encode_windows = partial(encode_plainly, codec)  # type: ignore[method-assign]
        for layer in codec.model.modules():
            if isinstance(layer, torch.nn.ELU):
                layer.inplace = False
        text = made.parts["text"]
        text.load(text.prepare([film]), "cpu")
        make: dict[str, Callable[[], np.ndarray]] = {
            "frames": lambda: video.read_frames(film.path, film.n_trs, TR_SECONDS),
            "codes": lambda: cut_codes(
                codec.encode(
                    audio.read_audio(film.path, duration_seconds=film.stop_seconds),
                    chunk_seconds=job.codes.chunk_seconds,
                ),
                film.n_trs,
                TR_SECONDS,
            ),
            "text": lambda: text.make(film).values,
        }
        storage = Storage.at(job.out)
        for unit in made.units:
            self._made[unit.part] = make[unit.part]()
            units.write_shard(
                storage, unit.path, self._made[unit.part], unit.row_group_trs, unit.labels
            )

    def by_the_job(self) -> None:
        """Make them on the cluster; workers that are sent a part time their stages."""

        def timed_plan(job: PrecomputeJob) -> plan.Plan:
            made = plan.make_plan(job)
            for part in made.parts.values():
                part.timers = self._timers  # type: ignore[attr-defined]
            return made

        with mock.patch.object(precompute, "make_plan", timed_plan):
            self._dataset = precompute.precompute(self._job(), lambda _: None).dataset

    def check(self) -> None:
        """Raise unless both ways have made the same rows."""
        dataset = self._dataset
        assert dataset is not None
        (phase,) = dataset.manifest.stimuli[0].phases
        for part, made in self._made.items():
            labels = stimulus_labels(part, "film")
            rows = dataset.read_shard(phase.shards[part], labels, phase.n_trs, 0, phase.n_trs)
            same = float((as_arrays(rows, dataset.value_type(part)) == made).mean())
            if same < (LEAST_AGREEMENT if part == "codes" else 1):
                raise RuntimeError(f"{part}: {same:.3%} of the numbers are the same both ways")


def encode_plainly(
    codec: Codec, windows: Sequence[np.ndarray], _: int, bandwidth: float
) -> list[np.ndarray]:
    """Return the codes (K, T) that the encodec library finds, a window at a time."""
    model, conv, codes = codec.model, import_encodec().modules.conv, []
    with torch.inference_mode(), mock.patch.object(conv, "pad1d", conv.pad1d.args[0]):
        for window_N in windows:
            embedded_BDT = model.encoder(torch.tensor(window_N)[None, None])
            codes_KBT = model.quantizer.encode(embedded_BDT, model.frame_rate, bandwidth)
            codes.append(codes_KBT[:, 0].numpy().astype(np.int16))
    return codes


def print_rates(rates: dict[str, Rates]) -> None:
    """Print film-hours per hour of each way."""
    first = next(iter(rates.values()))
    table = Table("", "film-hours per hour", "lowest", "highest", "to the first row")
    for name, rate in rates.items():
        of_round = rate.per_round
        numbers = (f"{each:.2f}" for each in (rate.median, min(of_round), max(of_round)))
        table.add_row(name, *numbers, spread(rate.over(first)))
    CONSOLE.print(table)


def print_stages(
    spent: dict[str, dict[str, float]], rates: dict[str, Rates], seconds: float
) -> None:
    """Print what each stage took, and its share of the time that the way's cores had."""
    table = Table("stage", *(f"{name} (s, share)" for name in spent))
    n_cores = {name: (os.cpu_count() or 1) if name == JOB else 1 for name in spent}
    had = {name: n_cores[name] * seconds / rates[name].per_round[-1] for name in spent}
    for stage in STAGES:
        cells = (
            f"{each[stage]:.1f}, {each[stage] / had[name]:.0%}" if stage in each else ""
            for name, each in spent.items()
        )
        table.add_row(stage, *cells)
    rest = {name: had[name] - sum(each.values()) for name, each in spent.items()}
    table.add_row("none of these", *(f"{s:.1f}, {s / had[name]:.0%}" for name, s in rest.items()))
    CONSOLE.print(table)


if __name__ == "__main__":
    main()

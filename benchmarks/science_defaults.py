"""Rows on what the encoder's defaults are taken from, where truth is linear in the parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from claims import Claim, Options, spread
from science_truth import peak_error
from simulated import simulate
from simulated_encoder import DEFAULT, fit_encoder, impulse_responses, score

HEADS: Mapping[str, Mapping[str, Any]] = {
    "linear": DEFAULT,
    "low_rank 64": {"model": {"head": "low_rank", "head_rank": 64}},
    "low_rank 256": {"model": {"head": "low_rank", "head_rank": 256}},
    "full 2,048": {"model": {"head": "full", "head_dim": 2048}, "optimizer": {"lr": 1e-3}},
}
LENGTHS = (5, 10, 40)
"""Epochs."""
TRAINING_TRS = (300, 1500, 6000)


def heads(options: Options) -> Iterator[Claim]:
    """Yield what each kind of head reaches."""
    for name, settings in HEADS.items():
        found = []
        for seed in options.seeds:
            options.say(f"head {name}: seed {seed}")
            data = simulate(options.size, seed)
            found.append(score(fit_encoder(data, settings, seed), data))
        yield Claim(f"head: {name}", "", spread(found))


def lengths(options: Options) -> Iterator[Claim]:
    """Yield what trainings of several lengths reach, from little data and from much."""
    for n_trs in TRAINING_TRS:
        size = replace(options.size, train=max(240, options.size.train * n_trs // 1500))
        for epochs in LENGTHS:
            found, peaks = [], []
            for seed in options.seeds:
                options.say(f"{size.train} TRs, {epochs} epochs: seed {seed}")
                data = simulate(size, seed)
                model = fit_encoder(data, {"train": {"epochs": epochs}}, seed)
                found.append(score(model, data))
                peaks.append(peak_error(data, impulse_responses(model, data)))
            text = f"{spread(found)}, peaks off by {spread(peaks, 2)} s"
            name = f"{size.train:,} training TRs, {epochs} epochs"
            yield Claim(name, "", text)

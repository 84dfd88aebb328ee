"""What a run's folder keeps of its validation TRs, so that it is predicted once, not each time.

``validation.safetensors``: r of each unit, what each film TR adds to the mean r, and which weights
on which TRs it is of. What is of others is made again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from giblet_ray.comparison.heldout import CommonTrs, ScoredRun, TrainedRun
from giblet_ray.dataset.storage import Storage, StorageError
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import MeanR

KEPT = "validation.safetensors"


def read_kept(trained: TrainedRun, common: CommonTrs) -> ScoredRun | None:
    """Return what a run's folder has of these TRs, or None.

    Raises
    ------
    InputError
        If it is damaged.
    """
    storage = Storage.at(trained.run.folder)
    try:
        arrays = load(storage.read(KEPT))
        known = json.loads(arrays["known"].tobytes())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{storage.describe(KEPT)}: damaged: {error}; delete it") from error
    if known["of"] != identity(trained, common):
        return None
    places = [(stimulus, first) for stimulus, first, _ in known["places"]]
    edges = np.cumsum([n for _, _, n in known["places"]])[:-1]
    stretches = np.split(arrays["influence_T"], edges)
    return ScoredRun(MeanR(known["value"], tuple(stretches), tuple(places)), arrays["pearson_V"])


def keep(trained: TrainedRun, common: CommonTrs, scored: ScoredRun) -> str:
    """Keep how well a run predicts these TRs in its folder; say why not, where that is refused."""
    mean = scored.mean
    pairs = zip(mean.places, mean.stretches, strict=True)
    known = {
        "of": identity(trained, common),
        "value": mean.value,
        "places": [[stimulus, first, len(series)] for (stimulus, first), series in pairs],
    }
    arrays: dict[str, NDArray] = {
        "known": np.frombuffer(json.dumps(known).encode(), np.uint8),
        "influence_T": mean.series,
        "pearson_V": scored.pearson_V,
    }
    storage = Storage.at(trained.run.folder)
    try:
        with storage.write(KEPT) as stream:
            stream.write(save(arrays))
    except StorageError as error:
        return f"run {trained.run.name} is predicted again each time: {error}"
    return ""


def identity(trained: TrainedRun, common: CommonTrs) -> dict[str, Any]:
    """Return what scores of a run are of, as JSON has it."""
    units = b"".join(common.valid[subject].tobytes() for subject in sorted(common.valid))
    return {
        "mean": "over scans, subjects, units",
        "weights": trained.checkpoint.record.weights_checksum,
        "dataset": trained.data.dataset.manifest.checksum,
        "spans": [[span.stimulus, span.start, span.stop] for span in common.spans],
        "scans": [list(scan) for scan in common.scans],
        "units": xxhash.xxh3_64_hexdigest(units),
    }

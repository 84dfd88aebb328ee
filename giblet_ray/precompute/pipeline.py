"""The Ray Data job: units of all parts, spread over a cluster, at once.

::

    frames, mel   tasks ------------------------------.
    bold          tasks, as many as fit into memory ---+--> records (codes: pieces) --> driver
    codes         actors that hold the codec, on GPUs -+
    text          actors that hold the embedder -------'

Workers write their shards themselves; what comes back is a record of a few hundred bytes, or
the codes of a piece of film (9 KB per minute and codebook).
"""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy

from giblet_ray.cluster import cluster_totals, never_restart
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.features.embedder import load_embedder
from giblet_ray.precompute.makers import MAKERS, make_text
from giblet_ray.precompute.sound import Piece, encode_piece, load_prepared_codec
from giblet_ray.precompute.units import Record, Unit

_LEAST_SLOTS = 8
_WORKING_BYTES = 512 * 2**20
"""Memory of a worker besides the values it makes: libraries, decoders, blocks."""
_COPIES = 3
"""Copies of the values that a worker holds at most: as read, as cleaned, as written."""


class Pool(NamedTuple):
    """Actors that hold the same model."""

    size: int
    gpus: float
    """GPUs that each of them claims."""


class Slots(NamedTuple):
    """How a cluster is shared out."""

    num_cpus: float
    """CPUs that each task and actor claims."""
    codecs: Pool
    embedders: Pool


def share_cluster(
    n_cpus: float, n_gpus: float, n_pieces: int, n_texts: int, model_is_large: bool
) -> Slots:
    """Share out a cluster so that no kind of work waits for another to end.

    Actors keep what they claim until their work is done. So they leave room for one task of each
    of the other kinds, for which a small machine's CPUs are cut in parts: at least eight slots in
    all, each a whole fraction of a CPU, so that they fit on every node.

    Parameters
    ----------
    n_cpus, n_gpus : float
        What the cluster has.
    n_pieces, n_texts : int
        Work for the codec and the embedder.
    model_is_large : bool
        The embedder is a network, and not a hash.
    """
    cpus, gpus = max(1, int(n_cpus)), int(n_gpus)
    per_cpu = math.ceil(_LEAST_SLOTS / cpus)
    embeds = model_is_large and n_texts > 0
    embedders = Pool(min(n_texts, 1), 0.0)
    codecs = Pool(min(n_pieces, cpus, cpus * per_cpu - embedders.size - 2), 0.0)
    if gpus:
        each = 0.5 if embeds and gpus == 1 else 1.0
        if embeds:
            embedders = Pool(min(n_texts, max(1, gpus // 4)), each)
        free = int((gpus - embedders.size * embedders.gpus) / each)
        codecs = Pool(min(n_pieces, free, cpus * per_cpu - embedders.size - 2), each)
    # Rounded down to what Ray counts in: a third three times is to fit into one CPU.
    return Slots(math.floor(10_000 / per_cpu) / 10_000, codecs, embedders)


def run(
    storage: Storage, units: Sequence[Unit], pieces: Sequence[Piece], embedder: str
) -> Iterator[Record | tuple[Piece, np.ndarray]]:
    """Make units (of all parts but codes) and pieces of codes; yield what is done, as it is done.

    Raises
    ------
    InputError
        The first that a worker meets; work under way is abandoned, finished shards stay.
    """
    decoded = [unit for unit in units if unit.part in ("frames", "mel")]
    scans = [unit for unit in units if unit.part == "bold"]
    texts = [unit for unit in units if unit.part == "text"]
    totals = cluster_totals()
    slots = share_cluster(
        totals.get("CPU", 0), totals.get("GPU", 0), len(pieces), len(texts), embedder != "hashing"
    )
    branches = []
    for group in (decoded, scans):
        if group:
            memory = task_memory(group)
            make = partial(_make, storage=storage)
            branches.append(_rows(group).map(make, num_cpus=slots.num_cpus, memory=memory))
    if pieces:
        device = "cuda" if slots.codecs.gpus else "cpu"
        held = {"storage": storage, "device": device}
        branches.append(_on_actors(pieces, CodecWorker, held, slots.codecs, slots.num_cpus))
    if texts:
        held = {"storage": storage, "model": embedder}
        branches.append(_on_actors(texts, TextWorker, held, slots.embedders, slots.num_cpus))
    if not branches:
        return
    answers = branches[0].union(*branches[1:]) if branches[1:] else branches[0]
    # Without prefetching, an answer is here when its worker is done, and not a few answers later.
    for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for answer in cast(pa.Table, batch).to_pylist():
            yield _result(answer)


def _rows(work: Sequence[Unit | Piece]) -> ray.data.Dataset:
    """Return a data set of one block per item, so that each is a task of its own."""
    items = [{"work": item.model_dump_json()} for item in work]
    return ray.data.from_items(items, override_num_blocks=len(items))


def _on_actors(
    work: Sequence[Unit | Piece], worker: Any, held: dict[str, Any], pool: Pool, num_cpus: float
) -> ray.data.Dataset:
    """Do work on a pool of actors, each of which is made with what it holds."""
    with warnings.catch_warnings():
        # Ray has no other way of setting what never_restart sets.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn")
        return _rows(work).map(
            worker,
            fn_constructor_kwargs=held,
            compute=ActorPoolStrategy(size=pool.size, max_tasks_in_flight_per_actor=1),
            num_cpus=num_cpus,
            num_gpus=pool.gpus or None,
            ray_remote_args_fn=never_restart,
        )


def task_memory(units: Sequence[Unit]) -> int:
    """Return the bytes that a task claims: no more scans are read at once than a node can hold."""
    needed = _COPIES * max(unit.nbytes for unit in units) + _WORKING_BYTES
    nodes = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]
    return min(needed, int(max(nodes)))


# --- on a worker ------------------------------------------------------------------------------


def attempt(make: Callable[[], tuple[str, bytes]]) -> dict[str, Any]:
    """Return what `make` gives as a row, or its error: a user's error is an answer, no crash.

    An exception would reach the driver too, but Ray would first write of it to the terminal.
    """
    row = {"answer": "", "payload": b"", "error": "", "traceback": ""}
    try:
        row["answer"], row["payload"] = make()
    except (InputError, OSError) as error:
        row["error"] = " ".join(str(error).split())
        row["traceback"] = traceback.format_exc()
    return row


def _make(row: dict[str, Any], storage: Storage) -> dict[str, Any]:
    unit = Unit.model_validate_json(row["work"])
    return attempt(lambda: (MAKERS[unit.part](unit, storage).model_dump_json(), b""))


class TextWorker:
    """Holds the embedder; it is loaded at first use, so that failing to is an answer too."""

    def __init__(self, storage: Storage, model: str) -> None:
        self._storage = storage
        self._model = model
        self._embedder: Any = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Embed one film's text and write the shard."""

        def make() -> tuple[str, bytes]:
            self._embedder = self._embedder or load_embedder(self._model)
            unit = Unit.model_validate_json(row["work"])
            return make_text(unit, self._storage, self._embedder).model_dump_json(), b""

        return attempt(make)


class CodecWorker:
    """Holds the codec; it is loaded at first use, so that failing to is an answer too."""

    def __init__(self, storage: Storage, device: str) -> None:
        self._storage = storage
        self._device = device
        self._codec: Any = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Encode one piece of a film."""

        def make() -> tuple[str, bytes]:
            self._codec = self._codec or load_prepared_codec(self._storage, self._device)
            values = encode_piece(self._codec, Piece.model_validate_json(row["work"]))
            return row["work"], values.tobytes()

        return attempt(make)


# --- on the driver ----------------------------------------------------------------------------


def _result(row: dict[str, Any]) -> Record | tuple[Piece, np.ndarray]:
    raise_error(row)
    if not row["payload"]:
        return Record.model_validate_json(row["answer"])
    piece = Piece.model_validate_json(row["answer"])
    if piece.measures_agreement:
        return piece, np.frombuffer(row["payload"], np.float64)[0]
    codes_KT = np.frombuffer(row["payload"], np.int16).reshape(piece.n_codebooks, -1)
    return piece, codes_KT


def raise_error(row: dict[str, Any]) -> None:
    """Raise the error that a worker answered with, if it did, with its traceback as a note."""
    if row["error"]:
        error = InputError(row["error"])
        error.add_note(row["traceback"])
        raise error

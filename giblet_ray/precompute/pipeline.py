"""The Ray Data job: units of all parts, spread over a cluster, at once.

::

    parts without a network   tasks -----------------------------.
    bold                      tasks, as many as fit into memory --+--> records or pieces --> driver
    each part with a network  actors that hold it, on GPUs ------'

Workers write their shards themselves; what comes back is a record of a few hundred bytes, or
a piece of a film (of codes, 9 KB per minute and codebook).
"""

from __future__ import annotations

import io
import json
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy

from giblet_ray.cluster import cluster_totals, living_nodes, never_restart
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, one_line
from giblet_ray.features.fingerprint import Equal, Fingerprint, equal_to, fingerprint
from giblet_ray.parts.part import PICTURES, SOUND, FilmFiles, Part, PartInPieces, Prepared
from giblet_ray.precompute.makers import Piece, make_bold, make_shard, make_shards
from giblet_ray.precompute.prepared import find_prepared
from giblet_ray.precompute.units import BOLD, Record, Unit
from giblet_ray.settings import Group

_TASKS = 2
"""Kinds of work without a network: of films, and of scans."""
_LEAST_SECONDS = 60
"""Of film for an actor: one takes as long to start as EnCodec to hear so much, or longer."""
_WORKING_BYTES = 512 * 2**20
"""Memory of a worker besides the values it makes: libraries, decoders, blocks."""
_COPIES = 3
"""Copies of the values that a worker holds at most: as read, as cleaned, as written."""


class Work(Group):
    """A unit, or a piece of one, or units that one pass of a network makes."""

    unit: Unit
    others: tuple[Unit, ...] = ()
    """Of other parts of the same network, or of other phases that are joined of the same pieces."""
    piece: Piece | None = None


class Pool(NamedTuple):
    """Actors that hold the same network."""

    size: int
    gpus: float
    """GPUs that each of them claims."""


class Slots(NamedTuple):
    """How a cluster is shared out."""

    num_cpus: float
    """CPUs that each task and actor claims."""
    pools: dict[str, Pool]
    """Actors of each part that has a network."""


def share_cluster(n_cpus: float, n_gpus: float, n_work: Mapping[str, int]) -> Slots:
    """Share out a cluster so that no kind of work waits for another to end.

    Actors keep what they claim until their work is done. So they leave room for one task of each
    of the other kinds, for which a small machine's CPUs are cut in parts: each a whole fraction of
    a CPU, so that they fit on every node, and no more than it takes, as each is a process that
    has libraries to load. The part with most work gets what the others leave.

    Parameters
    ----------
    n_cpus, n_gpus : float
        What the cluster has.
    n_work : mapping of str to int
        Units or pieces of each part that has a network.
    """
    cpus, gpus, n_parts = max(1, int(n_cpus)), int(n_gpus), len(n_work)
    per_cpu = math.ceil((n_parts + _TASKS + 1) / cpus)
    share = 1.0 if gpus >= n_parts else 1 / math.ceil(n_parts / gpus) if gpus else 0.0
    free = cpus * per_cpu - _TASKS
    places = int(gpus / share) if share else free
    pools: dict[str, Pool] = {}
    for part, work in sorted(n_work.items(), key=lambda each: each[1]):
        left = min(free, places) - sum(pool.size for pool in pools.values())
        n_left = n_parts - len(pools)
        fair = left if n_left == 1 else max(1, left // (2 * n_left)) if gpus else 1
        pools[part] = Pool(min(work, fair), share)
    # Rounded down to what Ray counts in: a third three times is to fit into one CPU.
    return Slots(math.floor(10_000 / per_cpu) / 10_000, pools)


def cut_work(units: Sequence[Unit], parts: Mapping[str, Part]) -> dict[str, list[Work]]:
    """Return what is to be done for units, by network or part: as a whole, or, of a part in pieces
    that has a network, in pieces."""
    work: dict[str, list[Work]] = {}
    together: dict[tuple[str, str, int], list[Unit]] = {}
    in_pieces: dict[tuple[str, str, int], list[Unit]] = {}
    for unit in units:
        part = parts.get(unit.part)
        if isinstance(part, PartInPieces) and part.has_network:
            phase = 0 if part.pieces_serve_all_phases else unit.phase
            in_pieces.setdefault((unit.part, unit.stimulus, phase), []).append(unit)
        elif part is not None and part.has_network:
            together.setdefault((part.network, unit.stimulus, unit.phase), []).append(unit)
        else:
            work.setdefault(unit.part, []).append(Work(unit=unit))
    for (name, *_), of_film in in_pieces.items():
        last, *others = sorted(of_film, key=lambda unit: unit.film.stop_seconds, reverse=True)
        part = cast(PartInPieces, parts[name])
        pieces = [Work(unit=last, others=tuple(others), piece=p) for p in part.pieces(last.film)]
        work.setdefault(part.network, []).extend(pieces)
    for (network, *_), (first, *others) in together.items():
        work.setdefault(network, []).append(Work(unit=first, others=tuple(others)))
    return work


def share_work(work: Mapping[str, Sequence[Work]], parts: Mapping[str, Part]) -> Slots:
    """Share out the cluster that is connected to."""
    totals = cluster_totals()
    networks = {part.network for part in parts.values() if part.has_network}
    n_work = {
        name: min(len(of_part), math.ceil(_film_seconds(of_part) / _LEAST_SECONDS))
        for name, of_part in work.items()
        if name in networks
    }
    return share_cluster(totals.get("CPU", 0), totals.get("GPU", 0), n_work)


def _film_seconds(work: Sequence[Work]) -> float:
    """Return how long the films are that work is of."""
    films = {(each.unit.stimulus, each.unit.phase): each.unit.film for each in work}
    return sum(film.stop_seconds for film in films.values())


def run(
    storage: Storage, work: Mapping[str, Sequence[Work]], parts: Mapping[str, Part]
) -> Iterator[Record | tuple[Work, np.ndarray]]:
    """Do the work; yield what is done, as it is done: records, and pieces.

    Raises
    ------
    InputError
        The first that a worker meets; work under way is abandoned, finished shards stay.
    """
    slots = share_work(work, parts)
    branches = []
    tasks = [each for name, of_part in work.items() if name not in slots.pools for each in of_part]
    for are_scans in (False, True):
        group = [each for each in tasks if (each.unit.part == BOLD) == are_scans]
        if group:
            memory = task_memory([each.unit for each in group])
            do = partial(_do, storage=storage, parts=parts)
            branches.append(_rows(group).map(do, num_cpus=slots.num_cpus, memory=memory))
    for name, pool in slots.pools.items():
        of_network = {each: part for each, part in parts.items() if part.network == name}
        held = {"storage": storage, "parts": of_network, "on_gpu": pool.gpus > 0}
        branches.append(_on_actors(PartWorker, work[name], held, pool, slots.num_cpus))
    if not branches:
        return
    answers = branches[0].union(*branches[1:]) if branches[1:] else branches[0]
    # Without prefetching, an answer is here when its worker is done, and not a few answers later.
    for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for answer in cast(pa.Table, batch).to_pylist():
            yield from _results(answer)


def equal_films(films: Sequence[FilmFiles], tell: Callable[[str], None]) -> list[Equal]:
    """Find the intervals of films that show, or sound, the same; a task for each film.

    Parameters
    ----------
    films : sequence of FilmFiles
        What is compared, each with itself, too.
    tell : callable
        Is told how far it is.

    Raises
    ------
    InputError
        If one cannot be decoded.
    """
    made: Mapping[str, Fingerprint] = _fingerprints(
        films, lambda done: tell(f"looking at films, {done}")
    )
    held = ray.put(made)  # which tasks map: no copy for each
    task = ray.remote(equal_to)
    # The first has most to be compared with.
    tasks = [task.remote(film.name, held) for film in films]
    found = _all_done(tasks, lambda done: tell(f"comparing films with those after them, {done}"))
    return [each for of_film in found for each in of_film]


def _all_done(tasks: Sequence[ray.ObjectRef], tell: Callable[[str], None]) -> list[Any]:
    """Wait for tasks, and tell how many are done."""
    waiting = list(tasks)
    while waiting:
        tell(f"{len(tasks) - len(waiting)} of {len(tasks)}")
        _, waiting = ray.wait(waiting)
    return ray.get(list(tasks))


def _fingerprints(
    films: Sequence[FilmFiles], tell: Callable[[str], None]
) -> dict[str, Fingerprint]:
    """Return what each film shows and sounds like, by stimulus, made by a task each.

    Raises
    ------
    InputError
        If one cannot be decoded.
    """

    def of_film(film: FilmFiles) -> dict[str, Any]:
        def make() -> tuple[str, bytes]:
            senses = PICTURES in film.has, SOUND in film.has
            seconds = min(film.seconds, film.stop_seconds)
            found, payload = fingerprint(film.path, seconds, *senses), io.BytesIO()
            np.savez(payload, picture_MD=found.picture_MD, sound_MD=found.sound_MD)
            return "", payload.getvalue()

        return attempt(make)

    rows = _all_done([ray.remote(of_film).remote(film) for film in films], tell)
    found = {}
    for film, row in zip(films, rows, strict=True):
        raise_error(row)
        with np.load(io.BytesIO(row["payload"]), allow_pickle=False) as arrays:
            found[film.name] = Fingerprint(**arrays)
    return found


def _rows(work: Sequence[Work]) -> ray.data.Dataset:
    """Return a data set of one block per item, so that each is a task of its own."""
    items = [{"work": item.model_dump_json()} for item in work]
    return ray.data.from_items(items, override_num_blocks=len(items))


def _on_actors(
    worker: Any, work: Sequence[Work], held: dict[str, Any], pool: Pool, num_cpus: float
) -> ray.data.Dataset:
    """Do work on a pool of actors, each of which holds the part."""
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
    needed = _COPIES * max(unit.held_bytes for unit in units) + _WORKING_BYTES
    return min(needed, int(max(node.has.get("memory", 0) for node in living_nodes())))


# --- on a worker ------------------------------------------------------------------------------


def attempt(make: Callable[[], tuple[str, bytes]]) -> dict[str, Any]:
    """Return what `make` gives as a row, or its error: a user's error is an answer, no crash.

    An exception would reach the driver too, but Ray would first write of it to the terminal.
    """
    row = {"answer": "", "payload": b"", "error": "", "traceback": ""}
    try:
        row["answer"], row["payload"] = make()
    except (InputError, OSError) as error:
        row["error"] = one_line(error)
        row["traceback"] = traceback.format_exc()
    return row


def _do(row: dict[str, Any], storage: Storage, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Make a unit that needs no network."""
    unit = Work.model_validate_json(row["work"]).unit

    def make() -> tuple[str, bytes]:
        if unit.part == BOLD:
            return _records([make_bold(unit, storage)]), b""
        part = parts[unit.part]
        part.load(Prepared(), "cpu")
        return _records([make_shard(part, unit, storage)]), b""

    return attempt(make)


class PartWorker:
    """Holds a network; it is loaded at first use, so that failing to is an answer too."""

    def __init__(self, storage: Storage, parts: Mapping[str, Part], on_gpu: bool) -> None:
        self._storage, self._parts = storage, parts
        self._device = "cuda" if on_gpu else "cpu"
        self._loaded: Part | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make one film's rows, of one part or several, or one piece of them."""
        work = Work.model_validate_json(row["work"])

        def make() -> tuple[str, bytes]:
            part = self._loaded
            if part is None:
                part = self._parts[work.unit.part]
                part.load(self._prepared(part, work.unit), self._device)
                self._loaded = part
            if work.piece is None:
                units = (work.unit, *work.others)
                return _records(make_shards(part, self._parts, units, self._storage)), b""
            piece = cast(PartInPieces, part).make_piece(work.unit.film, work.piece)
            payload = io.BytesIO()
            np.save(payload, piece)
            return row["work"], payload.getvalue()

        return attempt(make)

    def _prepared(self, part: Part, unit: Unit) -> Prepared:
        recipe = part.network_recipe(unit.settings)
        found = find_prepared(self._storage, part.network, recipe)
        if found is None:
            where = self._storage.location
            raise InputError(f"{where}: what {part.network} is made with is gone; start again")
        return found


# --- on the driver ----------------------------------------------------------------------------


def _records(records: Sequence[Record]) -> str:
    return json.dumps([record.model_dump(mode="json") for record in records])


def _results(row: dict[str, Any]) -> Iterator[Record | tuple[Work, np.ndarray]]:
    raise_error(row)
    if row["payload"]:
        values = np.load(io.BytesIO(row["payload"]), allow_pickle=False)
        yield Work.model_validate_json(row["answer"]), values
    else:
        yield from map(Record.model_validate, json.loads(row["answer"]))


def raise_error(row: dict[str, Any]) -> None:
    """Raise the error that a worker answered with, if it did, with its traceback as a note."""
    if row["error"]:
        error = InputError(row["error"])
        error.add_note(row["traceback"])
        raise error

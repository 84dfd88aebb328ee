"""Films, subtitles and scans to a data set: check, make what is missing, describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.cluster import connect, outlive_losses
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.parts.part import FilmFiles, Part, PartInPieces, Prepared
from giblet_ray.precompute import resume
from giblet_ray.precompute.chosen import films_of
from giblet_ray.precompute.kept_blobs import blobs_are_whole, delete_other_blobs, keep_blobs
from giblet_ray.precompute.kept_spaces import keep_spaces
from giblet_ray.precompute.makers import Piece, join_shard
from giblet_ray.precompute.plan import Plan, make_plan
from giblet_ray.precompute.prepared import find_prepared, keep_prepared
from giblet_ray.precompute.provenance import build_manifest
from giblet_ray.precompute.same_content import compare_films, same_in_words
from giblet_ray.precompute.scans_table import scans_table
from giblet_ray.precompute.units import Record
from giblet_ray.progress import Progress, Show
from giblet_ray.spaces.config import high_pass_in_words


@dataclass(frozen=True)
class Summary:
    """What a data set holds, and what it took to make."""

    dataset: Dataset
    """The finished data set."""
    n_made: int
    n_kept: int
    """Shards that were made now, and that were found finished."""
    seconds: float
    """Time that it took (s)."""

    def rows(self) -> dict[str, str]:
        """Return names and values for the user."""
        manifest = self.dataset.manifest
        n_trs = sum(stimulus.n_trs for stimulus in manifest.stimuli)
        parts = ", ".join(
            f"{name} {part.value.dtype}({' x '.join(map(str, part.value.shape))})"
            for name, part in manifest.parts.items()
        )
        rows = {
            "data set": self.dataset.storage.location,
            "stimuli": f"{len(manifest.stimuli)}: {n_trs} TRs of {manifest.tr_seconds:g} s, "
            f"{n_trs * manifest.tr_seconds / 3600:.2f} h",
            "one TR": parts,
        }
        if manifest.scans:
            units = sorted({subject.n_units for subject in manifest.subjects.values()})
            rows["BOLD"] = (
                f"{len(manifest.subjects)} subjects, {len(manifest.scans)} scans, "
                f"{' to '.join(f'{n:,}' for n in dict.fromkeys((units[0], units[-1])))} units"
            )
            read_with = manifest.provenance["bold"]["settings"]
            rows["high-pass"] = high_pass_in_words(read_with["high_pass_seconds"])
        size = sum(file.bytes for file in self.dataset.files)
        rows["size"] = f"{size / 1e6:,.1f} MB in {len(self.dataset.files)} files"
        rows["made"] = f"{self.n_made} shards, {self.n_kept} kept, in {self.seconds:.1f} s"
        return rows


def precompute(job: PrecomputeJob, show: Show) -> Summary:
    """Make a data set, or what is missing of one.

    Everything that needs no decoding is checked first. Then the shards are made, in parallel, by
    the cluster that is connected to (one on this machine, where there is none); each is whole or
    not there. The manifest comes last: without it there is no data set.

    Started again after an interruption, it keeps the shards that were made of the same files
    with the same settings and whose checksums are right. A finished data set is left as it is,
    but for shards that are damaged or gone.

    Parameters
    ----------
    job : PrecomputeJob
        Films, texts, scans and settings.
    show : Show

    Raises
    ------
    InputError
        For anything that the user gave and that cannot be used.
    """
    storage = Storage.at(job.out)
    with Progress(show) as progress:
        progress.doing = "checking the files"
        before = resume.existing(storage)
        plan = make_plan(job)
        for line in (*plan.said, *(scans_table(plan.scans) if plan.scans else [])):
            show(line)
        n_units = len(plan.units)
        if before is not None:
            progress.doing = "verifying what is finished"
            kept = resume.finished(storage, plan.units, before)
            is_compared = before.provenance.get("same") is not None or not job.compare_films
            if len(kept) == n_units and blobs_are_whole(storage, before) and is_compared:
                resume.delete_work(storage)
                show(f"nothing to do: {storage.location} is finished, and its checksums are right")
                return Summary(Dataset.open(job.out), 0, n_units, progress.seconds)
        with claimed(job.out, "--out"):
            return _make(job, storage, plan, show, progress)


def _make(
    job: PrecomputeJob,
    storage: Storage,
    plan: Plan,
    show: Show,
    progress: Progress,
) -> Summary:
    """Make what is missing, while no other job works on the folder."""
    progress.doing = "verifying what is finished"
    before = resume.existing(storage)
    kept = resume.finished(storage, plan.units, before)
    n_units = len(plan.units)
    resume.begin(storage)
    for note in plan.notes:
        show(f"note: {note}")
    if before is None:
        if kept:
            show(f"kept {len(kept)} of {n_units} shards, finished before and verified")
    else:
        if n_lost := n_units - len(kept):
            show(f"{n_lost} of {n_units} shards are damaged or gone: made again")
        if n_lost or not blobs_are_whole(storage, before):
            resume.reopen(storage, kept)
    resume.check_space(storage, [unit for unit in plan.units if unit.path not in kept])

    records = _make_missing(storage, plan, kept, show, progress)
    resume.delete_leftovers(storage, records)
    spaces = keep_spaces(storage, plan.units)
    blobs = keep_blobs(
        storage, plan.parts, before, lambda part: _prepare(storage, plan, [part])[part.name]
    )
    written = [file for of_part in blobs.values() for file in of_part.values()]
    delete_other_blobs(storage, [*spaces.blobs, *written])
    same = _found_before(before, plan)
    if job.compare_films:
        same = compare_films(plan.films, partial(setattr, progress, "doing"))
    manifest = build_manifest(plan.job, plan, records, spaces, blobs, same)
    write_manifest(storage, manifest)
    resume.delete_work(storage)
    for note in _notes(manifest):
        show(note)
    n_kept = sum(kept.get(path) is record for path, record in records.items())
    return Summary(Dataset.open(job.out), n_units - n_kept, n_kept, progress.seconds)


def _make_missing(
    storage: Storage,
    plan: Plan,
    kept: dict[str, Record],
    show: Show,
    progress: Progress,
) -> dict[str, Record]:
    """Make the units that are not kept; return the records of all."""
    progress.doing = "starting"
    connect()
    records = dict(kept)
    of_part: dict[str, list[str]] = {}
    for unit in plan.units:
        of_part.setdefault(unit.part, []).append(unit.path)
    missing = [
        part
        for name, part in plan.parts.items()
        if part.has_network and not kept.keys() >= set(of_part.get(name, ()))
    ]
    if missing:
        progress.doing = f"preparing {', '.join(part.name for part in missing)}"
    prepared = _prepare(storage, plan, missing)
    for name, found in prepared.items():
        for path in kept.keys() & set(of_part[name]):
            if kept[path].made_with | found.made_with != kept[path].made_with:
                show(f"{path}: made with other weights; made again")
                del records[path]
    outlive_losses(
        lambda: _run_once(storage, plan, records, prepared, progress),
        lambda: show("a worker was lost; going on with what it left undone"),
    )
    return {unit.path: records[unit.path] for unit in plan.units}


def _run_once(
    storage: Storage,
    plan: Plan,
    records: dict[str, Record],
    prepared: dict[str, Prepared],
    progress: Progress,
) -> None:
    """Make the units that have no record, and add theirs."""
    from giblet_ray.precompute import pipeline

    work = pipeline.cut_work([unit for unit in plan.units if unit.path not in records], plan.parts)
    wanted: dict[str, int] = {}
    for each in (each for of_part in work.values() for each in of_part if each.piece is not None):
        wanted[each.unit.path] = wanted.get(each.unit.path, 0) + 1
    arrived: dict[str, list[tuple[Piece, np.ndarray]]] = {path: [] for path in wanted}
    n_arrived, n_wanted = 0, sum(wanted.values())

    def tell() -> None:
        of_pieces = f", {n_arrived} of {n_wanted} pieces of films" if wanted else ""
        progress.doing = f"{len(records)} of {len(plan.units)} shards{of_pieces}"

    tell()
    for done in pipeline.run(storage, work, plan.parts):
        if isinstance(done, Record):
            records[done.shard.path] = done
        else:
            each, values = done
            unit, pieces = each.unit, arrived[each.unit.path]
            pieces.append((cast(Piece, each.piece), values))
            n_arrived += 1
            if len(pieces) == wanted[unit.path]:
                part = cast(PartInPieces, plan.parts[unit.part])
                for of in (unit, *each.others):
                    records[of.path] = join_shard(part, pieces, prepared[of.part], of, storage)
                del wanted[unit.path], arrived[unit.path]
        tell()


def _prepare(storage: Storage, plan: Plan, parts: Sequence[Part]) -> dict[str, Prepared]:
    """Return what all workers of each part load, by part; where it must be made, that is done by a
    worker for each network, at once."""
    import ray

    from giblet_ray.precompute.pipeline import attempt, raise_error

    films = {part.name: films_of(part, plan.films) for part in parts}
    recipes = {part.name: part.network_recipe(part.recipe(films[part.name])) for part in parts}

    def find(part: Part) -> Prepared | None:
        return find_prepared(storage, part.network, recipes[part.name])

    found = {part.name: find(part) for part in parts}
    of_networks = {part.network: part for part in parts if found[part.name] is None}
    made = [
        partial(_make_prepared, storage, part, recipes[part.name], films[part.name])
        for part in of_networks.values()
    ]
    for answer in ray.get([ray.remote(attempt).remote(make) for make in made]):
        raise_error(answer)
    prepared = {}
    for part in parts:
        kept = found[part.name] or find(part)
        if kept is None:
            raise InputError(
                f"{storage.location}: what {part.network} is made with is gone; start again"
            )
        prepared[part.name] = kept
    return prepared


def _make_prepared(
    storage: Storage, part: Part, recipe: dict[str, Any], films: Sequence[FilmFiles]
) -> tuple[str, bytes]:
    keep_prepared(storage, part.network, recipe, part.prepare(films))
    return "", b""


def _found_before(before: Manifest | None, plan: Plan) -> list[dict[str, Any]] | None:
    """Return what was found when the same films were compared, if they were."""
    if before is None or {each.name for each in before.stimuli} != {f.name for f in plan.films}:
        return None
    found: list[dict[str, Any]] | None = before.provenance.get("same")
    return found


def _notes(manifest: Manifest) -> list[str]:
    """What a user should know of a data set that is right and yet not perfect."""
    shards = manifest.provenance["shards"].values()
    said = [note for of_shard in shards for note in of_shard["facts"].get("notes", ())]
    notes = [f"note: {note}" for note in dict.fromkeys(said)]
    notes += same_in_words(manifest.provenance["same"] or [])
    cut = manifest.provenance["bold"]["cut"] if manifest.scans else {}
    for scan in manifest.scans:
        # What was scrubbed on request is in the table of scans.
        n_masked = sum(stop - start for start, stop in scan.masked_trs)
        if n_masked > cut.get(str(scan.key), {}).get("scrubbed", 0):
            notes.append(
                f"note: {scan.key}: {n_masked} of {scan.n_trs} TRs have no finite value; they "
                "neither train nor judge"
            )
        if scan.nan_units or scan.constant_units:
            notes.append(
                f"note: {scan.key}: {scan.nan_units} units have NaN or infinite values and "
                f"{scan.constant_units} never change; a training that uses such TRs masks them"
            )
    seen = {scan.stimulus for scan in manifest.scans}
    unseen = [stimulus.name for stimulus in manifest.stimuli if stimulus.name not in seen]
    if not manifest.scans:
        notes.append("note: no scans: the data set serves for predicting, not for training")
    elif unseen:
        notes.append(f"note: no scan of {', '.join(unseen)}")
    return notes

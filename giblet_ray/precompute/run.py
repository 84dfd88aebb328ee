"""Films, subtitles and scans to a data set: check, make what is missing, describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.cluster import connect, outlive_losses
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.precompute import resume
from giblet_ray.precompute.kept_spaces import blobs_are_whole, delete_other_blobs, keep_spaces
from giblet_ray.precompute.plan import Plan, make_plan
from giblet_ray.precompute.provenance import build_manifest
from giblet_ray.precompute.sound import (
    FilmCodes,
    PreparedCodec,
    find_prepared_codec,
    prepare_codec,
)
from giblet_ray.precompute.units import Record
from giblet_ray.progress import Progress


@dataclass(frozen=True)
class Summary:
    """What a data set holds, and what it took to make.

    Attributes
    ----------
    dataset : Dataset
        The finished data set.
    n_made, n_kept : int
        Shards that were made now, and that were found finished.
    seconds : float
        Time that it took (s).
    """

    dataset: Dataset
    n_made: int
    n_kept: int
    seconds: float

    def rows(self) -> dict[str, str]:
        """Return names and values for the user."""
        manifest = self.dataset.manifest
        n_trs = sum(stimulus.n_trs for stimulus in manifest.stimuli)
        silent = sum(stimulus.silent_trs for stimulus in manifest.stimuli)
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
        if "text" in manifest.parts:
            rows["silent TRs"] = f"{silent} of {n_trs}"
        if manifest.scans:
            units = sorted({subject.n_units for subject in manifest.subjects.values()})
            rows["BOLD"] = (
                f"{len(manifest.subjects)} subjects, {len(manifest.scans)} scans, "
                f"{' to '.join(f'{n:,}' for n in dict.fromkeys((units[0], units[-1])))} units"
            )
        size = sum(file.bytes for file in self.dataset.files)
        rows["size"] = f"{size / 1e6:,.1f} MB in {len(self.dataset.files)} files"
        rows["made"] = f"{self.n_made} shards, {self.n_kept} kept, in {self.seconds:.1f} s"
        return rows


def precompute(job: PrecomputeJob, show: Callable[[str], None]) -> Summary:
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
    show : callable
        Takes the lines that a user should see.

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
        n_units = len(plan.units)
        if before is not None:
            progress.doing = "verifying what is finished"
            kept = resume.finished(storage, plan.units, before)
            if len(kept) == n_units and blobs_are_whole(storage, before):
                resume.delete_work(storage)
                show(f"nothing to do: {storage.location} is finished, and its checksums are right")
                return Summary(Dataset.open(job.out), 0, n_units, progress.seconds)
        with claimed(job.out, "--out"):
            return _make(job, storage, plan, show, progress)


def _make(
    job: PrecomputeJob,
    storage: Storage,
    plan: Plan,
    show: Callable[[str], None],
    progress: Progress,
) -> Summary:
    """Make what is missing, while no other job works on the folder."""
    progress.doing = "verifying what is finished"
    before = resume.existing(storage)
    kept = resume.finished(storage, plan.units, before)
    n_units = len(plan.units)
    resume.begin(storage)
    if before is not None:
        show(f"{n_units - len(kept)} of {n_units} shards are damaged or gone: made again")
        resume.reopen(storage, kept)
    elif kept:
        show(f"kept {len(kept)} of {n_units} shards, finished before and verified")
    resume.check_space(storage, [unit for unit in plan.units if unit.path not in kept])

    records = _make_missing(job, storage, plan, kept, show, progress)
    resume.delete_leftovers(storage, records)
    spaces = keep_spaces(storage, plan.units)
    delete_other_blobs(storage, spaces)
    manifest = build_manifest(job, plan, records, spaces)
    write_manifest(storage, manifest)
    resume.delete_work(storage)
    for note in _notes(manifest):
        show(note)
    n_kept = sum(kept.get(path) is record for path, record in records.items())
    return Summary(Dataset.open(job.out), n_units - n_kept, n_kept, progress.seconds)


def _make_missing(
    job: PrecomputeJob,
    storage: Storage,
    plan: Plan,
    kept: dict[str, Record],
    show: Callable[[str], None],
    progress: Progress,
) -> dict[str, Record]:
    """Make the units that are not kept; return the records of all."""
    progress.doing = "starting"
    connect()
    records = dict(kept)
    codec = None
    if any(unit.part == "codes" and unit.path not in kept for unit in plan.units):
        progress.doing = "preparing the codec"
        codec = _prepared_codec(job, storage, plan)
        for path, record in kept.items():
            weights = record.made_with.get("weights_sha256")
            if path.startswith("codes/") and weights != codec.weights_sha256:
                show(f"{path}: made with other codec weights; made again")
                del records[path]
    outlive_losses(
        lambda: _run_once(job, storage, plan, records, codec, progress),
        lambda: show("a worker was lost; going on with what it left undone"),
    )
    return {unit.path: records[unit.path] for unit in plan.units}


def _run_once(
    job: PrecomputeJob,
    storage: Storage,
    plan: Plan,
    records: dict[str, Record],
    codec: PreparedCodec | None,
    progress: Progress,
) -> None:
    """Make the units that have no record, and add theirs."""
    from giblet_ray.precompute.pipeline import run

    missing = [unit for unit in plan.units if unit.path not in records]
    sounds = {
        unit.stimulus: FilmCodes(unit, codec)
        for unit in missing
        if unit.part == "codes" and codec is not None
    }
    pieces = [piece for sound in sounds.values() for piece in sound.pieces]
    seconds = sum(sound.seconds for sound in sounds.values())

    def tell() -> None:
        encoded = sum(sound.encoded_seconds for sound in sounds.values())
        of_sound = f", {encoded:.0f} of {seconds:.0f} s of sound encoded" if sounds else ""
        progress.doing = f"{len(records)} of {len(plan.units)} shards{of_sound}"

    tell()
    others = [unit for unit in missing if unit.part != "codes"]
    for done in run(storage, others, pieces, job.embedding.model):
        if isinstance(done, Record):
            records[done.shard.path] = done
        else:
            piece, values = done
            sound = sounds[piece.stimulus]
            sound.add(piece, values)
            if sound.is_complete:
                record = sound.finish(storage)
                records[record.shard.path] = record
        tell()


def _prepared_codec(job: PrecomputeJob, storage: Storage, plan: Plan) -> PreparedCodec:
    """Return the codec that all workers load; it is made by one of them, where it must be."""
    found = find_prepared_codec(storage, plan.codec)
    if found is not None:
        return found
    import ray

    from giblet_ray.precompute.pipeline import attempt, raise_error

    films = [(film.path, film.n_trs * job.tr_seconds) for film in plan.films]
    weights, recipe = job.codes.weights, plan.codec

    def prepare() -> tuple[str, bytes]:
        return prepare_codec(storage, weights, recipe, films).model_dump_json(), b""

    answer = ray.get(ray.remote(attempt).remote(prepare))
    raise_error(answer)
    return PreparedCodec.model_validate_json(answer["answer"])


def _notes(manifest: Manifest) -> list[str]:
    """What a user should know of a data set that is right and yet not perfect."""
    notes = []
    for scan in manifest.scans:
        if n_masked := sum(stop - start for start, stop in scan.masked_trs):
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

"""Finished shards to a manifest that says how each was made, and back."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.schema import Manifest, Scan, Stimulus, ValueType
from giblet_ray.dataset.storage import absolute
from giblet_ray.errors import InputError
from giblet_ray.precompute.plan import Plan
from giblet_ray.precompute.units import Record, Unit, libraries


def build_manifest(job: PrecomputeJob, plan: Plan, records: Mapping[str, Record]) -> Manifest:
    """Describe a data set whose shards are all finished.

    Parameters
    ----------
    job : PrecomputeJob
        The settings.
    plan : Plan
        What went in.
    records : mapping of str to Record
        What came out, by shard path.

    Raises
    ------
    InputError
        If shards of one part were made with different models, as when a model has changed under
        its name between an interruption and the start after it.
    """
    stimuli = []
    for film in plan.films:
        of_film = [unit for unit in plan.units if unit.stimulus == film.name and not unit.subject]
        files = {role: file for unit in of_film for role, file in unit.files.items()}
        facts = {unit.part: records[unit.path].facts for unit in of_film}
        stimuli.append(
            Stimulus.model_validate(
                {
                    "name": film.name,
                    "n_trs": film.n_trs,
                    "silent_trs": facts.get("text", {}).get("silent_trs", 0),
                    "sources": {role: plan.sources[file] for role, file in files.items()},
                    "shards": {unit.part: records[unit.path].shard for unit in of_film},
                }
            )
        )
    scans = [
        Scan(
            subject=unit.subject,
            stimulus=unit.stimulus,
            nan_voxels=records[unit.path].facts["nan_voxels"],
            constant_voxels=records[unit.path].facts["constant_voxels"],
            source=plan.sources[unit.files["scan"]],
            shard=records[unit.path].shard,
        )
        for unit in plan.units
        if unit.part == "bold"
    ]
    values: dict[str, ValueType] = {}
    provenance: dict[str, Any] = {"giblet_ray": version("giblet_ray")}
    for unit in plan.units:
        record = records[unit.path]
        if unit.part not in values:
            values[unit.part] = record.value
            provenance[unit.part] = _part_provenance(job, plan, unit, record)
        elif record.made_with != provenance[unit.part]["made_with"]:
            raise InputError(
                f"{job.out}: {unit.path} was made with {record.made_with}, others with "
                f"{provenance[unit.part]['made_with']}; delete the folder and start again"
            )
    provenance["shards"] = {
        path: {"fingerprint": record.fingerprint, "facts": record.facts}
        for path, record in records.items()
    }
    return Manifest(
        tr_seconds=job.tr_seconds,
        row_group_trs=job.row_group_trs,
        values=values,
        stimuli=tuple(stimuli),
        scans=tuple(scans),
        provenance=provenance,
    )


def _part_provenance(job: PrecomputeJob, plan: Plan, unit: Unit, record: Record) -> dict[str, Any]:
    """Say how a part was made; what holds for one shard alone stands with that shard."""
    made: dict[str, Any] = {
        "made_with": record.made_with,
        "settings": {key: v for key, v in unit.settings.items() if key != "film_seconds"},
        "libraries": libraries(unit.part),
    }
    if unit.part == "bold":
        mask = () if job.mask is None else (plan.sources[absolute(job.mask)],)
        made["mask"] = [source.model_dump() for source in mask]
        made["confounds"] = {
            f"{scan.subject}/{scan.film.name}": plan.sources[scan.confounds].model_dump()
            for scan in plan.scans
            if scan.confounds is not None
        }
    return made


def records_of(manifest: Manifest) -> dict[str, Record]:
    """Return the records of a data set's shards, by path."""
    shards = [
        (part, shard) for stimulus in manifest.stimuli for part, shard in stimulus.shards.items()
    ]
    records = {}
    for part, shard in [*shards, *(("bold", scan.shard) for scan in manifest.scans)]:
        noted = manifest.provenance.get("shards", {}).get(shard.path, {})
        records[shard.path] = Record(
            fingerprint=noted.get("fingerprint", ""),
            shard=shard,
            value=manifest.values[part],
            made_with=manifest.provenance.get(part, {}).get("made_with", {}),
            facts=noted.get("facts", {}),
        )
    return records

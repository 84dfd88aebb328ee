"""Finished shards to a manifest that says how each was made, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.stored import Phase, Scan, Stimulus, StoredPart, Subject
from giblet_ray.errors import InputError
from giblet_ray.parts.built_in import SPOKEN
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.kept_blobs import KeptBlobs
from giblet_ray.precompute.kept_spaces import KeptSpaces
from giblet_ray.precompute.plan import Plan
from giblet_ray.precompute.scans_table import cut_in_words
from giblet_ray.precompute.units import BOLD, Record, Unit
from giblet_ray.spaces.kinds import CHOOSING


def build_manifest(
    job: PrecomputeJob,
    plan: Plan,
    records: Mapping[str, Record],
    spaces: KeptSpaces,
    blobs: KeptBlobs,
    same: Sequence[dict[str, Any]] | None,
) -> Manifest:
    """Describe a data set whose shards are all finished.

    Parameters
    ----------
    job : PrecomputeJob
        The settings.
    plan : Plan
        What went in.
    records : mapping of str to Record
        What came out, by shard path.
    spaces : KeptSpaces
        What the units are.
    blobs : dict
        What is kept beside the rows of parts.
    same : sequence of dict or None
        Intervals of films that show the same; None if films were not compared.

    Raises
    ------
    InputError
        If shards of one part were made with different models, as when a model has changed under
        its name between an interruption and the start after it.
    """
    parts: dict[str, StoredPart] = {}
    subjects: dict[str, Subject] = {}
    provenance: dict[str, Any] = {"giblet_ray": version("giblet_ray"), "same": same}
    for unit in plan.units:
        record = records[unit.path]
        if unit.part == BOLD:
            space = spaces.of_subjects[unit.subject]
            names = spaces.unit_names.get(unit.subject)
            subject = Subject(value=record.value, space=space, unit_names=names)
            subjects.setdefault(unit.subject, subject)
            if "bold" not in provenance:
                provenance["bold"] = _bold_provenance(job, plan, unit)
        elif unit.part not in parts:
            parts[unit.part] = _stored_part(plan, unit, record, blobs)
        elif record.made_with != (others := parts[unit.part].made_with):
            raise InputError(
                f"{job.out}: {unit.path} was made with {record.made_with}, others with {others}; "
                "delete the folder and start again"
            )
    provenance["shards"] = {
        path: {"fingerprint": record.fingerprint, "facts": record.facts}
        for path, record in records.items()
    }
    of_films: dict[str, list[Unit]] = {film.name: [] for film in plan.films}
    for unit in plan.units:
        if not unit.subject:
            of_films[unit.stimulus].append(unit)
    return Manifest(
        tr_seconds=job.tr_seconds,
        row_group_trs=job.row_group_trs,
        parts=parts,
        stimuli=tuple(_stimulus(plan, film, of_films[film.name], records) for film in plan.films),
        subjects=subjects,
        scans=tuple(_scan(plan, unit, records) for unit in plan.units if unit.part == BOLD),
        blobs=(*spaces.blobs, *(file for each in blobs.values() for file in each.values())),
        provenance=provenance,
    )


def _stimulus(
    plan: Plan, film: FilmFiles, of_film: Sequence[Unit], records: Mapping[str, Record]
) -> Stimulus:
    files = {role: file for unit in of_film for role, file in unit.files.items()}
    phases = []
    for phase, seen in enumerate(plan.phases[film.name]):
        units = [unit for unit in of_film if unit.phase == phase]
        phases.append(
            Phase(
                seconds=seen.start_seconds,
                n_trs=seen.n_trs,
                silent_trs=sum(
                    records[unit.path].facts["silent_trs"]
                    for unit in units
                    if plan.parts[unit.part].kind in SPOKEN
                ),
                shards={unit.part: records[unit.path].shard for unit in units},
            )
        )
    sources = {role: plan.sources[file] for role, file in files.items()}
    return Stimulus(name=film.name, sources=sources, phases=tuple(phases))


def _scan(plan: Plan, unit: Unit, records: Mapping[str, Record]) -> Scan:
    record = records[unit.path]
    return Scan(
        subject=unit.subject,
        stimulus=unit.stimulus,
        repeat=unit.repeat,
        volumes=unit.volumes,
        onset_seconds=unit.onset_seconds,
        phase=unit.phase,
        **record.facts,
        source=plan.sources[unit.files["scan"]],
        shard=record.shard,
    )


def _stored_part(plan: Plan, unit: Unit, record: Record, blobs: KeptBlobs) -> StoredPart:
    """Say how a part was made; what holds for one shard alone stands with that shard."""
    part = plan.parts[unit.part]
    return StoredPart(
        kind=part.kind,
        modality=part.modality or part.name,
        encoder=part.encoder,
        value=record.value,
        made_with=record.made_with,
        settings=unit.settings,
        libraries=unit.libraries,
        blobs={name: file.path for name, file in blobs[unit.part].items()},
    )


def _bold_provenance(job: PrecomputeJob, plan: Plan, unit: Unit) -> dict[str, Any]:
    """Say how BOLD was read and cleaned, and by what that used held-out TRs too."""
    fitted = {
        "high-pass": job.scan.high_pass_seconds,
        "confounds": job.scan.confounds or job.scan.strategy,
        "mean over repeats": any(each.repeats for each in plan.units),
    }
    chosen = {
        role: dict.fromkeys(scan.choosing[role] for scan in plan.scans if role in scan.choosing)
        for role in CHOOSING
    }
    return {
        "settings": unit.settings,
        "fitted_to_whole_scans": [name for name, given in fitted.items() if given],
        "libraries": unit.libraries,
        **{
            role: [plan.sources[file].model_dump() for file in files]
            for role, files in chosen.items()
        },
        "averaged": {
            str(ScanKey(each.subject, each.stimulus, each.repeat)): [
                plan.sources[each.files[repeat.files["scan"]]].model_dump()
                for repeat in each.repeats
            ]
            for each in plan.units
            if each.repeats
        },
        # What of each scan and its film is not used: numbers of TRs.
        "cut": {str(scan.key): cut for scan in plan.scans if (cut := cut_in_words(scan))},
        "confounds": {
            scan.path: plan.sources[scan.confounds].model_dump()
            for scan in plan.scans
            if scan.confounds is not None
        },
    }


def records_of(manifest: Manifest) -> dict[str, Record]:
    """Return the records of a data set's shards, by path."""
    shards = [
        (shard, manifest.parts[part].value, manifest.parts[part].made_with)
        for stimulus in manifest.stimuli
        for phase in stimulus.phases
        for part, shard in phase.shards.items()
    ]
    shards += [(scan.shard, manifest.subjects[scan.subject].value, {}) for scan in manifest.scans]
    records = {}
    for shard, value, made_with in shards:
        noted = manifest.provenance.get("shards", {}).get(shard.path, {})
        records[shard.path] = Record(
            fingerprint=noted.get("fingerprint", ""),
            shard=shard,
            value=value,
            made_with=made_with,
            facts=noted.get("facts", {}),
        )
    return records

"""A data set made within this process, one shard after another, without Ray."""

from __future__ import annotations

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.precompute.kept_blobs import keep_blobs
from giblet_ray.precompute.kept_spaces import keep_spaces
from giblet_ray.precompute.makers import make_bold, make_shard
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.provenance import build_manifest
from giblet_ray.precompute.units import BOLD, WORK


def precompute_here(job: PrecomputeJob) -> Dataset:
    """Do what :func:`giblet_ray.precompute.precompute.precompute` does on a cluster."""
    storage, plan = Storage.at(job.out), make_plan(job)
    prepared = {name: part.prepare(plan.films) for name, part in plan.parts.items()}
    for name, part in plan.parts.items():
        part.load(prepared[name], "cpu")
    records = {
        unit.path: make_bold(unit, storage)
        if unit.part == BOLD
        else make_shard(plan.parts[unit.part], unit, storage)
        for unit in plan.units
    }
    spaces = keep_spaces(storage, plan.units)
    blobs = keep_blobs(storage, plan.parts, None, lambda part: prepared[part.name])
    write_manifest(storage, build_manifest(job, plan, records, spaces, blobs, ()))
    storage.delete_folder(WORK)
    return Dataset.open(job.out)

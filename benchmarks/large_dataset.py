"""A data set of any number of TRs whose files are empty: what it takes to open and to plan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from noise import TR_SECONDS
from random_dataset import ENCODERS, PARTS, ROW_GROUP_TRS

from giblet_ray.dataset.layout import bold_shard, stimulus_shard
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Phase, Scan, Shard, Source, Stimulus, StoredPart, Subject
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.parts.value import ValueType

N_UNITS = 85_810
SHORTEST_TRS, LONGEST_TRS = 300, 500
"""Of a scan: about ten minutes."""

VALUES = {
    "frames": ValueType(dtype="uint8", shape=(3, 90, 160)),
    "codes": ValueType(dtype="int16", shape=(8, 112)),
    "text": ValueType(dtype="float32", shape=(1024,)),
}


def write_large_dataset(folder: str, n_trs: int, viewers: int, n_subjects: int = 50) -> int:
    """Write the manifest of a data set, and an empty file for each that it names.

    Parameters
    ----------
    folder : str
        Where to.
    n_trs : int
        TRs of all scans together, at least.
    viewers : int
        Subjects who saw a film; each saw others than the one before.
    n_subjects : int
        Subjects in all.

    Returns
    -------
    int
        TRs of all scans together.
    """
    random = np.random.default_rng(0)
    subjects = [f"{number:03d}" for number in range(n_subjects)]
    stimuli: list[Stimulus] = []
    scans: list[Scan] = []
    total = 0
    source = Source(name="random", sha256="0" * 64)
    while total < n_trs:
        name = f"film{len(stimuli):06d}"
        n = int(random.integers(SHORTEST_TRS, LONGEST_TRS + 1))
        shards = {part: _shard(stimulus_shard(part, name), n, random) for part in PARTS}
        phase = Phase(n_trs=n, shards=shards)
        film = Source(name=name, sha256=random.bytes(32).hex())
        stimuli.append(Stimulus(name=name, sources={"film": film}, phases=(phase,)))
        for viewer in range(viewers):
            subject = subjects[(len(stimuli) * viewers + viewer) % n_subjects]
            shard = _shard(bold_shard(subject, name), n, random)
            scans.append(
                Scan(subject=subject, stimulus=name, volumes=(0, n), source=source, shard=shard)
            )
            total += n
    parts = {
        part: StoredPart(kind=part, modality=part, encoder=ENCODERS[part], value=VALUES[part])
        for part in PARTS
    }
    bold = ValueType(dtype="float32", shape=(N_UNITS,))
    manifest = Manifest(
        tr_seconds=TR_SECONDS,
        row_group_trs=ROW_GROUP_TRS,
        parts=parts,
        stimuli=tuple(stimuli),
        subjects={subject: Subject(value=bold) for subject in subjects},
        scans=tuple(scans),
    )
    write_manifest(Storage.at(folder), manifest)
    for path in _paths(manifest):
        file = Path(folder, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY))
    return total


def _shard(path: str, n_trs: int, random: np.random.Generator) -> Shard:
    groups = tuple(random.bytes(16).hex() for _ in range(0, n_trs, ROW_GROUP_TRS))
    return Shard(path=path, bytes=0, sha256=random.bytes(32).hex(), row_groups=groups)


def _paths(manifest: Manifest) -> Iterator[str]:
    for stimulus in manifest.stimuli:
        yield from (shard.path for shard in stimulus.shards.values())
    yield from (scan.shard.path for scan in manifest.scans)

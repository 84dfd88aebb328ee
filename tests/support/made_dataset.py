"""A data set of random numbers whose BOLD follows the stimulus, so that it can be learned."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from giblet_ray.dataset.layout import (
    ScanKey,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import (
    Phase,
    Scan,
    Source,
    Stimulus,
    StoredPart,
    StoredSpace,
    Subject,
    WrittenFile,
)
from giblet_ray.dataset.writer import value_type, write_blob, write_manifest, write_shard
from giblet_ray.spaces.usable import count_bad_units, empty_trs, unmasked
from giblet_ray.spaces.volume import Volume

ROW_GROUP_TRS = 16
AFFINE = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
"""Of a space that is shifted, flipped and not cubic."""


STORED_AS = {
    "frames": ("video", "image"),
    "codes": ("audio", "codes"),
    "mel": ("audio", "mel"),
    "text": ("text", "vector"),
}


def stored_part(name: str, values: np.ndarray) -> StoredPart:
    """Describe a part as if it had been made."""
    modality, encoder = STORED_AS[name]
    return StoredPart(kind=name, modality=modality, encoder=encoder, value=value_type(values))


def write_dataset(
    folder: Path,
    n_trs: dict[str, int],
    subjects: tuple[str, ...],
    n_voxels: int = 24,
    n_codebooks: int = 4,
    seed: int = 0,
    unseen: tuple[tuple[str, str], ...] = (),
    first_code: int | None = None,
    change_bold: Callable[[ScanKey, np.ndarray], np.ndarray] = lambda key, bold: bold,
    repeats: int = 1,
    mask: np.ndarray | dict[str, np.ndarray] | None = None,
    codebooks: np.ndarray | None = None,
    **of_scans: Any,
) -> dict[str, np.ndarray]:
    """Write a data set of random numbers; BOLD follows the stimulus, so that it can be learned.

    Returns the arrays by shard path. `unseen` lists (subject, stimulus) pairs without a scan;
    `first_code` replaces the first code of each stimulus; `change_bold` gives a scan other BOLD,
    of other TRs or units too; `mask` is where its units lie, or those of each subject;
    `codebooks` are what the codes are of;
    `of_scans` are further fields of every scan.
    """
    random = np.random.default_rng(seed)
    storage = Storage.at(str(folder))
    arrays: dict[str, np.ndarray] = {}
    stimuli, scans = [], []
    mixing = random.normal(size=(4, n_voxels))
    for stimulus, n in n_trs.items():
        states = random.integers(0, 2, size=(n, 4))
        frames = random.integers(0, 80, (n, 3, 18, 32)) + 100 * states[:, :1, None, None]
        codes = random.integers(0, 512, (n, n_codebooks, 112)) + 512 * states[:, 1:2, None]
        if first_code is not None:
            codes[0, 0, 0] = first_code
        text = random.normal(size=(n, 1024)) + 2 * states[:, 2:3]
        parts = {
            "frames": frames.astype(np.uint8),
            "codes": codes.astype(np.int16),
            "text": text.astype(np.float32),
        }
        shards = {}
        for part, values in parts.items():
            path = stimulus_shard(part, stimulus)
            arrays[path] = values
            labels = stimulus_labels(part, stimulus)
            shards[part] = write_shard(storage, path, values, ROW_GROUP_TRS, labels)
        source = Source(name="made", sha256=hashlib.sha256(stimulus.encode()).hexdigest())
        sources = {"film": source, "text": source}
        phase = Phase(n_trs=n, shards=shards)
        stimuli.append(Stimulus(name=stimulus, sources=sources, phases=(phase,)))
        for subject, repeat in itertools.product(subjects, range(1, repeats + 1)):
            if (subject, stimulus) in unseen:
                continue
            key = ScanKey(subject, stimulus, repeat)
            delayed = np.concatenate([np.zeros((3, 4)), states[:-3]])
            noise = random.normal(size=(n, n_voxels))
            bold = (1000 + 10 * (delayed @ mixing) + 5 * noise).astype(np.float32)
            bold = change_bold(key, bold)
            path = bold_shard(*key)
            arrays[path] = bold
            masked_trs = empty_trs(bold)
            bad = count_bad_units([bold[unmasked(len(bold), masked_trs)]])
            facts = {
                "volumes": (0, len(bold)),
                "masked_trs": masked_trs,
                "nan_units": bad.nan,
                "constant_units": bad.constant,
                "source": source,
                "shard": write_shard(storage, path, bold, ROW_GROUP_TRS, bold_labels(key)),
            }
            scans.append(Scan(**key._asdict(), **{**facts, **of_scans}))
    made = {path.partition("/")[0]: array for path, array in arrays.items()}
    spaces, blobs = dict.fromkeys(subjects, StoredSpace()), tuple[WrittenFile, ...]()
    masks = mask if isinstance(mask, dict) else {"": mask} if mask is not None else {}
    for whose, of in masks.items():
        volume = Volume(nibabel.Nifti1Image(of.astype(np.uint8), AFFINE), of, "made")
        ((name, content),) = volume.files().items()
        blobs = (*blobs, write_blob(storage, f"{whose}-{name}" if whose else name, content))
        space = StoredSpace(kind="volume", blobs={name: blobs[-1].path})
        spaces.update(dict.fromkeys([whose] if whose else subjects, space))
    stored = {name: stored_part(name, made[name]) for name in made if name != "bold"}
    if codebooks is not None:
        content = io.BytesIO()
        np.save(content, codebooks)
        blobs = (*blobs, write_blob(storage, "codebooks", content.getvalue()))
        kept = {"blobs": {"codebooks": blobs[-1].path}}
        stored["codes"] = stored["codes"].model_copy(update=kept)
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=ROW_GROUP_TRS,
        parts=stored,
        stimuli=tuple(stimuli),
        subjects={
            scan.subject: Subject(
                value=value_type(arrays[scan.shard.path]), space=spaces[scan.subject]
            )
            for scan in scans
        },
        scans=tuple(scans),
        blobs=blobs,
    )
    write_manifest(storage, manifest)
    return arrays

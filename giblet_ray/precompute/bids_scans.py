"""The scans of a BIDS data set's derivatives, found by their names, and what stands beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from giblet_ray.errors import InputError, nearest
from giblet_ray.spaces.sidecar import read_sidecar

_ENDS = (
    ("bold", "nii.gz"),
    ("bold", "func.gii"),
    ("bold", "dtseries.nii"),
    ("hemi-L", "func.gii"),
)
"""Suffixes and ends of names of scans; the last is that of fMRIPrep before 20.2."""


@dataclass(frozen=True)
class BidsScan:
    """One run of a subject, as BIDS calls it: a file, and what stands beside it."""

    path: str
    """The scan; of a surface, its left half."""
    entities: dict[str, str]
    """As its name tells them: sub, ses, task, run, space, ..."""
    tr_seconds: float
    start_seconds: float
    """TR, and the time in it that a volume stands for (s)."""
    mask: str | None
    """Its brain mask."""

    @property
    def subject(self) -> str:
        """Whose it is."""
        return self.entities["sub"]

    @property
    def name(self) -> str:
        """What tells it from the subject's others."""
        told = (f"{each}-{self.entities[each]}" for each in ("ses", "run") if each in self.entities)
        return "_".join(told)


def find_scans(root: Path, task: str, space: str | None, subjects: Sequence[str]) -> list[BidsScan]:
    """Find the scans of a task.

    Parameters
    ----------
    root : Path
        Folder of derivatives.
    task, space : str
        As names tell them; of a space its resolution or density may follow (``fsLR:91k``). None:
        the only space that there is.
    subjects : sequence of str
        Whose scans (none: everybody's).

    Raises
    ------
    InputError
        See :func:`read_bids`.
    """
    from nilearn.interfaces.bids import get_bids_files

    if not root.is_dir():
        raise InputError(f"--bids {root}: no such folder; fMRIPrep's derivatives are expected")
    files = []
    for tag, end in _ENDS:
        paths = get_bids_files(str(root), file_tag=tag, file_type=end, modality_folder="func")
        files += [(_entities(path, tag), path) for path in paths]
    files = [(told, path) for told, path in files if "task" in told]
    tasks = sorted({told["task"] for told, _ in files})
    if task not in tasks:
        raise InputError(
            f"--task {task}: no scan of it in {root}{nearest(task, tasks)}; there are "
            f"{', '.join(tasks) or 'none of any'}"
        )
    files = [(told, path) for told, path in files if told["task"] == task]
    there = sorted({told["sub"] for told, _ in files})
    for subject in subjects:
        if subject not in there:
            raise InputError(
                f"--subjects {subject}: has no scan of task {task} in {root}"
                f"{nearest(subject, there)}; {', '.join(there)} have"
            )
    files = [(told, path) for told, path in files if not subjects or told["sub"] in subjects]
    name, _, grain = (space or _only_space(root, files)).partition(":")
    spaces = sorted({_space_of(told) for told, _ in files})
    files = [(told, path) for told, path in files if told.get("space", "native") == name]
    files = [
        (told, path)
        for told, path in files
        if told.get("hemi", "L") == "L"
        and (not grain or grain in (told.get("res"), told.get("den")))
    ]
    if not files:
        raise InputError(
            f"--space {space}: no scan of task {task} in {root}{nearest(str(space), spaces)}; "
            f"there are {', '.join(spaces)}"
        )
    scans: dict[tuple[str, str], BidsScan] = {}
    for told, path in sorted(files, key=lambda each: each[1]):
        scan = _scan(told, path)
        if (same := scans.setdefault((scan.subject, scan.name), scan)) is not scan:
            raise InputError(
                f"{path} and {same.path} are both subject {scan.subject}'s scan {scan.name}; "
                f"{_which(told, same.entities, spaces)}"
            )
    return list(scans.values())


def _entities(path: str, suffix: str) -> dict[str, str]:
    """Return what the name of a file tells; a suffix such as hemi-L is one of them."""
    from nilearn.interfaces.bids import parse_bids_filename

    told = {name: label or "" for name, label in parse_bids_filename(path)["entities"].items()}
    name, dash, label = suffix.partition("-")
    return told | {name: label} if dash else told


def _space_of(told: Mapping[str, str]) -> str:
    name = told.get("space", "native")
    grain = told.get("res") or told.get("den")
    return f"{name}:{grain}" if grain else str(name)


def _which(one: Mapping[str, str], other: Mapping[str, str], spaces: Sequence[str]) -> str:
    """Say what tells two scans of one name apart, and how to choose."""
    differ = sorted(name for name in one.keys() | other if one.get(name) != other.get(name))
    if {"res", "den"}.issuperset(differ):
        return f"say which by --space NAME:RES, of {', '.join(spaces)}"
    return (
        f"they differ in {', '.join(differ)}, which --bids does not tell apart: leave it out, and "
        "name those that are meant by --bold and --scan.pattern"
    )


def _only_space(root: Path, files: Sequence[tuple[dict[str, str], str]]) -> str:
    spaces = sorted({_space_of(told) for told, _ in files})
    if len(spaces) > 1:
        raise InputError(f"--space is missing: {root} has scans in {', '.join(spaces)}")
    return spaces[0]


def _scan(entities: Mapping[str, str], path: str) -> BidsScan:
    """Read what the sidecars say of a scan."""
    said = _sidecars(Path(path), entities)
    tr = said.get("RepetitionTime")
    if not _is_number(tr) or tr <= 0:
        raise InputError(f"{path}: no .json beside it says its RepetitionTime (s)")
    start = said.get("StartTime", tr / 2) if said.get("SliceTimingCorrected") else tr / 2
    if not _is_number(start):
        raise InputError(
            f"{path}: the .json beside it says a StartTime of {start!r}; seconds are expected"
        )
    stem = path.rpartition("_bold.")[0].removesuffix("_desc-preproc")
    mask = Path(f"{stem}_desc-brain_mask.nii.gz")
    of_volume = path.endswith(".nii.gz") and mask.is_file()
    return BidsScan(path, dict(entities), float(tr), float(start), str(mask) if of_volume else None)


def _is_number(said: Any) -> TypeGuard[float]:
    return isinstance(said, int | float) and math.isfinite(said)


def _sidecars(scan: Path, entities: Mapping[str, str]) -> dict[str, Any]:
    """Return what .json files beside a scan, and above it for its task, say: the nearest wins."""
    base = scan.name.partition(".")[0].removesuffix("_bold")
    bare = base.replace("_hemi-L", "")
    near = {base, bare, base.replace("_desc-preproc", "")}
    files = [scan.with_name(f"{name}_bold.json") for name in sorted(near, key=len)]
    above = scan.parents[2:4]
    files = [*(folder / f"task-{entities['task']}_bold.json" for folder in above[::-1]), *files]
    said: dict[str, Any] = {}
    for file in files:
        if file.is_file():
            content = read_sidecar(file)
            if not isinstance(content, dict):
                raise InputError(f"{file}: is no JSON of names and values")
            said |= content
    return said

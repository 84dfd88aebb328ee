"""What a run may read of a data set, and what cannot be trained on yet: refused, in a line each."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from giblet_ray.dataset.config import DataConfig, SplitConfig
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span, spans_by_stimulus
from giblet_ray.dataset.splits import SameFilm, Split, whole_trs
from giblet_ray.errors import InputError, nearest

PER_SUBJECT = "{subject}"
"""What stands for a subject's name in the path of its mask."""

_UNITS_FILE = ".npy"
"""Ending of the files that choose units."""

_ATLAS = "atlas:"
"""What a label image begins with, regions of which choose units."""

HEAD_PER_SUBJECT = "choose a model with a head for each (--model.heads subject)"


def check_films_have(
    dataset: Dataset, parts: Sequence[str], scans: Sequence[ScanKey], may_lack: bool
) -> None:
    """Refuse films without any of the parts; where a model is to have them all, without one."""
    where, films = dataset.storage.location, {scan.stimulus for scan in scans}
    lacking = dataset.lacking(parts, (scan.stimulus for scan in scans))
    for part, without in lacking.items():
        if not may_lack:
            raise InputError(
                f"{where}: stimulus {without[0]} has no {part}/, and the model reads it of every "
                "film; leave out that modality (--data.modalities), precompute without this "
                "stimulus, or use a model that does without, such as multimodal with "
                "--model.norm layer"
            )
    for film in films:
        if all(film in lacking.get(part, ()) for part in parts):
            raise InputError(
                f"{where}: stimulus {film} has none of {', '.join(parts)}; add a modality that it "
                "has (--data.modalities), or precompute without this stimulus"
            )


def check_parts_train(dataset: Dataset, parts: Sequence[str], films: Collection[str]) -> None:
    """Refuse a part that no film which trains has: nothing would be learned of it."""
    for part, without in dataset.lacking(parts, films).items():
        if len(without) == len(films):
            raise InputError(
                f"{dataset.storage.location}: no stimulus that trains has {part}/; leave out that "
                "modality (--data.modalities), or train on one that has it (--data.split)"
            )


def check_units(
    dataset: Dataset, names: Sequence[str], settings: DataConfig, head_per_subject: bool
) -> None:
    """Refuse subjects whose units differ, but for a model with a head for each."""
    where, subjects = dataset.storage.location, dataset.manifest.subjects
    first = names[0]
    for other in names[1:]:
        one, another = subjects[first], subjects[other]
        if another.value.dtype != one.value.dtype:
            raise InputError(
                f"{where}: BOLD of subject {other} is {another.value.dtype}, of {first} "
                f"{one.value.dtype}; subjects of one type are trained together (--data.subjects)"
            )
        if another == one:
            continue
        if another.value != one.value:
            differ = f"subject {other} has {another.n_units:,} units, {first} {one.n_units:,}"
        else:
            differ = f"the units of subjects {other} and {first} are not the same"
        if not head_per_subject:
            raise InputError(
                f"{where}: {differ}; {HEAD_PER_SUBJECT}, choose some subjects (--data.subjects), "
                "or put all scans in one space"
            )
        named = settings.voxels is None or not settings.voxels.endswith(_UNITS_FILE)
        if not named and PER_SUBJECT not in str(settings.voxels):
            raise InputError(
                f"--data.voxels {settings.voxels}: {where}: {differ}, so that one file cannot "
                f"choose of both; a file for each is accepted, such as masks/{PER_SUBJECT}.npy"
            )


def check_context(
    dataset: Dataset,
    split: SplitConfig,
    scans: Sequence[ScanKey],
    same: Sequence[SameFilm],
    context_trs: int,
) -> None:
    """Refuse context that no scan is long enough for, or that reaches over a gap."""
    tr_seconds = dataset.manifest.tr_seconds
    ends = {scan: int(np.flatnonzero(dataset.usable_trs(scan)).max(initial=-1)) for scan in scans}
    shortest = min(scans, key=ends.__getitem__)
    if context_trs > (most := ends[shortest]):
        raise InputError(
            f"--model: sees {context_trs} TRs ({context_trs * tr_seconds:g} s) before the one that "
            f"it predicts, and {shortest} ends {most + 1} TRs ({(most + 1) * tr_seconds:g} s) into "
            f"its film; context of at most {most} TRs ({most * tr_seconds:g} s) is accepted"
        )
    # Films that are in one set whole have no gap, but where some of one is moved to another.
    has_gaps = split.kind == "blocks" or (split.kind == "stimuli" and same)
    if has_gaps and context_trs > (gap := whole_trs(split.gap_seconds, tr_seconds)):
        raise InputError(
            f"--data.split.gap_seconds {split.gap_seconds:g}: {gap} TRs, where the model sees "
            f"{context_trs} TRs before the one that it predicts, so that it would see held-out TRs "
            f"while training; use at least {context_trs * tr_seconds:g}"
        )


def all_same(units: Sequence[np.ndarray]) -> bool:
    """Whether subjects' chosen units are the same ones."""
    return all(np.array_equal(each, units[0]) for each in units)


def chosen_units(dataset: Dataset, subject: str, voxels: str) -> np.ndarray:
    """Return the indices, (units,) int, of a subject's units that ``data.voxels`` chooses.

    Raises
    ------
    InputError
        If it names a file that does not choose units, or units or regions that there are not.
    """
    if voxels.endswith(_UNITS_FILE):
        n_units = dataset.manifest.subjects[subject].n_units
        return read_units(voxels.replace(PER_SUBJECT, subject), subject, n_units)
    if voxels.startswith(_ATLAS):
        return _units_in_regions(dataset, subject, voxels)
    if (names := dataset.unit_names(subject)) is None:
        raise InputError(
            f"--data.voxels {voxels}: the units of subject {subject} have no names, as parcels "
            "have; an .npy file of a mask or of indices, or atlas:FILE::REGIONS, is accepted"
        )
    accepted = "an .npy file of a mask or of indices, or names"
    return np.flatnonzero(_named(names, voxels, f"no unit of subject {subject}", accepted))


def _units_in_regions(dataset: Dataset, subject: str, voxels: str) -> np.ndarray:
    """Return the indices of units in regions of a label image: ``atlas:FILE::REGIONS``."""
    # Here, so that data are planned without the libraries of images.
    from giblet_ray.spaces.kinds import labels_of
    from giblet_ray.spaces.labels import find_label_table

    file, _, regions = voxels.removeprefix(_ATLAS).partition("::")
    image = Path(file.replace(PER_SUBJECT, subject)).expanduser()
    labels = labels_of(dataset.space(subject), image, find_label_table(image))
    names = list(labels.names.values())
    chosen = _named(names, regions or "*", f"no region of {image}", "names")
    units = np.flatnonzero(np.isin(labels.indices, np.flatnonzero(chosen)))
    if not len(units):
        raise InputError(
            f"--data.voxels {voxels}: none of subject {subject}'s "
            f"{dataset.manifest.subjects[subject].n_units:,} units lies in these regions"
        )
    return units


def _named(names: Sequence[str], wanted: str, none: str, accepted: str) -> np.ndarray:
    """Return which names are meant by those with commas between, bool (names,).

    Raises
    ------
    InputError
        If one means none; `none` says of what, and `accepted` what else there might be.
    """
    chosen = np.zeros(len(names), bool)
    for name in map(str.strip, wanted.split(",")):
        found = [called == name or fnmatch.fnmatchcase(called, name) for called in names]
        if not any(found):
            raise InputError(
                f"--data.voxels: {none} is named {name!r}{nearest(name, names)}; {accepted} with "
                "commas between and * for anything, are accepted"
            )
        chosen |= found
    return chosen


def read_units(path: str, subject: str, n_units: int) -> np.ndarray:
    """Read the chosen units' indices, (units,) int, of a subject who has `n_units`.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no mask of them, nor indices of them, each once.
    """
    try:
        chosen = np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--data.voxels {path}: not a readable .npy file: {error}") from error
    if chosen.dtype == bool:
        if chosen.shape != (n_units,):
            raise InputError(
                f"--data.voxels {path}: a mask of shape {chosen.shape}; the data set's scans of "
                f"{subject} have {n_units} voxels, so ({n_units},) is accepted"
            )
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(
            f"--data.voxels {path}: found {chosen.dtype} of shape {chosen.shape}; a boolean mask "
            "or a list of integer indices is accepted"
        )
    if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= n_units:
        found = f"{chosen.min()} to {chosen.max()}" if len(chosen) else "no voxel"
        raise InputError(
            f"--data.voxels {path}: {found}; indices of 0 to {n_units - 1} are accepted"
        )
    if len(np.unique(chosen)) < len(chosen):
        raise InputError(f"--data.voxels {path}: a voxel is named twice; each may be once")
    return chosen


def check_films(dataset: Dataset, split: Split, names: Iterable[str]) -> None:
    """Refuse one film under two names where some TR of it trains and is held out."""
    if split.repeats is not None:
        return
    of_film: dict[str, list[str]] = {}
    for name in names:
        if film := dataset.stimuli[name].sources.get("film"):
            of_film.setdefault(film.sha256, []).append(name)
    trained = spans_by_stimulus(split.train)
    held_out = spans_by_stimulus((*split.val, *split.test))
    for checksum, same in of_film.items():
        for one, other in itertools.permutations(same, 2):
            both = _trs(trained.get(one, ())) & _trs(held_out.get(other, ()))
            if both:
                raise InputError(
                    f"{dataset.storage.location}: stimuli {one} and {other} are the same film "
                    f"(checksum {checksum[:12]}); TR {min(both)} trains in one and is held out "
                    "in the other: precompute it under one name, as repeats of a scan"
                )


def _trs(spans: Iterable[Span]) -> set[int]:
    return {tr for span in spans for tr in range(span.start, span.stop)}

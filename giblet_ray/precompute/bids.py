"""fMRIPrep's derivatives of a BIDS data set: which scans there are, and which films they saw.

::

    DERIVATIVES/sub-01/ses-1/func/
      sub-01_ses-1_task-movie_run-1_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz    a scan
      sub-01_ses-1_task-movie_run-1_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz      its mask
      sub-01_ses-1_task-movie_run-1_space-MNI152NLin2009cAsym_desc-preproc_bold.json      TR, ...
    RAW/sub-01/ses-1/func/sub-01_ses-1_task-movie_run-1_events.tsv      its films, and their onsets

A volume stands for the time k TR + StartTime: TR / 2 where slices were not corrected for, which is
the middle of its TR, or that to which they were corrected. So a film begins, as the volumes count
time, at its event's onset - (StartTime - TR / 2).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError, nearest, one_line
from giblet_ray.precompute.chosen import NO_TEXT
from giblet_ray.precompute.scan_table import ScanRow

_ENDS = (
    ("bold", "nii.gz"),
    ("bold", "func.gii"),
    ("bold", "dtseries.nii"),
    ("hemi-L", "func.gii"),
)
"""Suffixes and ends of names of scans; the last is that of fMRIPrep before 20.2."""
_FILMS = (".mp4", ".mkv", ".m4v", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".wav", ".mp3", ".flac")
Films = Mapping[str, list[Path]]
_TEXTS = (".srt", ".vtt", ".ass", ".tsv", ".csv", ".xlsx")


@dataclass(frozen=True)
class BidsScan:
    """One run of a subject, as BIDS calls it: a file, and what stands beside it.

    Attributes
    ----------
    path : str
        The scan; of a surface, its left half.
    entities : dict of str to str
        As its name tells them: sub, ses, task, run, space, ...
    tr_seconds, start_seconds : float
        TR, and the time in it that a volume stands for (s).
    mask : str or None
        Its brain mask.
    """

    path: str
    entities: dict[str, str]
    tr_seconds: float
    start_seconds: float
    mask: str | None

    @property
    def subject(self) -> str:
        """Whose it is."""
        return self.entities["sub"]

    @property
    def name(self) -> str:
        """What tells it from the subject's others."""
        told = (f"{each}-{self.entities[each]}" for each in ("ses", "run") if each in self.entities)
        return "_".join(told)


@dataclass(frozen=True)
class BidsPlan:
    """What was found.

    Attributes
    ----------
    job : PrecomputeJob
        With films, texts, masks and TR as they were found.
    rows : list of ScanRow
        The scans.
    said : list of str
        What was found and what is missing, line by line.
    """

    job: PrecomputeJob
    rows: list[ScanRow]
    said: list[str]


def read_bids(job: PrecomputeJob) -> BidsPlan:
    """Find scans, their films, texts, masks and timing.

    Raises
    ------
    InputError
        If there is no such folder, task, space or subject; for two files of one scan, TRs that
        differ, and a scan of which no film is found.
    """
    root = Path(str(job.bids))
    found = find_scans(root, str(job.task), job.space, job.subjects)
    tr_seconds = _one_tr(job, found)
    films = find_films(job)
    rows: list[ScanRow] = []
    for scan in found:
        rows += _rows(job, scan, films, tr_seconds)
    rows = _with_repeats(rows)
    seen = {name: films[name][0] for name in films if any(row.stimulus == name for row in rows)}
    for name in seen:
        if len(films[name]) > 1:
            one, other, *_ = films[name]
            raise InputError(f"{one} and {other} are both named {name}: rename one")
    texts = {name: text for name, film in seen.items() if (text := _text_of(film)) is not None}
    update: dict[str, Any] = {
        "film": tuple(map(str, seen.values())),
        "text": job.text or (tuple(texts.get(name, NO_TEXT) for name in seen) if texts else ()),
        "tr_seconds": tr_seconds,
    }
    if job.mask is None and job.atlas is None and any(scan.mask for scan in found):
        update["mask"] = _subject_masks(job, found)
    return BidsPlan(job.model_copy(update=update), rows, _table(rows, list(seen)))


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
                f"{path} and {same.path} are both subject {scan.subject}'s scan {scan.name}; say "
                f"which by --space NAME:RES, of {', '.join(spaces)}"
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


def _only_space(root: Path, files: Sequence[tuple[dict[str, str], str]]) -> str:
    spaces = sorted({_space_of(told) for told, _ in files})
    if len(spaces) > 1:
        raise InputError(f"--space is missing: {root} has scans in {', '.join(spaces)}")
    return spaces[0]


def _scan(entities: Mapping[str, str], path: str) -> BidsScan:
    """Read what the sidecars say of a scan."""
    said = _sidecars(Path(path), entities)
    tr = said.get("RepetitionTime")
    if not isinstance(tr, int | float) or not math.isfinite(tr) or tr <= 0:
        raise InputError(f"{path}: no .json beside it says its RepetitionTime (s)")
    start = said.get("StartTime", tr / 2) if said.get("SliceTimingCorrected") else tr / 2
    stem = path.rpartition("_bold.")[0].removesuffix("_desc-preproc")
    mask = Path(f"{stem}_desc-brain_mask.nii.gz")
    of_volume = path.endswith(".nii.gz") and mask.is_file()
    return BidsScan(path, dict(entities), float(tr), float(start), str(mask) if of_volume else None)


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
            try:
                said |= json.loads(file.read_text())
            except (ValueError, TypeError) as error:
                raise InputError(f"{file}: is no readable JSON: {error}") from error
    return said


def _one_tr(job: PrecomputeJob, scans: Sequence[BidsScan]) -> float:
    """Return the TR that all scans have, and the job does not contradict."""
    first = scans[0]
    for scan in scans:
        if abs(scan.tr_seconds - first.tr_seconds) > 1e-3:
            raise InputError(
                f"{scan.path}: its TR is {scan.tr_seconds:g} s and that of {first.path} is "
                f"{first.tr_seconds:g} s; a data set has one: choose by --task and --subjects"
            )
    given = "tr_seconds" in job.model_fields_set
    if given and abs(job.tr_seconds - first.tr_seconds) > 1e-3 and not job.scan.ignore_header_tr:
        raise InputError(
            f"{first.path}: its .json says a TR of {first.tr_seconds:g} s, and --tr_seconds "
            f"{job.tr_seconds:g} is given; leave that out, or, if the file is wrong, "
            "--scan.ignore_header_tr"
        )
    return job.tr_seconds if given else first.tr_seconds


# --- films ------------------------------------------------------------------------------------


def find_films(job: PrecomputeJob) -> dict[str, list[Path]]:
    """Return the films of ``--stimuli``, or of ``--film``, by name: one, where it is to be used.

    Raises
    ------
    InputError
        If there is none.
    """
    if job.film:
        paths = [Path(path) for path in job.film]
    else:
        folder = Path(str(job.stimuli))
        if not folder.is_dir():
            raise InputError(f"--stimuli {folder}: no such folder; that of the films is expected")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _FILMS)
        if not paths:
            raise InputError(f"--stimuli {folder}: holds no film ({', '.join(_FILMS)})")
    films: dict[str, list[Path]] = {}
    for path in paths:
        films.setdefault(path.stem, []).append(path)
    return films


def _text_of(film: Path) -> str | None:
    """Return the text that lies beside a film under its name."""
    beside = (film.with_suffix(end) for end in _TEXTS)
    return next((str(path) for path in beside if path.is_file()), None)


def _rows(job: PrecomputeJob, scan: BidsScan, films: Films, tr_seconds: float) -> list[ScanRow]:
    """Return the films that a scan saw: by its events, or by names."""
    shift = scan.start_seconds - scan.tr_seconds / 2
    events = _events(job, scan)
    if events is not None and (onsets := _onsets(events, films)):
        firsts = [max(0, math.floor((onset - shift) / tr_seconds)) for _, onset in onsets]
        firsts[0] = 0
        rows = []
        for number, (name, onset) in enumerate(onsets):
            later = firsts[number + 1 :]
            rows.append(
                ScanRow(
                    where=str(events),
                    subject=scan.subject,
                    stimulus=name,
                    repeat=scan.name,
                    file=scan.path,
                    first_volume=firsts[number] if len(onsets) > 1 else None,
                    last_volume=later[0] - 1 if later else None,
                    onset_seconds=round(onset - shift - firsts[number] * tr_seconds, 6),
                )
            )
        return rows
    name = _named_film(scan, films)
    begins = None if abs(shift) < 1e-6 else -shift
    row = ScanRow(scan.path, scan.subject, name, scan.name, scan.path, onset_seconds=begins)
    return [row]


def _named_film(scan: BidsScan, films: Films) -> str:
    """Return the film that a scan's task, or its task and run, are named after."""
    task, run = scan.entities["task"], scan.entities.get("run", "")
    number = run.lstrip("0") or run
    marks = (f"{task}_run-", f"{task}_", task, "run-")
    names = [task, *(f"{mark}{each}" for each in (run, number) for mark in marks if each)]
    if len(films) == 1:
        return next(iter(films))
    for name in names:
        if name in films:
            return name
    raise InputError(
        f"{scan.path}: which of the films it is of is not told by events with a stim_file, nor by "
        f"its task and run; the films are {', '.join(films)}: name one {task}_run-{run or 1}, or "
        "say so in a --scan.table"
    )


def _events(job: PrecomputeJob, scan: BidsScan) -> Path | None:
    """Return the table of a scan's events: beside it, in the raw data set, or above for all."""
    path, told = Path(scan.path), scan.entities
    root = Path(str(job.bids))
    of_session = [f"{each}-{told[each]}" for each in ("sub", "ses") if each in told]
    of_task = [f"{each}-{told[each]}" for each in ("task", "acq", "run") if each in told]
    names = [*of_session, *of_task]
    roots = [root]
    if job.bids_raw is not None:
        roots = [Path(job.bids_raw)]
    elif root.parent.name == "derivatives":
        roots += [root.parent.parent]
    elif root.name == "derivatives":
        roots += [root.parent]
    places = [path.with_name("_".join(names) + "_events.tsv")]
    for each in roots:
        places.append(Path(each, *of_session, "func", "_".join(names) + "_events.tsv"))
        places.append(each / ("_".join(of_task) + "_events.tsv"))
        places.append(each / f"task-{told['task']}_events.tsv")
    return next((place for place in places if place.is_file()), None)


def _onsets(events: Path, films: Films) -> list[tuple[str, float]]:
    """Return the films that a table of events names, in the order in which they begin."""
    try:
        with events.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{events}: cannot be read: {error}") from error
    onsets: dict[str, float] = {}
    for number, row in enumerate(rows, 2):
        name = Path(row.get("stim_file") or "").stem
        if name in films:
            try:
                onset = float(row.get("onset") or "n/a")
            except ValueError as error:
                raise InputError(
                    f"{events}, line {number}: onset is {row.get('onset')!r}; seconds are expected"
                ) from error
            onsets[name] = min(onset, onsets.get(name, math.inf))
    return sorted(onsets.items(), key=lambda each: each[1])


def _with_repeats(rows: Sequence[ScanRow]) -> list[ScanRow]:
    """Leave the repeat out where somebody saw a film once."""
    times: dict[tuple[str, str], int] = {}
    for row in rows:
        times[row.subject, row.stimulus] = times.get((row.subject, row.stimulus), 0) + 1
    return [
        row if times[row.subject, row.stimulus] > 1 else replace(row, repeat=None) for row in rows
    ]


# --- masks, and what is said ------------------------------------------------------------------


def _subject_masks(job: PrecomputeJob, scans: Sequence[BidsScan]) -> str:
    """Write the intersection of each subject's masks beside the data set; return their pattern."""
    from nilearn.masking import intersect_masks

    if "://" in job.out:
        raise InputError(
            f"--out {job.out}: masks of subjects, where their scans' masks have their brain in "
            "common, are written beside the data set, and this is no folder: give --mask"
        )
    masks: dict[str, list[str]] = {}
    for scan in scans:
        if scan.mask is None:
            raise InputError(f"{scan.path}: has no brain mask beside it; give --mask or --atlas")
        masks.setdefault(scan.subject, []).append(scan.mask)
    folder = Path(f"{job.out.rstrip('/')}-masks")
    folder.mkdir(parents=True, exist_ok=True)
    for subject, files in masks.items():
        path = folder / f"sub-{subject}_mask.nii.gz"
        try:
            common = intersect_masks(files, threshold=1, connected=False)
        except ValueError as error:
            raise InputError(
                f"{files[0]}: its scans' masks do not go together: {one_line(error)}"
            ) from error
        common.to_filename(path)
    return str(folder / f"sub-{PER_SUBJECT}_mask.nii.gz")


def _table(rows: Sequence[ScanRow], films: Sequence[str]) -> list[str]:
    """Say how often each subject saw each film, and what is missing."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        of_subject = counts.setdefault(row.subject, dict.fromkeys(films, 0))
        of_subject[row.stimulus] += 1
    said = []
    for subject, of_films in counts.items():
        n, missing = sum(of_films.values()), [film for film, n in of_films.items() if not n]
        again = [film for film, n in of_films.items() if n > 1]
        line = f"subject {subject}: {n} scans of {len(of_films) - len(missing)} films"
        line += f"; again: {', '.join(again)}" if again else ""
        line += f"; no scan of {', '.join(missing)}" if missing else ""
        said.append(line)
    return said

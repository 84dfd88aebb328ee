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

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import Storage, short_sha256
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError, one_line
from giblet_ray.precompute.bids_films import find_films, find_texts, rows_of_scan
from giblet_ray.precompute.bids_scans import BidsScan, find_scans
from giblet_ray.precompute.chosen import NO_TEXT
from giblet_ray.precompute.scan_table import ScanRow
from giblet_ray.spaces.packed import pack
from giblet_ray.spaces.volume import load_mask


@dataclass(frozen=True)
class BidsPlan:
    """What was found."""

    job: PrecomputeJob
    """With films, texts, masks and TR as they were found."""
    rows: list[ScanRow]
    """The scans."""
    said: list[str]
    """What was found and what is missing, line by line."""
    notes: list[str]
    """Of files that are not used."""


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
    of_one_run = len({scan.entities.get("run") for scan in found}) == 1
    rows: list[ScanRow] = []
    for scan in found:
        rows += rows_of_scan(job, scan, films, tr_seconds, of_one_run=of_one_run)
    rows = _with_repeats(rows)
    seen = {name: films[name][0] for name in films if any(row.stimulus == name for row in rows)}
    for name in seen:
        if len(films[name]) > 1:
            one, other, *_ = films[name]
            raise InputError(f"{one} and {other} are both named {name}: rename one")
    texts, notes = find_texts(job, films, seen)
    update: dict[str, Any] = {
        "film": tuple(map(str, seen.values())),
        "text": job.text or (tuple(texts.get(name, NO_TEXT) for name in seen) if texts else ()),
        "tr_seconds": tr_seconds,
    }
    if job.mask is None and job.atlas is None and any(scan.mask for scan in found):
        update["mask"] = _subject_masks(job, found)
    return BidsPlan(job.model_copy(update=update), rows, _table(rows, list(seen)), notes)


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


def _with_repeats(rows: Sequence[ScanRow]) -> list[ScanRow]:
    """Leave the repeat out where somebody saw a film once."""
    times: dict[tuple[str, str], int] = {}
    for row in rows:
        times[row.subject, row.stimulus] = times.get((row.subject, row.stimulus), 0) + 1
    return [
        row if times[row.subject, row.stimulus] > 1 else replace(row, repeat=None) for row in rows
    ]


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
    common = {}
    for subject, files in masks.items():
        images = [load_mask(Path(file)) for file in files]
        try:
            image = intersect_masks(images, threshold=1, connected=False)
        except ValueError as error:
            raise InputError(
                f"{files[0]}: its scans' masks do not go together: {one_line(error)}"
            ) from error
        common[subject] = pack(image.to_bytes())
    if job.preflight.only:  # which leaves nothing behind
        folder = tempfile.mkdtemp(prefix="masks-")
        atexit.register(shutil.rmtree, folder)
    else:
        # By content: workers of a job that makes other scans at --out may be reading theirs.
        content = b"".join(subject.encode() + mask for subject, mask in common.items())
        folder = f"{job.out.rstrip('/')}-masks/{short_sha256(content)}"
    storage = Storage.at(folder)
    for subject, mask in common.items():
        name = _mask_name(subject)
        if storage.size(name) is None:
            with storage.write(name) as stream:
                stream.write(mask)
    return storage.path(_mask_name(PER_SUBJECT))


def _mask_name(subject: str) -> str:
    return f"sub-{subject}_mask.nii.gz"


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

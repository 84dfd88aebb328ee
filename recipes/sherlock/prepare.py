"""Say what the scans of Sherlock do not say themselves: the brain, and who saw what when.

    python recipes/sherlock/prepare.py data/sherlock_nii
    python recipes/sherlock/prepare.py data/sherlock_nii --parts 1

Takes the folder of sherlock_movie_s1.nii.gz, ... (or .nii). Gives, in it, mask.nii.gz, the voxels
that change in more than half of the people, and scans.tsv for --scan.table: a row for each person
and part of the film. Volumes that repeat the one before them are scrubbed. Each scan is read once,
in about 4 GB of memory.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nibabel
import numpy as np

FILMS = {"1": "stimuli_Sherlock", "2": "stimuli_Sherlock_2"}
VOLUMES = {"1": (0, 945), "2": (946, 1975)}
"""Of each part, in the file of both: first and last, from 0."""
ONSET_SECONDS = -4.5
"""The published volumes are shifted: the first of a part is that of 4.5 s after its start."""
COLUMNS = ("subject", "stimulus", "file", "first_volume", "last_volume", "onset_seconds", "scrub")


def main() -> None:
    """Write both files, and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the scans")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=FILMS,
        default=list(FILMS),
        help="those that you have of the film",
    )
    given = parser.parse_args()
    scans = {
        int(found[1]): path
        for path in given.folder.glob("sherlock_movie_s*.nii*")
        if (found := re.fullmatch(r"sherlock_movie_s(\d+)\.nii(\.gz)?", path.name))
    }
    if not scans:
        sys.exit(f"error: {given.folder}: holds no sherlock_movie_s1.nii.gz, ...")
    votes_XYZ: np.ndarray | int = 0
    rows = []
    for subject, path in sorted(scans.items()):
        changes_XYZ, repeated = read(path)
        votes_XYZ = votes_XYZ + changes_XYZ.astype(int)
        rows += [row(subject, path.name, part, repeated) for part in given.parts]
        print(f"{path.name}: {changes_XYZ.sum():,} voxels change, {len(repeated)} volumes repeated")
    inside_XYZ = np.asarray(votes_XYZ * 2 > len(scans), np.uint8)
    affine = nibabel.load(path).affine
    nibabel.save(nibabel.Nifti1Image(inside_XYZ, affine), given.folder / "mask.nii.gz")
    lines = ["\t".join(map(str, cells)) for cells in (COLUMNS, *rows)]
    (given.folder / "scans.tsv").write_text("\n".join(lines) + "\n")
    print(f"{given.folder / 'mask.nii.gz'}: {inside_XYZ.sum():,} voxels, by {len(scans)} scans")
    print(f"{given.folder / 'scans.tsv'}: {len(rows)} scans")


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """Return which voxels change, (X, Y, Z), and the volumes that repeat the one before them."""
    values_XYZT = nibabel.load(path).get_fdata(dtype=np.float32)
    n_volumes = values_XYZT.shape[-1]
    if n_volumes != VOLUMES["2"][1] + 1:
        sys.exit(f"error: {path}: has {n_volumes} volumes; both parts have {VOLUMES['2'][1] + 1}")
    repeated = [
        volume
        for volume in range(1, n_volumes)
        if np.array_equal(values_XYZT[..., volume - 1], values_XYZT[..., volume], equal_nan=True)
    ]
    return values_XYZT.max(axis=-1) > values_XYZT.min(axis=-1), repeated


def row(subject: int, file: str, part: str, repeated: list[int]) -> tuple[object, ...]:
    """Return a row of the table; scrubbed volumes are counted from the part's first."""
    first, last = VOLUMES[part]
    scrub = ",".join(str(volume - first) for volume in repeated if first <= volume <= last)
    return f"s{subject}", FILMS[part], file, first, last, ONSET_SECONDS, scrub


if __name__ == "__main__":
    main()

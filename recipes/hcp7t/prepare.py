"""List the scans of HCP's 7 T films: which version each saw, and which volumes are rests.

    python recipes/hcp7t/prepare.py data/hcp7t --version_1 data/hcp7t/version_1.txt

Takes the folder of the subjects' folders, and who saw version 1 of the films, an id in a line (or
none). Gives, in the folder, scans.tsv for --scan.table: a row for each scan that is there. Volumes
outside the clips (clips.tsv) are scrubbed: they neither train nor judge.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path

from giblet_ray.errors import InputError
from giblet_ray.spaces.scan import scan_shape

CLIPS = Path(__file__).with_name("clips.tsv")
FILMS = {"MOVIE1": "CC1", "MOVIE2": "HO1", "MOVIE3": "CC2", "MOVIE4": "HO2"}
"""What follows the number in the films' names."""
ENDINGS = {
    "2mm": "Atlas_MSMAll_hp2000_clean.dtseries.nii",
    "1.6mm": "Atlas_1.6mm_MSMAll_hp2000_clean.dtseries.nii",
}
COLUMNS = ("subject", "stimulus", "file", "scrub")


def main() -> None:
    """Write the table, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the subjects' folders")
    parser.add_argument(
        "--version_1", required=True, metavar="FILE|none", help="who saw version 1, an id in a line"
    )
    parser.add_argument("--resolution", choices=ENDINGS, default="2mm", help="91k or 59k mesh")
    parser.add_argument("--rests", action="store_true", help="keep the volumes of rests")
    given = parser.parse_args()
    saw_1 = set() if given.version_1 == "none" else read_ids(given.version_1)
    rows = []
    for movie, clip_names in FILMS.items():
        for path in sorted(given.folder.glob(f"*/MNINonLinear/Results/tfMRI_{movie}_7T_*")):
            file = path / f"{path.name}_{ENDINGS[given.resolution]}"
            subject = path.parents[2].name
            if file.is_file():
                film = f"7T_{movie}_{clip_names}" + "_v2" * (subject not in saw_1)
                scrub = "" if given.rests else rests(movie, scan_shape(file, tr_seconds=1.0)[0])
                rows.append((subject, film, str(file.relative_to(given.folder)), scrub))
    if not rows:
        raise InputError(f"{given.folder}: holds no ID/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/...")
    people = {subject for subject, *_ in rows}
    if unknown := saw_1 - people:
        print(f"note: no scan of {len(unknown)} of the {len(saw_1)} people in {given.version_1}")
    lines = ["\t".join(cells) for cells in (COLUMNS, *sorted(rows))]
    (given.folder / "scans.tsv").write_text("\n".join(lines) + "\n")
    print(
        f"{given.folder / 'scans.tsv'}: {len(rows)} scans of {len(people)} people, "
        f"{len(people & saw_1)} of whom saw version 1"
    )


def read_ids(file: str) -> set[str]:
    """Return the ids in a file, parted by lines, spaces or commas."""
    try:
        ids = re.findall(r"[^\s,;]+", Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--version_1 {file}: cannot be read: {error}") from error
    for word in ids or ["nothing"]:
        if not re.fullmatch(r"[0-9]{6}", word):
            raise InputError(f"--version_1 {file}: has {word}; ids of six digits are expected")
    return set(ids)


def rests(movie: str, n_volumes: int) -> str:
    """Return the volumes, of 1 s each, that lie not wholly in a clip: ``0-19,264-283``."""
    with CLIPS.open(newline="") as stream:
        clips = [row for row in csv.DictReader(stream, delimiter="\t") if row["movie"] == movie]
    edges = [0]
    for clip in clips:
        edges += [int(clip["start_seconds"]), int(clip["stop_seconds"])]
    edges = [min(edge, n_volumes) for edge in (*edges, n_volumes)]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return ",".join(f"{a}-{b - 1}" for a, b in pairs if a < b)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")

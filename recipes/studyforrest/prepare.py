"""Name the segments of studyforrest's film after the runs in which they were seen.

    python recipes/studyforrest/prepare.py data/studyforrest/segments data/studyforrest/films

Takes the folder of fg_av_ger_seg0.mkv to fg_av_ger_seg7.mkv. Gives a folder of links to them,
run-1.mkv to run-8.mkv: scans are named by run, and run 1 saw segment 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

SEGMENTS = 8


def main() -> None:
    """Write the links, and say which they are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("segments", type=Path, help="folder of the segments")
    parser.add_argument("films", type=Path, help="folder of links to them, made if missing")
    given = parser.parse_args()
    files = [given.segments / f"fg_av_ger_seg{number}.mkv" for number in range(SEGMENTS)]
    if missing := [str(file) for file in files if not file.is_file()]:
        sys.exit(f"error: no such file: {', '.join(missing)}")
    given.films.mkdir(parents=True, exist_ok=True)
    for run, file in enumerate(files, 1):
        link = given.films / f"run-{run}.mkv"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(file, given.films))
        print(f"{link}: {file.name}")


if __name__ == "__main__":
    main()

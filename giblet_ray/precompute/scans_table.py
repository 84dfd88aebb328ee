"""What is taken of scans and what is not, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from giblet_ray.precompute.scan_plan import ScanPlan


def cut_in_words(scan: ScanPlan) -> dict[str, int]:
    """Return what of a scan and its film is not used, by what it is: numbers of TRs."""
    taken = scan.taken
    cut = {
        "volumes before": taken.n_before,
        "volumes after": taken.n_after,
        "film TRs without BOLD": taken.n_lacking,
        "scrubbed": len(scan.scrubbed),
    }
    return {name: n for name, n in cut.items() if n}


def scans_table(scans: Sequence[ScanPlan]) -> list[str]:
    """Return a line per scan of what is taken of it, under a header."""
    rows = [("subject", "stimulus", "repeat", "file", "volumes", "film begins", "film TRs", "cut")]
    for scan in scans:
        taken = scan.taken
        last = min(taken.stop_tr, scan.film.n_trs) - 1
        after = max(0, taken.stop_tr - scan.film.n_trs)
        begins = taken.onset_seconds + (taken.n_before * scan.film.tr_seconds)
        rows.append(
            (
                scan.subject,
                scan.film.name,
                str(scan.repeat),
                Path(scan.path).name,
                f"{taken.volumes[0]} to {taken.volumes[1] - 1}",
                f"{begins:.6g} s",
                f"{max(0, taken.first_tr)} to {last} of {scan.film.n_trs}"
                + (f", {after} after" if after else ""),
                ", ".join(f"{n} {name}" for name, n in cut_in_words(scan).items()) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""Every part of the work beside its best alternative, and what it must reach: one table.

    python benchmarks/performance.py
    python benchmarks/performance.py --rows 7 9 --write docs/performance.md

Runs the benchmarks below one after another, each in a process of its own, and prints what they
measured in one table. One that fails is said to have failed, and the others are run; Ctrl-C ends
the measuring, and what was found by then is printed and written all the same.

With --write the table is written to a page, with machine, date and commit. What stands there from
"What is missed" on is kept, and with --rows so are the other rows of this machine. What
gpu_check.py has measured on another machine is shown with --elsewhere: the file of its targets,
and that machine's name.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from machine import CONSOLE, ROOT, cpu_model
from rich.table import Table
from target import HEADER, read_targets

Line = tuple[str, ...]
"""Cells of a row, as HEADER names them."""

KEPT = "## What is missed"
"""Where the part of the page begins that is written by hand."""


@dataclass(frozen=True)
class Benchmark:
    """A script that measures rows of the table.

    Attributes
    ----------
    row : str
        Which, as the table says it.
    script : str
        Its path below the repository.
    arguments : tuple of str
        What it is given, beside where to write its targets.
    needs_gpu : bool
        Whether it is left out where there is no GPU.
    """

    row: str
    script: str
    arguments: tuple[str, ...] = ()
    needs_gpu: bool = False

    @property
    def words(self) -> str:
        """Script and arguments, as one types them."""
        return shlex.join([self.script, *self.arguments])

    def line(self, outcome: str) -> Line:
        """Return the line of a benchmark that has measured nothing."""
        return (self.row, self.words, "", "", "", outcome)


BENCHMARKS = (
    Benchmark("1", "benchmarks/step.py"),
    Benchmark("2", "benchmarks/sharded_head.py"),
    Benchmark("3", "benchmarks/under_ray.py"),
    Benchmark("4", "benchmarks/ingest.py"),
    Benchmark("5", "benchmarks/audio_branch.py"),
    Benchmark("6", "benchmarks/film_to_dataset.py"),
    Benchmark("7", "benchmarks/sweep.py"),
    Benchmark("7", "benchmarks/many_trials.py"),
    Benchmark("8", "benchmarks/node_memory.py"),
    Benchmark("9", "benchmarks/scaling_model.py"),
    Benchmark("1, 4, 5", "benchmarks/gpu_check.py", needs_gpu=True),
)

BY_HAND: tuple[Line, ...] = (
    ("10", "make test, two cores (minutes)", "", "", "<= 9", "time make test"),
    ("10", "make demo after installing, two cores (minutes)", "", "", "<= 4", "time make demo"),
)
"""Rows that are no benchmark's, and what measures them."""


def main() -> None:
    """Run the benchmarks, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", help="rows that are measured (default: all)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page that is written")
    parser.add_argument(
        "--elsewhere",
        nargs=2,
        action="append",
        default=[],
        metavar=("FILE", "MACHINE"),
        help="targets of another machine",
    )
    options = parser.parse_args()
    chosen = [each for each in BENCHMARKS if not options.rows or each.row in options.rows]
    lines = measure(chosen, has_gpu())
    lines += [line for line in BY_HAND if not options.rows or line[0] in options.rows]
    before = options.write.read_text() if options.write and options.write.exists() else ""
    here = machine()
    if options.rows:
        lines += [line for line in read_lines(before, here) if line[0] not in options.rows]
    tables = [(here, sorted(lines, key=lambda line: int(line[0].partition(",")[0])))]
    for file, name in options.elsewhere:
        tables.append((name, [target.cells for target in read_targets(Path(file))]))
    for title, of_machine in tables:
        table = Table(*HEADER, title=title)
        for line in of_machine:
            table.add_row(*line)
        CONSOLE.print(table)
    if options.write is not None:
        command = shlex.join(["python", "benchmarks/performance.py", *sys.argv[1:]])
        options.write.write_text(page(tables, command, before))
        CONSOLE.print(f"written: {options.write}")


def measure(benchmarks: Sequence[Benchmark], with_gpu: bool) -> list[Line]:
    """Run benchmarks one after another, until all have run or the user has had enough; return the
    lines of the table."""
    lines: list[Line] = []
    logs, interrupted = Path(tempfile.mkdtemp(prefix="giblet_ray-performance-")), False
    for number, benchmark in enumerate(benchmarks, 1):
        of = f"{number} of {len(benchmarks)}: row {benchmark.row}, {benchmark.words}"
        if benchmark.needs_gpu and not with_gpu:
            CONSOLE.print(f"{of}: not measured, there is no GPU here")
            lines.append(benchmark.line("not measured: no GPU"))
            continue
        log, file = logs / f"{number}.txt", logs / f"{number}.json"
        started = time.perf_counter()
        if not interrupted:
            CONSOLE.print(f"{of}; what it says: {log}")
            try:
                run(benchmark, log, file)
            except KeyboardInterrupt:
                CONSOLE.print("  interrupted: this and what would follow is not measured")
                interrupted = True
        seconds = time.perf_counter() - started
        if interrupted:
            lines.append(benchmark.line("not measured: interrupted"))
        elif file.exists():  # written last, also by what ends with 1 since a target is missed
            found = [target.cells for target in read_targets(file)]
            CONSOLE.print(f"  {len(found)} targets, {seconds:,.0f} s")
            lines += found
        else:
            last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            CONSOLE.print(f"  failed after {seconds:,.0f} s: {last}")
            lines.append(benchmark.line("failed"))
    return lines


def run(benchmark: Benchmark, log: Path, file: Path) -> None:
    """Run a benchmark, which writes what it says and its targets."""
    with log.open("w") as stream:
        subprocess.run(
            [sys.executable, benchmark.script, *benchmark.arguments, "--targets", file],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )


def read_lines(text: str, title: str) -> list[Line]:
    """Return the lines of a machine's table on a page; none if it has no such table."""
    _, _, table = text.partition(f"## {title}\n")
    rows = [line.strip("| ") for line in table.partition("\n## ")[0].splitlines() if "|" in line]
    return [tuple(cell.strip() for cell in row.split("|")) for row in rows[2:]]


def has_gpu() -> bool:
    """Whether this machine has a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def machine() -> str:
    """Return what this machine is, in a line."""
    import torch

    memory = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if has_gpu() else "no GPU"
    return f"{cpu_model()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {gpu}"


def page(tables: Iterable[tuple[str, Sequence[Line]]], command: str, before: str) -> str:
    """Return the page.

    Parameters
    ----------
    tables : iterable of (str, sequence of tuple)
        Of each machine, what it is and its lines.
    command : str
        What has measured them.
    before : str
        The page as it was: its last part is kept.
    """
    others = " Rows that it left out stand as they were." if "--rows" in command else ""
    today = datetime.datetime.now(datetime.UTC).date()
    text = [
        "# Performance",
        "",
        "Every part of the work beside its best alternative, each ratio from one run on one "
        "machine, and what it must reach.",
        f"`{command}` wrote this page, at commit {commit()}, on {today}.{others}",
        "",
    ]
    for title, lines in tables:
        text += [f"## {title}", "", _row(HEADER), _row(["---"] * len(HEADER))]
        text += [*map(_row, lines), ""]
    kept = before[before.find(KEPT) :] if KEPT in before else f"{KEPT}\n"
    return "\n".join(text) + f"\n{kept}"


def commit() -> str:
    """Return the commit of the checkout, marked if files differ from it."""
    words = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

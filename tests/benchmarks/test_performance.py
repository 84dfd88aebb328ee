"""benchmarks/performance.py: one table of all benchmarks, whatever becomes of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import performance
import pytest
from performance import Benchmark, measure, page
from script import run_script
from target import HEADER

MEASURES = """
import argparse
from pathlib import Path
from target import Target, tell
parser = argparse.ArgumentParser()
parser.add_argument("--targets", type=Path)
parser.add_argument("--found", type=float)
options = parser.parse_args()
tell(
    [
        Target(4, "rows/s beside a scan", options.found, 0.6, True, (0.5, 0.75)),
        Target(4, "waiting", 0.03, 0.02, False, (0.01, 0.04)),
    ],
    options.targets,
)
raise SystemExit(options.found < 1)  # as what checks a GPU ends when something is missed
"""
FOUND = [
    ("4", "rows/s beside a scan", "0.65", "0.5 to 0.75", ">= 0.6", "met"),
    ("4", "waiting", "0.03", "0.01 to 0.04", "<= 0.02", "missed"),
]


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Benchmark]:
    """One that measures, one that fails, one that writes nothing and one for a GPU."""
    monkeypatch.setattr(performance, "ROOT", tmp_path)
    here = Path(performance.__file__).parent
    scripts = {
        "measures.py": f"import sys; sys.path.append({str(here)!r})\n{MEASURES}",
        "fails.py": "raise SystemExit('the disk is full')",
        "says_nothing.py": "",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    return [
        Benchmark("2", "fails.py"),
        Benchmark("3", "says_nothing.py"),
        Benchmark("4", "measures.py", ("--found", "0.65")),
        Benchmark("1, 5", "measures.py", ("--found", "9"), needs_gpu=True),
    ]


def read_page(text: str) -> dict[str, list[tuple[str, ...]]]:
    """Return the lines of a page's tables, by the machine that they are of."""
    found = {}
    for section in text.partition("\n## What is missed")[0].split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = [line.strip("| ") for line in body.splitlines() if line.startswith("|")]
        found[title] = [tuple(map(str.strip, row.split("|"))) for row in rows[2:]]
    return found


def test_what_fails_is_said_and_the_others_are_measured(
    benchmarks: list[Benchmark], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = measure(benchmarks, with_gpu=False)
    assert lines == [
        ("2", "fails.py", "", "", "", "failed"),
        ("3", "says_nothing.py", "", "", "", "failed"),
        *FOUND,
        ("1, 5", "measures.py --found 9", "", "", "", "not measured: no GPU"),
    ]
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 4: row 2, fails.py" in said
    assert "the disk is full" in said
    assert "2 targets" in said


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt: a shell's background jobs ignore it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_measuring_and_keeps_what_was_measured(
    benchmarks: list[Benchmark], tmp_path: Path
) -> None:
    (tmp_path / "interrupts.py").write_text(
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(600)"
    )
    last = Benchmark("7", "interrupts.py")
    fails, _, measures, of_gpu = benchmarks
    assert measure([measures, last, fails, of_gpu], with_gpu=False) == [
        *FOUND,
        ("7", "interrupts.py", "", "", "", "not measured: interrupted"),
        ("2", "fails.py", "", "", "", "not measured: interrupted"),
        ("1, 5", "measures.py --found 9", "", "", "", "not measured: no GPU"),
    ]


def test_a_page_holds_the_table_and_keeps_what_was_written_by_hand() -> None:
    tables = [("a CPU, 2 cores", FOUND), ("a GPU", FOUND[:1])]
    first = page(tables, "python benchmarks/performance.py", "")
    assert read_page(first) == dict(tables)
    by_hand = f"{first}Row 4 waits for the disk.\n\n| tried | gave |\n|---|---|\n| mmap | 0.02 |\n"
    again = page(tables[:1], "python benchmarks/performance.py --rows 4", by_hand)
    assert again.endswith("## What is missed\nRow 4 waits for the disk.\n\n| tried | gave |\n"
                          "|---|---|\n| mmap | 0.02 |\n")  # fmt: skip
    assert next(iter(read_page(again))) == "a CPU, 2 cores"
    assert "`python benchmarks/performance.py --rows 4` wrote this page" in again


def test_a_row_that_is_measured_again_leaves_the_others(tmp_path: Path) -> None:
    written = tmp_path / "page.md"
    stale = ("10", "make test, in the past", "8", "8 to 8", "<= 9", "met")
    before = page([(performance.machine(), [*FOUND, stale]), ("a GPU", FOUND)], "before", "")
    written.write_text(f"{before}Row 4 waits for the disk.\n")
    run_script("benchmarks/performance.py", "--rows", "10", "--write", written)
    again = written.read_text()
    ((_, lines),) = read_page(again).items()
    assert lines[:2] == FOUND
    assert [line[-1] for line in lines[2:]] == ["time make test", "time make demo"]
    assert again.endswith("Row 4 waits for the disk.\n")


def test_rows_of_the_suite_are_shown_with_their_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script("benchmarks/performance.py", "--rows", "10", "--write", tmp_path / "page.md")
    said = capsys.readouterr().out
    assert "time make test" in said
    (lines,) = read_page((tmp_path / "page.md").read_text()).values()
    assert [(line[0], line[-1]) for line in lines] == [
        ("10", "time make test"),
        ("10", "time make demo"),
    ]
    assert all(len(line) == len(HEADER) for line in lines)

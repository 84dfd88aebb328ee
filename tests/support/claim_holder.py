"""Another job's process, which holds the claim on a folder."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

HOLD = textwrap.dedent(
    """
    import sys
    from giblet_ray.checkpoint.claim import claimed
    with claimed(sys.argv[1], "--name"):
        print("held", flush=True)
        sys.stdin.read()
    """
)


@contextmanager
def holder(location: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a claim until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, location],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()

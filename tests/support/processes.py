"""Jobs and other commands in processes of their own: started, awaited, stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 480.0


class Process:
    """A command that leads a process group of its own; what it says can be read as it comes.

    Parameters
    ----------
    *command : object
        Program and arguments.
    folder : Path
        Where it runs.
    environment : mapping of str to str, optional
        Default: this one, without the address of a cluster.
    """

    def __init__(
        self, *command: object, folder: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        # Files: a pipe that nobody reads would halt it.
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=here if environment is None else environment,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def stdout(self) -> str:
        """All that it has printed."""
        return _content(self._out)

    @property
    def stderr(self) -> str:
        """All that it has printed on standard error."""
        return _content(self._err)

    @property
    def said(self) -> str:
        """Both."""
        return self.stdout + self.stderr

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def wait_for(self, reached: Callable[[], Any], what: str = "it") -> Any:
        """Wait until something is so, while the command runs; return what `reached` does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := reached()):
            assert self.returncode is None, f"ended before {what}: {self.said}"
            assert time.monotonic() < deadline, f"never happened: {what}: {self.said}"
            time.sleep(0.02)
        return found

    def wait(self, seconds: float = PATIENCE_SECONDS) -> Self:
        """Wait until it ends; it is killed if it does not."""
        try:
            self._process.wait(seconds)
        finally:
            self.kill()
        return self

    def end(self, code: int = 0, seconds: float = PATIENCE_SECONDS) -> str:
        """Return all that it has said, once it has ended with a code."""
        assert self.wait(seconds).returncode == code, self.said
        return self.said

    def stop(self) -> None:
        """Ask it to end, as `ray job stop` does."""
        self._process.terminate()

    def interrupt(self) -> None:
        """Press Ctrl-C: a terminal tells it and what it has started."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 it and what it has started, unless it has ended."""
        if self.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class JobProcess(Process):
    """One of jobs/, in a folder that is made if missing."""

    def __init__(
        self, job: str, *words: object, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        command = (sys.executable, ROOT / "jobs" / job, *words)
        super().__init__(*command, folder=folder, environment=environment)


def _content(file: IO[bytes]) -> str:
    # The command writes where this process reads: its place in the file is not to be moved.
    descriptor = file.fileno()
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

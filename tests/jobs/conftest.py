"""A job's whole command line, read and answered in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
from script import run_script


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a job that is to end with one line on standard error and exit code 2; return the line.

    No cluster may be joined or started, and no more be said before the error than the name of a
    run.
    """

    def start() -> None:
        pytest.fail("the job started a cluster before it told what is wrong")

    def run(job: str, *words: object) -> str:
        # What connect() does first, whoever holds a reference to it.
        monkeypatch.setattr("giblet_ray.cluster.check_environment", start)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run_script(f"jobs/{job}", *words)
        said, line = capfd.readouterr()
        assert end.value.code == 2
        assert said in ("", "run run\n", "sweep sweep\n", "sweep yesterday\n")
        assert line.startswith("error: ")
        assert line.endswith("\n")
        assert line.count("\n") == 1
        return line

    return run


@pytest.fixture
def say(cluster: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a job on the tests' cluster; return what it printed.

    Nothing may stand on standard error but the one line of a job that ends with another code.
    """

    def run(job: str, *words: object, code: int = 0) -> str:
        capfd.readouterr()
        refused = pytest.raises(SystemExit, match=f"^{code}$") if code else nullcontext()
        with refused:
            run_script(f"jobs/{job}", *words)
        said, error = capfd.readouterr()
        assert error.count("\n") == (1 if code else 0), error
        return said + error

    return run

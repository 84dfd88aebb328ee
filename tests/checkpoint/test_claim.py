"""One job at a time works on a folder, whichever processes and machines there are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from claim_holder import holder
from faulty_proxy import FaultyProxy

from giblet_ray.checkpoint import claim
from giblet_ray.checkpoint.claim import claimed
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError

RACE = textwrap.dedent(
    """
    import os, sys, time
    from giblet_ray.checkpoint.claim import claimed
    for _ in range(8):
        try:
            with claimed(sys.argv[1], "--name", patience=60):
                os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
                time.sleep(0.01)
                os.unlink(sys.argv[2])
        except FileExistsError:
            print("both hold it", flush=True)
    """
)


@pytest.fixture(params=["disk", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "runs/mix")
    s3: FaultyProxy = request.getfixturevalue("s3")
    assert s3.upstream
    return f"s3://lab/claims/{tmp_path.name}"


def test_second_process_is_refused_until_the_first_ends(location: str) -> None:
    with holder(location) as first:
        with pytest.raises(InputError, match=r"another job works on it, on .* --name") as error:
            claimed(location, "--name").__enter__()
        assert str(first.pid) in str(error.value)
        assert "\n" not in str(error.value)
        assert len(Storage.at(location).entries()) == 1, "the one that was refused left something"
        first.communicate()
    with claimed(location, "--name"):
        pass
    assert not Storage.at(location).entries()


def test_claim_of_a_killed_process_is_nobody_s(location: str) -> None:
    with holder(location) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        with claimed(location, "--name"):
            assert len(Storage.at(location).entries()) == 1


def test_of_processes_that_claim_at_one_moment_one_holds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path / "run"), str(tmp_path / "mark")]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate()[0] for racer in racers] == ["", "", ""]
    assert [racer.returncode for racer in racers] == [0, 0, 0]


def test_folder_that_was_made_for_the_claim_alone_goes(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with claimed(str(tmp_path / "mine/runs/mix"), "--name"):
        pass
    assert not list((tmp_path / "mine").iterdir())
    with claimed(str(tmp_path / "mine"), "--name"):
        pass
    assert (tmp_path / "mine").exists()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[float], Path]:
    """Leave the claim of a job on another machine, rewritten so many seconds ago."""

    def leave(age: float) -> Path:
        with claimed(str(tmp_path / "scratch"), "--name"):
            (file,) = (tmp_path / "scratch").iterdir()
            content = json.loads(file.read_text())
        content.update(machine="other 1 2", host="other", beat=time.time() - age)
        file = tmp_path / "run" / f".claim-{'0' * 32}"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    return leave


def test_claim_of_another_machine_counts_while_it_is_rewritten(
    elsewhere: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    file = elsewhere(claim.DEAD_SECONDS - 10)
    with pytest.raises(InputError, match=r"on other as process"):
        claimed(str(file.parent), "--name").__enter__()
    file = elsewhere(claim.DEAD_SECONDS + 10)
    with claimed(str(file.parent), "--name"):
        assert not file.exists()


def test_claim_of_a_machine_whose_clock_is_slow_counts(
    elsewhere: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.4)
    file = elsewhere(3600)
    done = threading.Event()

    def rewrite() -> None:
        while not done.wait(0.1):
            content = json.loads(file.read_text())
            Path(f"{file}.new").write_text(json.dumps({**content, "beat": content["beat"] + 0.1}))
            Path(f"{file}.new").replace(file)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        with pytest.raises(InputError, match=r"on other as process"):
            claimed(str(file.parent), "--name").__enter__()
    finally:
        done.set()
        thread.join()


def test_job_whose_claim_was_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    told = threading.Event()
    with claimed(str(tmp_path / "run"), "--name", lost=told.set):
        (file,) = (tmp_path / "run").iterdir()
        before = json.loads(file.read_text())["beat"]
        while json.loads(file.read_text())["beat"] == before:
            time.sleep(0.01)
        file.unlink()
        assert told.wait(60)


def test_file_that_is_no_claim_is_named(tmp_path: Path) -> None:
    (tmp_path / f".claim-{'0' * 32}").write_text("{")
    with pytest.raises(InputError, match=r"\.claim-0+: no claim; delete the file"):
        claimed(str(tmp_path), "--name").__enter__()

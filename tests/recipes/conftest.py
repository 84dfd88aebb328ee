"""A recipe, followed as its README says, on made-up data in the layout of the download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from documentation import ROOT, block_commands
from script import run_script

SMALLER: Mapping[str, Sequence[str]] = {
    "precompute.py": [
        *("--codes.make", "false", "--sound.make"),
        *("--frames.height", "18", "--frames.width", "32"),
    ],
    "train.py": [
        *("--model.context_seconds", "14", "--model.bottleneck_dim", "8"),
        *("--train.batch_trs", "64", "--tracking.log_model", "false"),
    ],
    "evaluate.py": ["--ridge", "false", "--permutations", "99", "--resamples", "100"],
}
"""What is smaller than the recipe has it: EnCodec takes minutes, and ridge."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/ of a checkout, which is the working directory."""
    for name in ("jobs", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def follow(
    cluster: None, data: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, str]]:
    """Run the commands of a README's blocks, in order, on the tests' cluster.

    What is no Python is passed over: it gets the data, which the test has made. ``more`` has words
    that are added to the commands of a script. Returns what each script printed, by its name.
    """

    def run(recipe: str, more: Mapping[str, Sequence[str]]) -> dict[str, str]:
        said = {}
        for command in block_commands(f"recipes/{recipe}/README.md"):
            program, *words = command.words
            if program != "python":
                continue
            script, *words = words
            name = Path(script).name
            words += [*SMALLER.get(name, ()), *more.get(name, ())]
            if name in ("train.py", "evaluate.py"):
                words += ["--tracking.uri", f"sqlite:///{data.parent}/mlflow.db"]
            capfd.readouterr()
            run_script(script, *words)
            said[name], error = capfd.readouterr()
            assert not error, error
        return said

    return run

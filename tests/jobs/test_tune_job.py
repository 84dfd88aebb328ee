"""jobs/tune.py on a user's command line: what it says, and what it cannot use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from giblet_ray.dataset.reader import Dataset


@pytest.mark.slow
def test_a_sweep_shows_each_trial_once_and_is_resumed_with_its_own_settings(
    arrays_and_dataset: tuple[Any, Dataset],
    tiny_model: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
    refusal: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "name": "sweep",
        "model": tiny_model,
        "train": {"epochs": 1, "batch_trs": 16},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db", "log_model": False},
        "sweep": {"space": {"model.embed_dim": [2, 4]}, "num_samples": 2, "scheduler": "none"},
    }
    Path("sweep.yaml").write_text(yaml.safe_dump(settings))
    words = ["--config", "sweep.yaml", "--dataset", arrays_and_dataset[1].storage.location]
    more = ["--sweep.resume", "sweep", "--sweep.seeds", "2", "--sweep.finalists", "1"]
    for given, trials in ((words, ["0000", "0001"]), (more, ["0000", "0001", "0002"])):
        said = say("tune.py", *given)
        # The table's rows begin with the trial's number.
        rows = [line.split()[0] for line in said.splitlines() if "  finished  " in line]
        assert sorted(rows) == trials
    assert re.search(r"they reach +mean -?0\.\d{4}, SD 0\.\d{4} over 2 seeds", said)
    line = refusal("tune.py", "--sweep.resume", "sweep", "--sweep.scheduler", "median")
    assert "--sweep.scheduler is 'median', but sweep sweep was started with 'none'" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--dataset is missing"),
        (["--sweep.resume", "yesterday"], "yesterday/sweep.json: no such sweep"),
        (["--dataset", "nowhere"], "nowhere/manifest.json: no such file"),
        (["--sweep.space"], "--sweep.space is empty"),
        (["--sweep.space", "model.embd_dim=3,4"], "(did you mean model.embed_dim?)"),
        (["--sweep.space", "model.audio_codebooks=4,8"], "has 4 codebooks; use at most 4"),
        (["--sweep.space", "model.kernel_sizes=[3,4]"], "odd positive widths are accepted"),
        (["--sweep.space", "model.kernel_sizes=3,7,15"], "each choice is a list in brackets"),
        (["--sweep.space", "data.lag_seconds=3..180"], "--data.split"),
        (["--sweep.space", "train.batch_trs=16,5000"], "is larger than the training split"),
        (["--sweep.scheduler", "hyperband"], "--sweep.scheduler is 'hyperband'"),
        (["--sweep.seeds", "0"], "--sweep.seeds is '0': should be greater than or equal to 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arrays_and_dataset: tuple[Any, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = []
    if arguments and not {"--sweep.resume", "--dataset"} & set(arguments):
        given = ["--dataset", arrays_and_dataset[1].storage.location]
        given += ["--model.audio_codebooks", "2"]
    assert message in refusal("tune.py", "--name", "sweep", *given, *arguments)
    assert not list(tmp_path.iterdir())

"""Settings from command line, YAML and environment; mistakes in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.command_help import help_text
from giblet_ray.config import DemoJob, Job, PrecomputeJob, TrainJob
from giblet_ray.errors import InputError

ROOT = Path(__file__).parents[1]


def test_command_line_wins_over_yaml_and_yaml_over_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("model: {embed_dim: 3, head_dim: 30}\ntrain: {epochs: 9}\n")
    monkeypatch.setenv("GIBLET_RAY_MODEL__EMBED_DIM", "1")
    monkeypatch.setenv("GIBLET_RAY_MODEL__HEAD_DIM", "10")
    monkeypatch.setenv("GIBLET_RAY_MODEL__BOTTLENECK_DIM", "11")
    given = ["--dataset", "d", "--config", str(settings), "--model.embed_dim", "5"]
    job = parse_job(TrainJob, given)
    assert (job.model.embed_dim, job.model.head_dim, job.model.bottleneck_dim) == (5, 30, 11)
    assert job.train.epochs == 9


@pytest.mark.parametrize("spelled", [["3,7,15"], ["3", "7", "15"], ["[3, 7, 15]"]])
def test_lists_can_be_spelled_three_ways(spelled: list[str]) -> None:
    job = parse_job(TrainJob, ["--model.kernel_sizes", *spelled, "--dataset", "d"])
    assert job.model.kernel_sizes == (3, 7, 15)


def test_file_names_may_hold_commas_and_spaces() -> None:
    job = parse_job(PrecomputeJob, ["--out", "d", "--bold", "a, b.nii", "c.nii"])
    assert job.bold == ("a, b.nii", "c.nii")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (["--no-tracking.log_model"], False),
        (["--tracking.log_model", "false"], False),
        (["--tracking.log_model", "true"], True),
        ([], True),
    ],
)
def test_switches_can_be_turned_off(given: list[str], value: bool) -> None:
    assert parse_job(TrainJob, ["--dataset", "d", *given]).tracking.log_model is value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model.embd_dim", "3"], r"--model.embd_dim: no such setting \(did you mean model.emb"),
        (["--optimizer.lr", "-1"], r"--optimizer.lr is '-1': should be greater than 0"),
        (["--optimizer.lr", "fast"], r"--optimizer.lr is 'fast': should be a valid number"),
        (["--optimizer.lr"], r"^--optimizer.lr: a value is missing"),
        (["--model.kernel_sizes", "3,4"], r"kernel_sizes is 3,4; odd positive widths"),
        (["--data.modalities", "text,text"], r"names one twice"),
        (["--data.split.gap_seconds", "3"], r"gap_seconds is '3': should be greater than or equal"),
        (["--data.split.kind", "stimuli"], r"val_stimuli and test_stimuli must both"),
        (["--config", "absent.yaml"], r"--config: no such file: absent.yaml"),
        (["stray"], r"^'stray' follows no setting's name"),
    ],
)
def test_mistakes_are_one_line_that_names_the_setting(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_job(TrainJob, ["--dataset", "d", *given])
    assert "\n" not in str(error.value)


def test_missing_setting_is_named() -> None:
    with pytest.raises(InputError, match=r"--dataset is missing: Folder or URI"):
        parse_job(TrainJob, [])


def test_unknown_setting_in_yaml_is_named(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("optimizer: {learning_rate: 3}\n")
    with pytest.raises(InputError, match=r"--optimizer.learning_rate: no such setting"):
        parse_job(TrainJob, ["--dataset", "d", "--config", str(settings)])


@pytest.mark.parametrize(("text", "key"), [("1: 2\n", "1"), ("on: [push]\n", "True")])
def test_a_key_in_yaml_that_is_no_word_is_told(tmp_path: Path, text: str, key: str) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    with pytest.raises(InputError, match=f"settings.yaml: found the key {key}, accepted: names"):
        parse_job(TrainJob, ["--dataset", "d", "--config", str(settings)])


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs/train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_shows_every_setting_with_its_default() -> None:
    result = run_job("--help")
    assert result.returncode == 0
    for setting in ("--dataset", "--data.lag_seconds", "--model.kernel_sizes", "--tracking.uri"):
        assert setting in result.stdout
    assert result.stdout.count("(default") > 40
    assert result.stderr == ""


def test_help_teaches_a_command_and_how_each_setting_is_typed() -> None:
    about = "Train.\n\n    python jobs/train.py --dataset data/film\n"
    lines = help_text(TrainJob, about, width=90).splitlines()
    assert lines[:3] == about.splitlines()
    assert max(map(len, lines)) <= 90
    for line in (
        "  --dataset DATASET  (required)",
        "  --data.modalities NAME,NAME,...  (default: video,audio,text)",
        "  --data.subjects NAME,NAME,...",
        "  --model.kernel_sizes INT,INT,...  (default: 3,5,7)",
        "  --model.trunk_dims INT,INT,...  (default: none)",
        "  --optimizer.betas NUMBER,NUMBER  (default: 0.9,0.999)",
        "  --tracking.log_model [true|false]  (default: true)",
        "loss: Loss = MSE of z-scored BOLD + correlation_weight * (1 - mean over voxels of Pearson",
    ):
        assert line in lines
    assert "  --film FILE FILE ...  (default: none)" in help_text(PrecomputeJob, "", 90)


@pytest.mark.parametrize("job", [TrainJob, PrecomputeJob, DemoJob])
def test_defaults_in_the_help_can_be_typed_as_they_stand(job: type[Job]) -> None:
    text = help_text(job, "", 90)
    shown = re.findall(r"^  --(\S+) .*\(default: (?!none|such)(.+)\)$", text, re.MULTILINE)
    required = [f"--{name}=x" for name, field in job.model_fields.items() if field.is_required()]
    typed = [word for name, value in shown for word in (f"--{name}", value)]
    made, default = parse_job(job, [*required, *typed]), parse_job(job, required)
    for name in {name.partition(".")[0] for name, _ in shown}:
        assert getattr(made, name) == getattr(default, name)


@pytest.mark.parametrize("typed", ["{stimulus}_video", "{stimulus}_video,task-{stimulus}"])
def test_a_pattern_may_begin_with_a_brace(typed: str) -> None:
    job = parse_job(PrecomputeJob, ["--out", "x", "--film_pattern", typed])
    assert job.film_pattern == tuple(typed.split(","))


def test_debug_shows_the_traceback() -> None:
    quiet, loud = (run_job("--optimizer.lr", "x", *more) for more in ([], ["--debug"]))
    assert quiet.returncode == 2
    assert len(quiet.stderr.splitlines()) == 1
    assert "Traceback" in loud.stderr

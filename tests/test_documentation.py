"""What README, docs, and the heads of scripts and settings tell a user to type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from documentation import PAGES, ROOT, Command, block_commands, blocks, commands, spans
from mlflow.cli import cli as mlflow_cli
from ray.scripts.scripts import cli as ray_cli
from script import run_script

from giblet_ray import config
from giblet_ray.cli import parse_job
from giblet_ray.config import Job
from giblet_ray.dataset.reader import Dataset
from giblet_ray.kinds import families, of_kinds
from giblet_ray.settings import setting_fields

BIN = Path(sys.executable).parent
JOBS: dict[str, type[Job]] = {
    f"jobs/{path.name}": getattr(config, re.findall(r"run_job\((\w+),", path.read_text())[0])
    for path in (ROOT / "jobs").glob("*.py")
}
SETTINGS = {name for job in JOBS.values() for name, _ in setting_fields(job)}
SETTINGS |= {
    name
    for family, settings in families(config.TrainJob).items()
    for kind in settings.built_in
    for name, _ in setting_fields(of_kinds(config.TrainJob, {family: kind}, ()))
}
SETTINGS.add("preflight")  # short for preflight.only
_MY_LAB = ROOT / "tests/support/my_lab"
BEYOND_THIS_MACHINE = ("kubectl", "docker", "sudo", "ssh", "openssl", "tr")
TO_GET_DATA = ("datalad", "git", "aws", "curl", "wget", "unzip", "cd", "mkdir")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the checkout's jobs, and the files that the commands before one have made."""
    for name in ("jobs", "recipes"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs/night").mkdir(parents=True)
    (tmp_path / "runs/night/best.yaml").write_text("dataset: data/film\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_of_the_documentation_is_one_that_its_program_takes(
    command: Command,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Jobs, ray and mlflow read their words; of what is not on this machine, files are there.

    The jobs' own tests run these commands at other sizes.
    """

    def check(*words: str) -> None:
        match words:
            case ["python", script, *rest] if script in JOBS:
                if rest not in (["..."], ["--help"]):
                    parse_job(JOBS[script], rest)
            case ["python", script, *rest]:
                names = [word for word in rest if not re.fullmatch(r"[0-9.]+|.*/.*", word)]
                help_text = printed_help(script)
                assert all(re.search(rf"{name}\b", help_text) for name in names)
            case ["make", target]:
                assert f".PHONY: {target}\n" in (ROOT / "Makefile").read_text()
            case ["ray", *rest]:
                read_words(ray_cli, rest)
                if "--" in rest:
                    check(*rest[rest.index("--") + 1 :])
            case ["mlflow", *rest]:
                read_words(mlflow_cli, rest)
            case ["pip", "install", *rest]:
                extras = tomllib.loads((ROOT / "pyproject.toml").read_text())
                own = re.match(r"\.\[(\w+)\]", rest[-1])
                assert own is None or own[1] in extras["project"]["optional-dependencies"]
            case ["source", script]:
                assert script in (".venv/bin/activate", ".cluster/env.sh")
            case ["export" | "chmod" | "cp", *_]:
                pass  # run by another test
            case [program, *_]:
                assert program in (*BEYOND_THIS_MACHINE, *TO_GET_DATA)

    def printed_help(script: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            run_script(script, "--help")
        return capsys.readouterr().out

    check(*command.words)
    for word in command.words:
        if re.match(r"(deploy|jobs|benchmarks|recipes)/|cluster\.yaml", word):
            assert (ROOT / word).exists()


def read_words(program: click.Command, words: list[str]) -> None:
    """Read the words of a command line as the program does, which raises if it does not know."""
    while isinstance(program, click.Group):
        program, words = subcommand(program, words[0]), words[1:]
    program.make_context(program.name, words)


def subcommand(program: click.Group, name: str) -> click.Command:
    """Return a command of a program."""
    found = program.get_command(click.Context(program), name)
    assert found is not None, name
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_setting_that_a_page_names_is_one_of_a_job(page: str) -> None:
    others = (subcommand(subcommand(ray_cli, "job"), "submit"), subcommand(mlflow_cli, "server"))
    of_others = {option for other in others for each in other.params for option in each.opts}
    for span in spans(page):
        for option in re.findall(r"^--(?:no-)?([\w.-]+)", span):
            assert option.replace("-", "_") in SETTINGS or f"--{option}" in of_others, span
        for variable in re.findall(r"GIBLET_RAY_(\w+)", span):
            assert variable.lower().replace("__", ".") in SETTINGS, span
    table = (ROOT / page).read_text().partition("| setting |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        for name in re.findall(r"`([\w.]+)\*?`", row.split("|")[1]):
            assert any(each.startswith(name) for each in SETTINGS), row


def test_a_job_on_kubernetes_is_one_that_its_program_takes() -> None:
    ray_job = next(yaml.safe_load_all((ROOT / "deploy/rayjob.yaml").read_text()))
    python, script, *rest = shlex.split(ray_job["spec"]["entrypoint"])
    assert python == "python"
    parse_job(JOBS[script.removeprefix("/home/ray/giblet_ray/")], rest)


def test_make_lists_its_targets_and_each_starts_what_is_there() -> None:
    listed = make("help")
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert [line.split()[0] for line in listed.splitlines()] == targets
    for target in targets:
        for script in re.findall(r"\bpython (\S+\.py)", make("-n", target)):
            assert (ROOT / script).is_file()


def make(*words: str) -> str:
    command = ["make", *words, f"PYTHON={sys.executable}"]
    # Where make runs the tests, it hands its own flags and depth to what they start.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_token_and_the_nodes_environment_are_made_for_their_owner_alone(
    tmp_path: Path,
) -> None:
    first = next(text for language, text in blocks("deploy/README.md") if not language)
    environment = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin"}
    subprocess.run(["bash", "-e", "-c", first], cwd=ROOT, env=environment, check=True)
    token, nodes = tmp_path / ".ray/auth_token", tmp_path / "giblet_ray.env"
    assert len(token.read_text().strip()) >= 64
    assert nodes.read_text() == (ROOT / "deploy/giblet_ray.env.example").read_text()
    assert {path.stat().st_mode & 0o777 for path in (token, nodes)} == {0o600}


def test_the_readme_s_python_predicts(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    local_training: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays, dataset = arrays_and_dataset
    local_training(train={"epochs": 1, "batch_trs": 16}).train(tmp_path / "runs/first")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/film").symlink_to(dataset.storage.root)
    monkeypatch.chdir(tmp_path)
    (snippet,) = (text for language, text in blocks("README.md") if language == "python")
    names: dict[str, Any] = {
        part: arrays[f"{part}/one.parquet"][:5] for part in ("frames", "codes", "text")
    }
    exec(snippet, names)
    assert names["bold"].shape == (5, arrays["bold/01/one.parquet"].shape[1])
    assert np.isfinite(names["bold"]).all()


def test_code_of_a_lab_s_own_is_shown_as_it_is_tested_and_is_short() -> None:
    """The package my_lab is used by the tests of every job that takes such code."""
    files = [path for path in _MY_LAB.glob("*.py") if path.stem != "__init__"]
    shown = [text for language, text in blocks("docs/extending.md") if language == "python"]
    assert {path.read_text() for path in files} <= set(shown)
    assert all(len(text.splitlines()) < 30 for text in shown)
    named = spans("docs/extending.md")
    assert {f"my_lab/{path.name}" for path in files} <= set(named)


def test_every_job_stands_in_the_readme() -> None:
    shown = {word for command in block_commands("README.md") for word in command.words}
    assert JOBS.keys() - {"jobs/demo.py"} <= shown  # make demo

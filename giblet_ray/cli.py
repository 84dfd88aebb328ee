"""From a command line to a validated configuration, and from an error to one line."""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource, EnvSettingsSource, SettingsError

from giblet_ray.config import Job
from giblet_ray.environment import check_environment
from giblet_ray.errors import InputError, nearest, one_line
from giblet_ray.kinds import families, of_kinds
from giblet_ray.plugins import IMPORT_PATH, package_of
from giblet_ray.secrets import redact
from giblet_ray.settings import setting_fields, update_settings
from giblet_ray.submission import refuse_passing_places

EXIT_BAD_INPUT = 2
JobT = TypeVar("JobT", bound=Job)


def run_job(job_class: type[JobT], run: Callable[[JobT], None]) -> None:
    """Read the command line, run the job, and turn an error of the user's into one line.

    ``--help`` prints the docstring of the file that `run` is in, and every setting. Exits with
    code 2 after bad input, which is said on standard error without a traceback unless ``--debug``
    is given, and with 130 after Ctrl-C or SIGTERM. No error shows a password, key or token.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        from giblet_ray.command_help import help_text

        about = sys.modules[run.__module__].__doc__ or ""
        width = min(100, shutil.get_terminal_size().columns)
        print(help_text(_with_chosen_kinds(job_class, arguments, {}), about, width))
        return
    try:
        job = parse_job(job_class, arguments)
        refuse_passing_places(job)
        if job.starts_ray:
            check_environment()
        run(job)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - shown as Python would, but for secrets
        if isinstance(error, InputError) and "--debug" not in arguments:
            print(redact(f"error: {error}"), file=sys.stderr)
            sys.exit(EXIT_BAD_INPUT)
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)


def parse_job(job_class: type[JobT], arguments: Sequence[str]) -> JobT:
    """Return the job that the command line, its YAML file and the environment describe.

    Parameters
    ----------
    job_class : type[Job]
        Which job's settings are read.
    arguments : sequence of str
        The command line without the program's name. A list is given as ``--field 3,7,15``, as
        ``--field 3 7 15`` or as JSON.

    Raises
    ------
    InputError
        For an unknown field (the nearest valid one is named), a bad value or a missing one.
    """
    file = _argument(arguments, "config")
    written = _from_yaml(file) if file else {}
    settings = _begun_with(job_class, arguments, written)
    whole = _with_chosen_kinds(job_class, arguments, {**settings, **written})
    fields = dict(setting_fields(whole))
    given = _from_command_line(whole, arguments, fields)
    environment = _environment(whole)
    for stronger in (environment, written, given):
        update_settings(settings, stronger)
    named = _packages_in([environment, written, given])
    settings["packages"] = [*_listed(settings.get("packages", ())), *named]
    try:
        return job_class(**settings)
    except ValidationError as error:
        raise InputError(_one_line(error, fields)) from error


def _begun_with(
    job_class: type[Job], arguments: Sequence[str], written: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a trunk depends on, as the run has it that this one begins with.

    A model of a lab's own is not named by it: what stands in storage imports nothing.
    """
    location = _argument(arguments, "init-from") or _argument(arguments, "init_from")
    location = location or written.get("init_from")
    if location is None or "init_from" not in job_class.model_fields:
        return {}
    # Which imports pyarrow, and so is left until it is needed.
    from giblet_ray.checkpoint.store import find_checkpoint

    try:
        config = find_checkpoint(str(location)).record.config
    except InputError as error:
        raise InputError(f"--init-from {error}") from error
    names = ("modalities", "audio", "lag_seconds", "split")
    settings: dict[str, Any] = {
        "dataset": config["dataset"],
        "data": {name: config["data"][name] for name in names},
    }
    found = config["model"]["kind"]
    given = _argument(arguments, "model.kind") or written.get("model", {}).get("kind")
    if given == found or (given is None and not IMPORT_PATH.fullmatch(found)):
        settings["model"] = dict(config["model"])
    return settings


def _with_chosen_kinds(
    job_class: type[JobT], arguments: Sequence[str], written: Mapping[str, Any]
) -> type[JobT]:
    """Return the job's class with the settings of the kinds that are chosen: of a lab's model."""
    kinds, environment = {}, _environment(job_class)
    for name in families(job_class):
        groups = (environment.get(name), written.get(name))
        named = [group["kind"] for group in groups if isinstance(group, dict) and "kind" in group]
        kinds[name] = _argument(arguments, f"{name}.kind") or (str(named[-1]) if named else "")
    return of_kinds(job_class, kinds, _packages_in(kinds))


def _argument(arguments: Sequence[str], name: str) -> str | None:
    """Return the last value of a setting on a command line, before that is parsed."""
    value = None
    for argument, after in pairwise([*arguments, ""]):
        flag, equals, given = argument.partition("=")
        if flag == f"--{name}" and (equals or not after.startswith("--")):
            value = given if equals else after
    return value


def _packages_in(settings: Any) -> list[str]:
    """Return the packages of all import paths that settings name: their user means them."""
    if isinstance(settings, str):
        # A file on Windows, a MLflow model and a URI have colons as well, but no such form.
        return [package_of(settings)] if IMPORT_PATH.fullmatch(settings) else []
    values = settings.values() if isinstance(settings, Mapping) else settings
    if not isinstance(values, Iterable):
        return []
    return [package for value in values for package in _packages_in(value)]


def _listed(value: Any) -> list[str]:
    return value.split(",") if isinstance(value, str) else list(value)


def _from_command_line(
    job_class: type[Job], arguments: Sequence[str], fields: dict[str, FieldInfo]
) -> dict[str, Any]:
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(
            job_class,
            cli_prog_name=Path(sys.argv[0]).name,
            cli_parse_args=_plain_arguments(arguments, fields),
            cli_exit_on_error=False,
            cli_avoid_json=True,
            cli_hide_none_type=True,
            cli_implicit_flags="dual",
        )
        return source()
    except SettingsError as error:
        raise InputError(_unknown_argument(str(error), fields)) from error


def _plain_arguments(arguments: Sequence[str], fields: dict[str, FieldInfo]) -> list[str]:
    """Spell lists and switches as the parser knows them.

    ``--bold a b c`` becomes ``--bold '["a", "b", "c"]'``, ``--sweep.space x=1,2 y=3``
    ``--sweep.space '{"x": "1,2", "y": "3"}'``, ``--check false`` ``--no-check``, ``--best-of``
    ``--best_of``, and ``--preflight`` ``--preflight.only``.
    """
    plain: list[str] = []
    rest = list(arguments)
    while rest:
        flag = _with_underscores(rest.pop(0), fields)
        flag = "--preflight.only" if flag == "--preflight" else flag
        field = fields.get(flag.removeprefix("--"))
        values: list[str] = []
        if field is not None:
            while rest and not rest[0].startswith("--"):
                values.append(rest.pop(0))
        kind = field.annotation if field is not None else None
        if get_origin(kind) is tuple and len(values) > 1:
            values = [json.dumps(values)]
        elif get_origin(kind) is tuple and values and values[0].startswith("{"):
            # A pattern such as {stimulus}_video, which the parser takes for JSON.
            values = [json.dumps(values[0].split(","))]
        elif _is_mapping(kind) and not any(value.startswith("{") for value in values):
            pairs = [value.partition("=") for value in values]
            values = [json.dumps({name: text for name, _, text in pairs})]
        elif kind in (bool, bool | None) and values in (["true"], ["false"]):
            flag = flag if values == ["true"] else f"--no-{flag[2:]}"
            values = []
        plain += [flag, *values]
    return plain


def _is_mapping(kind: Any) -> bool:
    return any(get_origin(each) is dict for each in (kind, *get_args(kind)))


def _with_underscores(flag: str, fields: dict[str, FieldInfo]) -> str:
    name, equals, value = flag.removeprefix("--").partition("=")
    known = name.replace("-", "_")
    return f"--{known}{equals}{value}" if flag.startswith("--") and known in fields else flag


def _from_yaml(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_read_text(path))
    except FileNotFoundError as error:
        raise InputError(f"--config: no such file: {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {path}: not readable as YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"--config {path}: found {type(content).__name__}, accepted: settings")
    if odd := [key for key in content if not isinstance(key, str)]:
        raise InputError(
            f"--config {path}: found the key {odd[0]!r}, accepted: names of settings (YAML reads "
            "on, off, yes and no as true and false; quotes keep words)"
        )
    return content


def _read_text(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text()
    # Which imports pyarrow, and so is left until it is needed.
    from giblet_ray.dataset.storage import Storage

    folder, _, name = path.rpartition("/")
    return Storage.at(folder).read(name).decode()


def _environment(job_class: type[Job]) -> dict[str, Any]:
    return dict(EnvSettingsSource(job_class)())


def _unknown_argument(message: str, fields: dict[str, FieldInfo]) -> str:
    message = message.removeprefix("error parsing CLI: ")
    unknown = message.partition("unrecognized arguments: ")[2].split()
    if unknown and unknown[0].startswith("--"):
        name = unknown[0].removeprefix("--").partition("=")[0]
        return f"--{name}: no such setting{nearest(name, list(fields))}; --help lists all"
    if unknown:
        return f"{unknown[0]!r} follows no setting's name, such as --config; --help lists all"
    return message.removeprefix("argument ").replace("expected one argument", "a value is missing")


def _one_line(error: ValidationError, fields: dict[str, FieldInfo]) -> str:
    problems = error.errors()
    first = problems[0]
    name = ".".join(part for part in first["loc"] if isinstance(part, str))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "missing":
        description = fields[name].description if name in fields else ""
        return f"--{name} is missing: {description}{more}"
    if first["type"] == "extra_forbidden":
        return f"--{name}: no such setting{nearest(name, list(fields))}; --help lists all{more}"
    if first["type"] == "value_error":
        # What several settings together do not allow names them itself.
        return f"{f'--{name}: ' if name else ''}{first['ctx']['error']}{more}"
    reason = first["msg"].removeprefix("Input ")
    return f"--{name} is {first['input']!r}: {reason}{more}"

"""MLflow's model registry: versions of a registered model, and the files that they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from giblet_ray.errors import InputError, nearest
from giblet_ray.tracking.logged_model import model_files
from giblet_ray.tracking.server import MLFLOW_ERRORS, brief
from giblet_ray.tracking.store import Store, open_store

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such model, and where there is no such alias."""
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    """As the registry has it."""
    run_id: str
    """MLflow run that trained it."""
    files: str
    """URI of the folder with its checkpoint."""


def find_alias(store: Store, name: str, alias: str) -> Registered | None:
    """Return the version that an alias names, or None if it names none."""
    return _if_there(store, lambda: store.client.get_model_version_by_alias(name, alias))


def set_alias(store: Store, name: str, alias: str, version: str) -> None:
    """Make an alias name a version."""
    store.client.set_registered_model_alias(name, alias, version)


def register(store: Store, name: str, model_id: str, tags: Mapping[str, str]) -> str:
    """Return the version of a registered model that a logged model is; make it if there is none.

    Parameters
    ----------
    store : Store
        Has the logged model.
    name : str
        Registered model; made if it is not there.
    model_id : str
        Logged model.
    tags : mapping of str to str
        What a new version is tagged with.
    """
    client, source = store.client, f"models:/{model_id}"
    run_id = client.get_logged_model(model_id).source_run_id
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if (version.name, version.source) == (name, source):
            return str(version.version)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # It looks the logged model up in this store, whatever the client's is.
    mlflow.set_tracking_uri(store.uri)
    made = client.create_model_version(name, source, run_id, dict(tags), model_id=model_id)
    return str(made.version)


@contextmanager
def fetch_registered(uri: str, tracking_uri: str) -> Iterator[tuple[Path, Registered]]:
    """Give a local folder with the checkpoint of a registered model while the block runs.

    And what model it is.

    Parameters
    ----------
    uri : str
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    tracking_uri : str
        Tracking store, which is the model registry too.

    Raises
    ------
    InputError
        If the store has no such model, or its files cannot be fetched.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise InputError(
            f"--model {uri}: models:/NAME@ALIAS and models:/NAME/VERSION are accepted, such as "
            "models:/giblet-encoder@champion"
        )
    store = open_store(tracking_uri)
    with ExitStack() as stack:
        try:
            chosen = _find(store, uri, **parts.groupdict())
            folder = stack.enter_context(store.fetch(chosen.files))
        except MLFLOW_ERRORS as error:
            raise InputError(f"--model {uri}: cannot be fetched: {brief(error)}") from error
        yield folder, chosen


def _find(store: Store, uri: str, name: str, alias: str | None, version: str | None) -> Registered:
    if alias is not None:
        found = find_alias(store, name, alias)
    else:
        found = _if_there(store, lambda: store.client.get_model_version(name, str(version)))
    if found is None:
        raise InputError(f"--model {uri}: {_what_there_is(store, name)}")
    return found


def _if_there(store: Store, ask: Callable[[], ModelVersion]) -> Registered | None:
    try:
        version = ask()
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise
    location = store.client.get_model_version_download_uri(version.name, version.version)
    return Registered(
        version.name, str(version.version), version.run_id or "", model_files(location)
    )


def _what_there_is(store: Store, name: str) -> str:
    """Say what could be asked for instead."""
    names = [model.name for model in store.client.search_registered_models()]
    if name not in names:
        has = ", ".join(names) or "none: jobs/promote.py registers one"
        return f"no registered model {name}{nearest(name, names)}; there are {has}"
    aliases = ", ".join(f"@{alias}" for alias in store.client.get_registered_model(name).aliases)
    # Looked through here, since filters of MLflow hold no quotes.
    versions = [int(v.version) for v in store.client.search_model_versions() if v.name == name]
    numbers = ", ".join(map(str, sorted(versions)))
    return f"{name} has the aliases {aliases or 'none'} and the versions {numbers or 'none'}"

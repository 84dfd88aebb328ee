"""MLflow's model registry: versions of a registered model, and the checkpoints that they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from giblet_ray.checkpoint.record import RECORD, read_record
from giblet_ray.errors import InputError, nearest
from giblet_ray.tracking.store import open_store

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such model, and where there is no such alias."""
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes
    ----------
    name, version : str
        As the registry has it.
    run_id : str
        MLflow run that trained it.
    files : str
        URI of the folder with its checkpoint.
    """

    name: str
    version: str
    run_id: str
    files: str


def find_alias(client: MlflowClient, name: str, alias: str) -> Registered | None:
    """Return the version that an alias names, or None if it names none."""
    try:
        return _registered(client, client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def model_files(client: MlflowClient, model_id: str) -> str:
    """Return the URI of the folder with a logged model's checkpoint."""
    return f"{client.get_logged_model(model_id).artifact_location}/artifacts"


def fetch_record(client: MlflowClient, files: str) -> dict[str, Any] | None:
    """Return the record of a model's checkpoint, or None if it has none within reach.

    Parameters
    ----------
    client : MlflowClient
        Of the store that knows the model.
    files : str
        URI of the folder with its checkpoint.
    """
    try:
        return json.loads(Path(_download(client, f"{files}/{RECORD}")).read_text())
    except (MlflowException, OSError, ValueError):
        return None


def register(client: MlflowClient, name: str, model_id: str, tags: Mapping[str, str]) -> str:
    """Return the version of a registered model that a logged model is; make it if there is none.

    Parameters
    ----------
    client : MlflowClient
        Of the store that has the logged model.
    name : str
        Registered model; made if it is not there.
    model_id : str
        Logged model.
    tags : mapping of str to str
        What a new version is tagged with.
    """
    source = f"models:/{model_id}"
    versions = _versions_of(client, name)
    for version in versions:
        if version.source == source:
            return str(version.version)
    if not versions:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    # It looks the logged model up in this store, whatever the client's is.
    mlflow.set_tracking_uri(client.tracking_uri)
    run_id = client.get_logged_model(model_id).source_run_id
    made = client.create_model_version(name, source, run_id, dict(tags), model_id=model_id)
    return str(made.version)


def fetch_registered(uri: str, tracking_uri: str) -> tuple[Path, Registered]:
    """Return a local folder with the checkpoint of a registered model, and what model it is.

    Parameters
    ----------
    uri : str
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    tracking_uri : str
        Tracking store, which is the model registry too.

    Raises
    ------
    InputError
        If the store has no such model, or it is none of this package's.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise InputError(
            f"--model {uri}: models:/NAME@ALIAS and models:/NAME/VERSION are accepted, such as "
            "models:/giblet-encoder@champion"
        )
    client = open_store(tracking_uri)
    try:
        chosen = _find(client, uri, **parts.groupdict())
        folder = Path(_download(client, chosen.files))
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--model {uri}: cannot be fetched: {reason}") from error
    read_record(folder)
    return folder, chosen


def _find(
    client: MlflowClient, uri: str, name: str, alias: str | None, version: str | None
) -> Registered:
    versions = _versions_of(client, name)
    for found in versions:
        if str(found.version) == version:
            return _registered(client, found)
    if alias is not None and (named := find_alias(client, name, alias)) is not None:
        return named
    raise InputError(f"--model {uri}: {_what_there_is(client, name, versions)}")


def _registered(client: MlflowClient, version: ModelVersion) -> Registered:
    location = client.get_model_version_download_uri(version.name, version.version)
    return Registered(
        version.name, str(version.version), version.run_id or "", f"{location}/artifacts"
    )


def _versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _download(client: MlflowClient, uri: str) -> str:
    """Return the local path of a file or folder: the store's own, or a temporary copy."""
    return mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=client.tracking_uri)


def _what_there_is(client: MlflowClient, name: str, versions: Sequence[ModelVersion]) -> str:
    """Say what could be asked for instead."""
    if not versions:
        names = [model.name for model in client.search_registered_models()]
        has = ", ".join(names) or "none: jobs/promote.py registers one"
        return f"no registered model {name}{nearest(name, names)}; there are {has}"
    aliases = ", ".join(f"@{alias}" for alias in client.get_registered_model(name).aliases)
    numbers = ", ".join(sorted((str(version.version) for version in versions), key=int))
    return f"{name} has the aliases {aliases or 'none'} and the versions {numbers}"

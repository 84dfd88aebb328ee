"""Settings of what is chosen by its kind: a short name of what is built in, or an import path.

A family (models, losses) has one class of settings that all its kinds share, and each kind a
subclass with its own, nested in what it configures as ``Settings``::

    class Gru(Predictor):
        class Settings(Predictor.Settings):
            hidden: int = 64

    --model.kind my_lab.models:Gru --model.hidden 32
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, create_model

from giblet_ray.errors import InputError, nearest
from giblet_ray.plugins import is_import_path, load_object, package_of
from giblet_ray.settings import Group

F = TypeVar("F", bound="Family")
M = TypeVar("M", bound=BaseModel)


class Family(Group):
    """Settings that all kinds of a family share.

    Attributes
    ----------
    built_in : dict of str to str
        Import path of the settings of what is built in, by kind; the first is the default.
    """

    built_in: ClassVar[dict[str, str]]

    kind: str = ""


def settings_class(family: type[F], kind: str, packages: Iterable[str], where: str) -> type[F]:
    """Return the class of a kind's settings.

    Parameters
    ----------
    family : type of Family
        What it is a kind of.
    kind : str
        Name of what is built in, or an import path.
    packages : iterable of str
        Packages that may be imported; see :mod:`giblet_ray.plugins`.
    where : str
        Setting or record that the kind stands in, for messages.

    Raises
    ------
    InputError
        If there is no such kind, or its package may not be or cannot be imported.
    """
    if is_import_path(kind):
        found = getattr(load_object(kind, packages, where), "Settings", None)
        if not (isinstance(found, type) and issubclass(found, family)):
            raise InputError(
                f"{where} {kind}: has no class Settings that is derived from {family.__name__}"
            )
        return found
    if kind not in family.built_in:
        raise InputError(
            f"{where} {kind!r}: no such kind{nearest(kind, list(family.built_in))}; "
            f"{', '.join(family.built_in)}, or a path such as my_lab.code:Name, are accepted"
        )
    path = family.built_in[kind]
    return load_object(path, [package_of(path)], where)


def read_settings(family: type[F], given: Any, packages: Iterable[str], where: str) -> Any:
    """Return settings, as an object of their kind's class, from how they were written."""
    if not isinstance(given, Mapping):
        return given
    kind = given.get("kind") or next(iter(family.built_in))
    return settings_class(family, kind, packages, where)(**{**given, "kind": kind})


def families(job_class: type[BaseModel]) -> dict[str, type[Family]]:
    """Return the settings of a job that are chosen by a kind, by name."""
    return {
        name: field.annotation
        for name, field in job_class.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Family)
    }


def of_kinds(job_class: type[M], kinds: Mapping[str, str], packages: Iterable[str]) -> type[M]:
    """Return a job's class in which each kind's own settings stand, to read and to list them.

    Parameters
    ----------
    job_class : type of BaseModel
        Of the job.
    kinds : mapping of str to str
        Chosen kinds by the name of their setting, such as ``model``; what lacks has the default.
    packages : iterable of str
        Packages that may be imported.
    """
    fields: dict[str, Any] = {}
    for name, family in families(job_class).items():
        kind = kinds.get(name) or next(iter(family.built_in))
        found = settings_class(family, kind, packages, f"--{name}.kind")
        fields[name] = (found, found.model_construct(kind=kind))
    if not fields:
        return job_class
    return create_model(job_class.__name__, __base__=job_class, __doc__=job_class.__doc__, **fields)

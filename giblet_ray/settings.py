"""What settings are made of, and settings by their dotted names: ``model.embed_dim``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic.fields import FieldInfo

from giblet_ray.names import checked_experiment, checked_name, checked_run


class Group(BaseModel):
    """Settings that belong together; `--group.field` on a command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Spelling:
    """How a setting is typed on a command line, where its type does not tell."""

    text: str


class Mark(Enum):
    """What a setting, or a group of settings, decides of a run's numbers: said on the field."""

    FREE = "may differ when a run is continued: it changes no number of it"
    JUDGED = "decides over which TRs and units a score is taken"
    READ = "decides which parts of the data set are read, and in how much detail"


def tuple_of_one(value: Any) -> Any:
    """Take one value where several may be given."""
    return (value,) if isinstance(value, str | int | float) else value


def none_by_word(value: Any) -> Any:
    """Take the word none where there is a default that can be switched off."""
    return None if value == "none" else value


# File names may hold commas, so that files are told apart by spaces.
Paths = Annotated[tuple[str, ...], BeforeValidator(tuple_of_one), Spelling("FILE FILE ...")]
Columns = Annotated[tuple[str, ...], BeforeValidator(tuple_of_one)]
Name = Annotated[str, AfterValidator(checked_name)]
Names = Annotated[tuple[Name, ...], BeforeValidator(tuple_of_one)]
RunName = Annotated[str, AfterValidator(checked_run)]
RunNames = Annotated[tuple[RunName, ...], BeforeValidator(tuple_of_one)]
ExperimentName = Annotated[str, AfterValidator(checked_experiment)]


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of the settings below one, by default; None if it is no group of them."""
    kind = type(field.default) if isinstance(field.default, BaseModel) else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def setting_fields(
    settings: type[BaseModel] | BaseModel, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting below a class of settings, or an object of one, by its dotted name."""
    model = settings if isinstance(settings, type) else type(settings)
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group is None:
            yield f"{prefix}{name}", field
        else:
            below = group if isinstance(settings, type) else getattr(settings, name)
            yield from setting_fields(below, f"{prefix}{name}.")


def marked_settings(model: type[BaseModel], mark: Mark, prefix: str = "") -> set[str]:
    """Return the dotted names of the settings that bear a mark, or whose group does."""
    found = set()
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group is None:
            found |= {f"{prefix}{name}"} if mark in field.metadata else set()
        elif mark in field.metadata:
            found |= {inner for inner, _ in setting_fields(group, f"{prefix}{name}.")}
        else:
            found |= marked_settings(group, mark, f"{prefix}{name}.")
    return found


def words_of(settings: BaseModel, *names: str) -> list[str]:
    """Return the words of a command line that give some settings, but for those at their default.

    Parameters
    ----------
    settings : BaseModel
        A job's.
    *names : str
        Dotted names, such as storage.path.
    """
    words = []
    fields = dict(setting_fields(settings))
    for name in names:
        value = reduce(getattr, name.split("."), settings)
        if value != fields[name].default:
            words += [f"--{name}", str(value)]
    return words


def update_settings(settings: dict[str, Any], stronger: Mapping[str, Any]) -> None:
    """Replace nested settings, in place, by those that are given."""
    for key, value in stronger.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            update_settings(settings[key], value)
        else:
            settings[key] = value


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(flat_settings(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat

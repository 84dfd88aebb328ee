"""The one error that a user can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line: it names the file or field, what was found, and what is accepted.
    Jobs print it without a traceback and exit with code 2.
    """


def one_line(error: Exception) -> str:
    """Return what an exception of a library says, in one line; its name, if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_problem(error: ValidationError, *group: str) -> str:
    """Return the first that pydantic says, after the name of its field below those of its group."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, (*group, *first["loc"]))), reason)))


def nearest(name: str, accepted: Sequence[str]) -> str:
    """Return the accepted name that is most like `name`, as `` (did you mean X?)``, or nothing."""
    found = difflib.get_close_matches(name, accepted, n=1)
    return f" (did you mean {found[0]}?)" if found else ""

"""A job that `ray job submit` runs: on a node, in a copy of the code that is deleted later."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giblet_ray.errors import InputError
from giblet_ray.settings import flat_settings

if TYPE_CHECKING:
    from giblet_ray.config import Job

_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable, of this odd name, in which Ray tells a submitted job about itself."""
_COMMIT = "git_commit"
_SQLITE = "sqlite:///"
_PLACES = ("dataset", "out", "storage.path", "tracking.uri")
"""Settings that name what a job reads or leaves behind."""


def refuse_passing_places(job: Job) -> None:
    """Make sure that nothing that a submitted job leaves behind, or reads, is in its own folder.

    Raises
    ------
    InputError
        If a place is given, or left, as a relative path; or if the job's code is not sent.
    """
    if _SUBMITTED not in os.environ:
        return
    if not job.is_sent:
        raise InputError(
            f"{Path(sys.argv[0]).name}: its code is not sent to clusters; it is accepted where one "
            "sits, without ray job submit"
        )
    settings = flat_settings(job.model_dump())
    for name in _PLACES:
        value = settings.get(name)
        # A comparison that is not told where goes to the working folder; no data set is one that
        # the runs, or a sweep that goes on, name themselves.
        if name not in settings or (name == "dataset" and not value):
            continue
        path = (value or "").removeprefix(_SQLITE)
        if "://" in path or path.startswith(("/", "~")):
            continue
        found = f"is {value}" if value else "is not given"
        accepted = (
            "the http(s) address of a server" if name == "tracking.uri" else "a URI (s3://...)"
        )
        variable = f"GIBLET_RAY_{name.replace('.', '__').upper()}"
        raise InputError(
            f"--{name} {found}: a submitted job runs in a folder that is deleted later, and that "
            f"other nodes do not see; {accepted} or an absolute path that all nodes see is "
            f"accepted, here or as {variable} in the nodes' environment"
        )


def submitted_commit() -> str | None:
    """Return the commit that a submitted job was given: its upload has no repository to ask.

    ``ray job submit --metadata-json '{"git_commit": "..."}'`` gives it.
    """
    told: dict[str, Any] = json.loads(os.environ.get(_SUBMITTED, "{}"))
    commit: str | None = told.get("metadata", {}).get(_COMMIT)
    return commit

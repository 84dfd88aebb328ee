"""Passwords, keys and tokens: refused where they would be written down, blotted out in texts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

_HIDDEN = "***"
_LEAST_CHARACTERS = 6
"""Shorter values of the environment are left in texts: they are words of other meanings, too."""
_URI = re.compile(r"[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)
# user:PASSWORD@; a host's port may be followed by an @ further on, in a path or query.
_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):(?!\d+(?:[/?#]|$))[^\s@]+(?=@)")
_PARAMETER = re.compile(
    r"(?<=[?&;])"
    r"([\w.-]*(?:key|password|passwd|pwd|secret|token|sig|signature|credential))=[^&;#\s'\"]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"(KEY|KEY_ID|PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIALS?)$", re.IGNORECASE
)


def redact(text: str) -> str:
    """Return a text without passwords of URIs, and without the secrets of the environment.

    These are the values of variables such as AWS_SECRET_ACCESS_KEY, MLFLOW_TRACKING_PASSWORD and
    MLFLOW_TRACKING_TOKEN: whatever their name ends in KEY, PASSWORD, SECRET, TOKEN or the like.
    """
    text = _URI.sub(lambda uri: _without_secrets(uri.group()), text)
    secrets = [
        value
        for name, value in os.environ.items()
        if _SECRET_VARIABLE.search(name) and len(value) >= _LEAST_CHARACTERS
    ]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, _HIDDEN)
    return text


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Make sure that no setting holds a password, key or token as a part of a URI.

    Parameters
    ----------
    settings : mapping
        Settings as they are given, nested.

    Raises
    ------
    ValueError
        If one does; the message names the setting, and hides the secret.
    """
    for name, text in _texts(settings, ""):
        hidden = _URI.sub(lambda uri: _without_secrets(uri.group()), text)
        if hidden != text:
            raise ValueError(
                f"--{name} holds a secret ({hidden}), and settings are written down in logs, runs "
                "and MLflow: leave it out, and give it to each node in its environment "
                "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or as a profile or role"
            )


def _without_secrets(uri: str) -> str:
    return _PARAMETER.sub(rf"\1={_HIDDEN}", _PASSWORD.sub(rf"\1:{_HIDDEN}", uri))


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield every text in nested settings, by the dotted name of its setting."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, BaseModel):
        yield from _texts(dict(value), name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)

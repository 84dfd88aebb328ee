"""What Ray takes from the environment, checked before it is imported: what is wrong is one line."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from giblet_ray.errors import InputError

_MOST_BYTES = 103 if sys.platform == "darwin" else 107
"""Of a socket's path."""
_SOCKET = f"/ray/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
"""The longest of Ray's sockets, below its temporary folder."""
_ALONE = "or no RAY_ADDRESS at all for this machine alone"


def cluster_address() -> str | None:
    """Return what RAY_ADDRESS names: HOST:PORT of a cluster, or auto; None for none.

    Raises
    ------
    InputError
        If it is no such address.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return None
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise InputError(
            f"RAY_ADDRESS {address}: jobs join a cluster by HOST:PORT, from one of its machines; "
            "ray job submit starts them from elsewhere"
        )
    if address != "auto" and not (host and port.isdecimal() and 1024 <= int(port) < 2**16):
        raise InputError(
            f"RAY_ADDRESS {address}: names no port; HOST:PORT of a cluster's head is accepted "
            f"(its port is 6379 unless it was given another), auto for the cluster that runs on "
            f"this machine, {_ALONE}"
        )
    return address


def check_environment() -> str | None:
    """Make sure that a cluster can be joined, or started; return :func:`cluster_address`.

    Raises
    ------
    InputError
        If RAY_ADDRESS is no address, or, where it is not set, if Ray's temporary folder or the home
        folder cannot be used.
    """
    address = cluster_address()
    if address is None:
        _check_temporary_folder()
        _check_home()
    return address


def _check_temporary_folder() -> None:
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name, "/tmp")
    most = _MOST_BYTES - len(_SOCKET)
    is_plain = folder.isascii() and not set("'\"\\") & set(folder)
    if not (folder.startswith("/") and is_plain and len(folder) <= most):
        raise InputError(
            f"{name} {folder}: Ray's sockets lie below it, whose paths may have {_MOST_BYTES} "
            f"bytes; RAY_TMPDIR=FOLDER is accepted, such as /tmp: a full path of at most {most} "
            "ASCII characters without quotes or backslashes"
        )
    _check_writable(Path(folder) / "ray", f"{name} {folder}: Ray works in", "RAY_TMPDIR")


def _check_home() -> None:
    """Ray takes its token from the environment, or else from the home folder, or puts one there."""
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    try:
        home = Path.home()
    except RuntimeError as error:
        raise InputError(
            "HOME is not set, and Ray keeps its token below it: HOME=FOLDER is accepted"
        ) from error
    if not (home / ".ray/auth_token").is_file():
        _check_writable(home / ".ray", f"HOME {home}: Ray keeps its token in", "HOME")


def _check_writable(folder: Path, found: str, variable: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{found} {folder}, which cannot be written ({error.strerror}); {variable}=FOLDER of "
            "one that can be is accepted"
        ) from error

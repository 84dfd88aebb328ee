"""Tracking stores that are a file: their addresses, and how a new one is made."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

from giblet_ray.errors import InputError

_SQLITE = "sqlite:///"
_OF_ADDRESSES = "%?"
"""Characters that mean something else in an address."""


def absolute_uri(uri: str) -> str:
    """Return a tracking URI that means the same in every process: sqlite paths made absolute.

    Raises
    ------
    InputError
        If it is a path, as MLflow no longer keeps runs in folders, or of a file that no address
        leads to.
    """
    if "://" not in uri:
        raise InputError(
            f"--tracking.uri {uri}: is a path; sqlite:///FILE or the http(s) address of a server "
            "is accepted"
        )
    file = store_file(uri)
    if file is None:
        return uri
    if set(_OF_ADDRESSES) & set(str(file)):
        raise InputError(
            f"--tracking.uri {uri}: {file} holds {' or '.join(_OF_ADDRESSES)}, which mean "
            "something else in an address; a file without, in a folder without, is accepted"
        )
    return f"{_SQLITE}{file}"


def store_file(uri: str) -> Path | None:
    """Return the file of a tracking store, its path made absolute; None if it is a server's."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE)).expanduser().resolve()


def check_store(uri: str) -> None:
    """Make sure that a store which is a file is there, and is one; imports no MLflow.

    Raises
    ------
    InputError
        If it is not.
    """
    if (file := store_file(absolute_uri(uri))) is None:
        return
    if not file.is_file():
        raise InputError(
            f"--tracking.uri: no such file: {file}; the store that the runs were recorded in is "
            "accepted"
        )
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE name = 'experiments'"
            ((is_store,),) = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"--tracking.uri: {file} cannot be read: {error}") from error
    if not is_store:
        raise InputError(f"--tracking.uri: {file} is a database, and not one of MLflow's")


def make_store(file: Path) -> None:
    """Make a tracking store, whole, unless there is a file already.

    MLflow makes tables in place, one by one: of two processes that open a new file at one moment,
    none gets to the end, and no later one does.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    if file.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(_tables())
        made = SqlAlchemyStore(f"{_SQLITE}{part}", (file.parent / "mlartifacts").as_uri())
        made.engine.dispose()
        # Another job's store may have come first: a link, unlike a renamed file, replaces none.
        with suppress(FileExistsError):
            file.hardlink_to(part)
    finally:
        part.unlink(missing_ok=True)


@cache
def _tables() -> bytes:
    """Return a database with MLflow's tables, and nothing in them, as the bytes of its file.

    MLflow's many migrations take seconds: what they have made is kept for the next new store.
    """
    import mlflow

    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    kept = Path(home).expanduser() / "giblet_ray" / f"mlflow-{mlflow.__version__}.db"
    with suppress(OSError):
        if _has_tables(tables := kept.read_bytes()):
            return tables
    tables = _migrated()
    part = kept.with_name(f"{kept.name}.{uuid.uuid4().hex[:8]}.part")
    with suppress(OSError):  # where nothing can be kept, it is made again
        kept.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(tables)
        part.replace(kept)
    return tables


def _has_tables(database: bytes) -> bool:
    with closing(sqlite3.connect(":memory:")) as memory, suppress(sqlite3.Error, MemoryError):
        memory.deserialize(database)
        return bool(memory.execute("SELECT version_num FROM alembic_version").fetchall())
    return False


def _migrated() -> bytes:
    """Let MLflow make its tables, in memory: migrations would wait for a disk one by one."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    with closing(sqlite3.connect(":memory:")) as memory:
        _initialize_tables(create_engine("sqlite://", creator=lambda: memory, poolclass=StaticPool))
        return memory.serialize()

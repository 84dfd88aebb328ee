"""Storage that fails: what may pass is tried again, a few times; what will not is said at once."""

from __future__ import annotations

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from giblet_ray.errors import InputError, one_line

_T = TypeVar("_T")
_LOGGER = logging.getLogger(__name__)

ATTEMPTS = 4
"""How often something is tried."""
FIRST_PAUSE_SECONDS = 0.5
"""Before the second try; doubled before each one after it. pyarrow's S3 makes three requests of
each try, in about 2 s, or 10 s where nothing answers: so storage that is down is given up after
12 s, or 45 s."""

_MAY_PASS = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_S3_MAY_PASS = re.compile(
    r"AWS Error (NETWORK_CONNECTION|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|THROTTLING"
    r"|REQUEST_TIMEOUT|REQUEST_EXPIRED|UNKNOWN \(HTTP status (5\d\d|429)\))"
)
"""pyarrow raises OSError without a number for all that object stores answer."""
_S3 = "AWS Error"


class StorageError(InputError, OSError):
    """Storage that cannot be read or written, in one line that names the file."""


def retried(work: Callable[[], _T], where: str) -> _T:
    """Do some work on storage, again with growing pauses where its failure may pass.

    A second try is announced by a warning.

    Parameters
    ----------
    work : callable
        May be called several times.
    where : str
        Location of the file, for messages.

    Raises
    ------
    StorageError
        If the last try fails as well, or for a reason that stays: permission, a full disk.
    FileNotFoundError
        As it comes from `work`.
    """
    attempt = 1
    while True:
        try:
            return work()
        except OSError as error:
            if not _may_pass(error):
                raise_told(error, where)
            reason = one_line(error)
            if attempt == ATTEMPTS:
                raise StorageError(
                    f"{where}: {reason}; given up after {ATTEMPTS} tries: start again when the "
                    "storage answers"
                ) from error
        # Ranks that met the same failure do not come back all at once.
        pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1)
        attempt += 1
        _LOGGER.warning("%s: %s; try %d of %d in %.1f s", where, reason, attempt, ATTEMPTS, pause)
        time.sleep(pause)


def is_of_storage(error: OSError) -> bool:
    """Tell a failure of storage from what pyarrow says of a file's content."""
    return error.errno is not None or _S3 in str(error)


def raise_told(error: OSError, where: str) -> NoReturn:
    """Raise an error as one line that names the file, unless it is one, or that of no file."""
    if isinstance(error, FileNotFoundError | StorageError):
        raise error
    raise StorageError(f"{where}: {one_line(error)}") from error


def _may_pass(error: OSError) -> bool:
    if isinstance(error, StorageError):
        return False
    if error.errno is not None:
        return error.errno in _MAY_PASS
    # A time-out, or a broken connection, of a file system of fsspec's.
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return _S3_MAY_PASS.search(str(error)) is not None

"""What a space is made of, packed: the same content is the same bytes, whenever it is packed."""

from __future__ import annotations

import gzip
import zlib

_GZIP = 31
"""What zlib calls the format of gzip."""
_MOST_BYTES = 2**30
"""What unpacks to more is nothing that a space is made of."""


def pack(content: bytes) -> bytes:
    """Compress content as a .gz file, without a time or a name in it."""
    return gzip.compress(content, mtime=0)


def unpack(packed: bytes) -> bytes:
    """Return what was packed, or as much of it as a space may be made of.

    Raises
    ------
    zlib.error
        If it is no such file.
    """
    return zlib.decompressobj(wbits=_GZIP).decompress(packed, _MOST_BYTES)

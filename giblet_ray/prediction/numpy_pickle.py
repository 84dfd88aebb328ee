"""Pickled dictionaries in .npy files, as challenges hand them out and take them in.

Reading one runs no code of whoever wrote it: nothing but numpy's own arrays, types and numbers is
made of it. Writing one, NumPy's private modules are called as NumPy 1 calls them, which NumPy 2
knows as well; what NumPy 2 writes by itself (``numpy._core``) no server with NumPy 1 can read.
"""

from __future__ import annotations

import pickle
import pickletools
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from giblet_ray.errors import InputError, one_line

_PROTOCOL = 3
"""The last without frames, in which a name may be exchanged for a shorter one."""

_NEW, _OLD = "numpy._core.", "numpy.core."
_MADE = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    (f"{_OLD}multiarray", "_reconstruct"),
    (f"{_OLD}multiarray", "scalar"),
    (f"{_OLD}numeric", "_frombuffer"),
}
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Plain(pickle.Unpickler):
    """Makes dictionaries, lists, strings, numbers and numpy's arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """See :meth:`pickle.Unpickler.find_class`."""
        old = module.replace(_NEW, _OLD, 1) if module.startswith(_NEW) else module
        if (old, name) not in _MADE:
            raise pickle.UnpicklingError(f"it would run {module}.{name}")
        new = module.replace(_OLD, _NEW, 1) if module.startswith(_OLD) else module
        return super().find_class(new, name)


def read_dict(stream: IO[bytes], where: str) -> dict[Any, Any]:
    """Read a dictionary that ``np.save`` wrote, without running anything.

    Parameters
    ----------
    stream : file object
        Open for reading.
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        If it is no .npy file of one pickled dictionary, or asks for anything but numpy's own
        arrays, types and numbers.
    """
    try:
        read_header = _HEADERS[npy.read_magic(stream)]
        _, _, dtype = read_header(stream)
        if not dtype.hasobject:
            raise InputError(f"{where}: is an array of {dtype}; a pickled dictionary is expected")
        found = _Plain(stream).load()
    except InputError:
        raise
    except Exception as error:  # whatever damaged bytes make of numpy and pickle
        raise InputError(
            f"{where}: is no .npy file of a pickled dictionary: {one_line(error)}"
        ) from error
    value = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
    if not isinstance(value, dict):
        raise InputError(f"{where}: holds a {type(value).__name__}; a dictionary is expected")
    return value


def write_dict(stream: IO[bytes], content: dict[Any, Any]) -> None:
    """Write a dictionary as ``np.save`` does, for NumPy 1 and 2 alike.

    Parameters
    ----------
    stream : file object
        Open for writing.
    content : dict
        Of dictionaries, strings, numbers and arrays.
    """
    cell = np.empty((), object)
    cell[()] = content
    npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(cell))
    stream.write(_as_numpy_1(pickle.dumps(cell, _PROTOCOL)))


def _as_numpy_1(pickled: bytes) -> bytes:
    """Exchange NumPy 2's names of its modules for NumPy 1's."""
    pieces, last = [], 0
    for opcode, argument, position in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and str(argument).startswith(_NEW) and position is not None:
            module, name = str(argument).split(" ")
            pieces += [
                pickled[last:position],
                f"c{module.replace(_NEW, _OLD, 1)}\n{name}\n".encode(),
            ]
            last = position + 1 + len(str(argument)) + 1
    return b"".join([*pieces, pickled[last:]])

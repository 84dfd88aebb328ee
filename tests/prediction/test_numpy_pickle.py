"""Pickled dictionaries that any NumPy reads, and that run nothing when they are read."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.prediction.numpy_pickle import read_dict, write_dict

CONTENT = {
    "sub-01": {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        # Bytes that look like a name are none.
        "b": np.frombuffer(b"cnumpy._core.multiarray\n_reconstruct\n", np.uint8),
    },
    "n": 7,
}


def written(content: dict[Any, Any]) -> io.BytesIO:
    stream = io.BytesIO()
    write_dict(stream, content)
    stream.seek(0)
    return stream


def saved(value: Any, protocol: int = 4, to: str = "numpy._core") -> io.BytesIO:
    """What np.save writes of a value, by any NumPy; that of protocol 3 may be an older one's."""
    stream = io.BytesIO()
    np.save(stream, np.array(value, object) if isinstance(value, dict) else value)
    if isinstance(value, dict):
        head = stream.getvalue()[: 10 + int.from_bytes(stream.getvalue()[8:10], "little")]
        pickled = pickle.dumps(np.array(value, object), protocol)
        stream = io.BytesIO(head + pickled.replace(b"numpy._core", to.encode()))
    stream.seek(0)
    return stream


def test_names_of_modules_are_those_of_numpy_1() -> None:
    stream = written(CONTENT)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    named = {str(argument) for opcode, argument, _ in pickletools.genops(stream.read())
             if opcode.name in ("GLOBAL", "STACK_GLOBAL")}  # fmt: skip
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_numpy_itself_loads_what_is_written() -> None:
    found = np.load(written(CONTENT), allow_pickle=True).item()
    assert found.keys() == CONTENT.keys()
    assert found["n"] == 7
    for name, array in CONTENT["sub-01"].items():
        np.testing.assert_array_equal(found["sub-01"][name], array)
        assert found["sub-01"][name].dtype == array.dtype


@pytest.mark.parametrize(
    ("protocol", "to"),
    [(3, "numpy.core"), (3, "numpy._core"), (4, "numpy._core"), (5, "numpy._core")],
)
def test_a_dictionary_that_any_numpy_saved_is_read(protocol: int, to: str) -> None:
    content = {"s07e01a": 460, "s07e01b": np.int64(433), "of": np.arange(3)}
    found = read_dict(saved(content, protocol, to), "here")
    np.testing.assert_array_equal(found.pop("of"), np.arange(3))
    assert found == {"s07e01a": 460, "s07e01b": 433}


def test_a_pickle_that_would_run_something_is_refused_before_it_does(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(InputError, match=r"^here: is no .* it would run pathlib\.Path\.touch$"):
        read_dict(saved({"s07e01a": Trap()}), "here")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (saved(np.arange(3)), "here: is an array of int64; a pickled dictionary is expected"),
        (saved(np.array([[1], "a"], object)), "here: holds a ndarray; a dictionary is expected"),
        (io.BytesIO(b"PK\x03\x04 no such thing"), "here: is no .npy file of a pickled dictionary"),
        (io.BytesIO(b""), "here: is no .npy file of a pickled dictionary"),
        (io.BytesIO(saved({"a": 1}).read()[:-9]), "here: is no .npy file of a pickled dictionary"),
    ],
)
def test_what_is_no_dictionary_is_said_in_one_line(stream: io.BytesIO, message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_dict(stream, "here")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)

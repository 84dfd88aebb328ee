"""Samples that the challenge asks for, and the submission that its server accepts."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.prediction.formats.algonauts2025 import (
    Format,
    check_submission,
    read_samples,
    read_submission,
)

WANTED = {"01": {"s07e01a": 4, "s07e01b": 6}, "02": {"s07e01a": 5}}


def predictions() -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        subject: {film: random.normal(size=(n, 1000)).astype(np.float32) for film, n in of.items()}
        for subject, of in WANTED.items()
    }


def submission() -> dict[str, dict[str, Any]]:
    return {f"sub-{subject}": films for subject, films in predictions().items()}


def samples_file(folder: Path, name: str, content: Any) -> str:
    np.save(folder / name, content, allow_pickle=True)
    return str(folder / name)


def test_samples_are_of_the_subject_in_the_file_s_name(tmp_path: Path) -> None:
    files = [
        samples_file(tmp_path, f"sub-{subject}_friends-s7_fmri_samples.npy", of)
        for subject, of in WANTED.items()
    ]
    form = Format()
    assert form.wanted(files) == WANTED
    assert form.notes(WANTED) == [
        "the challenge asks for sub-01, sub-02, sub-03, sub-05; there are no samples of sub-03, "
        "sub-05"
    ]
    assert form.notes(dict.fromkeys(("01", "02", "03", "05"), WANTED["01"])) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("samples.npy", {"s07e01a": 4}, "its name does not tell whose it is, as in sub-01_"),
        ("sub-01_a.npy", {"s07e01a": 0}, "says 's07e01a': 0; names of films, and numbers of"),
        ("sub-01_a.npy", {"s07e01a": "4"}, "says 's07e01a': '4'"),
        ("sub-01_a.npy", {3: 4}, "says 3: 4"),
        ("sub-01_a.npy", {}, "names no film"),
        ("sub-01_a.npy", np.arange(3), "is an array of int64; a pickled dictionary is expected"),
    ],
)
def test_samples_that_say_nothing_of_use_are_one_line(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        Format().wanted([samples_file(tmp_path, name, content)])
    assert str(refused.value).startswith(f"--samples {tmp_path}/{name}: ")
    assert message in str(refused.value)


def test_samples_of_both_phases_are_no_submission(tmp_path: Path) -> None:
    files = [
        samples_file(tmp_path, f"sub-01_{phase}_fmri_samples.npy", {"a": 3})
        for phase in ("friends-s7", "ood")
    ]
    with pytest.raises(InputError, match=r"sub-01_ood.* is the second file of sub-01"):
        Format().wanted(files)
    with pytest.raises(InputError, match=r"--samples absent.npy: cannot be read: No such file"):
        read_samples("absent.npy")


def test_a_submission_is_one_pickled_dictionary_in_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "friends_s7.zip"
    with file.open("wb") as stream:
        Format().write(stream, "friends_s7", predictions(), WANTED)
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["friends_s7.npy"]
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    loaded = np.load(tmp_path / "friends_s7.npy", allow_pickle=True).item()
    for found in (read_submission(str(file)), loaded):
        check_submission(found, WANTED)
        for subject, films in submission().items():
            for film, bold in films.items():
                np.testing.assert_array_equal(found[subject][film], bold)
    again = tmp_path / "again.zip"
    with again.open("wb") as stream:
        Format().write(stream, "friends_s7", predictions(), WANTED)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("sub-01", "s07e01a"), None, "sub-01: has no s07e01a; s07e01a, s07e01b are expected"),
        (("sub-02",), None, "submission: has no sub-02; sub-01, sub-02 are expected"),
        (("sub-03",), {}, "submission: 'sub-03' is too many"),
        (("sub-02", "s07e01b"), np.zeros((3, 1000), np.float32), "sub-02: 's07e01b' is too many"),
        (("sub-01", "s07e01a"), np.zeros((5, 1000), np.float32), "(5, 1000); float32 (4, 1000) is"),
        (("sub-01", "s07e01a"), np.zeros((4, 999), np.float32), "float32 (4, 999); float32 (4, 1"),
        (("sub-01", "s07e01a"), np.zeros((4, 1000)), "s07e01a: is float64 (4, 1000); float32"),
        (("sub-01", "s07e01a"), np.full((4, 1000), np.nan, np.float32), "s07e01a: holds a value"),
    ],
)
def test_what_the_server_would_refuse_is_refused(
    place: tuple[str, ...], value: Any, message: str
) -> None:
    content: dict[str, Any] = submission()
    *path, last = place
    where = content[path[0]] if path else content
    if value is None:
        del where[last]
    else:
        where[last] = value
    with pytest.raises(InputError) as refused:
        check_submission(content, WANTED)
    assert message in str(refused.value)


def test_an_archive_of_something_else_is_no_submission(tmp_path: Path) -> None:
    file = tmp_path / "some.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"1")
        archive.writestr("b.npy", b"1")
    with pytest.raises(InputError, match=r"some.zip: holds a.npy, b.npy; exactly one .npy"):
        read_submission(str(file))
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"some.zip: is no .zip that can be read"):
        read_submission(str(file))


def test_other_units_than_the_parcels_are_refused() -> None:
    Format().check_units("01", 1000)
    with pytest.raises(InputError, match=r"subject 01 has 24 units in the model's data set; the"):
        Format().check_units("01", 24)

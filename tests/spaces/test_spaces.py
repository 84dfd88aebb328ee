"""What every kind of space promises: a new one is done when it passes these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import SPACES, open_space, space_of_scan
from giblet_ray.spaces.space import Space

N_TRS, TR_SECONDS = 11, 1.5
INSIDE = np.random.default_rng(0).random((4, 5, 3)) < 0.4
AFFINE = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])


@dataclass
class Example:
    """A scan of a kind of space, and what is in it."""

    scan: Path
    mask: Path | None
    bold_TV: NDArray[np.float32]

    @property
    def space(self) -> Space:
        return space_of_scan(self.scan, self.mask)


def volume(folder: Path) -> Example:
    values = np.random.default_rng(1).normal(1000, 9, (*INSIDE.shape, N_TRS)).astype(np.float32)
    mask = nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE)
    mask.set_sform(AFFINE, 4)
    nibabel.save(mask, folder / "mask.nii.gz")
    scan = nibabel.Nifti1Image(values, AFFINE)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header.set_zooms((2, 2, 2.5, TR_SECONDS))
    nibabel.save(scan, folder / "scan.nii.gz")
    return Example(folder / "scan.nii.gz", folder / "mask.nii.gz", values[INSIDE].T)


def array(folder: Path) -> Example:
    bold_TV = np.random.default_rng(2).normal(1000, 9, (N_TRS, 7)).astype(np.float32)
    np.save(folder / "scan.npy", bold_TV)
    return Example(folder / "scan.npy", None, bold_TV)


EXAMPLES: dict[str, Callable[[Path], Example]] = {"array": array, "volume": volume}


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return EXAMPLES[request.param](tmp_path)


def test_every_kind_has_an_example() -> None:
    assert EXAMPLES.keys() == SPACES.keys()


def test_scan_is_read_as_it_is_in_its_space(example: Example) -> None:
    space = example.space
    assert example.scan.name.endswith(space.suffixes)
    assert (space.n_trs(example.scan, None, TR_SECONDS), space.n_units) == example.bold_TV.shape
    for trs in (slice(0, N_TRS), slice(2, 5)):
        found_TV = space.read(example.scan, None, trs, None)
        assert found_TV.dtype == np.float32
        np.testing.assert_array_equal(found_TV, example.bold_TV[trs])


def test_space_comes_back_from_its_files_and_has_the_same_every_time(example: Example) -> None:
    space = example.space
    files = space.files()
    assert files == example.space.files()
    again = open_space(space.kind, files, space.n_units, "here")
    assert again.files() == files
    found_TV = again.read(example.scan, None, slice(0, N_TRS), None)
    np.testing.assert_array_equal(found_TV, example.bold_TV)


def test_rows_that_are_written_are_a_scan_of_the_space(example: Example, tmp_path: Path) -> None:
    space = open_space(example.space.kind, example.space.files(), example.space.n_units, "here")
    rows_TV = example.bold_TV.copy()
    rows_TV[:, 3] = np.nan
    written = []
    for _ in range(2):
        streams = [BytesIO() for _ in space.endings]
        with space.open_files(streams, N_TRS, TR_SECONDS, 4.5, "rows of a test") as file:
            for block in np.array_split(rows_TV, [1, 1, 8]):
                file.add(block)
        written.append([stream.getvalue() for stream in streams])
    assert written[0] == written[1]
    assert sum(map(len, written[0])) <= space.file_bytes(N_TRS)
    paths = [tmp_path / f"written{ending}" for ending in space.endings]
    for path, content in zip(paths, written[0], strict=True):
        path.write_bytes(content)
    path = paths[0]
    assert example.space.n_trs(path, None, TR_SECONDS) == N_TRS
    found_TV = example.space.read(path, None, slice(0, N_TRS), None)
    np.testing.assert_array_equal(found_TV, rows_TV)


def test_other_units_are_refused(example: Example) -> None:
    space = example.space
    if files := space.files():
        with pytest.raises(InputError, match=rf"^here: .* {space.n_units} .*, not 2$"):
            open_space(space.kind, files, 2, "here")
        damaged: Any = {name: content[:40] for name, content in files.items()}
        with pytest.raises(InputError, match=r"^here: [^\n]* cannot be read: [^\n]*$"):
            open_space(space.kind, damaged, space.n_units, "here")
    other = example.scan.with_name("other.npy")
    np.save(other, example.bold_TV[:, 1:])
    with pytest.raises(InputError, match=rf"has {space.n_units - 1} .* {space.n_units}"):
        space.n_trs(other, None, TR_SECONDS)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"here: space 'volum' is not known \(did you mean vol"):
        open_space("volum", {}, 3, "here")


def test_rows_of_a_volume_lie_where_its_mask_lies_and_begin_when_they_begin(tmp_path: Path) -> None:
    example = volume(tmp_path)
    path = tmp_path / "written.nii.gz"
    with (
        path.open("wb") as stream,
        example.space.open_files([stream], N_TRS, TR_SECONDS, 4.5, "rows of a test") as file,
    ):
        file.add(example.bold_TV)
    image: Any = nibabel.load(path)
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert int(image.header["sform_code"]) == 4
    assert image.header.get_zooms() == (2.0, 2.0, 2.5, TR_SECONDS)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert float(image.header["toffset"]) == 4.5
    assert bytes(image.header["descrip"]).rstrip(b"\0") == b"rows of a test"
    values = np.asarray(image.dataobj)
    places = [xyz for xyz in np.ndindex(*INSIDE.shape) if INSIDE[xyz]]
    for unit, xyz in enumerate(places):
        np.testing.assert_array_equal(values[xyz], example.bold_TV[:, unit])
    assert not values[~INSIDE].any()

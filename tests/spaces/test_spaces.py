"""What every kind of space promises: a new one is done when it passes these."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from space_examples import AFFINE, EXAMPLES, INSIDE, N_TRS, TR_SECONDS, Example, volume

from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import (
    SPACES,
    files_of_scan,
    open_space,
    whole_scans,
)
from giblet_ray.spaces.scan import ScanOptions, read_bold, scan_shape
from giblet_ray.spaces.space import Series


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return EXAMPLES[request.param](tmp_path)


def test_every_kind_has_an_example() -> None:
    assert {name.split()[0] for name in EXAMPLES} == SPACES.keys()


def test_scan_is_read_as_it_is_in_its_space(example: Example) -> None:
    space = example.space
    assert (space.n_trs(example.scan, None, TR_SECONDS), space.n_units) == example.bold_TV.shape
    for trs in (slice(0, N_TRS), slice(2, 5)):
        found_TV = space.read(example.scan, None, trs, None)
        assert found_TV.flags.writeable  # cleaned in place
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
        with space.open_files(streams, Series(N_TRS, TR_SECONDS, 4.5, "rows of a test")) as file:
            for block in np.array_split(rows_TV, [1, 1, 7]):
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
        damaged: Any = {name: content[: len(content) // 2] for name, content in files.items()}
        with pytest.raises(InputError, match=r"^here: [^\n]* cannot be read: [^\n]*$"):
            open_space(space.kind, damaged, space.n_units, "here")
    with pytest.raises(InputError, match=r"other[^\n]*: has (\d+) [^\n]* where [^\n]*\d+[^\n]*$"):
        space.n_trs(example.other, None, TR_SECONDS)


def test_a_value_of_each_unit_is_drawn_where_that_unit_lies_and_nowhere_else(
    example: Example,
) -> None:
    space = example.space
    values_V = np.arange(1, space.n_units + 1, dtype=np.float32)
    drawn_V = np.delete(values_V, example.placeless)
    drawn = [] if (volume := space.volume(values_V)) is None else [np.asarray(volume.dataobj)]
    drawn += [] if (surface := space.surface(values_V)) is None else list(surface.values())
    found = np.concatenate([values.ravel() for values in drawn]) if drawn else drawn_V
    np.testing.assert_array_equal(np.unique(found[np.isfinite(found)]), drawn_V)


def test_all_files_of_a_scan_mean_that_scan(example: Example) -> None:
    files = files_of_scan(example.scan)
    assert files[0] == str(example.scan)
    assert len(files) == len(example.space.endings)
    assert whole_scans([*files, str(example.other)]) == (str(example.scan), str(example.other))
    for file in files:
        assert example.space.n_trs(Path(file), None, TR_SECONDS) == N_TRS


def test_a_scan_that_is_cut_off_is_refused_in_one_line(example: Example) -> None:
    for file in files_of_scan(example.scan):
        content = Path(file).read_bytes()
        Path(file).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=rf"^{re.escape(file)}: [^\n]*$"):
            read_bold(example.scan, **example.choosing, tr_seconds=TR_SECONDS)
        Path(file).write_bytes(content)


def test_a_tr_that_is_not_the_headers_is_refused_or_ignored(example: Example) -> None:
    if example.scan.suffix == ".npy":  # which has none
        return
    with pytest.raises(InputError, match=r"1\.?5.*, where .*2 s.* --scan.ignore_header_tr$"):
        scan_shape(example.scan, **example.choosing, tr_seconds=2)
    options = ScanOptions(ignore_header_tr=True)
    found = scan_shape(example.scan, **example.choosing, tr_seconds=2, options=options)
    assert found == example.bold_TV.shape


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"here: space 'volum' is not known \(did you mean vol"):
        open_space("volum", {}, 3, "here")


def test_rows_of_a_volume_lie_where_its_mask_lies_and_begin_when_they_begin(tmp_path: Path) -> None:
    example = volume(tmp_path)
    path = tmp_path / "written.nii.gz"
    with (
        path.open("wb") as stream,
        example.space.open_files(
            [stream], Series(N_TRS, TR_SECONDS, 4.5, "rows of a test")
        ) as file,
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


def test_more_volumes_than_nifti_1_can_say_are_written(tmp_path: Path) -> None:
    example, n_trs = volume(tmp_path), 32_768
    path = tmp_path / "long.nii.gz"
    with (
        path.open("wb") as stream,
        example.space.open_files(
            [stream], Series(n_trs, TR_SECONDS, 4.5, "rows of a test")
        ) as file,
    ):
        for first in range(0, n_trs, N_TRS):
            file.add(example.bold_TV[: n_trs - first])
    assert example.space.n_trs(path, None, TR_SECONDS) == n_trs
    found_TV = example.space.read(path, None, slice(n_trs - n_trs % N_TRS, n_trs), None)
    np.testing.assert_array_equal(found_TV, example.bold_TV[: n_trs % N_TRS])
    assert float(nibabel.load(path).header["toffset"]) == 4.5

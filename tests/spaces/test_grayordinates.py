"""Grayordinates: vertices and voxels of a CIFTI file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ScalarAxis, SeriesAxis
from nilearn.datasets import load_fsaverage
from nilearn.image import coord_transform, load_img
from nilearn.surface import SurfaceImage
from scan_files import save, save_series
from space_examples import MODELS, TR_SECONDS

from giblet_ray.errors import InputError
from giblet_ray.spaces.grayordinates import Grayordinates
from giblet_ray.spaces.kinds import space_of_scan
from giblet_ray.spaces.space import Series

ROWS_TV = np.random.default_rng(0).normal(0, 1, (4, len(MODELS))).astype(np.float32)
AFFINE_2MM = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
"""Of the HCP's volumes, (91, 109, 91)."""


def refusal(path: Path, space: Grayordinates | None = None, tr_seconds: float = TR_SECONDS) -> str:
    with pytest.raises(InputError) as caught:
        (space or space_of_scan(path)).n_trs(path, None, tr_seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_that_are_written_open_at_the_vertices_and_voxels_that_they_are_of(
    tmp_path: Path,
) -> None:
    mesh = load_fsaverage("fsaverage5")["pial"]
    cortex = np.arange(10_242) % 9 > 0  # some vertices are left out, as those of a medial wall
    deep = np.zeros((91, 109, 91), bool)
    deep[38:42, 60:66, 36:42] = True
    models = (
        BrainModelAxis.from_mask(cortex, name="CortexLeft")
        + BrainModelAxis.from_mask(cortex[::-1], name="CortexRight")
        + BrainModelAxis.from_mask(deep, affine=AFFINE_2MM, name="ThalamusRight")
    )
    space = Grayordinates(models)
    places = {"left": (-40.0, -20.0, 50.0), "right": (30.0, -80.0, 10.0)}
    blob_V = np.zeros(len(models), np.float32)
    for side, name in (("left", "CORTEX_LEFT"), ("right", "CORTEX_RIGHT")):
        of_side_V = models.name == f"CIFTI_STRUCTURE_{name}"
        at = mesh.parts[side].coordinates[models.vertex[of_side_V]]
        blob_V[of_side_V] = np.linalg.norm(at - places[side], axis=1) < 10
    place = np.array(coord_transform(39, 62, 38, AFFINE_2MM))
    voxels = models.voxel[models.volume_mask]
    blob_V[models.volume_mask] = (voxels == (39, 62, 38)).all(axis=1)
    stream = BytesIO()
    with space.open_files([stream], Series(3, 1.49, 4.47, "rows of a test")) as file:
        for row_V in (np.zeros_like(blob_V), blob_V, np.full_like(blob_V, np.nan)):
            file.add(row_V[None])
    path = tmp_path / "film.dtseries.nii"
    path.write_bytes(stream.getvalue())

    image: Any = nibabel.load(path)
    assert image.nifti_header.get_intent()[0] == "ConnDenseSeries"
    assert bytes(image.nifti_header["descrip"]).rstrip(b"\0") == b"rows of a test"
    series, found = (image.header.get_axis(axis) for axis in (0, 1))
    assert (series.start, series.step, series.size, series.unit) == (4.47, 1.49, 3, "SECOND")
    assert found == models
    rows_TV = image.get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(rows_TV[1], blob_V)
    assert np.isnan(rows_TV[2]).all()
    surface = space.surface(rows_TV[1])
    assert surface is not None
    drawn = SurfaceImage(mesh, {side: np.nan_to_num(values) for side, values in surface.items()})
    for side in places:
        peak = mesh.parts[side].coordinates[drawn.data.parts[side].ravel() == 1].mean(axis=0)
        np.testing.assert_allclose(peak, places[side], atol=7)
        assert np.isnan(surface[side]).sum() == (~cortex).sum()
    volume = load_img(space.volume(rows_TV[1]))
    peak = np.argwhere(volume.get_fdata() == 1)
    np.testing.assert_allclose(coord_transform(*peak[0], volume.affine), place)
    assert len(peak) == 1


def test_one_hemisphere_or_none_is_drawn_as_it_is() -> None:
    left = Grayordinates(MODELS[:6])
    surface = left.surface(np.arange(6.0))
    assert surface is not None
    np.testing.assert_array_equal(surface["left"], [np.nan, 0, 1, 2, np.nan, 3, 4, 5])
    assert np.isnan(surface["right"]).all()
    assert left.volume(np.arange(6.0)) is None
    deep = Grayordinates(MODELS[MODELS.volume_mask])
    assert deep.surface(np.zeros(deep.n_units)) is None


def test_a_scan_of_as_many_other_grayordinates_is_refused(tmp_path: Path) -> None:
    other = BrainModelAxis.from_mask(np.ones(len(MODELS), bool), name="CortexLeft")
    path = save_series(tmp_path / "film.dtseries.nii", ROWS_TV, other)
    message = refusal(path, Grayordinates(MODELS))
    assert "its grayordinates are other vertices and voxels than" in message


@pytest.mark.parametrize(
    ("step", "unit", "told"),
    [(1, "SECOND", "is 1 (unit: SECOND), where 1.5"), (1.5, "HERTZ", "is 1.5 (unit: HERTZ)")],
)
def test_step_is_compared_in_its_unit(tmp_path: Path, step: float, unit: str, told: str) -> None:
    path = save_series(tmp_path / "film.dtseries.nii", ROWS_TV, MODELS, step, unit)
    message = refusal(path)
    assert told in message
    assert "--scan.ignore_header_tr" in message
    assert space_of_scan(path).n_trs(path, None, None) == 4


def test_step_in_milliseconds_is_read(tmp_path: Path) -> None:
    path = save_series(tmp_path / "film.dtseries.nii", ROWS_TV, MODELS)
    content = path.read_bytes()
    old, new = b'SeriesExponent="0"', b'SeriesExponent="-3"'
    image: Any = nibabel.load(path)
    series = image.header.matrix.get_index_map(0)
    series.series_exponent, series.series_step, series.series_start = -3, 1500.0, 0.0
    nibabel.save(image, path)
    assert new in path.read_bytes()
    assert old not in path.read_bytes() != content
    assert space_of_scan(path).n_trs(path, None, 1.5) == 4


def test_cifti_files_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.dtseries.nii"
    nibabel.save(nibabel.Cifti2Image(ROWS_TV, header=(ScalarAxis(list("abcd")), MODELS)), path)
    assert "has a SeriesAxis and a BrainModelAxis, this file ScalarAxis and" in refusal(path)
    nibabel.save(nibabel.Cifti2Image(ROWS_TV.T, header=(MODELS, SeriesAxis(0, 1.5, 4))), path)
    assert "this file BrainModelAxis and SeriesAxis" in refusal(path)
    save(path, np.zeros((3, 3, 3, 4)))
    assert "is not a readable CIFTI-2 file" in refusal(path)

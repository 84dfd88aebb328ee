"""Surfaces: a scan is a pair of GIFTI files, left and right."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.surface import SurfaceImage
from scan_files import save_surfaces

from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import files_of_scan, space_of_scan
from giblet_ray.spaces.space import Series
from giblet_ray.spaces.surface import Surface

ROWS_TN = np.random.default_rng(0).normal(0, 1, (4, 9)).astype(np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        space_of_scan(path).n_trs(path, None, 1.5)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            "sub-01_hemi-L_space-fsaverage5_bold.func.gii",
            "sub-01_hemi-R_space-fsaverage5_bold.func.gii",
        ),
        ("sub-01_space-fsaverage6_hemi-L.func.gii", "sub-01_space-fsaverage6_hemi-R.func.gii"),
        ("100307.L.film.32k_fs_LR.func.gii", "100307.R.film.32k_fs_LR.func.gii"),
        ("lh.film.gii", "rh.film.gii"),
        ("sub-L_hemi-L.func.gii", "sub-L_hemi-R.func.gii"),
    ],
)
def test_each_hemisphere_finds_the_other(tmp_path: Path, left: str, right: str) -> None:
    pair = (tmp_path / left, tmp_path / right)
    for path in pair:
        path.write_text("x")
    for path in pair:
        assert files_of_scan(path) == tuple(map(str, pair))
    pair[1].unlink()
    assert f"{pair[0]}: its other hemisphere, {pair[1]}, is not" in refusal(pair[0])


def test_rows_that_are_written_open_in_nilearn_at_the_vertices_that_they_are_of(
    tmp_path: Path,
) -> None:
    mesh = load_fsaverage("fsaverage5")["pial"]
    space = Surface({side: mesh.parts[side].n_vertices for side in ("left", "right")})
    sides = {"left": (-40.0, -20.0, 50.0), "right": (30.0, -80.0, 10.0)}
    near = {
        side: np.linalg.norm(mesh.parts[side].coordinates - place, axis=1) < 10
        for side, place in sides.items()
    }
    rows_TV = np.zeros((3, space.n_units), np.float32)
    rows_TV[1] = np.concatenate([near["left"], near["right"]])
    rows_TV[:, 7] = np.nan
    streams = [BytesIO(), BytesIO()]
    with space.open_files(streams, Series(3, 1.49, 4.47, "rows of a test")) as file:
        file.add(rows_TV)
    for stream, ending in zip(streams, space.endings, strict=True):
        (tmp_path / f"film{ending}").write_bytes(stream.getvalue())
    left, right = (tmp_path / f"film{ending}" for ending in space.endings)
    image = SurfaceImage(mesh, {"left": left, "right": right})
    assert image.shape == (space.n_units, 3)
    for side, place in sides.items():
        blob_NT = image.data.parts[side]
        found = mesh.parts[side].coordinates[blob_NT[:, 1] == 1].mean(axis=0)
        np.testing.assert_allclose(found, place, atol=7)
        assert not np.nan_to_num(blob_NT[:, [0, 2]]).any()
    assert np.isnan(image.data.parts["left"][7]).all()
    for path, structure in ((left, "CortexLeft"), (right, "CortexRight")):
        stored = nibabel.load(path)
        assert stored.meta["AnatomicalStructurePrimary"] == structure
        assert stored.meta["Description"] == "rows of a test"
        assert float(stored.meta["FirstSeconds"]) == 4.47
        for array in stored.darrays:
            assert array.intent == nibabel.nifti1.intent_codes["time series"]
            assert float(array.meta["TimeStep"]) == 1490


def test_numbers_of_vertices_of_several_trs_in_one_array_are_read(tmp_path: Path) -> None:
    left = save_surfaces(tmp_path / "film_hemi-L.gii", ROWS_TN, ROWS_TN[:, :5])
    for path, rows_TN in zip(files_of_scan(left), (ROWS_TN, ROWS_TN[:, :5]), strict=True):
        array = nibabel.gifti.GiftiDataArray(np.ascontiguousarray(rows_TN.T))
        nibabel.save(nibabel.gifti.GiftiImage(darrays=[array]), path)
    found_TV = space_of_scan(left).read(left, None, slice(1, 4), None)
    np.testing.assert_array_equal(found_TV, np.hstack([ROWS_TN, ROWS_TN[:, :5]])[1:])


def test_hemispheres_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    left = save_surfaces(tmp_path / "film_hemi-L.func.gii", ROWS_TN, ROWS_TN[:3])
    message = refusal(left)
    assert f"{left} has 4 TRs and " in message
    assert "film_hemi-R.func.gii has 3; both hemispheres" in message
    (tmp_path / "film_hemi-R.func.gii").write_bytes(left.read_bytes())
    assert "is of the right hemisphere by its name, and says CortexLeft" in refusal(left)
    assert "its name tells no hemisphere" in refusal(left.rename(tmp_path / "film.func.gii"))


def test_gifti_files_of_something_else_are_refused(tmp_path: Path) -> None:
    left = save_surfaces(tmp_path / "film_hemi-L.func.gii", ROWS_TN, ROWS_TN)
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"x")
    with pytest.raises(InputError, match=r"its units are no voxels, and --mask .*mask.nii.gz"):
        space_of_scan(left, mask)
    points = nibabel.gifti.GiftiDataArray(np.zeros((9, 3), np.float32))
    triangles = nibabel.gifti.GiftiDataArray(np.zeros((14, 3), np.int32))
    nibabel.save(nibabel.gifti.GiftiImage(darrays=[points, triangles]), left)
    assert "holds 2 arrays of shape (9, 3), (14, 3)" in refusal(left)
    nibabel.save(nibabel.gifti.GiftiImage(), left)
    assert "holds 0 arrays of shape none" in refusal(left)

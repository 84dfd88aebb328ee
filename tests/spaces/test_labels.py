"""Labels of atlases: what their numbers are called, and which units they are of."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, LabelAxis
from scan_files import save_dense_labels, save_surface_labels
from space_examples import AFFINE, INSIDE, MODELS, REGIONS

from giblet_ray.errors import InputError
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.grayordinates import Grayordinates
from giblet_ray.spaces.kinds import labels_of
from giblet_ray.spaces.labels import find_label_table, read_label_table
from giblet_ray.spaces.space import Space
from giblet_ray.spaces.surface import Surface
from giblet_ray.spaces.volume import Volume

VOXELS = Volume(nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE), INSIDE, "mask.nii.gz")


def image(path: Path, labels_XYZ: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(labels_XYZ, affine), path)
    return path


def refusal(space: Space, atlas: Path, names: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        labels_of(space, atlas, names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- tables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dseg.tsv", "index\tname\tcolor\n0\tBackground\tx\n2\tV1\t#ff\n5\tA 1\t#00\n"),
        ("dseg.tsv", "name\tindex\n V1 \t2\nA 1\t5\n"),
        ("atlas.csv", 'id,Label\n2,V1\n5,"A 1"\n'),
        ("order.txt", "2\tV1\t120\t18\t131\t0\n5\tA 1\t120\t18\t132\t0\n"),
        ("ansi.txt", "\ufeff5\tA 1\r\n2\tV1\r\n"),
        ("Centroid_RAS.csv", "ROI Label,ROI Name,R,A\n0,NONE,NA,NA\n2,V1,-32,4\n5,A 1,-29,7\n"),
        ("lab.csv", "label,region\n2,V1\n5,A 1\n"),
        ("lab.csv", "ROI,hemisphere,name\n2,L,V1\n5,L,A 1\n"),
        ("lab.csv", "roi,label\nV1,2\nA 1,5\n"),
        ("lab.tsv", "Number\tName\n2\tV1\n5\tA 1\n"),
        ("lab.csv", "ROIid,ROIname\n2,V1\n5,A 1\n"),
        ("lab.txt", "2 V1\n5  A 1\n"),
        ("lab.txt", "index name\n2 V1 0.1 0.2 1\n5 A 1 255 0 0 0\n"),
    ],
)
def test_tables_of_labels_are_read_as_they_are_written(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, newline="", encoding="utf-8")
    assert list(read_label_table(tmp_path / name).items()) == [(2, "V1"), (5, "A 1")]


def test_colour_tables_and_lists_of_names_are_read(tmp_path: Path) -> None:
    table = tmp_path / "lut.txt"
    table.write_text(
        "# No. Label R G B A\n\n0   Unknown  0 0 0 0\n17  Left-Hippocampus  220 216 20 0\n"
    )
    assert read_label_table(table) == {17: "Left-Hippocampus"}
    table.write_text("Background\nFrontal Pole\nInsular Cortex\n")
    assert read_label_table(table) == {1: "Frontal Pole", 2: "Insular Cortex"}
    table.write_text("name\n7Networks_LH_Vis_1\n")
    assert read_label_table(table) == {1: "7Networks_LH_Vis_1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("index\tname\n1\tV1\n1\tV2\n", "found the label '1', 'V2'"),
        ("index\tname\n1.5\tV1\n", "found the label '1.5', 'V1'; a whole number and a name"),
        ("1\tV1\nx\tV2\n", "found the label 'x', 'V2'"),
        ("# nothing\n", "names no labels"),
        ("0\tBackground\n", "names no labels"),
        ("region,hemisphere\nV1,L\n", "found the label 'V1', 'L'"),
        ("ROI,name\n1.0,V1\n", "found the label '1.0', 'V1'"),
        ("V1\n2\n", "found the label '2', ''"),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path: Path, text: str, told: str) -> None:
    table = tmp_path / "atlas.tsv"
    table.write_text(text)
    with pytest.raises(InputError) as caught:
        read_label_table(table)
    assert f"{table}: {told}" in str(caught.value)


def test_the_table_beside_an_image_has_its_name(tmp_path: Path) -> None:
    atlas = tmp_path / "atlas-X_res-2.5_dseg.nii.gz"
    assert find_label_table(atlas) is None
    for ending in ("csv", "txt", "tsv"):
        table = tmp_path / f"atlas-X_res-2.5_dseg.{ending}"
        table.write_text("1\tV1\n")
        assert find_label_table(atlas) == table


# ---- images


def test_labels_are_those_of_the_units_and_names_those_of_all_labels(tmp_path: Path) -> None:
    labels_XYZ = np.where(INSIDE, 3, 9).astype(np.uint8)
    atlas = image(tmp_path / "atlas.nii.gz", labels_XYZ)
    labels = labels_of(VOXELS, atlas)
    assert labels.names == {3: "3", 9: "9"}
    assert (labels.of_units_V == 3).all()
    assert (labels.indices == 0).all()
    table = tmp_path / "names.csv"
    table.write_text("3,inside\n9,outside\n4,nowhere\n")
    named = labels_of(VOXELS, atlas, table)
    assert named.names == {3: "inside", 4: "nowhere", 9: "outside"}
    table.write_text("3,inside\n")
    assert f"{table}: does not name label 9, which {atlas} has" in refusal(VOXELS, atlas, table)


def test_images_that_label_nothing_are_refused(tmp_path: Path) -> None:
    atlas = image(tmp_path / "atlas.nii.gz", np.zeros(INSIDE.shape, np.uint8))
    assert "has no labels: all of its 60 numbers are 0" in refusal(VOXELS, atlas)
    image(atlas, np.where(INSIDE, 0, 1).astype(np.uint8))
    assert "none of the " in refusal(VOXELS, atlas)
    image(atlas, INSIDE * np.float32(0.5))
    assert "holds whole numbers from 0 on, this file others between 0 and 0.5" in refusal(
        VOXELS, atlas
    )
    image(atlas, INSIDE[..., None].astype(np.uint8))
    assert "has 3 dimensions, this file has shape (4, 5, 3, 1)" in refusal(VOXELS, atlas)
    assert "extension is not known for a label image; accepted: .nii, .nii.gz" in refusal(
        VOXELS, atlas.rename(tmp_path / "atlas.mgz")
    )


def test_images_on_another_grid_are_refused(tmp_path: Path) -> None:
    atlas = image(tmp_path / "atlas.nii.gz", INSIDE[1:].astype(np.uint8))
    assert "volumes of shape (3, 5, 3), where the mask mask.nii.gz has" in refusal(VOXELS, atlas)
    image(atlas, INSIDE.astype(np.uint8), AFFINE + np.eye(4) / 2)
    assert "affine [[-1.5," in refusal(VOXELS, atlas)
    assert "labels units of a volume, and these are of a array" in refusal(Array(3), atlas)
    left = save_surface_labels(tmp_path / "a_hemi-L.label.gii", np.ones(8), np.ones(7), REGIONS)
    told = refusal(Surface({"left": 8, "right": 8}), left)
    assert "has 7 vertices in the right hemisphere, where the scans have 8" in told
    cortex = BrainModelAxis.from_mask(np.ones(9, bool), name="CortexLeft")
    dense = save_dense_labels(tmp_path / "atlas.dlabel.nii", np.ones(9), cortex, REGIONS)
    told = refusal(Grayordinates(MODELS), dense)
    assert "has 9 vertices in CIFTI_STRUCTURE_CORTEX_LEFT, where the scans have 8" in told
    deep = BrainModelAxis.from_mask(INSIDE, affine=AFFINE + np.eye(4), name="ThalamusRight")
    save_dense_labels(dense, np.ones(len(deep)), deep, REGIONS)
    assert "has voxels of a volume of shape (4, 5, 3), where" in refusal(
        Grayordinates(MODELS), dense
    )


def test_voxels_of_grayordinates_have_the_labels_of_their_structure(tmp_path: Path) -> None:
    part = INSIDE.copy()
    part[0] = False
    deep = BrainModelAxis.from_mask(part, affine=AFFINE, name="ThalamusRight")
    labels_V = np.arange(1, len(deep) + 1)
    atlas = save_dense_labels(tmp_path / "atlas.dlabel.nii", labels_V, deep, {1: "first"})
    labels = labels_of(Grayordinates(MODELS), atlas)
    found = labels.of_units_V
    np.testing.assert_array_equal(found[MODELS.surface_mask], 0)
    places = [tuple(xyz) for xyz in MODELS.voxel[MODELS.volume_mask]]
    expected = np.zeros(INSIDE.shape, int)
    expected[part] = labels_V
    np.testing.assert_array_equal(found[MODELS.volume_mask], [expected[xyz] for xyz in places])
    assert labels.names[1] == "first"
    assert labels.names[2] == "2"


def test_a_dense_image_of_several_maps_is_refused(tmp_path: Path) -> None:
    axis = LabelAxis(["a", "b"], {1: ("V1", (1, 1, 1, 1))})
    path = tmp_path / "atlas.dlabel.nii"
    values = np.ones((2, len(MODELS)), np.int32)
    nibabel.save(nibabel.Cifti2Image(values, header=(axis, MODELS)), path)
    assert "has 1 map, this file 2: a, b" in refusal(Grayordinates(MODELS), path)


def test_numbers_that_both_hemispheres_use_are_regions_of_each(tmp_path: Path) -> None:
    left = save_surface_labels(
        tmp_path / "a_hemi-L.label.gii", np.array([0, 2, 5]), np.array([2, 2, 0]), REGIONS
    )
    labels = labels_of(Surface({"left": 3, "right": 3}), left)
    called = [labels.names.get(int(number)) for number in labels.of_units_V]
    assert called == [None, "L V1", "L A1", "R V1", "R V1", None]
    assert len(labels.names) == 2 * len(REGIONS)


def test_hemispheres_without_names_or_regions_on_one_side_are_labelled(tmp_path: Path) -> None:
    file = tmp_path / "a_hemi-L.label.gii"
    left = save_surface_labels(file, np.array([0, 2, 5]), np.array([2, 0, 0]), {})
    labels = labels_of(Surface({"left": 3, "right": 3}), left)
    assert labels.of_units_V.tolist() == [0, 2, 5, 7, 0, 0]
    assert labels.names == {2: "2", 5: "5", 7: "7"}

"""A small scan of each kind of space, as files: a new kind has one here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.cifti2 import BrainModelAxis
from numpy.typing import NDArray
from scan_files import save_dense_labels, save_series, save_surface_labels, save_surfaces

from giblet_ray.spaces.kinds import space_of_scan
from giblet_ray.spaces.space import Space

N_TRS, TR_SECONDS = 9, 1.5
INSIDE = np.random.default_rng(0).random((4, 5, 3)) < 0.4
AFFINE = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])


@dataclass
class Example:
    """A scan of a kind of space, and what is in it."""

    scan: Path
    bold_TV: NDArray[np.float32]
    other: Path
    """A scan with a unit less."""
    choosing: dict[str, Path] = field(default_factory=dict)
    """Files that say what its units are."""
    placeless: tuple[int, ...] = ()
    """Units that lie nowhere."""

    @property
    def space(self) -> Space:
        return space_of_scan(self.scan, **self.choosing)

    @property
    def words(self) -> list[str]:
        """What a user says beside the scan; the names of labels are found."""
        said = {role: file for role, file in self.choosing.items() if role != "atlas_names"}
        return [word for role, file in said.items() for word in (f"--{role}", str(file))]


def volume(folder: Path) -> Example:
    values = np.random.default_rng(1).normal(1000, 9, (*INSIDE.shape, N_TRS)).astype(np.float32)
    mask = nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE)
    mask.set_sform(AFFINE, 4)
    nibabel.save(mask, folder / "mask.nii.gz")
    scan = nibabel.Nifti1Image(values, AFFINE)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header.set_zooms((2, 2, 2.5, TR_SECONDS))
    nibabel.save(scan, folder / "sub-01_scan.nii.gz")
    bold_TV = values[INSIDE].T
    np.save(folder / "other.npy", bold_TV[:, 1:])
    mask_file = folder / "mask.nii.gz"
    return Example(
        folder / "sub-01_scan.nii.gz", bold_TV, folder / "other.npy", {"mask": mask_file}
    )


def array(folder: Path) -> Example:
    bold_TV = np.random.default_rng(2).normal(1000, 9, (N_TRS, 7)).astype(np.float32)
    np.save(folder / "sub-01_scan.npy", bold_TV)
    np.save(folder / "other.npy", bold_TV[:, 1:])
    return Example(folder / "sub-01_scan.npy", bold_TV, folder / "other.npy")


def surface(folder: Path) -> Example:
    bold_TV = np.random.default_rng(3).normal(1000, 9, (N_TRS, 15)).astype(np.float32)
    bold_TV[:, [2, 11]] = np.nan  # a medial wall
    scan = save_surfaces(
        folder / "sub-01_scan_hemi-L_bold.func.gii", bold_TV[:, :8], bold_TV[:, 8:]
    )
    other = save_surfaces(folder / "other_hemi-L_bold.func.gii", bold_TV[:, 1:8], bold_TV[:, 8:])
    return Example(scan, bold_TV, other)


MODELS = (
    BrainModelAxis.from_mask(np.arange(8) % 4 > 0, name="CortexLeft")
    + BrainModelAxis.from_mask(np.arange(8) > 2, name="CortexRight")
    + BrainModelAxis.from_mask(INSIDE, affine=AFFINE, name="ThalamusRight")
)


def grayordinates(folder: Path) -> Example:
    bold_TV = np.random.default_rng(4).normal(1000, 9, (N_TRS, len(MODELS))).astype(np.float32)
    scan = save_series(folder / "sub-01_scan_bold.dtseries.nii", bold_TV, MODELS)
    other = save_series(folder / "other.dtseries.nii", bold_TV[:, 1:], MODELS[1:])
    return Example(scan, bold_TV, other)


REGIONS = {2: "V1", 4: "absent", 5: "A1", 7: "dark"}
"""Labels of the atlases, of which one has no place, and one no numbers."""


def means(base_TV: NDArray[np.float32], labels_V: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of each region's units, one after another."""
    bold_TP = np.full((len(base_TV), len(REGIONS)), np.nan, np.float32)
    for place, number in enumerate(REGIONS):
        of_region = [
            row_T for row_T in base_TV[:, labels_V == number].T if np.isfinite(row_T).all()
        ]
        if of_region:
            bold_TP[:, place] = np.mean(np.array(of_region, np.float64), axis=0)
    return bold_TP


def labelled(n_units: int) -> NDArray[np.int16]:
    return np.resize([2, 5, 0, 7, 5, 2], n_units).astype(np.int16)


def parcels(folder: Path) -> Example:
    """Of voxels, with a table of names beside the atlas."""
    made = volume(folder)
    labels_V = labelled(INSIDE.sum())
    labels_XYZ = np.zeros(INSIDE.shape, np.int16)
    labels_XYZ[INSIDE] = labels_V
    nibabel.save(nibabel.Nifti1Image(labels_XYZ, AFFINE), folder / "atlas.nii.gz")
    table = "".join(f"{number}\t{name}\n" for number, name in REGIONS.items())
    (folder / "atlas.tsv").write_text(f"index\tname\n0\tBackground\n{table}")
    scan: Any = nibabel.load(made.scan)
    values = scan.get_fdata(dtype=np.float32)
    values[labels_XYZ == 7] = np.nan
    values[(*np.argwhere(labels_XYZ == 5)[0], 3)] = np.nan  # this voxel is left out
    nibabel.save(nibabel.Nifti1Image(values, AFFINE, scan.header), made.scan)
    choosing = {"atlas": folder / "atlas.nii.gz", "atlas_names": folder / "atlas.tsv"}
    bold_TP = means(values[INSIDE].T, labels_V)
    np.save(made.other, bold_TP[:, 1:])
    return Example(made.scan, bold_TP, made.other, choosing, placeless=(1,))


def parcels_in_a_mask(folder: Path) -> Example:
    made = parcels(folder)
    mask_XYZ = np.zeros(INSIDE.shape, np.uint8)
    mask_XYZ[:, 1:] = 1
    nibabel.save(nibabel.Nifti1Image(mask_XYZ, AFFINE), folder / "part.nii.gz")
    inside = mask_XYZ > 0
    scan: Any = nibabel.load(made.scan)
    values, labels_XYZ = scan.get_fdata(), np.asarray(nibabel.load(folder / "atlas.nii.gz").dataobj)
    bold_TP = means(values[inside].T.astype(np.float32), labels_XYZ[inside])
    choosing = {**made.choosing, "mask": folder / "part.nii.gz"}
    return Example(made.scan, bold_TP, made.other, choosing, made.placeless)


def parcels_in_columns(folder: Path) -> Example:
    """An array that has parcels already."""
    made = parcels(folder)
    np.save(folder / "sub-01_scan.npy", made.bold_TV)
    return Example(
        folder / "sub-01_scan.npy", made.bold_TV, made.other, made.choosing, made.placeless
    )


def parcels_of_vertices(folder: Path) -> Example:
    made = surface(folder)
    labels_V = labelled(made.bold_TV.shape[1])
    labels_V[8:][labels_V[8:] == 2] = 0
    labels_V[:8][labels_V[:8] != 2] = 0
    atlas = save_surface_labels(
        folder / "atlas_hemi-L.label.gii", labels_V[:8], labels_V[8:], REGIONS
    )
    bold_TP = means(made.bold_TV, labels_V)
    return Example(made.scan, bold_TP, made.other, {"atlas": atlas}, placeless=(1,))


def parcels_of_grayordinates(folder: Path) -> Example:
    """An atlas of all vertices, those of the medial wall included, and of no voxels."""
    made = grayordinates(folder)
    cortex = BrainModelAxis.from_mask(np.ones(8, bool), name="CortexRight")
    cortex = BrainModelAxis.from_mask(np.ones(8, bool), name="CortexLeft") + cortex
    labels_N = labelled(16)
    atlas = save_dense_labels(folder / "atlas.dlabel.nii", labels_N, cortex, REGIONS)
    labels_V = np.zeros(len(MODELS), np.int16)
    for unit, (name, vertex) in enumerate(zip(MODELS.name, MODELS.vertex, strict=True)):
        if name.startswith("CIFTI_STRUCTURE_CORTEX"):
            labels_V[unit] = labels_N[vertex + 8 * name.endswith("RIGHT")]
    bold_TP = means(made.bold_TV, labels_V)
    return Example(made.scan, bold_TP, made.other, {"atlas": atlas}, placeless=(1,))


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "array": array,
    "volume": volume,
    "surface": surface,
    "grayordinates": grayordinates,
    "parcels": parcels,
    "parcels in a mask": parcels_in_a_mask,
    "parcels in columns": parcels_in_columns,
    "parcels of vertices": parcels_of_vertices,
    "parcels of grayordinates": parcels_of_grayordinates,
}

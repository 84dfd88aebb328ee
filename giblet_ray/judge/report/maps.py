"""Maps of units: on nilearn's glass brain and cortical surface, where they lie in a brain.

nilearn is imported when a map is drawn.

Shapes: V units, N vertices of a hemisphere.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from giblet_ray.evaluation.drawing import plain
from giblet_ray.judge.report.cortex import Cortex, find_cortex, fsaverage5, why_not_drawn
from giblet_ray.spaces.space import SIDES, Space

MOST_ROWS = 6
"""Brains in one figure."""
_COLORS = "viridis_r"
"""From pale to dark, as the paper is pale."""
_VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
_COVERED = 0.5
_INSIDE = 0.5
"""Share of the units that must lie in the brain of MNI space for a map in it."""


def no_glass_brain(space: Space) -> str:
    """Return why units cannot be drawn in a glass brain; empty if they can.

    Volumes are taken to be in MNI space, whose brain their voxels must lie in.
    """
    image = space.volume(np.ones(space.n_units))
    if image is None:
        if space.surface(np.ones(space.n_units)) is None:
            return "the units have no place in a brain; those of NIfTI files with a mask do"
        return "the units are vertices"
    from nilearn.datasets import load_mni152_brain_mask

    brain = load_mni152_brain_mask(resolution=4)
    voxels_3V = np.array(np.nonzero(np.isfinite(np.asarray(image.dataobj))))
    to_brain = np.linalg.inv(brain.affine) @ image.affine
    places_3V = np.round(to_brain[:3, :3] @ voxels_3V + to_brain[:3, 3:]).astype(int)
    inside_V = ((places_3V >= 0) & (places_3V < np.array(brain.shape)[:, None])).all(axis=0)
    n_inside = np.asarray(brain.dataobj)[tuple(places_3V[:, inside_V])].sum()
    share = n_inside / max(1, voxels_3V.shape[1])
    if share >= _INSIDE:
        return ""
    return (
        f"only {share:.0%} of the voxels lie in the brain of MNI space by the affine of the scans; "
        "scans that are normalised to MNI space do"
    )


def no_surface(space: Space) -> str:
    """Return why units cannot be drawn on a cortex; empty if they can.

    Vertices are, where there is one with as many; voxels, where they lie in MNI space.
    """
    vertices = space.surface(np.ones(space.n_units))
    if vertices is None:
        return no_glass_brain(space)
    return why_not_drawn({side: len(values_N) for side, values_N in vertices.items()})


def cortex_of(space: Space) -> Cortex:
    """Return the cortex that units are drawn on: their own, or of voxels fsaverage5."""
    vertices = space.surface(np.ones(space.n_units))
    return fsaverage5() if vertices is None else find_cortex(len(vertices[SIDES[0]]))


def brains(
    maps_V: Mapping[str, NDArray], space: Space, label: str, from_zero: bool = True
) -> list[Figure]:
    """Draw maps where units lie: voxels in glass brains, vertices on the cortex; or neither.

    Takes what :func:`glass_brains` does.
    """
    figures = []
    volumes = [space.volume(values_V) for values_V in maps_V.values()]
    has_voxels = any(each is not None and np.isfinite(each.dataobj).any() for each in volumes)
    if has_voxels and not no_glass_brain(space):
        figures.append(glass_brains(maps_V, space, label, from_zero))
    if space.surface(np.ones(space.n_units)) is not None:
        cortex = surfaces(maps_V, space, label, from_zero)
        figures += [] if cortex is None else [cortex]
    return figures


def glass_brains(
    maps_V: Mapping[str, NDArray], space: Space, label: str, from_zero: bool = True
) -> Figure:
    """Draw the largest value along each line of sight through a glass brain, a row per map.

    Parameters
    ----------
    maps_V : mapping of str to ndarray
        (V,) by what stands beside the row, :data:`MOST_ROWS` at most; NaN where there is none.
        Values below those of the first colour are drawn in it.
    space : Space
        Where the units lie.
    label : str
        What the values are.
    from_zero : bool
        Colours begin at 0, and not at the least of the values, which are positive.
    """
    from nilearn.plotting import plot_glass_brain

    top = _top(list(maps_V.values()))
    low = 0.0 if from_zero else _low(list(maps_V.values()), top)
    figure = Figure(figsize=(10, 2.3 * len(maps_V) + 0.2))
    height = 1 / len(maps_V)
    for row, (name, values_V) in enumerate(maps_V.items()):
        bottom = 1 - (row + 1) * height
        volume = _filled(space.volume(np.clip(values_V, max(low, 1e-5 * top), top)))
        plot_glass_brain(
            volume, figure=figure, axes=(0.08, bottom, 0.8, height), display_mode="lyrz",
            colorbar=False, cmap=_COLORS, plot_abs=False, vmin=low, vmax=top,
            threshold=1e-6 * top, symmetric_cbar=False,
        )  # fmt: skip
        figure.text(0.01, bottom + height / 2, plain(name), va="center", fontsize=10, rotation=90)
    _colorbar(figure, low, top, label)
    return figure


def surfaces(
    maps_V: Mapping[str, NDArray], space: Space, label: str, from_zero: bool = True
) -> Figure | None:
    """Draw values on the cortex of :func:`cortex_of`, a row per map; None if none lies in it.

    A vertex has its own value, or the mean of the voxels between its white and its pial surface.

    Parameters
    ----------
    maps_V, space, label, from_zero
        As for :func:`glass_brains`.
    """
    if no_surface(space):
        return None
    from nilearn.plotting import plot_surf_stat_map

    cortex = cortex_of(space)
    rows = {name: _on_cortex(values_V, space) for name, values_V in maps_V.items()}
    drawn = [values_N for row in rows.values() for values_N in row.values()]
    if not any(np.isfinite(values_N).any() for values_N in drawn):
        return None
    top = _top(list(maps_V.values()))
    low = 0.0 if from_zero else _low(list(maps_V.values()), top)
    figure = Figure(figsize=(10, 2.2 * len(rows)))
    height = 1 / len(rows)
    for index, (name, of_hemisphere) in enumerate(rows.items()):
        bottom = 1 - (index + 1) * height
        for column, (side, view) in enumerate(_VIEWS):
            place = (0.222 * column + 0.012, bottom, 0.222, 0.92 * height)
            axes: Any = figure.add_axes(place, projection="3d")
            values_N = of_hemisphere[side].clip(max(low, 1e-5 * top), top)
            if not np.isfinite(values_N).any():  # of which nilearn warns; 0 is drawn as nothing
                values_N = np.zeros_like(values_N)
            plot_surf_stat_map(
                cortex.inflated[side], values_N, hemi=side, view=view,
                bg_map=cortex.folds[side], bg_on_data=False, axes=axes, figure=figure,
                colorbar=False, cmap=_COLORS, vmin=low, vmax=top, threshold=1e-6 * top,
                engine="matplotlib", symmetric_cbar=False,
            )  # fmt: skip
            axes.set_box_aspect(None, zoom=1.48)  # nilearn's is 1.3
            if index == 0:
                axes.set_title(f"{side}, {view}", fontsize=10, y=0.98)
        middle = bottom + height / 2
        figure.text(0.004, middle, plain(name), va="center", fontsize=10, rotation=90)
    _colorbar(figure, low, top, label)
    return figure


def _on_cortex(values_V: NDArray, space: Space) -> dict[str, NDArray]:
    """Return the values of a cortex's vertices, (N,) by side."""
    if (vertices := space.surface(values_V)) is not None:
        return dict(vertices)
    from nilearn.datasets import fetch_surf_fsaverage

    volume, meshes = space.volume(values_V), fetch_surf_fsaverage("fsaverage5")
    return {side: at_vertices(volume, meshes, side) for side in SIDES}


def at_vertices(volume: Any, cortex: Any, side: str) -> NDArray:
    """Return the mean of an image's voxels between white and pial surface, (N,).

    NaN where less than half of what lies there has a number. What has none counts for nothing:
    nilearn's interpolation takes it as 0, in numbers and weights alike.
    """
    from nilearn.surface import vol_to_surf

    weights = volume.__class__(np.isfinite(volume.dataobj).astype(np.float32), volume.affine)
    with warnings.catch_warnings():  # of vertices outside the image
        warnings.filterwarnings("ignore", "Mean of empty slice")
        total_N, weight_N = (
            vol_to_surf(image, cortex[f"pial_{side}"], inner_mesh=cortex[f"white_{side}"])
            for image in (_filled(volume), weights)
        )
    enough_N = weight_N >= _COVERED
    return np.where(enough_N, total_N / np.where(enough_N, weight_N, 1), np.nan)


def _filled(volume: Any) -> Any:
    """Return an image with 0, which nilearn shows as nothing, where it has no number."""
    return volume.__class__(np.nan_to_num(volume.dataobj), volume.affine)


def _top(maps_V: list[NDArray]) -> float:
    """Return where the colours end: a few units beyond it do not decide them."""
    highest = max(float(np.nanpercentile(values_V, 99.5)) for values_V in maps_V)
    return highest if highest > 0 else 1.0


def _low(maps_V: list[NDArray], top: float) -> float:
    """Return where the colours begin, below their end, if that is not at 0."""
    return min(0.95 * top, *(float(np.nanpercentile(values_V, 0.5)) for values_V in maps_V))


def _colorbar(figure: Figure, low: float, top: float, label: str) -> None:
    axes = figure.add_axes((0.92, 0.12, 0.013, 0.74))
    scale = ScalarMappable(Normalize(low, top), _COLORS)
    figure.colorbar(scale, cax=axes, label=label)

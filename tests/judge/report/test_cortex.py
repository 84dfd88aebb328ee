"""The cortex that maps are drawn on is that whose vertices the scans have."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.surface import load_surf_data, load_surf_mesh

from giblet_ray.judge.report.cortex import find_cortex, why_not_drawn
from giblet_ray.spaces.space import SIDES


@pytest.mark.parametrize(("n_left", "n_right"), [(642, 642), (10_242, 32_492), (32_492, 10_242)])
def test_other_numbers_of_vertices_are_one_line(n_left: int, n_right: int) -> None:
    said = why_not_drawn({"left": n_left, "right": n_right})
    assert said.startswith(f"the cortex of the scans has {n_left:,} and {n_right:,} vertices; ")
    assert "\n" not in said


@pytest.mark.parametrize("n_vertices", [10_242, 32_492])
def test_a_cortex_has_a_mesh_and_folds_of_as_many_vertices(n_vertices: int) -> None:
    assert why_not_drawn(dict.fromkeys(SIDES, n_vertices)) == ""
    cortex = find_cortex(n_vertices)
    for side in SIDES:
        assert load_surf_mesh(cortex.inflated[side]).n_vertices == n_vertices
        assert len(load_surf_data(cortex.folds[side])) == n_vertices


def test_folds_of_fs_lr_are_high_in_sulci() -> None:
    """Heschl's gyrus lies deep, and the top of the precentral gyrus does not."""
    cortex = find_cortex(32_492)
    for side, sign in (("left", -1), ("right", 1)):
        mesh = load_surf_mesh(cortex.inflated[side])
        assert (sign * mesh.coordinates[:, 0].mean()) > 20
        folder = cortex.inflated[side].parent
        name = f"S1200.{side[0].upper()}.midthickness_MSMAll.32k_fs_LR.surf.gii"
        places = load_surf_mesh(folder / name).coordinates
        heschl, precentral = (
            np.linalg.norm(places - (sign * x, y, z), axis=1).argmin()
            for x, y, z in ((34, -22, 10), (40, -12, 62))
        )
        assert cortex.folds[side][heschl] > 1
        assert cortex.folds[side][precentral] < -0.3

"""Scores by region of an atlas."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from space_examples import AFFINE, EXAMPLES, INSIDE

from giblet_ray.errors import InputError
from giblet_ray.judge.evaluation import OfSubject, Partition
from giblet_ray.judge.regions import as_csv, by_region, over_subjects, read_atlas
from giblet_ray.spaces.volume import Volume

SPACE = Volume(nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE), INSIDE, "mask.nii.gz")
NAMES = {1: "A1", 2: "V1", 3: "nowhere"}


def of_subject(units_V: np.ndarray, seed: int) -> OfSubject:
    random = np.random.default_rng(seed)
    pearson_V, q_V = random.uniform(-0.1, 0.5, len(units_V)), random.uniform(0, 0.1, len(units_V))
    pearson_V[1] = q_V[1] = np.nan
    ceiling_V = random.uniform(0.5, 0.9, len(units_V))
    normalised_V = np.where(ceiling_V > 0.6, pearson_V / ceiling_V, np.nan)
    return OfSubject(units_V, pearson_V, pearson_V**2, q_V, q_V, ceiling_V, normalised_V)


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    """Of the voxels of two subjects, with a table of names beside it."""
    labels_XYZ = np.arange(INSIDE.size).reshape(INSIDE.shape) % 3
    path = tmp_path / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels_XYZ.astype(np.uint8), AFFINE), path)
    (tmp_path / "atlas.csv").write_text("".join(f"{n},{name}\n" for n, name in NAMES.items()))
    return path


@pytest.mark.parametrize("has_parts", [False, True])
def test_a_region_has_the_means_of_its_units_of_each_subject(atlas: Path, has_parts: bool) -> None:
    labels_V = (np.arange(INSIDE.size).reshape(INSIDE.shape) % 3)[INSIDE]
    subjects = {
        "01": of_subject(np.arange(SPACE.n_units), 0),
        "02": of_subject(np.arange(SPACE.n_units)[::2], 1),
    }
    labels = read_atlas(dict.fromkeys(subjects, SPACE), str(atlas), None)
    shares = {
        name: {("audio",): of.r2_V / 2, ("audio", "text"): of.r2_V / 4}
        for name, of in subjects.items()
    }
    partition = Partition("subsets", "ridge", shares) if has_parts else None
    rows = by_region(subjects, labels, partition)
    assert [(row["subject"], row["region"]) for row in rows] == [
        (subject, name) for subject in subjects for name in NAMES.values()
    ]
    for row in rows:
        of = subjects[row["subject"]]
        number = next(n for n, name in NAMES.items() if name == row["region"])
        inside = [i for i, unit in enumerate(of.units_V) if labels_V[unit] == number]
        assert row["units"] == len(inside)
        scored = [i for i in inside if np.isfinite(of.pearson_V[i])]
        assert (len(inside) == 0) == (row["region"] == "nowhere")
        if not inside:
            assert np.isnan(row["pearson"])
            continue
        assert row["pearson"] == pytest.approx(np.mean(of.pearson_V[scored]))
        assert of.ceiling_V is not None
        assert of.normalised_V is not None
        assert row["ceiling"] == pytest.approx(np.mean(of.ceiling_V[inside]))
        assert row["pearson_of_ceiling"] == pytest.approx(np.nanmean(of.normalised_V[inside]))
        assert row["significant"] == pytest.approx(np.mean(of.q_V[scored] <= 0.05))
        assert ("r2/audio" in row) == has_parts
        if has_parts:
            assert row["r2/audio+text"] == pytest.approx(np.mean(of.r2_V[scored]) / 4)
    over = over_subjects(rows)
    assert over[-1]["region"] == "nowhere"
    assert over[0]["pearson"] > over[1]["pearson"]
    mine = [row["pearson"] for row in rows if row["region"] == over[0]["region"]]
    assert over[0]["pearson"] == pytest.approx(np.mean(mine))
    table = list(csv.DictReader(as_csv(rows).splitlines()))
    assert [row["region"] for row in table] == [row["region"] for row in rows]
    assert float(table[0]["pearson"]) == pytest.approx(rows[0]["pearson"], abs=1e-4)
    assert table[2]["pearson"] == ""


def test_atlases_are_read_of_each_subject_and_refused_off_the_grid(
    atlas: Path, tmp_path: Path
) -> None:
    assert read_atlas({"01": SPACE}, None, None) == {}
    image = nibabel.load(atlas)
    nibabel.save(image, tmp_path / "of-01.nii.gz")
    nibabel.save(image.slicer[:, 1:], tmp_path / "of-02.nii.gz")
    found = read_atlas(
        {"01": SPACE}, f"{tmp_path}/of-{{subject}}.nii.gz", str(tmp_path / "atlas.csv")
    )
    assert [*found["01"].names.values()] == [*NAMES.values()]
    with pytest.raises(InputError, match=r"of-02.nii.gz: volumes of shape \(4, 4, 3\), where"):
        read_atlas({"02": SPACE}, f"{tmp_path}/of-{{subject}}.nii.gz", None)


def test_a_parcel_lies_in_the_region_of_most_of_its_voxels(atlas: Path, tmp_path: Path) -> None:
    parcels = EXAMPLES["parcels"](tmp_path)
    of_parcels = np.asarray(nibabel.load(parcels.choosing["atlas"]).dataobj)
    other = tmp_path / "other.nii.gz"
    of_voxels = np.random.default_rng(5).integers(0, 4, INSIDE.shape).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(of_voxels, AFFINE), other)
    found = read_atlas({"01": parcels.space}, str(other), None)["01"].of_units_V
    for unit, number in enumerate((2, 4, 5, 7)):
        of_parcel = of_voxels[(of_parcels == number) & (of_voxels > 0)]
        counts = np.bincount(of_parcel, minlength=4)
        assert (found[unit] == 0) == (len(of_parcel) == 0)
        assert counts[found[unit]] == counts.max()

"""What a run reads of a data set: what can be used is, what cannot be trained on yet is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_dataset import AFFINE

from giblet_ray.config import TrainJob
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.splits import SETS
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import StoredSpace
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.dataset.windows import Windows
from giblet_ray.dataset.writer import write_blob, write_manifest
from giblet_ray.errors import InputError


def view(
    folder: Path, context_trs: int = 0, head_per_subject: bool = False, **settings: Any
) -> DataView:
    data, parts = DataConfig.model_validate(settings), ("codes", "text")
    how = {"context_trs": context_trs, "head_per_subject": head_per_subject}
    return view_data(Dataset.open(str(folder)), data, parts, **how)


def trs_of(data: DataView, windows: Windows, scan: ScanKey) -> set[int]:
    """Return the BOLD TRs of a scan that windows use."""
    found: set[int] = set()
    for index, start, n in zip(windows.scan, windows.start, windows.length, strict=True):
        if data.scans[index] == scan:
            found |= set(range(start, start + n))
    return found


def change(folder: Path, of_manifest: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest's content, with a checksum that is right."""
    dataset = Dataset.open(str(folder))
    content = dataset.manifest.model_dump(mode="json")
    of_manifest(content)
    write_manifest(dataset.storage, Manifest.model_validate(content))


def test_masked_trs_and_those_a_scan_lacks_neither_train_nor_judge(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    def spoil(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        if key == ScanKey("01", "film"):
            bold[[20, 21, 80]] = np.nan  # volumes without a number, one of them held out
        return bold if key.subject == "01" else bold[:110]  # the other scan ends before its film

    dataset_writer(tmp_path, {"film": 117}, ("01", "02"), change_bold=spoil)
    data = view(tmp_path, window=4)
    sets = {
        name: {tr for span in data.split.spans(name) for tr in range(span.start, span.stop)}
        for name in SETS
    }
    assert 80 in sets["val"]
    sets["train"] -= {0, 1, 2}  # before the lag has passed
    for scan, lacking in (
        (ScanKey("01", "film"), {20, 21, 80}),
        (ScanKey("02", "film"), set(range(110, 117))),
    ):
        for name in SETS:
            assert trs_of(data, data.windows[name], scan) == sets[name] - lacking
    assert data.n_lacking == 3 + 7


def test_windows_with_context_are_as_long_as_batch_and_film_allow(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    dataset_writer(tmp_path, {"film": 300}, ("01",))

    def planned(context_trs: int, batch_trs: int, **settings: Any) -> DataView:
        settings = DataConfig.model_validate({"lag_seconds": 0, **settings})
        dataset = Dataset.open(str(tmp_path))
        parts = ("codes", "text")
        return view_data(dataset, settings, parts, None, context_trs, None, batch_trs)

    trained = planned(0, 64).train
    assert trained.length.tolist() == [1] * trained.n_trs
    data = planned(8, 64)
    assert data.window == 32
    assert data.train.n_trs == trained.n_trs  # the first TRs, without a past, are among them
    n_context = sum(min(8, start) for start in data.train.start)
    assert data.context_share == n_context / (n_context + trained.n_trs)
    assert planned(12, 1000).window == 37  # 27 of them fill the batch
    assert planned(8, 64, window=5).window == 5


def test_every_repeat_is_a_scan_of_its_own(tmp_path: Path, dataset_writer: Callable) -> None:
    dataset_writer(tmp_path, {"one": 90, "two": 80}, ("01",), repeats=2)
    data = view(tmp_path)
    assert data.scans == tuple(
        ScanKey("01", name, repeat) for repeat in (1, 2) for name in ("one", "two")
    )
    assert data.selection.columns == ("codes", "text", "bold/01", "bold/01/2")


def lack_text(content: dict[str, Any]) -> None:
    del content["stimuli"][1]["phases"][0]["shards"]["text"]


def lie_elsewhere(content: dict[str, Any]) -> None:
    content["subjects"]["02"]["space"] = StoredSpace(kind="volume").model_dump()


@pytest.mark.parametrize(
    ("of_manifest", "message"),
    [
        (
            lack_text,
            r"stimulus two has no text/, and the model reads it of every film; leave out",
        ),
        (lie_elsewhere, r"the units of subjects 02 and 01 are not the same"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_trained_on_yet_is_refused_where_a_run_is_planned(
    tmp_path: Path, dataset_writer: Callable, of_manifest: Callable, message: str
) -> None:
    dataset_writer(tmp_path, {"one": 90, "two": 80}, ("01", "02"))
    view(tmp_path)
    change(tmp_path, of_manifest)
    with pytest.raises(InputError, match=message) as error:
        view(tmp_path)
    assert "\n" not in str(error.value)


def test_subjects_of_other_numbers_of_units_are_trained_together_with_a_head_for_each(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    def narrow(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[:, :7] if key.subject == "02" else bold

    dataset_writer(tmp_path, {"film": 117}, ("01", "02"), change_bold=narrow)
    with pytest.raises(InputError, match=r"subject 02 has 7 units, 01 24; choose a model with a"):
        view(tmp_path)
    assert view(tmp_path, subjects=("02",)).units == {"02": 7}
    together = view(tmp_path, head_per_subject=True)
    assert (together.units, together.units_are_shared) == ({"01": 24, "02": 7}, False)
    assert together.units_in_words == "24 of 01, 7 of 02"
    assert together.values["bold"].shape == (24,)


def test_units_of_one_space_that_are_chosen_apart_share_no_head(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    dataset_writer(tmp_path / "film", {"film": 117}, ("01", "02"))
    for name, first in (("01", 0), ("02", 3)):
        np.save(tmp_path / f"{name}.npy", np.arange(first, first + 5))
    chosen = {"voxels": f"{tmp_path}/{{subject}}.npy"}
    with pytest.raises(InputError, match="chooses other units of one subject than of another"):
        view(tmp_path / "film", **chosen)
    apart = view(tmp_path / "film", head_per_subject=True, **chosen)
    assert (apart.units, apart.units_are_shared) == ({"01": 5, "02": 5}, False)
    assert view(tmp_path / "film").units_are_shared


def test_parcels_are_chosen_by_their_names(tmp_path: Path, dataset_writer: Callable) -> None:
    folder = tmp_path / "film"
    dataset_writer(folder, {"film": 117}, ("01", "02"))
    with pytest.raises(
        InputError, match=r"--data.voxels V1: the units of subject 01 have no names"
    ):
        view(folder, voxels="V1")
    called = [f"LH_Vis_{n}" for n in range(10)] + [f"RH_Aud[{n}]" for n in range(14)]
    storage = Dataset.open(str(folder)).storage
    names = {
        subject: write_blob(storage, f"{subject}.json", json.dumps(order).encode())
        for subject, order in (("01", called), ("02", called[::-1]))
    }

    def name_units(content: dict[str, Any]) -> None:
        content["blobs"] = [blob.model_dump() for blob in names.values()] + [
            blob for blob in content["blobs"] if not blob["path"].endswith(".json")
        ]
        for subject, blob in names.items():
            content["subjects"][subject]["unit_names"] = blob.path

    change(folder, name_units)
    data = view(folder, head_per_subject=True, voxels="LH_Vis_3, RH_*, RH_Aud[2]")
    for subject, order in (("01", called), ("02", called[::-1])):
        found = [order[unit] for unit in data.selection.units[subject]]
        assert found == [name for name in order if name == "LH_Vis_3" or name.startswith("RH")]
    one = view(folder, subjects=("01",), voxels="RH_Aud[2]")
    assert one.selection.units["01"].tolist() == [12]
    with pytest.raises(InputError) as error:
        view(folder, head_per_subject=True, voxels="LH_Vis_1,LH_Vis_11")
    assert str(error.value).startswith(
        "--data.voxels: no unit of subject 01 is named 'LH_Vis_11' (did you mean LH_Vis_1?); an"
    )
    with pytest.raises(InputError, match="the units of subjects 02 and 01 are not the same"):
        view(folder, voxels="LH_Vis_1")
    for content, told in (
        (b'["LH"]', "names 1 units, where subject 01 has 24"),
        (b"7", "is no list"),
    ):
        names["01"] = write_blob(storage, f"bad{len(content)}.json", content)
        change(folder, name_units)
        with pytest.raises(InputError, match=told):
            view(folder, subjects=("01",), voxels="LH_Vis_1")


def test_units_are_chosen_by_the_regions_of_an_atlas(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    """Of each subject's own voxels, which a head for each predicts."""
    inside = np.random.default_rng(0).random((2, 5, 4, 3)) < 0.5
    masks = {"01": inside[0], "02": inside[1]}
    n_voxels = {name: int(mask.sum()) for name, mask in masks.items()}

    def cut(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[:, : n_voxels[key.subject]]

    dataset_writer(tmp_path / "data", {"film": 117}, ("01", "02"), 60, mask=masks, change_bold=cut)
    labels = np.arange(60).reshape(5, 4, 3) % 4
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), AFFINE), tmp_path / "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tV1\n2\tV2\n3\tA1\n")
    atlas = f"atlas:{tmp_path}/atlas.nii.gz"
    for regions, numbers in (("::V*", (1, 2)), ("::A1", (3,)), ("", (1, 2, 3))):
        data = view(tmp_path / "data", head_per_subject=True, voxels=atlas + regions)
        for name, mask in masks.items():
            expected = np.flatnonzero(np.isin(labels[mask], numbers))
            assert data.selection.units[name].tolist() == expected.tolist()
    for voxels, told in (
        (f"{atlas}::V3", r"no region of .*atlas.nii.gz is named 'V3'; names with"),
        (f"atlas:{tmp_path}/none.nii.gz", "none.nii.gz: no such file"),
    ):
        with pytest.raises(InputError, match=told) as error:
            view(tmp_path / "data", head_per_subject=True, voxels=voxels)
        assert "\n" not in str(error.value)


def test_context_that_reaches_into_held_out_trs_is_refused(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    dataset_writer(tmp_path, {"film": 117}, ("01",))
    assert view(tmp_path, context_trs=14).context_trs == 14
    with pytest.raises(InputError, match=r"gap_seconds 20: 14 TRs, where the model sees 15 TRs"):
        view(tmp_path, context_trs=15)


def test_context_longer_than_the_shortest_scan_is_refused(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    """Which may end before its film does."""

    def shorten(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold[:31] if key == ScanKey("02", "two") else bold

    films = {"one": 117, "two": 90, "three": 80}
    dataset_writer(tmp_path, films, ("01", "02"), change_bold=shorten)
    split = {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)}
    assert view(tmp_path, context_trs=30, split=split).context_trs == 30
    told = r"sees 31 TRs \(46.5 s\) .* sub 02, two ends 31 TRs .* at most 30 TRs \(45 s\) is accep"
    with pytest.raises(InputError, match=told) as error:
        view(tmp_path, context_trs=31, split=split)
    assert "\n" not in str(error.value)


def test_context_does_not_reach_what_a_table_of_equal_intervals_holds_out(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    """A stretch of a training film that shows what a test film does is kept from training."""
    dataset_writer(tmp_path / "made", {"one": 117, "two": 90, "three": 80}, ("01",))
    table = tmp_path / "same.tsv"
    rows = "group\tstimulus\tstart_seconds\tstop_seconds\n"
    table.write_text(rows + "a\tone\t60\t90\na\tthree\t0\t30\n")
    split = {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)}
    view(tmp_path / "made", context_trs=15, split=split)
    refused = r"gap_seconds 20: 14 TRs, where the model sees 15 TRs"
    view(tmp_path / "made", context_trs=14, split={**split, "same": str(table)})
    with pytest.raises(InputError, match=refused):
        view(tmp_path / "made", context_trs=15, split={**split, "same": str(table)})
    found = [
        {"group": "a", "stimulus": "one", "start_seconds": 60.0, "stop_seconds": 90.0},
        {"group": "a", "stimulus": "three", "start_seconds": 0.0, "stop_seconds": 30.0},
    ]
    manifest = Dataset.open(str(tmp_path / "made")).manifest
    listed = manifest.model_copy(update={"provenance": {**manifest.provenance, "same": found}})
    write_manifest(Storage.at(str(tmp_path / "made")), listed)
    with pytest.raises(InputError, match=refused):
        view(tmp_path / "made", context_trs=15, split=split)
    (tmp_path / "none.tsv").write_text(rows)
    view(tmp_path / "made", context_trs=15, split={**split, "same": str(tmp_path / "none.tsv")})


FILMS = {"one": 117, "two": 201, "three": 123, "four": 120}
CHOSEN: dict[str, dict[str, Any]] = {
    "blocks": {},
    "folds": {"kind": "blocks", "folds": 3},
    "stimuli": {"kind": "stimuli", "val_stimuli": ("three",), "test_stimuli": ("four",)},
    "folds of stimuli": {"kind": "stimuli", "folds": 4},
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable) -> Path:
    """Films of two subjects' scans with volumes that are masked, alone and in stretches."""
    random = np.random.default_rng(0)

    def mask(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        n = len(bold)
        bold[random.random(n) < 0.05] = np.nan
        start = random.integers(n - 7)
        bold[start : start + 7] = np.nan
        return bold

    folder = tmp_path_factory.mktemp("interrupted")
    dataset_writer(folder, FILMS, ("01", "02"), change_bold=mask)
    return folder


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(CHOSEN)),
    fold=st.integers(1, 3),
    lag_seconds=st.sampled_from([0, 1.5, 4.5]),
    context_trs=st.integers(0, 14),
    window=st.one_of(st.none(), st.integers(1, 60)),
    batch_trs=st.integers(2, 200),
)
def test_what_trains_is_trained_on_once_and_nothing_of_it_is_seen_where_models_are_judged(
    interrupted: Path,
    kind: str,
    fold: int,
    lag_seconds: float,
    context_trs: int,
    window: int | None,
    batch_trs: int,
) -> None:
    """And nothing that judges is seen, not even as context, where models train."""
    chosen = dict(CHOSEN[kind])
    if "folds" in chosen:
        chosen["fold"] = fold
    content = {"split": chosen, "lag_seconds": lag_seconds, "window": window}
    data = view_data(
        Dataset.open(str(interrupted)),
        DataConfig.model_validate(content),
        ("codes", "text"),
        context_trs=context_trs,
        batch_trs=batch_trs,
    )
    seen: dict[str, set[tuple[str, int]]] = {}
    for name in SETS:
        windows = data.windows[name]
        assert windows.length.max() <= data.window
        trained = Counter(
            (scan, tr)
            for scan, start, n in zip(windows.scan, windows.start, windows.length, strict=True)
            for tr in range(start, start + n)
        )
        wanted = {
            (index, tr)
            for index, scan in enumerate(data.scans)
            for span in data.split.spans(name)
            if span.stimulus == scan.stimulus
            for tr in np.flatnonzero(data.dataset.usable_trs(scan))
            if span.start <= tr < span.stop and (name != "train" or tr >= data.lag_trs)
        }
        assert set(trained) == wanted
        assert set(trained.values()) == {1}
        trs, exists = windows.rows(data.lag_trs, context_trs)
        stimulus = [data.scans[scan].stimulus for scan in windows.scan]
        seen[name] = {
            (stimulus[row], int(tr))
            for row, of_window in enumerate(np.where(exists, trs, -1))
            for tr in of_window[of_window >= 0]
        }
    assert not seen["train"] & (seen["val"] | seen["test"])
    assert not seen["val"] & seen["test"]


def test_number_that_is_not_finite_masks_its_unit_and_training_goes_on(
    tmp_path: Path, dataset_writer: Callable, train_locally: Callable, tiny_model: dict[str, Any]
) -> None:
    """One in a held-out TR, and one volume without any: an epoch was the end of it."""
    found = []
    for name in ("as made", "spoilt"):

        def spoil(key: ScanKey, bold: np.ndarray, name: str = name) -> np.ndarray:
            if name == "spoilt":
                bold[80, 5] = np.inf
                bold[30] = np.nan
            return bold

        folder = tmp_path / name
        dataset_writer(folder, {"film": 117}, ("01",), change_bold=spoil)
        job = TrainJob(
            dataset=str(folder),
            model=tiny_model,
            train={"epochs": 2, "batch_trs": 16},
        )
        metrics = train_locally(job, tmp_path / f"run of {name}").reports
        assert all(np.isfinite(list(epoch.values())).all() for epoch in metrics)
        found.append(metrics[-1]["val/pearson_mean"])
    assert found[0] != found[1]


@pytest.mark.parametrize("kind", ["blocks", "stimuli", "repeats"])
def test_neither_lag_nor_context_moves_the_sets(
    tmp_path: Path, dataset_writer: Callable, kind: str
) -> None:
    dataset_writer(tmp_path, {"one": 117, "two": 90, "three": 80}, ("01",), repeats=3)
    chosen = {"val_stimuli": ("two",), "test_stimuli": ("three",)} if kind == "stimuli" else {}
    if kind == "repeats":
        chosen = {"val_repeats": (2,), "test_repeats": (3,)}
    views = [
        view(tmp_path, context, lag_seconds=lag, split={"kind": kind, **chosen})
        for lag, context in ((0, 0), (4.5, 0), (9, 0), (0, 14))
    ]
    for other in views[1:]:
        assert other.split == views[0].split
        for one, another in zip(views[0].uses, other.uses, strict=True):
            np.testing.assert_array_equal(one, another)
        for name in ("val", "test"):
            np.testing.assert_array_equal(views[0].windows[name].start, other.windows[name].start)
    assert {each.test_film_is_seen for each in (view.split for view in views)} == {
        kind == "repeats"
    }


def test_one_film_under_two_names_is_not_held_out_of_itself(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    dataset_writer(tmp_path, {"one": 117, "two": 90, "three": 80}, ("01",))
    split = {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)}

    def show_other_films(content: dict[str, Any]) -> None:
        for index, stimulus in enumerate(content["stimuli"]):
            stimulus["sources"]["film"]["sha256"] = f"{index:064x}"

    def show_one_film_again(content: dict[str, Any]) -> None:
        first, _, third = (stimulus["sources"]["film"] for stimulus in content["stimuli"])
        third.update(name="another.mp4", sha256=first["sha256"])

    change(tmp_path, show_other_films)
    view(tmp_path, split=split)
    change(tmp_path, show_one_film_again)
    with pytest.raises(InputError, match=r"one and three are the same film .* TR 0 trains in one"):
        view(tmp_path, split=split)

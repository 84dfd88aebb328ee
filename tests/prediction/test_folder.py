"""What may be put into a folder, and what is left of it when that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import WrittenFile
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.folder import (
    Films,
    Model,
    Predicted,
    Predictions,
    finished_predictions,
    whole_or_nothing,
    write_record,
)


def predictions(**changes: Any) -> Predictions:
    """Predictions of two stimuli, with what is to differ."""
    fields: dict[str, Any] = {
        "model": model("a"),
        "dataset": Films(location="data", checksum="d" * 64),
        "tr_seconds": 1.5,
        "lag_trs": 3,
        "value": ValueType(dtype="float32", shape=(24,)),
        "masked_voxels": 0,
        "space": {"kind": "array", "endings": [".npy"], "files": {}},
        "stimuli": tuple(Predicted(name=name, n_trs=9, first_bold_tr=3) for name in ("one", "two")),
    }
    return Predictions(**{**fields, **changes})


def model(weights: str) -> Model:
    return Model(
        asked="runs/night",
        version=None,
        run_id=None,
        checkpoint="runs/night/epoch-0001",
        weights=weights * 32,
        score=0.1,
    )


def write(storage: Storage, planned: Predictions) -> Predictions:
    """Write files that hold their names, and the record."""
    with whole_or_nothing(storage, planned.paths):
        stimuli = []
        for stimulus in planned.stimuli:
            path = f"{stimulus.name}.parquet"
            with storage.write(path) as stream:
                stream.write(path.encode())
            shard = WrittenFile(path=path, bytes=len(path), sha256=storage.sha256(path))
            stimuli.append(stimulus.model_copy(update={"files": {"rows": (shard,)}}))
        made = planned.model_copy(update={"stimuli": tuple(stimuli)})
        write_record(storage, made)
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_finished_predictions_are_found_again_wherever_the_model_was_loaded_from(
    tmp_path: Path,
) -> None:
    storage = Storage.at(str(tmp_path / "out"))
    assert finished_predictions(storage, predictions(), overwrite=False) is None
    made = write(storage, predictions())
    assert names(tmp_path / "out") == {"one.parquet", "two.parquet", "predictions.json"}
    elsewhere = model("a").model_copy(update={"asked": "models:/x@champion"})
    assert finished_predictions(storage, predictions(model=elsewhere), overwrite=False) == made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": model("b")}, "its model is aaaaaaaaaaaa, not bbbbbbbbbbbb"),
        (
            {"dataset": Films(location="data", checksum="e" * 64)},
            "its data set is dddddddddddd, not eeeeeeeeeeee",
        ),
        ({"subject": "02"}, "its subject is None, not 02"),
        ({"stimuli": predictions().stimuli[:1]}, "its stimuli is one, two, not one"),
        (
            {
                "space": {
                    "kind": "volume",
                    "endings": [".nii.gz"],
                    "files": {"mask.nii.gz": "f" * 64},
                }
            },
            "its space is .*array.*, not .*volume",
        ),
    ],
    ids=["model", "data set", "subject", "stimuli", "space"],
)
def test_other_predictions_are_kept_unless_they_may_be_replaced(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    storage = Storage.at(str(tmp_path / "out"))
    write(storage, predictions())
    with pytest.raises(InputError, match=f"holds other predictions: {message}"):
        finished_predictions(storage, predictions(**changes), overwrite=False)
    assert finished_predictions(storage, predictions(**changes), overwrite=True) is None


def test_replaced_predictions_leave_no_file_behind(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "out"))
    write(storage, predictions())
    write(storage, predictions(stimuli=predictions().stimuli[1:]))
    assert names(tmp_path / "out") == {"two.parquet", "predictions.json"}


def test_truncated_file_is_made_again(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "out"))
    write(storage, predictions())
    (tmp_path / "out/two.parquet").write_text("tw")
    assert finished_predictions(storage, predictions(), overwrite=False) is None


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "out"))

    def fail() -> None:
        with whole_or_nothing(storage, predictions().paths):
            assert names(tmp_path / "out") == {"UNFINISHED"}
            with storage.write("one.parquet") as stream:
                stream.write(b"whole")
            with storage.write("two.parquet") as stream:
                stream.write(b"half")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path / "out") == set()


def test_what_a_killed_job_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    storage = Storage.at(str(out))
    with whole_or_nothing(storage, predictions().paths):
        mark = (out / "UNFINISHED").read_bytes()
    # As kill -9 leaves it: one file whole, one half, the mark; and a file of the user's.
    (out / "UNFINISHED").write_bytes(mark)
    for name in ("one.parquet", "two.parquet.0123abcd.part", "three.parquet", "notes.txt"):
        (out / name).touch()
    only_two = predictions(stimuli=predictions().stimuli[1:])
    assert finished_predictions(storage, only_two, overwrite=False) is None
    write(storage, only_two)
    assert names(out) == {"two.parquet", "predictions.json", "three.parquet", "notes.txt"}


def test_record_that_lists_files_elsewhere_deletes_none_of_them(tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine.parquet"
    mine.touch()
    made = write(Storage.at(str(out)), predictions())
    shard = made.stimuli[0].files["rows"][0].model_copy(update={"path": "../mine.parquet"})
    planted = made.stimuli[0].model_copy(update={"files": {"rows": (shard,)}})
    write_record(Storage.at(str(out)), made.model_copy(update={"stimuli": (planted,)}))
    write(Storage.at(str(out)), predictions())
    assert mine.exists()


def test_folder_of_something_else_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds no predictions, and something else \(notes"):
            finished_predictions(Storage.at(str(tmp_path)), predictions(), overwrite)
    with pytest.raises(InputError, match=r"notes.txt: is a file; a folder is expected"):
        finished_predictions(Storage.at(str(tmp_path / "notes.txt")), predictions(), False)


@pytest.mark.parametrize("content", ["{", '{"of_another_release": 1}'])
def test_files_whose_record_cannot_be_read_are_never_mixed_with_others(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "predictions.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"its predictions.json cannot be read: .*new or empt"):
            finished_predictions(Storage.at(str(tmp_path)), predictions(), overwrite)


def test_a_folder_that_is_claimed_is_still_a_new_one(tmp_path: Path) -> None:
    with claimed(str(tmp_path), "--out"):
        assert finished_predictions(Storage.at(str(tmp_path)), predictions(), False) is None

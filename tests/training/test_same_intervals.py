"""The intervals that ``data.split.same`` names are kept with the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from local_training import LocalTraining

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.dataset.reader import Span
from giblet_ray.errors import InputError
from giblet_ray.judge.opened import open_run
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import kept_same, run_record

HEADER = "group\tstimulus\tstart_seconds\tstop_seconds\n"
TABLE = HEADER + "credits\tone\t0\t12\ncredits\ttwo\t112.5\t124.5\n"


@pytest.fixture
def begun(
    local_training: Callable[..., LocalTraining], tmp_path: Path
) -> tuple[LocalTraining, Path, RunRecord]:
    """An epoch of a run, its table, and its record."""
    table = tmp_path / "same.tsv"
    table.write_text(TABLE)
    split = {"same": str(table), "blocks": 1}
    training = local_training(data={"split": split}, train={"epochs": 1, "batch_trs": 32})
    training.train(tmp_path / "run")
    return training, table, find_checkpoint(str(tmp_path / "run")).record


def test_a_run_is_judged_and_goes_on_without_the_file(
    begun: tuple[LocalTraining, Path, RunRecord], tmp_path: Path
) -> None:
    training, table, record = begun
    split = training.data.split
    assert [each.spans for each in record.same] == [(Span("one", 0, 8), Span("two", 75, 83))]
    assert plan_data(training.job, same=()).split != split
    table.unlink()
    assert open_run(str(tmp_path / "run")).data.split == split
    with pytest.raises(InputError, match=r"same\.tsv: cannot be read"):
        plan_data(training.job)
    again = plan_data(training.job, same=kept_same(training.job, record.same))
    assert again.split == split
    run_record(training.job, again, record)


def test_another_table_is_refused_and_a_moved_one_is_not(
    begun: tuple[LocalTraining, Path, RunRecord], tmp_path: Path
) -> None:
    training, table, record = begun
    table.write_text(TABLE.replace("112.5", "111"))
    assert kept_same(training.job, record.same) is None
    with pytest.raises(InputError, match=r"same\.tsv: other intervals than run .* started with"):
        run_record(training.job, plan_data(training.job), record)
    moved = tmp_path / "moved.tsv"
    moved.write_text(TABLE)
    split = training.job.data.split.model_copy(update={"same": str(moved)})
    data = training.job.data.model_copy(update={"split": split})
    job = training.job.model_copy(update={"data": data})
    run_record(job, plan_data(job), record)

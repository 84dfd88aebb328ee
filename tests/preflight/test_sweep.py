"""What is said of a sweep before its first trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.preflight.placement import look_at_cluster
from giblet_ray.preflight.sweep import check_sweep
from giblet_ray.training.data import plan_data
from giblet_ray.tuning.space import parse_space


def test_trials_that_run_at_a_time_are_counted_together(
    cluster: None, arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> None:
    """Three of a worker each, on a machine with room for eight: one fits its memory alone."""
    (machine,) = look_at_cluster(look_at_gpus=False).machines
    half_of_it = (machine.memory or 0) // 2 // (16 * (9 + 2 + 24))
    dataset = arrays_and_dataset[1]
    lines: list[str] = []
    job = TuneJob.model_validate(
        {
            "dataset": dataset.storage.location,
            "model": tiny_model,
            "train": {"epochs": 1, "batch_trs": 16},
            "scaling": {"num_workers": 1, "cpus_per_worker": 0.5},
            "sweep": {
                "space": {"model.head_dim": f"16,{half_of_it}"},
                "max_concurrent": 3,
            },
        }
    )
    space = parse_space(job.sweep.space or {}, job)
    data = plan_data(job)
    check_sweep(job, space, data, False, lines.append)
    assert lines[0] == (f"the largest trial: model.head_dim={half_of_it}, 3 of which run at a time")
    assert "; 3 on one machine" in lines[2]
    assert lines[-1].startswith(
        "note: trials as large as that will fail, 3 of which run at a time: host memory: "
    )
    alone = job.model_copy(update={"sweep": job.sweep.model_copy(update={"max_concurrent": 1})})
    lines.clear()
    check_sweep(alone, space, data, False, lines.append)
    assert not any(line.startswith("note:") for line in lines)


def test_a_sweep_that_goes_on_needs_its_table_of_same_intervals_no_more(
    cluster: None,
    arrays_and_dataset: tuple[Any, Dataset],
    tiny_model: dict[str, Any],
    tmp_path: Path,
) -> None:
    table = tmp_path / "same.tsv"
    head = "group\tstimulus\tstart_seconds\tstop_seconds\n"
    table.write_text(f"{head}credits\tone\t0\t12\ncredits\ttwo\t112.5\t124.5\n")
    job = TuneJob.model_validate(
        {
            "dataset": arrays_and_dataset[1].storage.location,
            "model": tiny_model,
            "data": {"modalities": ["text"], "split": {"same": str(table)}},
            "sweep": {"space": {"model.head_dim": "16,32"}},
        }
    )
    space, data = parse_space(job.sweep.space or {}, job), plan_data(job)
    table.unlink()
    lines: list[str] = []
    check_sweep(job, space, data, False, lines.append)
    assert lines[0].startswith("the largest trial: model.head_dim=32")

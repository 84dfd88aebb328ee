"""Files that are damaged between two jobs, or while one runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_cluster import STEPS_PER_EPOCH, Cluster, Training, assert_same_weights, saved

pytestmark = pytest.mark.timeout(900)


def test_truncated_checkpoint_is_passed_over_aloud_and_the_weights_are_the_same(
    raylets: Cluster, start: Callable[..., Training], undisturbed: Path
) -> None:
    raylets.have(2)
    job = start()
    job.wait_for(lambda: job.step > 2 * STEPS_PER_EPOCH, "the third epoch")
    job.kill()
    raylets.wait_until_idle()
    damaged = saved(job.run)[-1] / "model.safetensors"
    os.truncate(damaged, damaged.stat().st_size // 2)
    lines = start().end().splitlines()
    (line,) = [line for line in lines if "going back to the checkpoint before it" in line]
    assert f"{damaged.parent.name}/model.safetensors: damaged: checksum" in line
    assert any("continuing after epoch" in line for line in lines)
    assert_same_weights(undisturbed, job.run)


def test_file_that_changes_under_a_running_job_is_named(
    raylets: Cluster, words: list[str], tmp_path: Path
) -> None:
    raylets.have(2)
    *settings, dataset = words
    copy = Path(shutil.copytree(dataset, tmp_path / "data"))
    streamed = ("--data.residence", "stream", "--train.epochs", "200")
    job = Training(raylets.environment, tmp_path / "job", [*settings, str(copy), *streamed])
    job.wait_for(lambda: job.step > STEPS_PER_EPOCH, "the second epoch")
    with (copy / "frames/two.parquet").open("r+b") as shard:
        shard.seek(100_000)
        (byte,) = shard.read(1)
        shard.seek(100_000)
        shard.write(bytes([byte ^ 1]))
    last = job.end(2).splitlines()[-1]
    assert last.startswith("error: ")
    assert "frames/two.parquet: changed since" in last

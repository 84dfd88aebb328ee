"""Workers that die at any moment."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fault_cluster import Cluster, Training, assert_same_weights, saved

KILLS = 10
Moment = Callable[[Training, random.Random], None]


def in_compute(job: Training, chance: random.Random) -> None:
    time.sleep(chance.uniform(0, 1.5))


def in_reporting(job: Training, chance: random.Random) -> None:
    before = set(saved(job.run))
    job.wait_for(lambda: set(saved(job.run)) - before, "a new checkpoint")
    time.sleep(chance.uniform(0, 0.05))


def in_writing(job: Training, chance: random.Random) -> None:
    def half_written() -> bool:
        return any(not (path / "record.json").exists() for path in job.run.glob("epoch-*"))

    job.wait_for(half_written, "a checkpoint being written")
    time.sleep(chance.uniform(0, 0.02))


def in_writing_of_shards(job: Training, chance: random.Random) -> None:
    def other_worker_s_alone() -> bool:
        return any(
            (path / "head-2-of-2.safetensors").exists() and not (path / "record.json").exists()
            for path in job.run.glob("epoch-*")
        )

    job.wait_for(other_worker_s_alone, "a checkpoint that one worker has written its units of")


def told(lines: list[str]) -> list[str]:
    """Return what a job has said of lost workers: Ray may look at the one that is left first."""
    said = re.compile(
        r"worker [01] (was lost|lost its connection to another); going on from the latest checkpoi"
    )
    return [line for line in lines if said.match(line)]


def kill_workers(
    raylets: Cluster, job: Training, moments: Sequence[Moment], chance: random.Random
) -> None:
    """Kill one of a job's workers at each of some moments, once it has started again."""
    for number, moment in enumerate(moments, 1):
        job.wait_for(
            lambda n=number: sum("training with" in line for line in job.lines) >= n,
            f"start {number}",
        )
        moment(job, chance)
        chance.choice(raylets.workers()).kill()
        job.wait_for(lambda n=number: len(told(job.lines)) >= n, "the loss told")


@pytest.mark.timeout(900)
def test_worker_killed_ten_times_ends_with_the_weights_of_an_undisturbed_run(
    raylets: Cluster, start: Callable[..., Training], undisturbed: Path
) -> None:
    raylets.have(2)
    chance = random.Random(0)
    moments = [in_compute, in_reporting, in_writing] * (KILLS // 3) + [in_writing]
    chance.shuffle(moments)
    job = start("--scaling.max_failures", str(KILLS))
    kill_workers(raylets, job, moments, chance)
    assert len(told(job.end().splitlines())) == KILLS
    assert_same_weights(undisturbed, job.run)


@pytest.mark.timeout(600)
def test_workers_that_share_out_the_head_go_on_from_the_units_of_each(
    raylets: Cluster, start: Callable[..., Training]
) -> None:
    raylets.have(2)
    chance = random.Random(0)
    shared = ["--model.shard_head", "on", "--scaling.max_failures", "3"]
    undisturbed = start(*shared, "--name", "undisturbed")
    undisturbed.end()
    job = start(*shared)
    kill_workers(raylets, job, [in_compute, in_reporting, in_writing_of_shards], chance)
    job.end()
    assert (saved(job.run)[-1] / "head-1-of-2.safetensors").exists()
    assert_same_weights(undisturbed.run.parent / "undisturbed", job.run)

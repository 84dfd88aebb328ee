"""Ray on this machine alone: what a job computes without processes of Ray's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
import ray.data


@pytest.mark.usefixtures("cluster")
def test_ray_data_computes_without_actors_of_its_own() -> None:
    def total(n: int) -> int:
        return ray.data.range(n).map_batches(lambda batch: {"id": batch["id"] + 1}).sum("id")

    with ThreadPoolExecutor(2) as threads:  # which share out the machine
        assert list(threads.map(total, [100, 1000])) == [5050, 500500]
    named = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    assert not named & {"AutoscalingCoordinator", "datasets_stats_actor"}

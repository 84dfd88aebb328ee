"""Whether workers find room."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from giblet_ray.errors import InputError
from giblet_ray.preflight.placement import (
    Cluster,
    Machine,
    check_gpu,
    check_host,
    look_at_cluster,
    placement,
)

GB = 10**9
HEAD = Machine("head", cpus=4, gpus=0, memory=16 * GB, gpu_memory=None)
BIG = Machine("big", cpus=16, gpus=8, memory=128 * GB, gpu_memory=80 * GB)


def test_room_is_counted_machine_by_machine() -> None:
    two = Cluster((HEAD, HEAD), (), free_cpus=8, free_gpus=0)
    assert two.room(3, 0) == 2
    assert two.room(0.5, 0) == 16
    assert two.room(5, 0) == 0
    assert Cluster((HEAD, BIG), (), 20, 8).room(1, 1) == 8


def test_placement_says_what_is_waited_for() -> None:
    said = placement(Cluster((HEAD,), (), 4, 0), 4, 4, 1, 0)
    assert said == "4 workers of 1 CPU; room for 4 on 1 machine: starts at once"
    assert "waits until more than 2 CPUs are free" in placement(
        Cluster((HEAD,), (), 2, 0), 4, 4, 1, 0
    )
    grows = Cluster((HEAD,), (Machine("gpu", 16, 8, None, None, count=3),), 4, 0)
    said = placement(grows, 2, 24, 1, 1)
    assert "2 to 24 workers of 1 CPU + 1 GPU; room for 0 on 1 machine, for 24 when" in said
    assert said.endswith("waits until machines with room join")


def test_workers_that_share_a_machine_share_its_memory() -> None:
    cluster = Cluster((HEAD,), (), 4, 0)
    assert "2 on one machine, head" in check_host(cluster, 2, 1, 0, 7 * GB, GB)
    with pytest.raises(InputError, match=r"cpus_per_worker 2, so that 2 share .*num_workers 2"):
        check_host(cluster, 3, 1, 0, 7 * GB, GB)
    with pytest.raises(InputError, match=r"16\.50 GB per worker; .* head, which has 16\.00 GB$"):
        check_host(cluster, 1, 1, 0, 16_500_000_000, 0)


def test_trainings_that_run_side_by_side_share_it_too() -> None:
    cluster = Cluster((HEAD,), (), 4, 0)
    assert "3 on one machine, head" in check_host(cluster, 1, 1, 0, 5 * GB, GB, trainings=3)
    said = r"4 on one machine, .*: use --scaling.cpus_per_worker 2, so that 2 share a machine$"
    with pytest.raises(InputError, match=said):
        check_host(cluster, 1, 1, 0, 7 * GB, GB, trainings=9)
    with pytest.raises(InputError, match=r"so that 2 share a machine, or --scaling.num_workers 2$"):
        check_host(cluster, 3, 1, 0, 7 * GB, GB, trainings=2)


def test_gpu_is_compared_with_the_largest_there_may_be() -> None:
    small = Machine("small", 8, 1, 60 * GB, 16 * GB, gpu_seen=True)
    cluster = Cluster((HEAD, small), (BIG,), 20, 8)
    assert "24.00 GB of 80.00 GB (assumed of its kind) on big" in check_gpu(cluster, 1, 24 * GB)
    with pytest.raises(InputError, match=r"90\.00 GB of 80\.00 GB .* on big"):
        check_gpu(cluster, 1, 90 * GB)
    assert not cluster.gpus_were_seen
    assert Cluster((HEAD, small), (), 12, 1).gpus_were_seen
    assert "no machine with a GPU is there yet" in check_gpu(Cluster((HEAD,), (), 4, 0), 1, GB)


def test_cluster_that_is_connected_to_is_described(cluster: None) -> None:
    found = look_at_cluster(look_at_gpus=False)
    (machine,) = found.machines
    assert machine.cpus == 4
    assert machine.gpu_memory is None
    assert (machine.memory or 0) > GB
    assert found.growth == ()


def test_autoscaler_tells_what_it_may_start(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray up` leaves its settings on the head."""
    types = {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "gpu": {
            "resources": {"CPU": 8, "GPU": 1, "accelerator_type:L4": 1, "memory": 30 * GB},
            "max_workers": 5,
        },
    }
    config = {"max_workers": 3, "head_node_type": "head", "available_node_types": types}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    (growth,) = look_at_cluster(look_at_gpus=False).growth
    assert (growth.name, growth.count, growth.gpus) == ("gpu", 3, 1)
    assert growth.memory == 30 * GB
    assert growth.gpu_memory == 22 * GB

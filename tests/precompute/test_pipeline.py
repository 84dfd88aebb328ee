import pytest

from giblet_ray.precompute import pipeline


@pytest.mark.parametrize("n_cpus", [1, 2, 3, 5, 7, 8, 16, 64])
@pytest.mark.parametrize("n_gpus", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("n_work", [(40,), (40, 20), (3, 40, 20), (1, 2, 3, 4, 40, 20)])
def test_all_kinds_of_work_fit_into_a_cluster_at_once(n_cpus, n_gpus, n_work):
    work = {f"part{index}": n for index, n in enumerate(n_work)}
    slots = pipeline.share_cluster(n_cpus, n_gpus, work)
    assert slots.pools.keys() == work.keys()
    assert all(1 <= pool.size <= work[part] for part, pool in slots.pools.items())
    tasks = 2
    n_actors = sum(pool.size for pool in slots.pools.values())
    assert (n_actors + tasks) * slots.num_cpus <= n_cpus
    (share,) = {pool.gpus for pool in slots.pools.values()}
    # A share is never cut in two by the border between two GPUs.
    assert n_actors <= n_gpus * int(1 / share) if n_gpus else share == 0


def test_the_part_with_most_work_gets_what_the_others_leave():
    slots = pipeline.share_cluster(64, 8, {"codes": 40, "text": 20})
    assert slots.pools == {"codes": (6, 1.0), "text": (2, 1.0)}


def test_no_more_actors_than_work():
    slots = pipeline.share_cluster(64, 0, {"codes": 3})
    assert slots.pools["codes"].size == 3

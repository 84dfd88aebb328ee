import pytest

from giblet_ray.precompute import pipeline


@pytest.mark.parametrize("n_cpus", [1, 2, 3, 5, 7, 8, 16, 64])
@pytest.mark.parametrize("n_gpus", [0, 1, 2, 8])
@pytest.mark.parametrize("large", [False, True])
def test_all_kinds_of_work_fit_into_a_cluster_at_once(n_cpus, n_gpus, large):
    slots = pipeline.share_cluster(n_cpus, n_gpus, 40, 20, large)
    codecs, embedders = slots.codecs, slots.embedders
    assert codecs.size >= 1
    assert embedders.size >= 1
    tasks = 2
    assert (codecs.size + embedders.size + tasks) * slots.num_cpus <= n_cpus
    assert codecs.size * codecs.gpus + embedders.size * embedders.gpus <= n_gpus
    assert (codecs.gpus > 0) == (n_gpus > 0)
    assert (embedders.gpus > 0) == (n_gpus > 0 and large)


def test_no_more_actors_than_work():
    slots = pipeline.share_cluster(64, 0, 3, 0, False)
    assert (slots.codecs.size, slots.embedders.size) == (3, 0)

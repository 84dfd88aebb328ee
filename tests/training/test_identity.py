"""Whether a run can go on in the order that it began with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from giblet_ray.errors import InputError
from giblet_ray.training.identity import check_order, new_order


def test_order_suits_where_the_rows_lie(local_training: Callable[..., Any]) -> None:
    training = local_training(scaling={"num_workers": (2, 3)})
    job, data = training.job, training.data
    assert new_order(job, replace(data, residence="memory")).streamed is None
    streamed = new_order(job, replace(data, residence="stream")).streamed
    assert (streamed.row_group_trs, streamed.lanes) == (16, 3)


def test_more_workers_than_the_last_batch_has_windows_for_are_refused(
    local_training: Callable[..., Any],
) -> None:
    alone = local_training(train={"batch_size": 16})
    data = replace(alone.data, residence="memory")
    order = new_order(alone.job, data)
    most = order.last_batch // 2  # BatchNorm needs two windows of each worker
    assert most < 16 // 2
    fits, many = (
        local_training(train={"batch_size": 16}, scaling={"num_workers": workers}).job
        for workers in (most, most + 1)
    )
    check_order(fits, data, order)
    with pytest.raises(InputError, match=f"--scaling.num_workers {most + 1}: .* at most {most}$"):
        check_order(many, data, order)


def test_order_of_memory_is_streamed_only_if_asked_for(local_training: Callable[..., Any]) -> None:
    training = local_training()
    job = training.job
    order = new_order(job, replace(training.data, residence="memory"))
    streamed = replace(training.data, residence="stream", reason="9 GB against 1 GB of room")
    with pytest.raises(InputError, match=r"now it is 9 GB against 1 GB .*--data.residence stream"):
        check_order(job, streamed, order)
    asked = job.model_copy(update={"data": job.data.model_copy(update={"residence": "stream"})})
    check_order(asked, streamed, order)

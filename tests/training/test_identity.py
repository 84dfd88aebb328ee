"""Whether a run can go on in the order that it began with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from giblet_ray.errors import InputError
from giblet_ray.training.config import TrainConfig
from giblet_ray.training.identity import (
    check_batch,
    check_order,
    new_order,
    run_record,
    sized,
    smallest_batch,
)


def test_order_suits_where_the_rows_lie(local_training: Callable[..., Any]) -> None:
    training = local_training(scaling={"num_workers": (2, 3)})
    job, data = training.job, training.data
    assert new_order(job, replace(data, residence="memory")).streamed is None
    streamed = new_order(job, replace(data, residence="stream")).streamed
    assert (streamed.row_group_trs, streamed.lanes) == (16, 3)


@pytest.mark.parametrize(("batch_trs", "epochs"), [(4, 5), (16, 10), (128, 60)])
def test_little_data_is_passed_more_often(
    local_training: Callable[..., Any], batch_trs: int, epochs: int
) -> None:
    """Some 200 training TRs are 2 steps of 128, 12 of 16, or many of 4."""
    training = local_training(train={"epochs": 0, "batch_trs": batch_trs})
    assert training.job.train.epochs == epochs
    given = training.job.model_copy(update={"train": TrainConfig(epochs=3)})
    assert sized(given, training.data).train.epochs == 3


def test_more_workers_than_the_last_batch_has_windows_for_are_refused(
    local_training: Callable[..., Any],
) -> None:
    alone = local_training(train={"batch_trs": 16})
    data = replace(alone.data, residence="memory")
    order = new_order(alone.job, data)
    most = order.last_batch // 2  # BatchNorm needs two windows of each worker
    assert most < 16 // 2
    fits, many = (
        local_training(train={"batch_trs": 16}, scaling={"num_workers": workers}).job
        for workers in (most, most + 1)
    )
    check_order(fits, data, order)
    with pytest.raises(InputError, match=f"--scaling.num_workers {most + 1}: .* at most {most}$"):
        check_order(many, data, order)


@pytest.mark.parametrize(("norm", "least"), [("batch", 2), ("layer", 1)])
def test_batch_norm_alone_needs_two_windows_of_each_worker(
    local_training: Callable[..., Any], norm: str, least: int
) -> None:
    training = local_training(model={"norm": norm})  # windows of one TR
    assert smallest_batch(training.job, training.data) == least


def test_batch_of_too_few_windows_is_refused(local_training: Callable[..., Any]) -> None:
    groups = {"data": {"window": 12}, "scaling": {"num_workers": 2}}
    two = local_training(**groups, train={"batch_trs": 24})
    check_batch(two.job, two.data)
    assert new_order(two.job, two.data).batch_size == 2
    one = local_training(**groups, train={"batch_trs": 23})
    told = r"--train.batch_trs 23: 2 workers .* at least 2 windows, of 12 TRs: use at least 24, or"
    with pytest.raises(InputError, match=told):
        check_batch(one.job, one.data)


def test_run_does_not_go_on_with_windows_of_another_length(
    local_training: Callable[..., Any],
) -> None:
    """Such as another release of this package may choose."""
    training = local_training()
    begun = run_record(training.job, training.data, None)
    run_record(training.job, training.data, begun)
    longer = local_training(data={"window": 4}).data
    told = rf"started with {len(training.data.train)} windows of at most 1 TRs, .* of 4: give"
    with pytest.raises(InputError, match=told):
        run_record(training.job, longer, begun)


def test_order_of_memory_is_streamed_only_if_asked_for(local_training: Callable[..., Any]) -> None:
    training = local_training()
    job = training.job
    order = new_order(job, replace(training.data, residence="memory"))
    streamed = replace(training.data, residence="stream", reason="9 GB against 1 GB of room")
    with pytest.raises(InputError, match=r"now it is 9 GB against 1 GB .*--data.residence stream"):
        check_order(job, streamed, order)
    asked = job.model_copy(update={"data": job.data.model_copy(update={"residence": "stream"})})
    check_order(asked, streamed, order)

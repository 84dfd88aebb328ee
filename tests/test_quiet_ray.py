"""What a cluster tells its drivers: a user sees what they can act on."""

from __future__ import annotations

import time

import pytest
import ray
from ray._private.utils import publish_error_to_driver
from ray._private.worker import global_worker

from giblet_ray.cluster import connect

OF_NO_USE = (
    "WARNING: 9 PYTHON worker processes have been started on node: 1f with address: 127.0.0.1, "
    "which is 4x the maximum expected startup concurrency (2).",
    "A worker died or was killed while executing a task by an unexpected system error. To "
    "troubleshoot the problem, check the logs for the dead worker.\nWorker ID: 2f",
    "The node with node id: 3f and address: 127.0.0.1 has been marked dead because the detector "
    "has missed too many heartbeats from it.",
    "The agent on node vm failed with the following error:\nTraceback",
)
OF_USE = (
    "2 Workers (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed due to "
    "other reasons at node (ID: 4f, IP: 127.0.0.1) over the last time period.",
    "The actor or task with ID 5f cannot be scheduled right now. It requires {CPU: 64}",
    "The autoscaler failed with the following error:\nno credentials",
)


@pytest.mark.usefixtures("cluster")
def test_what_a_user_cannot_act_on_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    connect()
    for message in (*OF_NO_USE, *OF_USE):
        publish_error_to_driver("test", message, gcs_client=global_worker.gcs_client)
    said = ""
    deadline = time.monotonic() + 60
    while "no credentials" not in said and time.monotonic() < deadline:
        time.sleep(0.05)
        said += capsys.readouterr().out
    for message in OF_USE:
        assert message in said
    for message in OF_NO_USE:
        assert message[:40] not in said


@pytest.mark.usefixtures("cluster")
def test_less_data_than_tasks_is_not_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    connect()
    few = ray.data.range(2, override_num_blocks=1)
    few.map_batches(
        lambda batch: batch, batch_size=1, compute=ray.data.TaskPoolStrategy(size=8)
    ).materialize()
    assert not [each for each in recwarn if "concurrent tasks" in str(each.message)]

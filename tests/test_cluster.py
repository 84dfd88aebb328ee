"""Joining a cluster that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import ray

OF_ANOTHER_VERSION = textwrap.dedent(
    """
    import ray
    ray.__version__ = "2.9.0"
    from giblet_ray.cluster import connect
    connect()
    """
)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_of_another_version_is_one_line_with_both() -> None:
    address = ray.get_runtime_context().gcs_address
    said = subprocess.run(
        [sys.executable, "-c", OF_ANOTHER_VERSION],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    last = said.stderr.splitlines()[-1]
    assert last.startswith(f"giblet_ray.errors.InputError: RAY_ADDRESS {address}: the cluster runs")
    assert f"Ray {ray.__version__} on Python" in last
    assert "this job Ray 2.9.0 on Python" in last


@pytest.mark.usefixtures("cluster")
def test_a_cluster_on_this_machine_has_no_process_that_a_job_does_not_use() -> None:
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    ours = [command for command in commands if any(session in word for word in command)]
    scripts = {Path(word).name for command in ours for word in command if word.endswith(".py")}
    assert any(Path(command[0]).name == "raylet" for command in ours)
    assert not {"dashboard.py", "monitor.py", "log_monitor.py"} & scripts

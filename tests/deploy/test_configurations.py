"""The shipped cluster configurations, as Ray's own validators and shells read them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.aws.config import _create_default_inbound_rules
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLUSTERS = ["cluster.yaml", "deploy/on-prem.yaml"]


def read(name: str) -> dict[str, Any]:
    return next(yaml.safe_load_all((ROOT / name).read_text()))


def texts(value: Any) -> Iterator[str]:
    """Yield every word of a configuration, without its comments."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_accepts_the_cluster(name: str) -> None:
    prepared = prepare_config(read(name))
    validate_config(prepared)
    workers = [
        kind
        for node, kind in prepared["available_node_types"].items()
        if node != "head" and kind["max_workers"] > 0
    ]
    assert len(workers) == 1
    with pytest.raises(Exception, match="dashbord"):
        validate_config({**prepared, "dashbord": {}})


def test_aws_machines_come_and_go_and_the_head_has_no_gpu() -> None:
    kinds = read("cluster.yaml")["available_node_types"]
    assert "GPU" not in kinds["head"]["resources"]
    assert kinds["gpu"]["resources"]["GPU"] >= 1
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["max_workers"]) == (0, 8)
    assert kinds["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_aws_lets_nothing_in_but_ssh() -> None:
    more = read("cluster.yaml")["provider"].get("security_group", {}).get("IpPermissions", [])
    rules = _create_default_inbound_rules(["sg-own"], more)
    from_outside = [rule for rule in rules if rule.get("IpRanges") or rule.get("Ipv6Ranges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in from_outside] == [(22, 22)]


@pytest.mark.parametrize("name", [*CLUSTERS, "deploy/rayjob.yaml"])
def test_nothing_is_bound_to_all_addresses(name: str) -> None:
    for document in yaml.safe_load_all((ROOT / name).read_text()):
        for text in texts(document):
            assert "0.0.0.0" not in text
            assert text not in ("LoadBalancer", "NodePort", "::")


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_node_starts_ray_behind_the_token_and_the_dashboard_on_loopback(name: str) -> None:
    config = prepare_config(read(name))
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    for command in [*head, *worker]:
        assert command.startswith(". ~/giblet_ray/deploy/node.sh && ray ")
    assert "--dashboard-host=127.0.0.1" in head[-1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token ~/giblet_ray.env" in config["setup_commands"]


def test_a_node_s_environment_has_the_token_mode_and_the_lab_s_places(tmp_path: Path) -> None:
    """As the nodes' login shell reads it, with the example as the lab's file."""
    (tmp_path / "giblet_ray-venv/bin").mkdir(parents=True)
    (tmp_path / "giblet_ray-venv/bin/activate").write_text("in_venv=yes\n")
    example = (ROOT / "deploy/giblet_ray.env.example").read_text()
    (tmp_path / "giblet_ray.env").write_text(
        example.replace("# MLFLOW_TRACKING_PASSWORD=", "MLFLOW_TRACKING_PASSWORD='a b$c'")
    )
    shown = subprocess.run(
        ["bash", "-c", f". {ROOT}/deploy/node.sh && echo $in_venv && env"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = shown.stdout.splitlines()
    assert lines[0] == "yes"
    assert {
        "RAY_AUTH_MODE=token",
        "GIBLET_RAY_STORAGE__PATH=s3://lab/runs",
        "GIBLET_RAY_TRACKING__URI=http://10.0.0.20:5000",
        "MLFLOW_TRACKING_PASSWORD=a b$c",
    } <= set(lines)
    assert shown.stderr == ""


def test_kubernetes_takes_the_example_as_a_shell_does() -> None:
    """kubectl keeps quotes, and comments that follow a value."""
    lines = (ROOT / "deploy/giblet_ray.env.example").read_text().splitlines()
    keys = [line.removeprefix("# ") for line in lines if re.match(r"(# )?[A-Z_]+=", line)]
    assert "GIBLET_RAY_SCALING__USE_GPU=true" in lines
    assert "AWS_ENDPOINT_URL=https://s3.lab.example" in keys
    assert not [key for key in keys if re.search(r"[\s\"']", key)]


def test_a_renamed_job_is_renamed_wherever_it_is_named() -> None:
    text = (ROOT / "deploy/rayjob.yaml").read_text()
    spec = text[text.index("apiVersion") :]
    named = [line for line in spec.splitlines() if "giblet-ray-train" in line]
    assert len(named) == 3
    assert all("EDIT" in line for line in named)


@pytest.mark.parametrize("name", CLUSTERS)
def test_nodes_get_all_that_an_installation_needs(name: str, tmp_path: Path) -> None:
    """The package builds from what is copied to a node, and holds every module."""
    for there, here in read(name)["file_mounts"].items():
        if here.startswith("./"):
            target = tmp_path / Path(there).relative_to("~/giblet_ray")
            subprocess.run(["cp", "-r", str(ROOT / here), str(target)], check=True)
    assert (tmp_path / "constraints.txt").is_file()
    assert "-c constraints.txt" in (tmp_path / "deploy/install.sh").read_text()
    wheel = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    subprocess.run([sys.executable, "-c", wheel], cwd=tmp_path, check=True, capture_output=True)
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", *map(str, tmp_path.glob("*.whl"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for module in (ROOT / "giblet_ray").rglob("*.py"):
        assert f"{module.relative_to(ROOT)} " in listed


# --- Kubernetes -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_job() -> dict[str, Any]:
    return read("deploy/rayjob.yaml")


def test_ray_s_autoscaler_reads_the_kubernetes_job(ray_job: dict[str, Any]) -> None:
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = {
        "metadata": {"name": "giblet-ray", "namespace": "default"},
        "spec": ray_job["spec"]["rayClusterSpec"],
    }
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    gpu = config["available_node_types"]["gpu"]
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 8)
    assert gpu["resources"] == {"CPU": 16, "GPU": 1, "memory": 120 * 2**30}
    assert config["available_node_types"]["headgroup"]["resources"]["CPU"] == 4
    assert cluster["spec"]["enableInTreeAutoscaling"] is True


def test_kubernetes_job_has_its_token_and_secrets_from_secrets(ray_job: dict[str, Any]) -> None:
    spec = ray_job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "giblet-ray-token"}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "giblet-ray-env"}}]
        assert "env" not in container
    assert "runtimeEnvYAML" not in ray_job["spec"]


def test_kubernetes_pods_are_reached_by_the_cluster_alone(ray_job: dict[str, Any]) -> None:
    assert ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    _, policy = yaml.safe_load_all((ROOT / "deploy/rayjob.yaml").read_text())
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert all("podSelector" in each for each in rule["from"])


def test_the_image_holds_the_pinned_ray(ray_job: dict[str, Any]) -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert f"FROM rayproject/ray:{pins['ray']}-py311-gpu\n" in image
    assert ray_job["spec"]["rayClusterSpec"]["rayVersion"] == pins["ray"]
    entrypoint = ray_job["spec"]["entrypoint"].split()
    folder = "/home/ray/giblet_ray/"
    assert f"WORKDIR {folder.rstrip('/')}\n" in image
    assert (ROOT / entrypoint[1].removeprefix(folder)).is_file()

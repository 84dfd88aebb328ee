"""What `ray job submit --working-dir .` sends to the cluster, by Ray's own packaging."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = [
    ".cluster/token",
    ".git/config",
    ".venv/bin/python",
    "comparison/giblet_ray/comparison.html",
    "data/film/frames/film.parquet",
    "demo/dataset/manifest.json",
    "evaluation/first/units.parquet",
    "film.mp4",
    "giblet_ray.env",
    "giblet_ray/__pycache__/cli.pyc",
    "mlartifacts/1/model",
    "mlflow.db",
    "predicted/new/film.parquet",
    "runs/first/epoch-001/model.safetensors",
    "sub-01.nii.gz",
]


def test_an_upload_is_the_code_and_nothing_that_work_leaves_behind(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    files = [name for name in tracked if (ROOT / name).is_file()]
    for name in files:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    for name in LEFT_BEHIND:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("not to be sent")
    package = tmp_path / "package.zip"
    create_package(
        str(checkout),
        package,
        include_gitignore=True,
        excludes=get_runtime_env_default_excludes(),
    )
    with zipfile.ZipFile(package) as content:
        sent = {name for name in content.namelist() if not name.endswith("/")}
    stays = ("tests/", ".ci/", "benchmarks/", "docs/", "deploy/", "CHANGELOG.md", ".importlinter")
    stays += ("CITATION.cff", "cluster.yaml", "CONTRIBUTING.md", "Makefile", "README.md")
    stays += (".gitignore", ".rayignore", "LICENSE", "constraints.txt")
    stays += ("giblet_ray/demo/", "giblet_ray/preflight/demo.py")
    of_recipes = re.compile(r"recipes/.*\.(md|py)")
    assert sent == {
        name for name in files if not name.startswith(stays) and not of_recipes.fullmatch(name)
    }
    assert {"jobs/train.py", "giblet_ray/cli.py", "pyproject.toml"} <= sent
    assert package.stat().st_size < 2 * 2**20

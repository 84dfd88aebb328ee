"""The check of a GPU, tried on a CPU."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import gpu_check
import pytest
import torch
from gpu_data import check_rows
from gpu_sizes import Checked
from target import Target, read_targets

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
def test_all_checks_run_without_ray_and_mlflow_and_tell_what_needs_a_gpu(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import runpy, sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("ray", "mlflow"):
                    raise ImportError(f"{name} is blocked here")
        sys.meta_path.insert(0, Blocked())
        runpy.run_path("benchmarks/gpu_check.py", run_name="__main__")
        """
    )
    words = ["--device", "cpu", "--ranks", "2", "--targets", str(tmp_path / "targets.json")]
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {target.what: target for target in read_targets(tmp_path / "targets.json")}
    said = " ".join(done.stdout.split())
    for start in ("device loader on cpu", "memory loader on cpu", "stream loader on cpu"):
        assert found[f"{start}: values that are not those written"].found == 0
    of_gpu = [what for what, target in found.items() if target.found is None]
    assert said.count("not measured") == len(of_gpu)
    for words in (
        *("waiting for data", "peak memory", "ridge on", "cpu against CPU", "SyncBatchNorm"),
        *("audio branch, 64 TRs", "cuda: times faster than plain", "cuda: floor / step"),
    ):
        assert any(words in what for what in of_gpu), words
    of_cpu = [what for what in found if what not in of_gpu]
    for words in (
        *("bf16 against fp32", "resumed on cpu", "2 ranks over gloo against one, LayerNorm:"),
        "2 ranks over gloo against one, LayerNorm, head shared out",
    ):
        assert any(words in what for what in of_cpu), words


def test_values_that_are_not_those_written_are_counted(tmp_path: Path) -> None:
    checked = Checked(tmp_path, torch.device("cpu"))
    rows = checked.arrays["text"]
    rows[:, 3] += 1  # as if one number of each row had been lost on its way
    for target in check_rows(checked):
        assert target.is_missed
        assert target.found is not None
        assert target.found >= len(rows) // 2


def test_a_check_that_fails_ends_it_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu"])
    for found, code in ((0.5, 0), (None, 0), (1.5, 1)):
        target = Target.once(1, "made up", found, 1.0)
        monkeypatch.setattr(gpu_check, "CHECKS", [lambda checked, target=target: [target]])
        with pytest.raises(SystemExit) as ended:
            gpu_check.main()
        assert ended.value.code == code


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_machine_without_a_gpu_is_told_what_tries_the_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit, match="this machine has 0 GPUs; --device cpu tries"):
        gpu_check.main()

"""Running a script of the checkout without the seconds that another process spends on imports."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_script(script: str, *words: object) -> None:
    """Run a file of the checkout in this process as Python runs a script with these words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, words)])
        runpy.run_path(str(ROOT / script), run_name="__main__")

"""The encoder of jobs/seed.yaml, one TR at one lag, in the sizes that a benchmark gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from machine import ROOT

SEED_JOB: Mapping[str, Any] = yaml.safe_load((ROOT / "jobs/seed.yaml").read_text())
SEED: Mapping[str, Any] = SEED_JOB["model"]

"""The encoder of jobs/seed.yaml, one TR at one lag, in the sizes that a benchmark gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SEED: Mapping[str, Any] = {
    "memory": "none",
    "inputs": "encoders",
    "norm": "batch",
    "head": "full",
    "heads": "shared",
}

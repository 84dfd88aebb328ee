"""The encoder of jobs/seed.yaml, one TR at one lag, in the sizes that a benchmark gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from machine import ROOT

SEED_JOB: Mapping[str, Any] = yaml.safe_load((ROOT / "jobs/seed.yaml").read_text())
TINY: Mapping[str, Any] = {
    "embed_dim": 4,
    "video_features": 8,
    "audio_features": 8,
    "text_features": 8,
    "trunk_dims": (16, 16),
    "bottleneck_dim": 8,
    "head_dim": 16,
}
"""Sizes of the smallest that benchmarks train."""
SEED: Mapping[str, Any] = SEED_JOB["model"]

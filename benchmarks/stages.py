"""Seconds that each stage of making a data set takes, in whichever processes work on it."""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STAGES = {
    "decode frames": ("giblet_ray.features.video", "read_frames"),
    "decode sound": ("giblet_ray.features.audio", "read_audio"),
    "codec": ("giblet_ray.features.codec", "Codec.encode"),
    "codec, checked": ("giblet_ray.features.codec", "Codec.chunk_agreement"),
    "codec, loaded": ("giblet_ray.parts.codes", "Codes.load"),
    "text": ("giblet_ray.parts.text", "Text.make"),
    "write": ("giblet_ray.precompute.units", "write_shard"),
}
"""What is timed, by stage; of what one calls that is timed as well, the time is the other's."""

_GENERATORS = {"decode sound"}


class StageTimers:
    """Times the stages in this process, and in every one that it is sent to.

    Attributes
    ----------
    folder : str
        Processes note there what they spent, on a line for each call.
    """

    _installed: str | None = None
    _inner: list[float]

    def __init__(self, folder: str) -> None:
        self.__setstate__({"folder": folder})

    def __getstate__(self) -> dict[str, str]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.folder = state["folder"]
        if StageTimers._installed is None:
            for stage, (module, name) in STAGES.items():
                *owner, last = name.split(".")
                of: Any = importlib.import_module(module)
                for each in owner:
                    of = getattr(of, each)
                wrap = _timed_generator if stage in _GENERATORS else _timed
                setattr(of, last, wrap(stage, getattr(of, last)))
            StageTimers._inner = []
        StageTimers._installed = self.folder

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage that have been noted, and forget them."""
        spent: dict[str, float] = defaultdict(float)
        for file in Path(self.folder).iterdir():
            for line in file.read_text().splitlines():
                stage, _, seconds = line.rpartition(" ")
                spent[stage] += float(seconds)
            file.unlink()
        return {stage: spent[stage] for stage in STAGES if stage in spent}

    @staticmethod
    @contextmanager
    def clock(stage: str) -> Iterator[None]:
        """Note the time that a block takes, without that of stages within it."""
        inner, started = StageTimers._inner, time.perf_counter()
        inner.append(0.0)
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            own = seconds - inner.pop()
            if inner:
                inner[-1] += seconds
            with (Path(str(StageTimers._installed)) / str(os.getpid())).open("a") as file:
                file.write(f"{stage} {own}\n")


def _timed(stage: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def run(*args: Any, **settings: Any) -> Any:
        with StageTimers.clock(stage):
            return function(*args, **settings)

    return run


def _timed_generator(stage: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def run(*args: Any, **settings: Any) -> Iterator[Any]:
        found = function(*args, **settings)
        while True:
            with StageTimers.clock(stage):
                item = next(found, None)
            if item is None:
                return
            yield item

    return run

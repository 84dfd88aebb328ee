"""Bringing in the `encodec` library, which asks for more than it is used for here."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

_import_lock = threading.Lock()


def import_encodec() -> ModuleType:
    """Import `encodec`, whether or not torchaudio loads.

    encodec imports torchaudio for helpers that read and resample files, which are not used here.
    A torchaudio that works is left alone; in place of one that does not (it is missing, or built
    for another torch) stands an empty module while encodec is imported.
    """
    with _import_lock:
        if "encodec" in sys.modules:
            return sys.modules["encodec"]
        before = set(sys.modules)
        try:
            importlib.import_module("torchaudio")
        except (ImportError, OSError, RuntimeError):  # What a broken binary raises, by version.
            for name in set(sys.modules) - before:
                if name.split(".")[0] == "torchaudio":
                    del sys.modules[name]
            spec = importlib.machinery.ModuleSpec("torchaudio", loader=None)
            sys.modules["torchaudio"] = importlib.util.module_from_spec(spec)
            try:
                return importlib.import_module("encodec")
            finally:
                del sys.modules["torchaudio"]
        return importlib.import_module("encodec")


def build_model(pretrained: bool, repository: Path | None = None) -> Any:
    """EncodecModel for 24 kHz: trained weights, downloaded or from a folder, or random ones."""
    encodec = import_encodec()
    with warnings.catch_warnings():
        # encodec 0.1.1 uses torch's older weight_norm, which works and cannot be changed here.
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        return encodec.EncodecModel.encodec_model_24khz(pretrained, repository)

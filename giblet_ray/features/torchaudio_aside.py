"""Importing a library that asks for torchaudio and does without it, whether it loads or not."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from types import ModuleType

_import_lock = threading.Lock()


def import_aside_torchaudio(name: str) -> ModuleType:
    """Import a module that imports torchaudio, of which nothing is used here.

    A torchaudio that works is left alone; in place of one that does not (it is missing, or built
    for another torch) stands an empty module while the other is imported.

    Parameters
    ----------
    name : str
        Such as ``encodec``, or ``transformers.audio_utils``.
    """
    with _import_lock:
        if name in sys.modules:
            return sys.modules[name]
        before = set(sys.modules)
        try:
            importlib.import_module("torchaudio")
        except (ImportError, OSError, RuntimeError):  # What a broken binary raises, by version.
            for found in set(sys.modules) - before:
                if found.split(".")[0] == "torchaudio":
                    del sys.modules[found]
            spec = importlib.machinery.ModuleSpec("torchaudio", loader=None)
            sys.modules["torchaudio"] = importlib.util.module_from_spec(spec)
            try:
                return importlib.import_module(name)
            finally:
                del sys.modules["torchaudio"]
        return importlib.import_module(name)

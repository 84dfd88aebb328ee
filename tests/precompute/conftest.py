"""Films and scans that the tests of precompute share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from two_films import N_TRS, TR, make_films

from giblet_ray.features.audio import read_audio
from giblet_ray.features.codec import seed_untrained_codec


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two films with subtitles; two subjects' scans, of which 02 has none of film two."""
    folder = tmp_path_factory.mktemp("sources")
    make_films(folder)
    return folder


@pytest.fixture(scope="session")
def sounds(folder):
    """Samples of each film's sound, (samples,)."""
    return {
        film: np.concatenate(list(read_audio(folder / f"{film}.mp4", duration_seconds=n * TR)))
        for film, n in N_TRS.items()
    }


@pytest.fixture(scope="session")
def codec(sounds):
    """The codec that a job makes of these films, which are shorter than it hears of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codec = seed_untrained_codec(np.concatenate(list(sounds.values())))
    torch.set_num_threads(threads)
    return codec

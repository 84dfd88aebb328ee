"""The films and scans that the tests of precompute share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def folder(film_folder):
    """Two films with subtitles; two subjects' scans, of which 02 has none of film two."""
    return film_folder


@pytest.fixture(scope="session")
def sounds(film_sounds):
    """Samples of each film's sound, (samples,)."""
    return film_sounds


@pytest.fixture(scope="session")
def codec(film_codec):
    """The codec that a job makes of these films."""
    return film_codec

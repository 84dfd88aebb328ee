"""Films as parts are given them: how much of one its TRs cover."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from giblet_ray.features.clock import exact_seconds
from giblet_ray.parts.codes import Codes
from giblet_ray.parts.mel import Mel
from giblet_ray.parts.part import FilmFiles, Part
from giblet_ray.parts.sound import Sound

ODD_TRS = [2.00000061, 1.4900000095367432, 0.7199999, 1.5]
"""Seconds, as scanners' headers have them: with more than 6 decimals, and with one."""


def story(path: Path, n_trs: int, tr_seconds: float) -> FilmFiles:
    """Noise that lasts a tenth of a second longer than its TRs."""
    seconds = n_trs * tr_seconds + 0.1
    noise_N = np.random.default_rng(0).normal(0, 3000, int(8000 * seconds)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(noise_N.tobytes())
    where = {"film": str(path)}
    return FilmFiles(name="s", n_trs=n_trs, tr_seconds=tr_seconds, seconds=seconds, files=where)


@pytest.mark.parametrize("part", [Sound("sound"), Mel("mel")], ids=["sound", "mel"])
def test_sound_reaches_to_the_last_tr_whatever_the_tr(tmp_path: Path, part: Part) -> None:
    film = story(tmp_path / "story.wav", n_trs=120, tr_seconds=0.0500006)
    assert len(part.make(film).values) == film.n_trs


@pytest.mark.parametrize("tr_seconds", ODD_TRS)
@pytest.mark.parametrize("start_seconds", [0.0, 0.123, 0.7])
def test_a_film_covers_its_trs_exactly_as_they_are_cut(
    tr_seconds: float, start_seconds: float
) -> None:
    """And its codes reach to the last frame of the last TR."""
    for n_trs in (1, 333, 4001):
        film = FilmFiles(
            name="f",
            n_trs=n_trs,
            tr_seconds=tr_seconds,
            start_seconds=start_seconds,
            seconds=1e4,
            files={},
        )
        tr = exact_seconds(tr_seconds)
        assert film.covered_seconds == n_trs * tr
        assert film.stop_seconds == float(exact_seconds(start_seconds) + n_trs * tr)
        last = round(75 * (exact_seconds(start_seconds) + (n_trs - 1) * tr)) + int(75 * tr)
        *_, piece = Codes("codes").pieces(film)
        assert piece["stop_frame"] >= last

"""Motion energy of a film: from its file to rows, and what their numbers mean."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.parts.motion_energy import MotionEnergy, MotionEnergyConfig
from giblet_ray.parts.part import FilmFiles, Prepared

RATE = 24


@pytest.fixture
def film(tmp_path):
    """Waves that move to the right for 1.5 s, to the left for 1.5 s, and stand for 1.5 s."""
    path = tmp_path / "waves.mp4"
    steps = np.repeat([1, -1, 0], 36).cumsum()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.qmax = 2
        for step in steps:
            wave_W = np.cos(2 * np.pi * (4 * np.arange(128) / 95 - 2 * step / RATE))
            image = np.empty((96, 128, 3), np.uint8)
            image[:] = (128 + 100 * wave_W)[None, :, None]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return FilmFiles(name="waves", n_trs=3, tr_seconds=1.5, seconds=4.5, files={"film": str(path)})


def test_rows_say_where_a_film_moves(film):
    part = MotionEnergy("motion_energy", MotionEnergyConfig(height=36, width=48, octaves=3))
    energy_TD = part.make(film).values
    channels = json.loads(part.blob("channels", Prepared()))
    assert energy_TD.shape == (3, len(channels))

    def answer(direction):
        """Mean over the picture's places, per TR."""
        motion = {"direction": direction, "cycles_per_height": 4, "hz": 2}
        of_motion = [motion.items() <= channel.items() for channel in channels]
        return energy_TD[:, of_motion].mean(axis=1)

    right_T, left_T = answer(0), answer(180)
    assert right_T.argmax() == 0
    assert left_T.argmax() == 1
    assert right_T[0] > left_T[0] + 1
    assert left_T[1] > right_T[1] + 1
    assert max(right_T[2], left_T[2]) < min(right_T[0], left_T[1]) - 1


def test_its_settings_say_how_many_numbers_there_are(film):
    shapes = {
        octaves: MotionEnergy("m", MotionEnergyConfig(octaves=octaves)).value(film).shape
        for octaves in (3, 4)
    }
    assert shapes == {3: (437,), 4: (2530,)}
    with pytest.raises(InputError, match=r"^--motion_energy: .* 96 rows or more, not 54"):
        MotionEnergy("m", MotionEnergyConfig(octaves=5)).value(film)


def test_thousands_of_films_are_planned_with_one_pyramid(film):
    one, other = (MotionEnergy("m", MotionEnergyConfig()) for _ in range(2))
    assert one.value(film) == other.value(film)
    assert one._pyramid() is other._pyramid()

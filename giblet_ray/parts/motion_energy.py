"""Motion energy: what moved where, in which direction and how fast, thousands of numbers per TR."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from pydantic import Field

from giblet_ray.errors import InputError
from giblet_ray.parts.part import PICTURES, FilmFiles, Made, Part, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class MotionEnergyConfig(Group):
    """Video in a pyramid of motion energy filters (Nishimoto 2011)."""

    make: bool = False
    """Store it too (pip install 'giblet_ray[motion]'), as the part motion_energy: --data.modalities
    video,audio,text,motion_energy trains on it."""
    height: int = Field(54, ge=16)
    """Rows of the pictures that are filtered (pixels)."""
    width: int = Field(96, ge=16)
    """Columns (pixels); filters are round where the film's aspect is theirs."""
    pictures_per_second: int = Field(24, ge=12, le=60)
    """Pictures that are filtered; best as many as the film has, or half."""
    octaves: int = Field(4, ge=1, le=5)
    """Spatial frequencies: 2, 4, ... to 2^octaves cycles per picture height. At 16:9, 3 give 437
    numbers per TR, 4 give 2,530 at five times the cost."""


class MotionEnergy(Part):
    """motion_energy_TD, float32: T TRs, D channels, the mean of log(1 + energy's square root)."""

    kind = "motion_energy"
    group = "motion_energy"
    senses = (PICTURES,)
    from_any_second = True
    libraries = ("av", "numpy", "pymoten")
    blobs = ("channels",)
    Config = MotionEnergyConfig

    @property
    def is_wanted(self) -> bool:
        return bool(self.settings.make)

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="float32", shape=(self._pyramid().nfilters,))

    def blob(self, name: str, prepared: Prepared) -> bytes:
        """Return what each number answers to, as JSON; see :func:`motion_energy.channels`."""
        from giblet_ray.features.motion_energy import channels

        return json.dumps(channels(self._pyramid())).encode()

    def make(self, film: FilmFiles) -> Made:
        from giblet_ray.features.motion_energy import motion_energy_per_tr
        from giblet_ray.features.video import frames_on_screen

        size = self.settings
        piece = Fraction(1, size.pictures_per_second)
        pictures = frames_on_screen(
            film.path,
            film.n_trs,
            film.tr_seconds,
            piece,
            size.height,
            size.width,
            film.start_seconds,
        )
        energy_TD = motion_energy_per_tr(pictures, film.n_trs, film.tr_seconds, self._pyramid())
        made_with = {"numbers": "mean of log(1 + motion energy's square root), lightness 0 to 100"}
        return Made(energy_TD, {**made_with, **size.model_dump(exclude={"make"})})

    def _pyramid(self) -> Any:
        from giblet_ray.features.motion_energy import build_pyramid

        size = self.settings
        try:
            return build_pyramid(size.height, size.width, size.pictures_per_second, size.octaves)
        except InputError as error:
            raise InputError(f"--motion_energy: {error}") from error

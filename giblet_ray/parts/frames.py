"""Frames: what was seen, one RGB picture per TR."""

from __future__ import annotations

from pydantic import Field

from giblet_ray.parts.part import FilmFiles, Made, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class FramesConfig(Group):
    """Video: one RGB frame per TR, the one on screen at its midpoint."""

    height: int = Field(90, ge=16)
    """Rows (pixels)."""
    width: int = Field(160, ge=16)
    """Columns (pixels)."""


class Frames(Part):
    """frames_TCHW, uint8: T TRs, C red, green, blue, H rows, W columns."""

    kind = "frames"
    modality = "video"
    encoder = "image"
    group = "frames"
    libraries = ("av",)
    Config = FramesConfig

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="uint8", shape=(3, self.settings.height, self.settings.width))

    def make(self, film: FilmFiles) -> Made:
        from giblet_ray.features.video import read_frames

        size = self.settings.model_dump()
        frames_TCHW = read_frames(film.path, film.n_trs, film.tr_seconds, **size)
        return Made(frames_TCHW, {"picture": "RGB at the TR's midpoint", **size})

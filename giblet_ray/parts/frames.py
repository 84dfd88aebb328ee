"""Frames: what was seen, one RGB picture per TR or several."""

from __future__ import annotations

from pydantic import Field

from giblet_ray.parts.part import PICTURES, FilmFiles, Made, Part
from giblet_ray.parts.reading import RGB
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class FramesConfig(Group):
    """Video: RGB frames, those on screen at the midpoints of the TR's equal pieces."""

    height: int = Field(90, ge=16)
    """Rows (pixels)."""
    width: int = Field(160, ge=16)
    """Columns (pixels)."""
    per_tr: int = Field(1, ge=1, le=64)
    """Frames of a TR, evenly in time, that the video encoder sees together, in order: 1 is the one
    at the TR's midpoint, which holds no motion."""


class Frames(Part):
    """frames_TCHW, uint8: T TRs, C red, green, blue of each frame in turn, H rows, W columns."""

    kind = "frames"
    modality = "video"
    encoder = "image"
    group = "frames"
    senses = (PICTURES,)
    from_any_second = True
    libraries = ("av",)
    Config = FramesConfig

    def value(self, film: FilmFiles) -> ValueType:
        size = self.settings
        return ValueType(dtype="uint8", shape=(size.per_tr * RGB, size.height, size.width))

    def make(self, film: FilmFiles) -> Made:
        from giblet_ray.features.video import read_frames

        chosen = self.settings.model_dump()
        when = (film.n_trs, film.tr_seconds)
        frames_TCHW = read_frames(film.path, *when, start_seconds=film.start_seconds, **chosen)
        picture = "RGB at the midpoints of per_tr equal pieces of the TR"
        return Made(frames_TCHW, {"picture": picture, **chosen})

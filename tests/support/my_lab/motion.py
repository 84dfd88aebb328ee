"""How much the picture changes, in horizontal bands."""

import numpy as np
from pydantic import Field

from giblet_ray.features.video import read_frames
from giblet_ray.parts.part import FilmFiles, Made, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class MotionConfig(Group):
    bands: int = Field(4, ge=1, le=18)


class Motion(Part):
    """Mean absolute change of brightness since the TR before: (TRs, bands)."""

    Config = MotionConfig

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="float32", shape=(self.settings.bands,))

    def make(self, film: FilmFiles) -> Made:
        frames_TCHW = read_frames(film.path, film.n_trs, film.tr_seconds, height=18, width=32)
        grey_THW = frames_TCHW.mean(axis=1, dtype=np.float32)
        change_THW = np.abs(np.diff(grey_THW, axis=0, prepend=grey_THW[:1]))
        bands = np.array_split(change_THW, self.settings.bands, axis=1)
        return Made(np.stack([band.mean(axis=(1, 2)) for band in bands], axis=1))

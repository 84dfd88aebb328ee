"""Sound: how loud it was, and in which bands, a few numbers per TR."""

from __future__ import annotations

from pydantic import Field

from giblet_ray.parts.part import SOUND, FilmFiles, Made, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group

_SAMPLE_RATE = 24_000


class SoundConfig(Group):
    """Audio in a few numbers: the level of each TR, and its spectrum in bands (dB)."""

    make: bool = False
    """Store them too, as the part sound: --data.modalities video,audio,text,sound trains on it."""
    bands: int = Field(16, ge=1, le=64)
    """Bands of the spectrum, evenly spaced on the mel scale up to 12 kHz."""


class Sound(Part):
    """sound_TD, float32: T TRs, D level and bands from low to high, dB of full scale."""

    kind = "sound"
    group = "sound"
    senses = (SOUND,)
    from_any_second = True
    libraries = ("av", "numpy", "scipy")
    Config = SoundConfig

    @property
    def is_wanted(self) -> bool:
        return bool(self.settings.make)

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="float32", shape=(1 + self.settings.bands,))

    def make(self, film: FilmFiles) -> Made:
        from giblet_ray.features.audio import read_audio
        from giblet_ray.features.media import sound_notes
        from giblet_ray.features.sound import sound_per_tr

        blocks = read_audio(
            film.path,
            _SAMPLE_RATE,
            duration_seconds=film.covered_seconds,
            start_seconds=film.start_seconds,
        )
        bands = self.settings.bands
        sound_TD = sound_per_tr(blocks, film.n_trs, film.tr_seconds, bands, _SAMPLE_RATE)
        made_with = {
            "numbers": "level, log power of mel bands (dB of full scale)",
            "bands": bands,
            "sample_rate": _SAMPLE_RATE,
        }
        return Made(sound_TD, made_with, notes=sound_notes(film.path))

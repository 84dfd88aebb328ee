"""Mel spectrograms: what was heard, without a codec."""

from __future__ import annotations

from giblet_ray.parts.part import SOUND, FilmFiles, Made, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group

BANDS = 2048
FRAMES_PER_TR = 65
_SAMPLE_RATE = 24_000


class MelConfig(Group):
    """Audio, the other way: mel spectrograms of 2048 bands, 65 frames per TR."""

    make: bool = False
    """Store mel spectrograms too."""


class Mel(Part):
    """mel_TMF, float16: T TRs, M mel bands, F frames per TR."""

    kind = "mel"
    modality = "audio"
    form = "mel"
    encoder = "mel"
    group = "mel"
    senses = (SOUND,)
    from_any_second = True
    libraries = ("av", "numpy", "scipy")
    Config = MelConfig

    @property
    def is_wanted(self) -> bool:
        return bool(self.settings.make)

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="float16", shape=(BANDS, FRAMES_PER_TR))

    def make(self, film: FilmFiles) -> Made:
        from giblet_ray.features.audio import read_audio
        from giblet_ray.features.media import sound_notes
        from giblet_ray.features.mel import mel_per_tr

        blocks = read_audio(
            film.path,
            _SAMPLE_RATE,
            duration_seconds=film.covered_seconds,
            start_seconds=film.start_seconds,
        )
        mel_TMF = mel_per_tr(
            blocks, film.n_trs, film.tr_seconds, BANDS, FRAMES_PER_TR, _SAMPLE_RATE
        )
        made_with = {"spectrum": "log mel power (Slaney)", "sample_rate": _SAMPLE_RATE}
        return Made(mel_TMF, made_with, notes=sound_notes(film.path))

"""Codes: what was heard, as EnCodec's codes, made by several workers at a time.

Encoding is by far the longest part of making a data set, so that a film is cut into pieces, which
are encoded anywhere, once for all its phases, and joined by the driver. Pieces end where the
codec's own chunks end (:meth:`Codec.encode`), so that their codes are those of encoding the film in
one go::

    chunks of the film    |w|  c  |  c  |  c  |  c  |  c  |  c |      w warm-up, c chunk
    piece 0               |-------------|
    piece 1                           |w|-----------|
    piece 2                                       |w|----------|

Shapes: K codebooks, T code frames, N samples, R TRs, F code frames per TR.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from giblet_ray.errors import InputError
from giblet_ray.features.codes import (
    FRAME_RATE,
    cut_codes,
    frames_per_tr,
    resolve_codebooks,
    windows_at_a_time,
)
from giblet_ray.parts.part import SOUND, FilmFiles, Made, PartInPieces, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group

if TYPE_CHECKING:
    from giblet_ray.features.audio import Tape
    from giblet_ray.features.codec import Codec

LEAST_AGREEMENT = 0.99
"""Share of codes that must be the same, encoded in chunks and encoded whole."""

_LEAST_PIECE_SECONDS = 80.0
_MOST_PIECES = 16
"""Enough to share out a long film evenly."""
_READ_SECONDS = 60
"""Sound that is read at a time."""

_AGREEMENT = {"measures": "agreement"}
"""The piece that is encoded twice, in chunks and whole: the film's beginning."""


class CodesConfig(Group):
    """Audio: EnCodec codes at 24 kHz."""

    make: bool = True
    """Store them; false for films without sound, and where mel spectrograms will do."""
    codebooks: int | None = Field(None, ge=1)
    """Codebooks kept per frame: 2, 4, 8, 16 or 32 (default: 8)."""
    bandwidth: float | None = Field(None, gt=0)
    """EnCodec bandwidth (kbps) instead: 1.5, 3, 6, 12 or 24 for 2, 4, 8, 16 or 32 codebooks."""
    weights: str = "pretrained"
    """pretrained (downloaded), a folder that holds encodec_24khz-d7cc33bc.th, a saved codec
    (.safetensors), or untrained (without network; seeded from the films' sound)."""
    chunk_seconds: float = Field(10.0, gt=0)
    """Audio of a chunk; up to eight chunks, of 80 s together, are encoded at a time."""
    warmup_seconds: float = Field(1.0, ge=0)
    """Audio before each chunk that the codec hears first, so that chunks join seamlessly."""


class Codes(PartInPieces):
    """codes_RKF, int16: R TRs, K codebooks, F code frames per TR."""

    kind = "codes"
    modality = "audio"
    form = "encodec"
    encoder = "codes"
    group = "codes"
    senses = (SOUND,)
    from_any_second = True
    libraries = ("av", "encodec", "torch")
    blobs = ("codebooks",)
    pieces_serve_all_phases = True
    Config = CodesConfig

    @property
    def is_wanted(self) -> bool:
        return bool(self.settings.make)

    @property
    def has_network(self) -> bool:
        return True

    @property
    def n_codebooks(self) -> int:
        """K; InputError where EnCodec has no such number, or two settings contradict each other."""
        try:
            return resolve_codebooks(self.settings.bandwidth, self.settings.codebooks)
        except InputError as error:
            raise InputError(f"--codes: {error}") from error

    def value(self, film: FilmFiles) -> ValueType:
        if (n_frames := frames_per_tr(film.tr_seconds)) < 1:
            raise InputError(f"--tr_seconds is {film.tr_seconds:g}; a code frame lasts 1/75 s")
        return ValueType(dtype="int16", shape=(self.n_codebooks, n_frames))

    def recipe(self, films: Sequence[FilmFiles]) -> dict[str, Any]:
        return {
            "codebooks": self.n_codebooks,
            "chunk_seconds": self.settings.chunk_seconds,
            "warmup_seconds": self.settings.warmup_seconds,
            "codec": self._codec_recipe(films),
        }

    def _codec_recipe(self, films: Sequence[FilmFiles]) -> dict[str, Any]:
        """Say what decides the codec, without loading one."""
        weights = self.settings.weights
        if weights == "untrained":
            sounds = [[film.sha256["film"], film.stop_seconds] for film in films]
            return {"weights": weights, "sounds": sounds}
        if weights.endswith(".safetensors"):
            if not Path(weights).is_file():
                raise InputError(f"--codes.weights: no such file: {weights}")
            with Path(weights).open("rb") as stream:
                return {"weights": "saved", "sha256": file_digest(stream, "sha256").hexdigest()}
        # The library's own weight file, wherever it lies: its name holds its checksum, which the
        # library verifies.
        return {"weights": "pretrained"}

    # --- the codec ----------------------------------------------------------------------------

    def prepare(self, films: Sequence[FilmFiles]) -> Prepared:
        """Load, download or make the codec once."""
        from giblet_ray.features.codec import load_codec

        weights = self.settings.weights
        codec = _seeded_codec(films) if weights == "untrained" else load_codec(weights)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "codec.safetensors"
            codec.save(file)
            content = file.read_bytes()
        made_with = {"codec": "encodec_24khz", "weights_sha256": codec.checksum}
        return Prepared(content, made_with, {"weights": codec.weights})

    def load(self, prepared: Prepared, device: str) -> None:
        from giblet_ray.features.codec import load_codec

        super().load(prepared, device)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "codec.safetensors"
            file.write_bytes(prepared.content)
            self._codec: Codec = load_codec(str(file), device)
        self._tape: tuple[tuple[str, Fraction], Tape] | None = None

    def blob(self, name: str, prepared: Prepared) -> bytes:
        """Return the codebooks' vectors, (K, 1024, 128) float32, as an .npy file."""
        from safetensors.numpy import load

        weights, stream = load(prepared.content), io.BytesIO()
        embeds = [
            weights[f"quantizer.vq.layers.{codebook}._codebook.embed"]
            for codebook in range(self.n_codebooks)
        ]
        np.save(stream, np.stack(embeds).astype(np.float32))
        return stream.getvalue()

    # --- a film -------------------------------------------------------------------------------

    def pieces(self, film: FilmFiles) -> list[dict[str, Any]]:
        """Return the stretches of a film's codes, and the piece that measures agreement."""
        n_frames = math.ceil(film.exact_stop * FRAME_RATE)
        warmup = round(self.settings.warmup_seconds * FRAME_RATE)
        chunk = max(1, round(self.settings.chunk_seconds * FRAME_RATE))
        least = max(_LEAST_PIECE_SECONDS * FRAME_RATE, n_frames / _MOST_PIECES)
        # Whole numbers of what is heard at a time: nothing is heard to fill up.
        together = windows_at_a_time(self.settings.chunk_seconds) * chunk
        starts = range(warmup, n_frames, math.ceil(least / together) * together)
        cuts = pairwise([0, *starts[1:], n_frames])
        return [_AGREEMENT, *({"start_frame": start, "stop_frame": stop} for start, stop in cuts)]

    def make_piece(self, film: FilmFiles, piece: dict[str, Any]) -> np.ndarray:
        """Encode one piece of a film's sound.

        Returns
        -------
        codes_KT : ndarray of int16, shape (codebooks, stop_frame - start_frame)
            Or, of the piece that measures it, the agreement: float64, shape ().

        Raises
        ------
        InputError
            If the codes depend too much on the cutting into chunks.
        """
        from giblet_ray.features.codec import AGREEMENT_SECONDS, HOP_SAMPLES, SAMPLE_RATE

        warmup_seconds = self.settings.warmup_seconds
        how = (self.n_codebooks, self.settings.chunk_seconds, warmup_seconds)
        if piece == _AGREEMENT:
            first_N = np.concatenate(list(self._heard(film, 0, AGREEMENT_SECONDS * SAMPLE_RATE)))
            agreement = self._codec.chunk_agreement(first_N, *how)
            self._check_agreement(film, agreement)
            return np.array(agreement)
        start, stop = piece["start_frame"], piece["stop_frame"]
        n_warmup = round(warmup_seconds * FRAME_RATE) if start else 0
        samples = self._heard(film, (start - n_warmup) * HOP_SAMPLES, stop * HOP_SAMPLES)
        return self._codec.encode(samples, *how)[:, n_warmup:]

    def _heard(self, film: FilmFiles, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield samples [start, stop) of a film's sound, as far as there are any.

        A worker's pieces of a film mostly follow each other: its sound is read on from the last.
        """
        from giblet_ray.features.codec import SAMPLE_RATE

        stop = min(stop, _n_samples(film))
        sound = film.path, film.exact_stop
        # Kept again once all is read, and not after an error.
        kept, self._tape = self._tape, None
        if kept is None or kept[0] != sound or start < kept[1].start:
            kept = sound, _open_sound(film)
        step = _READ_SECONDS * SAMPLE_RATE
        for at in range(start, stop, step):
            yield kept[1].read(at, min(at + step, stop), needed=stop)
        self._tape = kept

    def _check_agreement(self, film: FilmFiles, agreement: float) -> None:
        if agreement < LEAST_AGREEMENT:
            raise InputError(
                f"{film.path}: encoded in chunks of {self.settings.chunk_seconds:g} s, "
                f"{agreement:.1%} of the codes are those of encoding it whole; at least "
                f"{LEAST_AGREEMENT:.0%} are expected: raise --codes.warmup_seconds (now "
                f"{self.settings.warmup_seconds:g}) or --codes.chunk_seconds"
            )

    def join(
        self,
        film: FilmFiles,
        made: Sequence[tuple[dict[str, Any], np.ndarray]],
        prepared: Prepared,
    ) -> Made:
        """Join the pieces and cut the codes into TRs."""
        from giblet_ray.features.media import sound_notes

        stretches = sorted(
            ((piece["start_frame"], codes_KT) for piece, codes_KT in made if piece != _AGREEMENT),
            key=lambda stretch: stretch[0],
        )
        (agreement,) = (float(values) for piece, values in made if piece == _AGREEMENT)
        codes_KT = np.concatenate([codes_KT for _, codes_KT in stretches], axis=1)
        codes_RKF = cut_codes(codes_KT, film.n_trs, film.tr_seconds, film.start_seconds)
        facts = {**prepared.facts, "chunk_agreement": agreement}
        return Made(codes_RKF, prepared.made_with, facts, sound_notes(film.path))


def _n_samples(film: FilmFiles) -> int:
    """Return the samples of what is heard of a film."""
    from giblet_ray.features.codec import SAMPLE_RATE

    return round(film.exact_stop * SAMPLE_RATE)


def _open_sound(film: FilmFiles) -> Tape:
    """Open what is heard of a film."""
    from giblet_ray.features.audio import Tape, read_audio
    from giblet_ray.features.codec import SAMPLE_RATE

    return Tape(read_audio(film.path, SAMPLE_RATE, duration_seconds=film.exact_stop))


def _seeded_codec(films: Sequence[FilmFiles]) -> Codec:
    """Make an untrained codec from as much of each film, and no more in all than it needs."""
    import torch

    from giblet_ray.features.codec import SAMPLE_RATE, SEED_SECONDS, seed_untrained_codec

    each = SEED_SECONDS * SAMPLE_RATE // len(films)
    stops = [(film, min(each, _n_samples(film))) for film in films]
    samples_N = np.concatenate([_open_sound(film).read(0, n, needed=n) for film, n in stops])
    # Sums are rounded otherwise by another number of threads, and other codes are the nearest.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codec = seed_untrained_codec(samples_N)
    torch.set_num_threads(n_threads)
    return codec

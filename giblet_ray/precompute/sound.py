"""A film's audio codes, made by several workers at a time.

Encoding is by far the longest part of making a data set, so that a film is cut into pieces, which
are encoded anywhere and joined by the driver. Pieces end where the codec's own chunks end
(:meth:`Codec.encode`), so that their codes are those of encoding the film in one go::

    chunks of the film    |w|  c  |  c  |  c  |  c  |  c  |  c |      w warm-up, c chunk
    piece 0               |-------------|
    piece 1                           |w|-----------|
    piece 2                                       |w|----------|

Shapes: K codebooks, T code frames, N samples, R TRs, F code frames per TR.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from giblet_ray.dataset.storage import Storage, sha256_of_file
from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.codes import FRAME_RATE, cut_codes
from giblet_ray.precompute.units import WORK, Record, Unit, finish
from giblet_ray.settings import Group

if TYPE_CHECKING:
    from giblet_ray.features.codec import Codec

CODEC = f"{WORK}/codec.safetensors"
CODEC_RECORD = f"{WORK}/codec.json"

LEAST_AGREEMENT = 0.99
"""Share of codes that must be the same, encoded in chunks and encoded whole."""

_LEAST_PIECE_SECONDS = 120.0
_MOST_PIECES = 16
"""A worker decodes the sound from the film's start to its piece: sixteen pieces cost eight times
the decoding of the whole, which is a few seconds for an hour of film."""


class PreparedCodec(Group):
    """The codec that all workers load, below the data set's folder."""

    recipe: dict[str, Any]
    """What it was made from."""
    file_sha256: str
    weights: str
    """Where its weights are from, in words."""
    weights_sha256: str


class Piece(Group):
    """Frames [start, stop) of a film's codes, or the agreement on its first minute."""

    stimulus: str
    film: str
    seconds: float
    """Length of the film's sound."""
    start_frame: int
    stop_frame: int
    n_frames: int
    """Frames of the whole film."""
    n_codebooks: int
    chunk_seconds: float
    warmup_seconds: float
    measures_agreement: bool = False


def cut_pieces(unit: Unit) -> list[Piece]:
    """Return the pieces that a film's codes are joined from, and one that measures agreement."""
    seconds = unit.n_trs * unit.tr_seconds
    n_frames = math.ceil(exact_seconds(seconds) * FRAME_RATE)
    warmup = round(unit.settings["warmup_seconds"] * FRAME_RATE)
    chunk = max(1, round(unit.settings["chunk_seconds"] * FRAME_RATE))
    least = max(_LEAST_PIECE_SECONDS * FRAME_RATE, n_frames / _MOST_PIECES)
    starts = range(warmup, n_frames, math.ceil(least / chunk) * chunk)
    whole = Piece(
        stimulus=unit.stimulus,
        film=unit.files["film"],
        seconds=seconds,
        start_frame=0,
        stop_frame=n_frames,
        n_frames=n_frames,
        n_codebooks=unit.settings["codebooks"],
        chunk_seconds=unit.settings["chunk_seconds"],
        warmup_seconds=unit.settings["warmup_seconds"],
    )
    cuts = [
        whole.model_copy(update={"start_frame": start, "stop_frame": stop})
        for start, stop in pairwise([0, *starts[1:], n_frames])
    ]
    return [whole.model_copy(update={"measures_agreement": True}), *cuts]


def encode_piece(codec: Codec, piece: Piece) -> np.ndarray:
    """Encode one piece of a film's sound.

    Returns
    -------
    codes_KT : ndarray of int16, shape (codebooks, stop_frame - start_frame)
        Or, of the piece that measures it, the agreement: float64, shape ().
    """
    from giblet_ray.features.audio import read_audio
    from giblet_ray.features.codec import AGREEMENT_SECONDS, HOP_SAMPLES, SAMPLE_RATE

    blocks = read_audio(piece.film, SAMPLE_RATE, duration_seconds=piece.seconds)
    how = (piece.n_codebooks, piece.chunk_seconds, piece.warmup_seconds)
    if piece.measures_agreement:
        first_N = np.concatenate(list(_stretch(blocks, 0, AGREEMENT_SECONDS * SAMPLE_RATE)))
        return np.array(codec.chunk_agreement(first_N, *how))
    n_warmup = round(piece.warmup_seconds * FRAME_RATE) if piece.start_frame else 0
    first = (piece.start_frame - n_warmup) * HOP_SAMPLES
    return codec.encode(_stretch(blocks, first, piece.stop_frame * HOP_SAMPLES), *how)[:, n_warmup:]


def _stretch(blocks: Iterable[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """Yield samples [start, stop), as far as there are any."""
    position = 0
    for block_N in blocks:
        wanted_N = block_N[max(0, start - position) : stop - position]
        position += len(block_N)
        if len(wanted_N):
            yield wanted_N
        if position >= stop:
            return


class FilmCodes:
    """One film's codes, as its pieces arrive.

    Attributes
    ----------
    pieces : list of Piece
        What is to be encoded.
    seconds, encoded_seconds : float
        Length of the film's sound, and how much of it has arrived.
    """

    def __init__(self, unit: Unit, codec: PreparedCodec) -> None:
        self.pieces = cut_pieces(unit)
        self.seconds = unit.n_trs * unit.tr_seconds
        self.encoded_seconds = 0.0
        self._unit = unit
        self._codec = codec
        self._codes: dict[int, np.ndarray] = {}
        self._agreement: float | None = None

    def add(self, piece: Piece, values: np.ndarray) -> None:
        """Take what :func:`encode_piece` gave.

        Raises
        ------
        InputError
            If the codes depend too much on the cutting into chunks.
        """
        if not piece.measures_agreement:
            self._codes[piece.start_frame] = values
            n_frames = sum(codes_KT.shape[1] for codes_KT in self._codes.values())
            self.encoded_seconds = self.seconds * n_frames / piece.n_frames
            return
        self._agreement = float(values)
        if self._agreement < LEAST_AGREEMENT:
            raise InputError(
                f"{piece.film}: encoded in chunks of {piece.chunk_seconds:g} s, "
                f"{self._agreement:.1%} of the codes are those of encoding it whole; at least "
                f"{LEAST_AGREEMENT:.0%} are expected: raise --codes.warmup_seconds (now "
                f"{piece.warmup_seconds:g}) or --codes.chunk_seconds"
            )

    @property
    def is_complete(self) -> bool:
        """Whether all pieces and the agreement are there."""
        return self._agreement is not None and len(self._codes) == len(self.pieces) - 1

    def finish(self, storage: Storage) -> Record:
        """Join the pieces, cut the codes into TRs and write the shard."""
        codes_KT = np.concatenate([self._codes[start] for start in sorted(self._codes)], axis=1)
        codes_RKF = cut_codes(codes_KT, self._unit.n_trs, self._unit.tr_seconds)
        made_with = {"codec": "encodec_24khz", "weights_sha256": self._codec.weights_sha256}
        facts = {"weights": self._codec.weights, "chunk_agreement": self._agreement}
        return finish(storage, self._unit, codes_RKF, made_with, facts)


def codec_recipe(weights: str, sounds: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Say what decides a codec, without loading one.

    Parameters
    ----------
    weights : str
        The setting.
    sounds : sequence of (str, float)
        Each film's checksum and length (s): an untrained codec is seeded from them.
    """
    if weights == "untrained":
        return {"weights": weights, "sounds": [list(sound) for sound in sounds]}
    if weights.endswith(".safetensors"):
        if not Path(weights).is_file():
            raise InputError(f"--codes.weights: no such file: {weights}")
        return {"weights": "saved", "sha256": sha256_of_file(weights)}
    # The library's own weight file, wherever it lies: its name holds its checksum, which the
    # library verifies.
    return {"weights": "pretrained"}


def prepare_codec(
    storage: Storage, weights: str, recipe: dict[str, Any], films: Sequence[tuple[str, float]]
) -> PreparedCodec:
    """Load, download or make the codec once, and put it where all workers find it.

    Parameters
    ----------
    storage : Storage
        The data set's folder.
    weights : str
        The setting.
    recipe : dict
        From :func:`codec_recipe`.
    films : sequence of (str, float)
        Path and length (s) of each film.
    """
    import torch

    from giblet_ray.features.audio import read_audio
    from giblet_ray.features.codec import (
        AGREEMENT_SECONDS,
        SAMPLE_RATE,
        load_codec,
        seed_untrained_codec,
    )

    if weights == "untrained":
        # As much of each film, and no more of all together than the codec is seeded from.
        each = AGREEMENT_SECONDS * SAMPLE_RATE // len(films)
        blocks = (
            block
            for film, seconds in films
            for block in _stretch(read_audio(film, SAMPLE_RATE, duration_seconds=seconds), 0, each)
        )
        samples_N = np.concatenate(list(blocks))
        # Sums are rounded otherwise by another number of threads, and other codes are the nearest.
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        codec = seed_untrained_codec(samples_N)
        torch.set_num_threads(n_threads)
    else:
        codec = load_codec(weights)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "codec.safetensors"
        codec.save(file)
        with storage.write(CODEC) as stream:
            stream.write(file.read_bytes())
    prepared = PreparedCodec(
        recipe=recipe,
        file_sha256=storage.sha256(CODEC),
        weights=codec.weights,
        weights_sha256=codec.checksum,
    )
    with storage.write(CODEC_RECORD) as stream:
        stream.write(prepared.model_dump_json().encode())
    return prepared


def find_prepared_codec(storage: Storage, recipe: dict[str, Any]) -> PreparedCodec | None:
    """Return the codec that an interrupted run has prepared, if it is of this recipe and whole."""
    if storage.size(CODEC) is None or storage.size(CODEC_RECORD) is None:
        return None
    try:
        prepared = PreparedCodec.model_validate_json(storage.read(CODEC_RECORD))
    except ValidationError:  # Another release's: the codec is prepared again.
        return None
    whole = prepared.recipe == recipe and prepared.file_sha256 == storage.sha256(CODEC)
    return prepared if whole else None


def load_prepared_codec(storage: Storage, device: str) -> Codec:
    """Load the codec that :func:`prepare_codec` has put into the data set's folder."""
    from giblet_ray.features.codec import load_codec

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "codec.safetensors"
        file.write_bytes(storage.read(CODEC))
        return load_codec(str(file), device)

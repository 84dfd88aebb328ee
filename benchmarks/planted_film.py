"""A film with a planted signal, one subject's scan that follows it, and a codec that hears it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from planted import N_KINDS, Planted, draw_gates, draw_sound, measure_tones, order_of_tones
from planted_codec import fit_planted_codec

from giblet_ray.demo import scans
from giblet_ray.demo.film import make_film
from giblet_ray.demo.script import Scene
from giblet_ray.demo.sound import SAMPLE_RATE
from giblet_ray.errors import InputError
from giblet_ray.features.codes import FRAME_RATE


class PlantedFiles(NamedTuple):
    """Where the files lie; the codec is for ``--codes.weights``."""

    film: Path
    subtitles: Path
    scan: Path
    mask: Path
    codec: Path


def make_planted(
    folder: Path,
    planted: Planted,
    *,
    n_trs: int,
    tr_seconds: float,
    n_voxels: int,
    ceiling: float = 0.65,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> PlantedFiles:
    """Make a film, and the scan of a subject all of whose voxels follow the planted signal.

    Parameters
    ----------
    folder : pathlib.Path
        Where to; made if missing.
    planted : Planted
        The settings with which an audio model can read the signal.
    n_trs, tr_seconds, n_voxels, ceiling, seed
        As :func:`giblet_ray.demo.make_demo` takes them.
    progress : callable, optional
        Called with the fraction of the film that is made.

    Raises
    ------
    InputError
        If a TR is too short to hold a pair of tones.
    """
    # Then every TR holds a pair, but for those where a scene ends.
    least = (planted.longest_period_frames + planted.scale_frames) / FRAME_RATE
    if tr_seconds < least:
        raise InputError(
            f"tr_seconds: {tr_seconds} is too short for a planted signal of "
            f"{planted.scale_frames} frames; at least {math.ceil(100 * least) / 100} is accepted"
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = ("film.mp4", "film.srt", "sub-01_bold.nii.gz", "mask.nii.gz", "codec.safetensors")
    files = PlantedFiles(*(folder / name for name in names))

    def draw(scenes: list[Scene], n_samples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        n_frames = math.ceil(n_samples * FRAME_RATE / SAMPLE_RATE)
        return draw_sound(draw_gates(scenes, n_frames, planted, rng), n_samples, rng)

    make_film(
        files.film,
        files.subtitles,
        n_trs * tr_seconds,
        seed=seed,
        n_sound_kinds=N_KINDS,
        draw_sound=draw,
        progress=progress,
    )
    tones_ST = measure_tones(files.film, math.floor(n_trs * tr_seconds * FRAME_RATE))
    fit_planted_codec(files.film, tones_ST, seed).save(files.codec)
    order_R = order_of_tones(tones_ST, planted, n_trs, tr_seconds)
    # A stream of random numbers apart from the film's own.
    rng = np.random.default_rng([seed, 1])
    signs_V = rng.permutation(np.where(np.arange(n_voxels) % 2, -1.0, 1.0))
    signal_RV = scans.convolve_features(order_R[:, None], tr_seconds) * signs_V
    response = scans.respond(signal_RV, ceiling, rng)
    scans.write_mask(files.mask, response.mask)
    bold_RV = scans.simulate_subject(response, rng)
    scans.write_scan(files.scan, bold_RV, response.mask, tr_seconds)
    return files

"""Make the demo film: an .mp4 with pictures and sound, and its .srt with words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from giblet_ray.demo import pictures, sound, words
from giblet_ray.demo.script import Scene, draw_scenes, draw_steps

DrawSound = Callable[[list[Scene], int, np.random.Generator], Iterator[np.ndarray]]
"""As :func:`giblet_ray.demo.sound.draw_sound`: from scenes to blocks of samples."""

# At full depth: luma up and down by this fraction, sound softer by up to so much, and this part of
# the sentences left out.
_FAST_LUMA, _FAST_DB, _FAST_SILENCE = 0.3, 24.0, 0.4


def make_film(
    film_path: Path,
    subtitles_path: Path,
    duration_seconds: float,
    *,
    seed: int,
    n_sound_kinds: int = len(sound.KINDS),
    draw_sound: DrawSound = sound.draw_sound,
    fast_features: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Draw, encode and write the film, a second at a time, so that memory does not grow with it.

    The same arguments give the same film, frame for frame, wherever the same libraries encode it.

    Parameters
    ----------
    film_path : pathlib.Path
        The .mp4 to write: H.264 (MPEG-4 where FFmpeg was built without it) and AAC.
    subtitles_path : pathlib.Path
        The .srt to write.
    duration_seconds : float
        Length of the film.
    seed : int
        What order, shapes, phases, noise and sentences are drawn from.
    n_sound_kinds, draw_sound : int, callable
        Kinds of scenes that the sound has, and what makes it of them (default: chords).
    fast_features : float
        How much light, loudness and speech change within scenes, every 1.5 to 4 s and each by
        itself: 0 not at all, 1 about as much as from scene to scene.
    progress : callable, optional
        Called after each second of film with the fraction made, in (0, 1].
    """
    rng_script, rng_pictures, rng_sound, rng_words = np.random.default_rng(seed).spawn(4)
    picture_scenes, sound_scenes, word_scenes = (
        draw_scenes(duration_seconds, n_kinds, rng_script)
        for n_kinds in (
            len(pictures.KINDS),
            n_sound_kinds,
            words.N_KINDS,
        )
    )
    light, softness, silence = (
        draw_steps(duration_seconds, rng) for rng in np.random.default_rng([seed, 2]).spawn(3)
    )
    words.write_subtitles(
        subtitles_path,
        word_scenes,
        rng_words,
        lambda seconds: silence.at(seconds) < _FAST_SILENCE * fast_features,
    )

    n_frames = round(duration_seconds * pictures.FRAMES_PER_SECOND)
    n_samples = round(duration_seconds * sound.SAMPLE_RATE)
    frames = pictures.draw_frames(
        picture_scenes,
        n_frames,
        rng_pictures,
        lambda seconds: _FAST_LUMA * fast_features * (2 * light.at(seconds) - 1),
    )
    frames_sent = samples_sent = 0
    with av.open(str(film_path), "w", format="mp4") as container:
        video, audio = _add_video(container), _add_audio(container)
        for block in draw_sound(sound_scenes, n_samples, rng_sound):
            heard_seconds = (samples_sent + np.arange(block.shape[1])) / sound.SAMPLE_RATE
            softer_db = _FAST_DB * fast_features * softness.at(heard_seconds)
            block *= 10 ** (-softer_db / 20)
            chunk = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            chunk.sample_rate = sound.SAMPLE_RATE
            chunk.pts = samples_sent
            chunk.time_base = Fraction(1, sound.SAMPLE_RATE)
            container.mux(audio.encode(chunk))
            samples_sent += block.shape[1]
            while frames_sent * sound.SAMPLE_RATE < samples_sent * pictures.FRAMES_PER_SECOND:
                planes = next(frames, None)
                if planes is None:
                    break
                picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                picture.pts = frames_sent
                picture.time_base = Fraction(1, pictures.FRAMES_PER_SECOND)
                container.mux(video.encode(picture))
                frames_sent += 1
            if progress is not None:
                progress(samples_sent / n_samples)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _add_video(container: av.container.OutputContainer) -> av.VideoStream:
    """Add a video stream that encodes on one thread: the outcome depends on how many there are."""
    if "libx264" in av.codecs_available:
        codec, options = "libx264", {"preset": "ultrafast", "crf": "26"}
    else:
        codec, options = "mpeg4", {"qscale": "3"}
    stream = container.add_stream(codec, rate=pictures.FRAMES_PER_SECOND, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = pictures.WIDTH, pictures.HEIGHT
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _add_audio(container: av.container.OutputContainer) -> av.AudioStream:
    """Add a stereo AAC stream."""
    options = {"aac_coder": "fast"}
    stream = container.add_stream("aac", rate=sound.SAMPLE_RATE, layout="stereo", options=options)
    assert isinstance(stream, av.AudioStream)
    stream.bit_rate = 128_000
    return stream

"""Sound on the film's clock."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.features.audio import Tape, read_audio


def onset_and_offset_seconds(samples_N: np.ndarray, rate: int = 24_000) -> tuple[float, float]:
    loud = np.flatnonzero(np.abs(samples_N) > 0.1)
    return loud[0] / rate, loud[-1] / rate


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.mp4", "aac", 8_000, "mono"),
        ("b.mp4", "aac", 44_100, "stereo"),
        ("c.mp4", "aac", 48_000, "5.1"),
        ("d.mkv", "pcm_s16le", 22_050, "stereo"),
        ("e.mkv", "pcm_f32le", 24_000, "mono"),
        ("f.mkv", "flac", 96_000, "quad"),
        ("g.avi", "pcm_s16le", 32_000, "stereo"),
    ],
)
def test_any_rate_and_layout_keep_time_and_level(make_film, burst, name, codec, rate, layout):
    path = make_film(
        name, 5.0, sound=burst(5, rate), sound_rate=rate, layout=layout, audio_codec=codec
    )
    blocks = list(read_audio(path, block_seconds=0.7))
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    assert {len(block) for block in blocks[:-1]} == {round(0.7 * 24_000)}
    samples_N = np.concatenate(blocks)
    assert len(samples_N) / 24_000 == pytest.approx(5.0, abs=0.15)
    onset, offset = onset_and_offset_seconds(samples_N)
    assert onset == pytest.approx(3.0, abs=0.003)
    assert offset == pytest.approx(3.5, abs=0.003)
    steady_N = samples_N[round(3.1 * 24_000) : round(3.4 * 24_000)]
    # The same tone in every channel comes out as it is; the LFE channel is left out of the mix.
    assert np.sqrt(np.mean(steady_N**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_stereo_is_mixed_by_the_mean(make_film):
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, size=(2, 48_000))
    path = make_film("f.mkv", 2.0, sound=sound, layout="stereo", audio_codec="pcm_f32le")
    samples_N = np.concatenate(list(read_audio(path)))
    np.testing.assert_allclose(samples_N, sound.mean(axis=0), atol=1e-6)


def test_resampling_keeps_a_tone_and_its_phase(make_film):
    time = np.arange(3 * 44_100) / 44_100
    sound = 0.8 * np.sin(2 * np.pi * 1000 * time)
    path = make_film("f.mkv", 3.0, sound=sound, sound_rate=44_100, audio_codec="pcm_f32le")
    samples_N = np.concatenate(list(read_audio(path)))
    expected_N = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(72_000) / 24_000)
    np.testing.assert_allclose(samples_N[1000:71_000], expected_N[1000:71_000], atol=2e-3)


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
@pytest.mark.parametrize("start", [0.5, 2.0])
def test_sound_that_starts_after_the_pictures_is_preceded_by_silence(
    make_film, burst, codec, start
):
    sound = burst(5, 24_000, starts_seconds=start)
    path = make_film("f.mkv", 5.0, sound=sound, sound_starts_seconds=start, audio_codec=codec)
    samples_N = np.concatenate(list(read_audio(path)))
    assert onset_and_offset_seconds(samples_N)[0] == pytest.approx(3.0, abs=0.003)
    assert len(samples_N) / 24_000 == pytest.approx(5.0, abs=0.1)


def test_sound_before_the_first_picture_is_left_out(make_film, burst):
    path = make_film("f.mkv", 6.0, picture_seconds=1.0 + np.arange(50) / 10, sound=burst(6, 24_000))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.start_time * stream.time_base) == pytest.approx(1.0)
    samples_N = np.concatenate(list(read_audio(path)))
    assert onset_and_offset_seconds(samples_N)[0] == pytest.approx(2.0, abs=0.003)
    assert len(samples_N) / 24_000 == pytest.approx(5.0, abs=0.01)


def test_a_hole_in_the_sound_is_silence_and_not_a_shift(tmp_path, burst):
    path = tmp_path / "f.mkv"
    sound = burst(5, 24_000).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_f32le", rate=24_000, layout="mono")
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for start in range(0, len(sound), 1200):
            if 1.0 <= start / 24_000 < 2.0:
                continue
            block = av.AudioFrame.from_ndarray(sound[None, start : start + 1200], "flt", "mono")
            block.sample_rate, block.pts = 24_000, start
            container.mux(audio.encode(block))
        container.mux(audio.encode())
    samples_N = np.concatenate(list(read_audio(path)))
    assert onset_and_offset_seconds(samples_N)[0] == pytest.approx(3.0, abs=0.003)
    assert len(samples_N) == 120_000


def test_the_duration_asked_for_is_delivered_to_the_sample(make_film, burst):
    path = make_film("f.mkv", 5.0, sound=burst(5, 24_000))
    for seconds in (4.5, 5.0, 5.05):
        samples_N = np.concatenate(list(read_audio(path, duration_seconds=seconds)))
        assert len(samples_N) == round(seconds * 24_000)
    assert not samples_N[120_000:].any()


def test_sound_that_ends_too_early_is_refused(make_film, tmp_path, burst):
    path = make_film("f.mkv", 5.0, sound=burst(5, 24_000))
    with pytest.raises(InputError, match=r"f.mkv: its audio ends at 5.00 s, 6.00 s are expected"):
        list(read_audio(path, duration_seconds=6.0))
    whole = make_film(
        "whole.mp4",
        60.0,
        fps=25,
        sound=burst(60, 24_000),
        audio_codec="aac",
        container_options={"movflags": "faststart"},
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut.mp4: its audio .* (truncated|damaged)"):
        list(read_audio(cut, duration_seconds=60.0))


def test_a_film_without_audio_and_samples_that_are_not_finite_are_refused(make_film):
    with pytest.raises(InputError, match=r"silent.mp4: the film has no audio"):
        next(read_audio(make_film("silent.mp4", 2.0)))
    sound = np.zeros(48_000)
    sound[30_000] = np.nan
    path = make_film("nan.mkv", 2.0, sound=sound, audio_codec="pcm_f32le")
    with pytest.raises(InputError, match=r"nan.mkv: its audio holds samples that are not finite"):
        list(read_audio(path))


@given(
    st.lists(st.integers(0, 30), max_size=20),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 25)), max_size=12),
)
def test_a_tape_is_read_forwards_over_any_blocks(lengths, reads):
    samples_N = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    tape, start = Tape(np.split(samples_N, np.cumsum(lengths)[:-1]) if lengths else []), 0
    for onwards, n in reads:
        start += onwards
        if start > len(samples_N):
            break
        expected_n = np.pad(samples_N[start : start + n], (0, max(0, start + n - len(samples_N))))
        np.testing.assert_array_equal(tape.read(start, start + n, needed=0), expected_n)
        assert tape.start == start
    with pytest.raises(ValueError, match="forgotten"):
        tape.read(tape.start - 1, tape.start, needed=0)

"""Probing films, and counting their TRs."""

from __future__ import annotations

import dataclasses

import av
import numpy as np
import pytest
from av.stream import Disposition

from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.media import Film, probe_film, sound_notes, tr_count
from giblet_ray.features.video import read_frames

FILM = Film("film.mp4", 600.0, True, 600.0)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi"])
def test_a_film_is_measured_whether_or_not_its_container_states_durations(make_film, name):
    path = make_film(
        name, 6.0, sound=np.zeros(6 * 44_100), sound_rate=44_100, audio_codec="ac3", layout="stereo"
    )
    film = probe_film(path, require_audio=True)
    assert film.duration_seconds == pytest.approx(6.0, abs=0.11)
    assert film.audio_duration_seconds == pytest.approx(6.0, abs=0.05)
    assert (film.has_video, film.has_audio) == (True, True)
    assert tr_count(film, 1.5) == 4


def test_audio_that_starts_later_still_ends_where_it_ends(make_film):
    film = probe_film(make_film("f.mkv", 6.0, sound=np.zeros(4 * 24_000), sound_starts_seconds=2))
    assert film.audio_duration_seconds == pytest.approx(6.0, abs=0.01)


def test_a_film_without_audio_is_refused_where_audio_is_needed(make_film):
    path = make_film("silent.mp4", 3.0)
    assert not probe_film(path).has_audio
    assert tr_count(probe_film(path), 1.5) == 2
    with pytest.raises(InputError, match=r"silent.mp4: the film has no audio"):
        probe_film(path, require_audio=True)


def test_files_that_are_no_films_are_refused_by_name(make_film, tmp_path):
    with pytest.raises(InputError, match=r"none.mp4: no such file"):
        probe_film(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("Once upon a time\n" * 100)
    with pytest.raises(InputError, match=r"text.mp4: FFmpeg cannot open it"):
        probe_film(text)
    whole = make_film("whole.mp4", 6.0)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut.mp4: FFmpeg cannot open it .* truncated"):
        probe_film(cut)


def test_a_truncated_film_whose_header_survives_is_refused(make_film, tmp_path):
    whole = make_film("whole.mkv", 20.0, sound=np.zeros(20 * 24_000))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut.mkv: it is truncated: it holds .* of the 20.0 s"):
        probe_film(cut)


@pytest.mark.parametrize(
    "folder", ["day:1", "day::1", "concat:a|b", 'it\'s a "day" %03d #1?', "-f"]
)
def test_a_film_is_found_by_a_relative_path_of_any_name(make_film, tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    make_film("film.mp4", 3.0).rename(tmp_path / folder / "film.mp4")
    monkeypatch.chdir(tmp_path)
    assert probe_film(f"{folder}/film.mp4").duration_seconds == pytest.approx(3.0, abs=0.11)


TONES = 0.1 * np.sin(2 * np.pi * np.outer([300, 500, 700], np.arange(3 * 8000) / 8000))
DEFAULT, PLAIN = Disposition.default, Disposition(0)


@pytest.mark.parametrize(
    ("name", "dispositions", "played"),
    [
        *(
            (name, dispositions, played)
            for name in ("film.mkv", "film.mp4")
            for dispositions, played in (
                ([PLAIN, DEFAULT, PLAIN], 1),
                ([DEFAULT, DEFAULT, DEFAULT], 0),
                ([PLAIN, PLAIN, DEFAULT], 2),
                ([DEFAULT | Disposition.comment, DEFAULT, PLAIN], 1),
            )
        ),
        # Of an .mp4, one is always marked.
        ("film.mkv", [Disposition.comment, PLAIN, PLAIN], 1),
        ("film.mkv", [PLAIN, PLAIN, PLAIN], 0),
    ],
)
def test_the_track_that_players_play_is_read_and_another_if_told(
    make_film, name, dispositions, played
):
    path = make_film(
        name,
        3.0,
        sound=TONES,
        sound_rate=8000,
        dispositions=dispositions,
        audio_codec="aac" if name.endswith("mp4") else "pcm_s16le",
    )

    def heard(source):
        spectrum = np.abs(np.fft.rfft(np.concatenate(list(read_audio(source, 8000)))[:24_000]))
        return int(np.argmin(np.abs(np.argmax(spectrum) / 3 - [300, 500, 700])))

    assert heard(path) == played
    (note,) = sound_notes(path)
    assert note.startswith(f"{name}: its sound is that of track {played + 1} of 1, 2, 3")
    for track in range(3):
        chosen = f"{path}::{track + 1}"
        assert probe_film(chosen).audio_duration_seconds == pytest.approx(3.0, abs=0.2)
        assert heard(chosen) == track
        assert f"that of track {track + 1} of" in sound_notes(chosen)[0]
    with pytest.raises(InputError, match=r"film.m..::4: film.m.. has 3 sound tracks; ::1 to ::3"):
        probe_film(f"{path}::4")


def test_one_sound_track_is_not_worth_a_word(make_film):
    assert sound_notes(make_film("one.mkv", 3.0, sound=np.zeros(72_000))) == []
    assert sound_notes(make_film("none.mkv", 3.0)) == []


@pytest.mark.parametrize("fps", [10, 24, 25])
def test_pictures_that_are_stored_in_another_order_than_shown_are_a_film(make_film, fps):
    """Matroska has no decoding times: FFmpeg makes them up, but for the first pictures."""
    path = make_film("film.mkv", 6.0, fps=fps, video_codec="libx264", sound=np.zeros(6 * 24_000))
    with av.open(str(path)) as container:
        stamps = [p.pts for p in container.demux(video=0) if p.size]
    assert stamps != sorted(stamps)
    assert probe_film(path).duration_seconds == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize("seconds", np.arange(14.885, 14.92, 0.005).tolist())
def test_what_counts_as_a_tr_of_sound_can_be_read(tmp_path, burst, seconds):
    """Packets of MP3 hold padding, which the decoder leaves out: their ends are later."""
    sound_N = burst(15, 44_100)[: round(seconds * 44_100)]
    path = write_sound(tmp_path / "story.mp3", sound_N, "libmp3lame", 44_100)
    n_trs = tr_count(probe_film(path), 1.5)
    samples_N = np.concatenate(list(read_audio(path, 24_000, duration_seconds=1.5 * n_trs)))
    assert len(samples_N) == 36_000 * n_trs


STREAMS = [("mpg", "mpeg2video", "mp2"), ("ts", "mpeg2video", "mp2"), ("ts", "mpeg4", "aac")]


@pytest.mark.parametrize(("suffix", "video", "audio"), STREAMS)
@pytest.mark.parametrize("lengths", [(4, 5), (5, 4), (4, 4)])
def test_streams_that_were_joined_byte_by_byte_are_refused(
    make_film, tmp_path, suffix, video, audio, lengths
):
    parts = [
        make_film(
            f"part{number}.{suffix}",
            seconds,
            fps=25,
            sound=np.zeros(48_000 * seconds),
            sound_rate=48_000,
            video_codec=video,
            audio_codec=audio,
        )
        for number, seconds in enumerate(lengths)
    ]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    with pytest.raises(InputError, match=rf"joined.{suffix}: its time stamps step back from \d"):
        probe_film(joined)


def test_a_stream_whose_clock_jumps_is_refused(make_film, tmp_path):
    late = make_film("late.ts", 4, fps=25, container_options={"output_ts_offset": "2000"})
    early = make_film("early.ts", 4, fps=25)
    joined = tmp_path / "joined.ts"
    for first, second in ((late, early), (early, late)):
        joined.write_bytes(first.read_bytes() + second.read_bytes())
        with pytest.raises(InputError, match=r"joined.ts: its time stamps (jump|step back) "):
            probe_film(joined)


@pytest.mark.parametrize("seconds_before", [1.5, 70])
def test_a_clock_that_begins_anew_at_its_end_is_a_film(make_film, seconds_before):
    # A transport stream counts to 2^33 / 90 kHz.
    wraps = 2**33 / 90_000
    seconds = seconds_before + 3
    path = make_film(
        "wrap.ts",
        seconds,
        fps=25 if seconds < 60 else 2,
        video_codec="mpeg2video" if seconds < 60 else "mpeg4",
        container_options={"output_ts_offset": str(wraps - seconds_before)},
    )
    film = probe_film(path)
    assert film.duration_seconds == pytest.approx(seconds, abs=0.6)
    n_trs = tr_count(film, 1.5)
    assert n_trs == int(seconds // 1.5)
    levels = read_frames(path, n_trs, 1.5).mean(axis=(1, 2, 3))
    fps = 25 if seconds < 60 else 2
    expected = [8 * (int((tr + 0.5) * 1.5 * fps + 1e-6) % 30) for tr in range(n_trs)]
    np.testing.assert_allclose(levels, expected, atol=4.1)


@pytest.mark.parametrize("suffix", ["vob", "mpg", "ts", "m2ts", "mp4", "mkv", "avi"])
def test_a_film_is_as_long_as_its_pictures_whatever_its_header_says(make_film, suffix):
    is_stream = suffix in ("vob", "mpg", "ts", "m2ts")
    path = make_film(
        f"film.{suffix}",
        45.0,
        fps=24,
        sound=np.zeros(45 * 48_000),
        sound_rate=48_000,
        video_codec="mpeg2video" if is_stream else "mpeg4",
        audio_codec="mp2" if is_stream else "ac3",
    )
    film = probe_film(path)
    assert film.duration_seconds == pytest.approx(45, abs=0.005)
    # TRs of two pictures: the last TR lacks one where the last picture is not counted.
    assert tr_count(film, 1.5) == 30
    assert len(read_frames(path, 30, 1.5)) == 30


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("flac", "flac"), ("m4a", "aac")],
)
def test_sound_alone_is_a_film_without_pictures(tmp_path, burst, suffix, codec):
    path = write_sound(tmp_path / f"story.{suffix}", burst(6, 48_000), codec)
    film = probe_film(path)
    assert (film.has_video, film.has_audio) == (False, True)
    assert film.duration_seconds == film.audio_duration_seconds == pytest.approx(6.0, abs=0.06)
    assert tr_count(film, 1.5) == 4
    samples_N = np.concatenate(list(read_audio(path, 24_000, duration_seconds=6.0)))
    loud = np.flatnonzero(np.abs(samples_N) > 0.1)
    assert loud[0] / 24_000 == pytest.approx(3.0, abs=0.03)
    assert loud[-1] / 24_000 == pytest.approx(3.5, abs=0.03)
    with pytest.raises(InputError, match=rf"story.{suffix}: it has no video stream"):
        read_frames(path, 4, 1.5)


def write_sound(path, samples_N, codec="pcm_s16le", rate=48_000):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start in range(0, len(samples_N), 1024):
            block = samples_N[None, start : start + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("video", "audio", "n_trs"),
    [
        (600.0, 600.0, 400),
        (599.97, 600.0, 400),
        (600.0, 599.93, 400),
        (599.8, 600.0, 399),
        (600.0, 598.6, 399),
        (601.4, 601.3, 400),
        (601.45, 601.45, 401),
    ],
)
def test_a_tr_counts_when_both_streams_cover_all_but_a_picture_of_it(video, audio, n_trs):
    film = dataclasses.replace(FILM, duration_seconds=video, audio_duration_seconds=audio)
    assert tr_count(film, 1.5) == n_trs


def test_streams_of_other_lengths_are_refused():
    film = dataclasses.replace(FILM, audio_duration_seconds=590.0)
    with pytest.raises(InputError, match=r"film.mp4: its video ends at 600.00 s and its audio at"):
        tr_count(film, 1.5)


def test_streams_of_other_lengths_may_be_trimmed_to_what_has_both():
    for video, audio in ((600.0, 590.0), (590.0, 600.0)):
        film = dataclasses.replace(FILM, duration_seconds=video, audio_duration_seconds=audio)
        assert tr_count(film, 1.5, lengths="trim") == 393


def test_a_film_shorter_than_a_tr_is_refused():
    film = dataclasses.replace(FILM, duration_seconds=1.0, audio_duration_seconds=1.0)
    with pytest.raises(InputError, match=r"at least one TR"):
        tr_count(film, 1.5)


def test_decimal_seconds_are_exact():
    assert exact_seconds(0.72) * 75 == 54
    assert exact_seconds(1.5) * 24_000 == 36_000

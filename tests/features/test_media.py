"""Probing films, and counting their TRs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.media import Film, probe_film, tr_count

FILM = Film("film.mp4", 600.0, True, 600.0, 64, 48, 25.0)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi"])
def test_a_film_is_measured_whether_or_not_its_container_states_durations(make_film, name):
    path = make_film(
        name, 6.0, sound=np.zeros(6 * 44_100), sound_rate=44_100, audio_codec="ac3", layout="stereo"
    )
    film = probe_film(path, require_audio=True)
    assert film.duration_seconds == pytest.approx(6.0, abs=0.11)
    assert film.audio_duration_seconds == pytest.approx(6.0, abs=0.05)
    assert (film.width, film.height, film.has_audio) == (64, 48, True)
    assert film.mean_fps == pytest.approx(10, rel=0.05)
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


@pytest.mark.parametrize("folder", ["day:1", "concat:a|b", 'it\'s a "day" %03d #1?', "-f"])
def test_a_film_is_found_by_a_relative_path_of_any_name(make_film, tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    make_film("film.mp4", 3.0).rename(tmp_path / folder / "film.mp4")
    monkeypatch.chdir(tmp_path)
    assert probe_film(f"{folder}/film.mp4").duration_seconds == pytest.approx(3.0, abs=0.11)


def test_sound_alone_is_no_film(tmp_path):
    import av

    path = tmp_path / "song.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match=r"song.wav: it has no video stream"):
        probe_film(path)


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


def test_a_film_shorter_than_a_tr_is_refused():
    film = dataclasses.replace(FILM, duration_seconds=1.0, audio_duration_seconds=1.0)
    with pytest.raises(InputError, match=r"at least one TR"):
        tr_count(film, 1.5)


def test_decimal_seconds_are_exact():
    assert exact_seconds(0.72) * 75 == 54
    assert exact_seconds(1.5) * 24_000 == 36_000

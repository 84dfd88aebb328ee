"""Frames of TRs."""

from __future__ import annotations

import av
import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.media import probe_film, tr_count
from giblet_ray.features.video import read_frames, shown_size


def grey_levels(frames_TCHW: np.ndarray) -> list[int]:
    """Number of the picture in each frame, told from its grey level."""
    return [round(float(frame.mean()) / 8) for frame in frames_TCHW]


def test_frames_of_a_constant_rate_are_those_at_the_midpoints(make_film):
    path = make_film("film.mp4", 4.5, fps=4)
    frames_TCHW = read_frames(path, 3, 1.5)
    assert frames_TCHW.shape == (3, 3, 90, 160)
    assert frames_TCHW.dtype == np.uint8
    # Midpoints at 0.75, 2.25 and 3.75 s; the picture that appears exactly then is on screen.
    assert grey_levels(frames_TCHW) == [3, 9, 15]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_frames_of_a_variable_rate_follow_the_timestamps(make_film, name):
    rng = np.random.default_rng(0)
    gaps = rng.choice([0.04, 0.08, 0.2, 0.9, 2.1], size=29)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    path = make_film(name, float(times[-1]) + 0.4, picture_seconds=times)
    tr_seconds = 0.8
    n_trs = tr_count(probe_film(path), tr_seconds)
    expected = [int(np.sum(times <= (i + 0.5) * tr_seconds + 1e-9)) - 1 for i in range(n_trs)]
    by_count = [round((i + 0.5) / n_trs * len(times)) for i in range(n_trs)]
    assert grey_levels(read_frames(path, n_trs, tr_seconds)) == expected
    assert expected != by_count


@pytest.mark.parametrize("tr_seconds", [1.0, 1.49])
def test_frames_of_a_tr_are_evenly_in_time_and_in_order(make_film, tr_seconds):
    path = make_film("film.mp4", 6.0, fps=5)
    frames_TCHW = read_frames(path, 4, tr_seconds, height=16, width=24, per_tr=3)
    assert frames_TCHW.shape == (4, 9, 16, 24)
    # The 12 frames are those at the midpoints of 12 TRs of a third of the length.
    moments = (np.arange(12) + 0.5) * tr_seconds / 3
    assert grey_levels(frames_TCHW.reshape(12, 3, 16, 24)) == [int(s * 5 + 1e-9) for s in moments]
    one_TCHW = read_frames(path, 4, tr_seconds, height=16, width=24)
    np.testing.assert_array_equal(frames_TCHW[:, 3:6], one_TCHW)


@pytest.mark.parametrize("name", ["film.ts", "film.mkv"])
def test_time_starts_with_the_first_picture(make_film, name):
    path = make_film(name, 4.0, picture_seconds=1.0 + np.arange(75) / 25)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.start_time * stream.time_base) == pytest.approx(1.0)
    assert grey_levels(read_frames(path, 2, 1.5)) == [18, 26]


def test_frames_in_avi_without_presentation_times_are_read(make_film):
    path = make_film("film.avi", 3.0, fps=25)
    assert grey_levels(read_frames(path, 2, 1.5)) == [18, 26]


def write_corners(path, prepare=lambda stream: None):
    """Write a second of one picture, red in the top left corner and blue in the bottom right."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32, 0] = 255
    image[24:, 32:, 2] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.qmax = 2
        prepare(stream)
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path


def test_colours_rows_and_columns_keep_their_places(tmp_path):
    path = write_corners(tmp_path / "film.mp4")
    (frame_CHW,) = read_frames(path, 1, 1.0, height=12, width=20)
    assert frame_CHW.shape == (3, 12, 20)
    red, green, blue = (plane.astype(int) for plane in frame_CHW)
    assert red[:5, :8].min() > 200
    assert red[7:].max() < 40
    assert blue[7:, 12:].min() > 200
    assert blue[:5].max() < 40
    assert green.max() < 60


@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(
    ("mirrored", "upside_down"), [(False, False), (True, False), (False, True)]
)
def test_pictures_are_turned_as_they_are_shown(tmp_path, name, degrees, mirrored, upside_down):
    path = write_corners(
        tmp_path / name,
        lambda stream: stream.set_display_rotation(degrees, mirrored, upside_down),
    )
    (stored_CHW,) = read_frames(write_corners(tmp_path / "upright.mp4"), 1, 1.0, 24, 32)
    expected_CHW = np.rot90(stored_CHW, degrees // 90, axes=(1, 2))
    expected_CHW = expected_CHW[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]
    assert shown_size(path) == ((64, 48) if degrees % 180 else (48, 64))
    (shown_CHW,) = read_frames(path, 1, 1.0, *expected_CHW.shape[1:])
    np.testing.assert_allclose(shown_CHW.astype(int), expected_CHW, atol=3)


def test_pictures_that_are_shown_askew_are_refused(tmp_path):
    path = write_corners(tmp_path / "film.mp4", lambda stream: stream.set_display_rotation(30))
    with pytest.raises(InputError, match=r"film.mp4: its pictures are to be shown turned by anoth"):
        read_frames(path, 1, 1.0)


def test_a_truncated_film_says_how_far_it_goes(make_film, tmp_path):
    whole = make_film("whole.mp4", 60.0, fps=25, container_options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"cut.mp4: it is truncated: it holds .* of the 60.0 s"):
        probe_film(cut)
    n_trs = tr_count(probe_film(whole), 1.5)
    assert n_trs == 40
    with pytest.raises(
        InputError, match=r"cut.mp4: (\d+) of 40 expected TRs .* truncated"
    ) as error:
        read_frames(cut, n_trs, 1.5)
    n_decodable = int(str(error.value).split(": ")[1].split()[0])
    assert 10 < n_decodable < 40
    assert len(read_frames(cut, n_decodable, 1.5)) == n_decodable


def test_more_trs_than_the_film_holds_are_refused(make_film):
    path = make_film("film.mp4", 3.0)
    for per_tr in (1, 4):
        with pytest.raises(InputError, match=r"film.mp4: 2 of 3 expected TRs"):
            read_frames(path, 3, 1.5, per_tr=per_tr)


def test_the_last_picture_stays_where_a_film_ends_a_little_early(make_film):
    path = make_film("film.mp4", 2.92, picture_seconds=np.arange(30) / 10, fps=25)
    n_trs = tr_count(probe_film(path), 1.5)
    frames_TCHW = read_frames(path, n_trs, 1.5, per_tr=15)  # the last at 2.95 s
    assert grey_levels(frames_TCHW.reshape(30, 3, 90, 160))[-2:] == [28, 29]

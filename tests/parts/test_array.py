import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.parts.array import Array, ArrayConfig
from giblet_ray.parts.part import FilmFiles

N_TRS, TR = 8, 1.5


@pytest.fixture
def film_with(tmp_path):
    """Make a film of 8 TRs and half a second whose array holds these values and times."""

    def make(values, times=None):
        arrays = {"values": values} if times is None else {"values": values, "times": times}
        np.savez(tmp_path / "clip.npz", **arrays)
        files = {"film": "film.mp4", "clip": str(tmp_path / "clip.npz")}
        return FilmFiles(name="film", n_trs=N_TRS, tr_seconds=TR, seconds=12.5, files=files)

    return make


def test_rows_of_trs_are_taken_as_they_are(film_with):
    values = np.random.default_rng(0).normal(size=(N_TRS, 3))
    made = Array("clip").make(film_with(values))
    np.testing.assert_array_equal(made.values, values.astype(np.float32))
    assert made.facts == {"rows": N_TRS}


def test_samples_are_resampled_and_those_beside_the_trs_are_counted(film_with):
    times = np.arange(-2, 27) * 0.5  # from a second before the film to its end
    film = film_with(times[:, None], times)
    made = Array("clip").make(film)
    np.testing.assert_allclose(made.values[:, 0], np.arange(N_TRS) * TR + 0.5)
    assert made.facts == {"rows": 29, "rows_outside_all_trs": 5}
    nearest = Array("clip", ArrayConfig(resampling="nearest")).make(film)
    np.testing.assert_allclose(nearest.values[:, 0], np.arange(N_TRS) * TR + 0.5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((7, 3), "has 7 rows and no times, and film.mp4 covers 8 TRs of 1.5 s"),
        ((9, 3), "has 9 rows and no times, and film.mp4 covers 8 TRs"),
        ((3, 8), "is of shape (3, 8), and film.mp4 covers 8 TRs: it seems transposed"),
    ],
)
def test_another_number_of_trs_is_refused(film_with, shape, words):
    with pytest.raises(InputError, match=r"^[^\n]*clip.npz: ") as caught:
        Array("clip").value(film_with(np.ones(shape)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (np.arange(40) * 0.5, "lie between 0 and 19.5 s, and film.mp4 lasts 12.5 s"),
        (np.arange(26) * 0.5 - 4, "lie between -4 and 8.5 s"),
        (np.arange(20) * 0.5, "has no sample in TR 7, 10.5 to 12 s"),
        (np.arange(0, 13, 2.0), "has no sample in TR 3, 4.5 to 6 s"),
    ],
)
def test_times_that_do_not_cover_the_film_are_refused(film_with, times, words):
    with pytest.raises(InputError, match=r"^[^\n]*clip.npz: ") as caught:
        Array("clip").value(film_with(np.ones((len(times), 2)), times))
    assert words in str(caught.value)


def test_fewer_samples_than_trs_are_taken_by_the_nearest(film_with):
    film = film_with(np.arange(7.0)[:, None], np.arange(0, 13, 2.0))
    made = Array("clip", ArrayConfig(resampling="nearest")).make(film)
    assert made.values[:, 0].tolist() == [0, 1, 2, 3, 3, 4, 5, 6]

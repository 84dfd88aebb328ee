import math
from functools import partial

import pytest

from giblet_ray.errors import InputError
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.scan_timing import take_volumes


def film_from(seconds, *, n_trs, tr):
    n = math.floor((n_trs * tr - seconds) / tr + 1e-6)
    how = {"tr_seconds": tr, "start_seconds": seconds, "seconds": n_trs * tr, "files": {}}
    return FilmFiles(name="film", n_trs=n, **how)


def taken(n_volumes, onset=None, *, n_trs=100, tr=1.5, first=0, crop=(0, 0), offset=0.0):
    film = partial(film_from, n_trs=n_trs, tr=tr)
    return take_volumes((first, first + n_volumes), crop, onset, offset, film, tr, "scan.npy")


@pytest.mark.parametrize("tr", [0.72, 1.0, 1.49, 1.5, 2.0])
@pytest.mark.parametrize("onset", [0.0, 0.6, 0.6 + 2.98, 6.0, -4.5, 13.37, 20.011])
@pytest.mark.parametrize("crop", [0, 3])
def test_every_volume_that_is_taken_lies_where_it_was_measured(tr, onset, crop):
    """Against the clock: volume k begins k TRs after the first, the film at its onset."""
    found = taken(150, onset, tr=tr, first=7, crop=(crop, 0))
    assert 0 <= found.film.start_seconds < tr
    for row, volume in enumerate(range(*found.volumes)):
        in_film = (volume - 7) * tr - onset
        of_tr = found.film.start_seconds + (found.first_tr + row) * tr
        assert in_film == pytest.approx(of_tr, abs=1.1e-3)
        assert in_film > -2e-3
        assert volume >= 7 + crop
    # None that could be taken is left: of the film, and of the response to its end.
    before = (found.volumes[0] - 1 - 7) * tr - onset
    assert before < 0 or found.volumes[0] == 7 + crop
    response = math.ceil(20 / tr - 1e-9)
    assert found.stop_tr == min(found.film.n_trs + response, found.first_tr + 150 - found.n_before)
    assert found.n_before + found.n_trs + found.n_after == found.n_volumes == 150
    exact = -(found.onset_seconds + found.film.start_seconds) / tr
    assert exact == pytest.approx(found.first_tr, abs=1e-3 / tr)


def test_a_film_begins_with_the_first_volume_that_is_not_cropped():
    found = taken(110, crop=(4, 6))
    assert (found.volumes, found.first_tr, found.film.start_seconds) == ((4, 104), 0, 0)
    assert (found.n_before, found.n_after, found.n_lacking) == (4, 6, 0)
    assert found.onset_seconds == 0


def test_volumes_that_were_shifted_against_their_film_reach_past_its_end():
    """Sherlock: 946 volumes that answer to 946 TRs, each 3 TRs earlier than it was measured."""
    found = taken(946, -4.5, n_trs=946, first=946)
    assert (found.volumes, found.first_tr, found.stop_tr) == ((946, 1892), 3, 949)
    assert (found.n_lacking, found.onset_seconds) == (3, -4.5)


def test_a_film_that_was_begun_in_its_midst_is_counted_from_its_beginning():
    found = taken(50, 3.0, offset=30.6)
    assert (found.volumes, found.first_tr) == ((2, 50), 20)
    assert found.film.start_seconds == pytest.approx(0.6)


def test_a_shorter_scan_lacks_the_rest_of_its_film():
    found = taken(90)
    assert (found.volumes, found.n_lacking, found.stop_tr) == ((0, 90), 10, 90)


@pytest.mark.parametrize("onset", [75.0, 76.0, 1000.0, -151.0])
def test_an_onset_past_the_scan_is_refused(onset):
    with pytest.raises(InputError, match=r"scan.npy: its film of \d+ TRs begins .* none of them"):
        taken(50, onset)


def test_a_crop_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="cropping 20 TRs at the start and 30 at the end leaves"):
        taken(50, crop=(20, 30))

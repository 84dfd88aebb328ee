import numpy as np
import pytest
from two_films import N_TRS, TR

from giblet_ray.errors import InputError
from giblet_ray.features import audio
from giblet_ray.parts import codes
from giblet_ray.parts.codes import Codes, CodesConfig
from giblet_ray.parts.part import FilmFiles


def film_of(folder, name="one", n_trs=None):
    n_trs = n_trs or N_TRS[name]
    return FilmFiles(
        name=name,
        n_trs=n_trs,
        tr_seconds=TR,
        seconds=n_trs * TR,
        files={"film": str(folder / f"{name}.mp4")},
        sha256={"film": name},
    )


@pytest.fixture(scope="session")
def prepared(film_codec, tmp_path_factory):
    """A codec that was seeded from both films, as it is read from a file."""
    file = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    film_codec.save(file)
    return Codes("codes", CodesConfig(weights=str(file))).prepare([])


@pytest.fixture
def loaded(prepared):
    """Make the part with settings, and with that codec."""

    def load(**settings):
        part = Codes("codes", CodesConfig(weights="untrained", **settings))
        part.load(prepared, "cpu")
        return part

    return load


@pytest.mark.slow
def test_pieces_join_to_the_codes_of_the_whole_film(
    film_folder, prepared, loaded, film_codec, film_sounds, monkeypatch
):
    monkeypatch.setattr(codes, "_LEAST_PIECE_SECONDS", 4.0)
    monkeypatch.setattr(codes, "_READ_SECONDS", 3)
    part = loaded(chunk_seconds=0.5)
    film = film_of(film_folder)
    agreement, *pieces = part.pieces(film)
    assert len(pieces) == 4
    made = [(piece, part.make_piece(film, piece)) for piece in (*pieces, agreement)]
    codes_KT = np.concatenate([codes_KT for _, codes_KT in made[:-1]], axis=1)
    np.testing.assert_array_equal(codes_KT, film_codec.encode([film_sounds["one"]], 8, 0.5, 1.0))
    joined = part.join(film, made[::-1], prepared)
    assert joined.made_with["weights_sha256"] == film_codec.checksum
    assert joined.facts["chunk_agreement"] >= 0.99
    np.testing.assert_array_equal(joined.values, part.make(film).values)


@pytest.mark.parametrize("n_trs", [1, 2, 80, 333, 4800])
@pytest.mark.parametrize("warmup", [0.0, 1.0, 300.0])
def test_pieces_cover_a_film_once_and_are_few(film_folder, n_trs, warmup):
    part = Codes("codes", CodesConfig(warmup_seconds=warmup))
    _, *pieces = part.pieces(film_of(film_folder, n_trs=n_trs))
    edges = [0, *(piece["stop_frame"] for piece in pieces)]
    assert [piece["start_frame"] for piece in pieces] == edges[:-1]
    assert edges[-1] == np.ceil(n_trs * 112.5)
    assert len(pieces) <= 17


def test_pieces_that_follow_each_other_are_read_on_from_the_last(
    film_folder, loaded, film_sounds, monkeypatch
):
    opened, read_audio = [], audio.read_audio
    monkeypatch.setattr(
        audio, "read_audio", lambda *a, **k: opened.append(a) or read_audio(*a, **k)
    )
    part, films = loaded(), [film_of(film_folder, name) for name in ("one", "two")]
    for film, start, stop, n_opened in [
        (films[0], 0, 50_000, 1),
        (films[0], 40_000, 90_000, 1),
        (films[0], 90_001, 10**9, 1),
        (films[0], 30_000, 60_000, 2),
        (films[1], 60_000, 70_000, 3),
    ]:
        heard_N = np.concatenate(list(part._heard(film, start, stop)))
        np.testing.assert_array_equal(heard_N, film_sounds[film.name][start:stop])
        assert len(opened) == n_opened


def test_codes_that_depend_on_the_chunks_are_refused(film_folder, loaded, monkeypatch):
    part = loaded()
    monkeypatch.setattr(part._codec, "chunk_agreement", lambda *_: 0.98)
    film = film_of(film_folder)
    with pytest.raises(InputError, match=r"98.0%.*99%.*--codes.warmup_seconds"):
        part.make_piece(film, part.pieces(film)[0])

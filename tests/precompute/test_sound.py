import numpy as np
import pytest
from two_films import request

from giblet_ray.errors import InputError
from giblet_ray.precompute import sound
from giblet_ray.precompute.plan import make_plan


def codes_unit(folder, tmp_path, *changes):
    units = make_plan(request(folder, tmp_path / "out", *changes)).units
    return next(unit for unit in units if (unit.part, unit.stimulus) == ("codes", "one"))


def test_pieces_join_to_the_codes_of_the_whole_film(folder, tmp_path, codec, sounds, monkeypatch):
    monkeypatch.setattr(sound, "_LEAST_PIECE_SECONDS", 4.0)
    unit = codes_unit(folder, tmp_path, "--codes.chunk_seconds", "2")
    pieces = [piece for piece in sound.cut_pieces(unit) if not piece.measures_agreement]
    assert len(pieces) == 4
    codes_KT = np.concatenate([sound.encode_piece(codec, piece) for piece in pieces], axis=1)
    np.testing.assert_array_equal(codes_KT, codec.encode([sounds["one"]], 8, 2.0, 1.0))


@pytest.mark.parametrize("n_trs", [1, 2, 80, 333, 4800])
@pytest.mark.parametrize("warmup", [0.0, 1.0, 300.0])
def test_pieces_cover_a_film_once_and_are_few(folder, tmp_path, n_trs, warmup):
    unit = codes_unit(folder, tmp_path).model_copy(update={"n_trs": n_trs})
    unit.settings["warmup_seconds"] = warmup
    agreement, *pieces = sound.cut_pieces(unit)
    assert agreement.measures_agreement
    edges = [0, *(piece.stop_frame for piece in pieces)]
    assert [piece.start_frame for piece in pieces] == edges[:-1]
    assert edges[-1] == np.ceil(n_trs * 112.5)
    assert len(pieces) <= 17


def test_codes_that_depend_on_the_chunks_are_refused(folder, tmp_path):
    unit = codes_unit(folder, tmp_path)
    prepared = sound.PreparedCodec(recipe={}, file_sha256="", weights="", weights_sha256="")
    film = sound.FilmCodes(unit, prepared)
    with pytest.raises(InputError, match=r"98.0%.*99%.*--codes.warmup_seconds"):
        film.add(film.pieces[0], np.array(0.98))

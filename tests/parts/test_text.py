"""The text of a data set's TRs."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.features.embedder import load_embedder
from giblet_ray.parts.part import FilmFiles, Prepared
from giblet_ray.parts.text import EmbeddingConfig, Text

SUBTITLES = """1
00:00:00,000 --> 00:00:06,000
Boat sails near the harbour

2
00:00:06,500 --> 00:00:07,300
Sail sail sail
"""


@pytest.fixture
def film(tmp_path):
    """Return a film of 6 TRs of 1.5 s in which 8 words are said."""
    (tmp_path / "film.srt").write_text(SUBTITLES)
    files = {"text": str(tmp_path / "film.srt")}
    return FilmFiles(name="film", n_trs=6, tr_seconds=1.5, seconds=9.2, files=files)


def made(film, **settings):
    part = Text("text", EmbeddingConfig(**settings))
    part.load(Prepared(), "cpu")
    return part.make(film)


def test_a_tr_has_the_words_that_are_said_in_it_and_is_as_long_as_they_are_many(film):
    found = made(film)
    texts = ["Boat", "sails near", "the", "harbour", "Sail sail sail", ""]
    n_words = np.array([1, 2, 1, 1, 3, 0])
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), n_words, rtol=1e-6)
    unit = load_embedder().embed(texts)
    np.testing.assert_allclose(found.values, unit * n_words[:, None], rtol=1e-6)
    assert (found.facts["words"], found.facts["silent_trs"]) == (8, 1)
    assert found.made_with["spread"] == "words"


def test_whole_cues_are_in_every_tr_that_they_touch(film):
    found = made(film, spread="cue")
    cues = ["Boat sails near the harbour"] * 4 + ["Sail sail sail", ""]
    np.testing.assert_array_equal(found.values, load_embedder().embed(cues))
    assert (found.facts["silent_trs"], found.made_with["spread"]) == (1, "cue")


def test_what_hashing_does_not_know_changes_nothing(film):
    recipes = [Text("text", EmbeddingConfig(context_words=n)).recipe([film]) for n in (0, 20)]
    assert recipes[0] == recipes[1]
    model = {"model": "some/model"}
    settings = (model, {**model, "context_words": 5}, {**model, "spread": "cue"})
    assert [Text("text", EmbeddingConfig(**each)).context_words for each in settings] == [20, 5, 0]

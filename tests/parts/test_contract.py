"""What holds of every part: those that are built in, arrays, and one of a lab's own.

A new part is done when it stands in PARTS and passes.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import small_networks
from my_lab.motion import Motion, MotionConfig
from two_films import N_TRS, TR

from giblet_ray.errors import InputError
from giblet_ray.parts.array import Array, ArrayConfig
from giblet_ray.parts.built_in import BUILT_IN, find_part, parts_of
from giblet_ray.parts.codes import Codes, CodesConfig
from giblet_ray.parts.frames import Frames, FramesConfig
from giblet_ray.parts.mel import Mel
from giblet_ray.parts.motion_energy import MotionEnergy, MotionEnergyConfig
from giblet_ray.parts.part import FilmFiles, Made, Part, PartInPieces
from giblet_ray.parts.pretrained import Pretrained, PretrainedConfig
from giblet_ray.parts.sound import Sound, SoundConfig
from giblet_ray.parts.text import EmbeddingConfig, Text

PARTS: dict[str, Callable[[], Part]] = {
    "frames": lambda: Frames("frames", FramesConfig(height=18, width=32)),
    "frames, three of a TR": lambda: Frames("frames", FramesConfig(height=18, width=32, per_tr=3)),
    "codes": lambda: Codes("codes", CodesConfig(codebooks=4, weights="untrained")),
    "mel": lambda: Mel("mel"),
    "sound": lambda: Sound("sound", SoundConfig(make=True, bands=8)),
    "motion energy": lambda: MotionEnergy(
        "motion_energy", MotionEnergyConfig(make=True, height=18, width=32, octaves=2)
    ),
    "text": lambda: Text("text"),
    "text, whole cues": lambda: Text("text", EmbeddingConfig(spread="cue")),
    "pictures through a network": lambda: Pretrained(
        "dino_2", PretrainedConfig(model=str(small_networks.of_images()))
    ),
    "clips": lambda: Pretrained(
        "vjepa_4", PretrainedConfig(model=str(small_networks.of_clips()), clip_seconds=1)
    ),
    "sound through a network": lambda: Pretrained(
        "whisper_2", PretrainedConfig(model=str(small_networks.whisper()))
    ),
    "words through a network": lambda: Pretrained(
        "llama_3", PretrainedConfig(model=str(small_networks.of_words()), context_words=8)
    ),
    "array of TRs": lambda: Array("clip"),
    "array of samples": lambda: Array("gaze"),
    "array of samples, nearest": lambda: Array("gaze", ArrayConfig(resampling="nearest")),
    "a lab's own": lambda: Motion("motion", MotionConfig(bands=6)),
}


N_TRS_MADE = {"one": 3, "two": 4}
"""Of each film the first TRs are made, which is what the parts' time goes into."""


class MadePart(NamedTuple):
    part: Part
    films: list[FilmFiles]
    made: list[Made]


@pytest.fixture(scope="session")
def films(film_folder, tmp_path_factory):
    """Two films with all that belongs to them."""
    arrays = tmp_path_factory.mktemp("arrays")
    random = np.random.default_rng(0)
    made = []
    for name, n_trs in N_TRS_MADE.items():
        np.save(arrays / f"{name}.npy", random.normal(size=(n_trs, 5)))
        times = np.arange(10 * n_trs) * TR / 10
        np.savez(arrays / f"{name}.npz", values=random.normal(size=(10 * n_trs, 2)), times=times)
        files = {
            "film": film_folder / f"{name}.mp4",
            "text": film_folder / f"{name}.srt",
            "clip": arrays / f"{name}.npy",
            "gaze": arrays / f"{name}.npz",
        }
        film = FilmFiles(
            name=name,
            n_trs=n_trs,
            tr_seconds=TR,
            seconds=N_TRS[name] * TR,
            files={role: str(file) for role, file in files.items()},
            sha256={role: f"{role} of {name}" for role in files},
        )
        made.append(film)
    return made


@pytest.fixture(scope="module", params=PARTS)
def loaded(request, films):
    """A part as a worker holds it, and what it is made of, and of nothing else."""
    part = PARTS[request.param]()
    own = [
        film.model_copy(update={"files": {role: film.files[role] for role in part.made_from}})
        for film in films
    ]
    part.load(part.prepare(own), "cpu")
    return MadePart(part, own, [part.make(film) for film in own])


def test_every_built_in_part_is_put_to_the_test():
    assert {make().kind for make in PARTS.values()} >= BUILT_IN.keys()


def test_it_is_found_by_its_kind(loaded):
    part = loaded.part
    assert find_part(part.kind, {"my_lab"}, "--part") is type(part)


def test_a_model_finds_and_reads_it(loaded):
    part, films, _ = loaded
    modality = part.modality or part.name
    kinds = {part.name: part.kind}
    assert parts_of((modality,), part.form, kinds, "here") == {modality: part.name}
    for film in films:
        part.check(film)
        assert part.reading.reads(part.value(film))


def test_it_makes_what_it_says_one_row_per_tr(loaded):
    part, films, of_films = loaded
    for film, made in zip(films, of_films, strict=True):
        value = part.value(film)
        assert made.values.shape == (film.n_trs, *value.shape)
        assert made.values.dtype == value.numpy
        part.reading.check(made.values, film.name)
        json.dumps([made.made_with, made.facts])
    assert len(np.unique(np.concatenate([made.values for made in of_films]))) > 1


def test_it_makes_the_same_again_elsewhere(loaded):
    part, (film, _), (first, _) = loaded
    fresh = pickle.loads(pickle.dumps(type(part)(part.name, part.settings)))
    fresh.load(part.prepared, "cpu")
    again = fresh.make(film)
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.made_with, first.facts) == (again.made_with, again.facts)


def test_its_recipe_is_json_and_its_settings_change_it(loaded):
    part, films, _ = loaded
    recipe = part.recipe(films)
    assert json.loads(json.dumps(recipe)) == recipe
    assert part.versions().keys() >= {*part.libraries, "giblet_ray"}
    fields = type(part.settings).model_fields.items()
    needed = {name: getattr(part.settings, name) for name, field in fields if field.is_required()}
    defaults = type(part)(part.name, part.Config(**needed))
    if defaults.settings != part.settings:
        assert defaults.recipe(films) != recipe


def test_pieces_come_in_any_order_and_are_joined_where_nothing_is_loaded(loaded):
    part, (film, _), (whole, _) = loaded
    if not isinstance(part, PartInPieces):
        pytest.skip("made in one piece")
    made = [(piece, part.make_piece(film, piece)) for piece in part.pieces(film)]
    assert json.loads(json.dumps([piece for piece, _ in made])) == [piece for piece, _ in made]
    bare = type(part)(part.name, part.settings)
    joined = bare.join(film, made[::-1], part.prepared)
    np.testing.assert_array_equal(joined.values, whole.values)


def test_a_file_that_is_gone_is_one_line_that_names_it(loaded, tmp_path):
    part, (film, _), _ = loaded
    gone = {role: str(tmp_path / f"gone{file[-4:]}") for role, file in film.files.items()}
    with pytest.raises(InputError, match=rf"^{tmp_path}/gone.*no such file[^\n]*$"):
        part.make(film.model_copy(update={"files": gone}))

"""Layers of a pretrained network as parts: made in one pass, and told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import small_networks

from giblet_ray.errors import InputError
from giblet_ray.parts.part import FilmFiles
from giblet_ray.parts.pretrained import PretrainedConfig, clip_pictures, layers_of
from giblet_ray.precompute import pipeline
from giblet_ray.precompute.units import Unit


@pytest.fixture
def film(film_folder: Path) -> FilmFiles:
    files = {"film": str(film_folder / "one.mp4"), "text": str(film_folder / "one.srt")}
    return FilmFiles(name="one", n_trs=3, tr_seconds=1.5, seconds=4.5, files=files)


def test_layers_are_parts_of_their_own_that_one_pass_makes(film: FilmFiles) -> None:
    folder = small_networks.of_images()
    low, high = layers_of("dino", PretrainedConfig(model=str(folder), layers=(0.5, 1.0)))
    assert [low.name, high.name] == ["dino_2", "dino_4"]
    prepared = low.prepare([film])
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert prepared.made_with == {"weights_sha256": weights}
    assert prepared.facts == {"licence": "not stated", "architecture": "dinov2"}
    low.load(prepared, "cpu")
    together = low.make_together(film, [low, high])
    assert list(together) == ["dino_2", "dino_4"]
    for part in (low, high):
        part.load(prepared, "cpu")
        alone = part.make(film)
        np.testing.assert_array_equal(together[part.name].values, alone.values)
        assert together[part.name].made_with == alone.made_with
    assert np.abs(together["dino_2"].values - together["dino_4"].values).max() > 0.01


def test_a_films_missing_layers_are_one_piece_of_work(film: FilmFiles) -> None:
    parts = layers_of("dino", PretrainedConfig(model=str(small_networks.of_images())))
    units = [
        Unit(
            part=part.name, stimulus=name, n_trs=3, tr_seconds=1.5, film_seconds=4.5,
            row_group_trs=64, files=film.files, sha256={}, settings=part.recipe([film]),
            libraries={}, value=part.value(film),
        )
        for part in parts
        for name in ("one", "two")
    ]  # fmt: skip
    work = pipeline.cut_work(units[:-1], {part.name: part for part in parts})
    made = {
        each.unit.stimulus: [unit.part for unit in (each.unit, *each.others)]
        for each in work.pop("dino")
    }
    assert made == {"one": ["dino_2", "dino_3", "dino_4"], "two": ["dino_2", "dino_3"]}
    assert not work


def test_settings_that_mean_nothing_to_a_network_do_not_decide_its_numbers() -> None:
    of_sound = PretrainedConfig(model=str(small_networks.whisper()), rate_hz=2, layers=(1.0,))
    other = of_sound.model_copy(update={"rate_hz": 4.0, "context_words": 3})
    (one,), (another,) = layers_of("w", of_sound), layers_of("w", other)
    assert one.recipe([]) == another.recipe([])


def test_clips_have_as_many_pictures_as_the_network_was_trained_with() -> None:
    (part,) = layers_of("v", PretrainedConfig(model=str(small_networks.of_clips()), layers=(1,)))
    assert clip_pictures(part.settings, part._facts) == 4
    (still,) = layers_of("d", PretrainedConfig(model=str(small_networks.of_images()), layers=(1,)))
    with pytest.raises(InputError, match="does not say how many pictures a clip has: give `pictu"):
        clip_pictures(still.settings, still._facts)

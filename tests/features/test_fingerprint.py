"""Equal intervals of films, found by what they show and sound like."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_films import SOUND_RATE, tone, write_film

from giblet_ray.features.fingerprint import (
    RATE,
    Equal,
    Fingerprint,
    _patterns,
    equal_to,
    fingerprint,
)
from giblet_ray.features.media import probe_film

FPS = 24


def walk(n: int, d: int, seed: int) -> np.ndarray:
    """Patterns that change slowly, with a cut every two seconds."""
    random = np.random.default_rng(seed)
    scenes = random.normal(size=(n // 8 + 1, d)).repeat(8, axis=0)[:n]
    return np.asarray(scenes + random.normal(size=(n, d)).cumsum(0) * 0.05)


def equal_intervals(films: dict[str, Fingerprint]) -> list[Equal]:
    return [each for one in films for each in equal_to(one, films)]


def prints(picture_MD: np.ndarray, sound_MD: np.ndarray) -> Fingerprint:
    pictures = _patterns(40 * picture_MD, "picture")
    return Fingerprint(pictures, _patterns(10 * sound_MD, "sound"))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(40, 80), st.integers(0, 1000))
def test_what_two_films_share_is_found_where_it_is(
    before: int, before_other: int, shared: int, seed: int
) -> None:
    """Moments: the shared ones stand in both, with another noise."""
    random = np.random.default_rng(seed)
    common_MD, sound_MD = walk(shared, 144, seed), walk(shared, 24, seed + 1)
    films = {}
    for number, n_before in enumerate((before, before_other)):
        more = [walk(n, 144, seed + 10 + 3 * number + k) for k, n in enumerate((n_before, 50))]
        pictures = np.concatenate([more[0], common_MD, more[1]])
        more = [walk(n, 24, seed + 20 + 3 * number + k) for k, n in enumerate((n_before, 50))]
        sound = np.concatenate([more[0], sound_MD, more[1]])
        noisy = [each + 0.05 * random.normal(size=each.shape) for each in (pictures, sound)]
        films["ab"[number]] = prints(*noisy)
    (found,) = equal_intervals(films)
    assert (found.one, found.other) == ("a", "b")
    assert abs(found.start * RATE - before) <= 1
    assert found.other_start - found.start == (before_other - before) / RATE
    assert abs(found.seconds * RATE - shared) <= 2


def test_what_is_shared_is_found_among_sounds_that_are_alike_by_chance() -> None:
    """As speech is: one moment in twelve sounds like one of the other film."""
    shape_D = np.random.default_rng(5).normal(size=24)
    shared_MD = np.random.default_rng(6).normal(size=(60, 24))
    films = {}
    for seed, before in enumerate((300, 412)):
        sound_MD = shape_D + 0.4 * np.random.default_rng(seed).normal(size=(900, 24))
        sound_MD[before : before + 60] = shared_MD
        films["ab"[seed]] = prints(np.zeros((900, 144)), sound_MD)
    one, other = (film.sound_MD for film in films.values())
    assert 0.05 < (one @ other.T >= 0.9).mean() < 0.15
    assert equal_intervals(films) == [Equal("a", 75.0, "b", 103.0, 15.0)]


def test_a_part_that_comes_again_in_one_film_is_found_and_the_film_itself_is_not() -> None:
    common = walk(48, 144, 0), walk(48, 24, 1)
    parts = [walk(100, d, 2 + d) for d in (144, 24)], [walk(120, d, 3 + d) for d in (144, 24)]
    film = prints(*(np.concatenate([c, a, c, b]) for c, a, b in zip(common, *parts, strict=True)))
    assert equal_intervals({"film": film}) == [Equal("film", 0.0, "film", 37.0, 12.0)]


def test_what_stands_still_is_dark_or_silent_is_not_told_apart() -> None:
    """A title card in both films, then black, without sound."""
    card = np.random.default_rng(0).normal(size=(1, 144)).repeat(60, 0)
    still = np.concatenate([card, np.zeros((60, 144))])
    films = {name: prints(still, np.zeros((120, 24))) for name in "ab"}
    assert equal_intervals(films) == []


def test_a_cross_that_stands_still_takes_no_work_and_what_is_shared_beside_it_is_found() -> None:
    """Both films have a clip among others of their own; now and then the screen is dark."""
    cross = np.zeros((1, 144))
    cross[0, 70] = 3
    stills = cross.repeat(2000, 0)
    stills[500:540] = stills[1500:1530] = 0
    shared_MD, films = walk(40, 144, 0), {}
    for seed, before in enumerate((700, 912)):
        own = [walk(50, 144, 1 + 2 * seed + k) for k in (0, 1)]
        clips = [stills[: before - 50], own[0], shared_MD, own[1], stills]
        pictures_MD = np.concatenate(clips)
        films["ab"[seed]] = prints(pictures_MD, np.zeros((len(pictures_MD), 24)))
    tracemalloc.start()
    (found,) = equal_intervals(films)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.one, found.other) == ("a", "b")
    assert (found.start, found.other_start, found.seconds) == (700 / RATE, 912 / RATE, 40 / RATE)
    assert most_bytes < 30e6


@pytest.mark.parametrize("every", [16, 32, 40])
def test_pictures_that_stand_for_seconds_are_found(every: int) -> None:
    """Also where the screen is dark between them."""
    shared = np.random.default_rng(0).normal(size=(240 // every, 144)).repeat(every, axis=0)
    shared[every - 2 :: every] = shared[every - 1 :: every] = 0
    films = {}
    for seed, before in enumerate((100, 150)):
        pictures_MD = np.concatenate([walk(before, 144, 1 + seed), shared, walk(90, 144, 3 + seed)])
        films["ab"[seed]] = prints(pictures_MD, np.zeros((len(pictures_MD), 24)))
    (found,) = equal_intervals(films)
    assert (found.start, found.other_start) == (100 / RATE, 150 / RATE)


def test_films_that_share_nothing_have_no_equal_interval() -> None:
    films = {name: prints(walk(600, 144, seed), walk(600, 24, 99 + seed)) for seed, name in
             enumerate("abc")}  # fmt: skip
    assert equal_intervals(films) == []


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two films of 40 s; 12 s of the first, from 20.13 s on, are the second's from 5 s on."""
    folder = tmp_path_factory.mktemp("films")
    n = 40 * FPS

    def scenes(seed: int) -> np.ndarray:
        """A picture of blocks every 1.5 s, which drifts."""
        random = np.random.default_rng(seed)
        blocks = random.integers(0, 256, (30, 6, 8)).repeat(8, 1).repeat(8, 2)
        drift = np.arange(n) // 4 % 64
        return np.stack([np.roll(blocks[i // 36], drift[i], axis=1) for i in range(n)])

    def tones(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        return tone(random.uniform(100, 3000, 80).repeat(SOUND_RATE // 2))

    made = {name: [scenes(seed), tones(seed + 10)] for seed, name in enumerate("ab")}
    start, other, length = 483, 5 * FPS, 12 * FPS  # 20.125 s
    made["b"][0][other : other + length] = made["a"][0][start : start + length]
    rate = SOUND_RATE // FPS
    heard = slice(start * rate, (start + length) * rate)
    made["b"][1][other * rate : (other + length) * rate] = made["a"][1][heard]
    films = {}
    for name, (shades_NHW, sound_N) in made.items():
        pictures = np.repeat(shades_NHW.astype(np.uint8)[..., None], 3, axis=-1)
        films[name] = write_film(folder / f"{name}.mkv", pictures, FPS, sound_N, "pcm_s16le")
    return films


def test_equal_intervals_of_films_are_found_by_pictures_and_sound(films: dict[str, Path]) -> None:
    made = {}
    for name, path in films.items():
        film = probe_film(path)
        senses = film.has_video, film.has_audio
        made[name] = fingerprint(film.path, film.duration_seconds, *senses)
    (found,) = equal_intervals(made)
    assert (found.one, found.other) == ("a", "b")
    assert found.start == pytest.approx(20.125, abs=0.5)
    assert found.other_start == pytest.approx(5, abs=0.5)
    assert found.seconds == pytest.approx(12, abs=1)
    for name in ("picture_MD", "sound_MD"):
        alone = {
            film: Fingerprint(**{other: np.zeros_like(getattr(each, other)) for other in
                                 ("picture_MD", "sound_MD")} | {name: getattr(each, name)})
            for film, each in made.items()
        }  # fmt: skip
        assert len(equal_intervals(alone)) == 1, name

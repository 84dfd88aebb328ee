"""The demo film: what the files hold when they are decoded again."""

from __future__ import annotations

import re
from itertools import pairwise

import av
import numpy as np
import pysubs2
import pytest

from giblet_ray.demo import pictures, sound, words
from giblet_ray.demo.film import make_film
from giblet_ray.demo.measure import FEATURES, measure_features
from giblet_ray.demo.script import (
    LONGEST_SCENE_SECONDS,
    LONGEST_STEP_SECONDS,
    SHORTEST_STEP_SECONDS,
    Scene,
    balanced_pairs,
    draw_scenes,
    draw_steps,
)

SECONDS = 31.5
N_TRS = 21
TR_SECONDS = 1.5


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    done = []
    make_film(folder / "a.mp4", folder / "a.srt", SECONDS, seed=3, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1.0
    return folder


def test_film_has_pictures_and_sound_of_the_length_asked_for(film):
    with av.open(str(film / "a.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(378) / 12, atol=1e-6)
    with av.open(str(film / "a.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    # AAC codes 1,024 samples at a time.
    assert 0 <= samples - SECONDS * sound.SAMPLE_RATE < 2048


def test_subtitles_parse_and_lie_within_the_film_without_overlap(film):
    events = list(pysubs2.load(str(film / "a.srt")))
    assert events
    assert events[0].start >= 0
    assert events[-1].end <= 1000 * SECONDS
    assert all(before.end <= after.start for before, after in pairwise(events))
    known = frozenset().union(*(topic.vocabulary for topic in words.TOPICS))
    spoken = {word for event in events for word in re.findall(r"\w+", event.text.lower())}
    assert spoken & known
    assert len(spoken - known) < 6


def test_same_seed_gives_the_same_film_and_another_seed_another(film, tmp_path):
    make_film(tmp_path / "b.mp4", tmp_path / "b.srt", SECONDS, seed=3)
    make_film(tmp_path / "c.mp4", tmp_path / "c.srt", SECONDS, seed=4)
    assert (tmp_path / "b.mp4").read_bytes() == (film / "a.mp4").read_bytes()
    assert (tmp_path / "b.srt").read_text() == (film / "a.srt").read_text()
    assert (tmp_path / "c.mp4").read_bytes() != (film / "a.mp4").read_bytes()
    assert (tmp_path / "c.srt").read_text() != (film / "a.srt").read_text()


def test_measured_features_are_those_that_were_drawn(tmp_path, monkeypatch):
    """Two scenes of known kinds, in steps of 12 s, seen through encoder, file and decoder."""
    kinds = {8: (0, 7), words.N_KINDS: (1, len(words.TOPICS))}
    monkeypatch.setattr(
        "giblet_ray.demo.film.draw_scenes",
        lambda seconds, n_kinds, rng: [
            Scene(12.0 * number, 12.0 * (number + 1), kind)
            for number, kind in enumerate(kinds[n_kinds])
        ],
    )
    make_film(tmp_path / "f.mp4", tmp_path / "f.srt", 24.0, seed=0)
    features = measure_features(tmp_path / "f.mp4", tmp_path / "f.srt", 16, TR_SECONDS)
    means = np.stack([features[:8].mean(axis=0), features[8:].mean(axis=0)], axis=1)
    by_scene = dict(zip(FEATURES, means, strict=True))

    for scene in (0, 1):
        place = pictures.PLACES[pictures.KINDS[kinds[8][scene]][0]]
        assert by_scene["luminance"][scene] == pytest.approx(place.luma, abs=0.03)
        level, pitch = sound.KINDS[kinds[8][scene]]
        # The mono mix of channels with gains 1 and 0.8, and their noise, is near the level.
        assert by_scene["sound_level"][scene] == pytest.approx(sound.LEVELS_DBFS[level], abs=4)
        fundamental = np.log2(sound.FUNDAMENTALS_HZ[pitch])
        assert fundamental < by_scene["pitch"][scene] < fundamental + 2
    topic = words.TOPICS[1]
    assert by_scene["words"][0] == pytest.approx(topic.words_per_second, rel=0.1)
    assert 0 < by_scene[f"words_{topic.name}"][0] < by_scene["words"][0]
    assert by_scene["words"][1] == 0
    assert by_scene["words_harbour"].tolist() == [0, 0]


def test_faster_crowds_move_more():
    motion = []
    for crowd in range(len(pictures.CROWDS)):
        kind = next(kind for kind, pair in enumerate(pictures.KINDS) if pair[1] == crowd)
        frames = pictures.draw_frames([Scene(0, 9, kind)], 24, np.random.default_rng(0))
        luma = np.stack([frame[: pictures.HEIGHT].astype(float) for frame in frames])
        motion.append(np.median(np.abs(np.diff(luma, axis=0)).mean((1, 2))))
    assert np.all(np.diff(motion) > 0.15 * np.ptp(motion))


def test_cut_does_not_count_as_motion(tmp_path, monkeypatch):
    """TR 2 holds the cut from the darkest place to the brightest, both with the slowest crowd."""
    monkeypatch.setattr(
        "giblet_ray.demo.film.draw_scenes",
        lambda seconds, n_kinds, rng: [Scene(0, 3.9, 0), Scene(3.9, 9, 1)],
    )
    monkeypatch.setattr(pictures, "KINDS", ((0, 0), (3, 0)))
    make_film(tmp_path / "f.mp4", tmp_path / "f.srt", 9.0, seed=0)
    features = measure_features(tmp_path / "f.mp4", tmp_path / "f.srt", 6, TR_SECONDS)
    luminance, motion = features[:, :2].T
    assert luminance[1] == pytest.approx(0.25, abs=0.03)
    assert luminance[3] == pytest.approx(0.75, abs=0.03)
    assert motion[2] < 1.5 * motion[[1, 3]].max() < 0.01


@pytest.mark.parametrize("seconds", [5.0, 36.0, 480.0])
def test_scenes_fill_the_film_and_every_kind_comes_back(seconds):
    scenes = draw_scenes(seconds, 8, np.random.default_rng(0))
    assert scenes[0].start_seconds == 0
    assert scenes[-1].end_seconds == seconds
    for before, after in pairwise(scenes):
        assert before.end_seconds == after.start_seconds
        assert before.kind != after.kind
    lengths = [scene.end_seconds - scene.start_seconds for scene in scenes]
    assert min(lengths) > 0
    assert max(lengths) <= LONGEST_SCENE_SECONDS
    rounds = [scenes[start : start + 8] for start in range(0, len(scenes) - 7, 8)]
    assert all(sorted(scene.kind for scene in once) == list(range(8)) for once in rounds)


def test_balanced_pairs_show_every_level_equally_often_and_uncorrelated():
    first, second = np.array(balanced_pairs()).T
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [2, 2, 2, 2]
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0)


def test_sound_has_no_samples_lost_at_ragged_ends():
    scenes = [Scene(0, 1.25, 1), Scene(1.25, 2.6, 6)]
    blocks = list(sound.draw_sound(scenes, 114_660, np.random.default_rng(0)))
    assert [block.shape for block in blocks] == [(2, 44_100), (2, 44_100), (2, 26_460)]
    samples = np.concatenate(blocks, axis=1)
    assert np.abs(samples).max() <= 1
    levels = 10 * np.log10([np.mean(samples[0, :55_125] ** 2), np.mean(samples[0, 55_125:] ** 2)])
    expected = [sound.LEVELS_DBFS[sound.KINDS[kind][0]] for kind in (1, 6)]
    np.testing.assert_allclose(levels, expected, atol=2)


def test_fast_features_change_within_a_scene(tmp_path, monkeypatch):
    """One scene that lasts: what else varies is fast, and little unless asked for."""
    monkeypatch.setattr(
        "giblet_ray.demo.film.draw_scenes", lambda seconds, n_kinds, rng: [Scene(0, seconds, 2)]
    )
    spread = {}
    for depth in (0.0, 1.0):
        make_film(tmp_path / "f.mp4", tmp_path / "f.srt", 24.0, seed=0, fast_features=depth)
        features = measure_features(tmp_path / "f.mp4", tmp_path / "f.srt", 16, TR_SECONDS)
        spread[depth] = dict(zip(FEATURES, features.std(axis=0), strict=True))
    for name, least in (("luminance", 0.08), ("sound_level", 3.0), ("words", 0.4)):
        assert spread[1.0][name] > least > 3 * spread[0.0][name], name


def test_steps_fill_the_film_at_a_pace_of_their_own():
    steps = draw_steps(60.0, np.random.default_rng(0))
    assert steps.ends_seconds[-1] >= 60
    lengths = np.diff(steps.ends_seconds, prepend=0)
    assert (lengths >= SHORTEST_STEP_SECONDS).all()
    assert (lengths <= LONGEST_STEP_SECONDS).all()
    levels = steps.at(np.linspace(0, 60, 10_000))
    assert levels.min() < 0.2 < 0.8 < levels.max()
    for number, end in enumerate(steps.ends_seconds[:5]):
        assert steps.at(end - 1e-9) == steps.levels[number]
        assert steps.at(end) == steps.levels[number + 1]

"""Films, texts and scans that patterns and film names stand for."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_films import SOUND_RATE, tone, write_film

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError
from giblet_ray.precompute.plan import make_plan


@pytest.fixture
def season(folder, tmp_path):
    """Films in folders of a season each, parts beside whole films; transcripts elsewhere."""
    for path, film in (("s1/friends_1a.mp4", "one"), ("s2/friends_2a.mp4", "two")):
        (tmp_path / path).parent.mkdir()
        shutil.copy(folder / f"{film}.mp4", tmp_path / path)
        shutil.copy(folder / f"{film}.mp4", tmp_path / path.replace("a.mp4", ".mp4"))
    (tmp_path / "said/x").mkdir(parents=True)
    shutil.copy(folder / "one.srt", tmp_path / "said/x/1a_said.srt")
    return tmp_path


def plan_of(season, **settings):
    films = {"film": str(season / "s[12]/friends_?a.mp4"), "film_pattern": "friends_{stimulus}"}
    job = {"out": str(season / "out"), "codes": {"weights": "untrained"}, **films, **settings}
    return make_plan(PrecomputeJob(**job))


def test_patterns_take_the_films_that_are_named_so_and_each_the_text_of_its_name(season):
    plan = plan_of(season, text=(str(season / "said/*/{stimulus}_said.srt"), "none"))
    assert [(film.name, Path(film.path).name) for film in plan.films] == [
        ("1a", "friends_1a.mp4"),
        ("2a", "friends_2a.mp4"),
    ]
    assert Path(plan.films[0].files["text"]) == season / "said/x/1a_said.srt"
    assert "text" not in plan.films[1].files
    assert plan.notes == ("2a is without text: no text is given of it",)


def test_a_film_without_a_text_of_its_name_is_said(season):
    said = str(season / "said/*/{stimulus}_said.srt")
    with pytest.raises(InputError, match=r"there is no text of 2a; none after them accepts films"):
        plan_of(season, text=said)
    shutil.copytree(season / "said/x", season / "said/y")
    with pytest.raises(InputError, match=r"x/1a_said.srt and .*y/1a_said.srt are both of 1a"):
        plan_of(season, text=(said, "none"))
    with pytest.raises(InputError, match=r"--text some.srt: is one file among those that"):
        plan_of(season, text=(said, "some.srt"))


def test_a_pattern_that_no_file_is_like_is_said(season):
    with pytest.raises(InputError, match=r"--bold sub-\*.h5: no file is named so"):
        plan_of(season, bold="sub-*.h5")


def test_a_file_is_meant_as_it_is_named_whatever_signs_its_name_has(season):
    odd = season / "what [1].mp4"
    shutil.copy(season / "s1/friends_1a.mp4", odd)
    plan = plan_of(season, film=str(odd), film_pattern="{stimulus} [1]")
    assert [film.name for film in plan.films] == ["what"]


def test_a_link_whose_file_was_not_downloaded_is_said(season):
    (season / "s1/friends_9a.mp4").symlink_to(season / "annex/absent.mp4")
    with pytest.raises(InputError, match=r"friends_9a.mp4: is a link to a file .*datalad get"):
        plan_of(season)


@pytest.mark.parametrize(("pictures", "sound"), [(16, 12), (12, 16)])
def test_a_film_whose_sound_ends_elsewhere_is_taken_as_far_as_it_has_both(
    tmp_path, pictures, sound
):
    random = np.random.default_rng(0)
    shown = random.integers(0, 256, (pictures * 8, 24, 32, 3), np.uint8)
    heard = tone(np.full(sound * SOUND_RATE, 440.0))
    film = write_film(tmp_path / "film.mp4", shown, 8, heard, "aac")
    words = tmp_path / "film.srt"
    words.write_text("1\n00:00:13,000 --> 00:00:15,900\nover the end\n")
    given = {"film": str(film), "film_pattern": "{stimulus}", "text": str(words)}
    with pytest.raises(InputError, match=r"--film_lengths trim takes what has both"):
        plan_of(tmp_path, **given)
    plan = plan_of(tmp_path, **given, film_lengths="trim")
    assert [film.n_trs for film in plan.films] == [8]
    ends = f"film: its pictures end at {pictures}.00 s and its sound at {sound}."
    assert plan.notes[0].startswith(ends)

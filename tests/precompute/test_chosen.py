import pytest
from two_films import request

from giblet_ray.errors import InputError
from giblet_ray.precompute.chosen import chosen_parts

OWN = "my_lab.motion:Motion"


def chosen(folder, tmp_path, *changes):
    return chosen_parts(request(folder, tmp_path / "out", *changes))


def test_built_in_parts_are_made_of_what_is_given(folder, tmp_path):
    assert list(chosen(folder, tmp_path)) == ["frames", "codes", "text"]
    assert list(chosen(folder, tmp_path, "--mel.make")) == ["frames", "codes", "mel", "text"]
    more = chosen(folder, tmp_path, "--sound.make", "--sound.bands", "8")
    assert list(more) == ["frames", "codes", "sound", "text"]
    assert more["sound"].settings.bands == 8
    moving = chosen(folder, tmp_path, "--motion_energy.make", "--motion_energy.octaves", "3")
    assert moving["motion_energy"].settings.octaves == 3
    job = request(folder, tmp_path / "out").model_copy(update={"text": ()})
    assert list(chosen_parts(job)) == ["frames", "codes"]


def test_arrays_and_own_parts_stand_beside_them_with_their_settings(folder, tmp_path):
    arrays = ("--array", "clip={stimulus}.npy", "gaze={stimulus}.tsv")
    own = ("--part", OWN, "--part_settings", "motion.bands=8")
    parts = chosen(folder, tmp_path, *arrays, "--resampling", "gaze=nearest", *own)
    assert list(parts) == ["frames", "codes", "text", "clip", "gaze", "motion"]
    assert parts["clip"].settings.resampling == "mean"
    assert parts["gaze"].settings.resampling == "nearest"
    assert (parts["motion"].kind, parts["motion"].settings.bands) == (OWN, 8)


def test_settings_of_own_parts_may_be_nested_in_yaml(folder, tmp_path):
    (tmp_path / "job.yaml").write_text("part_settings: {motion: {bands: 8}}\n")
    config = ("--config", str(tmp_path / "job.yaml"))
    parts = chosen(folder, tmp_path, "--part", OWN, *config)
    assert parts["motion"].settings.bands == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--array", "clip.npy"), "--array 'clip.npy'"),
        (("--array", "clip"), "--array clip: NAME=FILE is accepted"),
        (("--array", "bold=x.npy"), "--array 'bold': the name is taken"),
        (("--array", "frames=x.npy"), "--array 'frames': the name is taken"),
        (("--array", "_work=x.npy"), "--array '_work'"),
        (("--resampling", "clip=mean"), "--resampling clip: there is no such array"),
        (("--part", "motion"), "--part 'motion': no such part"),
        (("--part", "my_lab.motion:Motoin"), "has no Motoin (did you mean Motion?)"),
        (("--part", "my_lab.motion:MotionConfig"), "is no part"),
        (("--part", OWN, OWN), "two parts of the name motion"),
        (("--part", OWN, "--array", "motion=x.npy"), f"--part {OWN}: the name motion is taken"),
        (("--part", OWN, "--part_settings", "motoin.bands=8"), "did you mean motion?"),
        (("--part", OWN, "--part_settings", "motion=8"), "PART.SETTING=VALUE is accepted"),
        (
            ("--part", OWN, "--part_settings", "motion.band=8"),
            "--part_settings motion.band: no such setting (did you mean motion.bands?)",
        ),
        (
            ("--part", OWN, "--part_settings", "motion.bands=0"),
            "--part_settings motion.bands: is 0: should be greater than or equal to 1",
        ),
        (("--part_settings", "motion.bands=8"), "--part and --pretrained name none"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(folder, tmp_path, change, words):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        chosen(folder, tmp_path, *change)
    assert words in str(caught.value)

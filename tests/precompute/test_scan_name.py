import pytest

from giblet_ray.errors import InputError
from giblet_ray.precompute.scan_name import film_name, keys_of_stimuli, scan_name


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("out/sub-07_task-film_bold.nii.gz", "sub-{subject}", {"subject": "07"}),
        (
            "out/sub-07_ses-2_task-filmA_desc-preproc_bold.nii.gz",
            "sub-{subject}_*task-{stimulus}_",
            {"subject": "07", "stimulus": "filmA"},
        ),
        ("scans/anna.npy", "{subject}.npy", {"subject": "anna"}),
        ("scans/all.h5::anna", "{subject}.h5", {"subject": "all"}),
        ("a/anna/film.npy", "{subject}/{stimulus}.npy", {"subject": "anna", "stimulus": "film"}),
        ("sub-01/func/sub-01_bold.nii", "sub-{subject}/func/sub-{subject}_", {"subject": "01"}),
        (
            "sub-01/ses-003/sub-01_ses-003_bold.nii",
            "sub-{subject}_ses-{repeat}",
            {"subject": "01", "repeat": "003"},
        ),
        ("film_S12.npy", "{stimulus}_S{subject}.npy", {"subject": "12", "stimulus": "film"}),
    ],
)
def test_scan_name_reads_the_path(path, pattern, expected):
    assert scan_name(path, pattern) == expected


@pytest.mark.parametrize(
    ("path", "stimulus"),
    [
        ("sub-01_task-film_1_bold.npy", "film_1"),
        ("sub-01_task-film_2_bold.npy", "film_2"),
        ("sub-01_task-film_bold.npy", "film"),
        ("sub-01_task-film_run-2_bold.npy", "film"),
        ("sub-01_task-film_1.part-b_bold.npy", "film_1.part-b"),
        ("sub-01_task-film_10_bold.npy", "film"),
        ("sub-01_task-other_bold.npy", "other"),
    ],
)
def test_stimulus_is_one_of_the_names_that_there_are(path, stimulus):
    films = ("film", "film_1", "film_2", "film_1.part-b")
    expected = {"subject": "01", "stimulus": stimulus}
    assert scan_name(path, "sub-{subject}_task-{stimulus}", films) == expected


def test_default_pattern_is_the_bids_subject():
    assert scan_name("out/sub-07_bold.nii.gz") == {"subject": "07"}


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("scans/anna.npy", "sub-{subject}"),
        ("scans/nosub-07.npy", "sub-{subject}"),
        ("sub-07/scan.npy", "sub-{subject}"),
        ("scans/sub-01_run.npy", "{subject}.npy"),
        ("sub-01/func/sub-02_bold.nii", "sub-{subject}/func/sub-{subject}_"),
        ("a.npy", "{subject}/{stimulus}.npy"),
    ],
)
def test_scan_outside_the_pattern_is_refused_with_both(path, pattern):
    with pytest.raises(InputError) as caught:
        scan_name(path, pattern)
    assert path in str(caught.value)
    assert repr(pattern) in str(caught.value)


def test_patterns_that_cannot_work_are_refused():
    with pytest.raises(InputError, match=r"has no \{subject\}"):
        scan_name("a.npy", "{stimulus}.npy")
    with pytest.raises(InputError, match=r"placeholder \{run\} is not known"):
        scan_name("a.npy", "{subject}_{run}.npy")


@pytest.mark.parametrize(
    ("key", "pattern", "expected"),
    [
        ("ses-001_task-s01e02a", "sub-{subject}_::task-{stimulus}", {"stimulus": "s01e02a"}),
        (
            "ses-001_task-s01e02a_run-2",
            "sub-{subject}::task-{stimulus}_run-{repeat}",
            {"stimulus": "s01e02a", "repeat": "2"},
        ),
        ("runs/s01e02a", "sub-{subject}::runs/{stimulus}", {"stimulus": "s01e02a"}),
        ("s01e02a", "sub-{subject}::{stimulus}", {"stimulus": "s01e02a"}),
        ("film_1 again", "sub-{subject}::{stimulus}", {"stimulus": "film_1"}),
    ],
)
def test_what_follows_colons_is_looked_for_in_the_key(key, pattern, expected):
    found = scan_name(f"fmri/sub-1_bold.h5::{key}", pattern, ("s01e02a", "film", "film_1"))
    assert found == {"subject": "1", **expected}


def test_a_film_may_be_named_more_than_its_stimulus():
    patterns = ["friends_{stimulus}", "task-{stimulus}_video", "{stimulus}"]
    assert film_name("s1/friends_s01e02a.mkv", patterns) == "s01e02a"
    assert film_name("ood/task-wot1_video.mkv::2", patterns) == "wot1"
    assert film_name("a/film.part-1.mp4", patterns) == "film.part-1"
    with pytest.raises(InputError, match=r"'bourne01' is not named as --film_pattern 'friends_"):
        film_name("bourne01.mkv", patterns[:2])
    with pytest.raises(InputError, match=r"--film_pattern 'friends': has no \{stimulus\}"):
        film_name("bourne01.mkv", ["friends"])


def test_keys_of_other_stimuli_are_none_of_a_files_scans():
    keys = ["ses-1_task-a", "ses-1_task-ab", "ses-2_task-b_1", "nota-sk-b", "a"]
    found = keys_of_stimuli("sub-1.h5", keys, "sub-{subject}::task-{stimulus}", ("a", "b_1", "b"))
    assert found == ["ses-1_task-a", "ses-2_task-b_1"]

import pytest

from giblet_ray.errors import InputError
from giblet_ray.parts.built_in import BUILT_IN, checked_part_name, find_part, parts_of

KINDS = {
    "frames": "frames",
    "codes": "codes",
    "mel": "mel",
    "text": "text",
    "clip": "array",
    "motion": "some_lab.motion:Motion",
}


def test_parts_are_found_by_their_kind():
    assert [find_part(kind, (), "--part").kind for kind in BUILT_IN] == list(BUILT_IN)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("code", "--part 'code': no such part (did you mean codes?)"),
        ("pathlib:Path", "--part pathlib:Path: is no part"),
        ("pathlib:os", "--part pathlib:os: is no part"),
    ],
)
def test_what_is_no_part_is_refused(kind, words):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        find_part(kind, {"pathlib"}, "--part")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["bold", "frames", "array", "sound", "video", "tr", "_work"])
def test_a_part_is_not_called_what_something_else_is_called(name):
    with pytest.raises(InputError, match=f"--array '{name}'"):
        checked_part_name(name, "--array")


@pytest.mark.parametrize("name", ["", "a/b", "..", "clip.large", "1st", "a b", "clip'"])
def test_a_name_that_is_no_folder_and_no_word_is_refused(name):
    with pytest.raises(InputError, match="letters, digits and '_'"):
        checked_part_name(name, "--array")


def test_modalities_are_read_from_their_parts():
    every = ("clip", "text", "video", "audio", "motion")
    assert parts_of(every, "encodec", KINDS, "d") == {
        "clip": "clip",
        "text": "text",
        "video": "frames",
        "audio": "codes",
        "motion": "motion",
    }
    assert parts_of(("audio",), "mel", KINDS, "d") == {"audio": "mel"}


@pytest.mark.parametrize(
    ("modality", "words"),
    [
        ("clp", "'clp' is not in data/film (did you mean clip?); it has video, audio, text"),
        ("frames", "'frames' is not in data/film"),
        ("audio", "audio (--data.audio mel) is not in data/film"),
    ],
)
def test_a_modality_that_the_data_set_lacks_is_refused(modality, words):
    kinds = {name: kind for name, kind in KINDS.items() if name != "mel"}
    form = "mel" if modality == "audio" else "encodec"
    with pytest.raises(InputError, match=r"^--data.modalities: ") as caught:
        parts_of((modality,), form, kinds, "data/film")
    assert words in str(caught.value)

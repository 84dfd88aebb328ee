import sys

import pytest

from giblet_ray.errors import InputError
from giblet_ray.plugins import load_object, package_of


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package of a lab's own, which notes that it was imported."""
    (tmp_path / "some_lab").mkdir()
    (tmp_path / "some_lab/__init__.py").write_text("")
    (tmp_path / "some_lab/gaze.py").write_text("class Gaze:\n    pass\n")
    (tmp_path / "some_lab/broken.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_lab"
    for name in [name for name in sys.modules if name.split(".")[0] == "some_lab"]:
        del sys.modules[name]


def test_what_a_path_names_is_found(lab):
    gaze = load_object("some_lab.gaze:Gaze", {lab}, "--part")
    assert gaze is sys.modules["some_lab.gaze"].Gaze
    assert package_of("some_lab.gaze:Gaze") == lab


def test_a_package_that_the_user_did_not_name_is_not_imported(lab):
    with pytest.raises(InputError, match=r"record.json some_lab.gaze:Gaze.*--packages some_lab"):
        load_object("some_lab.gaze:Gaze", {"other"}, "record.json")
    assert not any(name.startswith("some_lab") for name in sys.modules)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("some_lab.gaze", "module:name is accepted"),
        ("some_lab/gaze.py:Gaze", "module:name is accepted"),
        ("some_lab.gaze:Gaze.__init__", "module:name is accepted"),
        ("some_lab.gaze:Gazes", "has no Gazes (did you mean Gaze?)"),
        ("some_lab.saccades:Gaze", "No module named 'some_lab.saccades'"),
        ("some_lab.broken:Gaze", "No module named 'no_such_library'"),
    ],
)
def test_what_cannot_be_found_is_one_line(lab, path, words):
    with pytest.raises(InputError) as caught:
        load_object(path, {lab}, "--part")
    message = str(caught.value)
    assert message.startswith("--part ")
    assert words in message
    assert "\n" not in message

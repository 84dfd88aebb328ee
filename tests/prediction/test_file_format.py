"""Forms of predictions, found by their names."""

from __future__ import annotations

import pytest

from giblet_ray.errors import InputError
from giblet_ray.prediction.file_format import find_format
from giblet_ray.prediction.formats.algonauts2025 import Format


def test_a_form_is_found_by_its_name_and_one_s_own_by_its_path() -> None:
    assert isinstance(find_format("algonauts2025"), Format)
    path = "giblet_ray.prediction.formats.algonauts2025:Format"
    assert isinstance(find_format(path), Format)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "algonauts2024",
            r"no such form \(did you mean algonauts2025\?\); algonauts2025, or a path",
        ),
        ("giblet_ray.errors:InputError", r"is no form; a subclass of FileFormat is accepted"),
        ("no_such_lab:Mine", r"--format no_such_lab:Mine: no_such_lab cannot be imported"),
    ],
)
def test_what_is_no_form_is_said(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_format(name)

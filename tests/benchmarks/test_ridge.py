"""The benchmarks of ridge."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ridge import Film, Size, ours, plainly
from script import run_script


def test_what_is_compared_finds_the_same_weights() -> None:
    """As benchmarks/ridge.py does in processes of their own."""
    size = Size(40, 260, parts=3, features=6, delays=3, weightings=2, folds=5, threads=1)
    film = Film(size, size.model.context_trs)
    plain = plainly(size, film)
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(ours(size, film), plain, atol=1e-5)


@pytest.mark.heavy
def test_the_reference_is_compared_with(
    arrays_and_dataset: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """On a film of which it is not: the blocks are at a lag of 4 TRs, so that delays reach them."""
    where = arrays_and_dataset[1].storage.location
    run: Callable[..., None] = run_script
    words = ("--dataset", where, "--weightings", 3)
    with pytest.raises(SystemExit) as ended:
        run("benchmarks/ridge_reference.py", *words, "--within", 0.0)
    assert ended.value.code == 1
    assert re.search(r"banded: held-out r 0\.[1-9]", capsys.readouterr().out)

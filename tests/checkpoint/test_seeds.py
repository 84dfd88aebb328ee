"""What a run's folder holds of other seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from giblet_ray.checkpoint.seeds import SEEDS, Seeds, keep_seeds, read_seeds
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError


def test_mean_and_spread_are_kept_and_told(tmp_path: Path) -> None:
    scores = (0.31, 0.28, 0.25)
    storage = Storage.at(str(tmp_path))
    assert read_seeds(storage, "0007") is None
    keep_seeds(storage, "0007", Seeds(score="val/pearson_mean", scores=scores))
    found = read_seeds(Storage.at(str(tmp_path / "0007")), "")
    assert found is not None
    assert found.scores == scores
    assert found.logged() == {
        "seeds/val/pearson_mean": pytest.approx(np.mean(scores)),
        "seeds/val/pearson_mean_sd": pytest.approx(np.std(scores, ddof=1)),
        "seeds/n": 3,
    }
    assert found.in_words() == "mean 0.2800, SD 0.0300 over 3 seeds"


@pytest.mark.parametrize("content", ["{", "{}", '{"score": "val/pearson_mean", "scores": [0.1]}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / SEEDS).write_text(content)
    with pytest.raises(InputError, match=r"seeds\.json: damaged: .*; delete it") as error:
        read_seeds(Storage.at(str(tmp_path)), "")
    assert "\n" not in str(error.value)

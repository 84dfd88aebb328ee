"""What a user may write as a search space, and what it means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.config import TuneJob
from giblet_ray.errors import InputError
from giblet_ray.settings import setting_fields
from giblet_ray.tuning.live import DEFAULT_SPACE
from giblet_ray.tuning.space import (
    Choice,
    Range,
    grid,
    n_combinations,
    parse_space,
    setting,
    with_settings,
)

BASE = TuneJob(dataset="film")


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("model.embed_dim", "16,32,64", Choice((16, 32, 64))),
        ("model.embed_dim", [16, 32], Choice((16, 32))),
        ("model.embed_dim", "16..64", Range(16, 64, False)),
        ("model.kernel_sizes", "[3,5,7],[3,7,15]", Choice(([3, 5, 7], [3, 7, 15]))),
        ("data.modalities", [["video"], ["audio", "text"]], Choice((["video"], ["audio", "text"]))),
        ("optimizer.lr", "1e-4..1e-2:log", Range(1e-4, 1e-2, True)),
        ("optimizer.lr", {"min": 1e-4, "max": 0.01, "log": True}, Range(1e-4, 1e-2, True)),
        ("optimizer.lr", "1e-4,3e-4", Choice((1e-4, 3e-4))),
        ("model.dropout", "0..0.5", Range(0.0, 0.5, False)),
        ("model.dropout", "null,0.1", Choice((None, 0.1))),
        ("loss.correlation_weight", 0.5, Choice((0.5,))),
        ("train.patience", {"min": 0, "max": 9}, Range(0, 9, False)),
        ("model.batch_norm", "batch,frozen", Choice(("batch", "frozen"))),
    ],
)
def test_a_domain_is_read_as_its_setting_reads_it(name: str, written: Any, expected: Any) -> None:
    assert parse_space({name: written}, BASE) == {name: expected}
    (domain,) = parse_space({name: written}, BASE).values()
    if isinstance(domain, Range):
        assert domain.is_whole == isinstance(setting(BASE, name), int)


def test_every_setting_of_the_searched_groups_can_be_searched() -> None:
    """By its own default, if nothing else; those that score, that trials share, and chance, are
    refused."""
    refused = {"data.residence", "model.kind", "loss.kind", "train.score", "train.seed"}
    for name, _ in setting_fields(TuneJob):
        if name in refused:
            with pytest.raises(InputError, match=f"{name}: "):
                parse_space({name: [setting(BASE, name)]}, BASE)
        elif name.partition(".")[0] in ("model", "loss", "optimizer", "train"):
            assert parse_space({name: [setting(BASE, name)]}, BASE)[name] is not None


def test_the_default_space_is_valid() -> None:
    assert parse_space(DEFAULT_SPACE, BASE).keys() == DEFAULT_SPACE.keys()


def test_the_loss_is_not_searched_where_trials_are_chosen_by_it() -> None:
    written = {"loss.correlation_weight": "0,1"}
    assert parse_space(written, BASE).keys() == written.keys()
    by_loss = BASE.model_copy(update={"train": BASE.train.model_copy(update={"score": "val/loss"})})
    with pytest.raises(InputError, match="correlation_weight: decides what val/loss is"):
        parse_space(written, by_loss)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, r"--sweep\.space is empty"),
        ({"model.embed_dm": "3,4"}, r"model\.embed_dm: no such setting.*model\.embed_dim"),
        ({"model": "3,4"}, r"--sweep\.space model: no such setting"),
        ({"storage.path": "a,b"}, r"storage\.path: is the same for all trials"),
        ({"data.residence": "memory,stream"}, r"data\.residence: is the same for all trials"),
        ({"train.seed": "0..9"}, r"train\.seed: is chance, .* --sweep\.seeds N trains the best"),
        ({"data.voxels": "a.npy,b.npy"}, r"data\.voxels: decides what is scored"),
        ({"data.split.val_fraction": "0.1..0.3"}, r"val_fraction: decides what is scored"),
        ({"model.kernel_sizes": "[4],[5]"}, r"odd positive widths are accepted"),
        ({"model.kernel_sizes": "3,7,15"}, r"each choice is a list in brackets"),
        ({"model.embed_dim": "0,4"}, r"model\.embed_dim=0: should be greater"),
        ({"model.embed_dim": ""}, r"has no value"),
        ({"model.embed_dim": "16,16"}, r"a value is named twice"),
        ({"model.embed_dim": "16,16.0"}, r"a value is named twice"),
        ({"model.embed_dim": "[16"}, r"values such as 16,32,64 or a range"),
        (
            {"model.audio_codebooks": "2.5..4"},
            r"model\.audio_codebooks=2\.5: should be a valid integer",
        ),
        ({"model.audio_codebooks": "4..2"}, r"the range 4\.\.2 must rise"),
        ({"model.audio_codebooks": {"min": 2, "maximum": 4}}, r"found keys min, maximum"),
        ({"optimizer.lr": "a..b"}, r"needs two numbers"),
        ({"optimizer.lr": "0..1:log"}, r"must begin above 0"),
        ({"optimizer.lr": "1e-4..1:lag"}, r"found scale 'lag'"),
        ({"model.batch_norm": "1..2"}, r"should be 'batch' or 'frozen'"),
    ],
)
def test_what_cannot_be_searched_is_one_line(written: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_space(written, BASE)
    assert "\n" not in str(error.value)


def test_settings_replace_those_of_the_base_and_nothing_else() -> None:
    job = with_settings(BASE, {"model.kernel_sizes": [3, 9], "data.lag_seconds": 3.0})
    assert job.model.kernel_sizes == (3, 9)
    assert job.data.lag_seconds == 3
    before, after = BASE.model_dump(exclude={"sweep"}), job.model_dump()
    before["model"]["kernel_sizes"], before["data"]["lag_seconds"] = (3, 9), 3.0
    assert after == before


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    n_points=st.integers(2, 5),
    high=st.integers(1, 6),
)
def test_a_grid_has_every_combination_once(sizes: list[int], n_points: int, high: int) -> None:
    names = ("model.embed_dim", "model.audio_codebooks", "train.batch_trs")
    space: dict[str, Any] = {
        name: Choice(tuple(range(2, 2 + size))) for name, size in zip(names, sizes, strict=False)
    }
    space["model.head_dim"] = Range(0, high, False)
    combinations = grid(space, n_points)
    points = np.unique(np.rint(np.linspace(0, high, n_points)))
    assert len(combinations) == np.prod(sizes) * len(points)
    assert len({str(each) for each in combinations}) == len(combinations)
    assert {each["model.head_dim"] for each in combinations} == set(points)
    assert n_combinations(space) == np.prod(sizes) * (high + 1)


def test_a_grid_over_a_range_includes_its_ends() -> None:
    values = [each["optimizer.lr"] for each in grid({"optimizer.lr": Range(1e-4, 1e-1, True)}, 4)]
    assert values[0] == 1e-4
    assert values[-1] == 1e-1
    np.testing.assert_allclose(values, [1e-4, 1e-3, 1e-2, 1e-1])

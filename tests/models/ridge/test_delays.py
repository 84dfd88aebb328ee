"""Delays as shifted kernels, beside a copy of the vectors per delay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from giblet_ray.models.ridge.delays import delayed, delayed_kernel, primal_weights


def explicit(film_TF: np.ndarray, delays: range) -> np.ndarray:
    """Return (TRs, delays, F): the film's vectors delay TRs before, 0 before it begins."""
    rows = np.zeros((len(film_TF), len(delays), film_TF.shape[1]))
    for tr in range(len(film_TF)):
        for index, delay in enumerate(delays):
            if tr - delay >= 0:
                rows[tr, index] = film_TF[tr - delay]
    return rows


def laid_out(films: dict[str, np.ndarray], longest: int) -> tuple[torch.Tensor, dict[str, int]]:
    """Return films one after another, each behind zeros, and where each begins."""
    rows = [np.pad(film, ((longest, 0), (0, 0))) for film in films.values()]
    stops = np.cumsum([len(each) for each in rows])
    first = {name: int(stop) - len(films[name]) for name, stop in zip(films, stops, strict=True)}
    return torch.from_numpy(np.concatenate(rows)), first


@pytest.fixture
def films() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(n, 5)) for name, n in {"a": 9, "b": 3, "c": 12}.items()}


@pytest.mark.parametrize("delays", [range(0, 1), range(0, 5), range(2, 6)], ids=str)
def test_kernel_is_that_of_explicit_delays_and_reaches_over_no_edge_of_a_film(
    films: dict[str, np.ndarray], delays: range
) -> None:
    rows_GF, first = laid_out(films, delays[-1])
    at = np.concatenate([first[name] + np.arange(len(film)) for name, film in films.items()])
    wanted = np.concatenate([explicit(film, delays) for film in films.values()]).reshape(
        len(at), -1
    )
    found_NN = delayed_kernel(rows_GF, delays, torch.from_numpy(at))
    np.testing.assert_allclose(found_NN, wanted @ wanted.T, atol=1e-12)


def test_weights_of_rows_become_weights_of_delayed_vectors(films: dict[str, np.ndarray]) -> None:
    delays, random = range(1, 4), np.random.default_rng(1)
    rows_GF, first = laid_out(films, delays[-1])
    # Rows of BOLD: some TRs of a film that was seen twice, and one of another.
    at = torch.tensor([first["a"] + tr for tr in (0, 0, 2, 8, 8)] + [first["c"] + 11])
    rows = [("a", tr) for tr in (0, 0, 2, 8, 8)] + [("c", 11)]
    dual_NV = random.normal(size=(6, 4))
    weights = primal_weights(rows_GF, delays, at, torch.from_numpy(dual_NV))
    wanted = sum(
        np.multiply.outer(dual_NV[index], explicit(films[film], delays)[tr])
        for index, (film, tr) in enumerate(rows)
    )
    np.testing.assert_allclose(weights, wanted, atol=1e-12)


def test_windows_give_the_delayed_vectors_of_the_film(films: dict[str, np.ndarray]) -> None:
    delays = range(1, 4)
    film = np.concatenate([np.zeros((3, 5)), films["c"]])
    windows = torch.from_numpy(np.stack([film[start : start + 7] for start in (0, 2, 5)]))
    found = delayed(windows, delays, 4)
    wanted = explicit(films["c"], delays)
    for index, start in enumerate((0, 2, 5)):
        np.testing.assert_array_equal(found[index], wanted[start : start + 4])

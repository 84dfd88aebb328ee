"""Linear layers that read large weights once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.models import linear
from giblet_ray.models.linear import Linear


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    monkeypatch.setattr(linear, "_LARGE", 0)
    monkeypatch.setattr(linear, "_FEW", 0)


def both(layer: Linear, rows: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Return results and gradients of the layer, and of torch's own with the same weights."""
    found = []
    for forward in (Linear.forward, torch.nn.Linear.forward):
        given_rows = rows.clone().requires_grad_()
        layer.zero_grad(set_to_none=True)
        results = forward(layer, given_rows)
        (results * torch.arange(results.numel()).view_as(results).cos()).sum().backward()
        gradients = [given_rows.grad, *(each.grad for each in layer.parameters())]
        found.append((results.detach(), *gradients))
    return found


sizes = st.integers(1, 9)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), sizes, sizes, st.booleans())
def test_results_and_gradients_are_those_of_torchs_own(leading, n_in, n_out, bias):
    torch.manual_seed(0)
    layer = Linear(n_in, n_out, bias=bias)
    ours, theirs = both(layer, torch.randn(*leading, n_in))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_that_lie_apart_in_memory_are_read_as_others():
    layer = Linear(5, 7)
    ours, theirs = both(layer, torch.randn(5, 6, 4).transpose(0, 2))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_draws_what_it_draws_after_torchs_own_layer():
    layer, rows = Linear(5, 7), torch.randn(6, 5)
    kept = []
    for results in (layer(rows), torch.nn.Linear.forward(layer, rows)):
        torch.manual_seed(0)
        kept.append(torch.nn.functional.dropout(results, 0.5) != 0)
    assert torch.equal(*kept)


def test_frozen_weights_have_no_gradient_and_pass_one_on():
    layer, rows = Linear(3, 2).requires_grad_(False), torch.randn(4, 3, requires_grad=True)
    layer(rows).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(rows.grad, layer.weight.sum(0).expand(4, 3))


def test_a_row_alone_is_read_as_by_torchs_own():
    layer, row_K = Linear(3, 2), torch.randn(3)
    torch.testing.assert_close(layer(row_K), torch.nn.Linear.forward(layer, row_K))


@pytest.mark.parametrize(("n_rows", "n_calls"), [(1, 1), (4, 1), (5, 0)])
def test_rows_are_few_beside_both_sides_of_the_weight(monkeypatch, n_rows, n_calls):
    calls, by_columns = [], linear._ByColumns.apply
    monkeypatch.setattr(linear._ByColumns, "apply", lambda *a: calls.append(a) or by_columns(*a))
    monkeypatch.setattr(linear, "_FEW", 2)
    Linear(8, 30)(torch.randn(n_rows, 8))
    assert len(calls) == n_calls


def test_half_precision_is_left_to_torch():
    layer = Linear(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(4, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize(("given_first", "found"), [(None, "1"), ("0", "0")])
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_otherwise(given_first, found):
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    if given_first is not None:
        environment["THP_MEM_ALLOC_ENABLE"] = given_first
    code = "import giblet_ray, os; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found

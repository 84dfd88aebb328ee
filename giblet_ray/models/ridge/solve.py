"""Weightings of parts and alphas, as himalaya's random search chooses them, and their weights.

himalaya is called for one weighting after another, with all units: what it returns for each is what
it would have compared itself, and the user hears how far it is. It is not asked for weights, which
it would find again whenever some unit's choice changes: they are ridge's closed form, taken once
for what was chosen. Its ``solve_kernel_ridge_eigenvalues`` makes an (N, N) matrix for every unit
where each has its own alpha, and decomposes the kernel once for every alpha where not.

Shapes: P parts, N rows of BOLD, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_SEARCHED_UNITS = 4096
"""Units whose predictions are held at a time."""
_SEARCHED_ALPHAS = 4
"""Alphas whose predictions are held at a time."""
_SOLVED_UNITS = 1024
"""Units whose weights are found at a time."""

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Chosen:
    """What was chosen for each unit."""

    gammas: Tensor
    """(G, P) weightings of the parts that were tried, each adding up to 1."""
    weighting_V: Tensor
    """(V,) int64, which of them."""
    alpha_V: Tensor
    """(V,) regularisation."""


@contextmanager
def himalaya_on(device: torch.device) -> Iterator[None]:
    """Let himalaya compute on a device while the block runs."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    set_backend("torch_cuda" if device.type == "cuda" else "torch")
    try:
        yield
    finally:
        set_backend(before)


def draw_weightings(n_iter: int, n_parts: int, seed: int) -> Tensor:
    """Return weightings (n_iter, P): the first weighs all parts alike, the others are drawn."""
    from himalaya.kernel_ridge import generate_dirichlet_samples

    if n_iter == 1 or n_parts == 1:
        return torch.full((1, n_parts), 1 / n_parts)
    drawn = generate_dirichlet_samples(n_iter, n_parts, [0.1, 1.0], random_state=seed)
    gammas = torch.as_tensor(drawn, dtype=torch.float32, device="cpu")
    gammas[0] = 1 / n_parts
    return gammas


def choose(
    kernels_PNN: Tensor,
    bold_NV: Tensor,
    splits: Sequence[Split],
    gammas: Tensor,
    alphas: Tensor,
    tried: Callable[[int], None],
) -> Chosen:
    """Choose each unit's weighting of the parts and its alpha, by cross-validation.

    Parameters
    ----------
    kernels_PNN : Tensor
        Kernel of each part, on the device that computes.
    bold_NV : Tensor
        z-scored BOLD, on the CPU; 0 for units that do not count.
    splits : sequence of (ndarray, ndarray)
        Rows that are fitted on and rows that are predicted.
    gammas : Tensor
        (G, P) weightings to try.
    alphas : Tensor
        Regularisations to try.
    tried : callable
        Is told how many weightings have been tried.
    """
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    n_units = bold_NV.shape[1]
    best_V = torch.full((n_units,), -torch.inf)
    weighting_V = torch.zeros(n_units, dtype=torch.int64)
    alpha_V = torch.ones(n_units)
    on_gpu = kernels_PNN.device.type == "cuda"
    for index, gamma_P in enumerate(gammas):
        _, _, scores, found_V = solve_multiple_kernel_ridge_random_search(
            kernels_PNN,
            bold_NV,
            n_iter=gamma_P[None].to(kernels_PNN),
            alphas=alphas.to(kernels_PNN),
            cv=splits,
            n_targets_batch=_SEARCHED_UNITS,
            n_alphas_batch=_SEARCHED_ALPHAS,
            progress_bar=False,
            Y_in_cpu=on_gpu,
            return_alphas=True,
        )
        better_V = scores[0] > best_V + torch.finfo(torch.float32).eps
        best_V[better_V] = scores[0, better_V]
        weighting_V[better_V] = index
        alpha_V[better_V] = found_V.cpu()[better_V]
        tried(index + 1)
    return Chosen(gammas, weighting_V, alpha_V)


def solved(
    kernels_PNN: Tensor, bold_NV: Tensor, chosen: Chosen
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Return the weights of rows, ``(K + alpha)^-1 @ BOLD``, some units at a time.

    Yields
    ------
    units_U : Tensor
        (U,) int64, which units; they have one weighting.
    gamma_P : Tensor
        Their weighting of the parts: K is the sum of the kernels, weighted.
    dual_NU : Tensor
        (N, U) weights of rows, on the kernels' device.
    """
    device = kernels_PNN.device
    for index in chosen.weighting_V.unique().tolist():
        gamma_P = chosen.gammas[index].to(kernels_PNN)
        values_N, vectors_NN = torch.linalg.eigh(torch.einsum("pnm,p->nm", kernels_PNN, gamma_P))
        values_N = values_N.clamp(min=0)  # a kernel's are not negative, but for rounding
        for units_U in (chosen.weighting_V == index).nonzero().flatten().split(_SOLVED_UNITS):
            rotated_NU = vectors_NN.T @ bold_NV[:, units_U].to(device)
            rotated_NU /= values_N[:, None] + chosen.alpha_V[units_U].to(device)
            yield units_U, gamma_P, vectors_NN @ rotated_NU

"""The optimizer, and its learning rate over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from giblet_ray.errors import InputError
from giblet_ray.models.predictor import Predictor

_EPSILON = 1e-8
"""Added to the root of the second moment, as in torch.optim.AdamW."""


class AdamW:
    """AdamW, fused: one kernel updates all parameters of a group.

    What ``torch.optim.AdamW(fused=True)`` computes, to the bit. That class imports all of
    torch.compile when it is made, which takes each process of a training a second.

    Parameters
    ----------
    groups : mapping of float to sequence of nn.Parameter
        Parameters by their weight decay.
    betas : (float, float)
        Decay of the running means of the gradient and of its square.

    Attributes
    ----------
    groups : mapping of float to sequence of nn.Parameter
        As they were given.
    state : dict of nn.Parameter to dict of str to Tensor
        ``exp_avg``, ``exp_avg_sq`` and ``step`` of those that have had a gradient.
    """

    def __init__(
        self, groups: Mapping[float, Sequence[nn.Parameter]], betas: tuple[float, float]
    ) -> None:
        self.groups, self._betas = groups, betas
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update all parameters that have a gradient."""
        beta1, beta2 = self._betas
        for weight_decay, parameters in self.groups.items():
            used = [each for each in parameters if each.grad is not None]
            states = [self._state_of(each) for each in used]
            adamw(
                [*used],
                [each.grad for each in used if each.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                maximize=False,
                beta1=beta1,
                beta2=beta2,
                lr=lr,
                weight_decay=weight_decay,
                eps=_EPSILON,
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameters in self.groups.values():
            for each in parameters:
                each.grad = None

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
                "step": torch.zeros((), device=parameter.device),
            }
        return self.state[parameter]


def build_optimizer(
    model: nn.Module,
    weight_decay: float = 0.01,
    head_weight_decay: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
) -> AdamW:
    """Make AdamW for a model's trainable parameters, decaying only its matrices and kernels.

    Parameters
    ----------
    model : nn.Module
        On the device it will be trained on.
    weight_decay : float
        For the weights of linear and convolution layers. Biases, normalisation parameters and
        embeddings have none: pulling those towards 0 limits no complexity.
    head_weight_decay : float, optional
        For those weights that a predictor says are of its heads; `weight_decay` by default.
    betas : (float, float)
        Decay of the running means of the gradient and of its square.

    Returns
    -------
    AdamW
        With a group for each decay that there is.

    Raises
    ------
    InputError
        For an argument out of its range, or a model with nothing to train.
    """
    if head_weight_decay is None:
        head_weight_decay = weight_decay
    for name, decay in (("weight_decay", weight_decay), ("head_weight_decay", head_weight_decay)):
        if not (math.isfinite(decay) and decay >= 0):
            raise InputError(f"{name}: found {decay}, must be at least 0")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"betas: found {betas}, must be two numbers of at least 0 and below 1")
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], head_weight_decay: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() > 1 and id(parameter) not in embeddings
            of_head = isinstance(model, Predictor) and model.is_of_heads(name)
            decay = head_weight_decay if of_head else weight_decay
            groups[decay if is_matrix else 0.0].append(parameter)
    if not any(groups.values()):
        raise InputError("model: found no trainable parameter, needs one")
    return AdamW({decay: each for decay, each in groups.items() if each}, betas)


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, min_factor: float = 0.0) -> float:
    """Return the factor on the peak learning rate for the optimizer step number `step`.

    ::

        1           _
                  /   `.
        min_factor       `- _______
            0    warmup    total      step

    It rises in a line to exactly 1 at `warmup_steps`, falls as half a cosine to `min_factor` at
    `total_steps`, and stays there. The first step is already above 0.

    Parameters
    ----------
    step : int
        Optimizer steps already taken: 0 for the first.
    total_steps, warmup_steps : int
        Optimizer steps (global batches) of the whole run, and of its warm-up.
    min_factor : float
        Factor at the end.

    Returns
    -------
    float
        In [min(min_factor, 1 / (warmup_steps + 1)), 1].
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def build_schedule(
    lr: float, total_steps: int, warmup_steps: int, min_factor: float = 0.0
) -> Callable[[int], float]:
    """Make the schedule of `warmup_cosine`.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    total_steps, warmup_steps, min_factor
        As `warmup_cosine` takes them.

    Returns
    -------
    callable
        From the optimizer steps already taken to the next one's learning rate.

    Raises
    ------
    InputError
        For a learning rate of 0 or less, a warm-up that leaves no step at the peak, or a factor
        outside [0, 1].
    """
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"lr: found {lr}, must be above 0")
    if not 0 <= warmup_steps < total_steps:
        raise InputError(
            f"warmup_steps: found {warmup_steps}, must be at least 0 and below the run's "
            f"{total_steps} optimizer steps"
        )
    if not 0 <= min_factor <= 1:
        raise InputError(f"min_factor: found {min_factor}, must be in [0, 1]")
    factor = partial(
        warmup_cosine, total_steps=total_steps, warmup_steps=warmup_steps, min_factor=min_factor
    )
    return lambda step: lr * factor(step)

"""The optimizer's groups, and the learning rate of every step."""

import itertools
import math
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from giblet_ray.errors import InputError
from giblet_ray.models.encoder import create_encoder
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType
from giblet_ray.training.optimizer import build_optimizer, build_schedule, warmup_cosine


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def decay_of(optimizer):
    return {id(each): decay for decay, group in optimizer.groups.items() for each in group}


def test_only_matrices_and_kernels_decay():
    model = create_encoder(
        video_height=9,
        video_width=16,
        audio_codebooks=2,
        text_dim=6,
        n_voxels=5,
        bottleneck_dim=4,
        trunk_dims=(8, 8),
        head_dim=8,
        use_encodec=True,
    )
    decay = decay_of(build_optimizer(model, weight_decay=0.05))
    assert len(decay) == len(list(model.parameters()))
    for name, weights in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        is_decayed = name.endswith("weight") and isinstance(
            owner, nn.Linear | nn.Conv1d | nn.Conv2d
        )
        assert decay[id(weights)] == (0.05 if is_decayed else 0.0), name


def test_first_update_is_that_of_adamw_by_hand():
    model = nn.Linear(3, 2)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    optimizer = build_optimizer(model, weight_decay=0.1, betas=(0.8, 0.9))
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step(0.01)
    # After bias correction the first step is lr * gradient / |gradient|.
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.001) - 0.01)
    torch.testing.assert_close(model.bias.detach(), before["bias"] - 0.01)


def test_many_updates_are_those_of_torchs_own_to_the_bit():
    ours, theirs = small_model(), small_model()
    own = build_optimizer(ours, 0.1, betas=(0.8, 0.95))
    reference = torch.optim.AdamW(
        [
            {"params": [theirs[0].weight, theirs[3].weight], "weight_decay": 0.1},
            {"params": [*theirs[1].parameters(), theirs[0].bias], "weight_decay": 0.0},
            {"params": [theirs[3].bias], "weight_decay": 0.0},
        ],
        betas=(0.8, 0.95),
        fused=True,
    )
    factor = lambda step: warmup_cosine(step, 20, 5, 0.1)  # noqa: E731
    for group in reference.param_groups:
        group["lr"] = 3e-2
    schedule = torch.optim.lr_scheduler.LambdaLR(reference, factor)
    rate = build_schedule(3e-2, 20, 5, 0.1)
    for step in range(20):
        batch = torch.randn(6, 4)
        for model in (ours, theirs):
            model(batch).square().sum().backward()
        if step % 3 == 0:  # such as a head of which a batch has no row
            ours[3].bias.grad = theirs[3].bias.grad = None
        assert rate(step) == reference.param_groups[0]["lr"]
        own.step(rate(step))
        reference.step()
        schedule.step()
        own.zero_grad()
        reference.zero_grad()
        assert all(each.grad is None for each in ours.parameters())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert own.state[mine].keys() == reference.state[other].keys()
        for name, value in own.state[mine].items():
            assert torch.equal(value, reference.state[other][name]), name
    assert own.state[ours[3].bias]["step"] == 13


def test_frozen_parameters_are_left_out():
    model = small_model()
    model[0].requires_grad_(False)
    assert len(decay_of(build_optimizer(model))) == 4


def test_a_step_does_not_import_what_compiles_models():
    script = """
        import sys
        import torch
        from giblet_ray.training.optimizer import build_optimizer
        model = torch.nn.Linear(2, 2)
        optimizer = build_optimizer(model)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step(0.1)
        print("torch._dynamo" in sys.modules)
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


def test_heads_may_decay_by_a_rate_of_their_own():
    model = build_predictor(
        MultimodalConfig(bottleneck_dim=4, trunk_dims=(8, 8), head_dim=8, text_features=8),
        Shapes(
            {"text": ValueType(dtype="float32", shape=(6,))}, {"text": "vector"}, {"01": 5}, 1.5
        ),
        (),
    )
    decay = decay_of(build_optimizer(model, 0.05, head_weight_decay=3.0))
    of_heads = {
        decay[id(weights)] for name, weights in model.named_parameters() if model.is_of_heads(name)
    }
    others = {
        decay[id(weights)]
        for name, weights in model.named_parameters()
        if not model.is_of_heads(name)
    }
    assert of_heads == {3.0, 0.0}
    assert others == {0.05, 0.0}
    with pytest.raises(InputError, match="head_weight_decay: found -1"):
        build_optimizer(model, head_weight_decay=-1)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (10, 3), (11, 10), (1, 0), (1000, 77)])
def test_factor_rises_to_exactly_one_and_falls_to_the_minimum(total, warmup):
    factors = [warmup_cosine(step, total, warmup, 0.1) for step in range(total + 1)]
    assert max(factors) == factors[warmup] == 1.0
    assert factors[:warmup] == [(step + 1) / (warmup + 1) for step in range(warmup)]
    assert factors[0] > 0
    assert all(late < early for early, late in itertools.pairwise(factors[warmup:]))
    assert factors[total] == pytest.approx(0.1)
    assert warmup_cosine(total + 5, total, warmup, 0.1) == pytest.approx(0.1)


def test_half_way_down_the_factor_is_the_mean_of_its_ends():
    assert warmup_cosine(60, 100, 20, 0.2) == pytest.approx(0.6)
    assert warmup_cosine(40, 100, 20) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))


def test_schedule_peaks_at_the_learning_rate_that_was_set():
    rate = build_schedule(3e-4, total_steps=20, warmup_steps=5)
    rates = [rate(step) for step in range(20)]
    assert rates == [3e-4 * warmup_cosine(step, 20, 5) for step in range(20)]
    assert max(rates) == rates[5] == 3e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -1}, "weight_decay: found -1"),
        ({"betas": (0.9, 1.0)}, "betas: found"),
        ({"betas": (0.9,)}, "betas: found"),
    ],
)
def test_bad_optimizer_setting_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(small_model(), **arguments)


def test_model_with_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="no trainable parameter"):
        build_optimizer(nn.ReLU())


@pytest.mark.parametrize(
    ("lr", "total", "warmup", "minimum", "message"),
    [
        (0, 10, 1, 0.0, "lr: found 0"),
        (math.nan, 10, 1, 0.0, "lr: found nan"),
        (0.1, 10, 10, 0.0, "warmup_steps: found 10.* 10 optimizer steps"),
        (0.1, 10, -1, 0.0, "warmup_steps: found -1"),
        (0.1, 0, 0, 0.0, "warmup_steps"),
        (0.1, 10, 1, 1.5, "min_factor: found 1.5"),
    ],
)
def test_bad_schedule_setting_is_refused(lr, total, warmup, minimum, message):
    with pytest.raises(InputError, match=message):
        build_schedule(lr, total, warmup, minimum)

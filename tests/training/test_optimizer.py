"""The optimizer's groups, and the learning rate of every step."""

import io
import itertools
import math

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
    optimizer = build_optimizer(model, lr=1e-3, weight_decay=0.05)
    decay = {
        id(weights): group["weight_decay"]
        for group in optimizer.param_groups
        for weights in group["params"]
    }
    assert len(decay) == len(list(model.parameters()))
    for name, weights in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        is_decayed = name.endswith("weight") and isinstance(
            owner, nn.Linear | nn.Conv1d | nn.Conv2d
        )
        assert decay[id(weights)] == (0.05 if is_decayed else 0.0), name
    assert optimizer.defaults["fused"]


def test_first_update_is_that_of_adamw_by_hand():
    model = nn.Linear(3, 2)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    optimizer = build_optimizer(model, lr=0.01, weight_decay=0.1, betas=(0.8, 0.9))
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    # After bias correction the first step is lr * gradient / |gradient|.
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.001) - 0.01)
    torch.testing.assert_close(model.bias.detach(), before["bias"] - 0.01)


def test_frozen_parameters_are_left_out():
    model = small_model()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, lr=0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_heads_may_decay_by_a_rate_of_their_own():
    model = build_predictor(
        MultimodalConfig(bottleneck_dim=4, trunk_dims=(8, 8), head_dim=8, text_features=8),
        Shapes(
            {"text": ValueType(dtype="float32", shape=(6,))}, {"text": "vector"}, {"01": 5}, 1.5
        ),
        (),
    )
    optimizer = build_optimizer(model, 1e-3, 0.05, head_weight_decay=3.0)
    decay = {
        id(weights): group["weight_decay"]
        for group in optimizer.param_groups
        for weights in group["params"]
    }
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
        build_optimizer(model, 1e-3, head_weight_decay=-1)


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


def learning_rates(optimizer, schedule, steps):
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def test_schedule_steps_per_batch_and_peaks_at_the_learning_rate_that_was_set():
    optimizer = build_optimizer(small_model(), lr=3e-4)
    schedule = build_schedule(optimizer, total_steps=20, warmup_steps=5)
    rates = learning_rates(optimizer, schedule, 20)
    expected = [3e-4 * warmup_cosine(step, 20, 5) for step in range(20)]
    assert [rate[0] for rate in rates] == expected
    assert all(rate[0] == rate[1] for rate in rates)
    assert max(rates)[0] == 3e-4


def test_restored_schedule_goes_on_where_it_stopped():
    optimizer = build_optimizer(small_model(), lr=0.1)
    schedule = build_schedule(optimizer, 20, 5)
    learning_rates(optimizer, schedule, 8)
    saved = io.BytesIO()
    torch.save({"schedule": schedule.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    expected = learning_rates(optimizer, schedule, 12)

    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    fresh = build_optimizer(small_model(), lr=0.1)
    resumed = build_schedule(fresh, 20, 5)
    fresh.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    assert learning_rates(fresh, resumed, 12) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0}, "lr: found 0"),
        ({"lr": math.nan}, "lr: found nan"),
        ({"lr": 0.1, "weight_decay": -1}, "weight_decay: found -1"),
        ({"lr": 0.1, "betas": (0.9, 1.0)}, "betas: found"),
        ({"lr": 0.1, "betas": (0.9,)}, "betas: found"),
    ],
)
def test_bad_optimizer_setting_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(small_model(), **arguments)


def test_model_with_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="no trainable parameter"):
        build_optimizer(nn.ReLU(), lr=0.1)


@pytest.mark.parametrize(
    ("total", "warmup", "minimum", "message"),
    [
        (10, 10, 0.0, "warmup_steps: found 10.* 10 optimizer steps"),
        (10, -1, 0.0, "warmup_steps: found -1"),
        (0, 0, 0.0, "warmup_steps"),
        (10, 1, 1.5, "min_factor: found 1.5"),
    ],
)
def test_bad_schedule_setting_is_refused(total, warmup, minimum, message):
    optimizer = build_optimizer(small_model(), lr=0.1)
    with pytest.raises(InputError, match=message):
        build_schedule(optimizer, total, warmup, minimum)

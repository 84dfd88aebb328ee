"""BatchNorm's statistics are those of the weights that are evaluated, without dropout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from local_training import LocalLink, LocalTraining
from ranks import run_ranks
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.windows import part_of
from giblet_ray.training import batch_norm
from giblet_ray.training.batch_norm import layers_that_adapt, retake
from giblet_ray.training.step import Ranks, Scores

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(
    local_training: Callable[..., LocalTraining], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LocalTraining, LocalLink, Encoder]:
    """Two epochs of a model with dropout, and the model that its last checkpoint holds."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {"epochs": 2, "batch_trs": 32, "accumulation": 2}
    training = local_training(train=settings, optimizer={"lr": 1e-2})
    link = training.train(folder)
    return training, link, Encoder.load(sorted(folder.glob("epoch-*"))[-1])


def epoch_parts(training: LocalTraining, encoder: Encoder, n_trs: int) -> list[tuple]:
    """Inputs of the first batches of the last epoch, each in its two accumulated parts."""
    order, train = encoder.record.order, training.data.train
    indices = training.data.ordered(order).order.epoch(1, None)
    parts: list[tuple] = []
    for start in range(0, len(indices), order.batch_size):
        whole = train[indices[start : start + order.batch_size]]
        if start >= n_trs or len(whole) < order.smallest_batch:
            break
        for half in (slice(None, len(whole) // 2), slice(len(whole) // 2, None)):
            (batch,) = training.loader(CPU).batches([whole[half]])
            inputs = encoder.shapes.inputs({n: v.clone() for n, v in batch.values.items()})
            parts.append((inputs, batch.exists, torch.zeros(len(whole[half]), dtype=torch.long)))
    return parts


@pytest.mark.parametrize("n_trs", [512, 70])
def test_checkpoint_has_the_statistics_of_training_windows_without_dropout(
    local_training: Callable[..., LocalTraining],
    trained: tuple[LocalTraining, LocalLink, Encoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_trs: int,
) -> None:
    training, _, encoder = trained
    assert batch_norm.RETAKEN_TRS == 512
    if n_trs != 512:
        monkeypatch.setattr(batch_norm, "RETAKEN_TRS", n_trs)
        training.train(tmp_path)
        encoder = Encoder.load(sorted(tmp_path.glob("epoch-*"))[-1])
    means, variances = defaultdict(list), defaultdict(list)

    def by_its_batch(layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        dims = [dim for dim in range(args[0].dim()) if dim != 1]
        shape = [1, -1] + [1] * (args[0].dim() - 2)
        values = args[0].double()
        mean, variance = values.mean(dims), values.var(dims, correction=0)
        n = values.numel() / len(mean)
        means[layer].append(mean)
        variances[layer].append(variance * n / (n - 1))
        scaled = (values - mean.view(shape)) / (variance + layer.eps).sqrt().view(shape)
        return (scaled * layer.weight.view(shape) + layer.bias.view(shape)).float()

    layers = [layer for layer in encoder.model.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_hook(by_its_batch) for layer in layers]
    parts = epoch_parts(training, encoder, n_trs)
    assert (len(parts) == 6) == (n_trs == 70)
    with torch.no_grad():
        for part in parts:
            encoder.model(*part)
    for hook in hooks:
        hook.remove()
    assert len(layers) > 8
    for layer in layers:
        expected = [torch.stack(each[layer]).mean(dim=0).float() for each in (means, variances)]
        torch.testing.assert_close(layer.running_mean, expected[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(layer.running_var, expected[1], rtol=1e-3, atol=1e-5)


def test_two_evaluations_of_one_model_agree(
    trained: tuple[LocalTraining, LocalLink, Encoder],
) -> None:
    """Whatever its running statistics were before."""
    training, link, encoder = trained
    for layer in encoder.model.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean += 3
            layer.running_var *= 7
    ranks = Ranks(encoder.model, 1, CPU, frozen_batch_norm=False)
    scores = Scores(training.normalisation, encoder.shapes, training.job, CPU)
    windows, loader = training.data.ordered(encoder.record.order), training.loader(CPU)
    scores.retake_batch_norm(ranks, loader, windows.train, windows.steps(1, 0, 1))
    _, metrics = scores.evaluate(ranks, loader, windows.val, 0)
    for name, value in metrics.items():
        assert link.reports[-1][name] == value, name
    momenta = {m.momentum for m in encoder.model.modules() if isinstance(m, _BatchNorm)}
    assert momenta == {0.1}


def test_frozen_statistics_stay(
    local_training: Callable[..., LocalTraining], tmp_path: Path
) -> None:
    settings = {"model": {"batch_norm": "frozen"}, "train": {"epochs": 1, "batch_trs": 32}}
    local_training(**settings).train(tmp_path)
    model = Encoder.load(tmp_path).model
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            assert not layer.running_mean.any()
            assert (layer.running_var == 1).all()


def _state_of_a_rank(rank: int, model: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    def predict() -> None:
        for batch in batches:
            model(part_of(batch, rank, 2))

    retake(model, layers_that_adapt(model), predict, 2)
    return model.state_dict()


def test_two_ranks_have_the_same_statistics_and_nearly_those_of_one() -> None:
    torch.manual_seed(0)
    layers = [nn.BatchNorm1d(3), nn.Linear(3, 5), nn.Dropout(0.5), nn.BatchNorm1d(5)]
    model = nn.Sequential(*layers)
    batches = [torch.randn(200, 3) * torch.tensor([1.0, 5, 0.2]) + 4 for _ in range(6)]
    one, other = run_ranks(2, _state_of_a_rank, model, batches)
    retake(model, layers_that_adapt(model), lambda: [model(each) for each in batches], 1)
    for name, alone in model.state_dict().items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(one[name], alone, rtol=0.02, atol=0.02)
    torch.testing.assert_close(one["0.running_mean"], torch.cat(batches).mean(0))

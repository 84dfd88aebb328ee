"""What a model is to those who use it, and contract 1's encoder as the first of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.encoder import MultimodalEncoder, create_encoder
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.predictor import (
    Shapes,
    build_predictor,
    by_subject,
    find_model,
    in_batch_order,
)
from giblet_ray.parts.value import ValueType

VALUES = {
    "frames": ValueType(dtype="uint8", shape=(3, 18, 32)),
    "codes": ValueType(dtype="int16", shape=(2, 112)),
    "text": ValueType(dtype="float32", shape=(12,)),
    "clip": ValueType(dtype="float32", shape=(12,)),
    "gaze": ValueType(dtype="float16", shape=(5,)),
    "bold": ValueType(dtype="float32", shape=(7,)),
}
ENCODERS = {
    **{"frames": "image", "codes": "codes"},
    **{"text": "vector", "clip": "vector", "gaze": "vector"},
}


def shapes_of(*parts: str, units: tuple[int, ...] = (7, 7)) -> Shapes:
    subjects = {f"{index:02d}": n for index, n in enumerate(units, start=1)}
    values = {name: VALUES[name] for name in (*parts, "bold")}
    return Shapes(values, {part: ENCODERS[part] for part in parts}, subjects, 1.5)


def rows_of(shapes: Shapes, n: int, window: int) -> dict[str, Tensor]:
    random = np.random.default_rng(0)
    return {
        part: torch.from_numpy(
            random.integers(0, 99, (n, window, *shapes.values[part].shape)).astype(
                shapes.values[part].dtype
            )
        )
        for part in shapes.parts
    }


@pytest.fixture
def settings(tiny_model: dict[str, Any]) -> MultimodalConfig:
    return MultimodalConfig(**tiny_model, vector_features=8)


@pytest.mark.parametrize("window", [1, 3])
def test_the_multimodal_predictor_gives_the_numbers_of_contract_ones_encoder(
    settings: MultimodalConfig, window: int
) -> None:
    shapes = shapes_of("frames", "codes", "text")
    torch.manual_seed(3)
    model = build_predictor(settings, shapes).train()
    torch.manual_seed(3)
    encoder = create_encoder(
        **settings.model_dump(include=set(inspect.signature(MultimodalEncoder).parameters)),
        video_height=18,
        video_width=32,
        audio_frames_per_tr=112,
        text_dim=12,
        n_voxels=7,
        use_encodec=True,
    ).train()
    rows = rows_of(shapes, 6, window)
    subject = torch.tensor([1, 0, 0, 1, 1, 0])
    torch.manual_seed(4)
    exists = torch.ones(6, window, dtype=torch.bool)
    found = in_batch_order(model(shapes.inputs(rows), exists, subject), subject)
    torch.manual_seed(4)
    _, wanted = encoder(
        rows["frames"].flatten(0, 1).float().div(255).sub(0.5),
        rows["codes"].flatten(0, 1).long(),
        rows["text"].flatten(0, 1),
        return_voxels=True,
    )
    assert torch.equal(found.flatten(0, 1), wanted)
    found.square().sum().backward()
    wanted.square().sum().backward()
    trained = dict(encoder.named_parameters())
    for name, parameter in model.named_parameters():
        name = name.removeprefix("encoder.").replace("head.group.", "bottleneck_to_voxels.")
        assert torch.equal(parameter.grad, trained.pop(name).grad), name
    assert not trained


def test_rows_before_a_film_and_after_a_shorter_window_contribute_nothing(
    tiny_model: dict[str, Any],
) -> None:
    """Not to predictions, gradients or BatchNorm's statistics, whatever their values are."""
    shapes = shapes_of("frames", "codes", "text")
    settings = MultimodalConfig(**{**tiny_model, "dropout": 0.0})
    lengths = torch.tensor([[2, 4], [0, 3], [0, 4], [0, 1], [3, 4]])
    place = torch.arange(4)
    exists = (place >= lengths[:, :1]) & (place < lengths[:, 1:])
    subject = torch.tensor([1, 0, 0, 1, 0])
    windows = shapes.inputs(rows_of(shapes, 5, 4))
    alone = {part: value[exists][:, None] for part, value in windows.items()}
    spoilt = {part: value.clone() for part, value in windows.items()}
    for part, value in {"frames": 9e9, "codes": 5, "text": float("nan")}.items():
        spoilt[part][~exists] = value

    def trained(
        values: dict[str, Tensor], exists: Tensor, subject: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(0)
        model = build_predictor(settings, shapes).train()
        bold_BWV = in_batch_order(model(values, exists, subject), subject)
        bold_BWV.square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return bold_BWV.detach(), [*gradients, *model.buffers()]

    of_rows = subject[:, None].expand_as(exists)[exists]
    wanted, left = trained(alone, torch.ones(len(of_rows), 1, dtype=torch.bool), of_rows)
    for values in (windows, spoilt):
        found, states = trained(values, exists, subject)
        assert torch.equal(found[exists], wanted[:, 0])
        assert not found[~exists].any()
        for state, expected in zip(states, left, strict=True):
            torch.testing.assert_close(state, expected)


def test_a_vector_in_the_place_of_the_text_is_read_as_the_text_is(
    settings: MultimodalConfig,
) -> None:
    outputs = []
    for part in ("text", "clip"):
        shapes = shapes_of("frames", part)
        torch.manual_seed(0)
        model = build_predictor(settings, shapes)
        subject = torch.zeros(4, dtype=torch.int64)
        exists = torch.ones(4, 1, dtype=torch.bool)
        outputs.append(model(shapes.inputs(rows_of(shapes, 4, 1)), exists, subject)[0])
    assert torch.equal(*outputs)


def test_vectors_stand_beside_the_modalities_or_alone(settings: MultimodalConfig) -> None:
    model = build_predictor(settings, shapes_of("gaze", "text", "clip"))
    assert isinstance(model, Multimodal)
    counts = model.encoder.get_parameter_count()
    assert counts["vector_encoders"] > 0
    ends = ("feature_conv", "layer5", "layer6", "layer7_bottleneck")
    encoders = ("video_encoder", "audio_encoder", "text_encoder", "vector_encoders")
    assert counts["total"] == sum(counts[name] for name in (*encoders, *ends))
    alone = build_predictor(settings, shapes_of("gaze"))
    assert alone.encoder.modalities == ()  # type: ignore[union-attr, operator]


def test_several_frames_of_a_tr_are_seen_together(settings: MultimodalConfig) -> None:
    values = {**VALUES, "frames": ValueType(dtype="uint8", shape=(9, 18, 32))}
    shapes = Shapes(values, {"frames": "image"}, {"01": 7}, 1.5)
    model = build_predictor(settings, shapes)
    assert model.encoder.video_encoder.frames_per_tr == 3  # type: ignore[union-attr]
    rows, subject = shapes.inputs(rows_of(shapes, 4, 2)), torch.zeros(4, dtype=torch.int64)
    assert model(rows, torch.ones(4, 2, dtype=torch.bool), subject)[0].shape == (4, 2, 7)


def test_contract_ones_counts_do_not_know_of_vectors() -> None:
    assert "vector_encoders" not in create_encoder(n_voxels=3, head_dim=4).get_parameter_count()


def test_two_forms_of_one_modality_are_refused(settings: MultimodalConfig) -> None:
    values = {**VALUES, "mel": ValueType(dtype="float16", shape=(20, 65))}
    shapes = Shapes(values, {"codes": "codes", "mel": "mel"}, {"01": 7}, 1.5)
    with pytest.raises(InputError, match="two forms of one modality"):
        build_predictor(settings, shapes)


def test_one_head_for_all_subjects_needs_as_many_units_of_each(settings: MultimodalConfig) -> None:
    with pytest.raises(InputError, match=r"differ in their number of units \(01: 7, 02: 5\)"):
        build_predictor(settings, shapes_of("text", units=(7, 5)))


@pytest.mark.parametrize("subjects", [[0, 0, 0, 0, 0], [2, 0, 2, 1, 0]])
def test_what_is_predicted_by_subject_comes_back_in_the_order_of_the_batch(
    subjects: list[int],
) -> None:
    bold_BWV = torch.randn(5, 2, 3, requires_grad=True)
    subject = torch.tensor(subjects)
    predicted = by_subject(bold_BWV, subject)
    assert {index: len(bold) for index, bold in predicted.items()} == {
        index: subjects.count(index) for index in set(subjects)
    }
    back = in_batch_order(predicted, subject)
    assert torch.equal(back, bold_BWV)
    weights = torch.randn(5, 2, 3)
    (back * weights).sum().backward()
    assert torch.equal(bold_BWV.grad, weights)


@pytest.mark.parametrize(
    "predicted",
    [
        {0: torch.zeros(2, 1, 3)},
        {0: torch.zeros(2, 1, 3), 1: torch.zeros(2, 1, 3)},
        {0: torch.zeros(2, 1, 3), 1: torch.zeros(1, 1, 4)},
        {0: torch.zeros(2, 3), 1: torch.zeros(1, 3)},
    ],
)
def test_a_prediction_of_other_shapes_is_refused(predicted: dict[int, Tensor]) -> None:
    with pytest.raises(InputError, match=r"the model predicted shapes .* are expected"):
        in_batch_order(predicted, torch.tensor([0, 1, 0]))


def test_units_that_a_subject_lacks_are_zeros_at_its_end() -> None:
    predicted = {0: torch.ones(2, 3, 5), 2: torch.ones(1, 3, 2)}
    subject = torch.tensor([2, 0, 0])
    bold_BWV = in_batch_order(predicted, subject, units=(5, 9, 2))
    assert bold_BWV.shape == (3, 3, 9)
    assert [int(rows.count_nonzero()) for rows in bold_BWV] == [6, 15, 15]
    assert not bold_BWV[0, :, 2:].any()
    with pytest.raises(InputError, match=r"predicted \{0: 5, 2: 2\} units .* \{0: 5, 2: 3\}"):
        in_batch_order(predicted, subject, units=(5, 9, 3))


def test_trunk_and_heads_of_the_encoder_are_told_apart(settings: MultimodalConfig) -> None:
    model = build_predictor(settings, shapes_of("frames", "codes", "text"))
    of_heads = {name for name in model.state_dict() if model.is_of_heads(name)}
    assert of_heads == {f"head.{name}" for name in model.head.state_dict()}


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"collections:OrderedDict: is no model; a subclass"):
        find_model("collections:OrderedDict", ["collections"])
    assert issubclass(find_model("multimodal", ()), nn.Module)
    assert ModelSettings().context_trs(1.5) == 0


def test_units_that_were_masked_have_no_prediction(
    local_training: Callable[..., Any], tmp_path: Path
) -> None:
    from checkpoints import sign
    from safetensors.numpy import load_file, save_file

    from giblet_ray.checkpoint.files import NORMALISATION
    from giblet_ray.checkpoint.served import ServedEncoder
    from giblet_ray.checkpoint.store import find_checkpoint
    from giblet_ray.checkpoint.trained import Encoder

    training = local_training(train={"epochs": 1, "batch_trs": 16})
    training.train(tmp_path / "run")
    folder = Path(find_checkpoint(str(tmp_path / "run")).location)
    scales = load_file(folder / NORMALISATION)
    scales["valid_SV"][:, [2, 5]] = False
    save_file(scales, folder / NORMALISATION)
    sign(folder, NORMALISATION)
    encoder = Encoder.load(folder)
    rows = {part: value[:, 0].numpy() for part, value in rows_of(encoder.shapes, 9, 1).items()}
    for bold_NV in (encoder.predict(**rows), ServedEncoder(encoder).predict(rows)):
        assert bold_NV.shape == (9, 24)
        assert np.isnan(bold_NV).all(axis=0).nonzero()[0].tolist() == [2, 5]
        assert np.isnan(bold_NV).any(axis=0).sum() == 2

"""The encoders: exact sizes, time kept in its place, and every refusal."""

import warnings

import pytest
import torch
from torch import nn

from giblet_ray.errors import InputError
from giblet_ray.models.encoder import (
    AudioEncoder,
    MultimodalEncoder,
    TextEncoder,
    VideoEncoder,
    create_encoder,
)

SMALL = {
    "video_height": 18,
    "video_width": 32,
    "audio_codebooks": 2,
    "audio_mels": 10,
    "text_dim": 12,
    "n_voxels": 7,
    "bottleneck_dim": 5,
    "video_features": 8,
    "audio_features": 6,
    "text_features": 4,
    "trunk_dims": (11, 9),
    "head_dim": 13,
    "embed_dim": 3,
}


def small_inputs(rows, use_encodec):
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(rows, 3, 18, 32, generator=generator)
    text = torch.randn(rows, 12, generator=generator)
    if use_encodec:
        return video, torch.randint(0, 1024, (rows, 2, 21), generator=generator), text
    return video, torch.randn(rows, 10, 21, generator=generator), text


def size_of(module):
    return sum(weights.numel() for weights in module.parameters())


@pytest.mark.parametrize(
    ("use_encodec", "audio", "total"),
    [(True, 1_214_592, 1_515_441_522), (False, 2_082_368, 1_516_309_298)],
)
def test_full_model_has_the_published_number_of_parameters(use_encodec, audio, total):
    with torch.device("meta"):
        counts = create_encoder(use_encodec=use_encodec).get_parameter_count()
    assert counts == {
        "video_encoder": 16_119_040,
        "audio_encoder": audio,
        "text_encoder": 657_664,
        "feature_conv": 2_363_904,
        "layer5": 6_303_744,
        "layer6": 32_792_000,
        "layer7_bottleneck": 16_390_144,
        "bottleneck_to_voxels": 1_439_600_434,
        "total": total,
    }


@pytest.mark.parametrize(("use_encodec", "frames"), [(True, 112), (False, 65)])
def test_full_model_maps_full_size_inputs_on_the_meta_device(use_encodec, frames):
    with torch.device("meta"):
        model = MultimodalEncoder(use_encodec=use_encodec)
        audio = (
            torch.zeros(2, 8, frames, dtype=torch.int16)
            if use_encodec
            else torch.zeros(2, 2048, frames)
        )
        bottleneck, voxels = model(
            torch.zeros(2, 3, 90, 160), audio, torch.zeros(2, 1024), return_voxels=True
        )
    assert bottleneck.shape == (2, 2048)
    assert voxels.shape == (2, 85810)


def test_codec_audio_encoder_has_19_parameter_tensors_of_which_one_is_shared_by_the_codebooks():
    encoder = AudioEncoder(use_encodec=True)
    assert len(list(encoder.parameters())) == 19
    assert size_of(encoder) == 1_214_592
    assert size_of(encoder.code_embedding) == 65_536


def test_mel_audio_encoder_has_no_code_embedding():
    encoder = AudioEncoder()
    assert not hasattr(encoder, "code_embedding")
    assert size_of(encoder) == 2_082_368


def test_audio_encoder_keeps_its_arguments():
    defaults = AudioEncoder()
    assert defaults.input_mels == 2048
    assert defaults.input_codebooks == 8
    assert defaults.frames_per_tr == 65
    assert defaults.output_features == 256
    assert defaults.use_encodec is False
    assert defaults.vocab_size == 1024
    assert defaults.embed_dim == 64
    assert defaults.kernel_sizes == (3, 5, 7)
    assert AudioEncoder(kernel_sizes=[3, 9], input_mels=4).kernel_sizes == (3, 9)


def test_multimodal_encoder_hands_the_audio_arguments_on():
    model = MultimodalEncoder(
        **SMALL, audio_frames_per_tr=21, use_encodec=True, kernel_sizes=(1, 15), vocab_size=50
    )
    audio = model.audio_encoder
    assert (audio.input_codebooks, audio.frames_per_tr, audio.vocab_size) == (2, 21, 50)
    assert (audio.embed_dim, audio.kernel_sizes, audio.output_features) == (3, (1, 15), 6)
    assert audio.use_encodec


def test_embedded_codes_hold_each_frame_of_each_codebook_in_its_place():
    torch.manual_seed(0)
    encoder = AudioEncoder(input_codebooks=3, use_encodec=True, embed_dim=4, vocab_size=20)
    codes = torch.randint(0, 20, (2, 3, 9))
    embedded = encoder.embed_codes(codes)
    assert embedded.shape == (2, 12, 9)
    for row in range(2):
        for codebook in range(3):
            for frame in range(9):
                expected = encoder.code_embedding.weight[codes[row, codebook, frame]]
                found = embedded[row, 4 * codebook : 4 * codebook + 4, frame]
                torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_shifting_the_codes_by_one_frame_shifts_the_branch_outputs_by_one_frame():
    torch.manual_seed(1)
    encoder = AudioEncoder(input_codebooks=8, use_encodec=True).eval()
    codes = torch.randint(0, 1024, (2, 8, 113))
    with torch.no_grad():
        for size, branch in zip(encoder.kernel_sizes, encoder.branches, strict=True):
            early = branch(encoder.embed_codes(codes[..., :-1]))
            late = branch(encoder.embed_codes(codes[..., 1:]))
            edge = size // 2
            interior = slice(edge, 111 - edge)
            torch.testing.assert_close(late[..., interior], early[..., 1:][..., interior])
            assert early[..., interior].std() > 0


@pytest.mark.parametrize("use_encodec", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 50, 112, 113])
@pytest.mark.parametrize("kernel_sizes", [(1,), (3, 7, 15), (5, 5)])
def test_any_number_of_frames_and_odd_kernels_work(use_encodec, frames, kernel_sizes):
    encoder = AudioEncoder(
        input_mels=6,
        input_codebooks=4,
        embed_dim=5,
        output_features=9,
        use_encodec=use_encodec,
        kernel_sizes=kernel_sizes,
    ).eval()
    audio = torch.randint(0, 1024, (1, 4, frames)) if use_encodec else torch.randn(1, 6, frames)
    assert encoder(audio).shape == (1, 9)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float32, torch.float64])
def test_codes_of_any_number_type_give_the_same_features(dtype):
    torch.manual_seed(0)
    encoder = AudioEncoder(input_codebooks=2, use_encodec=True).eval()
    codes = torch.randint(0, 1024, (3, 2, 30))
    torch.testing.assert_close(encoder(codes.to(dtype)), encoder(codes))
    if dtype.is_floating_point:
        torch.testing.assert_close(encoder(codes.to(dtype) + 0.9), encoder(codes))


@pytest.mark.parametrize(("code", "dtype"), [(1024, torch.int16), (-1, torch.int64)])
def test_code_outside_the_codebook_is_named_with_its_place_and_the_range(code, dtype):
    encoder = AudioEncoder(input_codebooks=2, use_encodec=True).eval()
    codes = torch.zeros(3, 2, 30, dtype=dtype)
    codes[2, 1, 17] = code
    message = rf"code {code} \(row 2, codebook 1, frame 17\), must be in \[0, 1024\)"
    with pytest.raises(ValueError, match=message):
        encoder(codes)


def test_nan_code_is_refused():
    encoder = AudioEncoder(input_codebooks=1, use_encodec=True).eval()
    with pytest.raises(InputError, match="audio"):
        encoder(torch.full((1, 1, 4), float("nan")))


def test_mel_input_without_time_is_one_frame_and_warns():
    torch.manual_seed(0)
    encoder = AudioEncoder(input_mels=16).eval()
    mels = torch.randn(3, 16)
    with pytest.warns(UserWarning, match="no time axis"):
        features = encoder(mels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(features, encoder(mels.unsqueeze(-1)))


@pytest.mark.parametrize(("height", "width"), [(90, 160), (45, 80), (1, 1), (17, 33)])
def test_video_encoder_takes_any_frame_size(height, width):
    encoder = VideoEncoder(input_height=height, input_width=width, output_features=5).eval()
    assert encoder(torch.randn(2, 3, height, width)).shape == (2, 5)


def test_video_encoder_sees_several_frames_of_a_tr_in_their_order():
    torch.manual_seed(0)
    encoder = VideoEncoder(18, 32, 5, frames_per_tr=4).eval()
    # Of contract 1, the first convolution alone grows: 32 filters of 3 x 3 for 9 more channels.
    assert size_of(encoder) == size_of(VideoEncoder(18, 32, 5)) + 32 * 9 * 9
    frames = torch.randn(2, 12, 18, 32)
    swapped = frames.unflatten(1, (4, 3)).flip(1).flatten(1, 2)
    assert not torch.allclose(encoder(frames), encoder(swapped))
    model = create_encoder(**SMALL, use_encodec=True, video_frames_per_tr=4).eval()
    _, codes, text = small_inputs(2, True)
    assert model(frames, codes, text, return_voxels=True)[1].shape == (2, 7)


def test_text_encoder_has_its_published_size_and_shape():
    encoder = TextEncoder()
    assert (encoder.input_dim, encoder.output_features) == (1024, 256)
    assert size_of(encoder) == 657_664
    assert encoder(torch.randn(4, 1024)).shape == (4, 256)


@pytest.mark.parametrize("use_encodec", [True, False])
def test_bottleneck_is_the_same_with_and_without_voxels(use_encodec):
    torch.manual_seed(0)
    model = create_encoder(**SMALL, use_encodec=use_encodec).eval()
    inputs = small_inputs(3, use_encodec)
    bottleneck, voxels = model(*inputs, return_voxels=True)
    alone, nothing = model(*inputs)
    assert bottleneck.shape == (3, 5)
    assert voxels.shape == (3, 7)
    assert nothing is None
    torch.testing.assert_close(alone, bottleneck, rtol=0, atol=0)
    assert (bottleneck < 0).any(), "the bottleneck must not pass a ReLU"


@pytest.mark.parametrize("use_encodec", [True, False])
def test_every_parameter_gets_a_gradient(use_encodec):
    torch.manual_seed(0)
    model = create_encoder(**SMALL, use_encodec=use_encodec)
    _, voxels = model(*small_inputs(6, use_encodec), return_voxels=True)
    voxels.square().sum().backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert torch.isfinite(weights.grad).all(), name


@pytest.mark.parametrize(
    ("modalities", "pooled"),
    [
        (("video",), 8),
        (("audio",), 6),
        (("text",), 4),
        (("text", "video"), 12),
        (("audio", "text"), 10),
        (("video", "audio", "text"), 18),
    ],
)
def test_any_subset_of_modalities_can_be_encoded(modalities, pooled):
    torch.manual_seed(0)
    model = create_encoder(**SMALL, use_encodec=True, modalities=modalities).eval()
    inputs = {
        name: values if name in modalities else None
        for name, values in zip(("video", "audio", "text"), small_inputs(2, True), strict=True)
    }
    _, voxels = model(**inputs, return_voxels=True)
    assert voxels.shape == (2, 7)
    assert model.feature_conv[0].in_features == pooled
    counts = model.get_parameter_count()
    for name in ("video", "audio", "text"):
        assert (counts[f"{name}_encoder"] > 0) == (name in modalities)
    assert counts["total"] == sum(count for part, count in counts.items() if part != "total")


def test_order_of_modalities_does_not_change_the_model():
    first = create_encoder(**SMALL, modalities=("text", "video"))
    second = create_encoder(**SMALL, modalities=("video", "text"))
    assert first.modalities == second.modalities == ("video", "text")
    assert first.state_dict().keys() == second.state_dict().keys()


def dropout_rates(model):
    return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]


def test_dropout_rates_are_each_layers_own_unless_one_is_given():
    assert dropout_rates(create_encoder(**SMALL)) == [0.2] * 5 + [0.3] * 3
    assert dropout_rates(create_encoder(**SMALL, dropout=0)) == [0] * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_sizes": (3, 4)}, "kernel_sizes: found 4"),
        ({"kernel_sizes": ()}, "kernel_sizes: found none"),
        ({"kernel_sizes": (-3,)}, "kernel_sizes: found -3"),
        ({"kernel_sizes": (4,), "modalities": ("text",)}, "kernel_sizes: found 4"),
        ({"modalities": ()}, "modalities: found"),
        ({"modalities": ("video", "video")}, "each once"),
        ({"modalities": ("smell",)}, "smell"),
        ({"modalities": "taste"}, "taste"),
        ({"audio_codebooks": 0}, "audio_codebooks: found 0"),
        ({"n_voxels": -1}, "n_voxels: found -1"),
        ({"embed_dim": 2.5}, "embed_dim: found 2.5"),
        ({"head_dim": True}, "head_dim: found True"),
        ({"trunk_dims": (5,)}, "trunk_dims: found"),
        ({"trunk_dims": (5, 0)}, r"trunk_dims\[1\]: found 0"),
        ({"use_encodec": True, "code_embedding": "own"}, "code_embedding: found 'own', must be"),
        ({"hidden_dims": (5, 4, 0)}, r"hidden_dims\[2\]: found 0"),
        ({"norm": "group"}, "norm: found 'group', must be one of batch, layer, none"),
        ({"dropout": 1.0}, "dropout: found 1.0"),
        ({"dropout": -0.1}, "dropout: found -0.1"),
    ],
)
def test_bad_argument_is_refused_by_the_name_it_was_given_under(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        create_encoder(**(SMALL | arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "values", "message"),
    [
        (VideoEncoder(9, 16, 4), torch.zeros(2, 3, 16, 9), r"video: .*must be \(B, 3, 9, 16\)"),
        (VideoEncoder(9, 16, 4), torch.zeros(2, 3, 9, 16, dtype=torch.uint8), "video: .*uint8"),
        (VideoEncoder(9, 16, 4, frames_per_tr=2), torch.zeros(2, 3, 9, 16), r"be \(B, 6, 9, 16\)"),
        (TextEncoder(8, 4), torch.zeros(2, 9), r"text: .*must be \(B, 8\)"),
        (TextEncoder(8, 4), torch.zeros(2, 8, dtype=torch.int64), "text: .*int64"),
        (AudioEncoder(input_mels=5), torch.zeros(2, 6, 3), r"audio: .*must be \(B, 5, T\)"),
        (AudioEncoder(input_mels=5), torch.zeros(2, 5, 3).long(), "audio: .*int64"),
        (AudioEncoder(input_mels=5), torch.zeros(2, 5, 0), "audio: found no frame"),
        (AudioEncoder(use_encodec=True), torch.zeros(2, 4, 112), r"must be \(B, 8, T\)"),
        (AudioEncoder(use_encodec=True), torch.zeros(2, 896), r"must be \(B, 8, T\)"),
        (AudioEncoder(use_encodec=True), torch.zeros(2, 8, 0), "audio: found no frame"),
    ],
)
def test_input_of_another_shape_or_type_is_refused(encoder, values, message):
    with pytest.raises(InputError, match=message):
        encoder.eval()(values)


def test_missing_and_unexpected_modalities_are_refused():
    video, _, text = small_inputs(2, True)
    model = create_encoder(**SMALL, modalities=("video",)).eval()
    with pytest.raises(InputError, match="video: found None"):
        model(None, None, None)
    with pytest.raises(InputError, match="text: found a tensor"):
        model(video, None, text)


@pytest.mark.parametrize("kind", ["shared", "per_codebook", "codec"])
def test_codes_are_looked_up_codebook_by_codebook(kind):
    torch.manual_seed(0)
    encoder = AudioEncoder(
        input_codebooks=3, use_encodec=True, vocab_size=5, embed_dim=4, code_embedding=kind
    )
    table = encoder.code_embedding.weight
    if kind == "codec":
        encoder.take_codebooks(torch.randn(15, 128))
    codes = torch.randint(0, 5, (2, 3, 6))
    found = encoder.embed_codes(codes)
    for row in range(2):
        for frame in range(6):
            of_codebooks = [
                table[code if kind == "shared" else 5 * codebook + code]
                for codebook, code in enumerate(codes[row, :, frame].tolist())
            ]
            wanted = sum(of_codebooks) if kind == "codec" else torch.cat(of_codebooks)
            torch.testing.assert_close(found[row, :, frame], wanted)
    assert encoder(codes).shape == (2, 256)
    assert table.requires_grad == (kind != "codec")
    trained = AudioEncoder(use_encodec=True, code_embedding="codec", train_codebooks=True)
    assert trained.code_embedding.weight.requires_grad


def test_what_rows_lack_counts_as_nothing_after_its_encoder():
    model = create_encoder(**SMALL).eval()
    video, audio, text = small_inputs(4, use_encodec=False)
    lacks = torch.tensor([False, True, False, True])
    found, _ = model(video, audio, text, lacking={"audio": lacks})
    whole, _ = model(video, audio, text)
    other, _ = model(video, audio + 1, text, lacking={"audio": lacks})
    assert torch.equal(found[~lacks], whole[~lacks])
    assert torch.equal(found[lacks], other[lacks])
    assert not torch.allclose(found[lacks], whole[lacks])

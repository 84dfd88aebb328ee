"""EnCodec without a network: import, weights, chunked encoding."""

from __future__ import annotations

import sys
import urllib.error
import warnings

import numpy as np
import pytest
import torch

from giblet_ray.errors import InputError
from giblet_ray.features import codec as codec_module
from giblet_ray.features.codec import Codec, load_codec, seed_untrained_codec
from giblet_ray.features.encodec_library import import_encodec

RATE = 24_000


def tune(seconds: float, seed: int = 0) -> np.ndarray:
    """A tone that glides and swells, in noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 300 + 200 * np.sin(2 * np.pi * time / 3.1)
    level = 0.3 * (1.05 + np.sin(2 * np.pi * time / 1.7))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (level * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.01 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return seed_untrained_codec(tune(6))


@pytest.fixture
def fresh_import(monkeypatch, tmp_path):
    """Forget encodec and torchaudio, and put a torchaudio of the given source in their way."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("encodec", "torchaudio"):
            monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "torchaudio"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def install(source: str) -> None:
        (package / "part.py").write_text("")
        (package / "__init__.py").write_text(source)

    yield install
    for name in list(sys.modules):
        if name.split(".")[0] in ("encodec", "torchaudio"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "source",
    [
        "import torchaudio.part\nraise OSError('libc10_cuda.so: cannot open shared object file')",
        "raise ImportError('no torchaudio')",
        "raise RuntimeError('compiled for another torch')",
    ],
)
def test_encodec_imports_beside_a_torchaudio_that_does_not_load(fresh_import, source):
    fresh_import(source)
    encodec = import_encodec()
    assert encodec.EncodecModel is not None
    assert not [name for name in sys.modules if name.split(".")[0] == "torchaudio"]
    assert import_encodec() is encodec


def test_a_torchaudio_that_works_is_left_alone(fresh_import):
    fresh_import("import torchaudio.part\nworks = True")
    encodec = import_encodec()
    assert sys.modules["torchaudio"].works
    assert "torchaudio.part" in sys.modules
    assert sys.modules["encodec.utils"].torchaudio is sys.modules["torchaudio"]
    assert encodec.utils.torchaudio.works


def test_making_a_codec_warns_of_nothing_and_leaves_the_random_state():
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seed_untrained_codec(tune(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_untrained_codec_is_determined_by_its_seed():
    waveform_N = tune(1.5)
    one, same, other = (seed_untrained_codec(waveform_N, seed) for seed in (3, 3, 4))
    assert one.checksum == same.checksum != other.checksum
    assert one.weights == "untrained, seed 3, seeded from 1.5 s of audio"


def test_an_untrained_codec_hears_the_whole_of_a_long_sound(monkeypatch):
    monkeypatch.setattr(codec_module, "_SEED_PIECE_SECONDS", 1)
    long_N = np.concatenate([np.zeros(8 * RATE, np.float32), tune(4)])
    codec = seed_untrained_codec(long_N)
    assert codec.weights.endswith("seeded from 10.0 s of audio")
    codes_KT = codec.encode([tune(2)], 2)
    assert len(np.unique(codes_KT[0])) > 50


@pytest.mark.parametrize("heard", ["a tune", "silence"])
def test_all_codebooks_hold_distinct_finite_codes(codec, heard):
    if heard == "silence":
        codec = seed_untrained_codec(np.zeros(RATE // 2, np.float32))
    levels = codec.model.quantizer.vq.layers
    assert len(levels) == 32
    for level in levels:
        assert level.codebook.shape == (1024, 128)
        assert torch.isfinite(level.codebook).all()
        assert len(torch.unique(level.codebook, dim=0)) == 1024


def test_codes_of_an_untrained_codec_follow_the_sound(codec):
    time = np.arange(2 * RATE) / RATE
    low, high = (0.3 * np.sin(2 * np.pi * hz * time) for hz in (220, 900))
    codes_KT = codec.encode([np.concatenate([low, high]).astype(np.float32)])
    assert not set(codes_KT[0, 20:150]) & set(codes_KT[0, 170:])


def test_codes_have_their_type_shape_and_range_at_ragged_lengths(codec):
    for n_samples in (1, 319, 320, 321, 24_001, 50_000):
        codes_KT = codec.encode([tune(3)[:n_samples]], n_codebooks=4, chunk_seconds=0.5)
        assert codes_KT.shape == (4, -(-n_samples // 320))
        assert codes_KT.dtype == np.int16
        assert codes_KT.min() >= 0
        assert codes_KT.max() < 1024


@pytest.mark.parametrize(("n_codebooks", "kbps"), [(2, 1.5), (4, 3.0), (8, 6.0), (16, 12.0)])
def test_the_first_codebooks_of_a_wide_encoding_are_the_narrow_encoding(codec, n_codebooks, kbps):
    waveform_N = tune(2, seed=5)
    wide_KT = codec.encode([waveform_N], n_codebooks=32)
    codec.model.set_target_bandwidth(kbps)
    with torch.inference_mode():
        ((narrow_BKT, _),) = codec.model.encode(torch.from_numpy(waveform_N)[None, None])
    assert narrow_BKT.shape == (1, n_codebooks, 150)
    np.testing.assert_array_equal(wide_KT[:n_codebooks], narrow_BKT[0].numpy())
    np.testing.assert_array_equal(codec.encode([waveform_N], n_codebooks), wide_KT[:n_codebooks])


def test_chunked_encoding_gives_the_codes_of_encoding_whole(codec):
    waveform_N = tune(6.3, seed=2)
    with torch.inference_mode():
        codec.model.set_target_bandwidth(6.0)
        ((whole_BKT, _),) = codec.model.encode(torch.from_numpy(waveform_N)[None, None])
    chunked_KT = codec.encode([waveform_N], chunk_seconds=3.0, warmup_seconds=1.0)
    assert chunked_KT.shape == whole_BKT.shape[1:]
    agreement = (chunked_KT == whole_BKT[0].numpy()).mean()
    assert agreement >= 0.99
    assert codec.chunk_agreement(waveform_N, 8, 3.0, 1.0) == pytest.approx(agreement)
    without = codec.chunk_agreement(waveform_N, 8, chunk_seconds=1.0, warmup_seconds=0.0)
    assert without < agreement


def test_the_cut_of_the_blocks_does_not_matter(codec):
    waveform_N = tune(4)
    blocks = np.split(waveform_N, [1, 700, 20_000, 20_001, 77_777])
    settings = {"n_codebooks": 2, "chunk_seconds": 1.0, "warmup_seconds": 0.5}
    np.testing.assert_array_equal(
        codec.encode(iter(blocks), **settings), codec.encode([waveform_N], **settings)
    )


def test_windows_are_heard_eight_at_a_time(codec, monkeypatch):
    lengths = []
    encode_windows = codec._encode_windows

    def watched(windows, *how):
        lengths.append([len(window_N) for window_N in windows])
        return encode_windows(windows, *how)

    monkeypatch.setattr(codec, "_encode_windows", watched)
    codec.encode((tune(0.1) for _ in range(102)), 2, chunk_seconds=1.0, warmup_seconds=0.4)
    assert lengths == [[33_600] * 8, [33_600, 28_800]]


@pytest.mark.parametrize("n_chunks", [1, 2, 5, 9])
def test_codes_do_not_depend_on_how_much_sound_follows(codec, n_chunks):
    waveform_N = tune(10)
    settings = {"n_codebooks": 8, "chunk_seconds": 1.0, "warmup_seconds": 0.4}
    whole_KT = codec.encode([waveform_N], **settings)
    part_KT = codec.encode([waveform_N[: round((n_chunks + 0.4) * RATE)]], **settings)
    np.testing.assert_array_equal(part_KT, whole_KT[:, : part_KT.shape[1]])


@pytest.mark.parametrize(
    ("shape", "paddings", "mode"),
    [
        ((2, 3, 8), (3, 0), "reflect"),
        ((2, 3, 8), (0, 0), "reflect"),
        ((2, 3, 8), (3, 2), "reflect"),
        ((1, 1, 3), (3, 0), "reflect"),
        ((1, 1, 8), (2, 1), "constant"),
    ],
)
def test_encodecs_padding_is_what_torch_makes_of_it(shape, paddings, mode):
    conv = import_encodec().modules.conv
    values = torch.randn(shape)
    padded = conv.pad1d(values, paddings, mode)
    assert torch.equal(padded, conv.pad1d.args[0](values, paddings, mode))
    assert padded.shape[-1] == shape[-1] + sum(paddings)


def test_a_saved_codec_makes_the_same_codes(codec, tmp_path):
    path = tmp_path / "codec.safetensors"
    codec.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    loaded = load_codec(str(path))
    assert (loaded.checksum, loaded.weights) == (codec.checksum, codec.weights)
    np.testing.assert_array_equal(loaded.encode([tune(1)]), codec.encode([tune(1)]))


def test_weights_in_a_folder_are_loaded(codec, tmp_path, monkeypatch):
    monkeypatch.setattr("encodec.model._check_checksum", lambda file, checksum: None)
    torch.save(codec.model.state_dict(), tmp_path / "encodec_24khz-d7cc33bc.th")
    loaded = load_codec(str(tmp_path))
    assert loaded.checksum == codec.checksum
    assert loaded.weights == f"pretrained encodec_24khz-d7cc33bc, from {tmp_path}"


def test_weights_that_cannot_be_had_are_refused(tmp_path, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"cannot be downloaded .* folder .* untrained"):
        load_codec("pretrained")
    with pytest.raises(InputError, match=r"'no/such/place' are neither a folder nor"):
        load_codec("no/such/place")
    with pytest.raises(InputError, match=r"no usable EnCodec weights .* is expected"):
        load_codec(str(tmp_path))
    (tmp_path / "encodec_24khz-d7cc33bc.th").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"no usable EnCodec weights \(Invalid checksum"):
        load_codec(str(tmp_path))
    broken = tmp_path / "broken.safetensors"
    for content in (None, b"something else"):
        if content is not None:
            broken.write_bytes(content)
        with pytest.raises(InputError, match=r"broken.safetensors: not a saved codec"):
            load_codec(str(broken))


def test_no_sound_and_odd_codebook_counts_are_refused(codec):
    with pytest.raises(InputError, match=r"no samples"):
        codec.encode(iter([]))
    with pytest.raises(InputError, match=r"no samples"):
        seed_untrained_codec(np.empty(0, np.float32))
    with pytest.raises(InputError, match=r"codebooks is 5"):
        codec.encode([tune(1)], n_codebooks=5)

"""Which network is meant, and what is known of it before it is loaded."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import pytest
import small_networks

from giblet_ray.errors import InputError
from giblet_ray.features.pretrained.network import (
    LoadedNetwork,
    fetch_network,
    find_network,
    layer_numbers,
    licence_of,
    weights_sha256,
)


@pytest.mark.parametrize(
    ("network", "reads", "n_layers"),
    [
        ("of_images", "image", 4),
        ("of_clips", "video", 4),
        ("whisper", "sound", 2),
        ("wav2vec_bert", "sound", 4),
        ("of_words", "text", 4),
    ],
)
def test_settings_say_what_a_network_reads(network: str, reads: str, n_layers: int) -> None:
    found = find_network(str(getattr(small_networks, network)()))
    assert (found.reads, found.n_layers, found.n_numbers) == (reads, n_layers, 32)
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_tower_of_a_larger_network_is_taken_by_what_it_reads() -> None:
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"vision_config": {**tower, "image_size": 32, "patch_size": 16}, "text_config": tower}
    folder = str(small_networks.saved("CLIP", {**sizes, "projection_dim": 8}))
    seen = find_network(folder, reads="image")
    assert (seen.reads, seen.n_layers, seen.n_numbers) == ("image", 2, 16)
    assert LoadedNetwork(seen, "cpu").input_name == "pixel_values"


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [((0.5, 0.75, 1.0), (2, 3, 4)), ((0.01,), (1,)), ((3,), (3,)), ((1.0, 4), (4,))],
)
def test_layers_are_shares_of_the_depth_or_numbers(
    layers: tuple[float, ...], numbers: tuple[int, ...]
) -> None:
    assert layer_numbers(find_network(str(small_networks.of_images())), layers) == numbers


@pytest.mark.parametrize("layer", [0.0, -1.0, 1.5, 5.0])
def test_a_layer_that_it_does_not_have_is_one_line(layer: float) -> None:
    with pytest.raises(InputError, match=rf"^layer {layer:g} of .*: it has 4 layers; 2 to 4, or a"):
        layer_numbers(find_network(str(small_networks.of_images())), (layer,))


def test_what_is_no_network_of_the_kind_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dinov2 reads image, not sound$") as error:
        find_network(str(small_networks.of_images()), reads="sound")
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"model_type": "no such"}')
    with pytest.raises(InputError, match="no network of the Hugging Face library") as error:
        find_network(str(tmp_path))
    assert "\n" not in str(error.value)
    copy = shutil.copytree(small_networks.of_images(), tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"copy: holds no weights as \.safetensors$"):
        fetch_network(str(copy), "main")


def test_a_card_names_the_licence() -> None:
    assert licence_of(small_networks.of_words()) == "llama3.2"
    assert licence_of(small_networks.of_images()) == "not stated"


def test_weights_have_one_checksum_whatever_the_folder(tmp_path: Path) -> None:
    copy = shutil.copytree(small_networks.of_images(), tmp_path / "other")
    content = (copy / "model.safetensors").read_bytes()
    assert weights_sha256(copy) == hashlib.sha256(content).hexdigest()
    (copy / "more.safetensors").write_bytes(content)
    assert weights_sha256(copy) != weights_sha256(small_networks.of_images())

"""Small networks of the classes that are used, of random weights, as the library saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from giblet_ray.features.pretrained.network import import_library

SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
SMALL_TEXT = {**SMALL, "intermediate_size": 32, "vocab_size": 300}


@pytest.fixture(scope="session")
def save_network(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a network of a class of the library, and what prepares its input."""

    def save(network: str, settings: dict[str, Any], *prepares: Any) -> Path:
        library = import_library()
        folder = tmp_path_factory.mktemp(network)
        torch.manual_seed(0)
        config = getattr(library, f"{network}Config")(**settings)
        getattr(library, f"{network}Model")(config).eval().save_pretrained(folder)
        for each in prepares:
            each.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def image_network(save_network: Callable[..., Path]) -> Path:
    """DINOv2, whose pictures are scaled to 28 rows or columns at least, and cut to 28 x 28."""
    library = import_library()
    prepares = library.BitImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    return save_network("Dinov2", {**SMALL, "image_size": 28, "patch_size": 14}, prepares)


@pytest.fixture(scope="session")
def video_network(save_network: Callable[..., Path]) -> Path:
    """V-JEPA 2, of clips of 4 pictures."""
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    clip = {"crop_size": 32, "frames_per_clip": 4, "patch_size": 16}
    folder = save_network("VJEPA2", {**SMALL, **clip, **predictor})
    (folder / "video_preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32},'
        ' "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}'
    )
    return folder


@pytest.fixture(scope="session")
def whisper(save_network: Callable[..., Path]) -> Path:
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in
             (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    tokens = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {"d_model": 32, **sizes, **tokens, "decoder_start_token_id": 1}
    return save_network("Whisper", settings, import_library().WhisperFeatureExtractor())


@pytest.fixture(scope="session")
def wav2vec_bert(save_network: Callable[..., Path]) -> Path:
    prepares = import_library().SeamlessM4TFeatureExtractor()
    return save_network("Wav2Vec2Bert", {**SMALL, "intermediate_size": 32}, prepares)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Bytes as tokens, with a mark of the beginning."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    of_bytes = Tokenizer(
        models.BPE({token: n for n, token in enumerate(["<s>", *alphabet])}, merges=[])
    )
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    of_bytes.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return import_library().PreTrainedTokenizerFast(tokenizer_object=of_bytes, bos_token="<s>")


@pytest.fixture(scope="session")
def language_model(save_network: Callable[..., Path], tokenizer: Any) -> Path:
    """Llama, with a card."""
    settings = {**SMALL_TEXT, "num_key_value_heads": 2, "max_position_embeddings": 512}
    folder = save_network("Llama", settings, tokenizer)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: llama3.2\n---\n# Llama\n")
    return folder

"""Small networks of the classes that are used, of random weights, as the library saves them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from giblet_ray.features.pretrained.network import import_library

SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
_folders = tempfile.TemporaryDirectory(prefix="networks-")


def saved(network: str, settings: dict[str, Any], *prepares: Any) -> Path:
    """Save a network of a class of the library, and what prepares its input."""
    library = import_library()
    folder = Path(tempfile.mkdtemp(prefix=network, dir=_folders.name))
    torch.manual_seed(0)
    config = getattr(library, f"{network}Config")(**settings)
    getattr(library, f"{network}Model")(config).eval().save_pretrained(folder)
    for each in prepares:
        each.save_pretrained(folder)
    return folder


@cache
def of_images() -> Path:
    """DINOv2, whose pictures are scaled to 28 rows or columns at least, and cut to 28 x 28."""
    crop = {"height": 28, "width": 28}
    prepares = import_library().BitImageProcessorPil(size={"shortest_edge": 28}, crop_size=crop)
    return saved("Dinov2", {**SMALL, "image_size": 28, "patch_size": 14}, prepares)


@cache
def of_clips() -> Path:
    """V-JEPA 2, of clips of 4 pictures, cut to 32 x 32."""
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    clip = {"crop_size": 32, "frames_per_clip": 4, "patch_size": 16}
    folder = saved("VJEPA2", {**SMALL, **clip, **predictor})
    # The library's own class that writes this needs torchvision.
    (folder / "video_preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32},'
        ' "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}'
    )
    return folder


@cache
def whisper() -> Path:
    """Whisper, with two layers that hear and two that write."""
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
    both = {f"{side}_{of}": n for side in ("encoder", "decoder") for of, n in sizes.items()}
    tokens = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {"d_model": 32, **both, **tokens, "decoder_start_token_id": 1}
    return saved("Whisper", settings, import_library().WhisperFeatureExtractor())


@cache
def wav2vec_bert() -> Path:
    """Wav2Vec-BERT."""
    prepares = import_library().SeamlessM4TFeatureExtractor()
    return saved("Wav2Vec2Bert", {**SMALL, "intermediate_size": 32}, prepares)


@cache
def of_spectrograms() -> Path:
    """AST, which reads patches of a picture of 10.24 s of sound."""
    prepares = import_library().ASTFeatureExtractor()
    return saved("AST", {**SMALL, "intermediate_size": 32}, prepares)


@cache
def of_coarse_sound(samples: int) -> Path:
    """Wav2Vec 2, with frames of so many samples."""
    convolutions = {"conv_dim": (8,), "conv_kernel": (samples,), "conv_stride": (samples,)}
    settings = {**SMALL, "intermediate_size": 32, **convolutions, "num_feat_extract_layers": 1}
    return saved("Wav2Vec2", settings, import_library().Wav2Vec2FeatureExtractor())


@cache
def tokenizer() -> Any:
    """Bytes as tokens, with a mark of the beginning."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    numbers = {token: number for number, token in enumerate(["<s>", *alphabet])}
    of_bytes = Tokenizer(models.BPE(numbers, merges=[]))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    marks = {"single": "<s> $A", "special_tokens": [("<s>", 0)]}
    of_bytes.post_processor = processors.TemplateProcessing(**marks)
    return import_library().PreTrainedTokenizerFast(tokenizer_object=of_bytes, bos_token="<s>")


@cache
def of_words() -> Path:
    """Llama, with a card."""
    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 512, "intermediate_size": 32}
    folder = saved("Llama", {**SMALL, **sizes, "vocab_size": 300}, tokenizer())
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: llama3.2\n---\n# Llama\n")
    return folder

"""A pretrained network of the Hugging Face library: what it reads, its layers, its weights.

A network is a folder as the library saves it, or the name of one in its hub, which is downloaded.
It may be the tower of a larger one, such as CLIP's for pictures.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import file_digest
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import yaml

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.torchaudio_aside import import_aside_torchaudio

Reads = Literal["video", "image", "sound", "text"]

_TOWERS = {"video": "vision_config", "image": "vision_config", "sound": "audio_config"}
"""Where the settings of a larger network keep those of the part of it that is meant."""
_INPUTS: dict[str, Reads] = {
    "pixel_values_videos": "video",
    "pixel_values": "image",
    "input_features": "sound",
    "input_values": "sound",
    "input_ids": "text",
}
"""What a network reads, by the name of its main input."""
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md")
"""What is downloaded of a network: no weights but safetensors, which run no code."""


@dataclass(frozen=True)
class Network:
    """What is known of a network by its settings alone."""

    model: str
    """Its folder, or its name in the hub."""
    revision: str
    """Branch, tag or commit in the hub."""
    reads: Reads
    """video, image, sound or text."""
    n_layers: int
    n_numbers: int
    """Layers, and numbers that each gives per token."""
    architecture: str
    """As the library calls it."""
    clip_pictures: int | None
    """Pictures of the clips that it was trained with, if it says so."""
    most_tokens: int | None
    """That it reads at a time, likewise."""


def import_library() -> ModuleType:
    """Import transformers, which reads sound by libraries that are not used here.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import_aside_torchaudio("transformers.audio_utils")
        import transformers
    except ImportError as error:
        raise InputError(
            f"pretrained networks need transformers ({error}); install the extra: "
            "pip install 'giblet_ray[pretrained]'"
        ) from error
    # Its bars and notes are of loading, which the job's own line tells.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers


@cache
def find_network(model: str, revision: str = "main", reads: Reads | None = None) -> Network:
    """Read a network's settings.

    Parameters
    ----------
    model : str
        Folder, or name in the hub, such as ``facebook/dinov2-large``.
    revision : str
        Of a name: branch, tag or commit.
    reads : str, optional
        What is wanted of a network that reads several: CLIP's pictures, say.

    Raises
    ------
    InputError
        If there is no such network, or it reads nothing that a film has, or not what is wanted.
    """
    config, model_class = _settings_and_class(model, revision, reads)
    input_name = str(model_class.main_input_name)
    found = _INPUTS.get(input_name)
    if found == "image" and hasattr(config, "num_frames"):
        found = "video"
    if found is None or reads not in (None, found):
        raise InputError(
            f"{model}: {config.model_type} reads {found or input_name}, not "
            f"{reads or 'pictures, sound or text'}"
        )
    n_layers, n_numbers = (_number(config, name) for name in ("num_hidden_layers", "hidden_size"))
    if n_layers is None or n_numbers is None:
        raise InputError(f"{model}: {config.model_type} does not say how many layers it has")
    return Network(
        model=model,
        revision=revision,
        reads=found,
        n_layers=n_layers,
        n_numbers=n_numbers,
        architecture=str(config.model_type),
        clip_pictures=_number(config, "frames_per_clip") or _number(config, "num_frames"),
        most_tokens=_number(config, "max_position_embeddings"),
    )


def _settings_and_class(model: str, revision: str, reads: Reads | None) -> tuple[Any, Any]:
    """Return the library's settings of a network, or of the tower that is meant, and its class."""
    library = import_library()
    of_hub = {} if Path(model).is_dir() else {"revision": revision}
    try:
        config = library.AutoConfig.from_pretrained(model, **of_hub)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        where = "no network of the Hugging Face library can be read there"
        if not of_hub:
            raise InputError(f"{model}: {where}: {reason}") from error
        raise InputError(
            f"{model}: is no folder, and not to be had from the hub: {reason}"
        ) from error
    config = getattr(config, _TOWERS.get(str(reads), ""), config)
    classes = library.AutoModel._model_mapping
    if type(config) not in classes:
        raise InputError(f"{model}: {config.model_type} is no network that reads by itself")
    return config, classes[type(config)]


def _number(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) else None


def layer_numbers(network: Network, layers: Sequence[float]) -> tuple[int, ...]:
    """Return the layers that are meant, each counted from 1.

    Parameters
    ----------
    network : Network
    layers : sequence of float
        Up to 1: a share of its depth (1 is the last); above: the number of a layer.

    Raises
    ------
    InputError
        For a layer that it does not have.
    """
    numbers = []
    for layer in layers:
        number = max(1, round(layer * network.n_layers)) if 0 < layer <= 1 else layer
        if number != int(number) or not 1 <= number <= network.n_layers:
            raise InputError(
                f"layer {layer:g} of {network.model}: it has {network.n_layers} layers; 2 to "
                f"{network.n_layers}, or a share of its depth above 0 and up to 1, are accepted"
            )
        numbers.append(int(number))
    return tuple(dict.fromkeys(numbers))


def fetch_network(model: str, revision: str) -> Path:
    """Return the folder of a network, downloaded if it is not on this machine yet.

    Raises
    ------
    InputError
        If it cannot be downloaded, or holds no weights as safetensors.
    """
    folder = Path(model)
    if not folder.is_dir():
        import_library()
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*_FILES]))
        except (OSError, ValueError) as error:
            raise InputError(f"{model}: cannot be downloaded: {one_line(error)}") from error
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{model}: holds no weights as .safetensors")
    return folder


def weights_sha256(folder: Path) -> str:
    """Return one checksum of a network's weights, whatever it is called and wherever it lies."""
    digests = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            digests.append(file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    whole = digests[0].copy()
    for digest in digests[1:]:
        whole.update(digest.digest())
    return whole.hexdigest()


def licence_of(folder: Path) -> str:
    """Return the licence that a network's card names: ``apache-2.0``; "not stated" without one."""
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    if text.startswith("---"):
        try:
            facts = yaml.safe_load(text.split("---", 2)[1])
        except yaml.YAMLError:
            facts = None
        if isinstance(facts, Mapping) and facts.get("license"):
            named = facts.get("license_name") if facts["license"] == "other" else None
            return str(named or facts["license"])
    return "not stated"


class LoadedNetwork:
    """A network whose layers can be read.

    Attributes
    ----------
    network : Network
    folder : Path
        Where it was loaded from.
    layers : tuple of int
        Layers whose numbers are read, from 1; at first the last.
    input_name : str
        Of the argument that takes what it reads.

    Parameters
    ----------
    network : Network
    device : str
        cpu or cuda, where it runs in bfloat16.
    """

    def __init__(self, network: Network, device: str) -> None:
        import torch

        self.network, self._device = network, device
        self.layers: tuple[int, ...] = (network.n_layers,)
        self.folder = fetch_network(network.model, network.revision)
        self._dtype = torch.float32 if device == "cpu" else torch.bfloat16
        of = (network.model, network.revision, network.reads)
        config, model_class = _settings_and_class(*of)
        self.input_name = str(model_class.main_input_name)
        model = model_class.from_pretrained(self.folder, config=config, dtype=self._dtype)
        if config.is_encoder_decoder:
            model = model.get_encoder()
        self._model = model.eval().to(device)
        # V-JEPA's predictor guesses what is masked, and nothing is.
        known = inspect.signature(model.forward).parameters
        self._more = {"skip_predictor": True} if "skip_predictor" in known else {}

    def states(self, inputs: Mapping[str, Any]) -> np.ndarray:
        """Return what the layers give.

        Parameters
        ----------
        inputs : mapping of str to Tensor
            The library's arguments, (B, ...) each.

        Returns
        -------
        states_LBND : ndarray of float32, shape (layers, B, tokens, numbers)
        """
        import torch

        given = {
            name: values.to(self._device, self._dtype if values.is_floating_point() else None)
            for name, values in inputs.items()
        }
        with torch.inference_mode():
            found = self._model(**given, **self._more, output_hidden_states=True).hidden_states
        states = torch.stack([found[layer] for layer in self.layers])
        return np.asarray(states.flatten(3).float().cpu().numpy())

    def settings_file(self, *names: str) -> dict[str, Any]:
        """Return the content of the first of some JSON files that the folder has.

        Raises
        ------
        InputError
            If it has none.
        """
        for name in names:
            if (file := self.folder / name).is_file():
                content = json.loads(file.read_text())
                return dict(content)
        raise InputError(
            f"{self.network.model}: has no {' or '.join(names)}, which says how it is fed"
        )

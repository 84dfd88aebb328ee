"""Pretrained: what layers of a pretrained network make of a film, one part for each layer.

``--pretrained dino=facebook/dinov2-large`` makes the parts dino_12, dino_18 and dino_24: a sweep
chooses among them as among all parts, ridge weighs each, and only those that train are read. The
network runs once for all of its layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from giblet_ray.errors import InputError
from giblet_ray.features.pretrained.network import (
    LoadedNetwork,
    Network,
    Reads,
    fetch_network,
    find_network,
    layer_numbers,
    licence_of,
    weights_sha256,
)
from giblet_ray.parts.part import FILM, PICTURES, SOUND, TEXT, FilmFiles, Made, Part, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class PretrainedConfig(Group):
    """A network of the Hugging Face library; pip install 'giblet_ray[pretrained]'."""

    model: str
    """Its name in the hub, or a folder that holds it (config.json, .safetensors, what prepares its
    input)."""
    revision: str = "main"
    """Branch, tag or commit of a name in the hub."""
    reads: Reads | None = None
    """video, image, sound or text, of a network that reads several, such as CLIP (default: what it
    reads)."""
    layers: tuple[float, ...] = Field((0.5, 0.75, 1.0), min_length=1)
    """Layers that become parts: shares of its depth up to 1, the last; or, above 1, numbers."""
    rate_hz: float = Field(2.0, gt=0)
    """Pictures, or clips, that it sees per second; a TR's numbers are the mean over its own."""
    clip_seconds: float | None = Field(None, gt=0)
    """What it sees or hears at a time (s): clips that end in the TR, stretches of sound (default:
    4 s of pictures, 30 s of sound)."""
    pictures: int | None = Field(None, ge=1)
    """Pictures of a clip (default: as many as it was trained with)."""
    context_words: int = Field(1024, ge=1)
    """Words that a language model reads at a time; each is meant as after those before it, half of
    them at least."""
    pooling: Literal["mean", "first"] = "mean"
    """mean: over the tokens of a picture or clip; first: the first token, which some sum up in."""
    batch: int = Field(8, ge=1)
    """Pictures or clips at a time."""


PRESETS: dict[str, dict[str, Any]] = {
    "vjepa2": {"model": "facebook/vjepa2-vitg-fpc64-256", "clip_seconds": 4.0, "batch": 1},
    "dinov2": {"model": "facebook/dinov2-large"},
    "whisper": {"model": "openai/whisper-large-v3", "clip_seconds": 30.0},
    "wav2vec_bert": {"model": "facebook/w2v-bert-2.0", "clip_seconds": 30.0},
    "llama": {"model": "meta-llama/Llama-3.2-3B"},
}
"""Settings of what those who predict films best have used, by the name that is given alone."""


class Pretrained(Part):
    """states_TD, float32: T TRs, D numbers of one layer; see :mod:`giblet_ray.features.pretrained`.

    A film that is silent gives what the network makes of silence; one without words gives 0.

    Attributes
    ----------
    layer : int
        From 1.

    Parameters
    ----------
    name : str
        Of the network and of the layer: ``dino_12``.
    settings : PretrainedConfig
        The network's.
    """

    kind = "pretrained"
    from_any_second = True
    libraries = ("numpy", "torch", "transformers")
    Config = PretrainedConfig

    def __init__(self, name: str, settings: Group) -> None:
        super().__init__(name, settings)
        self._network, _, layer = name.rpartition("_")
        self.layer = int(layer)
        asked = self.settings
        self._facts = find_network(asked.model, asked.revision, asked.reads)
        reads = self._facts.reads
        self.made_from = (TEXT,) if reads == "text" else (FILM,)
        self.senses = {"sound": (SOUND,), "text": ()}.get(reads, (PICTURES,))

    @property
    def has_network(self) -> bool:
        return True

    @property
    def network(self) -> str:
        return self._network

    def value(self, film: FilmFiles) -> ValueType:
        return ValueType(dtype="float32", shape=(self._facts.n_numbers,))

    def recipe(self, films: Sequence[FilmFiles]) -> dict[str, Any]:
        asked = self.settings.model_dump(mode="json", include={"model", "revision"})
        return {**asked, "reads": self._facts.reads, **self._how(), "layer": self.layer}

    def network_recipe(self, recipe: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in recipe.items() if name != "layer"}

    def prepare(self, films: Sequence[FilmFiles]) -> Prepared:
        """Download the network, so that its licence and the checksum of its weights are known."""
        folder = fetch_network(self.settings.model, self.settings.revision)
        facts = {"licence": licence_of(folder), "architecture": self._facts.architecture}
        return Prepared(b"", {"weights_sha256": weights_sha256(folder)}, facts)

    def make(self, film: FilmFiles) -> Made:
        return self.make_together(film, [self])[self.name]

    def make_together(self, film: FilmFiles, parts: Sequence[Part]) -> Mapping[str, Made]:
        """Make the rows of several layers in one pass."""
        layers = [part.layer for part in parts if isinstance(part, Pretrained)]
        self._loaded.layers = tuple(layers)
        notes: list[str] = []
        states_TLD = self._states(film, self._loaded, notes)
        return {
            part.name: Made(
                np.ascontiguousarray(states_TLD[:, index], np.float32),
                {**self._how(), **self.prepared.made_with, "layer": layers[index]},
                dict(self.prepared.facts),
                notes,
            )
            for index, part in enumerate(parts)
        }

    def load(self, prepared: Prepared, device: str) -> None:
        super().load(prepared, device)
        self._loaded = LoadedNetwork(self._facts, device)

    def _how(self) -> dict[str, Any]:
        """Return the settings that decide the numbers, of those that what it reads has."""
        names = {
            "image": ("rate_hz", "pooling"),
            "video": ("rate_hz", "clip_seconds", "pictures", "pooling"),
            "sound": ("clip_seconds",),
            "text": ("context_words",),
        }[self._facts.reads]
        return {name: getattr(self.settings, name) for name in names}

    def _states(self, film: FilmFiles, network: LoadedNetwork, notes: list[str]) -> np.ndarray:
        """Return (T, L, D); note what a user should know of how the film was read."""
        # Here, as decoders are no concern of whoever reads a record.
        from giblet_ray.features.media import sound_notes
        from giblet_ray.features.pretrained.pictures import clip_states, picture_states
        from giblet_ray.features.pretrained.sound import sound_states
        from giblet_ray.features.pretrained.words import word_states
        from giblet_ray.features.text import read_utterances
        from giblet_ray.features.words import spoken_words

        asked, timing = self.settings, (film.n_trs, film.tr_seconds)
        start = film.start_seconds
        pooled = {"pooling": asked.pooling, "batch": asked.batch, "start_seconds": start}
        match self._facts.reads:
            case "image":
                return picture_states(network, film.path, *timing, asked.rate_hz, **pooled)
            case "video":
                clip = (asked.clip_seconds or 4.0, clip_pictures(asked, self._facts))
                return clip_states(network, film.path, *timing, asked.rate_hz, *clip, **pooled)
            case "sound":
                notes += sound_notes(film.path)
                return sound_states(network, film.path, *timing, asked.clip_seconds or 30.0, start)
            case _:
                words = spoken_words(read_utterances(film.files[TEXT], film.seconds, notes))
                return word_states(network, words, *timing, asked.context_words, start)


def clip_pictures(asked: PretrainedConfig, facts: Network) -> int:
    """Return the pictures of a clip: those asked for, or that the network was trained with.

    Raises
    ------
    InputError
        If it does not say.
    """
    if number := asked.pictures or facts.clip_pictures:
        return number
    raise InputError(f"{facts.model}: does not say how many pictures a clip has: give `pictures`")


def layers_of(name: str, settings: PretrainedConfig) -> list[Pretrained]:
    """Return the parts of a network, one for each layer that is asked for.

    Raises
    ------
    InputError
        If there is no such network, or it has no such layers.
    """
    facts = find_network(settings.model, settings.revision, settings.reads)
    numbers = layer_numbers(facts, settings.layers)
    return [Pretrained(f"{name}_{number}", settings) for number in numbers]

"""A trained encoder, loaded from a checkpoint and ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from giblet_ray.checkpoint.files import NORMALISATION, load_weights
from giblet_ray.checkpoint.record import Record
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.config import ModelConfig
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import ValueType
from giblet_ray.errors import InputError
from giblet_ray.models.build import build_encoder
from giblet_ray.models.encoder import MultimodalEncoder
from giblet_ray.models.inputs import encoder_inputs


class Encoder:
    """A trained model, ready to predict.

    >>> encoder = Encoder.load("runs/first")
    >>> bold_NV = encoder.predict(frames=frames, codes=codes, text=text)

    Attributes
    ----------
    model : MultimodalEncoder
        In evaluation mode.
    record : Record
        What was trained on what, and how far.
    """

    def __init__(self, model: MultimodalEncoder, record: Record) -> None:
        self.model = model
        self.record = record

    @classmethod
    def load(cls, path: str | Path, dataset: Dataset | None = None, device: str = "cpu") -> Encoder:
        """Load a checkpoint folder, or the best checkpoint of a run's folder.

        Parameters
        ----------
        path : str or Path
            Folder or URI.
        dataset : Dataset, optional
            The data set that it will be used with; see :meth:`check`.
        device : str
            Where the model goes.

        Raises
        ------
        InputError
            If there is no complete checkpoint, or it does not fit the data set.
        """
        checkpoint = find_checkpoint(str(path))
        record = checkpoint.record
        with checkpoint.files((*record.weight_files, NORMALISATION)) as folder:
            try:
                encoder = cls.build(record, load_weights(folder, record), device)
            except (OSError, RuntimeError, SafetensorError) as error:
                where = f"{checkpoint.location}/{record.weight_files[0]}"
                reason = " ".join(str(error).split())
                raise InputError(f"{where}: not the weights of this run: {reason}") from error
        if dataset is not None:
            encoder.check(dataset)
        return encoder

    @classmethod
    def build(cls, record: Record, weights: Mapping[str, Tensor], device: str) -> Encoder:
        """Build the model that a record describes around its weights.

        Parameters
        ----------
        record : Record
            A checkpoint's.
        weights : mapping of str to Tensor
            By name in the model. They are taken as they are, not copied, unless they have to move
            to the device: processes that share them share their memory.
        device : str
            Where the model goes.

        Raises
        ------
        RuntimeError
            If a weight is missing, unknown, or of another shape.
        """
        data = DataConfig.model_validate(record.config["data"])
        settings = ModelConfig.model_validate(record.config["model"])
        with torch.device("meta"):  # no memory, and no random numbers, for what is replaced below
            model = build_encoder(settings, data, record.dataset.values, record.dataset.n_voxels)
        model.load_state_dict(weights, assign=True)
        return cls(model.to(device).eval(), record)

    def check(self, dataset: Dataset) -> None:
        """Make sure that a data set's rows mean what those meant that the model was trained on.

        Raises
        ------
        InputError
            If shapes, TR, or what made the codes and embeddings differ.
        """
        trained = self.record.dataset
        where = dataset.storage.location
        if dataset.manifest.tr_seconds != trained.tr_seconds:
            raise InputError(
                f"{where}: TR is {dataset.manifest.tr_seconds:g} s; the model was trained at "
                f"{trained.tr_seconds:g} s"
            )
        for name, kind in trained.values.items():
            if name == "bold":
                continue
            part = dataset.manifest.parts.get(name)
            if part is None or not _holds(part.value, kind, name):
                raise InputError(
                    f"{where}: {name}/ holds {part.value if part else 'nothing'}; the model was "
                    f"trained on {kind}"
                )
            if (made := part.made_with) != trained.made_with.get(name):
                raise InputError(
                    f"{where}: {name}/ was made with {made}; the model was trained on "
                    f"{trained.made_with.get(name)}"
                )

    @torch.inference_mode()
    def predict(self, **values: np.ndarray) -> np.ndarray:
        """Predict z-scored BOLD from the stimulus at n TRs, lag TRs earlier.

        Parameters
        ----------
        **values : ndarray
            frames (n, 3, height, width) uint8, codes (n, K, T) int16 (or mel), text (n, dim)
            float32: those that the model was trained on.

        Returns
        -------
        ndarray
            (n, voxels) float32.
        """
        device = next(self.model.parameters()).device
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(value)).to(device)[:, None]
            for name, value in values.items()
        }
        video, audio, text = encoder_inputs(batch, self.model.audio_codebooks)
        _, voxels = self.model(video, audio, text, return_voxels=True)
        return voxels.float().cpu().numpy()


def _holds(found: ValueType, wanted: ValueType, name: str) -> bool:
    """Whether rows can be fed to the model; of codes, more codebooks than it hears will do."""
    if name == "codes":
        return found.shape[1:] == wanted.shape[1:] and found.shape[0] >= wanted.shape[0]
    return found == wanted

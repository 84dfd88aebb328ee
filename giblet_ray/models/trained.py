"""A trained encoder, as a checkpoint folder holds it::

model.safetensors           weights and BatchNorm statistics
normalisation.safetensors   how BOLD was z-scored: mean_SV, std_SV, valid_V
voxels.safetensors          held-out scores per voxel: pearson_V, r2_V  (after an epoch)
state.pt                    optimizer and schedule, to train on (loaded with weights_only)
record.json                 configuration, data set, where in the training it was saved, and the
                            checksums of the other files; written last
"""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from giblet_ray.config import ModelConfig
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.reader import CODEBOOK_SIZE, Dataset
from giblet_ray.dataset.schema import ValueType
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.models.encoder import MultimodalEncoder, create_encoder
from giblet_ray.models.inputs import encoder_inputs

WEIGHTS = "model.safetensors"
NORMALISATION = "normalisation.safetensors"
VOXELS = "voxels.safetensors"
RECORD = "record.json"
STATE = "state.pt"
CHECKSUMS = "checksums"
"""Key of the record: xxh3_128 of the other files, by name."""
_RECORD_KEYS = {"config", "dataset", "position", "score"}
_HASH_BLOCK_BYTES = 4 * 2**20


def stimulus_parts(data: DataConfig) -> tuple[str, ...]:
    """Return the parts of the data set that the chosen modalities are read from."""
    part = {"video": "frames", "audio": "codes" if data.audio == "encodec" else "mel"}
    return tuple(part.get(modality, modality) for modality in data.modalities)


def build_encoder(
    model: ModelConfig, data: DataConfig, values: Mapping[str, ValueType], n_voxels: int
) -> MultimodalEncoder:
    """Build the encoder that a configuration describes, for data of these shapes.

    Parameters
    ----------
    model, data : ModelConfig, DataConfig
        Settings of the run.
    values : mapping of str to ValueType
        What one row of each part holds.
    n_voxels : int
        Voxels to predict.
    """
    shapes: dict[str, Any] = {}
    if "frames" in values:
        _, shapes["video_height"], shapes["video_width"] = values["frames"].shape
    if data.audio == "encodec" and "codes" in values:
        shapes["audio_frames_per_tr"] = values["codes"].shape[1]
    elif "mel" in values:
        shapes["audio_mels"], shapes["audio_frames_per_tr"] = values["mel"].shape
    if "text" in values:
        (shapes["text_dim"],) = values["text"].shape
    settings = model.model_dump(exclude={"batch_norm"})
    return create_encoder(
        **settings,
        **shapes,
        modalities=data.modalities,
        use_encodec=data.audio == "encodec",
        vocab_size=CODEBOOK_SIZE,
        n_voxels=n_voxels,
    )


class Encoder:
    """A trained model, ready to predict.

    >>> encoder = Encoder.load("runs/first")
    >>> bold_NV = encoder.predict(frames=frames, codes=codes, text=text)

    Attributes
    ----------
    model : MultimodalEncoder
        In evaluation mode.
    record : dict
        Configuration (``config``), data set (``dataset``) and position (``position``, ``score``).
    """

    def __init__(self, model: MultimodalEncoder, record: dict[str, Any]) -> None:
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
        folder = local_checkpoint(str(path))
        if problem := damage(folder, (WEIGHTS, NORMALISATION)):
            raise InputError(problem)
        try:
            encoder = cls.build(read_record(folder), load_file(folder / WEIGHTS), device)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{folder / WEIGHTS}: not the weights of this run: {reason}"
            ) from error
        if dataset is not None:
            encoder.check(dataset)
        return encoder

    @classmethod
    def build(cls, record: dict[str, Any], weights: Mapping[str, Tensor], device: str) -> Encoder:
        """Build the model that a record describes around its weights.

        Parameters
        ----------
        record : dict
            A checkpoint's; see :func:`read_record`.
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
        values = {
            name: ValueType.model_validate(kind)
            for name, kind in record["dataset"]["values"].items()
        }
        data = DataConfig.model_validate(record["config"]["data"])
        settings = ModelConfig.model_validate(record["config"]["model"])
        with torch.device("meta"):  # no memory, and no random numbers, for what is replaced below
            model = build_encoder(settings, data, values, record["dataset"]["n_voxels"])
        model.load_state_dict(weights, assign=True)
        return cls(model.to(device).eval(), record)

    def check(self, dataset: Dataset) -> None:
        """Make sure that a data set's rows mean what those meant that the model was trained on.

        Raises
        ------
        InputError
            If shapes, TR, or what made the codes and embeddings differ.
        """
        trained = self.record["dataset"]
        where = dataset.storage.location
        if dataset.manifest.tr_seconds != trained["tr_seconds"]:
            raise InputError(
                f"{where}: TR is {dataset.manifest.tr_seconds:g} s; the model was trained at "
                f"{trained['tr_seconds']:g} s"
            )
        for name, kind in trained["values"].items():
            if name == "bold":
                continue
            found = dataset.manifest.values.get(name)
            if found is None or not _holds(found, ValueType.model_validate(kind), name):
                raise InputError(
                    f"{where}: {name}/ holds {found or 'nothing'}; the model was trained on "
                    f"{kind['dtype']} {tuple(kind['shape'])}"
                )
            made = dataset.manifest.provenance.get(name, {}).get("made_with")
            if made != trained["made_with"].get(name):
                raise InputError(
                    f"{where}: {name}/ was made with {made}; the model was trained on "
                    f"{trained['made_with'].get(name)}"
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


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a checkpoint's folder: ``config``, ``dataset``, ``position``, ``score``.

    Raises
    ------
    InputError
        If it has none, or a damaged one.
    """
    return _record(Storage.at(str(folder)), RECORD)


def local_checkpoint(location: str) -> Path:
    """Return a local folder with the checkpoint at a path or URI, or the best one of a run there.

    Raises
    ------
    InputError
        If there is no complete checkpoint.
    """
    folder = fetch_best_checkpoint(Storage.at(location), "")
    if folder is None:
        raise InputError(
            f"{location}: no checkpoint; a folder with {RECORD}, or a run's folder, is accepted"
        )
    return folder


def file_checksum(path: Path) -> str:
    """Return the xxh3_128 of a local file, in hexadecimal."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def damage(folder: Path, names: Iterable[str] | None = None) -> str | None:
    """Say what is wrong with a local checkpoint, or return None if it is whole.

    Parameters
    ----------
    folder : Path
        Of the checkpoint.
    names : iterable of str, optional
        Files that are looked at (default: all that the record knows).
    """
    try:
        known = dict(read_record(folder)[CHECKSUMS])
    except InputError as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{folder / RECORD}: damaged: it has no checksums"
    for name in known if names is None else names:
        path = folder / name
        try:
            found = file_checksum(path)
        except FileNotFoundError:
            return f"{path}: no such file"
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"
        if found != known.get(name):
            return (
                f"{path}: damaged: checksum {found[:12]} of {path.stat().st_size:,} bytes; "
                f"its {RECORD} says {str(known.get(name))[:12]}"
            )
    return None


def checkpoint_names(storage: Storage, run: str) -> list[str]:
    """Return the path of every complete checkpoint below a run's folder."""
    return [
        posixpath.dirname(name) for name in storage.names(run) if posixpath.basename(name) == RECORD
    ]


def sound_records(storage: Storage, run: str) -> dict[str, dict[str, Any]]:
    """Return the record of every checkpoint below a run's folder, by the checkpoint's path.

    Left out are those whose record is damaged: what is wrong with it, a run says that would go on
    from there.
    """
    records = {}
    for name in checkpoint_names(storage, run):
        with contextlib.suppress(InputError):
            records[name] = _record(storage, posixpath.join(name, RECORD))
    return records


def _record(storage: Storage, name: str) -> dict[str, Any]:
    where = storage.describe(name)
    try:
        record = json.loads(storage.read(name))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: damaged, or no checkpoint's record: {error}") from error
    if not isinstance(record, dict) or not record.keys() >= _RECORD_KEYS:
        raise InputError(f"{where}: damaged, or no checkpoint's record: settings are missing")
    return record


def best_checkpoint(storage: Storage, run: str) -> tuple[str, dict[str, Any]] | None:
    """Return the path and the record of a run's best checkpoint, or None if the run has none.

    One from within an epoch, which has no score, counts only if there is no other.

    Raises
    ------
    InputError
        If it has some, and the record of each is damaged.
    """
    records = sound_records(storage, run)
    best = best_of(records)
    if best is not None:
        return best, records[best]
    for name in checkpoint_names(storage, run):
        _record(storage, posixpath.join(name, RECORD))
    return None


def best_of(records: Mapping[str, dict[str, Any]]) -> str | None:
    """Return the path of the best of some checkpoints, or None if there are none."""

    def merit(name: str) -> tuple[bool, float, int]:
        score = records[name]["score"]
        return score is not None, score or 0.0, records[name]["position"]["step"]

    return max(records, key=merit, default=None)


def fetch_best_checkpoint(storage: Storage, run: str) -> Path | None:
    """Return a local folder with a run's best checkpoint, or None if the run has none.

    A checkpoint on another file system is copied to a temporary folder.
    """
    best = best_checkpoint(storage, run)
    return None if best is None else storage.fetch(best[0])


def _holds(found: ValueType, wanted: ValueType, name: str) -> bool:
    """Whether rows can be fed to the model; of codes, more codebooks than it hears will do."""
    if name == "codes":
        return found.shape[1:] == wanted.shape[1:] and found.shape[0] >= wanted.shape[0]
    return found == wanted

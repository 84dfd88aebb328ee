"""What an MLflow run is given when its training ends: figures, best scores and the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from giblet_ray.checkpoint.files import VOXELS, load_voxel_pearson
from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.pieces import is_of_optimizer
from giblet_ray.checkpoint.record import RECORD
from giblet_ray.checkpoint.served import PARAMETERS
from giblet_ray.checkpoint.store import Checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.evaluation.figures import epoch_curves, learning_curves, voxel_histogram
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.tracking.logged_model import log_model
from giblet_ray.tracking.mlflow_run import MlflowRun

MODEL_NAME = "encoder"
_LOADER = "giblet_ray.checkpoint.served"


def report_best(
    run: MlflowRun,
    checkpoint: Checkpoint,
    history: Sequence[dict[str, float]],
    score: Score,
    log_model: bool,
    packages: Iterable[str] = (),
    judged: Judged | None = None,
) -> None:
    """Add learning curves, the histogram of voxel r, the best epoch's scores and its model.

    Told again, it replaces them; a model that is there already stays.

    Parameters
    ----------
    run : MlflowRun
        The training's run.
    checkpoint : Checkpoint
        The best one.
    history : sequence of dict
        Metrics of every epoch.
    score : Score
        What the best epoch is chosen by.
    log_model : bool
        Whether to store the model itself.
    packages : iterable of str
        Packages that the model may be imported from.
    judged : Judged, optional
        Its scores on the test TRs.
    """
    run.figure(learning_curves(epoch_curves(history)), "learning_curves.png")
    best = dict(score.best_epoch(history) or {})
    with checkpoint.files((VOXELS,)) as folder:
        drawn = voxel_histogram(load_voxel_pearson(folder), best.get(VAL_PEARSON))
    run.figure(drawn, "voxel_pearson.png")
    run.best(best)
    if judged is not None:
        run.metrics(judged.logged())
    if log_model and not run.has_model():
        log_checkpoint(run.uri, run.id, checkpoint, packages)


def log_checkpoint(
    uri: str, run_id: str, checkpoint: Checkpoint, packages: Iterable[str] = ()
) -> str:
    """Store a checkpoint as the MLflow model of a run, and return the model's id.

    Parameters
    ----------
    uri : str
        Tracking store.
    run_id : str
        The MLflow run that the checkpoint is of.
    checkpoint : Checkpoint
        What only training needs of it is left out.
    packages : iterable of str
        Packages that the model may be imported from.

    Raises
    ------
    InputError
        If the checkpoint cannot be loaded.
    """
    kinds = checkpoint.record.dataset.values
    inputs = {name: (kind.dtype, kind.shape) for name, kind in kinds.items() if name != "bold"}
    units = set(checkpoint.record.dataset.subjects.values())
    outputs = {"bold": ("float32", (units.pop() if len(units) == 1 else -1,))}
    served = [name for name in checkpoint.record.checksums if not is_of_optimizer(name)]
    with checkpoint.files(served) as folder:
        Encoder.load(folder, packages=packages)
        files = [folder / name for name in (RECORD, *served)]
        return log_model(uri, run_id, MODEL_NAME, files, _LOADER, inputs, outputs, PARAMETERS)

"""Ray Train without those of its processes that a training here has no use for.

Each imports all of Ray Train before it does nothing: two to three seconds of a core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from giblet_ray.environment import cluster_address
from giblet_ray.training.process_group import ProcessGroup


class LeanTrainer(DataParallelTrainer):
    """Does what a TorchTrainer does, whose controller needs no torch.

    Workers take their data from blocks, and not from Ray Train.

    Parameters
    ----------
    train : callable
        What each worker does.
    **how
        As :class:`ray.train.torch.TorchTrainer` takes them.
    """

    def __init__(self, train: Callable[..., None], **how: Any) -> None:
        super().__init__(train, backend_config=ProcessGroup(), **how)

    def _create_default_callbacks(self) -> list:
        """Leave out what hands out data sets, and, where Ray ends with the job, what tidies up."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if not cluster_address():
            unused += (PlacementGroupCleanerCallback,)
        made = super()._create_default_callbacks()
        return [callback for callback in made if not isinstance(callback, unused)]

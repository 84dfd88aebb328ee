"""Ray Train without those of its processes that a training here has no use for.

Each imports all of Ray Train before it does nothing: two to three seconds of a core.
"""

from __future__ import annotations

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from giblet_ray.environment import cluster_address


class LeanTrainer(TorchTrainer):
    """A TorchTrainer whose workers take their data from blocks, and not from Ray Train."""

    def _create_default_callbacks(self) -> list:
        """Leave out what hands out data sets, and, where Ray ends with the job, what tidies up."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if not cluster_address():
            unused += (PlacementGroupCleanerCallback,)
        made = super()._create_default_callbacks()  # type: ignore[misc]  # typed as its first version
        return [callback for callback in made if not isinstance(callback, unused)]

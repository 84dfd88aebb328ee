"""Ray Train without those of its processes that a training here has no use for.

Each imports all of Ray Train before it does nothing: two to three seconds of a core. And on a Ray
of the job's own without environments of its own making, in which no process that runs already
could take its part: those of a job have its environment anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray
from ray._raylet import RAY_NODE_ID_KEY  # type: ignore[attr-defined]  # compiled
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import autoscaling_coordinator_client
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from giblet_ray.environment import cluster_address
from giblet_ray.lean_ray import coordinate_here
from giblet_ray.training.process_group import ProcessGroup

_BLOCKS = "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC"
"""Whether Ray warns of a controller that waits for what takes no time."""


class _LeanWorkerGroup(WorkerGroup):
    """Workers in the environment that all processes of the job have."""

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        return custom_runtime_env


class _LeanController(TrainController):
    """Ray Train's controller, of such workers."""

    worker_group_cls = _LeanWorkerGroup

    def __init__(self, **told: Any) -> None:
        here = coordinate_here()
        autoscaling_coordinator_client.get_or_create_autoscaling_coordinator = lambda: here
        super().__init__(**told)


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
        self.begun = threading.Event()
        """Set once there is a controller."""
        self._controller: Any = None

    def _create_default_callbacks(self) -> list:
        """Leave out what hands out data sets, and, where Ray ends with the job, what tidies up."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if not cluster_address():
            unused += (PlacementGroupCleanerCallback,)
        made = super()._create_default_callbacks()
        return [callback for callback in made if not isinstance(callback, unused)]

    def _initialize_and_run_controller(self, **told: Any) -> Any:
        """Do as Ray Train does, but for what Ctrl-C does: see :meth:`abort`."""
        actor: Any
        if cluster_address():
            variables = {_BLOCKS: "0", **get_env_vars_to_propagate()}
            here = {RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
            actor = ray.remote(
                num_cpus=0, label_selector=here, runtime_env={"env_vars": variables}
            )(TrainController)
        else:
            actor = ray.remote(num_cpus=0)(_LeanController)
        controller = self._controller = actor.remote(**told)
        self.begun.set()
        try:
            ray.get(controller.run.remote())
            return ray.get(controller.get_result.remote())
        finally:
            self._controller = None  # its process ends with the last handle

    def abort(self, wait: bool = True) -> None:
        """End the training, from another thread than the one that is in `fit`.

        Parameters
        ----------
        wait : bool
            Wait until it has ended, which takes as long as workers start that have begun to.
        """
        if (controller := self._controller) is not None:
            ray.wait([controller.abort.remote()], timeout=None if wait else 0)

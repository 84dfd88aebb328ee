"""The Ray Data job: rows of the films in, predicted rows out, in the same order.

::

    shards --read tasks--> blocks of rows --actors that hold the encoder--> predicted rows
                                            (one per GPU, or per CPU)              |
    weights --> object store, once per node ---^                                   v
                                                                          driver, which writes
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext

from giblet_ray.checkpoint.record import Record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cluster import cluster_totals, never_restart
from giblet_ray.dataset.binary import as_arrays, as_binary
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.source import ShardSource, plain_errors
from giblet_ray.environment import cluster_address
from giblet_ray.errors import InputError, one_line
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.task import Task

_ACTOR_TRS = 256
"""For fewer TRs, starting another actor takes longer than it saves."""


def predicted_blocks(
    task: Task, batch_trs: int, use_gpu: bool | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Predict on the cluster that is connected to; yield what is predicted, in order.

    Memory is bounded by the blocks under way: Ray Data reads no further ahead than the actors
    and the receiver of these blocks can follow.

    Parameters
    ----------
    task : Task
        What is predicted from what.
    batch_trs : int
        TRs that the model is given at a time.
    use_gpu : bool or None
        Whether actors take a GPU each (None: if there are any).

    Yields
    ------
    stimulus : str
        One stimulus; its blocks come one after another.
    trs_T : ndarray of int
        TRs of the stimulus, in order.
    bold_TV : ndarray of float32, shape (TRs, voxels)
        Predicted z-scored BOLD, lag TRs later; NaN where a voxel was masked in training.

    Raises
    ------
    InputError
        If a file is damaged, there is no GPU where one is wanted, its memory does not suffice, the
        model is code that a node does not have, or it predicts a number that is not finite.
    """
    task_trs = task.trs_at_a_time(batch_trs)
    task_bytes = task_trs * task.selection.row_bytes(task.dataset)
    context = task.encoder.model.context_trs
    spans = cut_spans(task.spans, task_trs)
    source = ShardSource(task.dataset, task.selection, spans, task_bytes, lead_trs=context)
    totals = cluster_totals()
    n_tasks = source.n_tasks(task_bytes, at_least=int(totals.get("CPU", 1)))
    resources = _resources(use_gpu, totals)
    n_places = max(1, int(totals.get("GPU" if "num_gpus" in resources else "CPU", 1)))
    n_trs = sum(map(len, task.spans))
    n_actors = min(n_tasks, n_places, math.ceil(n_trs / _ACTOR_TRS))
    # The nodes need not see the checkpoint's folder, and each has its weights once.
    weights = {name: value.numpy() for name, value in task.encoder.model.state_dict().items()}
    ordered = DataContext.get_current().copy()
    ordered.execution_options.preserve_order = True
    # What a task reads is one block, of which a model finds the context of each TR: Ray Data would
    # cut large ones anywhere.
    ordered.target_max_block_size = None
    with DataContext.current(ordered), warnings.catch_warnings():
        # Ray has no other way of setting what never_restart sets.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn")
        # Actors keep the CPUs that they claim: reads, which must go on beside them, claim none.
        rows = ray.data.read_datasource(source, override_num_blocks=n_tasks, num_cpus=0)
        predicted = rows.map_batches(
            Predicting,
            batch_format="pyarrow",
            batch_size=None,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(size=n_actors),
            fn_constructor_kwargs={
                "record": task.encoder.record,
                "weights": ray.put(weights),
                "valid_SV": task.encoder.valid_SV,
                "packages": task.encoder.packages,
                "subject": task.subject,
                "batch_trs": batch_trs,
                "kinds": task.selection.value_types(task.dataset),
                "lacking": task.lacking,
                "device": "cuda" if "num_gpus" in resources else "cpu",
            },
            ray_remote_args_fn=never_restart,
            **resources,
        )
    with plain_errors():
        blocks = predicted.iter_batches(batch_size=None, batch_format="pyarrow")
        n_trs_of = {stimulus.name: stimulus.n_trs for stimulus in task.predictions.stimuli}
        tables = cast(Iterator[pa.Table], blocks)
        rows_of = each_tr_once(tables, task.predictions.value, n_trs_of)
        for stimulus, trs_T, bold_TV in rows_of:
            _check_finite(stimulus, trs_T, bold_TV[:, task.encoder.units_of(task.subject)])
            yield stimulus, trs_T, bold_TV


class Predicting:
    """An actor that holds the model.

    Parameters
    ----------
    record, valid_SV, packages, device
        As :meth:`giblet_ray.checkpoint.trained.Encoder.build` takes them.
    weights : ObjectRef
        Of a dict of arrays, by name in the model. On CPUs all actors of a node compute with the
        very pages of the object store that they lie in.
    subject : int or None
        Whose response is predicted.
    batch_trs : int
        TRs that the model is given at a time.
    kinds : dict of str to ValueType
        The value columns of the rows.
    lacking : mapping of str to sequence of str
        Stimuli without rows of a part, by the parts that some lack.
    """

    def __init__(
        self,
        record: Record,
        weights: ray.ObjectRef,
        valid_SV: np.ndarray,
        packages: tuple[str, ...],
        subject: int | None,
        batch_trs: int,
        kinds: dict[str, ValueType],
        lacking: Mapping[str, Sequence[str]],
        device: str,
    ) -> None:
        self._model = record, weights, valid_SV, packages, device
        self._how = kinds, subject, batch_trs, lacking

    @cached_property
    def _encoder(self) -> Encoder:
        """Built for the first rows: an actor whose constructor fails counts as one that is lost."""
        record, weights, valid_SV, packages, device = self._model
        with warnings.catch_warnings():
            # Weights that are only read may lie in memory that is read-only.
            warnings.filterwarnings("ignore", message=".*not writable")
            tensors = {name: torch.from_numpy(value) for name, value in ray.get(weights).items()}
        return Encoder.build(record, tensors, valid_SV, device, packages)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """See :func:`predict_rows`."""
        try:
            yield from predict_rows(self._encoder, rows, *self._how)
        except torch.OutOfMemoryError as error:
            _, _, batch_trs, _ = self._how
            said = one_line(error).partition(". ")[0]
            raise InputError(
                f"--batch_trs {batch_trs}: {said}; use a smaller one, or --use_gpu false"
            ) from error


def predict_rows(
    encoder: Encoder,
    rows: pa.Table,
    kinds: dict[str, ValueType],
    subject: int | None,
    batch_trs: int,
    lacking: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Iterator[pa.Table]:
    """Yield stimulus, TR and prediction of each row whose context is there, span by span.

    Parameters
    ----------
    encoder : Encoder
        The model.
    rows : Table
        A block as :class:`ShardSource` reads it, whole.
    kinds, subject, batch_trs, lacking
        As :class:`Predicting` takes them.
    """
    whole = rows.combine_chunks()
    values = {part: as_arrays(whole[part].chunk(0), kind) for part, kind in kinds.items()}
    context = encoder.model.context_trs
    for span in _consecutive(whole) if context or lacking else [slice(0, whole.num_rows)]:
        lead = min(context, whole["tr"][span.start].as_py()) if context else 0
        film = whole["stimulus"][span.start].as_py()
        of_span = {
            part: value[span] for part, value in values.items() if film not in lacking.get(part, ())
        }
        bold_TV = encoder.predict_trs(of_span, subject, batch_trs, first=lead)
        kept = whole.slice(span.start + lead, len(bold_TV))
        names = kept["stimulus"].cast(pa.string())
        yield pa.table({"stimulus": names, "tr": kept["tr"], "value": as_binary(bold_TV)})


def cut_spans(spans: Iterable[Span], most: int) -> list[Span]:
    """Cut spans into some of at most so many TRs."""
    return [
        replace(span, start=start, stop=min(start + most, span.stop))
        for span in spans
        for start in range(span.start, span.stop, most)
    ]


def _consecutive(rows: pa.Table) -> list[slice]:
    """Return where TRs follow one another: each span begins with the context of its first TR.

    ::

        rows      12 13 14 15 | 14 15 16 17 18 | 0 1 2 3 ...      context of 2 TRs
        context    c  c       |  c  c          |                  none before the film
    """
    stimulus = np.unique(rows["stimulus"].cast(pa.string()).to_numpy(), return_inverse=True)[1]
    tr = rows["tr"].to_numpy()
    breaks = np.flatnonzero((np.diff(stimulus) != 0) | (np.diff(tr) != 1)) + 1
    return [slice(int(a), int(b)) for a, b in itertools.pairwise([0, *breaks, len(tr)])]


def _resources(use_gpu: bool | None, totals: dict[str, float]) -> dict[str, float]:
    """Return what an actor claims: a CPU, and a GPU if it is to predict on one."""
    has_gpu = totals.get("GPU", 0) >= 1
    if use_gpu and not has_gpu and not cluster_address():  # a cluster may grow
        raise InputError("--use_gpu true needs a GPU; this machine has none")
    return {"num_cpus": 1, **({"num_gpus": 1} if use_gpu or (use_gpu is None and has_gpu) else {})}


def _check_finite(stimulus: str, trs_T: np.ndarray, bold_TV: np.ndarray) -> None:
    finite_T = np.isfinite(bold_TV).all(axis=1)
    if not finite_T.all():
        raise InputError(
            f"stimulus {stimulus}, TR {trs_T[np.argmin(finite_T)]}: the model predicts a number "
            "that is not finite; its training diverged, or its weights are damaged"
        )


def each_tr_once(
    blocks: Iterable[pa.Table], kind: ValueType, n_trs: Mapping[str, int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield what is predicted, stimulus by stimulus: TRs and BOLD, as in :func:`predicted_blocks`.

    A span whose context reaches the film's beginning predicts all of it again, which is left out.

    Parameters
    ----------
    blocks : iterable of Table
        As :func:`predict_rows` yields them.
    kind : ValueType
        What a row of them holds.
    n_trs : mapping of str to int
        TRs of each stimulus.

    Raises
    ------
    RuntimeError
        If a TR is missing.
    """
    done = dict.fromkeys(n_trs, 0)
    for block in blocks:
        for stimulus, trs_T, bold_TV in _by_stimulus(block, kind):
            until_T = np.maximum.accumulate([done[stimulus] - 1, *trs_T])
            new_T = trs_T > until_T[:-1]
            expected_T = np.arange(done[stimulus], until_T[-1] + 1)
            if not np.array_equal(trs_T[new_T], expected_T):
                found = f"TRs {trs_T[0]} to {trs_T[-1]} came"
                raise RuntimeError(f"{stimulus}: {found} where {done[stimulus]} was expected")
            done[stimulus] += len(expected_T)
            if len(expected_T):
                yield stimulus, expected_T, bold_TV[new_T]
    for stimulus, n in done.items():
        if n != n_trs[stimulus]:
            raise RuntimeError(f"{stimulus}: {n} of {n_trs[stimulus]} TRs were predicted")


def _by_stimulus(block: pa.Table, kind: ValueType) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Cut a block where one stimulus ends and the next begins."""
    for batch in block.to_batches():
        names = np.asarray(batch.column("stimulus").to_pylist())
        trs_T = batch.column("tr").to_numpy()
        bold_TV = as_arrays(batch.column("value"), kind)
        cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
        for rows in np.split(np.arange(len(names)), cuts):
            if len(rows):
                yield str(names[rows[0]]), trs_T[rows], bold_TV[rows[0] : rows[-1] + 1]

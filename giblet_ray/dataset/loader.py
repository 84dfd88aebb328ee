"""Windows in, batches of tensors out: from GPU memory, from the object store, or from disk.

All three deliver the same batches for the same windows; they differ in where the rows lie::

    shards --Ray Data--> object store blocks --views--> gather --> pinned buffer --> GPU   memory
                             |  once, to each GPU
                             +-------------------> resident tensors --index--> batch       device
    shards --threads---> the next few spans  --views--> gather --> pinned buffer --> GPU   stream
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.rows import HeldRows, starts
from giblet_ray.dataset.windows import Windows
from giblet_ray.parts.value import ValueType

_PREFETCH = 2
_RESIDENT_COPY_TRS = 256
Gathered = tuple["Batch", "torch.cuda.Event | None"]


@dataclass
class Batch:
    """Windows as tensors on the device that trains, W TRs of the longest and C before them."""

    values: dict[str, Tensor]
    """Parts of the stimulus, (windows, C + W, *shape), and ``bold``, (windows, W, units), in the
    dtype on disk. Valid until the next batch but one is asked for: its memory is used again."""
    exists: Tensor
    """(windows, C + W) bool: rows of the stimulus that a window has; the others, before its film,
    after it, or after the window's own last TR, are 0."""
    windows: Windows
    """What the rows are."""
    vectors: dict[str, Tensor] = field(default_factory=dict)
    """(windows, C + W, F) what a model has made of parts that are not among the values."""


class Loader(Protocol):
    """Delivers batches."""

    @property
    def seconds_waited(self) -> float:
        """Time that its user has waited for batches."""

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """Yield a batch for each element of `order`, in that order; empty ones too."""

    def without(self, names: Collection[str]) -> Self:
        """Return what delivers the same batches without some of their values."""


class _Exists:
    """Says which rows of a batch exist; that all do, once for all batches of a shape: a copy to the
    device less in each step."""

    def __init__(self, lag_trs: int, context_trs: int, device: torch.device) -> None:
        self._lag_trs, self._context_trs, self._device = lag_trs, context_trs, device
        self._all: dict[tuple[int, int], Tensor] = {}

    def __call__(self, windows: Windows) -> Tensor:
        """Return (windows, C + W) bool, on the device."""
        n, longest = windows.shape
        first = windows.start - self._lag_trs
        is_film = (first >= self._context_trs) & (first + longest <= windows.film_trs)
        if is_film.all() and (windows.length == longest).all():
            return self._ones((n, self._context_trs + longest))
        return _sent(windows.rows(self._lag_trs, self._context_trs)[1], self._device)

    def bold(self, windows: Windows) -> Tensor:
        """Return which BOLD TRs the windows have, (windows, W) bool, on the device."""
        if (windows.length == windows.shape[1]).all():
            return self._ones(windows.shape)
        return _sent(windows.bold_rows()[1], self._device)

    def _ones(self, shape: tuple[int, int]) -> Tensor:
        if shape not in self._all:
            with torch.inference_mode(False):  # validation may ask first, and training then uses it
                self._all[shape] = torch.ones(shape, dtype=torch.bool, device=self._device)
        return self._all[shape]


def _sent(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy a few numbers to a device without waiting for what it has still to do."""
    return torch.from_numpy(values).to(device, non_blocking=True)


@dataclass
class _Slot:
    """Buffers of one batch, and views of them in the shape that the batch has."""

    buffers: dict[str, Tensor] = field(default_factory=dict)
    shape: tuple[int, int] | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    copied: torch.cuda.Event | None = None


class _Buffers:
    """A ring of batch buffers: page-locked where a GPU copies from them."""

    def __init__(
        self, kinds: Mapping[str, ValueType], lag_trs: int, context_trs: int, device: torch.device
    ) -> None:
        self._kinds, self._device = dict(kinds), device
        self._lag_trs, self._context_trs = lag_trs, context_trs
        self._exists = _Exists(lag_trs, context_trs, device)
        # One is filled, some wait in the queue, and the user holds the last two.
        self._ring = [_Slot() for _ in range(_PREFETCH + 3)]
        self._turn = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def without(self, names: Collection[str]) -> _Buffers:
        """Return buffers of the other values."""
        kinds = {name: kind for name, kind in self._kinds.items() if name not in names}
        return _Buffers(kinds, self._lag_trs, self._context_trs, self._device)

    def fill(self, windows: Windows, gather: Callable[[dict[str, np.ndarray]], None]) -> Gathered:
        """Gather into the next buffers and start their copy to the device."""
        self._turn = (self._turn + 1) % len(self._ring)
        slot = self._ring[self._turn]
        if slot.copied is not None:
            slot.copied.synchronize()
        if slot.shape != windows.shape:
            self._reshape(slot, windows.shape)
        gather(slot.arrays)
        if self._stream is None:
            return Batch(slot.tensors, self._exists(windows), windows), None
        with torch.cuda.stream(self._stream):
            moved = {n: v.to(self._device, non_blocking=True) for n, v in slot.tensors.items()}
            batch = Batch(moved, self._exists(windows), windows)
            slot.copied = torch.cuda.Event()
            slot.copied.record(self._stream)
        return batch, slot.copied

    def _reshape(self, slot: _Slot, shape: tuple[int, int]) -> None:
        n, longest = shape
        # A new dictionary: the batch that was here before keeps the views that it was given.
        slot.tensors = {}
        for name, kind in self._kinds.items():
            trs = longest if name == "bold" else self._context_trs + longest
            rows = n * trs
            if name not in slot.buffers or len(slot.buffers[name]) < rows:
                slot.buffers[name] = torch.empty(
                    (rows, *kind.shape),
                    dtype=getattr(torch, kind.dtype),
                    pin_memory=self._stream is not None,
                )
            slot.tensors[name] = slot.buffers[name][:rows].view(n, trs, *kind.shape)
        slot.arrays = {name: tensor.numpy() for name, tensor in slot.tensors.items()}
        slot.shape = shape


class Prefetching:
    """Gathers the next batches in a thread while the present one is computed on."""

    def __init__(
        self, kinds: Mapping[str, ValueType], lag_trs: int, context_trs: int, device: torch.device
    ) -> None:
        self.seconds_waited = 0.0
        self._device = device
        self._buffers = _Buffers(kinds, lag_trs, context_trs, device)

    def without(self, names: Collection[str]) -> Self:
        """See :class:`Loader`."""
        fewer = copy.copy(self)
        fewer._buffers = self._buffers.without(names)
        return fewer

    def _prefetch(self, make: Generator[Gathered]) -> Iterator[Batch]:
        ready: queue.Queue = queue.Queue(maxsize=_PREFETCH)
        stopped = threading.Event()

        def put(item: object) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                with closing(make):
                    for item in make:
                        put(item)
                        if stopped.is_set():
                            return
                put(None)
            except BaseException as error:  # noqa: BLE001 - raised again in the user's thread
                put(error)

        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            while True:
                started = time.perf_counter()
                item = ready.get()
                self.seconds_waited += time.perf_counter() - started
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                batch, event = item
                if event is not None:
                    stream = torch.cuda.current_stream(self._device)
                    stream.wait_event(event)
                    for value in (*batch.values.values(), batch.exists):
                        value.record_stream(stream)
                yield batch
        finally:
            stopped.set()
            thread.join()


class MemoryLoader(Prefetching):
    """Batches gathered from blocks in the node's object store, which all its workers share.

    Parameters
    ----------
    rows : HeldRows
        Views of the blocks.
    kinds : mapping of str to ValueType
        Parts of the stimulus, and ``bold``, as a batch has them.
    lag_trs : int
        A window's BOLD lies this many TRs after its stimulus.
    device : torch.device
        Where batches go.
    context_trs : int
        TRs of the stimulus before a window that its batch has too.
    """

    def __init__(
        self,
        rows: HeldRows,
        kinds: Mapping[str, ValueType],
        lag_trs: int,
        device: torch.device,
        context_trs: int = 0,
    ) -> None:
        super().__init__(kinds, lag_trs, context_trs, device)
        self._rows, self._lag_trs, self._context_trs = rows, lag_trs, context_trs

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """See :class:`Loader`."""
        return self._prefetch(self._gathered(order))

    def _gathered(self, order: Sequence[Windows]) -> Generator[Gathered]:
        for windows in order:

            def gather(out: dict[str, np.ndarray], windows: Windows = windows) -> None:
                self._rows.gather(windows, self._lag_trs, self._context_trs, out)

            yield self._buffers.fill(windows, gather)


class DeviceLoader:
    """Batches indexed from tensors that lie on the device whole.

    Parameters
    ----------
    rows : HeldRows
        Copied from once.
    kinds, lag_trs, device, context_trs
        As :class:`MemoryLoader` takes them.
    scans, n_trs
        As :class:`giblet_ray.dataset.rows.HeldRows` takes them.
    """

    def __init__(
        self,
        rows: HeldRows,
        kinds: Mapping[str, ValueType],
        scans: Sequence[ScanKey],
        n_trs: Mapping[str, int],
        lag_trs: int,
        device: torch.device,
        context_trs: int = 0,
    ) -> None:
        self.seconds_waited = 0.0
        self._device, self._lag_trs, self._context_trs = device, lag_trs, context_trs
        self._exists = _Exists(lag_trs, context_trs, device)
        stimuli = list(dict.fromkeys(scan.stimulus for scan in scans))
        first_row = starts(
            {(name, phase): n_trs[name] for name in stimuli for phase in range(rows.n_phases[name])}
        )
        scan_first_row = starts({scan: n_trs[scan.stimulus] for scan in scans})
        n_phases = max(rows.n_phases.values())
        self._stimulus_row = torch.tensor(
            [[first_row.get((r.stimulus, phase), 0) for phase in range(n_phases)] for r in scans],
            device=device,
        )
        self._bold_row = torch.tensor([scan_first_row[r] for r in scans], device=device)
        n_stimulus = sum(n_trs[name] * rows.n_phases[name] for name in stimuli)
        n_bold = sum(n_trs[scan.stimulus] for scan in scans)
        self._values = {
            # The last row is that of all TRs that do not exist.
            name: torch.zeros(
                ((n_bold if name == "bold" else n_stimulus) + 1, *kind.shape),
                dtype=getattr(torch, kind.dtype),
                device=device,
            )
            for name, kind in kinds.items()
        }
        for index, phase in (
            (index, phase)
            for index, scan in enumerate(scans)
            for phase in range(rows.n_phases[scan.stimulus])
        ):
            scan = scans[index]
            for start in range(0, n_trs[scan.stimulus], _RESIDENT_COPY_TRS):
                length = min(_RESIDENT_COPY_TRS, n_trs[scan.stimulus] - start)
                window = Windows(*(np.array([x], np.int32) for x in (index, start, length, phase)))
                # A stimulus that several subjects saw is copied again: seconds, once a training.
                host = {
                    name: torch.empty((1, length, *kind.shape), dtype=self._values[name].dtype)
                    for name, kind in kinds.items()
                }
                rows.gather(window, 0, 0, {name: value.numpy() for name, value in host.items()})
                for name, value in host.items():
                    of_film = first_row[scan.stimulus, phase]
                    first = scan_first_row[scan] if name == "bold" else of_film
                    self._values[name][first + start : first + start + length] = value[0]

    def without(self, names: Collection[str]) -> Self:
        """See :class:`Loader`; what it leaves out is not held by it."""
        fewer = copy.copy(self)
        fewer._values = {name: of for name, of in self._values.items() if name not in names}
        return fewer

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """See :class:`Loader`."""
        for windows in order:
            exists = self._exists(windows)
            scan = _sent(windows.scan, self._device)
            offsets = torch.arange(-self._context_trs, windows.shape[1], device=self._device)
            trs = _sent(windows.start, self._device)[:, None] + offsets
            phase = _sent(windows.phase, self._device)
            stimulus_rows = self._stimulus_row[scan, phase][:, None] + trs - self._lag_trs
            bold_rows = (self._bold_row[scan][:, None] + trs)[:, self._context_trs :]
            has_bold = self._exists.bold(windows)
            values = {}
            for name, value in self._values.items():
                is_bold = name == "bold"
                rows = torch.where(
                    has_bold if is_bold else exists,
                    bold_rows if is_bold else stimulus_rows,
                    len(value) - 1,
                )
                # On a CPU five times as fast as value[rows].
                taken = value.index_select(0, rows.reshape(-1))
                values[name] = taken.view(*rows.shape, *value.shape[1:])
            yield Batch(values, exists, windows)

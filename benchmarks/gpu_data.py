"""Whether a GPU is given the rows that were written, and how long it waits for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from gpu_sizes import Checked
from in_memory import InMemory, TimedLink
from target import Target

from giblet_ray.dataset.loader import Batch, Loader
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import Windows

ROW = 4
MOST_WAITING = 0.02
_EPOCHS = 2

Open = Callable[[torch.device], Loader]


def loaders(rows: InMemory) -> dict[str, Open]:
    """Return ways to bring the rows of some data to a device."""
    return {
        "device": rows.held_by_device,
        "memory": rows.in_memory,
        "stream": lambda device: _streamed(rows, device),
    }


def _streamed(rows: InMemory, device: torch.device) -> StreamLoader:
    """Return what reads row groups from the files just before they are needed."""
    data = rows.data
    what = data.dataset, data.selection, data.values, data.scans
    return StreamLoader(*what, data.window, data.lag_trs, device, data.context_trs)


def check_rows(checked: Checked) -> list[Target]:
    """Compare every batch of two epochs with what was written."""
    rows = InMemory(checked.job())
    found = []
    for name, opened in loaders(rows).items():
        differing = _differing(checked, rows, opened(checked.device))
        what = f"{name} loader on {checked.device.type}: values that are not those written"
        found.append(Target.once(ROW, what, differing, 0))
    return found


def _differing(checked: Checked, rows: InMemory, loader: Loader) -> int:
    """Return how many values of an epoch's batches are not those that were written."""
    windows, order = rows.data.train, rows.ordered()
    epoch = [windows[step.windows] for n in range(_EPOCHS) for step in order.steps(n, 0, 1)]
    wrong = 0
    for batch in _each_as_late_as_it_may_be(loader.batches(epoch)):
        for name, expected in _expected(checked, rows, batch.windows).items():
            is_there = batch.exists if name == "exists" else batch.values[name]
            wrong += int((is_there.cpu().numpy() != expected).sum())
    return wrong


def _each_as_late_as_it_may_be(batches: Iterator[Batch]) -> list[Batch]:
    """Return copies of all batches, each made on the device when the next one is there.

    The host waits for no copy: what is overwritten or read too early on the device shows.
    """
    copies: list[Batch] = []
    last: Batch | None = None
    for batch in batches:
        copies += [] if last is None else [_copy(last)]
        last = batch
    return copies + ([] if last is None else [_copy(last)])


def _copy(batch: Batch) -> Batch:
    values = {name: value.clone() for name, value in batch.values.items()}
    return replace(batch, values=values, exists=batch.exists.clone())


def _expected(checked: Checked, rows: InMemory, windows: Windows) -> dict[str, np.ndarray]:
    """Take the rows of windows from the arrays that were written, one by one."""
    data = rows.data
    firsts = np.array([checked.films[scan.stimulus].start for scan in data.scans])[windows.scan]
    trs, exists = windows.rows(data.lag_trs, data.context_trs)
    at = dict.fromkeys(data.selection.parts, (firsts[:, None] + trs, exists))
    bold_trs, has_bold = windows.bold_rows()
    at["bold"] = firsts[:, None] + bold_trs, has_bold
    taken = {}
    for name, (where, there) in at.items():
        array = checked.arrays[name]
        taken[name] = np.zeros((*where.shape, *array.shape[1:]), array.dtype)
        taken[name][there] = array[where[there]]
    return {**taken, "exists": exists}


class Ready:
    """Gives batches that lie on the device already: a loader that costs nothing.

    Parameters
    ----------
    loader : Loader
        Gives the first batch of each shape.
    """

    def __init__(self, loader: Loader) -> None:
        self.seconds_waited = 0.0
        self._loader, self._ready = loader, dict[tuple[int, int], Batch]()

    def without(self, names: Collection[str]) -> Ready:
        """Give batches without some of their values."""
        return Ready(self._loader.without(names))

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """Yield the batch of the shape that is wanted, whatever the rows."""
        for windows in order:
            if windows.shape not in self._ready:
                (batch,) = map(_copy, self._loader.batches([windows]))
                self._ready[windows.shape] = batch
            yield replace(self._ready[windows.shape], windows=windows)


def check_waiting(checked: Checked) -> list[Target]:
    """Set epochs of a training beside epochs whose batches are there already."""
    found = []
    for model, settings in checked.models.items():
        rows = InMemory(checked.job(settings, epochs=checked.size.epochs, log_every_steps=10**6))
        for name, opened in loaders(rows).items():
            real, ready = _seconds(rows, checked, opened), _seconds(rows, checked, opened, Ready)
            shares = [1 - least / each for each, least in zip(real, ready, strict=True)]
            found.append(
                Target(
                    ROW,
                    f"{name} loader, {model}: share of an epoch spent waiting for data",
                    checked.of_gpu(float(np.median(shares))),
                    MOST_WAITING,
                    False,
                    (min(shares), max(shares)),
                )
            )
    return found


def _seconds(
    rows: InMemory,
    checked: Checked,
    opened: Open,
    around: Callable[[Loader], Loader] = lambda loader: loader,
) -> list[float]:
    """Return the seconds in which each epoch but the first trained."""
    link = TimedLink(checked.device)
    rows.train(link, lambda device: around(opened(device)))
    return link.curve("train/seconds")[1:]

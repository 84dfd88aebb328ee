"""A film and its scans that lie in arrays: what a model that is fitted at once learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError
from giblet_ray.models.fitted import Samples

FILM = "film"
_WINDOW_TRS = 16


class ArrayFilm:
    """The training TRs of subjects who saw one film.

    Parameters
    ----------
    parts : mapping of str to ndarray
        (TRs, numbers) float32 of each part.
    bold : mapping of str to ndarray
        (TRs, units) float32 of each subject, z-scored over the training TRs.
    train : slice or mapping of str to slice
        TRs that train, of all subjects or of each.
    context_trs : int
        TRs of the film before each window.
    """

    def __init__(
        self,
        parts: Mapping[str, np.ndarray],
        bold: Mapping[str, np.ndarray],
        train: slice | Mapping[str, slice],
        context_trs: int,
    ) -> None:
        self.parts, self.bold, self.context_trs = parts, bold, context_trs
        self.scans: Sequence[ScanKey] = [ScanKey(subject, FILM) for subject in bold]
        self.lacking: Mapping[str, Sequence[str]] = {}
        cut = []
        for index, subject in enumerate(bold):
            span = train if isinstance(train, slice) else train[subject]
            for start in range(span.start, span.stop, _WINDOW_TRS):
                cut.append((index, start, min(_WINDOW_TRS, span.stop - start)))
        self.windows = Windows(*np.array(cut, np.int32).T)

    def read(self, windows: Windows) -> Iterator[Samples]:
        """Give one window at a time."""
        for index in range(len(windows)):
            one = windows[index : index + 1]
            trs, exists = one.rows(0, self.context_trs)
            rows = {part: torch.from_numpy(x[np.maximum(trs, 0)]) for part, x in self.parts.items()}
            of_scan = self.bold[self.scans[int(one.scan[0])].subject]
            bold = torch.from_numpy(of_scan[trs[:, self.context_trs :]])
            yield Samples(one, rows, torch.from_numpy(exists), bold)

    def blob(self, part: str, name: str) -> bytes:
        """Say that arrays have nothing beside them."""
        raise InputError(f"{part}: there is no {name} of it")

"""From windows of scans to what is fitted on them at once: vectors of films, BOLD of subjects.

Scans of one film share its vectors, and subjects who have the same training TRs are fitted
together: their kernels are the same.

::

    rows of films a, b      . . a0 a1 a2 . . b0 b1      C = 2 rows of zeros before each: before
                                                        a film there is nothing

Shapes: G rows of all films, R training TRs of all scans, N of one subject, B windows, C TRs of
context, W of a window, D raw numbers of a part, F numbers of all vectors, V units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from giblet_ray.dataset.windows import Windows
from giblet_ray.models.fitted import TrainingTrs
from giblet_ray.models.vectors import Numbers, Vectors


@dataclass(frozen=True)
class Target:
    """BOLD of subjects who have the same training TRs.

    Attributes
    ----------
    place_N : ndarray of int
        Which of the films' rows each row is at, in their order.
    stimulus_N, tr_N : ndarray of int
        Stimulus of each row, whatever its phase, and its TR.
    scan_N : ndarray of int
        Scan of each row; where there are several fits, of the first.
    units : dict of int to slice
        Columns of each of them, by the number of its fit.
    bold_NV : Tensor
        z-scored BOLD of all of them, on the CPU.
    some_V : Tensor or None
        Which units of the fit the columns are; None: all, in their order.
    """

    place_N: np.ndarray
    stimulus_N: np.ndarray
    tr_N: np.ndarray
    scan_N: np.ndarray
    units: Mapping[int, slice]
    bold_NV: Tensor
    some_V: Tensor | None = None

    def numbers(self, fit: int) -> Tensor:
        """Return which of a fit's units its columns are, int64."""
        columns = self.units[fit]
        return torch.arange(columns.stop - columns.start) if self.some_V is None else self.some_V

    def apart(self) -> Iterator[Target]:
        """Yield parts in which every unit counts in all rows.

        A unit that does not count in a subject is 0 in all rows of its scans: where subjects share
        a fit, those are none of the unit's.
        """
        scans = np.unique(self.scan_N)
        counts_SV = np.stack(
            [(self.bold_NV[self.scan_N == scan] != 0).any(dim=0).numpy() for scan in scans]
        )
        patterns_KS, pattern_V = np.unique(counts_SV.T, axis=0, return_inverse=True)
        if len(self.units) > 1 or len(patterns_KS) == 1:
            yield self
            return
        for index, counts_S in enumerate(patterns_KS):
            rows_N = np.isin(self.scan_N, scans[counts_S])
            some_V = torch.from_numpy(np.flatnonzero(pattern_V.ravel() == index))
            if rows_N.any():  # a unit that counts nowhere keeps weights of 0
                yield Target(
                    self.place_N[rows_N],
                    self.stimulus_N[rows_N],
                    self.tr_N[rows_N],
                    self.scan_N[rows_N],
                    {fit: slice(0, len(some_V)) for fit in self.units},
                    self.bold_NV[torch.from_numpy(rows_N)][:, some_V],
                    some_V,
                )


class TrainingRows:
    """Where each training TR of each scan goes.

    Parameters
    ----------
    training : TrainingTrs
        What is learned from.
    subjects : sequence of str
        All subjects.
    fits : sequence of int
        Which fit each is part of; where that is one fit, all their scans are rows of it.
    context_trs : int
        C.
    """

    def __init__(
        self, training: TrainingTrs, subjects: Sequence[str], fits: Sequence[int], context_trs: int
    ) -> None:
        self._training, self._context_trs = training, context_trs
        scans, windows = training.scans, training.windows
        names = list(dict.fromkeys(scan.stimulus for scan in scans))
        # A film at another phase has vectors of its own.
        phase_S = np.zeros(len(scans), int)
        phase_S[windows.scan] = windows.phase
        seen = [(scan.stimulus, phase) for scan, phase in zip(scans, phase_S, strict=True)]
        films = sorted(set(seen), key=lambda film: (names.index(film[0]), film[1]))
        self._stimulus_S = np.array([names.index(scan.stimulus) for scan in scans])
        film_S = np.array([films.index(film) for film in seen])
        fit_of = dict(zip(subjects, fits, strict=True))
        self._fit_S = np.array([fit_of[scan.subject] for scan in scans])
        n_trs_F = np.zeros(len(films), int)
        np.maximum.at(n_trs_F, film_S[windows.scan], windows.start + windows.length)
        stop_F = np.cumsum(n_trs_F + context_trs)
        self._n_rows, self._first_S = int(stop_F[-1]), (stop_F - n_trs_F)[film_S]
        window_R, tr_R = self._rows(windows)
        self._window_R, scan_R = window_R, windows.scan[window_R]
        self._place_R = self._first_S[scan_R] + tr_R
        # Row of its fit that each (scan, TR) is: in the order of films and TRs for all.
        self._row_ST = np.full((len(scans), int(n_trs_F.max())), -1)
        self._places: dict[int, np.ndarray] = {}
        self._scans: dict[int, np.ndarray] = {}
        for fit in np.unique(self._fit_S[scan_R]).tolist():
            mine = np.flatnonzero(self._fit_S[scan_R] == fit)
            mine = mine[np.lexsort((scan_R[mine], self._place_R[mine]))]
            self._row_ST[scan_R[mine], tr_R[mine]] = np.arange(len(mine))
            self._places[fit], self._scans[fit] = self._place_R[mine], scan_R[mine]

    @staticmethod
    def _rows(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Return window and stimulus TR of each row of some windows."""
        trs, exists = windows.bold_rows()
        return np.nonzero(exists)[0], trs[exists]

    def raw(self, vectors: Mapping[str, Numbers], most: int) -> dict[str, Tensor]:
        """Return raw numbers (rows, D) of each part at training TRs of films, evenly chosen.

        Those of a part are of films that have it; TRs after a film's end have none.

        Parameters
        ----------
        vectors : mapping of str to Numbers
            By part.
        most : int
            Rows of a part at the most.
        """
        lacking = self._training.lacking
        together: dict[tuple[str, ...], dict[str, Numbers]] = {}
        for part, each in vectors.items():
            together.setdefault(tuple(lacking.get(part, ())), {})[part] = each
        raw: dict[str, Tensor] = {}
        for without, parts in together.items():
            raw |= self._raw(parts, most, without)
        return raw

    def _raw(
        self, vectors: Mapping[str, Numbers], most: int, without: Sequence[str]
    ) -> dict[str, Tensor]:
        """Return raw numbers of parts that the same films lack."""
        windows = self._training.windows
        has_S = np.array([scan.stimulus not in without for scan in self._training.scans])
        rows_R = np.flatnonzero(has_S[windows.scan[self._window_R]])
        places, first = np.unique(self._place_R[rows_R], return_index=True)
        n = min(most, len(places))
        chosen = np.linspace(0, len(places) - 1, n).round().astype(int)
        places, window = places[chosen], np.unique(self._window_R[rows_R[first[chosen]]])
        raw = {part: torch.zeros(n, len(each.mean_D)) for part, each in vectors.items()}
        is_film = torch.zeros(n, dtype=torch.bool)
        for batch in self._training.read(windows[window]):
            trs, exists = batch.windows.bold_rows()
            exists &= batch.exists[:, self._context_trs :].cpu().numpy()
            place = self._first_S[batch.windows.scan][:, None] + trs
            row = np.searchsorted(places, place).clip(max=n - 1)
            wanted = exists & (places[row] == place)
            found = torch.from_numpy(row[wanted])
            is_film[found] = True
            for part, each in vectors.items():
                rows = batch.inputs[part][:, self._context_trs :][torch.from_numpy(wanted)]
                raw[part][found] = each.raw(rows).cpu()
        return {part: rows[is_film] for part, rows in raw.items()}

    def read(
        self, vectors: Mapping[str, Vectors], n_units: list[int]
    ) -> tuple[Tensor, list[Target]]:
        """Read all training TRs once.

        Parameters
        ----------
        vectors : mapping of str to Vectors
            By part, fitted.
        n_units : list of int
            Units of each fit.

        Returns
        -------
        films_GF : Tensor
            Vectors at each TR that trains, or lies before one that does, within the context; 0
            elsewhere.
        targets : list of Target
            Of each group of subjects.
        """
        targets = self._targets(n_units)
        of_fit = {fit: target for target in targets for fit in target.units}
        films_GF: Tensor | None = None
        is_known_G = np.zeros(self._n_rows, bool)
        for batch in self._training.read(self._training.windows):
            trs, exists = batch.windows.rows(0, self._context_trs)[0], batch.exists.cpu().numpy()
            place = np.where(exists, self._first_S[batch.windows.scan][:, None] + trs, 0)
            new = exists & ~is_known_G[place]
            if new.any():
                at = torch.from_numpy(new)
                made = []
                for part, each in vectors.items():
                    vectors_ND = each(batch.inputs[part][at])
                    if part in batch.lacking:
                        lacks_N = batch.lacking[part].cpu()[:, None].expand(new.shape)[at]
                        lacks_N1 = lacks_N[:, None].to(vectors_ND.device)
                        vectors_ND = vectors_ND.masked_fill(lacks_N1, 0)
                    made.append(vectors_ND)
                made_NF = torch.cat(made, dim=1)
                if films_GF is None:
                    films_GF = made_NF.new_zeros(self._n_rows, made_NF.shape[1])
                films_GF[torch.from_numpy(place[new])] = made_NF
                is_known_G[place[new]] = True
            bold = batch.bold_BWV.float().cpu()
            for window, scan in enumerate(batch.windows.scan.tolist()):
                start, n = batch.windows.start[window], batch.windows.length[window]
                row = torch.from_numpy(self._row_ST[scan, start : start + n])
                fit = int(self._fit_S[scan])
                target = of_fit[fit]
                target.bold_NV[row, target.units[fit]] = bold[window, :n, : n_units[fit]]
        assert films_GF is not None
        return films_GF, targets

    def _targets(self, n_units: list[int]) -> list[Target]:
        """Return targets without BOLD yet."""
        groups: dict[bytes, list[int]] = {}
        for fit, places in self._places.items():
            groups.setdefault(places.tobytes(), []).append(fit)
        targets = []
        for fits in groups.values():
            edges = np.cumsum([0, *(n_units[fit] for fit in fits)]).tolist()
            place_N, scan_N = self._places[fits[0]], self._scans[fits[0]]
            of_films = self._stimulus_S[scan_N], place_N - self._first_S[scan_N]
            units = {fit: slice(edges[i], edges[i + 1]) for i, fit in enumerate(fits)}
            bold_NV = torch.zeros(len(place_N), edges[-1])
            targets.append(Target(place_N, *of_films, scan_N, units, bold_NV))
        return targets

"""Array: numbers of the user's own, per TR or at times of their own; one part per name."""

from __future__ import annotations

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.array_file import ArrayFile, read_array
from giblet_ray.features.resample import Resampling, resample
from giblet_ray.parts.part import FilmFiles, Made, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class ArrayConfig(Group):
    """An array that the user brings."""

    resampling: Resampling = "mean"
    """mean: over the samples in each TR; nearest: the sample nearest the TR's middle."""


class Array(Part):
    """values_TD, float32: T TRs, D numbers, from a file of the part's own name."""

    kind = "array"
    libraries = ("h5py", "numpy", "pyarrow")
    from_any_second = True
    Config = ArrayConfig

    def __init__(self, name: str, settings: Group | None = None) -> None:
        super().__init__(name, settings)
        self.made_from = (name,)

    def value(self, film: FilmFiles) -> ValueType:
        _, values_TD = self._read(film)
        return ValueType(dtype="float32", shape=values_TD.shape[1:])

    def make(self, film: FilmFiles) -> Made:
        """Read the rows, or resample them; what is not used of a film's samples is counted."""
        array, values_TD = self._read(film)
        facts: dict[str, int | str] = {"rows": len(array.values_ND)}
        if array.times_N is not None:
            within = (array.times_N >= film.start_seconds) & (array.times_N < film.stop_seconds)
            facts["rows_outside_all_trs"] = int((~within).sum())
        return Made(values_TD, facts=facts)

    def _read(self, film: FilmFiles) -> tuple[ArrayFile, np.ndarray]:
        """Return what the file holds, and a row for each TR."""
        path = film.files[self.name]
        array = read_array(path)
        n_rows, n_numbers = array.values_ND.shape
        if array.times_N is not None:
            self._check_span(path, array.times_N, film)
            how = (film.n_trs, film.tr_seconds, self.settings.resampling)
            times_N = array.times_N - film.start_seconds
            return array, resample(array.values_ND, times_N, *how, where=path)
        if film.start_seconds:
            raise InputError(
                f"{path}: has no times, and a scan sees TRs that begin {film.start_seconds:g} s "
                "into the film; an array with times (s) can be cut there"
            )
        if n_rows == film.n_trs:
            return array, array.values_ND
        if n_numbers == film.n_trs:
            raise InputError(
                f"{path}: is of shape ({n_rows}, {n_numbers}), and {film.path} covers {film.n_trs} "
                "TRs: it seems transposed; (TRs, numbers) is expected"
            )
        raise InputError(
            f"{path}: has {n_rows} rows and no times, and {film.path} covers {film.n_trs} TRs of "
            f"{film.tr_seconds:g} s; one row per TR is expected, or times (s)"
        )

    def _check_span(self, path: str, times_N: np.ndarray, film: FilmFiles) -> None:
        if times_N[0] < -film.tr_seconds or times_N[-1] > film.seconds + film.tr_seconds:
            raise InputError(
                f"{path}: its samples lie between {times_N[0]:g} and {times_N[-1]:g} s, and "
                f"{film.path} lasts {film.seconds:g} s; times are seconds from the film's start, "
                "within a TR of it: do they belong together? Cut what is not of the film"
            )

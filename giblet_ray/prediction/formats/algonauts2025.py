"""The submission to the Algonauts challenge of 2025: predicted BOLD of 1,000 parcels.

::

    friends_s7.zip
      friends_s7.npy     pickled dict {"sub-01": {"s07e01a": float32 (samples, 1000), ...}, ...}

How many samples (BOLD TRs) each subject's response to each film has is said by the challenge's own
files, ``sub-01_friends-s7_fmri_samples.npy``: a pickled dict {"s07e01a": 460, ...} of each subject.
"""

from __future__ import annotations

import operator
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from giblet_ray.errors import InputError, nearest, one_line
from giblet_ray.names import checked_name
from giblet_ray.prediction.file_format import FileFormat, Wanted, Whole
from giblet_ray.prediction.numpy_pickle import read_dict, write_dict

N_PARCELS = 1000
SUBJECTS = ("01", "02", "03", "05")
"""Whose responses the challenge asks for."""
_PREFIX = "sub-"
_SUBJECT = re.compile(r"(?<![A-Za-z0-9])sub-([A-Za-z0-9]+)")


class Format(FileFormat):
    """See the module's text."""

    ending = ".zip"

    def wanted(self, samples: Sequence[str]) -> Wanted:
        """See :meth:`FileFormat.wanted`; ``sub-01`` is the subject 01."""
        found: dict[str, dict[str, int]] = {}
        for file in samples:
            match = _SUBJECT.search(Path(file).name)
            if match is None:
                raise InputError(
                    f"--samples {file}: its name does not tell whose it is, as in "
                    "sub-01_friends-s7_fmri_samples.npy"
                )
            subject = checked_name(match[1], f"--samples {file}: subject")
            if subject in found:
                raise InputError(
                    f"--samples {file}: is the second file of sub-{subject}; a submission is of "
                    "the films of one, Friends or out of distribution"
                )
            found[subject] = read_samples(file)
        return found

    def notes(self, wanted: Wanted) -> list[str]:
        """See :meth:`FileFormat.notes`."""
        lacking = [f"{_PREFIX}{subject}" for subject in SUBJECTS if subject not in wanted]
        if not lacking:
            return []
        asked = ", ".join(f"{_PREFIX}{subject}" for subject in SUBJECTS)
        return [f"the challenge asks for {asked}; there are no samples of {', '.join(lacking)}"]

    def check_units(self, subject: str, n_units: int) -> None:
        """See :meth:`FileFormat.check_units`."""
        if n_units != N_PARCELS:
            raise InputError(
                f"--format algonauts2025: subject {subject} has {n_units:,} units in the model's "
                f"data set; the challenge's {N_PARCELS:,} parcels are accepted"
            )

    def write(self, stream: IO[bytes], stem: str, predicted: Whole, wanted: Wanted) -> None:
        """See :meth:`FileFormat.write`."""
        content = {f"{_PREFIX}{subject}": dict(films) for subject, films in predicted.items()}
        check_submission(content, wanted)
        # Without a time of its own, so that the same predictions are the same file.
        entry = zipfile.ZipInfo(f"{stem}.npy")
        entry.compress_type = zipfile.ZIP_DEFLATED
        with (
            zipfile.ZipFile(stream, "w") as archive,
            archive.open(entry, "w", force_zip64=True) as file,
        ):
            write_dict(file, content)


def read_samples(file: str) -> dict[str, int]:
    """Read how many samples a subject's response to each film has.

    Raises
    ------
    InputError
        If the file cannot be read, or is no pickled dict of numbers, 1 or more, by names.
    """
    where = f"--samples {file}"
    try:
        with Path(file).open("rb") as stream:
            content = read_dict(stream, where)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from error
    samples: dict[str, int] = {}
    for name, value in content.items():
        try:
            n = operator.index(value.item() if isinstance(value, np.ndarray) else value)
        except (TypeError, ValueError):
            n = 0
        if not isinstance(name, str) or n < 1:
            raise InputError(
                f"{where}: says {name!r}: {value!r}; names of films, and numbers of samples from 1 "
                "on, are accepted"
            )
        samples[name] = n
    if not samples:
        raise InputError(f"{where}: names no film")
    return samples


def read_submission(file: str) -> dict[str, dict[str, np.ndarray]]:
    """Read a submission, running nothing that stands in it: {``sub-01``: {film: (samples, P)}}.

    Raises
    ------
    InputError
        If it is no .zip of exactly one .npy, which holds a pickled dict of dicts of arrays.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if len(names) != 1 or not names[0].endswith(".npy"):
                raise InputError(f"{file}: holds {', '.join(names)}; exactly one .npy is expected")
            with archive.open(names[0]) as stream:
                content = read_dict(stream, f"{file}: {names[0]}")
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: is no .zip that can be read: {one_line(error)}") from error
    for subject, films in content.items():
        if not isinstance(films, dict) or not all(
            isinstance(bold, np.ndarray) for bold in films.values()
        ):
            raise InputError(f"{file}: {subject}: is no dictionary of arrays")
    return content


def check_submission(content: Mapping[str, Mapping[str, Any]], wanted: Wanted) -> None:
    """Make sure that a submission is what the challenge's server accepts.

    Parameters
    ----------
    content : mapping
        Predictions by ``sub-01`` and film.
    wanted : mapping
        Samples by subject (01) and film: :meth:`Format.wanted`.

    Raises
    ------
    InputError
        For a subject or film that is missing or too many, an array of other shape or type than
        (samples, 1000) float32, and a value that is not finite.
    """
    _same_names("submission", content, [f"{_PREFIX}{subject}" for subject in wanted])
    for subject, films in wanted.items():
        of_subject = content[f"{_PREFIX}{subject}"]
        _same_names(f"submission: sub-{subject}", of_subject, list(films))
        for film, n in films.items():
            bold, where = of_subject[film], f"submission: sub-{subject}: {film}"
            if bold.shape != (n, N_PARCELS) or bold.dtype != np.float32:
                raise InputError(
                    f"{where}: is {bold.dtype} {bold.shape}; float32 ({n}, {N_PARCELS}) is accepted"
                )
            if not np.isfinite(bold).all():
                raise InputError(f"{where}: holds a value that is not finite")


def _same_names(where: str, found: Mapping[str, Any], expected: Sequence[str]) -> None:
    for name in expected:
        if name not in found:
            raise InputError(f"{where}: has no {name}; {', '.join(expected)} are expected")
    for name in found:
        if name not in expected:
            raise InputError(f"{where}: {name!r} is too many{nearest(str(name), list(expected))}")

"""The official score of the Algonauts challenge of 2025, of a submission against scans.

    python recipes/algonauts2025/score.py --scans fmri/sub-*/func/*_bold.h5 \\
        --films recipes/algonauts2025/train.yaml --samples held_samples
    python recipes/algonauts2025/score.py --scans fmri/sub-*/func/*_bold.h5 \\
        --submission predicted/held.zip

Takes the challenge's scans. The first command says how many samples those of some films have, in
files like the challenge's own, for jobs/predict.py; the second scores what that wrote.

Of each run the first and last five samples are left out. The episodes of Friends are joined, of
other films the parts of each; Pearson's r of each parcel over the samples that are joined; then the
mean over parcels, over films, over subjects (the challenge's 01_test_encoding.py and
01_test_encoding_ood.py). The r of what is constant is not a number, nor then is the score.

Shapes: T samples, P parcels.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import yaml

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.source import matching_files, split_source
from giblet_ray.prediction.formats.algonauts2025 import read_submission
from giblet_ray.prediction.numpy_pickle import write_dict

N_CUT = 5
"""Samples at the start and end of each run that are not scored."""
FRIENDS = "friends"


class Key(NamedTuple):
    """A scan's file, and its data set there."""

    file: str
    key: str


Bold = Mapping[str, Mapping[str, np.ndarray]]
"""(T, P) of each film part, by ``sub-01``."""
Scores = dict[str, dict[str, np.ndarray]]
"""r of each parcel (P,), by ``sub-01`` and film."""


def film_of(part: str) -> str:
    """Return what a part is joined to: Friends, or its film (wot1: wot)."""
    return FRIENDS if re.fullmatch(r"s\d+e\d+[a-z]", part) else part.rstrip("0123456789")


def parcel_scores(predicted: Bold, measured: Bold) -> Scores:
    """Return r of each parcel, by subject and film.

    Parameters
    ----------
    predicted, measured : mapping
        The same parts of the same films, of each subject.

    Raises
    ------
    InputError
        If a part is not in both, or of other shapes.
    """
    scores: Scores = {}
    for subject, parts in predicted.items():
        joined: dict[str, list[str]] = {}
        for part in parts:
            if part not in measured.get(subject, {}):
                raise InputError(f"there is no scan of {subject} watching {part}")
            shapes = parts[part].shape, measured[subject][part].shape
            if shapes[0] != shapes[1]:
                raise InputError(
                    f"{subject}: {part}: {shapes[0]} is predicted, and the scan is {shapes[1]}"
                )
            joined.setdefault(film_of(part), []).append(part)
        scores[subject] = {
            film: pearson(
                *(
                    np.concatenate([of[part][N_CUT:-N_CUT] for part in names])
                    for of in (parts, measured[subject])
                )
            )
            for film, names in joined.items()
        }
    return scores


def pearson(one_TP: np.ndarray, other_TP: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each column; NaN where one of the two is constant."""
    pair = []
    for values in (one_TP, other_TP):
        constant_P = (values == values[:1]).all(axis=0)
        centred_TP = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        length_P = np.where(constant_P, np.nan, np.linalg.norm(centred_TP, axis=0))
        pair.append(centred_TP / length_P)
    r_P: np.ndarray = (pair[0] * pair[1]).sum(axis=0)
    return r_P


def official_score(scores: Scores) -> float:
    """Return the mean over parcels, then films, then subjects; NaN if one r is none."""
    of_subjects = [np.mean([r_P.mean() for r_P in films.values()]) for films in scores.values()]
    return float(np.mean(of_subjects))


def in_words(scores: Scores) -> list[str]:
    """Return a line per subject and film, and the score."""
    lines, films = [], [(subject, *of) for subject, each in scores.items() for of in each.items()]
    for subject, film, r_P in films:
        constant = int(np.isnan(r_P).sum())
        rest = f"; {constant} of {len(r_P)} parcels are constant, and have no r" * (constant > 0)
        mean = np.nanmean(r_P) if constant < len(r_P) else np.nan
        lines.append(f"{subject}  {film}  mean r {mean:.4f}{rest}")
    lines.append(f"official score: {official_score(scores):.4f}")
    if any(np.isnan(r_P).any() for _, _, r_P in films):
        left = {s: {f: r_P[~np.isnan(r_P)] for f, r_P in of.items()} for s, of in scores.items()}
        lines.append(f"without the parcels that have no r: {official_score(left):.4f}")
    return lines


def scans_of(files: Iterable[str], is_wanted: Callable[[str], bool]) -> dict[str, dict[str, Key]]:
    """Return file and key of each scan of some film parts, by subject and part.

    Raises
    ------
    InputError
        For a file that is not named after a subject or cannot be read, and two scans of one part.
    """
    found: dict[str, dict[str, Key]] = {}
    for file in files:
        whose = re.search(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+", Path(file).name)
        if whose is None:
            raise InputError(f"--scans {file}: its name does not tell whose they are, as sub-01_")
        parts = found.setdefault(whose[0], {})
        try:
            with h5py.File(split_source(file)[0]) as scans:
                keys = list(scans)
        except OSError as error:
            raise InputError(f"--scans {file}: cannot be read: {one_line(error)}") from error
        for key in keys:
            task = re.search(r"task-([A-Za-z0-9]+)", key)
            if task is None or not is_wanted(task[1]):
                continue
            if task[1] in parts:
                raise InputError(f"--scans {file}: {key} is the second scan of {task[1]}")
            parts[task[1]] = Key(file, key)
    return found


def read_scans(files: Iterable[str], predicted: Bold) -> dict[str, dict[str, np.ndarray]]:
    """Read the scans of the parts that are predicted, as far as they are there."""
    names = {part for parts in predicted.values() for part in parts}
    found: dict[str, dict[str, np.ndarray]] = {}
    for subject, parts in scans_of(files, names.__contains__).items():
        for part, (file, key) in parts.items():
            with h5py.File(file) as scans:
                found.setdefault(subject, {})[part] = scans[key][()]
    return found


def write_samples(files: Iterable[str], films: Sequence[str], folder: Path) -> list[str]:
    """Write how many samples the scans of some parts have, a file per subject; say which.

    Parameters
    ----------
    files : iterable of str
        The scans.
    films : sequence of str
        Names of parts, or the .yaml of a training, whose test stimuli are meant.
    folder : Path
        Where to.

    Raises
    ------
    InputError
        If a subject has no scan of them, or nobody has of one.
    """
    names, given = {name for film in films for name in _named(film)}, f"--films {' '.join(films)}"
    found = scans_of(files, names.__contains__)
    if unseen := sorted(names.difference(*found.values())):
        raise InputError(f"{given}: there is no scan of {', '.join(unseen)}")
    for subject, parts in found.items():
        if not parts:
            raise InputError(f"{given}: {subject} has no scan of them")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for subject, parts in found.items():
        samples: dict[str, int] = {}
        for part, (file, key) in parts.items():
            with h5py.File(file) as scans:
                samples[part] = len(scans[key])
        out = folder / f"{subject}_held_fmri_samples.npy"
        with out.open("wb") as stream:
            write_dict(stream, samples)
        lacking = sorted(names - parts.keys())
        rest = f"; no scan of {', '.join(lacking)}" if lacking else ""
        lines.append(f"{out}: {sum(samples.values())} samples of {len(samples)} runs{rest}")
    return lines


def _named(film: str) -> list[str]:
    if not film.endswith(".yaml"):
        return [film]
    try:
        return list(yaml.safe_load(Path(film).read_text())["data"]["split"]["test_stimuli"])
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"--films {film}: has no data.split.test_stimuli") from error


def main(words: Sequence[str] | None = None) -> list[str]:
    """Read the command line; return what there is to say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", nargs="+", required=True, help="the challenge's .h5 files")
    parser.add_argument("--submission", help="the .zip of jobs/predict.py --format algonauts2025")
    parser.add_argument(
        "--films",
        nargs="+",
        help="film parts, or the .yaml of a training whose test_stimuli are meant",
    )
    parser.add_argument("--samples", type=Path, help="folder that sample files are written in")
    given: Any = parser.parse_args(words)
    scans = matching_files(given.scans, "--scans")
    if given.submission is not None:
        predicted = read_submission(given.submission)
        return in_words(parcel_scores(predicted, read_scans(scans, predicted)))
    if not (given.films and given.samples):
        raise InputError("--submission, or --films and --samples, are needed")
    return write_samples(scans, given.films, given.samples)


if __name__ == "__main__":
    try:
        print("\n".join(main()))
    except InputError as error:
        sys.exit(f"error: {error}")

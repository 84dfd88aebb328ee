"""A scan's path, and its key in a file of many -> whose it is, of which stimulus, which time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from giblet_ray.errors import InputError

DEFAULT_SCAN_PATTERN = "sub-{subject}"
"""The subject as BIDS names it, anywhere in the file's name."""

_PLACEHOLDERS = ("subject", "stimulus", "repeat")
_WORD = "[A-Za-z0-9]+"


def scan_name(
    path: str | Path, pattern: str = DEFAULT_SCAN_PATTERN, stimuli: Sequence[str] = ()
) -> dict[str, str]:
    """Read from a scan's path whose it is, of which stimulus, and which time they saw it.

    ``{subject}`` and ``{repeat}`` stand for a whole run of letters and digits, ``{stimulus}`` for
    the name of one, ``*`` for anything within a name. The pattern is found anywhere in the file's
    name; where it begins with a placeholder, the name begins there too. A pattern with ``/`` is
    compared with as many of the path's last parts; a placeholder that is there twice has the same
    value. What follows ``::`` in a pattern is found anywhere in the name of a data set of an HDF5
    file; without it, that name tells nothing.

    Parameters
    ----------
    path : str or Path
        The scan, ``file.h5::key`` of several in a file.
    pattern : str
        Where its name tells what.
    stimuli : sequence of str
        Names of the stimuli that there are.

    Examples
    --------
    >>> scan_name("out/sub-07_task-film_1_bold.nii", "sub-{subject}_task-{stimulus}_", ["film_1"])
    {'subject': '07', 'stimulus': 'film_1'}
    >>> scan_name("scans/anna/2.npy", "{subject}/{repeat}.npy")
    {'subject': 'anna', 'repeat': '2'}
    >>> scan_name("sub-1_bold.h5::ses-2_task-film", "sub-{subject}_::task-{stimulus}", ["film"])
    {'subject': '1', 'stimulus': 'film'}

    Raises
    ------
    InputError
        The pattern has no ``{subject}`` or an unknown placeholder, or is not in the path, or only
        with a stimulus that there is not.
    """
    tail = _tail(path, pattern)
    for expression in _expressions(pattern, tuple(stimuli)):
        if match := re.search(expression, tail):
            return match.groupdict()
    raise InputError(
        f"{path}: --scan.pattern {pattern!r} is not in {tail!r}; {{subject}} and {{repeat}} "
        "stand for letters and digits, {stimulus} for a film's name without its ending"
    )


def film_name(path: str, patterns: Sequence[str]) -> str:
    """Read a stimulus's name from its film's, of which the rest is as a pattern has it.

    Parameters
    ----------
    path : str
        The film.
    patterns : sequence of str
        Of which the first that the name is like tells.

    Examples
    --------
    >>> film_name("s1/friends_s01e02a.mkv", ["friends_{stimulus}", "{stimulus}"])
    's01e02a'

    Raises
    ------
    InputError
        A pattern has no ``{stimulus}``, or the film is named as none of them.
    """
    stem = Path(path.partition("::")[0]).stem
    for pattern in patterns:
        before, placeholder, after = pattern.partition("{stimulus}")
        if not placeholder:
            raise InputError(f"--film_pattern {pattern!r}: has no {{stimulus}}, a film's own name")
        if re.fullmatch(f"{re.escape(before)}.+{re.escape(after)}", stem):
            return stem[len(before) : len(stem) - len(after)]
    accepted = ", ".join(map(repr, patterns))
    raise InputError(f"{path}: {stem!r} is not named as --film_pattern {accepted} says")


def keys_of_stimuli(
    file: str, keys: Iterable[str], pattern: str, stimuli: Sequence[str]
) -> list[str]:
    """Return the keys of a file by which, after the pattern's ``::``, it holds scans of stimuli.

    Parameters
    ----------
    file : str
        The file.
    keys : iterable of str
        Names of its data sets.
    pattern, stimuli
        As :func:`scan_name` takes them.
    """
    expression = _expressions(pattern, tuple(stimuli))[0]
    return [key for key in keys if re.search(expression, _tail(f"{file}::{key}", pattern))]


def _tail(path: str | Path, pattern: str) -> str:
    """Return what a pattern is compared with: as many of the path's last parts, and the key."""
    file, _, key = str(path).partition("::")
    of_file, separator, _ = pattern.partition("::")
    tail = "/".join(Path(file).parts[-1 - of_file.count("/") :])
    return f"{tail}::{key}" if separator and key else tail


@lru_cache(maxsize=4)
def _expressions(pattern: str, stimuli: tuple[str, ...]) -> list[str]:
    """Return what names of the stimuli that there are match, and what any names do."""
    # The longest first: of film and film_2, the second is meant where it is there.
    names = "|".join(map(re.escape, sorted(stimuli, key=len, reverse=True)))
    known = [_expression(pattern, f"(?:{names})(?![A-Za-z0-9])")] if names else []
    return [*known, _expression(pattern, _WORD)]


def _expression(pattern: str, stimulus: str) -> str:
    pieces = re.split(r"(\{[^{}]*\}|\*|::)", pattern)
    # A placeholder or word is not to begin in the middle of a longer one.
    expression = "^" if pattern.startswith("{") else r"(?<![A-Za-z0-9])"
    seen: set[str] = set()
    for index, piece in enumerate(pieces):
        name = piece[1:-1]
        if piece == "*":
            expression += "[^/]*?"
        elif piece == "::":
            expression += "[^/]*?::" + (".*?(?<![A-Za-z0-9])" if pieces[index + 1] else "")
        elif not piece.startswith("{"):
            expression += re.escape(piece)
        elif name not in _PLACEHOLDERS:
            accepted = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
            raise InputError(
                f"scan pattern {pattern!r}: placeholder {piece} is not known; accepted: {accepted}"
            )
        else:
            value = stimulus if name == "stimulus" else _WORD
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>{value})"
            seen.add(name)
    if "subject" not in seen:
        raise InputError(f"scan pattern {pattern!r} has no {{subject}}, which says whose a scan is")
    return expression

"""A scan's path -> whose it is, of which stimulus, and which time they saw it."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    value.

    Parameters
    ----------
    path : str or Path
        The scan.
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

    Raises
    ------
    InputError
        The pattern has no ``{subject}`` or an unknown placeholder, or is not in the path, or only
        with a stimulus that there is not.
    """
    file = str(path).partition("::")[0]
    tail = "/".join(Path(file).parts[-1 - pattern.count("/") :])
    # The longest first: of film and film_2, the second is meant where it is there.
    names = "|".join(map(re.escape, sorted(stimuli, key=len, reverse=True)))
    if names and (match := re.search(_expression(pattern, f"(?:{names})(?![A-Za-z0-9])"), tail)):
        return match.groupdict()
    if (match := re.search(_expression(pattern, _WORD), tail)) is None:
        raise InputError(
            f"{path}: --scan.pattern {pattern!r} is not in {tail!r}; {{subject}} and {{repeat}} "
            "stand for letters and digits, {stimulus} for a film's name without its ending"
        )
    return match.groupdict()


def _expression(pattern: str, stimulus: str) -> str:
    pieces = re.split(r"(\{[^{}]*\}|\*)", pattern)
    # A placeholder or word is not to begin in the middle of a longer one.
    expression = "^" if pattern.startswith("{") else r"(?<![A-Za-z0-9])"
    seen: set[str] = set()
    for piece in pieces:
        name = piece[1:-1]
        if piece == "*":
            expression += "[^/]*?"
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

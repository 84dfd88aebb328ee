"""A scan's path -> whose it is, and of which stimulus."""

from __future__ import annotations

import re
from pathlib import Path

from giblet_ray.errors import InputError

DEFAULT_SCAN_PATTERN = "sub-{subject}"
"""The subject as BIDS names it, anywhere in the file's name."""


def scan_name(path: str | Path, pattern: str = DEFAULT_SCAN_PATTERN) -> dict[str, str]:
    """Read from a scan's path whose it is, and of which stimulus.

    ``{subject}`` and ``{stimulus}`` stand for a whole run of letters and digits, ``*`` for
    anything within a name. The pattern is found anywhere in the file's name; where it begins
    with a placeholder, the name begins there too. A pattern with ``/`` is compared with as many
    of the path's last parts; a placeholder that is there twice has the same value.

    Examples
    --------
    >>> scan_name("out/sub-07_task-film_bold.nii.gz", "sub-{subject}_task-{stimulus}_bold")
    {'subject': '07', 'stimulus': 'film'}
    >>> scan_name("scans/anna/film.npy", "{subject}/{stimulus}.npy")
    {'subject': 'anna', 'stimulus': 'film'}

    Raises
    ------
    InputError
        The pattern has no ``{subject}`` or an unknown placeholder, or is not in the path.
    """
    expression = _scan_expression(pattern)
    file = str(path).partition("::")[0]
    tail = "/".join(Path(file).parts[-1 - pattern.count("/") :])
    match = re.search(expression, tail)
    if match is None:
        raise InputError(
            f"{path}: --scan.pattern {pattern!r} is not in {tail!r}; {{subject}} and {{stimulus}} "
            "stand for letters and digits"
        )
    return match.groupdict()


def _scan_expression(pattern: str) -> str:
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
        elif name not in ("subject", "stimulus"):
            raise InputError(
                f"scan pattern {pattern!r}: placeholder {piece} is not known; accepted: "
                "{subject}, {stimulus}"
            )
        else:
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[A-Za-z0-9]+)"
            seen.add(name)
    if "subject" not in seen:
        raise InputError(f"scan pattern {pattern!r} has no {{subject}}, which says whose a scan is")
    return expression

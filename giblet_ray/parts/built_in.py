"""Every part that is built in, and those of a user's own, by kind and by modality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from giblet_ray.errors import InputError, nearest
from giblet_ray.parts.array import Array
from giblet_ray.parts.codes import Codes
from giblet_ray.parts.frames import Frames
from giblet_ray.parts.mel import Mel
from giblet_ray.parts.motion_energy import MotionEnergy
from giblet_ray.parts.part import Part
from giblet_ray.parts.pretrained import Pretrained
from giblet_ray.parts.sound import Sound
from giblet_ray.parts.text import Text
from giblet_ray.plugins import is_import_path, load_object

BUILT_IN: dict[str, type[Part]] = {
    part.kind: part for part in (Frames, Codes, Mel, Sound, MotionEnergy, Text, Array, Pretrained)
}

SPOKEN = frozenset(kind for kind, part in BUILT_IN.items() if part.zero_is_silence)
"""Kinds of parts in which a row of zeros is a TR in which nothing is said."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAKEN = {"bold", "exists", "film", "phase", "stimulus", "subject", "tr", "training"}
"""Names that stand for something else beside the parts: in files, tables, batches and models."""


def find_part(kind: str, packages: Iterable[str], where: str) -> type[Part]:
    """Return the part of a kind: one that is built in, or one of the user's own.

    Parameters
    ----------
    kind : str
        Such as ``codes``, or ``my_lab.gaze:Gaze``.
    packages : iterable of str
        Packages that may be imported; see :mod:`giblet_ray.plugins`.
    where : str
        Setting or record that the kind stands in, for messages.

    Raises
    ------
    InputError
        If there is no such part, or its package may not be or cannot be imported.
    """
    if not is_import_path(kind):
        if kind not in BUILT_IN:
            raise InputError(
                f"{where} {kind!r}: no such part{nearest(kind, list(BUILT_IN))}; "
                f"{', '.join(BUILT_IN)}, or a path such as my_lab.gaze:Gaze, are accepted"
            )
        return BUILT_IN[kind]
    part = load_object(kind, packages, where)
    if not (isinstance(part, type) and issubclass(part, Part)):
        raise InputError(f"{where} {kind}: is no part; a subclass of Part is accepted")
    return part


def checked_part_name(name: str, where: str) -> str:
    """Return the name of a part of the user's own, if nothing else is called so.

    Raises
    ------
    InputError
        If it holds anything but letters, digits and underscores, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where} {name!r}: letters, digits and '_', a letter first, are accepted in the name "
            "of a part"
        )
    taken = _TAKEN | BUILT_IN.keys() | {part.modality for part in BUILT_IN.values()}
    if name in taken:
        raise InputError(f"{where} {name!r}: the name is taken; give the part another")
    return name


def parts_of(
    modalities: Sequence[str], form: str, kinds: Mapping[str, str], where: str
) -> dict[str, str]:
    """Find what each modality is read from.

    Parameters
    ----------
    modalities : sequence of str
        As ``data.modalities`` has them: video, audio, text, or a part's own name.
    form : str
        Which part is read where several are of one modality: ``data.audio``.
    kinds : mapping of str to str
        Kind of every part of the data set, by its name.
    where : str
        The data set, for messages.

    Returns
    -------
    dict of str to str
        The part's name by modality, in the order of the modalities.

    Raises
    ------
    InputError
        If the data set has no such part.
    """
    of: dict[str, str] = {}
    for name, kind in kinds.items():
        part = BUILT_IN.get(kind)
        if part is None or not part.modality:
            of[name] = name
        elif not part.form or part.form == form:
            of[part.modality] = name
    for modality in modalities:
        if modality not in of:
            has = ", ".join(of) or "nothing"
            formed = any(part.form and part.modality == modality for part in BUILT_IN.values())
            asked = f"{modality} (--data.audio {form})" if formed else repr(modality)
            raise InputError(
                f"--data.modalities: {asked} is not in {where}{nearest(modality, list(of))}; "
                f"it has {has}"
            )
    return {modality: of[modality] for modality in modalities}

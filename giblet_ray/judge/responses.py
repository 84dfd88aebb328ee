"""What a run's model has learned of each unit's haemodynamic response, where it has any to read."""

from __future__ import annotations

from collections.abc import Iterable

from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.multimodal.responses import LearnedResponses, learned_responses


def responses_of(opened: OpenedRun, subjects: Iterable[str]) -> dict[str, LearnedResponses]:
    """Return the responses of some subjects' units; none of a model without.

    Those of subjects who share a head are the same, and read once.

    Raises
    ------
    InputError
        If the weights cannot be read.
    """
    settings = opened.checkpoint.record.config["model"]
    if settings.get("memory") != "hrf" or settings.get("head") not in ("linear", "low_rank"):
        return {}
    encoder = opened.load()
    model = encoder.model
    if not isinstance(model, Multimodal):  # one of a lab's own, which calls its settings alike
        return {}
    heads = {subject: encoder.subject_index(subject) for subject in subjects}
    of_heads = {head: learned_responses(model, head) for head in set(heads.values())}
    return {subject: of_heads[head] for subject, head in heads.items()}

"""What a run's model has learned of each unit's haemodynamic response, where it has any to read."""

from __future__ import annotations

from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.multimodal.responses import LearnedResponses, learned_responses


def responses_of(opened: OpenedRun) -> dict[str, LearnedResponses]:
    """Return the responses of each subject's units; none of a model without.

    Those of subjects who share a head are the same.

    Raises
    ------
    InputError
        If the weights cannot be read.
    """
    settings = opened.checkpoint.record.config["model"]
    if settings.get("memory") != "hrf" or settings.get("head") not in ("linear", "low_rank"):
        return {}
    encoder, tr_seconds = opened.load(), opened.checkpoint.record.dataset.tr_seconds
    model = encoder.model
    if not isinstance(model, Multimodal):  # one of a lab's own, which calls its settings alike
        return {}
    return {
        subject: learned_responses(model, tr_seconds, encoder.subject_index(subject))
        for subject in encoder.shapes.subjects
    }

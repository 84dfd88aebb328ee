"""A small model with a head for each subject, for tests of subjects whose units differ."""

import torch
from pydantic import Field
from torch import nn

from giblet_ray.models.predictor import GROUP, Predictor


class Heads(Predictor):
    """A trunk for all, and a head for each subject; with one for nobody in particular if asked."""

    class Settings(Predictor.Settings):
        """Linear layers over vectors."""

        width: int = Field(8, ge=1)
        """Length of the trunk's output."""
        group: bool = False
        """Whether there is a head for the group."""
        normalised: bool = False
        """Whether the trunk ends with BatchNorm, and drops some of it out."""
        context: int = Field(0, ge=0)
        """TRs before a window that the trunk adds up."""

        @property
        def head_per_subject(self):
            return True

        def context_trs(self, tr_seconds):
            return self.context

    tells_subjects_apart = True
    head_modules = ("heads", "of_group")

    def __init__(self, settings, shapes):
        super().__init__(settings, shapes)
        length = sum(shapes.values[part].shape[0] for part in shapes.parts)
        self.trunk = nn.Sequential(nn.Linear(length, settings.width), nn.LayerNorm(settings.width))
        if settings.normalised:
            self.trunk.extend([nn.BatchNorm1d(settings.width), nn.Dropout(0.2)])
        self.heads = nn.ModuleList(nn.Linear(settings.width, n) for n in shapes.units.values())
        self.has_group_head = settings.group
        self.of_group = nn.Linear(settings.width, shapes.shared_units) if settings.group else None

    def forward(self, values, exists, subject):
        rows = torch.cat([values[part] for part in self.parts], dim=2)
        encoded = self.trunk(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]) * exists[:, :, None]
        n = rows.shape[1] - self.context_trs
        encoded = sum(encoded[:, delay : delay + n] for delay in range(self.context_trs + 1))
        return {
            index: (self.of_group if index == GROUP else self.heads[index])(
                encoded[subject == index]
            )
            for index in subject.unique().tolist()
        }

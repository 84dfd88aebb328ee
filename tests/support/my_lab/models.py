import torch
from pydantic import Field
from torch import nn

from giblet_ray.models.predictor import Predictor, by_subject


class Gru(Predictor):
    class Settings(Predictor.Settings):
        """A recurrent network over vectors."""

        hidden: int = Field(64, ge=1)
        """Length of its state."""

    def __init__(self, settings, shapes):
        super().__init__(settings, shapes)
        length = sum(shapes.values[part].shape[0] for part in shapes.parts)
        self.gru = nn.GRU(length, settings.hidden, batch_first=True)
        self.head = nn.Linear(settings.hidden, shapes.shared_units)

    def forward(self, values, exists, subject):
        rows = torch.cat([values[part] for part in self.parts], dim=2)
        states, _ = self.gru(rows * exists[:, :, None])
        return by_subject(self.head(states[:, self.context_trs :]), subject)

from pydantic import Field
from torch.nn.functional import huber_loss

from giblet_ray.training.loss import Loss


class Huber(Loss):
    class Settings(Loss.Settings):
        """Squared where the error is small, linear where it is large."""

        delta: float = Field(1.0, gt=0)
        """Where it changes (standard deviations of BOLD)."""

    def forward(self, prediction, target, mask):
        error = huber_loss(prediction, target, reduction="none", delta=self.settings.delta)
        return (error * mask).sum() / mask.sum()

"""Models that are fitted at once, not step by step, such as ridge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.windows import Windows
from giblet_ray.models.config import FittedSettings, ModelSettings
from giblet_ray.models.predictor import Predictor
from giblet_ray.progress import Show


@dataclass(frozen=True)
class Samples:
    """Some windows of scans, C TRs of the stimulus before each.

    Attributes
    ----------
    windows : Windows
        Which TRs of which scans.
    inputs : dict of str to Tensor
        (B, C + W, *shape) of each part, as a model is given them.
    exists, lacking
        As :meth:`giblet_ray.models.predictor.Predictor.forward` is given them.
    bold_BWV : Tensor
        z-scored BOLD; 0 for units that do not count in the subject.
    """

    windows: Windows
    inputs: dict[str, Tensor]
    exists: Tensor
    bold_BWV: Tensor
    lacking: dict[str, Tensor] = field(default_factory=dict)


class TrainingTrs(Protocol):
    """The TRs that a model may learn from, and no others.

    Attributes
    ----------
    scans : sequence of ScanKey
        What a window's scan index means.
    windows : Windows
        The training TRs.
    lacking : mapping of str to sequence of str
        Stimuli without rows of a part, by the parts that some lack.
    """

    scans: Sequence[ScanKey]
    windows: Windows
    lacking: Mapping[str, Sequence[str]]

    def read(self, windows: Windows) -> Iterator[Samples]:
        """Read some of the windows, a batch at a time; their tensors last until the next."""

    def blob(self, part: str, name: str) -> bytes:
        """Read a file that the data set keeps beside a part's rows; InputError if it has none."""


class FittedPredictor(Predictor):
    """A model that finds its own weights, in one go.

    Attributes
    ----------
    Settings : type of FittedSettings
        Its settings.
    """

    Settings: ClassVar[type[ModelSettings]] = FittedSettings

    @abstractmethod
    def fit(self, training: TrainingTrs, show: Show) -> None:
        """Find the weights.

        Parameters
        ----------
        training : TrainingTrs
            What is learned from.
        show : Show

        Raises
        ------
        InputError
            If they cannot be learned from.
        """

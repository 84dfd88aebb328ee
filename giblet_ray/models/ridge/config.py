"""Settings of ridge regression."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from giblet_ray.dataset.config import HRF_SECONDS
from giblet_ray.models.config import FittedSettings


class RidgeConfig(FittedSettings):
    """Ridge or banded ridge over delayed vectors of each part, fitted at once (himalaya)."""

    # Delays are counted from the BOLD.
    fixed: ClassVar[dict[str, dict[str, Any]]] = {
        "data": {"lag_seconds": 0.0},
        "train": {"epochs": 1},
    }

    kind: str = "ridge"
    """ridge, or another model."""
    solver: Literal["banded", "ridge"] = "banded"
    """banded: each unit weighs the parts as suits it, found by random search; ridge: all alike."""
    subjects: Literal["each", "shared"] = "each"
    """each: every subject is fitted for itself; shared: one fit to the BOLD of all of them."""
    delays_seconds: tuple[
        Annotated[float, Field(ge=0)],
        Annotated[float, Field(ge=0)],
    ] = (0.0, 12.0)
    """First and last delay of BOLD behind the stimulus (s), each TR between them has weights of its
    own: a finite impulse response."""
    components: dict[str, Annotated[int, Field(ge=1)]] = Field({})
    """Principal components of a part, by its name: text=100 (default: 20 of pictures, and 20
    of their motion where a TR has several, 40 of all else; vectors of at most 256 numbers are taken
    as they are). Numbers count by how much they vary: z-score those of several units before."""
    codes: Literal["counts", "codebooks"] = "counts"
    """What a TR's codes become, before components: counts, how often each occurs; codebooks, the
    mean over its frames of what EnCodec reads them as, the sum of its codebooks' own vectors."""
    alphas: tuple[
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(gt=0)],
    ] = (1e-2, 1e5)
    """Least and largest regularisation that is tried, where the vectors of a part have a variance
    of 1 in all."""
    n_alphas: int = Field(15, ge=1)
    """Values between them, evenly on a logarithmic scale; each unit takes the best."""
    n_iter: int = Field(50, ge=1)
    """Weightings of the parts that banded ridge tries; the first weighs all alike."""
    folds: int = Field(5, ge=2)
    """Stretches of the training TRs that alphas and weightings are chosen by, each predicted from
    the others."""
    fold_gap_seconds: float = Field(HRF_SECONDS, ge=0)
    """Seconds left out on either side of such a stretch."""
    seed: int = Field(0, ge=0)
    """Seed of the weightings."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name, accepted in (("delays_seconds", "0,12"), ("alphas", "1e-2,1e5")):
            low, high = getattr(self, name)
            if high < low:
                raise ValueError(
                    f"{name} is {low:g},{high:g}; a rising pair is accepted: {accepted}"
                )
        return self

    @property
    def films_may_lack_parts(self) -> bool:
        """See :attr:`ModelSettings.films_may_lack_parts`."""
        return True

    @property
    def head_per_subject(self) -> bool:
        """See :attr:`FittedSettings.head_per_subject`."""
        return self.subjects == "each"

    def delays(self, tr_seconds: float) -> range:
        """Return the delays in TRs."""
        first, last = (round(seconds / tr_seconds) for seconds in self.delays_seconds)
        return range(first, last + 1)

    def context_trs(self, tr_seconds: float) -> int:
        """See :meth:`FittedSettings.context_trs`: the longest delay."""
        return self.delays(tr_seconds)[-1]

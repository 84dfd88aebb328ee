"""What happens when in the demo film: three independent series of scenes.

Pictures, sound and words each change at times of their own, so that no modality can stand in for
another. Each series draws from a small set of kinds that keep coming back, so that any stretch of
the film that is held out resembles stretches that are not:

    pictures | night, crowd 1  | desert, crowd 3 | night, crowd 0 | ...
    sound    | loud, low   | quiet, high    | loud, high | ...
    words      | harbour        | (silence)  | kitchen          | ...
             0 s             12 s              25 s             ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Long beside the haemodynamic response (about 6 s wide): a scene's BOLD reaches its level before
# the scene ends, so that one TR of film says most of what there is to know about the BOLD.
SHORTEST_SCENE_SECONDS = 9.0
LONGEST_SCENE_SECONDS = 15.0

# Short beside it: what happens at this pace is smeared, and no one TR of film tells it.
SHORTEST_STEP_SECONDS, LONGEST_STEP_SECONDS = 1.5, 4.0


@dataclass(frozen=True)
class Scene:
    """A stretch [start_seconds, end_seconds) of the film during which a series shows one kind."""

    start_seconds: float
    end_seconds: float
    kind: int


def draw_scenes(duration_seconds: float, n_kinds: int, rng: np.random.Generator) -> list[Scene]:
    """Fill a duration with scenes, whose kinds come in shuffled rounds.

    Every round of ``n_kinds`` scenes shows each kind once, and no kind follows itself.

    Parameters
    ----------
    duration_seconds : float
        Length of the film; the last scene is cut there.
    n_kinds : int
        Number of kinds, at least two.
    rng : numpy.random.Generator
        Where order and lengths are drawn from.

    Returns
    -------
    list of Scene
        In order, without gaps, from 0 to ``duration_seconds``.
    """
    scenes: list[Scene] = []
    start_seconds = 0.0
    while True:
        kinds = rng.permutation(n_kinds)
        if scenes and kinds[0] == scenes[-1].kind:
            kinds = np.roll(kinds, 1)
        for kind in kinds:
            length_seconds = rng.uniform(SHORTEST_SCENE_SECONDS, LONGEST_SCENE_SECONDS)
            end_seconds = min(start_seconds + length_seconds, duration_seconds)
            scenes.append(Scene(start_seconds, end_seconds, int(kind)))
            if end_seconds == duration_seconds:
                return scenes
            start_seconds = end_seconds


@dataclass(frozen=True)
class Steps:
    """A level that jumps several times within a scene: level i holds until ends_seconds[i]."""

    ends_seconds: np.ndarray
    levels: np.ndarray

    def at(self, seconds: Any) -> Any:
        """Return the level at a time, or at many, in [0, 1]."""
        step = np.searchsorted(self.ends_seconds, seconds, side="right")
        return self.levels[np.minimum(step, len(self.levels) - 1)]


def draw_steps(duration_seconds: float, rng: np.random.Generator) -> Steps:
    """Fill a duration with steps, of any level and of 1.5 to 4 s each."""
    n_steps = int(duration_seconds / SHORTEST_STEP_SECONDS) + 1
    lengths_seconds = rng.uniform(SHORTEST_STEP_SECONDS, LONGEST_STEP_SECONDS, n_steps)
    return Steps(np.cumsum(lengths_seconds), rng.uniform(size=n_steps))


def balanced_pairs() -> tuple[tuple[int, int], ...]:
    """Eight of the sixteen pairs of two four-level scales, with the scales uncorrelated.

    Fewer kinds come back more often; uncorrelated scales stay two things to learn.
    """
    return ((0, 1), (0, 2), (1, 0), (1, 3), (2, 0), (2, 3), (3, 1), (3, 2))

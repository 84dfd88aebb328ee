"""The demo film's pictures: crowds of shapes drifting over places of differing brightness.

The place sets the luminance, the crowd the motion. Both can be told from a single still: a fast
crowd is many small shapes with long trails, a slow one a few big ones, each in a colour of its own.

H, W : height and width in pixels. Frames are drawn as planar YCbCr 4:2:0, as film stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from giblet_ray.demo.script import Scene, balanced_pairs

WIDTH, HEIGHT = 320, 180
FRAMES_PER_SECOND = 12

# Fraction of full luma by which shapes are lighter or darker than the place they drift over.
_CONTRAST = 0.2
_TRAIL_SHADES = 3
# Luma breathes slowly within a scene, by this fraction of full luma.
_BREATH, _BREATH_SECONDS = 0.015, 7.0


@dataclass(frozen=True)
class Place:
    """A background: mean luma in [0, 1] and a hue angle in the CbCr plane, in degrees."""

    luma: float
    hue_degrees: float


@dataclass(frozen=True)
class Crowd:
    """Shapes of one size and speed: count per layer, radius in pixels, speed in pixels/frame."""

    count: int
    radius_pixels: float
    speed_pixels: float
    hue_degrees: float


PLACES = (Place(0.25, 10.0), Place(0.42, 300.0), Place(0.58, 220.0), Place(0.75, 150.0))
CROWDS = (
    Crowd(count=3, radius_pixels=30.0, speed_pixels=0.7, hue_degrees=20.0),
    Crowd(count=7, radius_pixels=17.0, speed_pixels=3.5, hue_degrees=200.0),
    Crowd(count=14, radius_pixels=11.0, speed_pixels=5.0, hue_degrees=290.0),
    Crowd(count=28, radius_pixels=7.0, speed_pixels=6.0, hue_degrees=110.0),
)
KINDS = balanced_pairs()


def draw_frames(
    scenes: list[Scene],
    n_frames: int,
    rng: np.random.Generator,
    light: Callable[[float], float] = lambda seconds: 0.0,
) -> Iterator[np.ndarray]:
    """Draw the film's frames one after another.

    Parameters
    ----------
    scenes : list of Scene
        Whose kinds index ``KINDS``: pairs (place, crowd).
    n_frames : int
        Frames to draw; frame i is shown at ``i / FRAMES_PER_SECOND`` seconds.
    rng : numpy.random.Generator
        Where the shapes' positions and directions are drawn from.
    light : callable
        From seconds to the luma that is added to all of the picture, as a fraction of full luma.

    Yields
    ------
    numpy.ndarray, uint8, (HEIGHT * 3 // 2, WIDTH)
        One yuv420p frame: the Y plane, then Cb and Cr, as PyAV takes it.
    """
    frame = 0
    for scene in scenes:
        place_index, crowd_index = KINDS[scene.kind]
        place, crowd = PLACES[place_index], CROWDS[crowd_index]
        # Two layers drift in opposite directions, one lighter and one darker than the place, so
        # that a crowd moves much and changes the mean luma little.
        angle = rng.uniform(-0.5, 0.5)
        drift = crowd.speed_pixels * np.array([np.sin(angle), np.cos(angle)])
        layers = [_draw_layer(crowd, drift, rng), _draw_layer(crowd, -drift, rng)]
        first_frame = frame
        while frame < n_frames and frame < scene.end_seconds * FRAMES_PER_SECOND:
            elapsed_frames = frame - first_frame
            shade_HW = np.broadcast_to(np.arange(HEIGHT, dtype=np.uint8)[:, None], (HEIGHT, WIDTH))
            for number, (layer_HW, sign) in enumerate(zip(layers, (1, -1), strict=True)):
                shift = np.rint(sign * drift * elapsed_frames).astype(int)
                moved_HW = np.roll(layer_HW, (shift[0] % HEIGHT, shift[1] % WIDTH), axis=(0, 1))
                first_shade = HEIGHT - 1 + number * _TRAIL_SHADES
                shade_HW = np.where(moved_HW > 0, moved_HW + np.uint8(first_shade), shade_HW)
            breath = np.sin(2 * np.pi * frame / (_BREATH_SECONDS * FRAMES_PER_SECOND))
            lighter = _BREATH * breath + light(frame / FRAMES_PER_SECOND)
            yield _colour(shade_HW, _palette(place, crowd, lighter))
            frame += 1


def _draw_layer(crowd: Crowd, drift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shapes on a torus, uint8 (H, W): 0 outside, 1 for the far end of a trail, 3 for a shape."""
    layer_HW = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    y_H1, x_1W = np.ogrid[:HEIGHT, :WIDTH]
    for centre_y, centre_x in rng.uniform(size=(crowd.count, 2)) * (HEIGHT, WIDTH):
        for shade in range(1, _TRAIL_SHADES + 1):
            behind = (_TRAIL_SHADES - shade) * drift
            dy_H1 = (y_H1 - centre_y + behind[0] + HEIGHT / 2) % HEIGHT - HEIGHT / 2
            dx_1W = (x_1W - centre_x + behind[1] + WIDTH / 2) % WIDTH - WIDTH / 2
            inside_HW = dy_H1**2 + dx_1W**2 < crowd.radius_pixels**2
            layer_HW[inside_HW] = np.maximum(layer_HW[inside_HW], shade)
    return layer_HW


def _palette(place: Place, crowd: Crowd, lighter: float) -> np.ndarray:
    """YCbCr of every shade, uint8 (HEIGHT + 2 * _TRAIL_SHADES, 3), in television range.

    Shades below HEIGHT are the background's rows; then the lighter layer's, then the darker's.
    """
    luma_row = place.luma + 0.05 * np.linspace(1.0, -1.0, HEIGHT)
    strength = np.linspace(1 / _TRAIL_SHADES, 1.0, _TRAIL_SHADES)
    luma_shape = place.luma + _CONTRAST * np.concatenate([strength, -strength])
    luma = np.clip(np.concatenate([luma_row, luma_shape]) + lighter, 0.0, 1.0)
    hue = np.radians([place.hue_degrees] * HEIGHT + [crowd.hue_degrees] * 2 * _TRAIL_SHADES)
    chroma = np.concatenate([np.full(HEIGHT, 25.0), 70.0 * strength, 70.0 * strength])
    ycbcr = [16 + 219 * luma, 128 + chroma * np.cos(hue), 128 + chroma * np.sin(hue)]
    return np.rint(np.stack(ycbcr, axis=1)).astype(np.uint8)


def _colour(shade_HW: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Look shades up in a palette; chroma at half the resolution, planes stacked by rows."""
    half = shade_HW[::2, ::2]
    planes = [palette[:, 0][shade_HW], palette[:, 1][half], palette[:, 2][half]]
    return np.concatenate([plane.reshape(-1, WIDTH) for plane in planes])

"""What a synthetic sequence shows: a sky, hills with trees, drones, birds, and poles in front of them."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.image import Image
from fred_trainer.data.synth.conditions import Light
from fred_trainer.data.synth.flights import Bird, Flight

_Plane = npt.NDArray[np.float32]
_POLE: Final = (52, 58, 62)
"""Blue, green, red."""


def _noise(rng: np.random.Generator, width: int, height: int, cells: tuple[int, int]) -> _Plane:
    """(H, W) smooth noise of about -1 to 1."""
    coarse = rng.normal(0, 0.5, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _colour(blue: float, green: float, red: float) -> _Plane:
    return np.array((blue, green, red), dtype=np.float32)


def draw_scene(
    rng: np.random.Generator, width: int, height: int, *, light: Light
) -> tuple[Image, npt.NDArray[np.intp]]:
    """(H, W, 3) uint8 without drones, and (W,) the row at which the trees begin."""
    dusk = light == "dusk"
    zenith, horizon, cloud = (
        ((96, 62, 48), (110, 150, 212), (128, 110, 128)) if dusk else ((214, 150, 92), (236, 220, 200), (246, 244, 242))
    )
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 1.3
    sky = _colour(*zenith) * (1 - down) + _colour(*horizon) * down
    cover = _noise(rng, width, height, (5, 7)) + 0.5 * _noise(rng, width, height, (12, 20))
    cover = (np.asarray(cover, dtype=np.float32) * 0.6 - 0.05).clip(0, 0.75)[:, :, None]
    sky = sky * (1 - cover) + _colour(*cloud) * cover
    hills = 0.82 + 0.05 * _noise(rng, width, 1, (1, 6))[0] + 0.02 * _noise(rng, width, 1, (1, 90))[0]
    tree_line = (hills * height).astype(np.intp)
    leaves = 1 + 0.35 * _noise(rng, width, height, (height // 5, width // 5))
    trees = (_colour(30, 42, 34) if dusk else _colour(38, 74, 58)) * leaves[:, :, None]
    below = np.arange(height)[:, None] >= tree_line
    return np.where(below[:, :, None], trees, sky).clip(0, 255).astype(np.uint8), tree_line


def draw_glare(rng: np.random.Generator, width: int, height: int) -> Image:
    """(H, W, 3) uint8 to be added to an RGB image: the sun and the light around it."""
    x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.05, 0.55) * height
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(columns - x, rows - y) / width
    level = 255 * np.exp(-((distance / rng.uniform(0.07, 0.14)) ** 2)) + 70 * np.exp(-distance / 0.25)
    return np.asarray(np.repeat(level.clip(0, 255)[:, :, None], 3, axis=2), dtype=np.uint8)


def make_pole(rng: np.random.Generator, width: int, height: int) -> Box:
    """A pole in front of everything, down to the ground."""
    x, wide = rng.uniform(0.25, 0.75) * width, max(2.0, rng.uniform(0.006, 0.02) * width)
    return float(round(x)), float(round(rng.uniform(0, 0.3) * height)), float(round(x + wide)), float(height)


def hidden_share(box: Box, pole: Box | None) -> float:
    """Of `box`, 0 to 1."""
    if pole is None:
        return 0.0
    wide = max(0.0, min(box[2], pole[2]) - max(box[0], pole[0]))
    high = max(0.0, min(box[3], pole[3]) - max(box[1], pole[1]))
    return wide * high / ((box[2] - box[0]) * (box[3] - box[1]))


def draw_frame(
    scene: Image, flights: list[Flight], birds: list[Bird], pole: Box | None, time_s: float
) -> tuple[Image, list[Box]]:
    """The scene at `time_s`, and the boxes of the drones in px, which may lie outside."""
    image = scene.copy()
    height, width = image.shape[:2]
    for bird in birds:
        _draw_bird(image, bird, time_s)
    boxes = []
    for flight in flights:
        x, y, size, roll = flight.at(time_s)
        centre = (x * width, y * height)
        boxes.append(_draw_drone(image, centre, size=size, roll=roll, tint=flight.tint, turn=flight.rotor * time_s))
    if pole is not None:
        left, top, right, bottom = map(int, pole)
        image[top:bottom, left:right] = _POLE
    return image, boxes


def _draw_bird(image: Image, bird: Bird, time_s: float) -> None:
    """A body and two wings, dark."""
    height, width = image.shape[:2]
    x, y, beat = bird.at(time_s)
    fine = 4  # bits of a pixel's fraction
    across, up = bird.span_px / 2, bird.span_px * 0.3 * beat
    points = np.array(
        [[x * width - across, y * height - up], [x * width, y * height], [x * width + across, y * height - up]]
    )
    thick = max(1, round(bird.span_px / 9))
    cv2.polylines(image, [(points * 2**fine).round().astype(np.int32)], False, (44, 46, 50), thick, cv2.LINE_AA, fine)


def _draw_drone(image: Image, centre: tuple[float, float], *, size: float, roll: float, tint: int, turn: float) -> Box:
    """Draw a quadcopter `size` px wide around `centre`, tilted by `roll`; the box is what it covers, to whole px."""
    x, y = centre
    fine = 4  # drawn so much larger and averaged down: edges at fractions of a pixel
    side = int(np.ceil(size * 1.3)) + 4
    left, top = int(np.floor(x - side / 2)), int(np.floor(y - side / 2))
    solid = np.zeros((side * fine, side * fine), np.uint8)
    blades = np.zeros_like(solid)
    unit = size * fine
    cos, sin = np.cos(roll), np.sin(roll)

    def point(across: float, up: float) -> tuple[int, int]:
        """Of the airframe, in shares of its width, y downwards."""
        return (
            round(float((x - left) * fine + unit * (across * cos - up * sin))),
            round(float((y - top) * fine + unit * (across * sin + up * cos))),
        )

    def axes(wide: float, high: float) -> tuple[int, int]:
        return max(1, round(unit * wide)), max(1, round(unit * high))

    tilt = float(np.degrees(roll))
    thick = max(2, round(unit * 0.045))
    for end, rise in ((-0.38, -0.07), (0.38, -0.07), (-0.3, 0.05), (0.3, 0.05)):
        cv2.line(solid, point(0, 0), point(end, rise), 255, thick)
        cv2.line(solid, point(end, rise), point(end, rise - 0.07), 255, thick)
        wide = 0.12 * (0.45 + 0.55 * abs(float(np.cos(turn + 2 * end))))  # a blade seen at varying angles
        cv2.ellipse(blades, point(end, rise - 0.08), axes(wide, 0.018), tilt, 0, 360, 255, -1)
    cv2.ellipse(solid, point(0, 0), axes(0.17, 0.1), tilt, 0, 360, 255, -1)
    for foot in (-0.12, 0.12):
        cv2.line(solid, point(foot * 0.7, 0.05), point(foot, 0.2), 255, max(1, thick * 2 // 3))
    cover = cv2.resize(np.maximum(solid, blades // 2), (side, side), interpolation=cv2.INTER_AREA)
    columns, rows = (np.flatnonzero(cover.max(axis=axis) > 40) for axis in (0, 1))
    box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)

    height, width = image.shape[:2]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 < x2 and y1 < y2:
        share = cover[y1 - top : y2 - top, x1 - left : x2 - left, None].astype(np.float32) / 255
        patch = image[y1:y2, x1:x2]
        patch[:] = (patch * (1 - share) + _colour(tint + 6, tint + 3, tint) * share).round()
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])

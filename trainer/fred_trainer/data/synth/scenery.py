"""What the two cameras of a synthetic sequence see: a sky, a tree line, drones on their way, and the events of it."""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.image import Image

Scenery = Literal["day", "several", "night", "fast", "empty", "hover"]
SCENERIES: Final[tuple[Scenery, ...]] = get_args(Scenery)
"""`night`: RGB nearly black; `fast`: tens of pixels a frame; `empty`: no drone for half of the time; `hover`: hardly
any events."""
_Plane = npt.NDArray[np.float32]

_THRESHOLD: Final = 0.15
"""Change of log intensity that makes an event: within the usual settings of event cameras."""
_NOISE: Final = 3e-4
"""Share of pixels with a stray event in one frame."""
_POSITIVE, _NEGATIVE = (255, 255, 255), (201, 126, 64)
"""Blue, green, red: white and blue, as in Prophesee's dark rendering, here on black."""


@dataclass(frozen=True)
class Flight:
    """The path of one drone: two slow swings, in shares of the picture; the size in px."""

    centre: tuple[float, float]
    swing: tuple[float, float]
    pace: tuple[float, float]
    """Radians a second."""
    phase: tuple[float, float]
    size_px: float
    tint: int
    rotor: float
    """Radians a second of the slow apparent turn of the rotors."""
    steady: bool = False
    """Neither nearer nor farther."""
    starts_s: float = 0.0
    """Until then it stays where it is at first."""

    def at(self, time_s: float) -> tuple[float, float, float, float]:
        """Centre x and y in shares of width and height, size in px, roll in radians."""
        flown_s = max(0.0, time_s - self.starts_s)
        angle_x, angle_y = (pace * flown_s + phase for pace, phase in zip(self.pace, self.phase, strict=True))
        x = self.centre[0] + self.swing[0] * np.sin(angle_x)
        y = self.centre[1] + self.swing[1] * np.sin(angle_y)
        size = self.size_px * (1 + (0.0 if self.steady else 0.2 * np.sin(0.7 * angle_x + angle_y)))
        return float(x), float(y), float(size), float(0.25 * np.cos(angle_x))


def _flight(rng: np.random.Generator, width: int, *, enters: bool) -> Flight:
    """`enters`: the drone is out of the picture at first and comes in from the left."""
    size = float(rng.uniform(31, 92)) * width / 1280  # 24 to 110 px at 1280
    centre = (0.5, float(rng.uniform(0.3, 0.45)))
    swing = (float(rng.uniform(0.25, 0.42)), float(rng.uniform(0.08, 0.2)))
    pace = (float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.8, 2.0)))
    phase = (float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi)))
    if enters:
        swing = (0.65, swing[1])
        phase = (-float(np.arcsin((0.52 + size / width / 2) / swing[0])), phase[1])
    return Flight(centre, swing, pace, phase, size, int(rng.integers(20, 60)), float(rng.uniform(9, 21)))


def make_flights(rng: np.random.Generator, width: int, scenery: Scenery, *, half_s: float) -> list[Flight]:
    """`half_s`: half of the sequence."""
    flights = [_flight(rng, width, enters=scenery == "empty") for _ in range(2 if scenery == "several" else 1)]
    first = flights[0]
    match scenery:
        case "fast":
            return [replace(first, pace=(4 * first.pace[0], 3 * first.pace[1]))]
        case "hover":
            return [replace(first, swing=(0.0015, 0.002), rotor=0.0, steady=True)]
        case "empty":
            return [replace(first, starts_s=half_s)]
    return flights


def _noise(rng: np.random.Generator, width: int, height: int, cells: tuple[int, int]) -> _Plane:
    """(H, W) smooth noise of about -1 to 1."""
    coarse = rng.normal(0, 0.5, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _colour(blue: float, green: float, red: float) -> _Plane:
    return np.array((blue, green, red), dtype=np.float32)


def draw_scene(rng: np.random.Generator, width: int, height: int, *, dusk: bool) -> tuple[Image, npt.NDArray[np.intp]]:
    """(H, W, 3) uint8 without drones, and (W,) the row at which the trees begin."""
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


def draw_drones(scene: Image, flights: list[Flight], time_s: float) -> tuple[Image, list[Box]]:
    """The scene with the drones in it, and their boxes in px, which may lie outside."""
    image = scene.copy()
    height, width = image.shape[:2]
    boxes = []
    for flight in flights:
        x, y, size, roll = flight.at(time_s)
        centre = (x * width, y * height)
        boxes.append(_draw_drone(image, centre, size=size, roll=roll, tint=flight.tint, turn=flight.rotor * time_s))
    return image, boxes


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


def make_events(rng: np.random.Generator, before: Image, after: Image, tree_line: npt.NDArray[np.intp]) -> Image:
    """(H, W, 3) uint8: log intensity changed from one noiseless frame to the next; stray events, moving leaves."""
    height, width = after.shape[:2]
    frame = np.zeros((height, width, 3), np.uint8)
    changed = cv2.boundingRect(cv2.absdiff(before[:, :, 1], after[:, :, 1]))
    left, top, wide, high = changed
    if wide and high:
        window = np.s_[top : top + high, left : left + wide]
        old, new = (np.log(image[window][:, :, 1].astype(np.float32) + 8) for image in (before, after))
        seen = rng.random((high, wide), dtype=np.float32) < 0.93  # no camera reports every change
        frame[window][seen & (new - old > _THRESHOLD)] = _POSITIVE
        frame[window][seen & (old - new > _THRESHOLD)] = _NEGATIVE
    stray = rng.poisson(_NOISE * width * height)
    rows, columns = rng.integers(0, height, stray), rng.integers(0, width, stray)
    leaf_columns = rng.integers(0, width, stray // 2)
    rows = np.concatenate([rows, tree_line[leaf_columns].clip(0, height - 9) + rng.integers(0, 9, stray // 2)])
    columns = np.concatenate([columns, leaf_columns])
    frame[rows, columns] = np.where(rng.random((len(rows), 1)) < 0.5, _POSITIVE, _NEGATIVE)
    return frame

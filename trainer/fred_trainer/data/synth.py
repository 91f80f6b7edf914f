"""Synthetic sequences in FRED's published layouts: a sky, a tree line, and drones that both cameras see."""

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.errors import DataError
from fred_trainer.data.image import Image
from fred_trainer.data.published import TEST_SEQUENCES
from fred_trainer.data.sequences import EVENT_PERIOD_US

Layout = Literal["hf", "drive"]
_Plane = npt.NDArray[np.float32]

_MODELS: Final = ("DJI Mini 2", "DarwinFPV cineape20 ", "Betafpv air75", "DJI Tello EDU")
"""As FRED writes them, one with its trailing space."""
_PADDING: Final = 0.02
"""Share of the width that is black at either side of an RGB image: there only the event camera sees the drone."""
_VISIBLE: Final = 0.3
"""A drone is annotated while this share of its box is in the picture."""
_THRESHOLD: Final = 0.15
"""Change of log intensity that makes an event: within the usual settings of event cameras."""
_NOISE: Final = 3e-4
"""Share of pixels with a stray event in one frame."""
_POSITIVE, _NEGATIVE = (255, 255, 255), (201, 126, 64)
"""Blue, green, red: white and blue, as in Prophesee's dark rendering, here on black."""
_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 88]
_FASTEST: Final = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def write_sequences(
    root: Path,
    *,
    sequences: int = 5,
    frames: int = 40,
    seed: int = 0,
    layout: Layout = "hf",
    width: int = 1280,
    height: int = 720,
    test_sequences: int = 0,
) -> None:
    """Write `sequences` of `frames` pairs each, and `test_sequences` more, `width` x `height` px.

    `hf` writes `root/train/<n>/` and `root/test/<n>/` like the Hugging Face release, `drive` `root/<n>/` like the
    Drive release. The same arguments give the same files. Nothing is overwritten, and `root` appears only when
    complete. Raises DataError when `root` is there and not an empty folder or on impossible numbers; OSError when it
    cannot be written.
    """
    if sequences + test_sequences < 1 or min(sequences, test_sequences) < 0 or frames < 1 or min(width, height) < 64:
        raise DataError("cannot make up a data set: needs one sequence, one frame and images of 64 x 64 px at least")
    if layout == "drive" and test_sequences:
        raise DataError("the Drive layout does not tell test sequences apart: leave test_sequences at 0")
    root = root.resolve()
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} holds something already and nothing is overwritten: name a new or empty folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    beside = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    try:
        for number, subset in _numbers(sequences, test_sequences):
            _write_sequence(
                beside / ("" if layout == "drive" else subset) / str(number),
                number=number,
                frames=frames,
                seed=seed,
                layout=layout,
                width=width,
                height=height,
            )
        os.rename(beside, root)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _numbers(train: int, test: int) -> Iterator[tuple[int, Literal["train", "test"]]]:
    """Sequence numbers as the published canonical split has them, lowest first."""
    of_test = TEST_SEQUENCES["canonical"]
    yield from itertools.islice(((number, "train") for number in itertools.count() if number not in of_test), train)
    yield from itertools.islice(((number, "test") for number in sorted(of_test)), test)


@dataclass(frozen=True)
class _Flight:
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

    def at(self, time_s: float) -> tuple[float, float, float, float]:
        """Centre x and y in shares of width and height, size in px, roll in radians."""
        angle_x, angle_y = (pace * time_s + phase for pace, phase in zip(self.pace, self.phase, strict=True))
        x = self.centre[0] + self.swing[0] * np.sin(angle_x)
        y = self.centre[1] + self.swing[1] * np.sin(angle_y)
        size = self.size_px * (1 + 0.2 * np.sin(0.7 * angle_x + angle_y))
        return float(x), float(y), float(size), float(0.25 * np.cos(angle_x))


def _flight(rng: np.random.Generator, width: int, *, enters: bool) -> _Flight:
    """`enters`: the drone is out of the picture at first and comes in from the left."""
    size = float(rng.uniform(31, 92)) * width / 1280  # 24 to 110 px at 1280
    centre = (0.5, float(rng.uniform(0.3, 0.45)))
    swing = (float(rng.uniform(0.25, 0.42)), float(rng.uniform(0.08, 0.2)))
    pace = (float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.8, 2.0)))
    phase = (float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi)))
    if enters:
        swing = (0.65, swing[1])
        phase = (-float(np.arcsin((0.52 + size / width / 2) / swing[0])), phase[1])
    return _Flight(centre, swing, pace, phase, size, int(rng.integers(20, 60)), float(rng.uniform(9, 21)))


def _write_sequence(
    folder: Path, *, number: int, frames: int, seed: int, layout: Layout, width: int, height: int
) -> None:
    rng = np.random.default_rng((seed, number))
    dusk = number % 3 == 2
    flights = [_flight(rng, width, enters=number % 4 == 3)]
    if number % 4 == 1:
        flights.append(_flight(rng, width, enters=False))
    scene, tree_line = _scene(rng, width, height, dusk=dusk)
    grain = rng.normal(0, 1.6, (height + 64, width + 64, 1)).repeat(3, axis=2)  # of the sensor
    brighter, darker = (np.asarray(sign.clip(0, 255).round(), dtype=np.uint8) for sign in (grain, -grain))

    drive = layout == "drive"
    rgb_folder, event_folder = folder / ("PADDED_RGB" if drive else "RGB"), folder / "Event" / "Frames"
    for place in (rgb_folder, event_folder, *([folder / "RGB"] if drive else [])):
        place.mkdir(parents=True)
    padding = round(width * _PADDING)
    wall_clock_s = 10 * 3600 + 1777 * number + float(rng.uniform(0, 60))
    word = "frame_" if number % 2 == 0 else ""
    full, visible = [], []
    before, _ = _drones(scene, flights, 0.0)
    for frame in range(1, frames + 1):
        time_s = frame * FRAME_PERIOD_S
        clean, boxes = _drones(scene, flights, time_s)
        for drone, box in enumerate(boxes, 1):
            who = f"{drone}, {_MODELS[number % len(_MODELS)]}"
            full += _lines(frame, who, box, padding=0, width=width, height=height)
            visible += _lines(frame, who, box, padding=padding, width=width, height=height)
        top, left = rng.integers(0, 64, 2)
        window = np.s_[top : top + height, left : left + width]
        rgb = np.asarray(cv2.subtract(cv2.add(clean, brighter[window]), darker[window]), dtype=np.uint8)
        wall_clock_s += float(rng.uniform(0.033288, 0.033400)) + (0.0067 if rng.random() < 0.02 else 0.0)
        hours, minutes, seconds = int(wall_clock_s // 3600), int(wall_clock_s // 60 % 60), wall_clock_s % 60
        name = f"Video_{number}_{hours:02d}_{minutes:02d}_{seconds:09.6f}.jpg"
        if drive:
            _write(folder / "RGB" / name, rgb[:, padding : width - padding], _QUALITY)
        rgb[:, :padding] = 0
        rgb[:, width - padding :] = 0
        _write(rgb_folder / name, rgb, _QUALITY)
        events = _events(rng, before, clean, tree_line)
        _write(event_folder / f"Video_{number}_{word}{frame * EVENT_PERIOD_US}.png", events, _FASTEST)
        before = clean
    if drive:
        first = [line.replace(line.split(":")[0], "0.0", 1) for line in full if line.startswith("0.033333:")]
        _write_lines(folder / "coordinates.txt", [",".join(line.split(",")[:4]) for line in first + full])
        _write_lines(folder / "interpolated_coordinates.txt", [_with_float_id(line) for line in full])
    else:
        _write_lines(folder / "coordinates.txt", full)
        _write_lines(folder / "coordinates_rgb.txt", visible)


def _write(path: Path, image: Image, options: list[int]) -> None:
    done, encoded = cv2.imencode(path.suffix, image, options)
    assert done, path
    path.write_bytes(encoded.tobytes())  # raises on a full disk, where cv2.imwrite only returns False


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(frame: int, who: str, box: Box, *, padding: int, width: int, height: int) -> list[str]:
    """The annotation of one drone, or none where too little of it is between the paddings.

    Without padding a box may cross the border, as thousands do in FRED; with, it is cut.
    """
    x1, y1, x2, y2 = box
    left, right = max(x1, padding), min(x2, width - padding)
    inside = max(0.0, right - left) * max(0.0, min(y2, height) - max(y1, 0))
    if inside < _VISIBLE * (x2 - x1) * (y2 - y1):
        return []
    x1, x2 = (left, right) if padding else (x1, x2)
    return [f"{round(frame * FRAME_PERIOD_S, 6)}: {x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}, {who}"]


def _with_float_id(line: str) -> str:
    fields = line.split(", ")
    return ", ".join([*fields[:4], f"{float(fields[4])}"])


def _noise(rng: np.random.Generator, width: int, height: int, cells: tuple[int, int]) -> _Plane:
    """(H, W) smooth noise of about -1 to 1."""
    coarse = rng.normal(0, 0.5, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _colour(blue: float, green: float, red: float) -> _Plane:
    return np.array((blue, green, red), dtype=np.float32)


def _scene(rng: np.random.Generator, width: int, height: int, *, dusk: bool) -> tuple[Image, npt.NDArray[np.intp]]:
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


def _drones(scene: Image, flights: list[_Flight], time_s: float) -> tuple[Image, list[Box]]:
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


def _events(rng: np.random.Generator, before: Image, after: Image, tree_line: npt.NDArray[np.intp]) -> Image:
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

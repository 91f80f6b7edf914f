"""Synthetic sequences in FRED's published layouts: a sky, a tree line, and drones that both cameras see."""

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from itertools import count, cycle, islice
from pathlib import Path
from typing import Final, Literal, get_args

import cv2
import numpy as np

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.flights_file import FLIGHTS_FILE
from fred_trainer.data.read.frame_numbers import EVENT_PERIOD_US
from fred_trainer.data.read.image import Image
from fred_trainer.data.read.published import TEST_SEQUENCES
from fred_trainer.data.synth.conditions import (
    DRONE_PX,
    SCENERIES,
    FlightConditions,
    Scenery,
    as_csv,
    draw_conditions,
    second_size,
)
from fred_trainer.data.synth.events import make_events
from fred_trainer.data.synth.flights import make_birds, make_flights
from fred_trainer.data.synth.scenery import draw_frame, draw_glare, draw_scene, hidden_share, make_pole

Layout = Literal["hf", "zip", "drive"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

_MODELS: Final = ("DJI Mini 2", "DarwinFPV cineape20 ", "Betafpv air75", "DJI Tello EDU")
"""As FRED writes them, one with its trailing space."""
_PADDING: Final = 0.02
"""Share of the width that is black at either side of an RGB image: there only the event camera sees the drone."""
_EXPOSURES: Final = 5
"""Instants that a blurred RGB image is the mean of."""
_VISIBLE: Final = 0.3
"""A drone is annotated while this share of its box is in the picture."""
_NIGHT: Final = (np.arange(256) * 0.016).round().astype(np.uint8)
"""What a thirtieth of a second of night leaves of a level; the event camera sees ratios, and therefore all of it."""
_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 88]
_FASTEST: Final = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def write_sequences(
    root: Path,
    *,
    sequences: int = 6,
    frames: int = 33,
    seed: int = 0,
    layout: Layout = "hf",
    width: int = 1280,
    height: int = 720,
    test_sequences: int = 0,
    sceneries: Sequence[Scenery] = SCENERIES,
    drone_px: tuple[float, float] | None = None,
) -> None:
    """Write `sequences` of `frames` pairs each, and `test_sequences` more, `width` x `height` px.

    `hf` writes `root/train/<n>/` and `root/test/<n>/` like the Hugging Face release once unpacked, `zip` the archives
    of that release, `drive` `root/<n>/` like the Drive release. Numbers are those that the canonical split has for
    training and for testing. The sequences take `sceneries` in turn; light, distance, blur, noise,
    poles, birds and leaves are drawn for each on their own (`conditions`) and written to `root/flights.csv`.
    `drone_px`: least and largest size of a drone at a width of 1280 px; None: as in FRED, where 74 % are under 32 px.
    The same arguments give the same files. Nothing
    is overwritten, and `root` appears only when complete. Raises DataError when `root` is there and not an empty folder
    or on impossible numbers; OSError when it cannot be written.
    """
    if sequences + test_sequences < 1 or min(sequences, test_sequences) < 0 or frames < 1 or min(width, height) < 64:
        raise DataError("cannot make up a data set: needs one sequence, one frame and images of 64 x 64 px at least")
    if layout == "drive" and test_sequences:
        raise DataError("the Drive layout does not tell test sequences apart: leave test_sequences at 0")
    unknown = [name for name in sceneries if name not in SCENERIES]
    if unknown or not sceneries:
        raise DataError(
            "no scenery {there}: there are {sceneries}",
            there=", ".join(map(repr, unknown)),
            sceneries=", ".join(SCENERIES),
        )
    if drone_px is not None and not DRONE_PX[0] <= drone_px[0] <= drone_px[1] <= 2 * DRONE_PX[1]:
        raise DataError(
            "no drones of {least:g} to {most:g} px: from 8 to 220 px, the smaller first",
            least=drone_px[0],
            most=drone_px[1],
        )
    root = root.resolve()
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(
            "{root} holds something already and nothing is overwritten: name a new or empty folder", root=root
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    written: list[FlightConditions] = []
    beside = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    try:
        for scenery, (number, subset) in zip(cycle(sceneries), _numbers(sequences, test_sequences), strict=False):
            folder = beside / ("" if layout == "drive" else subset) / str(number)
            conditions = draw_conditions(seed, number, scenery, subset=subset, width=width, drone_px=drone_px)
            sizes_px = (conditions.drone_px, second_size(seed, number, width, drone_px))[: conditions.drones]
            _write_sequence(
                folder,
                conditions,
                frames=frames,
                seed=seed,
                layout=layout,
                width=width,
                height=height,
                sizes_px=sizes_px,
            )
            if layout == "zip":
                _zip(folder)
            written.append(conditions)
        (beside / FLIGHTS_FILE).write_text(as_csv(written), encoding="utf-8")
        os.rename(beside, root)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _numbers(train: int, test: int) -> Iterator[tuple[int, Literal["train", "test"]]]:
    """Sequence numbers as the published canonical split has them, lowest first."""
    of_test = TEST_SEQUENCES["canonical"]
    yield from islice(((number, "train") for number in count() if number not in of_test), train)
    yield from islice(((number, "test") for number in sorted(of_test)), test)


def _write_sequence(
    folder: Path,
    conditions: FlightConditions,
    *,
    frames: int,
    seed: int,
    layout: Layout,
    width: int,
    height: int,
    sizes_px: tuple[float, ...],
) -> None:
    number = conditions.sequence
    rng = np.random.default_rng((seed, number))
    flights = make_flights(rng, conditions, sizes_px, width, half_s=frames * FRAME_PERIOD_S / 2)
    birds = make_birds(rng, conditions.birds, width)
    pole = make_pole(rng, width, height) if conditions.occluded else None
    scene, tree_line = draw_scene(rng, width, height, light=conditions.light)
    glare = draw_glare(rng, width, height) if conditions.light == "glare" else None
    grain = rng.normal(0, conditions.grain, (height + 64, width + 64, 1)).repeat(3, axis=2)  # of the sensor
    brighter, darker = (np.asarray(sign.clip(0, 255).round(), dtype=np.uint8) for sign in (grain, -grain))

    drive = layout == "drive"
    rgb_folder, event_folder = folder / ("PADDED_RGB" if drive else "RGB"), folder / "Event" / "Frames"
    for place in (rgb_folder, event_folder, *([folder / "RGB"] if drive else [])):
        place.mkdir(parents=True)
    padding = round(width * _PADDING)
    wall_clock_s = 10 * 3600 + 1777 * number + float(rng.uniform(0, 60))
    word = "frame_" if number % 2 == 0 else ""
    full, visible = [], []
    before, _ = draw_frame(scene, flights, birds, pole, 0.0)
    for frame in range(1, frames + 1):
        time_s = frame * FRAME_PERIOD_S
        clean, boxes = draw_frame(scene, flights, birds, pole, time_s)
        for drone, box in enumerate(boxes, 1):
            who = f"{drone}, {_MODELS[number % len(_MODELS)]}"
            shown = 1 - hidden_share(box, pole)
            full += _lines(frame, who, box, padding=0, width=width, height=height, shown=shown)
            visible += _lines(frame, who, box, padding=padding, width=width, height=height, shown=shown)
        exposed = clean
        for step in range(1, _EXPOSURES if conditions.blur else 1):  # the mean of all, one after the other
            at_s = time_s - conditions.blur * FRAME_PERIOD_S * step / (_EXPOSURES - 1)
            earlier, _ = draw_frame(scene, flights, birds, pole, at_s)
            exposed = np.asarray(cv2.addWeighted(exposed, step / (step + 1), earlier, 1 / (step + 1), 0), np.uint8)
        top, left = rng.integers(0, 64, 2)
        window = np.s_[top : top + height, left : left + width]
        lit = cv2.LUT(exposed, _NIGHT) if conditions.scenery == "night" else exposed
        lit = lit if glare is None or conditions.scenery == "night" else cv2.add(lit, glare)
        rgb = np.asarray(cv2.subtract(cv2.add(lit, brighter[window]), darker[window]), dtype=np.uint8)
        wall_clock_s += float(rng.uniform(0.033288, 0.033400)) + (0.0067 if rng.random() < 0.02 else 0.0)
        hours, minutes, seconds = int(wall_clock_s // 3600), int(wall_clock_s // 60 % 60), wall_clock_s % 60
        name = f"Video_{number}_{hours:02d}_{minutes:02d}_{seconds:09.6f}.jpg"
        if drive:
            _write(folder / "RGB" / name, rgb[:, padding : width - padding], _QUALITY)
        rgb[:, :padding] = 0
        rgb[:, width - padding :] = 0
        _write(rgb_folder / name, rgb, _QUALITY)
        events = make_events(rng, before, clean, tree_line, noise=conditions.event_noise, leaves=conditions.leaves)
        _write(event_folder / f"Video_{number}_{word}{frame * EVENT_PERIOD_US}.png", events, _FASTEST)
        before = clean
    if drive:
        first = [line.replace(line.split(":")[0], "0.0", 1) for line in full if line.startswith("0.033333:")]
        _write_lines(folder / "coordinates.txt", [",".join(line.split(",")[:4]) for line in first + full])
        _write_lines(folder / "interpolated_coordinates.txt", [_with_float_id(line) for line in full])
    else:
        _write_lines(folder / "coordinates.txt", full)
        _write_lines(folder / "coordinates_rgb.txt", visible)


def _zip(folder: Path) -> None:
    """Replace `folder` by an archive with `folder` at its top, images as they are: they are compressed already."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            member = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder)}")  # without the time of day
            archive.writestr(member, path.read_bytes())
    shutil.rmtree(folder)


def _write(path: Path, image: Image, options: list[int]) -> None:
    done, encoded = cv2.imencode(path.suffix, image, options)
    assert done, path
    path.write_bytes(encoded.tobytes())  # raises on a full disk, where cv2.imwrite only returns False


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(frame: int, who: str, box: Box, *, padding: int, width: int, height: int, shown: float) -> list[str]:
    """The annotation of one drone, or none where too little of it is between the paddings and not behind a pole.

    Without padding a box may cross the border, as thousands do in FRED; with, it is cut.
    """
    x1, y1, x2, y2 = box
    left, right = max(x1, padding), min(x2, width - padding)
    inside = max(0.0, right - left) * max(0.0, min(y2, height) - max(y1, 0))
    if shown * inside < _VISIBLE * (x2 - x1) * (y2 - y1):
        return []
    x1, x2 = (left, right) if padding else (x1, x2)
    return [f"{round(frame * FRAME_PERIOD_S, 6)}: {x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}, {who}"]


def _with_float_id(line: str) -> str:
    fields = line.split(", ")
    return ", ".join([*fields[:4], f"{float(fields[4])}"])

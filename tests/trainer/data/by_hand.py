"""Sequences of real image files, written by hand so that every irregularity can be had."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 36


def rgb_name(sequence: int, frame: int, starts_s: float = 36_000.0) -> str:
    clock_s = (starts_s + frame * 0.0336) % 86_400
    return f"Video_{sequence}_{int(clock_s // 3600):02d}_{int(clock_s // 60 % 60):02d}_{clock_s % 60:09.6f}.jpg"


def line(frame: int, box: Iterable[float] = (10, 8, 30, 20)) -> str:
    x1, y1, x2, y2 = (float(side) for side in box)
    return f"{round(frame * 0.033333, 6)}: {x1}, {y1}, {x2}, {y2}, 1, DJI Mini 2\n"


def write_image(path: Path, image: np.ndarray | int = 90, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """An image, or a grey one of that level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), image, np.uint8) if isinstance(image, int) else image)
    return path


def write_sequence(
    root: Path,
    number: int = 0,
    *,
    rgb: Iterable[int] = range(1, 6),
    event: Iterable[int] = range(1, 6),
    text: str | None = None,
    word: str = "frame_",
    starts_s: float = 36_000.0,
    rgb_folder: str = "RGB",
    file: str = "coordinates.txt",
) -> Path:
    """Frames recorded at the given numbers; frame k of either stream has grey level 4 k. Annotated: 1 to 5."""
    folder = root / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    for frame in rgb:
        write_image(folder / rgb_folder / rgb_name(number, frame, starts_s), 4 * frame % 256)
    for frame in event:
        write_image(folder / "Event" / "Frames" / f"Video_{number}_{word}{33_333 * frame}.png", 4 * frame % 256)
    (folder / file).write_text("".join(map(line, range(1, 6))) if text is None else text)
    return folder

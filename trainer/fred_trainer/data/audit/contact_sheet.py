"""One picture of a data set: paired frames with their boxes, so that a wrong layout, pairing or box is seen at once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from fred_supervisor.contract.files import write_atomic
from fred_trainer.data.errors import UnreadableImageError
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.image import Image, read_image
from fred_trainer.data.read.index import Index
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.published import SplitName
from fred_trainer.data.read.source import File
from fred_trainer.data.splits import Split, roles

ROWS: Final = 12
_WIDE, _HIGH = 448, 252
"""px of a whole frame: 16 to 9."""
_CLOSE = _HIGH
"""px, side of an enlarged part."""
_MARGIN, _GAP, _HEAD, _CAPTION = 36, 10, 132, 34
_ENLARGED: Final = 3.0
"""Sides of the drone that the enlarged part is wide and high."""
_LEAST_PX: Final = 64.0
"""That the enlarged part shows of the source at least."""
_GROUND, _PANEL, _TEXT, _FAINT = "#12151a", "#1d222a", "#f0f3f6", "#8d96a0"
_BOXES: Final = ("#3fe07f", "#ffb02e", "#ff6ac1", "#57c7ff")
"""One colour a drone; each stands out from sky, trees and the black of an event frame."""
_COLUMNS: Final = ("RGB", "events", "RGB, enlarged", "events, enlarged")


def choose_pairs(index: Index, rows: int = ROWS) -> list[Pair]:
    """Annotated frames with both images if there are such, evenly over the sequences and over each of them."""
    annotated = [pair for pair in index.pairs if pair.boxes]
    usable = [pair for pair in annotated if pair.rgb is not None and pair.event is not None] or annotated
    by_sequence: dict[int, list[Pair]] = {}
    for pair in usable:
        by_sequence.setdefault(pair.sequence, []).append(pair)
    all_of = list(by_sequence.values())
    if len(all_of) > rows:
        all_of = [all_of[int((at + 0.5) * len(all_of) / rows)] for at in range(rows)]
    chosen: list[Pair] = []
    for at, pairs in enumerate(all_of):
        share = min(len(pairs), rows * (at + 1) // len(all_of) - rows * at // len(all_of))
        chosen += [pairs[int((one + 0.5) * len(pairs) / share)] for one in range(share)]
    return chosen


def draw_sheet(pairs: Sequence[Pair], *, title: str, subtitle: str, roles: dict[int, str]) -> Image:
    """(H, W, 3) uint8, blue first: a row for each of `pairs`; `roles` says of each sequence what it is used for."""
    width = 2 * _MARGIN + 2 * _WIDE + 2 * _CLOSE + 4 * _GAP
    row = _CAPTION + _HIGH + 2 * _GAP
    sheet = Pictures.new("RGB", (width, _HEAD + len(pairs) * row + _MARGIN - _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 28), title, fill=_TEXT, font=_font(30))
    draw.text((_MARGIN, 68), subtitle, fill=_FAINT, font=_font(17))
    lefts = np.cumsum([_MARGIN, _WIDE + _GAP, _WIDE + 2 * _GAP, _CLOSE + _GAP]).tolist()
    for left, name in zip(lefts, _COLUMNS, strict=True):
        draw.text((left, _HEAD - 26), name.upper(), fill=_FAINT, font=_font(13))
    for at, pair in enumerate(pairs):
        top = _HEAD + at * row
        draw.text((_MARGIN, top + 5), _caption(pair, roles), fill=_TEXT, font=_font(17))
        for camera, file in enumerate((pair.rgb, pair.event)):
            frame = _read(file)
            whole = (lefts[camera], top + _CAPTION, _WIDE, _HIGH)
            close = (lefts[camera + 2], top + _CAPTION, _CLOSE, _CLOSE)
            for place, part in ((whole, (0.0, 0.0, float(pair.width), float(pair.height))), (close, _around(pair))):
                _paste(sheet, place, frame, part, pair)
    return np.ascontiguousarray(np.asarray(sheet, dtype=np.uint8)[:, :, ::-1])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _caption(pair: Pair, roles: dict[int, str]) -> str:
    sizes = ", ".join(f"{x2 - x1:.0f} x {y2 - y1:.0f} px" for x1, y1, x2, y2 in pair.boxes)
    drones = f"{len(pair.boxes)} drone{'s' if len(pair.boxes) > 1 else ''}: {sizes}"
    time = f"{pair.frame * FRAME_PERIOD_S:.3f} s"
    return f"sequence {pair.sequence}    frame {pair.frame}    {time}    {roles.get(pair.sequence, '')}    {drones}"


def _read(file: File | None) -> Image | str:
    """The image, or why there is none."""
    if file is None:
        return "no image"
    try:
        return read_image(file)
    except UnreadableImageError:
        return "unreadable"


def _around(pair: Pair) -> Box:
    """The square of the source to enlarge: around the first drone."""
    x1, y1, x2, y2 = pair.boxes[0]
    half = max(_LEAST_PX, _ENLARGED * max(x2 - x1, y2 - y1)) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half, y - half, x + half, y + half


def _paste(sheet: Pictures.Image, place: tuple[int, int, int, int], frame: Image | str, part: Box, pair: Pair) -> None:
    """Draw `part` of `frame`, in px of the source, at `place` (left, top, width, height), with the boxes in it."""
    left, top, width, height = place
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_PANEL)
    if isinstance(frame, str):
        draw.text((left + width / 2, top + height / 2), frame, fill=_FAINT, font=_font(17), anchor="mm")
        return
    scale = width / (part[2] - part[0])
    to_place = np.array([[scale, 0, -part[0] * scale], [0, scale, -part[1] * scale]])
    if frame.shape[:2] != (pair.height, pair.width):
        to_place[:, :2] @= np.diag([pair.width / frame.shape[1], pair.height / frame.shape[0]])
    if part[0] == 0 and part[2] == pair.width:
        shown = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    else:
        edge = tuple(int(_PANEL[at : at + 2], 16) for at in (5, 3, 1))
        shown = cv2.warpAffine(frame, to_place, (width, height), flags=cv2.INTER_LINEAR, borderValue=edge)
    tile = Pictures.fromarray(np.ascontiguousarray(shown[:, :, ::-1]))
    on_tile = ImageDraw.Draw(tile)
    for drone, (x1, y1, x2, y2) in enumerate(pair.boxes):
        corners = [(x1 - part[0]) * scale, (y1 - part[1]) * scale, (x2 - part[0]) * scale, (y2 - part[1]) * scale]
        around = [corners[0] - 3, corners[1] - 3, corners[2] + 2, corners[3] + 2]  # the drone itself stays in sight
        on_tile.rectangle(np.add(around, (-1, -1, 1, 1)).tolist(), outline=_GROUND, width=1)
        on_tile.rectangle(around, outline=_BOXES[drone % len(_BOXES)], width=2)
    sheet.paste(tile, (left, top))


def write_sheet(path: Path, index: Index, split: Split | None, *, title: str, name: SplitName) -> None:
    """Draw a contact sheet into the PNG file `path`. Raises OSError, naming it, when it cannot be written."""
    role = roles(index, split, name)
    counts = Counter(role.values())
    sequences = ", ".join(
        f"{counts[what]} {what}" for what in ("train", "validation", "test", "unused") if counts[what]
    )
    boxes = sum(len(pair.boxes) for pair in index.pairs)
    subtitle = f"{len(index.pairs):,} frames    {boxes:,} boxes    sequences of the {name} split: {sequences}"
    sheet = draw_sheet(choose_pairs(index), title=title, subtitle=subtitle, roles=role)
    done, encoded = cv2.imencode(".png", sheet, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert done
    write_atomic(path, encoded.tobytes(), mode=0o644)

"""Frames with boxes on them: what RGB and event camera saw, side by side."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from torch import Tensor

from fred_trainer.data import Image

FOUND: Final = (80, 220, 255)
"""Blue, green, red: amber, which neither sky nor trees nor events are."""
TRUE: Final = (110, 220, 90)
"""Green."""
_DARK: Final = (24, 24, 24)
_PALE: Final = (235, 235, 235)
_KEY: Final = "amber: found, green: annotated"
_BAR_PX: Final = 26
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_TITLES: Final = {"rgb": "RGB", "event": "Events"}


def side_by_side(
    images: dict[str, Image],
    found: Sequence[tuple[tuple[float, float, float, float], float]],
    truth: Sequence[tuple[float, float, float, float]] = (),
    *,
    caption: str = "",
) -> Image:
    """`images` by stream ("rgb", "event"), all of one size `(H, W, 3)`, under a bar that says which is which.

    `found` are (xyxy px, score), drawn in amber with their score, `truth` are xyxy px, drawn in green: the same on
    every stream. `(H + 26, W × streams + gaps, 3)` uint8, blue, green, red.
    """
    panels: list[Image] = []
    for stream, image in images.items():
        panel = image.copy()
        for box in truth:
            _draw_box(panel, box, TRUE, margin_px=5)  # around the amber one, where they are the same
        for box, score in found:
            _draw_box(panel, box, FOUND, margin_px=1)
            _draw_score(panel, box, f"{score:.2f}")
        first, last = not panels, stream == list(images)[-1]
        words = [_TITLES[stream], caption if first else "", _KEY if last and truth else ""]
        panels.append(_under_bar(panel, "   ".join(word for word in words if word)))
        if not last:
            panels.append(np.full((panels[-1].shape[0], 4, 3), _PALE, dtype=np.uint8))
    return np.hstack(panels)


def of_canvas(image: Tensor, streams: Sequence[str]) -> dict[str, Image]:
    """The `streams` of a sample `(3·S, H, W)` uint8, each red, green, blue there."""
    planes = np.split(image.numpy().transpose(1, 2, 0), len(streams), axis=2)
    return {name: np.ascontiguousarray(plane[:, :, ::-1]) for name, plane in zip(streams, planes, strict=True)}


def _draw_box(
    panel: Image, box: tuple[float, float, float, float], colour: tuple[int, int, int], *, margin_px: int
) -> None:
    """A frame around the box, that far outside: a small drone stays in sight."""
    x1, y1, x2, y2 = (round(value) for value in box)
    corners = (x1 - margin_px - 1, y1 - margin_px - 1), (x2 + margin_px, y2 + margin_px)
    cv2.rectangle(panel, *corners, colour, 1 if panel.shape[1] < 1000 else 2)


def _draw_score(panel: Image, box: tuple[float, float, float, float], text: str) -> None:
    """Above the box, or below it where there is no room; dark on amber."""
    scale = 0.35 if panel.shape[1] < 1000 else 0.5
    (wide, high), low = cv2.getTextSize(text, _FONT, scale, 1)
    x = min(max(0, round(box[0]) - 2), panel.shape[1] - wide - 4)
    y = round(box[1]) - 5
    if y - high < 2:
        y = min(round(box[3]) + high + 7, panel.shape[0] - low - 1)
    cv2.rectangle(panel, (x, y - high - 2), (x + wide + 3, y + low - 1), FOUND, -1)
    cv2.putText(panel, text, (x + 2, y), _FONT, scale, _DARK, 1, cv2.LINE_AA)


def _under_bar(panel: Image, title: str) -> Image:
    bar = np.full((_BAR_PX, panel.shape[1], 3), _DARK, dtype=np.uint8)
    cv2.putText(bar, title, (8, _BAR_PX - 8), _FONT, 0.5, _PALE, 1, cv2.LINE_AA)
    return np.vstack([bar, panel])

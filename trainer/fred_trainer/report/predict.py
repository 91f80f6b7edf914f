"""`fred-train predict`: what a trained model sees in a sequence, drawn on RGB and events side by side."""

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch

from fred_trainer.data import (
    DataError,
    Image,
    Pair,
    PairDataset,
    boxes_to_source,
    collate,
    has_images,
    read_image,
    read_sequence,
)
from fred_trainer.evaluate.trained import TrainedDetector, load_detector
from fred_trainer.report.draw import side_by_side
from fred_trainer.runtime.precision import choose_precision

log = logging.getLogger("fred_trainer")

FRAMES_PER_S: Final = 30.0
"""Of FRED."""
VIDEO: Final = "predictions.mp4"

Detections = list[tuple[tuple[float, float, float, float], float]]
"""(xyxy px of the source frame, score), most certain first."""


def predict(
    weights: Path,
    source: Path,
    out: Path,
    *,
    device: torch.device,
    batch_size: int = 4,
    score: float = 0.3,
    every: int = 1,
    video: bool = False,
) -> int:
    """Draw every `every`-th frame of the sequence `source` into the folder `out`; the number of frames drawn.

    Both streams are shown, whichever the model looks at; boxes from `score` on in amber, true ones, where the sequence
    has annotations, in green. PNG files named by frame, or one MP4. Raises DataError and CheckpointError.
    """
    trained = load_detector(weights, device)
    pairs = [pair for pair in read_sequence(source)[::every] if has_images(pair, trained.modality)]
    if not pairs:
        raise DataError(f"{source}: no frame in it has the images that modality {trained.modality} needs")
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    drawn = ((pair, draw(pair, found)) for pair, found in detect(trained, pairs, device, batch_size, score))
    count = write_video(out / VIDEO, drawn, FRAMES_PER_S / every) if video else write_frames(out, drawn)
    log.info("%d frames of %s drawn in %.1f s: %s", count, source, time.monotonic() - began, out)
    return count


@torch.no_grad()
def detect(
    trained: TrainedDetector, pairs: list[Pair], device: torch.device, batch_size: int, score: float
) -> Iterator[tuple[Pair, Detections]]:
    """What the detector finds in each of `pairs`, from `score` on."""
    dataset = PairDataset(pairs, modality=trained.modality, input_size=trained.input_size, augment=False, seed=0)
    precision = choose_precision("auto", device)
    for begin in range(0, len(pairs), batch_size):
        among = range(begin, min(begin + batch_size, len(pairs)))
        with precision.autocast():
            found = trained.detector(collate([dataset[(0, at)] for at in among]).images.to(device))
        for at, one in zip(among, found, strict=True):
            pair = pairs[at]
            boxes = boxes_to_source(
                one["boxes"].float().cpu(), input_size=trained.input_size, width=pair.width, height=pair.height
            )
            certain = zip(boxes.tolist(), one["scores"].tolist(), strict=True)
            yield pair, [((x1, y1, x2, y2), certainty) for (x1, y1, x2, y2), certainty in certain if certainty >= score]


def draw(pair: Pair, found: Detections) -> Image:
    """The frame as both cameras saw it; a stream without an image is left out."""
    files = {"rgb": pair.rgb, "event": pair.event}
    images = {stream: as_large_as(read_image(file), pair) for stream, file in files.items() if file is not None}
    return side_by_side(images, found, pair.boxes, caption=f"sequence {pair.sequence}  frame {pair.frame}")


def as_large_as(image: Image, pair: Pair) -> Image:
    """`image` in the size of the frame that boxes are given in."""
    if image.shape[:2] == (pair.height, pair.width):
        return image
    return np.asarray(cv2.resize(image, (pair.width, pair.height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def write_frames(out: Path, drawn: Iterator[tuple[Pair, Image]]) -> int:
    """One PNG a frame; how many. Raises OSError."""
    count = 0
    for pair, picture in drawn:
        _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        (out / f"{pair.frame:06d}.png").write_bytes(encoded.tobytes())
        count += 1
    return count


def write_video(path: Path, drawn: Iterator[tuple[Pair, Image]], frames_per_s: float) -> int:
    """One MP4, which appears when it is complete; how many frames. Raises DataError when this OpenCV cannot."""
    beside = path.with_name(f".{path.name}.tmp.mp4")
    count = 0
    first, picture = next(drawn)
    height, width = (side - side % 2 for side in picture.shape[:2])  # what the codec can do
    writer = cv2.VideoWriter(str(beside), cv2.VideoWriter.fourcc(*"mp4v"), frames_per_s, (width, height))
    if not writer.isOpened():
        raise DataError(f"{path} cannot be written: leave --video out to get frames")
    try:
        for _, each in itertools.chain([(first, picture)], drawn):
            writer.write(each[:height, :width])
            count += 1
        writer.release()
        beside.replace(path)
    finally:
        writer.release()
        beside.unlink(missing_ok=True)
    return count

"""`fred-train predict`: what a trained model sees in a sequence, drawn on RGB and events side by side."""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch

from fred_supervisor.contract.files import write_json
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
BOXES: Final = "predictions.json"
SUFFIXES: Final = (".png", ".jpg", ".jpeg")
"""What is a source of one frame."""
_OF_IMAGES: Final = "images"
"""The folder of their pictures, beside those of sequences."""

Detections = list[tuple[tuple[float, float, float, float], float]]
"""(xyxy px of the source frame, score), most certain first."""


def predict(
    weights: Path,
    sources: Sequence[Path],
    out: Path,
    *,
    device: torch.device,
    batch_size: int = 4,
    score: float = 0.3,
    every: int = 1,
    video: bool = False,
    as_json: bool = False,
) -> int:
    """Draw every `every`-th frame of each sequence, and each image, into the folder `out`; the number of frames.

    Of several sequences each has a folder there. `as_json`: their boxes go into one file instead, and nothing is drawn.
    Both streams are shown, whichever the model looks at; boxes from `score` on in amber, true ones, where the sequence
    has annotations, in green. PNG files named by frame, or one MP4. Raises DataError and CheckpointError.
    """
    trained = load_detector(weights, device)
    told: list[dict[str, object]] = []
    total = 0
    parts = _parts(sources, trained.modality, every)
    for name, pairs in parts.items():
        folder = out / name if len(parts) > 1 else out
        (out if as_json else folder).mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        detected = detect(trained, pairs, device, batch_size, score)
        if as_json:
            told += [_document(name, pair, found) for pair, found in detected]
            count, place = len(pairs), out / BOXES
        else:
            drawn = ((pair, draw(pair, found)) for pair, found in detected)
            place = folder / VIDEO if video else folder
            count = write_video(place, drawn, FRAMES_PER_S / every) if video else write_frames(folder, drawn)
        log.info("%d frames of %s in %.1f s: %s", count, name, time.monotonic() - began, place)
        total += count
    if as_json:
        write_json(out / BOXES, told)
    return total


def _parts(sources: Sequence[Path], modality: str, every: int) -> dict[str, list[Pair]]:
    """The frames to look at, by the name of their sequence; images are one part, in their order. Raises DataError."""
    images = [source for source in sources if source.suffix.lower() in SUFFIXES]
    parts = {source.stem: read_sequence(source)[::every] for source in sources if source not in images}
    if len(parts) + len(images) < len(sources):
        raise DataError("two sequences have one name: give them one after the other, each with an --out of its own")
    if images and modality == "dual":
        raise DataError(
            "{images} is one image, and modality dual needs both cameras: give a sequence", images=images[0]
        )
    if images and _OF_IMAGES in parts:
        raise DataError(
            "a sequence is called {of_images}, as the folder of the images is: give them one after the other",
            of_images=_OF_IMAGES,
        )
    if images:
        parts[_OF_IMAGES] = [_pair_of(image, number, modality) for number, image in enumerate(images, 1)]
    for name, pairs in parts.items():
        parts[name] = [pair for pair in pairs if has_images(pair, modality)]
        if not parts[name]:
            raise DataError(
                "{name}: no frame in it has the images that modality {modality} needs", name=name, modality=modality
            )
    return parts


def _pair_of(image: Path, number: int, modality: str) -> Pair:
    """A single image as a frame without annotations. Raises DataError."""
    height, width = read_image(image).shape[:2]
    rgb, event = (image, None) if modality == "rgb" else (None, image)
    return Pair(sequence=0, frame=number, rgb=rgb, event=event, boxes=(), width=width, height=height)


def _document(name: str, pair: Pair, found: Detections) -> dict[str, object]:
    """Boxes are xyxy px of the source frame."""
    boxes = [{"box": [round(side, 2) for side in box], "score": round(certainty, 4)} for box, certainty in found]
    files = {"rgb": pair.rgb, "event": pair.event}
    return {
        "sequence": name,
        "frame": pair.frame,
        "width": pair.width,
        "height": pair.height,
        "files": {stream: str(file) for stream, file in files.items() if file is not None},
        "boxes": boxes,
    }


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
        raise DataError("{path} cannot be written: leave --video out to get frames", path=path)
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

"""What a person sees of training: lines or a bar, and the curves."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import torch

from fred_trainer.backbones import STREAMS
from fred_trainer.bar import Bar
from fred_trainer.curves import Curves
from fred_trainer.data import Batch
from fred_trainer.draw import of_canvas, side_by_side
from fred_trainer.metrics import Scores
from fred_trainer.training import Training

log = logging.getLogger("fred_trainer")

LINE_EVERY_S: Final = 10.0
SHOWN_FROM: Final = 0.2
"""Score from which a box is drawn."""

Item = TypeVar("Item")


class Progress:
    """Tells of optimiser steps, epochs and evaluations: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self._bar = Bar() if sys.stdout.isatty() else None
        self._since_mono_s = time.monotonic()
        self._images = 0
        self._waited_s = 0.0

    def start(self) -> None:
        """Training begins or goes on: the pause before does not count."""
        self._since_mono_s = time.monotonic()
        self._images = 0
        self._waited_s = 0.0

    def waits(self, batches: Iterable[Item]) -> Iterator[Item]:
        """`batches`, with a stopwatch on the time that passes until each is there."""
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.monotonic() - began
            yield batch

    def step(self, training: Training, *, images: int, steps: int, rate: float) -> None:
        """After an optimiser step over `images` images at learning rate `rate`; `steps` are those of the epoch."""
        position = training.position
        assert position.loss is not None
        self.curves.add(training.samples, train__loss=position.loss, train__lr=rate)
        if training.unreadable.count:
            self.curves.add(training.samples, data__unreadable_images=training.unreadable.count)
        self._images += images
        if self._bar is not None:
            self._bar.step(self._where(training), loss=position.loss, done=training.step, of=steps)
        elapsed_s = time.monotonic() - self._since_mono_s
        if elapsed_s >= LINE_EVERY_S or training.epoch_complete:
            speed = self._images / elapsed_s
            if self._bar is None or training.epoch_complete:
                where = self._where(training)
                log.info("%s  step %d/%d  loss %.4f  %.1f images/s", where, training.step, steps, position.loss, speed)
            self.curves.add(
                training.samples,
                train__images_per_s=speed,
                train__data_wait_share=min(1.0, self._waited_s / elapsed_s),
                **memory_mib(training.device),
            )
            self.start()

    def scores(self, training: Training, scores: Scores, *, seconds: float) -> None:
        """After an evaluation."""
        log.info(
            "epoch %d  mAP50 %.4f  mAP50:95 %.4f  recall %s  evaluated in %.1f s",
            training.position.epoch,
            scores.map50,
            scores.map50_95,
            "  ".join(f"{share:.3f} at IoU {iou}" for iou, share in scores.recall.items()),
            seconds,
        )
        by_size = {f"val_by_size__map50_{name}": x for name, x in scores.map50_by_size.items() if x is not None}
        recall = {f"val__recall_{iou}": share for iou, share in scores.recall.items()}
        self.curves.add(training.samples, val__map50=scores.map50, val__map50_95=scores.map50_95, **by_size, **recall)
        self.curves.add_precision_recall(training.samples, "val/precision_recall_50", scores.curve, boxes=scores.boxes)

    def pictures(self, training: Training, samples: Batch, found: list[dict[str, torch.Tensor]]) -> None:
        """What the model finds in fixed samples of the validation set (amber), and what is there (green)."""
        streams = STREAMS[training.settings.modality]
        fixed = zip(samples.images, samples.boxes, samples.ids, found, strict=True)
        for at, (image, truth, name, one) in enumerate(fixed):
            boxes = zip(one["boxes"].tolist(), one["scores"].tolist(), strict=True)
            seen = [(box, score) for box, score in boxes if score >= SHOWN_FROM]
            picture = side_by_side(of_canvas(image, streams), seen, truth.tolist(), caption=name)
            self.curves.add_picture(training.samples, f"predictions/{at}", picture)

    def close(self) -> None:
        """Leave the terminal as it was, and the curves whole."""
        if self._bar is not None:
            self._bar.close()
        self.curves.close()

    @staticmethod
    def _where(training: Training) -> str:
        return f"epoch {training.position.epoch}/{training.settings.epochs}  {training.phase}"


def memory_mib(device: torch.device) -> dict[str, float]:
    """Peaks so far: resident set of the main process, and what torch's allocator holds of the GPU, if there is one."""
    found = {"memory__host_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        found["memory__gpu_peak_mib"] = torch.cuda.max_memory_reserved(device) / 2**20
    return found

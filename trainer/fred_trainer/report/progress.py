"""What a person sees of training: lines or a bar, and the curves."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import torch

from fred_supervisor.language import tr
from fred_trainer.data import Batch
from fred_trainer.evaluate.metrics import Scores
from fred_trainer.report.bar import Bar
from fred_trainer.report.curves import TrainingCurves
from fred_trainer.report.draw import of_canvas, side_by_side

log = logging.getLogger("fred_trainer")

LINE_EVERY_S: Final = 10.0
SHOWN_FROM: Final = 0.2
"""Score from which a box is drawn."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Where training is after an optimiser step."""

    epoch: int
    epochs: int
    phase: str
    step: int
    """Micro-batches of this epoch done, of `steps`."""
    steps: int
    samples: int
    """Since the beginning of the run."""
    images: int
    """Of this optimiser step."""
    loss: float
    rate: float
    """Learning rate."""
    epoch_complete: bool
    unreadable: int
    """Images that could not be read so far."""


class Progress:
    """Tells of optimiser steps, epochs and evaluations: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, curves: TrainingCurves) -> None:
        self.curves = curves
        self._bar = Bar() if sys.stdout.isatty() else None
        self._since_mono_s = time.monotonic()
        self._images = 0
        self._waited_s = 0.0
        self.wait_share: float | None = None
        """Of the last seconds, in which training waited for data; None: not known yet."""

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

    def step(self, now: StepReport) -> None:
        """After an optimiser step."""
        self.curves.add(now.samples, train__loss=now.loss, train__lr=now.rate)
        if now.unreadable:
            self.curves.add(now.samples, data__unreadable_images=now.unreadable)
        self._images += now.images
        where = tr("epoch {epoch}/{epochs}  {phase}", epoch=now.epoch, epochs=now.epochs, phase=tr(now.phase))
        if self._bar is not None:
            self._bar.step(where, loss=now.loss, done=now.step, of=now.steps)
        elapsed_s = time.monotonic() - self._since_mono_s
        if elapsed_s >= LINE_EVERY_S or now.epoch_complete:
            speed = self._images / elapsed_s
            if self._bar is None or now.epoch_complete:
                log.info("%s  step %d/%d  loss %.4f  %.1f images/s", where, now.step, now.steps, now.loss, speed)
            self.wait_share = min(1.0, self._waited_s / elapsed_s)
            self.curves.add(
                now.samples,
                train__images_per_s=speed,
                train__data_wait_share=self.wait_share,
                **memory_mib(),
            )
            self.start()

    def scores(self, samples: int, scores: Scores, *, epoch: int, seconds: float) -> None:
        """After an evaluation."""
        log.info(
            "epoch %d  mAP50 %.4f  mAP50:95 %.4f  recall %s  evaluated in %.1f s",
            epoch,
            scores.map50,
            scores.map50_95,
            "  ".join(tr("{share:.3f} at IoU {iou}", share=share, iou=iou) for iou, share in scores.recall.items()),
            seconds,
        )
        by_size = {f"val_by_size__map50_{name}": x for name, x in scores.map50_by_size.items() if x is not None}
        recall = {f"val__recall_{iou}": share for iou, share in scores.recall.items()}
        self.curves.add(samples, val__map50=scores.map50, val__map50_95=scores.map50_95, **by_size, **recall)
        self.curves.add_precision_recall(samples, "val/precision_recall_50", scores.curve, boxes=scores.boxes)

    def pictures(
        self, samples: int, batch: Batch, found: list[dict[str, torch.Tensor]], *, streams: Sequence[str]
    ) -> None:
        """What the model finds in the fixed samples `batch` of the validation set (amber), and what is there (green).

        `found`: one dict a sample, `boxes` `(N, 4)` xyxy px of the canvas and `scores` `(N,)`.
        """
        fixed = zip(batch.images, batch.boxes, batch.ids, found, strict=True)
        for at, (image, truth, name, one) in enumerate(fixed):
            boxes = zip(one["boxes"].tolist(), one["scores"].tolist(), strict=True)
            shown = [(box, score) for box, score in boxes if score >= SHOWN_FROM]
            picture = side_by_side(of_canvas(image, streams), shown, truth.tolist(), caption=name)
            self.curves.add_picture(samples, f"predictions/{at}", picture)

    def close(self) -> None:
        """Leave the terminal as it was, and the curves whole."""
        if self._bar is not None:
            self._bar.close()
        self.curves.close()


def memory_mib() -> dict[str, float]:
    """Peaks so far: resident set of the main process, and what torch's allocator holds of the GPU, if there is one."""
    found = {"memory__host_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["memory__gpu_peak_mib"] = torch.cuda.max_memory_reserved() / 2**20
    return found

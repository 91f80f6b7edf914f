"""What a person sees of training: a line now and then, and the curves."""

import logging
import time
from typing import Final

from fred_trainer.curves import Curves
from fred_trainer.metrics import Scores
from fred_trainer.training import Training

log = logging.getLogger("fred_trainer")

LINE_EVERY_S: Final = 10.0


class Progress:
    """Tells of optimiser steps, epochs and evaluations."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self._since_mono_s = time.monotonic()
        self._images = 0

    def start(self) -> None:
        """Training begins or goes on: the pause before does not count."""
        self._since_mono_s = time.monotonic()
        self._images = 0

    def step(self, training: Training, *, images: int, steps: int, rate: float) -> None:
        """After an optimiser step over `images` images at learning rate `rate`; `steps` are those of the epoch."""
        position = training.position
        assert position.loss is not None
        self.curves.add(training.samples, train__loss=position.loss, train__lr=rate)
        if training.unreadable.count:
            self.curves.add(training.samples, data__unreadable_images=training.unreadable.count)
        self._images += images
        elapsed_s = time.monotonic() - self._since_mono_s
        if elapsed_s >= LINE_EVERY_S or training.epoch_complete:
            speed = self._images / elapsed_s
            log.info(
                "epoch %d/%d  %s  step %d/%d  loss %.4f  %.1f images/s",
                position.epoch,
                training.settings.epochs,
                training.phase,
                training.step,
                steps,
                position.loss,
                speed,
            )
            self.curves.add(training.samples, train__images_per_s=speed)
            self.start()

    def scores(self, training: Training, scores: Scores, *, seconds: float) -> None:
        """After an evaluation."""
        log.info(
            "epoch %d  mAP50 %.4f  mAP50:95 %.4f  evaluated in %.1f s",
            training.position.epoch,
            scores.map50,
            scores.map50_95,
            seconds,
        )
        self.curves.add(training.samples, val__map50=scores.map50, val__map50_95=scores.map50_95)

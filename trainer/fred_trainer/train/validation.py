"""What is asked of the model at the end of an epoch: is it sound, how good is it, is it the best so far."""

import logging
import time

from fred_trainer.data import EpochBatches, EpochOrder
from fred_trainer.errors import LearningError, NonFiniteError
from fred_trainer.evaluate import sanity_check
from fred_trainer.evaluate.evaluate import evaluate
from fred_trainer.evaluate.metrics import Scores
from fred_trainer.model.backbones import STREAMS
from fred_trainer.train.loader import samples_of
from fred_trainer.train.services import Services
from fred_trainer.train.state import Training

log = logging.getLogger("fred_trainer")


def check_sanity(training: Training) -> None:
    """Raise NonFiniteError or LearningError, and have nothing saved, unless the averaged weights work."""
    samples = sanity_check.fixed_samples(training.validation_set)
    try:
        found = sanity_check.check(training.ema.model, samples, device=training.device, precision=training.precision)
    except (NonFiniteError, LearningError):
        training.rollback.torn = True
        raise
    boxes = sum(len(one["boxes"]) for one in found)
    log.info("epoch %d  a forward pass on fixed samples is sound (%d boxes)", training.position.epoch, boxes)


def count_best(training: Training, map50: float) -> bool:
    """Whether this evaluation is the best so far; where it is not, patience gets shorter.

    What evaluations of the freeze phase say is forgotten when the backbones thaw: there is more to learn then.
    """
    position, settings = training.position, training.settings
    is_best = position.best_map50 is None or map50 > position.best_map50
    if is_best:
        position.best_map50 = map50
    last_phase = settings.phase_of(position.epoch) == settings.phase_of(settings.goal_epoch)
    position.stale = 0 if is_best or not last_phase else position.stale + 1
    if training.out_of_patience:
        log.info("mAP50 has not risen for %d evaluations: the goal of --patience is reached", position.stale)
    return is_best


def score(training: Training, services: Services) -> Scores | None:
    """Evaluate the averaged weights on the validation set. None when asked to stop meanwhile."""
    settings, position = training.settings, training.position
    started = time.monotonic()
    with services.hb.section("eval"):
        services.drills.evaluation(position.epoch)
        order = EpochOrder(len(training.validation_set), settings.seed)
        batches = EpochBatches(
            order, epoch=0, batch_size=settings.eval_batch_size or settings.batch_size(training.phase)
        )
        scores = evaluate(
            training.ema.model,
            samples_of(training, training.validation_set, batches),
            device=training.device,
            precision=training.precision,
            hb=services.hb,
            ranks=training.ranks,
        )
        if scores is not None:
            position.evaluated, position.map50 = position.epoch, scores.map50
            seconds = time.monotonic() - started
            behind = training.samples + 1  # a resume from before the evaluation repeats it, and purges it from here on
            services.hb.beat(metric=scores.map50)
            services.progress.scores(behind, scores, epoch=position.epoch, seconds=seconds)
            samples = sanity_check.fixed_samples(training.validation_set)
            found = sanity_check.check(
                training.ema.model, samples, device=training.device, precision=training.precision
            )
            services.progress.pictures(behind, samples, found, streams=STREAMS[settings.modality])
    return scores

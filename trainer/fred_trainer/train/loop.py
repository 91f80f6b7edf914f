"""The training loop: epoch after epoch, first with frozen backbones, then with all weights."""

from contextlib import ExitStack
from enum import Enum, auto

from fred_supervisor.contract.builtin.trainer_files import BEST, FINAL, epoch_name, last_epoch_name, step_name
from fred_trainer.data import EpochBatches
from fred_trainer.evaluate import sanity_check
from fred_trainer.model.detector import set_frozen
from fred_trainer.report.progress import StepReport
from fred_trainer.train.loader import samples_of
from fred_trainer.train.services import Services
from fred_trainer.train.settings import Phase, TrainSettings
from fred_trainer.train.state import Training
from fred_trainer.train.step import MicroBatch, forward_backward, update
from fred_trainer.train.validation import check_sanity, count_best, score


class End(Enum):
    """How a piece of training ended."""

    DONE = auto()
    """It is complete."""
    STOPPED = auto()
    """Somebody asked the trainer to leave; the state is saved."""


def train(training: Training, services: Services) -> End:
    """From where `training` is to the goal of its settings: epoch after epoch, first frozen, then thawed."""
    ranks = training.ranks
    if training.goal_reached and ranks.lead(lambda: services.checkpoints.hold(FINAL, samples=training.samples)):
        services.hb.done()
        return End.DONE
    warm: Phase | None = None
    while True:
        if not training.epoch_complete:
            if train_epoch(training, services, first_is_slow=training.phase != warm) is End.STOPPED:
                return End.STOPPED
            warm = training.phase
        if close_epoch(training, services) is End.STOPPED:
            return End.STOPPED
        if training.goal_reached:
            services.hb.done()
            return End.DONE
        training.position.epoch += 1
        training.position.in_epoch, training.position.loss_sum = 0, 0.0


def train_epoch(training: Training, services: Services, *, first_is_slow: bool) -> End:
    """The rest of the present epoch."""
    settings, position, phase, hb = training.settings, training.position, training.phase, services.hb
    ranks = training.ranks
    batch_size, accumulate = settings.batch_size(phase), settings.accumulate(phase)
    batches = EpochBatches(training.order, epoch=position.epoch, batch_size=batch_size, start=position.in_epoch)
    begun = training.step
    steps = begun + len(batches)
    hb.beat(epoch=position.epoch, epochs=settings.goal_epoch, step=begun, steps=steps, phase=phase)
    set_frozen(training.model, frozen=phase == "freeze")
    services.progress.start()
    services.checkpoints.start()
    group: list[MicroBatch] = []
    with ExitStack() as first_step:
        if first_is_slow:
            first_step.enter_context(hb.section("first-step"))
        seen = position.in_epoch
        waited = services.progress.waits(samples_of(training, training.train_set, batches))
        for step, batch in enumerate(waited, begun + 1):
            size = min(batch_size, len(training.train_set) - seen)  # of all ranks together
            seen += size
            if not group:
                training.rollback.keep()
                ranks.reseed(settings.seed, training.samples)
            services.drills.step(phase, position.epoch, step, batch_size)
            group.append(forward_backward(training, batch, services.drills, size=size))
            whole = len(group) == accumulate or step == steps
            if whole:
                services.checkpoints.settle()
                if ranks.count > 1:  # here we wait for the others: who has not come so far is the one to blame
                    hb.beat(samples=training.samples + sum(micro.size for micro in group))
                rate = training.rate
                images = update(training, group, rate)
                services.progress.step(step_report(training, images=images, steps=steps, rate=rate))
                group = []
                hb.beat(lr=rate, gradient=training.gradient, waits=services.progress.wait_share)
            first_step.close()
            samples = training.samples + sum(micro.size for micro in group)
            hb.beat(step=step, samples=samples, loss=position.loss)
            if whole and not training.epoch_complete:
                stopping, due = ranks.any(hb.stopping, ranks.leads and services.checkpoints.due())
                if stopping or due:
                    services.save(training, must=stopping)
                if stopping:
                    return End.STOPPED
    position.history.append([position.epoch, position.loss_sum / len(training.train_set)])
    return End.DONE


def step_report(training: Training, *, images: int, steps: int, rate: float) -> StepReport:
    """What a person may see after an optimiser step over `images` images."""
    position = training.position
    assert position.loss is not None
    return StepReport(
        epoch=position.epoch,
        epochs=training.settings.goal_epoch,
        phase=training.phase,
        step=training.step,
        steps=steps,
        samples=training.samples,
        images=images,
        loss=position.loss,
        rate=rate,
        epoch_complete=training.epoch_complete,
        unreadable=training.unreadable.count,
    )


def close_epoch(training: Training, services: Services) -> End:
    """Save and evaluate what is due at the end of an epoch. May be repeated: what is done already is left alone."""
    settings, position, ranks = training.settings, training.position, training.ranks
    (stopping,) = ranks.any(services.hb.stopping)
    if position.epoch == 1 or position.epoch % sanity_check.EVERY_EPOCHS == 0 or training.goal_reached:
        with services.hb.section("eval"):
            check_sanity(training)
    names = named_saves(settings, position.epoch)
    evaluates = settings.evaluates(position.epoch) and position.evaluated < position.epoch
    wanted = names or [step_name(training.samples)]
    if (names or evaluates or stopping) and not ranks.lead(
        lambda: all(services.checkpoints.hold(name, samples=training.samples) for name in wanted)
    ):
        services.save(training, names or None, must=stopping)
    if stopping:
        return End.STOPPED
    names = []
    if evaluates:
        scores = score(training, services)
        if scores is None:
            return End.STOPPED
        if count_best(training, scores.map50):
            names.append(BEST)
    if training.goal_reached:
        names.append(FINAL)
    if names:
        services.save(training, names, must=training.goal_reached)
    return End.DONE


def named_saves(settings: TrainSettings, epoch: int) -> list[str]:
    """File names that are due at the end of `epoch`."""
    phase = settings.phase_of(epoch)
    names = [epoch_name(phase, epoch)] if epoch % settings.save_every_epochs == 0 else []
    return [*names, last_epoch_name(phase)] if settings.is_last_of_phase(epoch) else names

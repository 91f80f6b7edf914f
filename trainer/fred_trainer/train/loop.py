"""The training loop."""

import ctypes
import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.layout import BEST, FINAL, epoch_name, last_epoch_name, step_name
from fred_trainer import probe
from fred_trainer.checkpoint import Checkpoints, DiskError, NonFiniteError
from fred_trainer.data import Batch, EpochBatches, EpochOrder, PairDataset, collate, init_worker
from fred_trainer.evaluate import evaluate
from fred_trainer.faults import Faults
from fred_trainer.metrics import Scores
from fred_trainer.model import set_frozen, statistics
from fred_trainer.progress import Progress
from fred_trainer.schedule import learning_rate
from fred_trainer.settings import Phase, Settings
from fred_trainer.training import Training

log = logging.getLogger("fred_trainer")

GRADIENT_NORM_MAX: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


class End(Enum):
    """How a piece of training ended."""

    DONE = auto()
    """It is complete."""
    STOPPED = auto()
    """Somebody asked the trainer to leave; the state is saved."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the loop talks to."""

    hb: Heartbeat
    checkpoints: Checkpoints
    faults: Faults
    progress: Progress

    def save(self, training: Training, names: list[str] | None = None, *, must: bool = False) -> None:
        """Begin to save the state under `names`, by default as a step state. All ranks come here; rank 0 writes.

        With `must` it is on disk when this returns, on every rank.
        """
        if training.ranks.leads:
            self._write(training, names, must=must)
        if must:
            with self.hb.section("checkpoint"):
                training.ranks.wait()

    def _write(self, training: Training, names: list[str] | None = None, *, must: bool) -> None:
        self.progress.curves.flush()  # so that the curves reach at least as far
        self.checkpoints.save(training.snapshot(), names, must=must)

    def rescue(self, training: Training) -> None:
        """After an exception: save the state before the failing step, unless that is on disk or half changed.

        Waits for nobody: other ranks may be dead.
        """
        try:
            self.checkpoints.finish()
            saved = training.samples == self.checkpoints.saved_samples
            if not training.ranks.leads or training.rewind.torn or saved:
                return
            training.rewind.restore()
            self._write(training, must=True)
        except (DiskError, NonFiniteError, RuntimeError) as error:  # RuntimeError: a broken CUDA context
            log.warning("the state before the failure could not be saved: %s", error)


def train(training: Training, around: Around) -> End:
    """From where `training` is to the goal of its settings: epoch after epoch, first frozen, then thawed."""
    ranks = training.ranks
    if training.goal_reached and ranks.lead(lambda: around.checkpoints.hold(FINAL, samples=training.samples)):
        around.hb.done()
        return End.DONE
    warm: Phase | None = None
    while True:
        if not training.epoch_complete:
            if train_epoch(training, around, first_is_slow=training.phase != warm) is End.STOPPED:
                return End.STOPPED
            warm = training.phase
        if close_epoch(training, around) is End.STOPPED:
            return End.STOPPED
        if training.goal_reached:
            around.hb.done()
            return End.DONE
        training.position.epoch += 1
        training.position.in_epoch, training.position.loss_sum = 0, 0.0


def train_epoch(training: Training, around: Around, *, first_is_slow: bool) -> End:
    """The rest of the present epoch."""
    settings, position, phase, hb = training.settings, training.position, training.phase, around.hb
    ranks = training.ranks
    batch_size, accumulate = settings.batch_size(phase), settings.accumulate(phase)
    batches = EpochBatches(training.order, epoch=position.epoch, batch_size=batch_size, start=position.in_epoch)
    begun = training.step
    steps = begun + len(batches)
    total = settings.epochs * len(training.train_set)
    hb.beat(epoch=position.epoch, epochs=settings.goal_epoch, step=begun, steps=steps, phase=phase)
    set_frozen(training.model, frozen=phase == "freeze")
    around.progress.start()
    around.checkpoints.start()
    group: list[MicroBatch] = []
    with ExitStack() as first_step:
        if first_is_slow:
            first_step.enter_context(hb.section("first-step"))
        seen = position.in_epoch
        waited = around.progress.waits(samples_of(training, training.train_set, batches))
        for step, batch in enumerate(waited, begun + 1):
            size = min(batch_size, len(training.train_set) - seen)  # of all ranks together
            seen += size
            if not group:
                training.rewind.keep()
                ranks.reseed(settings.seed, training.samples)
            around.faults.step(phase, position.epoch, step, batch_size)
            group.append(forward_backward(training, batch, around.faults, size=size))
            whole = len(group) == accumulate or step == steps
            if whole:
                around.checkpoints.settle()
                if ranks.count > 1:  # here we wait for the others: who has not come so far is the one to blame
                    hb.beat(samples=training.samples + sum(micro.size for micro in group))
                rate = learning_rate(training.samples, total=total, peak=settings.lr)
                images = update(training, group, rate)
                around.progress.step(training, images=images, steps=steps, rate=rate)
                group = []
            first_step.close()
            samples = training.samples + sum(micro.size for micro in group)
            hb.beat(step=step, samples=samples, loss=position.loss)
            if whole and not training.epoch_complete:
                stopping, due = ranks.any(hb.stopping, ranks.leads and around.checkpoints.due())
                if stopping or due:
                    around.save(training, must=stopping)
                if stopping:
                    return End.STOPPED
    position.history.append([position.epoch, position.loss_sum / len(training.train_set)])
    return End.DONE


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What is left of a micro-batch after its backward pass."""

    loss: Tensor
    """Sum over its positive cells, on the device; of this rank."""
    positives: Tensor
    """How many there were, on the device; of this rank."""
    ids: list[str]
    """Of this rank."""
    size: int
    """Samples of all ranks together."""


def forward_backward(training: Training, batch: Batch, faults: Faults, *, size: int) -> MicroBatch:
    """Add the gradients of one micro-batch of `size` samples, `batch` of them here. Nothing is read back."""
    images = batch.images.to(training.device, non_blocking=True)
    boxes = [one.to(training.device, non_blocking=True) for one in batch.boxes]
    with training.precision.autocast():
        losses = training.model(images, boxes)
    loss, positives = faults.loss(losses["total"]), losses["positives"]
    if training.ranks.rank >= size:  # see Share: a repeated sample
        loss, positives = loss * 0, positives * 0
    training.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    return MicroBatch(loss=loss.detach(), positives=positives, ids=batch.ids, size=size)


def update(training: Training, group: Sequence[MicroBatch], rate: float) -> int:
    """One optimiser step from the gradients of `group`; the number of samples in it. Raises NonFiniteError before it.

    Dividing by the positives of the whole group, of all ranks, makes them equal one large batch.
    """
    optimizer, scaler, position, ranks = training.optimizer, training.scaler, training.position, training.ranks
    parameters = [p for p in training.model.parameters() if p.grad is not None]
    positives = torch.stack([micro.positives for micro in group]).sum().float()
    loss_sum = torch.stack([micro.loss for micro in group]).sum()
    ranks.add_up([p.grad for p in parameters] + [positives, loss_sum], statistics(training.model))
    positives.clamp_(min=1)
    mean_loss = loss_sum / positives
    scaler.unscale_(optimizer)
    torch._foreach_div_([p.grad for p in parameters], positives)
    norm = torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM_MAX)
    loss, gradient = torch.stack([mean_loss, norm]).tolist()  # the one wait for the device of a step
    if not math.isfinite(loss) or not (math.isfinite(gradient) or scaler.is_enabled()):
        ids = ranks.merge({name: True for micro in group for name in micro.ids})
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise NonFiniteError(f"the {what} is not finite in epoch {position.epoch}; samples: {', '.join(ids)}")
    for parameters_of_group in optimizer.param_groups:
        parameters_of_group["lr"] = rate

    training.rewind.torn = True
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    training.ema.update()
    samples = sum(micro.size for micro in group)
    position.in_epoch += samples
    position.updates += 1
    position.loss = loss
    position.loss_sum += loss * samples
    training.rewind.forget()
    return samples


def close_epoch(training: Training, around: Around) -> End:
    """Save and evaluate what is due at the end of an epoch. May be repeated: what is done already is left alone."""
    settings, position, ranks = training.settings, training.position, training.ranks
    (stopping,) = ranks.any(around.hb.stopping)
    if position.epoch % probe.EVERY_EPOCHS == 0 or training.goal_reached:
        inspect(training)
    names = named_saves(settings, position.epoch)
    evaluates = settings.evaluates(position.epoch) and position.evaluated < position.epoch
    wanted = names or [step_name(training.samples)]
    if (names or evaluates or stopping) and not ranks.lead(
        lambda: all(around.checkpoints.hold(name, samples=training.samples) for name in wanted)
    ):
        around.save(training, names or None, must=stopping)
    if stopping:
        return End.STOPPED
    names = []
    if evaluates:
        scores = score(training, around)
        if scores is None:
            return End.STOPPED
        if count_best(training, scores.map50):
            names.append(BEST)
    if training.goal_reached:
        names.append(FINAL)
    if names:
        around.save(training, names, must=training.goal_reached)
    return End.DONE


def inspect(training: Training) -> None:
    """Raise NonFiniteError, and have nothing saved, unless the averaged weights still make sense of fixed samples."""
    samples = probe.fixed_samples(training.validation_set)
    try:
        found = probe.look(training.ema.model, samples, device=training.device, precision=training.precision)
    except NonFiniteError:
        training.rewind.torn = True
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


def named_saves(settings: Settings, epoch: int) -> list[str]:
    """File names that are due at the end of `epoch`."""
    phase = settings.phase_of(epoch)
    names = [epoch_name(phase, epoch)] if epoch % settings.save_every_epochs == 0 else []
    return [*names, last_epoch_name(phase)] if settings.is_last_of_phase(epoch) else names


def score(training: Training, around: Around) -> Scores | None:
    """Evaluate the averaged weights on the validation set. None when asked to stop meanwhile."""
    settings, position = training.settings, training.position
    started = time.monotonic()
    with around.hb.section("eval"):
        around.faults.evaluation(position.epoch)
        order = EpochOrder(len(training.validation_set), settings.seed)
        batches = EpochBatches(
            order, epoch=0, batch_size=settings.eval_batch_size or settings.batch_size(training.phase)
        )
        scores = evaluate(
            training.ema.model,
            samples_of(training, training.validation_set, batches),
            device=training.device,
            precision=training.precision,
            hb=around.hb,
            ranks=training.ranks,
        )
    if scores is not None:
        position.evaluated, position.map50 = position.epoch, scores.map50
        around.progress.scores(training, scores, seconds=time.monotonic() - started)
        samples = probe.fixed_samples(training.validation_set)
        found = probe.look(training.ema.model, samples, device=training.device, precision=training.precision)
        around.progress.pictures(training, samples, found)
    return scores


def samples_of(training: Training, dataset: PairDataset, batches: EpochBatches) -> Iterator[Batch]:
    """Batches of samples. Raises DataError when too many of them cannot be read."""
    return training.unreadable.watch(loader(training, dataset, batches))


def loader(training: Training, dataset: PairDataset, batches: EpochBatches) -> DataLoader[Batch]:
    """Workers live for one epoch, and never longer than this process."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # of samples, where collate makes batches
        batch_sampler=training.ranks.share(batches),
        num_workers=training.settings.workers,
        multiprocessing_context="fork" if training.settings.workers else None,  # others import torch again, 8 s each
        collate_fn=collate,
        worker_init_fn=be_worker,
        pin_memory=training.device.type == "cuda",
        generator=torch.Generator(),  # else every new loader draws from the generator that training draws from
    )


def be_worker(number: int) -> None:
    """Die with the trainer, however it dies; leave the signals that are meant for it to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init_worker(number)

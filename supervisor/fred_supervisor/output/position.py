"""Which of the numbers that lines show may be believed, and the position that follows from them.

A number is believed once it has risen twice. One that begins again and again (the bar of each epoch) is no position,
unless an epoch rises around it. Validation, and a bar within a bar, are signs of life, and change no position.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, BeatSource, Section
from fred_supervisor.output.built_in import EPOCH_BAR, counts_to_last_index, says_epoch
from fred_supervisor.output.counter import RISES, Counter
from fred_supervisor.output.patterns import LineMatch, LinePatterns

_COUNTERS: Final = 64
"""More different bars than a trainer has; beyond that, the oldest are forgotten."""
_NOT_FINITE: Final = 3
"""So many records in a row whose loss is no finite number, and it is lost; fewer may be skipped by a scaler."""
_NEVER_FINITE: Final = 50
"""The same where none was finite before: a loss scale that is still searched for, say, or a warm-up."""
_NEVER_FINITE_EPOCHS: Final = 5
"""Or in so many different epochs: who prints one record an epoch is not waited for so long."""
_FROM_ZERO: Final = " from 0"


@dataclass
class OutputPosition:
    """Fed with the lines of one attempt, in order."""

    patterns: LinePatterns
    known: tuple[str, ...] = ()
    """What earlier attempts have believed."""
    seq: int = 0
    """Rises with every line that shows that training, or its validation, goes on."""
    moves: int = 0
    """Rises with every line whose numbers have changed, believed or not."""
    fits: bool = False
    """Some line has said something."""
    line: str = ""
    """The first line that was believed."""
    _epochs: dict[tuple[object, ...], Counter] = field(default_factory=dict)
    _steps: dict[tuple[object, ...], Counter] = field(default_factory=dict)
    _epoch: Counter | None = None
    """The one that says the epoch."""
    _step: Counter | None = None
    """The one that says the step where no epoch is known."""
    _newest: Counter | None = None
    """The one of an epoch that has moved last."""
    _newest_step: Counter | None = None
    _inner: Counter | None = None
    """The one that says the step within this epoch: the first that moves in it."""
    _inner_step: int | None = None
    not_finite: str = ""
    """The line with which the loss was lost."""
    _loss: float | None = None
    _lost: int = 0
    """Records in a row whose loss is not finite."""
    _lost_line: str = ""
    """The newest of them."""
    _lost_epochs: set[int] = field(default_factory=set)
    """Epochs that these name."""
    _was_finite: bool = False
    _lr: float | None = None
    _metric: float | None = None
    _metric_epoch: int | None = None
    _goal: tuple[int | None, int | None] = (None, None)
    """Epochs and steps in all, of lines that say these only."""
    _phase: str | None = None

    def feed(self, line: str) -> None:
        found = self.patterns.match(line)
        if found is None:
            return
        self.fits = True
        self._take(found, line)
        if found.metric is not None:
            self._metric, self._metric_epoch = found.metric, self._position()[0]

    def _take(self, found: LineMatch, line: str) -> None:
        self._loss = self._loss if found.loss is None or found.aside else found.loss
        self._lr = self._lr if found.lr is None else found.lr
        self._phase = found.phase or self._phase
        if not found.counts:
            epochs, steps = self._goal
            self._goal = (found.epochs or epochs, found.steps or steps)
            self._see_loss(found, line)
            return
        moved = self._see_epoch(found) if found.epoch is not None else self._see_step(found)
        if moved:  # a bar is drawn again and again
            self._see_loss(found, line)
        self.moves += moved
        if self.believes and moved:
            self.seq += 1
            self.line = self.line or line

    def _see_loss(self, found: LineMatch, line: str) -> None:
        if found.loss is None or found.aside:
            return
        if math.isfinite(found.loss):
            self._lost, self._was_finite = 0, True
            return
        self._lost, self._lost_line = self._lost + 1, line
        if not self._was_finite and found.epoch is not None and len(self._lost_epochs) < _NEVER_FINITE_EPOCHS:
            self._lost_epochs.add(found.epoch)
        never = self._lost >= _NEVER_FINITE or len(self._lost_epochs) >= _NEVER_FINITE_EPOCHS
        if never or (self._was_finite and self._lost >= _NOT_FINITE):
            self.not_finite = self.not_finite or line

    @property
    def lost(self) -> bool:
        """The newest loss is no finite number."""
        return self._lost > 0

    @property
    def believes(self) -> bool:
        return any(c.believed and not c.aside for c in (*self._epochs.values(), *self._steps.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """What is believed now, and was before: for the next attempt."""
        now = [c.name for c in (*self._epochs.values(), *self._steps.values()) if c.believed and not c.aside]
        return tuple(sorted({*self.known, *now}))

    def _see_epoch(self, found: LineMatch) -> bool:
        assert found.epoch is not None
        key = (found.epoch_by, found.epochs, found.label, found.steps, found.aside)
        counter = self._counter(self._epochs, key, found.epoch_by, found.epochs, found)
        if found.epoch == 0 and found.epoch_by != EPOCH_BAR:
            self.known = tuple(sorted({*self.known, counter.name + _FROM_ZERO}))
        moved = counter.see((found.epoch, found.step or 0))
        if found.aside:
            return moved
        self._newest = counter if moved else self._newest
        # A header of an epoch has risen once when its second epoch begins; the bars below it speak for it, too.
        if counter.rises and any(c.rises >= RISES for c in self._steps.values()):
            counter.known = True
        before = None if self._epoch is None or self._epoch.cyclic else self._epoch
        over = before is None or self._finished(before) or _rank(counter) > _rank(before)
        if counter.believed and not counter.cyclic and over:
            self._epoch = counter
        if self._epoch is not before or (counter is self._epoch and moved and found.step is None):
            self._inner = self._inner_step = None
        elif found.step is not None and moved:
            self._see_inner(counter, found.step)
        return moved

    def _see_step(self, found: LineMatch) -> bool:
        assert found.step is not None
        key = (found.step_by, found.label, found.steps, found.aside)
        counter = self._counter(self._steps, key, found.step_by, found.steps, found)
        moved = counter.see((0, found.step))
        if found.aside:
            return moved
        if moved:
            self._see_inner(counter, found.step)
            self._newest_step = counter
        before = self._step
        if counter.believed and not counter.cyclic and (before is None or before.cyclic or before.finished):
            self._step = counter
        return moved

    def end(self) -> None:
        """Nothing comes any more: of several loops the last one says where it is, even if it has risen only once.

        And who ends without a finite loss was in no warm-up.
        """
        if self._lost >= _NOT_FINITE:
            self.not_finite = self.not_finite or self._lost_line
        main, last, step = self._epoch, self._newest, self._newest_step
        if main is not None and last is not None:
            over = main.cyclic or self._finished(main)
            if over and last.pattern == main.pattern and last.total and (last is not main or last.anew):
                last.settle(last.anew or last.at)
                self._inner = self._inner if last is main else None
                self._epoch, self.seq = last, self.seq + 1
        elif (self._step is None or self._step.cyclic) and step is not None and step.stops_short:
            step.settle(step.anew or step.at)
            self._step, self.seq = step, self.seq + 1

    def _see_inner(self, counter: Counter, step: int) -> None:
        if self._inner is None or counter is self._inner:
            self._inner, self._inner_step = counter, step

    def _counter(
        self,
        counters: dict[tuple[object, ...], Counter],
        key: tuple[object, ...],
        pattern: str,
        total: int | None,
        found: LineMatch,
    ) -> Counter:
        if key not in counters:
            while len(counters) >= _COUNTERS:
                del counters[next(iter(counters))]
            name = pattern if total is None else f"{pattern} /{total}"
            known = name in self.known and not found.aside
            counters[key] = Counter(
                name=name, pattern=pattern, total=total, steps=found.steps, aside=found.aside, known=known
            )
        return counters[key]

    def beat(self, pid: int) -> Beat | None:
        """The position as a record of the trainer; None: no line was believed so far."""
        if not self.seq:
            return None
        epoch, epochs, step, steps = self._position()
        began_epoch, began_step = self._began()
        return Beat(
            seq=self.seq,
            pid=pid,
            section=Section.TRAIN,
            phase=self._phase,
            epoch=epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            samples=None,
            loss=self._loss,
            lr=self._lr,
            metric=self._metric,
            metric_epoch=self._metric_epoch,
            done=False,
            source=BeatSource.OUTPUT if self.patterns.certain else BeatSource.GUESS,
            began_epoch=began_epoch,
            began_step=began_step,
        )

    def _position(self) -> tuple[int | None, int | None, int | None, int | None]:
        main = self._epoch
        if main is not None and not main.cyclic:
            epoch, epochs = self._from_one(main)
            epochs = epochs or self._goal[0]
            if main.steps is not None:
                return epoch, epochs, main.at[1], main.steps
            inner = self._inner
            return epoch, epochs, self._inner_step, None if inner is None else inner.steps
        main = self._step
        if main is not None and not main.cyclic:
            return None, None, main.at[1], main.total or self._goal[1]
        return None, None, None, None

    def _began(self) -> tuple[int | None, int | None]:
        """The first epoch and step that were shown of what says the position now.

        A bar alone tells nothing of it where there were epochs in earlier attempts: it may be that of one epoch.
        """
        main, inner = self._epoch, self._inner
        if main is not None and not main.cyclic and self._counts_what_remains(main):
            return None, None
        if main is not None and not main.cyclic:
            epoch = main.began[0] + (main.name + _FROM_ZERO in self.known)
            return epoch, main.began[1] if main.steps is not None else None if inner is None else inner.began[1]
        main = self._step
        if main is None or main.cyclic or self._counts_what_remains(main) or any(map(says_epoch, self.known)):
            return None, None
        return None, main.began_step

    def _counts_what_remains(self, main: Counter) -> bool:
        """Whether earlier attempts have named other totals: then where it began in training is not known."""
        earlier = [
            name for name in self.known if name.startswith(f"{main.pattern} /") and not name.endswith(_FROM_ZERO)
        ]
        return bool(earlier) and main.name not in earlier

    def _finished(self, main: Counter) -> bool:
        epoch, epochs = self._from_one(main)
        return epochs is not None and epoch >= epochs

    def _from_one(self, main: Counter) -> tuple[int, int | None]:
        """Epoch and epochs as we count them: from 1."""
        epoch, epochs = main.at[0], main.total
        if main.name + _FROM_ZERO in self.known:
            epoch += 1
            if epochs is not None:
                epochs = max(epoch, epochs + counts_to_last_index(main.pattern))
        return epoch, epochs


def _rank(counter: Counter) -> tuple[bool, int]:
    """The one that names its total says more; of two, the one that is further goes on."""
    return counter.total is not None, counter.at[0]

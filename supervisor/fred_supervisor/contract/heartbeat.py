"""The heartbeat: one small file that a trainer changes while it makes progress.

Any change of the file is a beat (level 1: `date > "$FRED_HEARTBEAT"`). The client below writes one fixed-size text
record in place (level 2), which also says where in training it is. No thread: what beats is the training step, so
a hung step falls silent.
"""

import faulthandler
import os
import signal
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Final

from fred_supervisor.contract import beat_text, environment
from fred_supervisor.contract.beat_text import MAGIC, record_text, short_word, whole_number
from fred_supervisor.contract.error_file import record_error
from fred_supervisor.contract.record import record

RECORD_BYTES: Final = 256


class Section(StrEnum):
    """What a trainer does at the moment; each section has its own time limit."""

    STARTUP = "startup"
    """From launch to the first training step: imports, data index, model, checkpoint."""
    FIRST_STEP = "first-step"
    """The first step of a process or a phase: compilation, cuDNN benchmark, loader workers."""
    TRAIN = "train"
    """Training steps."""
    EVAL = "eval"
    """Evaluation."""
    CHECKPOINT = "checkpoint"
    """Writing a checkpoint."""
    SHUTDOWN = "shutdown"
    """Leaving: last files, worker processes."""


class BeatSource(StrEnum):
    """Where a record comes from."""

    CLIENT = "client"
    """The trainer wrote it."""
    OUTPUT = "output"
    """Its output was read, as `--progress-output` says."""
    GUESS = "guess"
    """Its output was read by patterns that fit many trainers."""


@record
class Beat:
    """One valid record. What the trainer did not say is None."""

    seq: int
    """Rises with every call of the client."""
    pid: int
    section: Section
    phase: str | None
    """"freeze" or "unfreeze" for this project's trainer; any word for others."""
    epoch: int | None
    epochs: int | None
    step: int | None
    """Steps done in this epoch, from 1."""
    steps: int | None
    """Steps in this epoch."""
    samples: int | None
    """Samples seen since the beginning of the run, over all attempts."""
    loss: float | None
    done: bool
    """The goal of the command is reached."""
    alarm: str | None = None
    """A word of `Alarm`: what needs a person, while training goes on."""
    node: int | None = None
    """Of several machines, the one that this process runs on."""
    source: BeatSource = BeatSource.CLIENT
    lr: float | None = None
    metric: float | None = None
    """Of its newest evaluation; higher is better."""
    metric_epoch: int | None = None
    gradient: float | None = None
    waits: float | None = None
    batch: int | None = None
    """What it says that it trains with."""
    began_epoch: int | None = None
    """Of the first position that this process said; so is the next one."""
    began_step: int | None = None

    @property
    def printed(self) -> bool:
        """It was read from the trainer's output."""
        return self.source is not BeatSource.CLIENT

    @property
    def position(self) -> tuple[str, str | None, int | None, int | None, int | None]:
        """A change of it is progress."""
        return (self.section, self.phase, self.epoch, self.step, self.samples)


def parse(data: bytes) -> Beat | None:
    """The record in `data`, or None when it is empty, torn, garbled or not of the client."""
    if len(data) != RECORD_BYTES or not data.startswith(MAGIC):
        return None
    body, _, tail = data.rstrip().rpartition(b" crc=")
    try:
        if int(tail, 16) != zlib.crc32(body):
            return None
        fields = dict(word.split("=", 1) for word in body.decode("ascii").split()[1:])

        def number(key: str) -> int | None:
            return None if fields[key] == "-" else whole_number(fields[key])

        return Beat(
            seq=int(fields["seq"]),
            pid=int(fields["pid"]),
            section=Section(fields["section"]),
            phase=None if fields["phase"] == "-" else short_word(fields["phase"]),
            epoch=number("epoch"),
            epochs=number("epochs"),
            step=number("step"),
            steps=number("steps"),
            samples=number("samples"),
            loss=None if fields["loss"] == "-" else float(fields["loss"]),
            done=fields["done"] == "1",
            alarm=fields.get("alarm"),
            node=None if "node" not in fields else number("node"),
            source=BeatSource(fields.get("source", BeatSource.CLIENT)),
            lr=None if "lr" not in fields else float(fields["lr"]),
            metric=None if "metric" not in fields else float(fields["metric"]),
            metric_epoch=None if "evaluated" not in fields else whole_number(fields["evaluated"]),
            gradient=None if "gradient" not in fields else float(fields["gradient"]),
            waits=None if "waits" not in fields else float(fields["waits"]),
            batch=None if "batch" not in fields else whole_number(fields["batch"]),
            began_epoch=beat_text.began(fields, 0),
            began_step=beat_text.began(fields, 1),
        )
    except (ValueError, KeyError):
        return None


def record_of(beat: Beat) -> bytes:
    """A whole record, for those who write what they have read themselves."""
    values = (beat.epoch, beat.epochs, beat.step, beat.steps, beat.samples)
    phase = None if beat.phase is None else short_word(beat.phase)
    told = beat_text.told_figures((beat.lr, beat.metric, beat.metric_epoch, beat.gradient, beat.waits))
    record = record_text(
        seq=beat.seq,
        pid=beat.pid,
        section=beat.section,
        phase=phase,
        values=values,
        loss=beat.loss,
        done=beat.done,
        last=f" source={beat.source}{told}{beat_text.told_began(beat.began_epoch, beat.began_step)}",
    )
    return record.ljust(RECORD_BYTES - 1) + b"\n"


class Heartbeat:
    """The client of a trainer, for rank 0 or any other; it does nothing without `$FRED_HEARTBEAT`.

    ::

        hb = Heartbeat()
        for step, batch in enumerate(loader, 1):
            loss = train(batch)
            hb.beat(epoch=epoch, epochs=300, step=step, steps=len(loader), loss=loss_on_host)
            if hb.stopping:
                save(); sys.exit(75)
        hb.done()

    Under the supervisor it also takes SIGTERM (sets `stopping`) and SIGUSR1 (dumps every thread's stack to standard
    error); `signals=True` does so without one, `signals=False` never. Signals can be taken in the main thread only.
    A full disk or a deleted file never raises here: a beat that cannot be written is lost.
    """

    def __init__(self, *, environ: Mapping[str, str] = os.environ, signals: bool | None = None) -> None:
        self.rank, self._node = environment.place_of(environ)
        self.stopping = False
        self._pid, self._seq = os.getpid(), 0
        self._section = Section.STARTUP
        self._phase: str | None = None
        self._epoch: int | None = None
        self._epochs: int | None = None
        self._step: int | None = None
        self._steps: int | None = None
        self._samples: int | None = None
        self._loss: float | None = None
        self._done = False
        self._alarm: str | None = None
        self._batch: int | None = None
        self._figures: beat_text.Figures = beat_text.NO_FIGURES
        self._began: tuple[int | None, int | None] = (None, None)
        self._raised_in: Section | None = None
        self._fd: int | None = None
        path, errors = (environ.get(name, "") for name in (environment.HEARTBEAT, environment.ERROR_FILE))
        self._error_file = Path(environment.rank_path(errors, self.rank)) if errors else None
        if path:
            try:
                self._fd = os.open(
                    environment.rank_path(path, self.rank), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
            except OSError as error:
                print(f"fred heartbeat: cannot open {path}: {error}", file=sys.stderr)  # noqa: T201 - its log
        if signals or (signals is None and path):
            self._take_signals()
        self._write()

    def beat(
        self,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        step: int | None = None,
        steps: int | None = None,
        samples: int | None = None,
        loss: float | None = None,
        phase: str | None = None,
        batch: int | None = None,
        lr: float | None = None,
        metric: float | None = None,
        gradient: float | None = None,
        waits: float | None = None,
    ) -> None:
        """Reports that a step was made, and where training is; what is left out keeps its last value.

        `loss` is the last value that is on the host already: never synchronise a GPU for it. `batch` is the number of
        samples that a step takes: it tells the supervisor that its order has arrived. `metric` is that of the newest
        evaluation (higher is better), `gradient` the norm of all gradients, `waits` the share of the time that waits
        for data. The first call ends the `startup` section.
        """
        if epoch is not None:
            self._epoch = epoch
        if epochs is not None:
            self._epochs = epochs
        if step is not None:
            self._step = step
        if steps is not None:
            self._steps = steps
        if samples is not None:
            self._samples = samples
        if loss is not None:
            self._loss = loss
        if phase is not None:
            self._phase = short_word(phase)
        if batch is not None:
            self._batch = batch
        self._figures = beat_text.later_figures(self._figures, (lr, metric, self._epoch, gradient, waits))
        if self._began == (None, None):
            self._began = (self._epoch, self._step)
        self._raised_in = None
        if self._section is Section.STARTUP:
            self._section = Section.TRAIN
        self._write()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Sets section `name` (one of `Section`) during the `with`; ValueError for any other name."""
        before, self._section = self._section, Section(name)
        self._write()
        try:
            yield
        except BaseException:
            self._raised_in = self._section
            raise
        finally:
            self._section = before
            self._write()

    def alarm(self, word: str | None) -> None:
        """Reports what needs a person (`Alarm`, or any other word) while training goes on; None: nothing does."""
        self._alarm = None if word is None else short_word(word)
        self._write()

    def done(self) -> None:
        """Reports that the goal of this command is reached."""
        self._done = True
        self._write()

    def error(self, exc: BaseException) -> None:
        """Writes `exc` into the error file, with section and position."""
        if self._error_file is None:
            return
        try:
            record_error(
                self._error_file,
                exc,
                section=self._raised_in or self._section,
                phase=self._phase,
                epoch=self._epoch,
                step=self._step,
                rank=self.rank,
            )
        except OSError as error:
            print(f"fred heartbeat: cannot write {self._error_file}: {error}", file=sys.stderr)  # noqa: T201 - as above

    def _write(self) -> None:
        if self._fd is None or os.getpid() != self._pid:  # a forked loader worker is not the trainer
            return
        self._seq += 1
        try:
            record = self._record()
        except (TypeError, ValueError, OverflowError) as error:
            print(f"fred heartbeat: a value that is no number is left out: {error}", file=sys.stderr)  # noqa: T201 - its log
            self._epoch = self._epochs = self._step = self._steps = self._samples = self._loss = self._batch = None
            self._figures = beat_text.NO_FIGURES
            self._began = (None, None)
            record = self._record()
        try:
            os.pwrite(self._fd, record.ljust(RECORD_BYTES - 1) + b"\n", 0)
        except OSError:  # no room, or a stale handle: the supervisor sees silence, and says so
            return

    def _record(self) -> bytes:
        alarm = f"{self._node}{f' alarm={self._alarm}' if self._alarm else ''}"
        batch = "" if self._batch is None else f" batch={int(self._batch)}"
        known, began = f"{alarm}{batch}", beat_text.told_began(*self._began)
        record = b""
        for last in (f"{known}{beat_text.told_figures(self._figures)}{began}", f"{known}{began}", alarm):
            record = record_text(
                seq=self._seq,
                pid=self._pid,
                section=self._section,
                phase=self._phase,
                values=(self._epoch, self._epochs, self._step, self._steps, self._samples),
                loss=self._loss,
                done=self._done,
                last=last,
            )
            if len(record) < RECORD_BYTES:  # mostly; of numbers that nobody counts to, less is told
                break
        return record

    def _take_signals(self) -> None:
        try:
            signal.signal(signal.SIGTERM, self._on_term)
        except ValueError:  # not in the main thread: the trainer's handlers stay
            return
        try:
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=True, chain=False)
        except (ValueError, RuntimeError, OSError) as error:
            print(f"fred heartbeat: no stack dumps: {error}", file=sys.stderr)  # noqa: T201 - as above

    def _on_term(self, _signum: int, _frame: FrameType | None) -> None:
        self.stopping = True

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
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.contract.error_file import record_error
from fred_supervisor.contract.record import record

RECORD_BYTES: Final = 256
_MAGIC: Final = b"fred-beat/1 "
_WHOLE: Final = 1 << 63
"""No count has more bits; arithmetic with such a one may overflow."""


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
    source: BeatSource = BeatSource.CLIENT
    lr: float | None = None
    """Where its output was read; so is the next one."""
    metric: float | None = None

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
    if len(data) != RECORD_BYTES or not data.startswith(_MAGIC):
        return None
    body, _, tail = data.rstrip().rpartition(b" crc=")
    try:
        if int(tail, 16) != zlib.crc32(body):
            return None
        fields = dict(word.split("=", 1) for word in body.decode("ascii").split()[1:])

        def number(key: str) -> int | None:
            return None if fields[key] == "-" else _whole(fields[key])

        return Beat(
            seq=int(fields["seq"]),
            pid=int(fields["pid"]),
            section=Section(fields["section"]),
            phase=None if fields["phase"] == "-" else _word(fields["phase"]),
            epoch=number("epoch"),
            epochs=number("epochs"),
            step=number("step"),
            steps=number("steps"),
            samples=number("samples"),
            loss=None if fields["loss"] == "-" else float(fields["loss"]),
            done=fields["done"] == "1",
            alarm=fields.get("alarm"),
            source=BeatSource(fields.get("source", BeatSource.CLIENT)),
            lr=None if "lr" not in fields else float(fields["lr"]),
            metric=None if "metric" not in fields else float(fields["metric"]),
        )
    except (ValueError, KeyError):
        return None


def record_of(beat: Beat) -> bytes:
    """A whole record, for those who write what they have read themselves."""
    values = (beat.epoch, beat.epochs, beat.step, beat.steps, beat.samples)
    phase = None if beat.phase is None else _word(beat.phase)
    figures = {"lr": beat.lr, "metric": beat.metric}
    told = "".join(f" {key}={value:.6g}" for key, value in figures.items() if value is not None)
    record = _format(
        seq=beat.seq,
        pid=beat.pid,
        section=beat.section,
        phase=phase,
        values=values,
        loss=beat.loss,
        done=beat.done,
        last=f" source={beat.source}{told}",
    )
    return record.ljust(RECORD_BYTES - 1) + b"\n"


def _format(
    *,
    seq: int,
    pid: int,
    section: Section,
    phase: str | None,
    values: tuple[int | None, ...],
    loss: float | None,
    done: bool,
    last: str,
) -> bytes:
    """Raises TypeError or ValueError for a value that is no number."""
    epoch, epochs, step, steps, samples = ["-" if value is None else int(value) for value in values]
    body = (
        f"fred-beat/1 seq={seq} pid={pid} section={section} phase={phase or '-'}"
        f" epoch={epoch} epochs={epochs} step={step} steps={steps} samples={samples}"
        f" loss={'-' if loss is None else f'{float(loss):.6g}'} done={done:d}{last}"
    ).encode("ascii")
    return b"%b crc=%08x" % (body, zlib.crc32(body))


def _whole(text: str) -> int:
    found = int(text)
    if abs(found) >= _WHOLE:
        raise ValueError("more than 64 bits")
    return found


@lru_cache(maxsize=16)
def _word(text: str) -> str:
    """`text` as one short ASCII word, so that it fits the record."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)[:16]


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
        rank = environ.get("RANK", "")
        self.rank = int(rank) if rank.isdigit() else 0
        self.stopping = False
        self._pid = os.getpid()
        self._seq = 0
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
        self._raised_in: Section | None = None
        self._fd: int | None = None
        path = environ.get(environment.HEARTBEAT, "")
        errors = environ.get(environment.ERROR_FILE, "")
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
    ) -> None:
        """Reports that a step was made, and where training is; what is left out keeps its last value.

        `loss` is the last value that is on the host already: never synchronise a GPU for it. The first call ends
        the `startup` section.
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
            self._phase = _word(phase)
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
        self._alarm = None if word is None else _word(word)
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
            self._epoch = self._epochs = self._step = self._steps = self._samples = self._loss = None
            record = self._record()
        try:
            os.pwrite(self._fd, record.ljust(RECORD_BYTES - 1) + b"\n", 0)
        except OSError:  # no room, or a stale handle: the supervisor sees silence, and says so
            return

    def _record(self) -> bytes:
        values = (self._epoch, self._epochs, self._step, self._steps, self._samples)
        return _format(
            seq=self._seq,
            pid=self._pid,
            section=self._section,
            phase=self._phase,
            values=values,
            loss=self._loss,
            done=self._done,
            last=f" alarm={self._alarm}" if self._alarm else "",
        )

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

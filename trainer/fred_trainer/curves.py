"""TensorBoard curves: one event file per process, all attempts of a run in one folder, so that they join."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from fred_supervisor.contract.files import now_text


class Curves:
    """Scalars by samples seen. Writes are synchronous and buffered: no thread to be forked into loader workers.

    TensorBoard loads after the first training step, when nobody waits for it.
    """

    def __init__(self, run_dir: Path, *, samples: int, muted: bool = False) -> None:
        """Go on at `samples`: what earlier attempts wrote beyond it never happened. 0: a new folder.

        `muted`: nothing is written, for another rank does it.
        """
        self._muted = muted
        self._folder = _folder(run_dir, fresh=samples == 0)
        self._purge_from = samples + 1
        self._records: Any = None

    def add(self, samples: int, **scalars: float) -> None:
        """Scalars by tag; `__` stands for the slash: `train__loss`."""
        if self._muted:
            return

        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - see the class
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415

        if self._records is None:
            self._open()
        values = [Summary.Value(tag=tag.replace("__", "/"), simple_value=x) for tag, x in scalars.items()]
        self._write(Event(step=samples, summary=Summary(value=values)))

    def flush(self) -> None:
        """To the file: before a checkpoint, so that the curves reach at least as far."""
        if self._records is not None:
            self._records.flush()

    def close(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None

    def _open(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((self._folder / name).open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=self._purge_from, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _folder(run_dir: Path, *, fresh: bool) -> Path:
    earlier = sorted(run_dir.glob("loss_*/"))
    if earlier and not fresh:
        return earlier[-1]
    return run_dir / f"loss_{now_text().replace(':', '-')}"

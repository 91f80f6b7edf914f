"""TensorBoard curves: one event file per process, all attempts of a run in one folder, so that they join."""

import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from fred_supervisor.contract.files import now_text
from fred_trainer.data import Image
from fred_trainer.evaluate.metrics import Curve

THRESHOLDS: Final = 101
"""Scores at which the precision-recall curve is cut."""


class TrainingCurves:
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
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - see the class

        self._add(samples, [Summary.Value(tag=tag.replace("__", "/"), simple_value=x) for tag, x in scalars.items()])

    def add_picture(self, samples: int, tag: str, picture: Image) -> None:
        """A picture `(H, W, 3)` uint8, blue, green, red."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - see the class

        height, width = picture.shape[:2]
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg.tobytes())
        self._add(samples, [Summary.Value(tag=tag, image=image)])

    def add_precision_recall(self, samples: int, tag: str, curve: Curve, *, boxes: int) -> None:
        """Precision over recall, for TensorBoard's own view of it; `boxes` are the true ones."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - see the class
        from tensorboard.plugins.pr_curve import metadata  # noqa: PLC0415
        from tensorboard.util import tensor_util  # noqa: PLC0415

        table = by_threshold(curve, boxes)
        about = metadata.create_summary_metadata(display_name="", description="", num_thresholds=table.shape[1])
        value = Summary.Value(tag=tag, metadata=about, tensor=tensor_util.make_tensor_proto(table))
        self._add(samples, [value])

    def _add(self, samples: int, values: list[Any]) -> None:
        if self._muted:
            return
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - see the class
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415

        if self._records is None:
            self._open()
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


def by_threshold(curve: Curve, boxes: int) -> npt.NDArray[np.float32]:
    """`(6, T)`: true positives, false positives, true negatives (none: there are no negative boxes), false negatives,
    precision and recall of the boxes whose score is at least 0, 1/T, 2/T, …
    """
    precision, score = np.asarray(curve.precision or [0.0]), np.asarray(curve.score or [0.0])
    recall = np.linspace(0, 1, len(precision)) if len(precision) > 1 else np.zeros(1)
    reached = (precision > 0)[None, :] & (score[None, :] >= np.linspace(0, 1, THRESHOLDS)[:, None])
    last = reached.sum(axis=1) - 1  # both fall along the curve, so those that are reached stand first
    at = last.clip(0)
    recalled = np.where(last >= 0, recall[at], 0.0)
    right = np.where(last >= 0, precision[at], 1.0)
    hits = recalled * boxes
    strays = hits * (1 / right.clip(1e-6) - 1)
    return np.stack([hits, strays, np.zeros_like(hits), boxes - hits, right, recalled]).astype(np.float32)


def _folder(run_dir: Path, *, fresh: bool) -> Path:
    earlier = sorted(run_dir.glob("loss_*/"))
    if earlier and not fresh:
        return earlier[-1]
    return run_dir / f"loss_{now_text().replace(':', '-')}"

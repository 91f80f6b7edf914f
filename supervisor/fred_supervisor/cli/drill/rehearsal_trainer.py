"""A small trainer for rehearsals, where the built-in one is not installed: real process, heartbeat and checkpoints.

    python -m fred_supervisor.cli.drill.rehearsal_trainer DRILLS

It knows the drills of `fred-train`, needs nothing but Python, and trains nothing.
"""

import ctypes
import json
import math
import os
import re
import signal
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Final

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.drill import Drill, DrillFault, parse_drills
from fred_supervisor.contract.builtin.trainer_files import epoch_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, publish
from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.contract.files import write_atomic
from fred_supervisor.store.layout import RunDir

FREEZE_EPOCHS: Final = 2
EPOCHS: Final = 4
STEPS: Final = 10
BATCH: Final = 8
_STEP_S: Final = 0.01


class LossError(RuntimeError):
    """The loss is not a finite number."""

    fred_kind = ErrorKind.NAN_LOSS


def main() -> int:
    run = RunDir(Path(os.environ["FRED_RUN_DIR"]))
    drills = parse_drills(sys.argv[1] if len(sys.argv) > 1 else "")
    heartbeat = Heartbeat()
    try:
        return _train(run, drills, heartbeat)
    except Exception as error:
        heartbeat.error(error)
        raise


def _train(run: RunDir, drills: tuple[Drill, ...], heartbeat: Heartbeat) -> int:
    for epoch in range(_next_epoch(), EPOCHS + 1):
        phase = "freeze" if epoch <= FREEZE_EPOCHS else "unfreeze"
        for step in range(1, STEPS + 1):
            loss = 1 / (epoch * STEPS + step)
            for drill in drills:
                if (drill.where, drill.epoch, drill.step) == (phase, epoch, step) and _first_time(run, drill):
                    loss *= _commit(drill)
            if not math.isfinite(loss):
                raise LossError(f"the loss is {loss} at epoch {epoch}, step {step}")
            time.sleep(_STEP_S)
            samples = ((epoch - 1) * STEPS + step) * BATCH
            heartbeat.beat(epoch=epoch, epochs=EPOCHS, step=step, steps=STEPS, samples=samples, loss=loss, phase=phase)
            if heartbeat.stopping:
                return TrainerExit.SAVED
        with heartbeat.section("checkpoint"):
            _save(run.path, phase, epoch)
    heartbeat.done()
    return TrainerExit.COMPLETE


def _next_epoch() -> int:
    resume = os.environ["FRED_RESUME"]
    if not resume:
        return 1
    with zipfile.ZipFile(resume) as archive:
        return int(json.loads(archive.read("data.pkl"))["epoch"]) + 1


def _save(run_dir: Path, phase: str, epoch: int) -> None:
    written = run_dir / f".{epoch}.tmp"
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("data.pkl", json.dumps({"epoch": epoch}))

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(
            size=size,
            digest=digest,
            phase=phase,
            epoch=epoch,
            step=STEPS,
            samples=epoch * STEPS * BATCH,
            batch=BATCH,
            session=int(os.environ["FRED_ATTEMPT"]),
            finite=True,
            epoch_complete=True,
        )

    publish(written, [run_dir / epoch_name(phase, epoch)], describe)


def _first_time(run: RunDir, drill: Drill) -> bool:
    """Whether it has not fired in this run; the marker is on disk before it does."""
    marker = run.drills / drill.marker
    if marker.exists() and not drill.always:
        return False
    run.drills.mkdir(mode=0o700, exist_ok=True)
    write_atomic(marker, b"")
    return True


def _commit(drill: Drill) -> float:
    """Fail as told; a factor for the loss when it comes back."""
    match drill.fault:
        case DrillFault.EXCEPTION:
            raise RuntimeError(f"rehearsed by the drill {drill.text}")
        case DrillFault.OOM:
            raise RuntimeError(f"CUDA out of memory. Rehearsed by the drill {drill.text}")
        case DrillFault.SEGFAULT:
            ctypes.string_at(1)
        case DrillFault.SIGKILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case DrillFault.SIGSTOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case DrillFault.HANG:
            threading.Event().wait()
        case DrillFault.GIL:
            re.match(r"(a?){40}a{40}", "a" * 40)
        case DrillFault.EXIT0:
            sys.exit(0)
        case DrillFault.NAN:
            return math.nan
        case DrillFault.SLOW:
            time.sleep(drill.seconds)
    return 1.0


if __name__ == "__main__":
    sys.exit(main())

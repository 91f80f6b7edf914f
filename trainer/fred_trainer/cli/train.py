"""`fred-train` without a command word: trains, or only evaluates, as its flags say."""

import logging
import signal
import sys

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.data import DataError
from fred_trainer.errors import CheckpointError, PreemptedError
from fred_trainer.report.curves import TrainingCurves
from fred_trainer.report.progress import Progress
from fred_trainer.runtime.device import choose_device
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.runtime.ranks import join, started_as
from fred_trainer.train.loop import End, train
from fred_trainer.train.preflight import rehearse
from fred_trainer.train.services import Services
from fred_trainer.train.settings import TrainSettings
from fred_trainer.train.setup import prepare
from fred_trainer.train.validation import score


def run(settings: TrainSettings, hb: Heartbeat) -> int:
    """Train, or only evaluate, to the goal of `settings`; the exit code. A failure is recorded, and raised."""
    rank, count = started_as()
    logging.basicConfig(
        stream=sys.stdout,
        format=f"rank {rank}: %(message)s" if rank else "%(message)s",
        level=logging.WARNING if rank else logging.INFO,
    )
    device = choose_device(settings.device, count)
    ranks = join(device, hb)
    drills = DrillRunner(settings.drills if ranks.leads else (), TrainerFiles(settings.run_dir), device)
    drills.startup()
    checkpoints = Checkpoints(
        settings.run_dir, every_s=settings.save_every_seconds, drills=drills, hb=hb, device=device
    )
    try:
        training = prepare(settings, device, ranks)
    except (DataError, CheckpointError) as error:
        error.at_start = True  # bad input: the exit code says so to people, the error file says more to a supervisor
        raise
    checkpoints.saved_samples = training.samples
    if training.doubts:
        checkpoints.standing = Alarm.RESUME
        hb.alarm(Alarm.RESUME)
    progress = Progress(TrainingCurves(settings.run_dir, samples=training.samples, muted=not ranks.leads))
    services = Services(hb=hb, checkpoints=checkpoints, drills=drills, progress=progress)
    try:
        if settings.eval_only:
            hb.beat(epoch=training.position.epoch, epochs=settings.goal_epoch, phase=training.phase)
            end = End.STOPPED if score(training, services) is None else End.DONE
            if end is End.DONE:
                hb.done()
        else:
            if not settings.no_preflight:
                rehearse(training, hb)
            end = train(training, services)
            checkpoints.finish(must=True)
    except Exception as error:
        hb.error(error)  # first: what follows may take its time
        ranks.release()
        services.rescue(training)
        raise
    finally:
        progress.close()
    if end is End.STOPPED and ranks.count > 1:
        hb.error(PreemptedError("asked to leave; the state is saved"))
    with hb.section("shutdown"):
        ranks.leave()
        return TrainerExit.COMPLETE if end is End.DONE else TrainerExit.SAVED


def stop_on_interrupt(hb: Heartbeat) -> None:
    """Treat Ctrl-C like SIGTERM: save and leave. A second one ends the process at once."""

    def on_interrupt(*_: object) -> None:
        hb.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, on_interrupt)

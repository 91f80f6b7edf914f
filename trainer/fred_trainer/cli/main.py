"""`fred-train`: the trainer's command line."""

import argparse
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.exits import TrainerExit
from fred_supervisor.contract.flags import FLAGS, add_flags, normalise
from fred_trainer.settings import ConfigError, Settings, settings_from

if TYPE_CHECKING:
    import torch

# torch takes seconds to import: only what is imported above may be needed to refuse a command line.


SHARED_CORES: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""torch's threads sleep while they wait for each other, unless the environment says otherwise. By default they spin:
on two cores that loader workers, and other people, want too, an image cost four to five times the CPU time."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and leaves as the contract has it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 the goal is reached, 75 state saved, 78 configuration error, 1 any failure."""
    for name, value in SHARED_CORES.items():  # read when torch is loaded
        os.environ.setdefault(name, value)
    faulthandler.enable(file=2)  # a crash by a signal leaves the stack in the log
    words = normalise(sys.argv[1:] if argv is None else argv)
    own = words[:1] in (["data"], ["predict"])
    hb = Heartbeat(signals=not own)
    try:
        if own:
            if words[0] == "data":
                from fred_trainer.data_command import main as command  # noqa: PLC0415 - see the top
            else:
                from fred_trainer.predict_command import main as command  # noqa: PLC0415 - see the top

            return command(words[1:])
        signal.signal(signal.SIGINT, lambda *_: on_interrupt(hb))
        settings = settings_from(train_parser().parse_args(words))
        make_run_dir(settings.run_dir)
        return run(settings, hb)
    except Exception as error:  # noqa: BLE001 - the one place where every failure gets its exit code
        hb.error(error)
        kind = getattr(error, "fred_kind", None)
        of_input = own and isinstance(error, OSError)
        if kind not in ("config", "data", "checkpoint") and not of_input:  # these explain themselves in a line
            traceback.print_exception(error)
        print(f"fred-train: {error or type(error).__name__}", file=sys.stderr)
        refused = kind == "config" or own or getattr(error, "at_start", False)
        return TrainerExit.CONFIG if refused else TrainerExit.FAILURE
    finally:
        for worker in multiprocessing.active_children():  # one that is stuck in a read must not keep us
            worker.kill()


def train_parser() -> argparse.ArgumentParser:
    """The parser of the training command, from the contract's table of flags."""
    parser = Parser(
        prog="fred-train",
        allow_abbrev=False,
        description="Trains the RGB + event drone detector. Also: fred-train data synth|check DIR, and"
        " fred-train predict.",
    )
    add_flags(parser, FLAGS, defaults=True)
    parser.add_argument(
        "--drill", metavar="KIND@WHERE[,…]", default="", help="fail on purpose, e.g. sigkill@unfreeze:3:2"
    )
    return parser


def make_run_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--run-dir {path}: {error.strerror}; name a folder that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"--run-dir {path}: not writable; name a folder that can be written")


def on_interrupt(hb: Heartbeat) -> None:
    """Ctrl-C is like SIGTERM; a second one does not wait."""
    hb.stopping = True
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(settings: Settings, hb: Heartbeat) -> int:
    """Train, or only evaluate, as the settings say."""
    from fred_supervisor.contract.layout import RunDir  # noqa: PLC0415
    from fred_trainer.checkpoint import CheckpointError, Checkpoints  # noqa: PLC0415
    from fred_trainer.curves import Curves  # noqa: PLC0415
    from fred_trainer.data import DataError  # noqa: PLC0415
    from fred_trainer.faults import Faults  # noqa: PLC0415
    from fred_trainer.loop import Around, End, score, train  # noqa: PLC0415
    from fred_trainer.preflight import rehearse  # noqa: PLC0415
    from fred_trainer.progress import Progress  # noqa: PLC0415
    from fred_trainer.ranks import PreemptedError, join, started_as  # noqa: PLC0415
    from fred_trainer.training import prepare  # noqa: PLC0415

    rank, count = started_as()
    logging.basicConfig(
        stream=sys.stdout,
        format=f"rank {rank}: %(message)s" if rank else "%(message)s",
        level=logging.WARNING if rank else logging.INFO,
    )
    device = choose_device(settings.device, count)
    ranks = join(device, hb)
    faults = Faults(settings.drills if ranks.leads else (), RunDir(settings.run_dir), device)
    faults.startup()
    checkpoints = Checkpoints(
        settings.run_dir, every_s=settings.save_every_seconds, faults=faults, hb=hb, device=device
    )
    try:
        training = prepare(settings, device, ranks)
    except (DataError, CheckpointError) as error:
        error.at_start = True  # bad input: the exit code says so to people, the error file says more to a supervisor
        raise
    checkpoints.saved_samples = training.samples
    progress = Progress(Curves(settings.run_dir, samples=training.samples, muted=not ranks.leads))
    around = Around(hb=hb, checkpoints=checkpoints, faults=faults, progress=progress)
    try:
        if settings.eval_only:
            hb.beat(epoch=training.position.epoch, epochs=settings.goal_epoch, phase=training.phase)
            end = End.STOPPED if score(training, around) is None else End.DONE
            if end is End.DONE:
                hb.done()
        else:
            if not settings.no_preflight:
                rehearse(training, hb)
            end = train(training, around)
            checkpoints.finish(must=True)
    except Exception as error:
        hb.error(error)  # first: what follows may take its time
        ranks.release()
        around.rescue(training)
        raise
    finally:
        progress.close()
    if end is End.STOPPED and ranks.count > 1:
        hb.error(PreemptedError("asked to leave; the state is saved"))
    with hb.section("shutdown"):
        ranks.leave()
        return TrainerExit.COMPLETE if end is End.DONE else TrainerExit.SAVED


def choose_device(name: str, ranks: int = 1) -> "torch.device":
    """The device that `--device` means, for this one of `ranks`. Raises ConfigError when there is none."""
    import torch  # noqa: PLC0415 - see the top

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks > 1 and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    elif ranks > 1 and name != "cpu":
        raise ConfigError(f"--device {name}: one for {ranks} ranks; use cuda, each takes its own, or cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: no such device; use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs; use --device cpu or auto")
    return device

"""`fred-train`: which command it is, and the exit code of every failure."""

import faulthandler
import importlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import fred_supervisor
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.flags import normalise
from fred_supervisor.contract.builtin.hints import taken_as
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.language import tr
from fred_trainer.cli.parser import make_run_dir, train_parser
from fred_trainer.errors import SupersededError
from fred_trainer.train.settings import settings_from
from fred_trainer.words import said, speak_as_preferred

# torch takes seconds to import: only what is imported above may be needed to refuse a command line.

PASSIVE_THREADS: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""torch's threads sleep while they wait for each other, unless the environment says otherwise. By default they spin:
on two cores that loader workers, and other people, want too, an image cost four to five times the CPU time."""
COMMANDS: Final = {
    "data": "fred_trainer.cli.data",
    "evaluate": "fred_trainer.cli.evaluate",
    "predict": "fred_trainer.cli.predict",
    "prove": "fred_trainer.cli.prove",
    "samples": "fred_trainer.cli.samples",
}
"""The first word → the module whose `main` takes the words after it. Any other first word is a flag of training."""
LIBRARIES: Final = ("numpy", "torch", "torchvision", "cv2", "PIL", "rich", "tensorboard", "faster_coco_eval")
"""What the extra `train` brings; without them there is nothing to trace."""
ONE_LINE_KINDS: Final = ("config", "data", "checkpoint", "learning", "preempted")
"""Errors of these kinds explain themselves in one line; all others need their traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 the goal is reached, 75 state saved, 78 configuration error, 1 any failure."""
    for name, value in PASSIVE_THREADS.items():  # read when torch is loaded
        os.environ.setdefault(name, value)
    speak_as_preferred()
    faulthandler.enable(file=2)  # a crash by a signal leaves the stack in the log
    typed = sys.argv[1:] if argv is None else argv
    words = normalise(typed)
    for hint in taken_as(typed):
        print(f"fred-train: {hint}", file=sys.stderr)
    command = COMMANDS.get(words[0]) if words else None
    hb = Heartbeat(signals=command is None)
    try:
        if words[:1] == ["--version"]:
            print(f"fred-train {fred_supervisor.__version__}")
            return TrainerExit.COMPLETE
        if command is not None:
            exit_code: int = importlib.import_module(command).main(words[1:])
            return exit_code
        settings = settings_from(train_parser().parse_args(words))
        make_run_dir(settings.run_dir)

        from fred_trainer.cli.train import run, stop_on_interrupt  # noqa: PLC0415 - torch

        stop_on_interrupt(hb)
        return run(settings, hb)
    except Exception as error:  # noqa: BLE001 - the one place where every failure gets its exit code
        hb.error(error)
        kind = getattr(error, "fred_kind", None)
        bad_input = command is not None and isinstance(error, OSError)
        lacking = isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES
        if kind not in ONE_LINE_KINDS and not bad_input and not lacking:
            traceback.print_exception(error)
        remedy = tr("; `pip install '.[train]'` in the checkout installs it") if lacking else ""
        print(f"fred-train: {str(said(error)) or type(error).__name__}{remedy}", file=sys.stderr)
        if isinstance(error, SupersededError):
            return TrainerExit.SAVED
        refused = kind == "config" or command is not None or getattr(error, "at_start", False)
        return TrainerExit.CONFIG if refused else TrainerExit.FAILURE
    finally:
        for worker in multiprocessing.active_children():  # one that is stuck in a read must not keep us
            worker.kill()

"""What can be known to be wrong before anything is started."""

import importlib.util
import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.attempt.torchrun import under_torchrun
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.settings_layers import Options
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.placeholders import wrong_placeholder
from fred_supervisor.linux import proc
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch, trainer_lives
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.lost_run import lost_run
from fred_supervisor.store.place import place_of
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import RunSpec, changed_flags
from fred_supervisor.store.state_file import read_state

_CHECK_S: Final = 60.0
_OF_ANY_COMMAND: Final = ("modality", "data", "unfreeze_batch_size", "accumulate")
"""Trainer flags that mean something for somebody else's COMMAND."""
_OURS: Final = re.compile(
    r"\..*\.tmp|.*\.pth(\.json)?|loss_.*|events\.out\.tfevents\..*|supervisor|previous|cache|preflight\.json"
    r"|.*epoch.*loss\.(txt|png)|eval_.*"
)
"""What a run dir of ours, or of the trainer before, may hold."""
_INTERRUPTED: Final = re.compile(r"lock|supervisor\.log|attempts|incidents|drills|\..*\.json\.[0-9]+\.tmp")
"""What a supervisor folder may hold before there is a run.json."""


def check_addresses(to: AlertAddresses) -> None:
    """Whether alerts could be sent at all; asks no server. In a process of its own, for the library is large."""
    if to == AlertAddresses():
        return
    import subprocess  # noqa: PLC0415 - only where alerts are asked for

    words = [sys.executable, "-m", "fred_supervisor.alerts", "--check"]
    spec = json.dumps(asdict(to))
    try:
        done = subprocess.run(words, check=False, input=spec, capture_output=True, text=True, timeout=_CHECK_S)
        wrong = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise CommandError(CommandExit.BAD_INPUT, f"--notify: {words[2]} does not answer; reinstall Apprise") from error
    if wrong:
        raise CommandError(CommandExit.BAD_INPUT, f"{wrong[0]}; nothing was started")


def check_flags_of(command: list[str], flags: Options) -> None:
    lost = [BY_KEY[key].name for key in flags if key not in _OF_ANY_COMMAND]
    if lost:
        raise CommandError(
            CommandExit.USAGE,
            f"--{lost[0]} is a flag of fred-train and would not reach {command[0]}; write it behind `--`",
        )


def check_changes(before: RunSpec, flags: Options, given: Options) -> None:
    now = {**flags, "data": os.path.abspath(flags["data"])} if "data" in flags else flags
    changes = changed_flags({**before.flags, "modality": before.modality}, now)
    if changes:
        where = given["run_dir"] or before.run_dir
        raise CommandError(
            CommandExit.REFUSED,
            f"{where}: {'; '.join(changes)}; the model or the data would change: give the recorded value,"
            " --new for a fresh run, or --accept-changes",
        )


def check_run_dir(spec: RunSpec, before: RunSpec | None) -> None:
    path = Path(spec.run_dir)
    try:
        entries = sorted(os.listdir(path))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise CommandError(CommandExit.BAD_INPUT, f"{path} is a file; --run-dir names a folder") from error
    except PermissionError as error:
        raise CommandError(CommandExit.NO_PERMISSION, f"{path} cannot be read: {error.strerror}") from error
    if before is not None:
        return
    if lost_run(path) is not None:
        raise CommandError(
            CommandExit.REFUSED,
            f"{path}: its run.json is garbled or gone, and something of the run lives; `fred-supervise stop --run-dir"
            f" {path}` ends it, then start again",
        )
    if "supervisor" in entries and not _is_ours(path / "supervisor"):
        raise CommandError(
            CommandExit.BAD_INPUT, f"{path / 'supervisor'} is of another program; choose another --run-dir, or move it"
        )
    strangers = [entry for entry in entries if not _OURS.fullmatch(entry)]
    if spec.command is None and strangers:
        raise CommandError(
            CommandExit.BAD_INPUT,
            f"{path} is of another program: it holds {', '.join(strangers[:3])} and no run; choose another --run-dir",
        )


def _is_ours(folder: Path) -> bool:
    """An empty folder, one in which a start was interrupted, or one that has lost its run.json."""
    entries = os.listdir(folder) if folder.is_dir() else ["no folder"]
    return {"lock", "attempts"} <= set(entries) or all(_INTERRUPTED.fullmatch(entry) for entry in entries)


def check_output(spec: RunSpec) -> None:
    """Whether `--progress-output` makes sense as a whole."""
    given = spec.progress_output
    if given and spec.command is None:
        raise CommandError(
            CommandExit.USAGE, "--progress-output is for a COMMAND; fred-train says by itself where it is: leave it out"
        )
    alone = next((word for word in ("none", "auto") if word in given and len(given) > 1), None)
    if alone is not None:
        raise CommandError(
            CommandExit.USAGE, f"--progress-output {alone} stands alone; leave it out, or leave the patterns out"
        )


def check_signs(spec: RunSpec) -> None:
    """Whether `--fail-output` contradicts what else is said of lines."""
    if "none" in spec.fail_output:
        raise CommandError(
            CommandExit.USAGE, "--fail-output none stands alone; leave it out, or leave the patterns out"
        )
    for flag, patterns in (("progress-output", spec.progress_output), ("must-recur", spec.must_recur)):
        if (both := next((text for text in spec.fail_output if text in patterns), None)) is not None:
            raise CommandError(
                CommandExit.USAGE, f"--fail-output {both!r} is a pattern of --{flag}, too; leave one of them out"
            )


def check_watched_elsewhere(spec: RunSpec) -> None:
    """Whether a trainer writes here whose supervisor has gone with the folder that lay here before."""
    launch, supervisor = read_launch(spec.dir.attempt(last_attempt(spec.dir))), read_state(spec.dir).supervisor.identity
    if launch.place in (None, place_of(spec.run_dir)) or supervisor is None or not proc.alive(supervisor):
        return
    if launch.trainer is not None and proc.alive(launch.trainer):
        raise CommandError(
            CommandExit.REFUSED,
            f"{spec.run_dir}: the trainer pid {launch.trainer.pid} of the run that lay here before still writes here,"
            f" and its supervisor pid {supervisor.pid} watches it elsewhere; `kill {supervisor.pid}` ends both",
        )


def check_name(spec: RunSpec) -> None:
    """Whether a live run elsewhere is called the same."""
    for other in known_runs():
        if other.name == spec.name and not os.path.samefile(other.run_dir, _there(spec.run_dir)) and is_live(other):
            raise CommandError(
                CommandExit.REFUSED,
                f"a run {other.name!r} is live in {other.run_dir}; --name gives this one another name, or"
                f" `fred-supervise stop {other.name}` ends that one",
            )


def _there(run_dir: str) -> str:
    """A run dir, or, where there is none yet, the root, which is none."""
    return run_dir if os.path.exists(run_dir) else "/"


def is_live(spec: RunSpec) -> bool:
    """Its supervisor or its trainer lives."""
    return lock.held(spec.dir) or trainer_lives(spec.dir)


def check_ranks(spec: RunSpec) -> None:
    """Whether several ranks can be started as asked."""
    count, gpus = spec.ranks or 1, 0 if spec.gpu is None else len(spec.gpu.split(","))
    if count > 1 and gpus not in (0, count):
        raise CommandError(CommandExit.USAGE, f"--ranks {count} with {gpus} in --gpu: each rank has a GPU of its own")
    if spec.on_cpu and spec.flag("device") not in ("auto", "cpu"):
        raise CommandError(
            CommandExit.USAGE, f"--ranks {count} alone is for the CPU; name one GPU for each, e.g. --gpu 0,1"
        )
    if count > 1 and spec.command is not None and under_torchrun(spec.command, count) is None:
        raise CommandError(
            CommandExit.USAGE,
            f"--ranks {count}: {spec.command[0]} is no Python script that torchrun could start; begin the command"
            " with python, or start its ranks there and leave --ranks out",
        )


def check_command(spec: RunSpec) -> None:
    """What can be known before anything is started."""
    if spec.command is not None:
        if (wrong := wrong_placeholder(spec.command)) is not None:
            raise CommandError(CommandExit.USAGE, wrong)
        program = spec.command[0]
        if shutil.which(program) is None:
            if os.path.isdir(program):
                why = "is a folder; name the program in it"
            elif os.path.exists(program):
                why = "is not executable; chmod +x it, or name its interpreter"
            else:
                why = "is not found"
            raise CommandError(CommandExit.BAD_INPUT, f"{program}: the command {why}; nothing was started")
        return
    missing = next(
        (m for m in ("fred_trainer", "torch", "torchvision", "cv2") if importlib.util.find_spec(m) is None), None
    )
    if missing:
        raise CommandError(CommandExit.BAD_INPUT, f"{missing} is not installed; pip install 'fred-supervise[train]'")
    data = spec.flags.get("data")
    if data is None:
        raise CommandError(CommandExit.BAD_INPUT, "--data is missing: the folder with the FRED sequences")
    path = Path(data)
    if not path.exists():
        raise CommandError(CommandExit.BAD_INPUT, f"--data {data}: no such folder")
    if not path.is_dir():
        raise CommandError(CommandExit.BAD_INPUT, f"--data {data}: is a file; give the folder that holds the sequences")
    if not any(path.iterdir()):
        raise CommandError(
            CommandExit.BAD_INPUT, f"--data {data}: the folder is empty; `fred-train data check` shows a data set"
        )
    if not _holds_sequences(path):
        raise CommandError(
            CommandExit.BAD_INPUT,
            f"--data {data}: no sequence in it; a sequence is a folder named by a number, with RGB/ and Event/,"
            " in the folder itself or in train/ and test/",
        )


def _holds_sequences(data: Path) -> bool:
    folders = [data, data / "train", data / "test"]
    return any(entry.name.isdigit() and entry.is_dir() for f in folders if f.is_dir() for entry in f.iterdir())

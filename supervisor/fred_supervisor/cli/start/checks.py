"""What can be known to be wrong before anything is started."""

import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.attempt.machine_faults import interpreter_of
from fred_supervisor.attempt.torchrun import under_torchrun
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.queue_files import read_queue
from fred_supervisor.cli.common.service_of import service_of
from fred_supervisor.cli.common.settings_layers import Options
from fred_supervisor.cli.start.command_name import script_of
from fred_supervisor.cli.start.trainer_checks import check_trainer
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.placeholders import wrong_placeholder
from fred_supervisor.language import clauses, listed, tr
from fred_supervisor.linux import proc
from fred_supervisor.output.patterns import wrong_together
from fred_supervisor.policy.settings import OnDivergence
from fred_supervisor.store.attempt_files import is_live, read_launch
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
    if to.none:
        return
    import subprocess  # noqa: PLC0415 - only where alerts are asked for

    words = [sys.executable, "-m", "fred_supervisor.alerts", "--check"]
    spec = json.dumps(asdict(to))
    try:
        done = subprocess.run(words, check=False, input=spec, capture_output=True, text=True, timeout=_CHECK_S)
        wrong = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise CommandError(
            CommandExit.BAD_INPUT, tr("--notify: {module} does not answer; reinstall Apprise", module=words[2])
        ) from error
    if wrong:
        raise CommandError(CommandExit.BAD_INPUT, tr("{wrong}; nothing was started", wrong=wrong[0]))


def check_flags_of(command: list[str], flags: Options) -> None:
    lost = [BY_KEY[key].name for key in flags if key not in _OF_ANY_COMMAND]
    if lost:
        raise CommandError(
            CommandExit.USAGE,
            tr(
                "--{lost} is a flag of fred-train and would not reach {command}; write it behind `--`",
                lost=lost[0],
                command=command[0],
            ),
        )


def check_changes(before: RunSpec, flags: Options, given: Options) -> None:
    now = {**flags, "data": os.path.abspath(flags["data"])} if "data" in flags else flags
    changes = changed_flags({**before.flags, "modality": before.modality}, now)
    if changes:
        where = given["run_dir"] or before.run_dir
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{where}: {changes}; the model or the data would change: give the recorded value, "
                "--new for a fresh run, or --accept-changes",
                where=where,
                changes=clauses(changes),
            ),
        )


def check_run_dir(spec: RunSpec, before: RunSpec | None) -> None:
    path = Path(spec.run_dir)
    try:
        entries = sorted(os.listdir(path))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise CommandError(
            CommandExit.BAD_INPUT, tr("{path} is a file; --run-dir names a folder", path=path)
        ) from error
    except PermissionError as error:
        raise CommandError(
            CommandExit.NO_PERMISSION, tr("{path} cannot be read: {strerror}", path=path, strerror=error.strerror)
        ) from error
    if before is not None:
        return
    if lost_run(path) is not None:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{path}: its run.json is garbled or gone, and something of the run lives; "
                "`fred-supervise stop --run-dir {path}` ends it, then start again",
                path=path,
            ),
        )
    if "supervisor" in entries and not _is_ours(path / "supervisor"):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("{path} is of another program; choose another --run-dir, or move it", path=path / "supervisor"),
        )
    strangers = [entry for entry in entries if not _OURS.fullmatch(entry)]
    if spec.command is None and strangers:
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr(
                "{path} is of another program: it holds {strangers} and no run; choose another --run-dir",
                path=path,
                strangers=listed(strangers[:3]),
            ),
        )


def _is_ours(folder: Path) -> bool:
    """An empty folder, one in which a start was interrupted, or one that has lost its run.json."""
    entries = os.listdir(folder) if folder.is_dir() else ["no folder"]
    return {"lock", "attempts"} <= set(entries) or all(_INTERRUPTED.fullmatch(entry) for entry in entries)


def check_service(before: RunSpec) -> None:
    """Whether a service manager is the one to start it."""
    service = service_of(before)
    if service is not None:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name} is the service {unit}; `{start}` starts it",
                name=before.name,
                unit=service.unit,
                start=service.start,
            ),
        )


def check_output(spec: RunSpec) -> None:
    """Whether `--progress-output` makes sense as a whole."""
    given = spec.progress_output
    if given and spec.command is None:
        raise CommandError(
            CommandExit.USAGE,
            tr("--progress-output is for a COMMAND; fred-train says by itself where it is: leave it out"),
        )
    alone = next((word for word in ("none", "auto") if word in given and len(given) > 1), None)
    if alone is not None:
        raise CommandError(
            CommandExit.USAGE,
            tr("--progress-output {alone} stands alone; leave it out, or leave the patterns out", alone=alone),
        )
    if given not in ([], ["auto"], ["none"]) and (wrong := wrong_together(given)) is not None:
        raise CommandError(CommandExit.USAGE, tr("--progress-output {wrong}", wrong=wrong))


def check_signs(spec: RunSpec) -> None:
    """Whether `--fail-output` contradicts what else is said of lines."""
    if "none" in spec.fail_output:
        raise CommandError(
            CommandExit.USAGE, tr("--fail-output none stands alone; leave it out, or leave the patterns out")
        )
    for flag, patterns in (("progress-output", spec.progress_output), ("must-recur", spec.must_recur)):
        if (both := next((text for text in spec.fail_output if text in patterns), None)) is not None:
            raise CommandError(
                CommandExit.USAGE,
                tr("--fail-output {both!r} is a pattern of --{flag}, too; leave one of them out", both=both, flag=flag),
            )


def check_divergence(spec: RunSpec) -> None:
    """Whether a run that is to be rolled back can be."""
    if spec.settings().on_divergence is OnDivergence.ROLLBACK and not spec.takes_resume:
        raise CommandError(
            CommandExit.USAGE,
            tr(
                "--on-divergence rollback: {command} is not told where to go on: write {{resume}} into its words, or"
                " use --on-divergence hold",
                command=(spec.command or [""])[0],
            ),
        )


def check_data(spec: RunSpec) -> None:
    """Whether the data of a COMMAND are there at its first start; only their place is known of them."""
    data = spec.flags.get("data")
    if spec.command is not None and data is not None and not os.path.exists(data):
        raise CommandError(CommandExit.BAD_INPUT, tr("--data {data}: no such file or folder", data=data))


def check_phase(spec: RunSpec) -> None:
    """Whether a COMMAND has anything of the phase to start from. Files that match `--checkpoints` say none."""
    if spec.command is None or spec.phase is None:
        return
    if spec.checkpoints is not None or all(one.phase != spec.phase for one in list_checkpoints(Path(spec.run_dir))):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr(
                "--phase {phase}: no checkpoint in {run_dir} says that it is of this phase; "
                "`--resume PATH` names the one to start from",
                phase=spec.phase,
                run_dir=spec.run_dir,
            ),
        )


def check_watched_elsewhere(spec: RunSpec) -> None:
    """Whether a trainer writes here whose supervisor has gone with the folder that lay here before."""
    launch, supervisor = read_launch(spec.dir.attempt(last_attempt(spec.dir))), read_state(spec.dir).supervisor.identity
    if launch.place in (None, place_of(spec.run_dir)) or supervisor is None or not proc.alive(supervisor):
        return
    if launch.trainer is not None and proc.alive(launch.trainer):
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{run_dir}: the trainer pid {pid} of the run that lay here before still writes here, "
                "and its supervisor pid {other} watches it elsewhere; `kill {other}` ends both",
                run_dir=spec.run_dir,
                pid=launch.trainer.pid,
                other=supervisor.pid,
            ),
        )


def check_name(spec: RunSpec) -> None:
    """Whether a live run elsewhere is called the same, or one that waits in the queue."""
    if any(entry.name == spec.name and not entry.started for entry in read_queue()):
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name!r} waits in the queue; `fred-supervise queue remove {name}` takes it out, or --name gives "
                "this one another name",
                name=spec.name,
            ),
        )
    for other in known_runs():
        if other.name == spec.name and not os.path.samefile(other.run_dir, _there(spec.run_dir)) and is_live(other.dir):
            raise CommandError(
                CommandExit.REFUSED,
                tr(
                    "a run {name!r} is live in {run_dir}; --name gives this one another name, or "
                    "`fred-supervise stop {name}` ends that one",
                    name=other.name,
                    run_dir=other.run_dir,
                ),
            )


def _there(run_dir: str) -> str:
    """A run dir, or, where there is none yet, the root, which is none."""
    return run_dir if os.path.exists(run_dir) else "/"


def check_ranks(spec: RunSpec) -> None:
    """Whether several ranks can be started as asked. Those of Slurm's steps are Slurm's."""
    if spec.under_slurm:
        return
    count, gpus = spec.ranks or 1, 0 if spec.gpu is None else len(spec.gpu.split(","))
    if count > 1 and gpus not in (0, count):
        raise CommandError(
            CommandExit.USAGE,
            tr("--ranks {count} with {gpus} in --gpu: each rank has a GPU of its own", count=count, gpus=gpus),
        )
    if spec.on_cpu and spec.flag("device") not in ("auto", "cpu"):
        raise CommandError(
            CommandExit.USAGE,
            tr("--ranks {count} alone is for the CPU; name one GPU for each, e.g. --gpu 0,1", count=count),
        )
    if count > 1 and spec.command is not None and under_torchrun(spec.command, count) is None:
        raise CommandError(
            CommandExit.USAGE,
            tr(
                "--ranks {count}: {command} is no Python script that torchrun could start; begin the "
                "command with python, or start its ranks there and leave --ranks out",
                count=count,
                command=spec.command[0],
            ),
        )


def _why_not_executable(program: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        if os.path.isdir(program):
            return tr("is a folder; name the program in it")
        known = os.path.exists(program)
        return tr("is not executable; chmod +x it, or name its interpreter") if known else tr("is not found")
    lost = interpreter_of(path)
    there = lost is None or os.path.exists(lost)
    return None if there else tr("names an interpreter that is not there, {lost}", lost=lost)


def check_command(spec: RunSpec) -> None:
    """What can be known before anything is started."""
    if spec.command is not None:
        if (wrong := wrong_placeholder(spec.command)) is not None:
            raise CommandError(CommandExit.USAGE, wrong)
        program = spec.command[0]
        if (why := _why_not_executable(program)) is not None:
            raise CommandError(
                CommandExit.BAD_INPUT, tr("{program}: the command {why}; nothing was started", program=program, why=why)
            )
        script = script_of(spec.command)
        if script is not None and not os.path.exists(os.path.join(spec.cwd, script)):
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr("{script}: no such file in {cwd}; nothing was started", script=script, cwd=spec.cwd),
            )
        return
    check_trainer(spec)

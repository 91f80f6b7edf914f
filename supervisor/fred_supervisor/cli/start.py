"""`fred-supervise start`."""

import importlib.util
import os
import re
import shutil
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from fred_supervisor.cli.config import load_config
from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.contract.drill import parse_drills
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.flags import BY_KEY, FLAGS, add_flags, natural, normalise, positive
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.state import Ended, Outcome
from fred_supervisor.run import lock
from fred_supervisor.run.asked import Asked, changed_flags, load_asked
from fred_supervisor.run.known import remember

_EPILOG: Final = """\
examples:
  fred-supervise start --modality rgb --data /data/FRED
  fred-supervise start --modality dual --data /data/FRED --epochs 300 --hang-timeout train=600
  fred-supervise start --name mine -- python train.py --resume={resume} --batch={unfreeze_batch_size}

Behind `--` stands any program. In its words {run_dir} {modality} {attempt} {resume} {unfreeze_batch_size}
{accumulate} {heartbeat} are replaced; a word whose placeholder is empty is left out.
"""
_SPAWN_S: Final = 60.0
"""The keeper answers within milliseconds; after this something is badly wrong."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OF_ANY_COMMAND: Final = ("modality", "data", "unfreeze_batch_size", "accumulate")
"""Trainer flags that mean something for somebody else's COMMAND."""
_OURS: Final = re.compile(
    r"\..*\.tmp|.*\.pth(\.json)?|loss_.*|events\.out\.tfevents\..*|supervisor|previous|.*epoch.*loss\.(txt|png)|eval_.*"
)
"""What a run dir of ours, or of the trainer before, may hold."""


def hang_timeout(text: str) -> tuple[str, float]:
    """SECTION=SECONDS, or SECONDS for `train`."""
    section, equals, seconds = text.rpartition("=")
    section = section if equals else Section.TRAIN
    if section not in set(Section):
        raise ArgumentTypeError(f"no section {section!r}; there are {', '.join(Section)}")
    try:
        value = float(seconds)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not SECTION=SECONDS, e.g. train=600")
    return section, value


def backoff(text: str) -> tuple[float, float]:
    """FIRST:MAX in seconds."""
    try:
        first, longest = (float(part) for part in text.split(":"))
    except ValueError:
        first = longest = -1.0
    if not 0 <= first <= longest < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not FIRST:MAX in seconds, e.g. 1:300, or 0:0 for none")
    return first, longest


def seconds(text: str) -> float:
    """Seconds from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def drills(text: str) -> str:
    """Checked here, carried out by the trainer."""
    try:
        parse_drills(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def parser() -> Parser:
    """The whole command line of `start`."""
    new = Parser(
        prog="fred-supervise start", description="Start one supervised run, or go on with one.", epilog=_EPILOG
    )
    run = new.add_argument_group("the run")
    run.add_argument("--name", metavar="N", help="of the run (default: the modality)")
    run.add_argument("--run-dir", metavar="D", help="where everything is written (default logs/fred_<name>)")
    run.add_argument("--config", metavar="F", help="TOML file with the sections [supervisor] and [trainer]")
    run.add_argument("--foreground", action="store_true", help="stay until the end; speaks sd_notify")
    run.add_argument("--resume", metavar="auto|none|PATH", help="for the first attempt (default auto: newest valid)")
    run.add_argument("--phase", choices=("freeze", "unfreeze"), help="start from the newest checkpoint of this phase")
    run.add_argument("--new", action="store_true", help="a fresh run dir beside the one that is there")
    run.add_argument("--accept-changes", action="store_true", help="go on with other model or data flags than recorded")
    watch = new.add_argument_group("watching and answering")
    watch.add_argument(
        "--hang-timeout",
        type=hang_timeout,
        action="append",
        metavar="SECTION=S",
        help="exact limit without progress; a bare number is for train; repeatable",
    )
    watch.add_argument("--backoff", type=backoff, metavar="FIRST:MAX", help="pause before a relaunch (default 1:300)")
    watch.add_argument("--max-restarts", type=natural, metavar="N", help="without new progress (default 10)")
    watch.add_argument("--same-failure", type=positive, metavar="N", help="then it is the code (default 3)")
    watch.add_argument("--stop-timeout", type=seconds, metavar="S", help="from SIGTERM to SIGKILL (default 120)")
    watch.add_argument("--no-halve", action="store_true", default=None, help="never change a batch size")
    watch.add_argument("--done-file", metavar="PATTERN", help="exit 0 counts only with a newer file like this")
    watch.add_argument("--checkpoints", metavar="PATTERN", help="where a COMMAND keeps its checkpoints")
    watch.add_argument("--progress-file", metavar="PATTERN", help="a change of such a file is a sign of life")
    watch.add_argument("--drill", type=drills, metavar="FAULTS", help="rehearse failures, e.g. sigkill@freeze:2:5")
    own = [flag for flag in FLAGS if not flag.own]
    add_flags(new.add_argument_group("passed on to fred-train"), own, defaults=False)
    return new


def main(argv: Sequence[str]) -> int:
    """Parse, check, detach, and wait until the trainer is spawned."""
    words = list(argv)
    command = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            raise Fault(CommandExit.USAGE, "nothing stands behind `--`; write the command there, or leave it out")
    given = vars(parser().parse_args(normalise(words)))
    if given["config"] is not None:
        given = load_config(Path(given["config"]), given, parser())
    asked, before = _asked(given, command)
    _check_run_dir(asked, before)
    if lock.held(asked.dir):
        raise Fault(CommandExit.REFUSED, _live(asked))
    if before is not None and (refusal := _completed(asked, before)) is not None:
        if given["foreground"]:
            print(refusal)
            return CommandExit.OK
        raise Fault(CommandExit.REFUSED, refusal)
    _check_command(asked)
    held = _make_dir(asked)
    if asked.resume == "none":
        _put_away(asked)
    asked.save()
    remember(asked)
    if given["foreground"]:
        return _foreground(asked)
    return _detach(asked, held)


def _asked(given: dict[str, Any], command: list[str] | None) -> tuple[Asked, Asked | None]:
    """What is asked for, on top of what a run in the same place was asked before."""
    if given["name"] is not None and not _NAME.fullmatch(given["name"]):
        raise Fault(CommandExit.USAGE, f"--name {given['name']!r}: letters, digits, '.', '_' and '-', at most 64")
    flags = {key: given[key] for key in BY_KEY if given.get(key) not in (None, False) and not BY_KEY[key].own}
    name = given["name"] or flags.get("modality") or BY_KEY["modality"].default
    run_dir = Path(os.path.abspath(given["run_dir"] or f"logs/fred_{name}"))
    if given["run_dir"] is not None and given["name"] is None and (there := load_asked(run_dir)) is not None:
        name = there.name
    if given["new"]:
        name, run_dir = _fresh(name, run_dir)
    before = load_asked(run_dir)
    if command is None and before is not None:
        command = before.command
    if command is not None:
        _check_flags_of(command, flags)
    if before is not None and given["resume"] != "none" and not given["accept_changes"]:
        _check_changes(before, flags, given)
    if "data" in flags:
        flags["data"] = os.path.abspath(flags["data"])
    resume = given["resume"] or "auto"
    if resume not in ("auto", "none"):
        resume = os.path.abspath(resume)
        if not os.path.isfile(resume):
            raise Fault(CommandExit.BAD_INPUT, f"--resume {resume}: no such file; give a checkpoint, auto or none")
    kept = asdict(before) if before is not None else {}
    fresh = Asked(
        name=name,
        modality=flags.get("modality") or (before.modality if before else BY_KEY["modality"].default),
        run_dir=str(run_dir),
        command=command,
        cwd=str(Path.cwd()),
        flags={**kept.get("flags", {}), **flags},
        policy={**kept.get("policy", {}), **_policy(given)},
        drill=given["drill"] or "",
        resume=resume,
        phase=given["phase"],
        done_file=given["done_file"] or kept.get("done_file"),
        checkpoints=given["checkpoints"] or kept.get("checkpoints"),
        progress_file=given["progress_file"] or kept.get("progress_file"),
    )
    if before is not None:
        fresh = replace(fresh, run_id=before.run_id, created=before.created)
    return fresh, before


def _policy(given: dict[str, Any]) -> dict[str, Any]:
    """The policy's numbers that were given, by field of `Settings`."""
    found: dict[str, Any] = dict(given.get("policy") or {})
    if given["hang_timeout"]:
        found["hang_timeout_s"] = dict(given["hang_timeout"])
    if given["backoff"] is not None:
        found["backoff_first_s"], found["backoff_max_s"] = given["backoff"]
    if given["no_halve"]:
        found["halve"] = False
    numbers = {"max_restarts": "max_restarts", "same_failure": "same_failure", "stop_timeout": "stop_timeout_s"}
    found |= {field: given[key] for key, field in numbers.items() if given[key] is not None}
    return found


def _check_flags_of(command: list[str], flags: dict[str, Any]) -> None:
    lost = [BY_KEY[key].name for key in flags if key not in _OF_ANY_COMMAND]
    if lost:
        raise Fault(
            CommandExit.USAGE,
            f"--{lost[0]} is a flag of fred-train and would not reach {command[0]}; write it behind `--`",
        )


def _check_changes(before: Asked, flags: dict[str, Any], given: dict[str, Any]) -> None:
    now = {**flags, "data": os.path.abspath(flags["data"])} if "data" in flags else flags
    changes = changed_flags({**before.flags, "modality": before.modality}, now)
    if changes:
        where = given["run_dir"] or before.run_dir
        raise Fault(
            CommandExit.REFUSED,
            f"{where}: {'; '.join(changes)}; the model or the data would change: give the recorded value,"
            " --new for a fresh run, or --accept-changes",
        )


def _fresh(name: str, run_dir: Path) -> tuple[str, Path]:
    """The first free name and run dir beside a given one."""
    if not run_dir.exists():
        return name, run_dir
    number = 2
    while run_dir.with_name(f"{run_dir.name}-{number}").exists():
        number += 1
    return f"{name}-{number}", run_dir.with_name(f"{run_dir.name}-{number}")


def _check_run_dir(asked: Asked, before: Asked | None) -> None:
    path = Path(asked.run_dir)
    try:
        entries = sorted(os.listdir(path))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise Fault(CommandExit.BAD_INPUT, f"{path} is a file; --run-dir names a folder") from error
    except PermissionError as error:
        raise Fault(CommandExit.NO_PERMISSION, f"{path} cannot be read: {error.strerror}") from error
    if before is not None:
        return
    if "supervisor" in entries and not _is_ours(path / "supervisor"):
        raise Fault(
            CommandExit.BAD_INPUT, f"{path / 'supervisor'} is of another program; choose another --run-dir, or move it"
        )
    strangers = [entry for entry in entries if not _OURS.fullmatch(entry)]
    if asked.command is None and strangers:
        raise Fault(
            CommandExit.BAD_INPUT,
            f"{path} is of another program: it holds {', '.join(strangers[:3])} and no run; choose another --run-dir",
        )


def _is_ours(folder: Path) -> bool:
    """An empty folder, or one in which a start was interrupted."""
    return folder.is_dir() and set(os.listdir(folder)) <= {"lock", "supervisor.log", "attempts", "incidents", "drills"}


def _live(asked: Asked) -> str:
    supervisor = (read_json(asked.dir.state) or {}).get("supervisor") or {}
    who = f" (supervisor pid {supervisor['pid']})" if "pid" in supervisor else ""
    return f"the run {asked.name!r} in {asked.run_dir} is live{who}; `fred-supervise stop {asked.name}` ends it"


def _completed(asked: Asked, before: Asked) -> str | None:
    """Why a completed run is not started again, or None."""
    if (read_json(asked.dir.state) or {}).get("state") != Outcome.COMPLETED:
        return None
    if asked.resume != "auto" or asked.phase is not None:
        return None
    if asked.command is None and asked.flag("epochs") > before.flag("epochs"):
        return None
    goals = ("freeze_only", "eval_only")
    if any(before.flag(goal) and not asked.flag(goal) for goal in goals):
        return None
    return (
        f"the run {asked.name!r} in {asked.run_dir} is completed; --epochs with more than {asked.flag('epochs')}"
        " goes on, --new starts a fresh run beside it"
    )


def _check_command(asked: Asked) -> None:
    """What can be known before anything is started."""
    if asked.command is not None:
        program = asked.command[0]
        if shutil.which(program) is None:
            there = os.path.exists(program)
            why = "is not executable; chmod +x it, or name its interpreter" if there else "is not found"
            raise Fault(CommandExit.BAD_INPUT, f"{program}: the command {why}; nothing was started")
        return
    missing = next(
        (m for m in ("fred_trainer", "torch", "torchvision", "cv2") if importlib.util.find_spec(m) is None), None
    )
    if missing:
        raise Fault(CommandExit.BAD_INPUT, f"{missing} is not installed; pip install 'fred-supervise[train]'")
    data = asked.flags.get("data")
    if data is None:
        raise Fault(CommandExit.BAD_INPUT, "--data is missing: the folder with the FRED sequences")
    path = Path(data)
    if not path.exists():
        raise Fault(CommandExit.BAD_INPUT, f"--data {data}: no such folder")
    if not path.is_dir():
        raise Fault(CommandExit.BAD_INPUT, f"--data {data}: is a file; give the folder that holds the sequences")
    if not any(path.iterdir()):
        raise Fault(
            CommandExit.BAD_INPUT, f"--data {data}: the folder is empty; `fred-train data check` shows a data set"
        )
    if not _holds_sequences(path):
        raise Fault(
            CommandExit.BAD_INPUT,
            f"--data {data}: no sequence in it; a sequence is a folder named by a number, with RGB/ and Event/,"
            " in the folder itself or in train/ and test/",
        )


def _holds_sequences(data: Path) -> bool:
    folders = [data, data / "train", data / "test"]
    return any(entry.name.isdigit() and entry.is_dir() for f in folders if f.is_dir() for entry in f.iterdir())


def _make_dir(asked: Asked) -> int:
    """Make the folders, prove that they can be written, and take the lock."""
    supervisor = asked.dir.supervisor
    try:
        supervisor.mkdir(parents=True, exist_ok=True)
        supervisor.chmod(0o700)
        held = lock.take(asked.dir)
    except PermissionError as error:
        raise Fault(
            CommandExit.NO_PERMISSION, f"{error.filename}: {error.strerror}; --run-dir must be writable"
        ) from error
    except OSError as error:
        read_only = "Read-only" in (error.strerror or "")
        code = CommandExit.NO_PERMISSION if read_only else CommandExit.BAD_INPUT
        raise Fault(code, f"{error.filename}: {error.strerror}; --run-dir must be writable") from error
    if held is None:
        raise Fault(CommandExit.REFUSED, _live(asked))
    return held


def _put_away(asked: Asked) -> None:
    """`--resume none`: what is there is kept under `previous/<time>/`."""
    path = Path(asked.run_dir)
    entries = [entry for entry in sorted(os.listdir(path)) if entry not in ("supervisor", "previous")]
    if not entries or asked.command is not None:
        return
    there = path / "previous" / time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    there.mkdir(parents=True)
    for entry in entries:
        os.rename(path / entry, there / entry)
    asked.dir.state.unlink(missing_ok=True)
    print(f"What was there is kept in {there}.")


def _foreground(asked: Asked) -> int:
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - policy and shell, only where they run

    ended = supervisor.run(asked, on_spawned=lambda _: None, on_note=lambda text: print(text, flush=True))
    return _exit_code(ended)


def _exit_code(ended: Ended) -> CommandExit:
    return CommandExit.RUN_FAILED if ended.outcome is Outcome.FAILED else CommandExit.OK


def _detach(asked: Asked, held: int) -> int:
    """Fork the supervisor into a session of its own; return when its first trainer is spawned."""
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    if os.fork() == 0:
        os.close(answer_read)
        _supervise_detached(asked, answer_write)
    os.close(answer_write)
    os.close(held)  # the child holds it on
    with open(answer_read, "rb") as answer:
        import select  # noqa: PLC0415 - here only

        ready = select.select([answer], [], [], _SPAWN_S)[0]
        text = answer.read().decode() if ready else ""
    if text.startswith("ok"):
        print(f"{asked.name}: started; `fred-supervise status {asked.name}` shows it, run dir {asked.run_dir}")
        return CommandExit.OK
    if text:
        raise Fault(CommandExit.BAD_INPUT, f"{text}; nothing was started")
    raise Fault(CommandExit.REFUSED, f"the supervisor ended before it started the trainer; see {asked.dir.log}")


def _supervise_detached(asked: Asked, answer: int) -> None:
    """The supervisor's process; never returns."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(asked.dir.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)

        def spawned(error: str | None) -> None:
            os.write(answer, (error or "ok").encode())
            os.close(answer)

        code = _run_detached(asked, spawned)
    except BaseException:  # noqa: BLE001 - the last resort of a process of its own: its log says why it died
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run_detached(asked: Asked, spawned: Callable[[str | None], None]) -> int:
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - see _foreground

    return _exit_code(supervisor.run(asked, on_spawned=spawned, on_note=lambda _: None))

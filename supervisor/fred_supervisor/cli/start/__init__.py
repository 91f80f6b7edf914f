"""`fred-supervise start`."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.options import parser
from fred_supervisor.cli.common.redact_argv import redact_argv
from fred_supervisor.cli.common.settings_layers import layered
from fred_supervisor.cli.start.checks import (
    check_addresses,
    check_changes,
    check_command,
    check_flags_of,
    check_ranks,
    check_run_dir,
)
from fred_supervisor.contract import environment
from fred_supervisor.contract.builtin.flags import BY_KEY, normalise
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.systemd_scope import shelter
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.policy.state import Ended, RunOutcome
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import trainer_lives
from fred_supervisor.store.incidents import Incidents
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import forget, remember
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec
from fred_supervisor.store.state_file import read_state

_SPAWN_S: Final = 60.0
"""The keeper answers within milliseconds; after this something is badly wrong."""


def main(argv: Sequence[str]) -> int:
    """Parse, check, detach, and wait until the trainer is spawned."""
    words = list(argv)
    command = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            raise CommandError(
                CommandExit.USAGE, "nothing stands behind `--`; write the command there, or leave it out"
            )
    given = vars(parser().parse_args(normalise(words)))
    redact_argv([*(given["notify"] or ()), given["ping"], given["on_event"]])
    given = layered(given, parser())
    spec, before = asked_for(given, command or given["command"])
    if before is not None and lock.held(before.dir):
        raise CommandError(CommandExit.REFUSED, _live(before))
    if before is not None and given["resume"] != "none" and not given["accept_changes"]:
        check_changes(before, spec.flags, given)
    check_run_dir(spec, before)
    if before is not None and (refusal := _completed(spec, before)) is not None:
        if given["foreground"]:
            print(refusal)
            sd_notify.tell(READY=1, STATUS=refusal)  # a service at boot: nothing to do is no failure
            return CommandExit.OK
        raise CommandError(CommandExit.REFUSED, refusal)
    if not trainer_lives(spec.dir):  # else it is adopted, whatever a launch would need
        check_command(spec)
    check_ranks(spec)
    to = addresses(given, spec)
    check_addresses(to)
    held = _make_dir(spec)
    if spec.resume == "none":
        _put_away(spec)
    undo = _Undo(spec, before)
    spec.save()
    to.save(spec.dir)
    remember(spec)
    try:
        return _foreground(spec, held) if given["foreground"] else _detach(spec, held)
    except CommandError as fault:
        if fault.code is CommandExit.BAD_INPUT:
            undo()
        raise


class _Undo:
    """Puts back what was there when the command turns out not to be executable: nothing was started."""

    def __init__(self, spec: RunSpec, before: RunSpec | None) -> None:
        self._spec, self._before = spec, before
        self._state = read_json(spec.dir.state)
        self._attempt = last_attempt(spec.dir)
        self._incidents = Incidents(spec.dir).numbers()

    def __call__(self) -> None:
        run = self._spec.dir
        for number in range(self._attempt + 1, last_attempt(run) + 1):
            shutil.rmtree(run.attempt(number).path, ignore_errors=True)
        for number in set(Incidents(run).numbers()) - set(self._incidents):
            run.incident(number).unlink(missing_ok=True)
        if self._before is None:
            forget(self._spec)
            for path in (run.run, run.state, run.journal):
                path.unlink(missing_ok=True)
            return
        self._before.save()
        if self._state is not None:
            write_json(run.state, self._state)


def asked_for(given: dict[str, Any], command: list[str] | None) -> tuple[RunSpec, RunSpec | None]:
    """What is asked for, on top of what a run in the same place was asked before."""
    if given["name"] is not None and not NAME.fullmatch(given["name"]):
        raise CommandError(
            CommandExit.USAGE, f"--name {given['name']!r}: letters, digits, '.', '_' and '-', at most 64"
        )
    flags = {key: given[key] for key in BY_KEY if given.get(key) is not None and not BY_KEY[key].own}
    name = given["name"] or flags.get("modality") or BY_KEY["modality"].default
    run_dir = Path(_here(), given["run_dir"] or f"logs/fred_{name}")
    run_dir = Path(os.path.normpath(run_dir))
    if given["run_dir"] is not None and given["name"] is None and (there := load_run_spec(run_dir)) is not None:
        name = there.name
    if given["new"]:
        name, run_dir = _fresh(name, run_dir)
    before = load_run_spec(run_dir)
    if command is None and before is not None:
        command = before.command
    if command is not None:
        check_flags_of(command, flags)
    if "data" in flags:
        flags["data"] = os.path.abspath(flags["data"])
    resume = given["resume"] or "auto"
    if resume not in ("auto", "none"):
        resume = os.path.abspath(resume)
        if not os.path.isfile(resume):
            raise CommandError(
                CommandExit.BAD_INPUT, f"--resume {resume}: no such file; give a checkpoint, auto or none"
            )
    kept = asdict(before) if before is not None else {}
    fresh = RunSpec(
        name=name,
        modality=flags.get("modality") or (before.modality if before else BY_KEY["modality"].default),
        run_dir=str(run_dir),
        command=command,
        cwd=_here(),
        flags={**kept.get("flags", {}), **flags},
        policy={**kept.get("policy", {}), **_policy(given)},
        by_hand=[key for key, value in flags.items() if value != kept["flags"].get(key)] if kept else [],
        sources={**kept.get("sources", {}), **given["sources"]},
        drill=given["drill"] or "",
        resume=resume,
        phase=given["phase"],
        done_file=given["done_file"] or kept.get("done_file"),
        checkpoints=given["checkpoints"] or kept.get("checkpoints"),
        progress_file=given["progress_file"] or kept.get("progress_file"),
        gpu=given["gpu"] or kept.get("gpu"),
        gpu_memory_mib=(given["gpu_memory"] if given["gpu_memory"] is not None else kept.get("gpu_memory_mib")) or None,
        quiet=[window for window in given["quiet"] or kept.get("quiet") or () if window != "never"],
        ranks=given["ranks"] or (kept.get("ranks") if given["gpu"] is None else None),
        accepted=bool(given["accept_changes"]) or bool(kept.get("accepted")),
    )
    if before is not None:
        fresh = replace(fresh, run_id=before.run_id, created=before.created)
    return fresh, before


def addresses(given: dict[str, Any], spec: RunSpec) -> AlertAddresses:
    """Where alerts go: what is given, else what this run was given before; "none" is nowhere."""
    before = asdict(AlertAddresses.load(spec.dir))
    now = {key: before[key] if given[key] is None else given[key] for key in before}
    return AlertAddresses(
        notify=tuple(url for url in now["notify"] if url != "none"),
        on_event=None if now["on_event"] == "none" else now["on_event"],
        ping=None if now["ping"] == "none" else now["ping"],
    )


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise CommandError(CommandExit.BAD_INPUT, "the current folder no longer exists; cd to one that does") from error


def _policy(given: dict[str, Any]) -> dict[str, Any]:
    """The policy's numbers that were given, by field of `Settings`."""
    found: dict[str, Any] = dict(given["policy"])
    if given["hang_timeout"]:
        found["hang_timeout_s"] = dict(given["hang_timeout"])
    if given["backoff"] is not None:
        found["backoff_first_s"], found["backoff_max_s"] = given["backoff"]
    if given["no_halve"] is not None:
        found["halve"] = not given["no_halve"]
    numbers = {"max_restarts": "max_restarts", "same_failure": "same_failure", "stop_timeout": "stop_timeout_s"}
    found |= {field: given[key] for key, field in numbers.items() if given[key] is not None}
    return found


def _fresh(name: str, run_dir: Path) -> tuple[str, Path]:
    """The first free name and run dir beside a given one."""
    if not run_dir.exists():
        return name, run_dir
    number = 2
    while run_dir.with_name(f"{run_dir.name}-{number}").exists():
        number += 1
    return f"{name}-{number}", run_dir.with_name(f"{run_dir.name}-{number}")


def _live(spec: RunSpec) -> str:
    pid = read_state(spec.dir).supervisor.pid
    who = "" if pid is None else f" (supervisor pid {pid})"
    return f"the run {spec.name!r} in {spec.run_dir} is live{who}; `fred-supervise stop {spec.name}` ends it"


def _completed(spec: RunSpec, before: RunSpec) -> str | None:
    """Why a completed run is not started again, or None."""
    if read_state(spec.dir).state != RunOutcome.COMPLETED:
        return None
    if spec.resume != "auto" or spec.phase is not None:
        return None
    if spec.command is None and spec.flag("epochs") > before.flag("epochs"):
        return None
    goals = ("freeze_only", "eval_only")
    if any(before.flag(goal) and not spec.flag(goal) for goal in goals):
        return None
    more = "" if spec.command is not None else f"--epochs with more than {spec.flag('epochs')} goes on, "
    return f"the run {spec.name!r} in {spec.run_dir} is completed; {more}--new starts a fresh run beside it"


def _make_dir(spec: RunSpec) -> int:
    """Make the folders, prove that they can be written, and take the lock."""
    supervisor = spec.dir.supervisor
    try:
        supervisor.mkdir(parents=True, exist_ok=True)
        supervisor.chmod(0o700)
        held = lock.take(spec.dir)
    except PermissionError as error:
        raise CommandError(
            CommandExit.NO_PERMISSION, f"{error.filename}: {error.strerror}; --run-dir must be writable"
        ) from error
    except OSError as error:
        read_only = "Read-only" in (error.strerror or "")
        code = CommandExit.NO_PERMISSION if read_only else CommandExit.BAD_INPUT
        raise CommandError(code, f"{error.filename}: {error.strerror}; --run-dir must be writable") from error
    if held is None:
        raise CommandError(CommandExit.REFUSED, _live(spec))
    return held


def _put_away(spec: RunSpec) -> None:
    """`--resume none`: what is there is kept under `previous/<time>/`."""
    path = Path(spec.run_dir)
    if spec.command is None:
        entries = [entry for entry in sorted(os.listdir(path)) if entry not in ("supervisor", "previous", "cache")]
    else:  # of somebody else's files, only what the next attempt could resume from
        entries = [found.relative_to(path).as_posix() for found in path.glob(spec.checkpoints or "*.pth")]
        entries += [f"{entry}.json" for entry in entries if (path / f"{entry}.json").is_file()]
    spec.dir.state.unlink(missing_ok=True)
    if not entries:
        return
    there = path / "previous" / time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    there.mkdir(parents=True)
    for entry in entries:
        (there / entry).parent.mkdir(parents=True, exist_ok=True)
        os.rename(path / entry, there / entry)
    print(f"What was there is kept in {there}.")


def _foreground(spec: RunSpec, held: int) -> int:
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - policy and shell, only where they run

    failed: list[str] = []
    try:
        ended = supervisor.run(spec, lock_fd=held, on_spawned=lambda error: failed.append(error or ""), on_note=_say)
    except OSError as error:
        if not failed:
            raise
        # No bad input any more, but our own failure: the trainer lives on, and waits for the next supervisor.
        raise RuntimeError(f"the supervisor of {spec.name} has failed") from error
    if failed and failed[0]:
        raise CommandError(CommandExit.BAD_INPUT, f"{failed[0]}; nothing was started")
    return _exit_code(ended)


def _say(text: str) -> None:
    """To a terminal or pipe that may have gone away: that is no reason to leave the trainer alone."""
    try:
        print(text, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _exit_code(ended: Ended) -> CommandExit:
    return CommandExit.RUN_FAILED if ended.outcome is RunOutcome.FAILED else CommandExit.OK


def _detach(spec: RunSpec, held: int) -> int:
    """Fork the supervisor into a session and a scope of its own; return when its first trainer is spawned."""
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    if sys.stdout is not None:
        sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(answer_read)
        os.close(go_write)
        _supervise_detached(spec, held, go_read, answer_write)
    os.close(answer_write)
    os.close(go_read)
    place = shelter(spec.name, child)
    Journal(spec.dir).append(JournalEvent.PLACE, text=place.text)
    os.close(go_write)
    os.close(held)  # the child holds it on
    with open(answer_read, "rb") as answer:
        import select  # noqa: PLC0415 - here only

        ready = select.select([answer], [], [], _SPAWN_S)[0]
        text = answer.read().decode() if ready else ""
    if text.startswith("ok"):
        now = read_state(spec.dir)
        waits = f" ({now.state}: {now.detail})" if now.state in ("holding", "paused") else ""
        print(f"{spec.name}: started{waits}; `fred-supervise status {spec.name}` shows it, run dir {spec.run_dir}")
        if place.advice is not None:
            print(f"{spec.name}: {place.advice}")
        return CommandExit.OK
    if text:
        os.waitpid(child, 0)  # it has nothing left to do but to leave
        raise CommandError(CommandExit.BAD_INPUT, f"{text}; nothing was started")
    raise CommandError(CommandExit.REFUSED, f"the supervisor ended before it started the trainer; see {spec.dir.log}")


def _supervise_detached(spec: RunSpec, held: int, go: int, answer: int) -> None:
    """The supervisor's process, from the moment that `go` is closed by its starter; never returns."""
    code = int(CommandExit.INTERNAL)
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(spec.dir.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)

        def spawned(error: str | None) -> None:
            os.write(answer, (error or "ok").encode(errors="replace"))
            os.close(answer)

        for name in environment.OF_SYSTEMD:  # of a service that we were started from, and do not belong to
            os.environ.pop(name, None)
        code = _run_detached(spec, held, go, spawned)
    except BaseException:  # noqa: BLE001 - the last resort of a process of its own: its log says why it died
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        os._exit(code)


def _run_detached(spec: RunSpec, held: int, go: int, spawned: Callable[[str | None], None]) -> int:
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - see _foreground

    os.read(go, 1)
    os.close(go)
    return _exit_code(supervisor.run(spec, lock_fd=held, on_spawned=spawned, on_note=lambda _: None))

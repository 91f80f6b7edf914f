"""`fred-supervise start`."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from fred_supervisor.attempt.machine_faults import is_machine_error
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.find_run import check_left_behind, check_ours
from fred_supervisor.cli.common.options import parser
from fred_supervisor.cli.common.settings_layers import Options, layered
from fred_supervisor.cli.start.checks import (
    check_addresses,
    check_changes,
    check_command,
    check_data,
    check_divergence,
    check_name,
    check_output,
    check_phase,
    check_ranks,
    check_run_dir,
    check_service,
    check_signs,
    check_watched_elsewhere,
)
from fred_supervisor.cli.start.gaps import gaps_of
from fred_supervisor.cli.start.nodes import check_nodes, follow
from fred_supervisor.cli.start.process import detach, run_in_foreground
from fred_supervisor.cli.start.redact_argv import redact_argv
from fred_supervisor.cli.start.requested_run import addresses, requested_run
from fred_supervisor.cli.start.room import when_there_is_room
from fred_supervisor.cli.start.share import share_lines
from fred_supervisor.cli.start.undo import Undo
from fred_supervisor.contract.builtin.flags import normalise
from fred_supervisor.contract.builtin.hints import taken_as
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.engine import engine
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import trainer_lives
from fred_supervisor.store.kept_file import NO_ROOM
from fred_supervisor.store.matching import matching
from fred_supervisor.store.registry import remember
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.sharing.readers import let_read
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.gaps import gap_lines

T = TypeVar("T")

_LOCK_S: Final = 180.0
"""NFS version 4 gives a machine 90 s."""


def main(argv: Sequence[str]) -> int:
    """Parse, check, detach, and wait until the trainer is spawned."""
    words = list(argv)
    command = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
        if not command:
            raise CommandError(
                CommandExit.USAGE, tr("nothing stands behind `--`; write the command there, or leave it out")
            )
    given = parsed(words, command)
    spec, before = requested_run(given, command or given["command"])
    if spec.node:
        check_nodes(spec, foreground=given["foreground"])
        return follow(spec)
    if (refusal := check_start(given, spec, before)) is not None:
        if given["foreground"]:
            print(printable(refusal))
            sd_notify.tell(READY=1, STATUS=refusal)  # a service at boot: nothing to do is no failure
            return CommandExit.OK
        raise CommandError(CommandExit.REFUSED, refusal)
    to = addresses(given, spec)
    check_addresses(to)
    patient = partial(when_there_is_room, spec, known=before is not None) if given["foreground"] else _at_once
    held = patient(partial(_make_dir, spec, known=before is not None and given["foreground"]))
    if spec.resume == "none":
        _put_away(spec)
    undo = Undo(spec, before)

    def save() -> None:
        _save(spec)
        to.save(spec.dir)
        let_read(spec.dir, spec.share)

    patient(save)
    remember(spec)
    try:
        hints = [printable(line) for line in (*gap_lines(spec.name, gaps_of(spec)), *share_lines(spec))]
        return run_in_foreground(spec, held, hints) if given["foreground"] else detach(spec, held, hints)
    except CommandError as fault:
        if fault.code is CommandExit.BAD_INPUT:
            undo()
        raise


def parsed(words: Sequence[str], command: Sequence[str] | None) -> Options:
    """The flags of `start`, layered over the environment and the configuration."""
    given = vars(parser().parse_args(normalise(words)))
    for hint in taken_as(words):
        complain(hint)
    redact_argv([*(given["notify"] or ()), given["ping"], given["on_event"]])
    given = layered(given, parser())
    if command is not None:
        given["sources"]["command"] = "command line"
    return given


def check_start(given: Options, spec: RunSpec, before: RunSpec | None) -> str | None:
    """Refuses what would not start. Of a run that is completed, the sentence that says so."""
    if before is not None:
        check_ours(before)
    if before is not None and lock.held(before.dir) and not _free_again(before):
        raise CommandError(CommandExit.REFUSED, _live(before))
    if before is not None and not given["foreground"] and given["run_dir"] is None:
        check_service(before)
    if before is not None and given["resume"] != "none" and not given["accept_changes"]:
        check_changes(before, spec.flags, given)
    if before is None:
        check_data(spec)
    check_run_dir(spec, before)
    check_watched_elsewhere(spec)
    if before is not None:
        check_left_behind(spec)
    check_name(spec)
    if before is not None and (refusal := _completed(spec, before)) is not None:
        return refusal
    if not trainer_lives(spec.dir):  # else it is adopted, whatever a launch would need
        check_command(spec)
        check_phase(spec)
    check_nodes(spec, foreground=given["foreground"])
    check_ranks(spec)
    check_output(spec)
    check_signs(spec)
    check_divergence(spec)
    return None


def _at_once(write: Callable[[], T]) -> T:
    return write()


def _free_again(before: RunSpec) -> bool:
    """Whether the engine has started us again, and a supervisor on the machine that was lost lets go of the run.

    A file server that hears nothing of a machine takes its locks back after a while.
    """
    placed = engine()
    if placed is None or not placed.restarts:
        return False
    end_s = time.monotonic() + _LOCK_S
    while time.monotonic() < end_s:
        if not lock.held(before.dir):
            return True
        time.sleep(1)
    return False


def _save(spec: RunSpec) -> None:
    """Done files count from the time of run.json: of a run that has not ended it stays what it was."""
    ended = read_state(spec.dir).state in (None, *RunOutcome)
    began_ns = None if ended or not spec.dir.run.exists() else spec.dir.run.stat().st_mtime_ns
    spec.save()
    if began_ns is not None:
        os.utime(spec.dir.run, ns=(began_ns, began_ns))


def _live(spec: RunSpec) -> str:
    pid = read_state(spec.dir).supervisor.pid
    who = "" if pid is None else tr(" (supervisor pid {pid})", pid=pid)
    return tr(
        "the run {name!r} in {run_dir} is live{who}; `fred-supervise stop {name}` ends it",
        name=spec.name,
        run_dir=spec.run_dir,
        who=who,
    )


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
    more = (
        "" if spec.command is not None else tr("--epochs with more than {epochs} goes on, ", epochs=spec.flag("epochs"))
    )
    return tr(
        "the run {name!r} in {run_dir} is completed; {more}--new starts a fresh run beside it",
        name=spec.name,
        run_dir=spec.run_dir,
        more=more,
    )


def _make_dir(spec: RunSpec, *, known: bool = False) -> int:
    """Make the folders, prove that they can be written, and take the lock.

    Raises errors of the machine, where the run is `known`; else a full disk alone.
    """
    supervisor = spec.dir.supervisor
    try:
        supervisor.mkdir(parents=True, exist_ok=True)
        supervisor.chmod(0o700)
        held = lock.take(spec.dir)
    except PermissionError as error:
        raise CommandError(
            CommandExit.NO_PERMISSION,
            tr("{filename}: {strerror}; --run-dir must be writable", filename=error.filename, strerror=error.strerror),
        ) from error
    except OSError as error:
        if error.errno in NO_ROOM or (known and is_machine_error(error)):
            raise
        read_only = "Read-only" in (error.strerror or "")
        code = CommandExit.NO_PERMISSION if read_only else CommandExit.BAD_INPUT
        raise CommandError(
            code,
            tr("{filename}: {strerror}; --run-dir must be writable", filename=error.filename, strerror=error.strerror),
        ) from error
    if held is None:
        raise CommandError(CommandExit.REFUSED, _live(spec))
    return held


def _put_away(spec: RunSpec) -> None:
    """`--resume none`: what is there is kept under `previous/<time>/`."""
    path = Path(spec.run_dir)
    if spec.command is None:
        entries = [entry for entry in sorted(os.listdir(path)) if entry not in ("supervisor", "previous", "cache")]
    else:  # of somebody else's files, only what the next attempt could resume from
        entries = [found.relative_to(path).as_posix() for found in matching(path, spec.checkpoints or "*.pth")]
        entries += [f"{entry}.json" for entry in entries if (path / f"{entry}.json").is_file()]
    spec.dir.state.unlink(missing_ok=True)
    if not entries:
        return
    there = path / "previous" / time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    there.mkdir(parents=True)
    for entry in entries:
        (there / entry).parent.mkdir(parents=True, exist_ok=True)
        os.rename(path / entry, there / entry)
    print(printable(tr("What was there is kept in {there}.", there=there)))

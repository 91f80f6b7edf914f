"""`fred-supervise start`."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.options import parser
from fred_supervisor.cli.common.redact_argv import redact_argv
from fred_supervisor.cli.common.settings_layers import layered
from fred_supervisor.cli.start.checks import (
    check_addresses,
    check_changes,
    check_command,
    check_name,
    check_output,
    check_ranks,
    check_run_dir,
    check_signs,
    check_watched_elsewhere,
)
from fred_supervisor.cli.start.gaps import gaps_of
from fred_supervisor.cli.start.process import detach, run_in_foreground
from fred_supervisor.cli.start.requested_run import addresses, requested_run
from fred_supervisor.cli.start.undo import Undo
from fred_supervisor.contract.builtin.flags import normalise
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import trainer_lives
from fred_supervisor.store.matching import matching
from fred_supervisor.store.registry import remember
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.gaps import gap_lines


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
    spec, before = requested_run(given, command or given["command"])
    if before is not None and lock.held(before.dir):
        raise CommandError(CommandExit.REFUSED, _live(before))
    if before is not None and given["resume"] != "none" and not given["accept_changes"]:
        check_changes(before, spec.flags, given)
    check_run_dir(spec, before)
    check_watched_elsewhere(spec)
    check_name(spec)
    if before is not None and (refusal := _completed(spec, before)) is not None:
        if given["foreground"]:
            print(printable(refusal))
            sd_notify.tell(READY=1, STATUS=refusal)  # a service at boot: nothing to do is no failure
            return CommandExit.OK
        raise CommandError(CommandExit.REFUSED, refusal)
    if not trainer_lives(spec.dir):  # else it is adopted, whatever a launch would need
        check_command(spec)
    check_ranks(spec)
    check_output(spec)
    check_signs(spec)
    to = addresses(given, spec)
    check_addresses(to)
    held = _make_dir(spec)
    if spec.resume == "none":
        _put_away(spec)
    undo = Undo(spec, before)
    _save(spec)
    to.save(spec.dir)
    remember(spec)
    try:
        hints = [printable(line) for line in gap_lines(spec.name, gaps_of(spec))]
        return run_in_foreground(spec, held, hints) if given["foreground"] else detach(spec, held, hints)
    except CommandError as fault:
        if fault.code is CommandExit.BAD_INPUT:
            undo()
        raise


def _save(spec: RunSpec) -> None:
    """Done files count from the time of run.json: of a run that has not ended it stays what it was."""
    ended = read_state(spec.dir).state in (None, *RunOutcome)
    began_ns = None if ended or not spec.dir.run.exists() else spec.dir.run.stat().st_mtime_ns
    spec.save()
    if began_ns is not None:
        os.utime(spec.dir.run, ns=(began_ns, began_ns))


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
    print(printable(f"What was there is kept in {there}."))

"""`fred-supervise stop`."""

import os
from collections.abc import Sequence
from functools import partial

from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.converters import seconds
from fred_supervisor.cli.common.find_run import (
    SilentRunError,
    add_runs,
    check_left_behind,
    check_ours,
    find_runs,
)
from fred_supervisor.cli.common.request import tell
from fred_supervisor.cli.common.service_of import service_of
from fred_supervisor.cli.common.several import for_each
from fred_supervisor.cli.start.checks import check_watched_elsewhere
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.linux import sd_notify
from fred_supervisor.run.control import stop_limit_s
from fred_supervisor.run.ending import UnseenSupervisorError, stop
from fred_supervisor.run.silent_run import stop_silent
from fred_supervisor.store import lock
from fred_supervisor.store.registry import SilentRun
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import read_status
from fred_supervisor.words.terms import term

_SLACK_S = 15.0
"""Beyond the supervisor's own grace: for its SIGKILL and the last files."""
_REPLACED_S = 5.0
"""From the death of a service's supervisor until the next one has the run: RestartSec= and a start."""
_SILENT_S = 5.0
"""For a trainer whose run dir does not answer, so that it can hardly save."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise stop",
        description=tr("Have the trainer save a checkpoint and leave, then end everything of the run."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise stop rgb\n"
            "  fred-supervise stop rgb --timeout 10\n"
            "  fred-supervise stop 'fold-*'\n\n"
            "Works with the supervisor dead or hung, too. Exit code 0 when nothing of the run is "
            "left."
        ),
    )
    add_runs(parser, every=tr("every run that lives"))
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help=tr("from the request to SIGKILL (default: the run's)")
    )
    parser.add_argument("--json", action="store_true", help=tr("the status afterwards, as one JSON document"))
    given = parser.parse_args(argv)
    try:
        specs = find_runs(given.names, given.run_dir, every=given.all, concerned=_lives, what=mark("live"))
    except SilentRunError as error:
        if len(given.names) > 1:
            raise
        return _stop_silent(error.silent, _SILENT_S if given.timeout is None else given.timeout)
    return for_each(specs, partial(_stop, timeout_s=given.timeout, as_json=given.json), as_json=given.json)


def _lives(spec: RunSpec) -> bool:
    before = read_status(spec)
    return before.live or before.trainer is not None or before.supervisor.alive


def _stop(spec: RunSpec, *, timeout_s: float | None, as_json: bool) -> int:
    check_ours(spec)
    if not lock.held(spec.dir):
        check_watched_elsewhere(spec)
    if not _lives(spec) and not processes_of(spec):  # a restored backup knows nothing of what was launched later
        check_left_behind(spec)
        raise CommandError(
            CommandExit.NOT_RUNNING,
            tr("{name} is not running: it is {state}", name=spec.name, state=term(read_status(spec).state)),
        )
    if timeout_s is None:
        timeout_s = stop_limit_s(spec) + _SLACK_S
    sd_notify.tell(EXTEND_TIMEOUT_USEC=int((timeout_s + _SLACK_S) * 1e6))  # as ExecStop= of a service
    # As its ExecStop= (which knows the result) nobody starts another supervisor; else that may take a moment.
    replaced_s = _REPLACED_S if service_of(spec) is not None and "SERVICE_RESULT" not in os.environ else 0.0
    try:
        left = stop(spec, timeout_s, replaced_s=replaced_s)
    except UnseenSupervisorError as fault:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name}: the process that holds {lock} is no supervisor that takes requests from here; "
                "stop it on the machine, in the container or as the user that started it",
                name=spec.name,
                lock=fault.path,
            ),
        ) from fault
    if left:
        pids = listed(str(who.pid) for who in left)
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name}: process {pids} does not end on SIGKILL (stuck in the kernel)", name=spec.name, pids=pids),
        )
    check_left_behind(spec)
    after = read_status(spec)
    tell(after, as_json=as_json)
    return CommandExit.OK


def _stop_silent(silent: SilentRun, timeout_s: float) -> int:
    """End what can be ended without its run dir."""
    supervisor, left = stop_silent(silent.run, timeout_s)
    if left:
        pids = listed(str(who.pid) for who in left)
        why = tr("its process {pids} waits there, and SIGKILL does not end it", pids=pids)
        raise CommandError(CommandExit.REFUSED, f"{silent}; {why}")
    if supervisor is not None:
        why = tr(
            "its trainer has ended; its supervisor, pid {pid}, waits there, and stops when it answers",
            pid=supervisor.pid,
        )
        raise CommandError(CommandExit.REFUSED, f"{silent}; {why}")
    print(tr("{silent}; nothing of the run is left on this machine", silent=silent))
    return CommandExit.OK

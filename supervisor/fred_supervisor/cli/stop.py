"""`fred-supervise stop`."""

from collections.abc import Sequence

from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.converters import seconds
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.cli.common.request import tell
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux import sd_notify
from fred_supervisor.run.control import stop_limit_s
from fred_supervisor.run.ending import UnseenSupervisorError, stop
from fred_supervisor.store.status import LIVE_STATES, read_status

_SLACK_S = 15.0
"""Beyond the supervisor's own grace: for its SIGKILL and the last files."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise stop",
        description="Have the trainer save a checkpoint and leave, then end everything of the run.",
        epilog="examples:\n  fred-supervise stop rgb\n  fred-supervise stop rgb --timeout 10\n\n"
        "Works with the supervisor dead or hung, too. Exit code 0 when nothing of the run is left.",
    )
    add_run(parser)
    parser.add_argument("--timeout", type=seconds, metavar="S", help="from the request to SIGKILL (default: the run's)")
    parser.add_argument("--json", action="store_true", help="the status afterwards, as one JSON document")
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    before = read_status(spec)
    recorded = before.state in LIVE_STATES or before.trainer is not None or before.supervisor.alive
    if not recorded and not processes_of(spec):  # a restored backup knows nothing of what was launched later
        raise CommandError(CommandExit.NOT_RUNNING, f"{spec.name} is not running: it is {before.state}")
    timeout_s = stop_limit_s(spec) + _SLACK_S if given.timeout is None else given.timeout
    sd_notify.tell(EXTEND_TIMEOUT_USEC=int((timeout_s + _SLACK_S) * 1e6))  # as ExecStop= of a service
    try:
        left = stop(spec, timeout_s)
    except UnseenSupervisorError as fault:
        raise CommandError(
            CommandExit.REFUSED,
            f"{spec.name}: the process that holds {spec.dir.lock} is no supervisor that takes requests from here;"
            " stop it on the machine, in the container or as the user that started it",
        ) from fault
    if left:
        pids = ", ".join(str(who.pid) for who in left)
        raise CommandError(
            CommandExit.REFUSED, f"{spec.name}: process {pids} does not end on SIGKILL (stuck in the kernel)"
        )
    after = read_status(spec)
    tell(after, as_json=given.json)
    return CommandExit.OK

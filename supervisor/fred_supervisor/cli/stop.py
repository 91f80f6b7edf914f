"""`fred-supervise stop`."""

from collections.abc import Sequence

from fred_supervisor.cli.asking import tell
from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.cli.find import add_run, find_run
from fred_supervisor.cli.options import seconds
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.run import notify
from fred_supervisor.run.ending import stop
from fred_supervisor.run.snapshot import stop_limit_s
from fred_supervisor.run.status import LIVE_STATES, status_document

_SLACK_S = 15.0
"""Beyond the supervisor's own grace: for its SIGKILL and the last files."""


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="fred-supervise stop",
        description="Have the trainer save a checkpoint and leave, then end everything of the run.",
        epilog="examples:\n  fred-supervise stop rgb\n  fred-supervise stop rgb --timeout 10\n\n"
        "Works with the supervisor dead or hung, too. Exit code 0 when nothing of the run is left.",
    )
    add_run(parser)
    parser.add_argument("--timeout", type=seconds, metavar="S", help="from the request to SIGKILL (default: the run's)")
    parser.add_argument("--json", action="store_true", help="the status afterwards, as one JSON document")
    given = parser.parse_args(argv)
    asked = find_run(given.name, given.run_dir)
    before = status_document(asked)
    if before["state"] not in LIVE_STATES and before["trainer"] is None and not before["supervisor"]["alive"]:
        raise Fault(CommandExit.NOT_RUNNING, f"{asked.name} is not running: it is {before['state']}")
    timeout_s = stop_limit_s(asked) + _SLACK_S if given.timeout is None else given.timeout
    notify.tell(EXTEND_TIMEOUT_USEC=int((timeout_s + _SLACK_S) * 1e6))  # as ExecStop= of a service
    left = stop(asked, timeout_s)
    if left:
        pids = ", ".join(str(who.pid) for who in left)
        raise Fault(CommandExit.REFUSED, f"{asked.name}: process {pids} does not end on SIGKILL (stuck in the kernel)")
    after = status_document(asked)
    tell(after, as_json=given.json)
    return CommandExit.OK

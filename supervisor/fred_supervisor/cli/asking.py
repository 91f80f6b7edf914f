"""What `restart`, `pause` and `resume` share: ask the live supervisor, and wait until it is so."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.cli.find import add_run, find_run
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.policy.seen import Request
from fred_supervisor.run.requests import ask, live_supervisor, wait_for
from fred_supervisor.run.snapshot import stop_limit_s
from fred_supervisor.run.status import status_document

_ANSWER_S = 5.0
_SLACK_S = 15.0
"""Beyond the grace for the trainer's save."""


def tell(status: dict[str, Any], *, as_json: bool) -> None:
    """What has become of it."""
    print(json.dumps(status) if as_json else f"{status['name']}: {status['state']}. {status['detail']}")


def request(
    argv: Sequence[str],
    request: Request,
    *,
    description: str,
    refuse: Callable[[dict[str, Any]], str | None],
    reached: Callable[[dict[str, Any], dict[str, Any]], bool],
) -> int:
    """`refuse(status)` says why not, or None; `reached(before, now)` whether it is so."""
    parser = Parser(
        prog=f"fred-supervise {request}", description=description, epilog=f"example:\n  fred-supervise {request} rgb"
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="the status afterwards, as one JSON document")
    given = parser.parse_args(argv)
    asked = find_run(given.name, given.run_dir)
    supervisor = live_supervisor(asked, _ANSWER_S)
    before = status_document(asked)
    if supervisor is None:
        raise Fault(
            CommandExit.NOT_RUNNING, f"{asked.name} has no live supervisor: it is {before['state']}; `start` goes on"
        )
    if (reason := refuse(before)) is not None:
        raise Fault(CommandExit.REFUSED, f"{asked.name} {reason}")
    if not ask(supervisor, request):
        raise Fault(CommandExit.REFUSED, f"{asked.name}: its supervisor, pid {supervisor.pid}, does not take requests")
    limit_s = stop_limit_s(asked) + _SLACK_S
    if not wait_for(lambda: reached(before, status_document(asked)), limit_s):
        now = status_document(asked)
        raise Fault(CommandExit.REFUSED, f"{asked.name} did not {request} within {limit_s:.0f} s: it is {now['state']}")
    after = status_document(asked)
    tell(after, as_json=given.json)
    return CommandExit.OK

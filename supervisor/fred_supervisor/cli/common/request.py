"""What `restart`, `pause` and `resume` share: ask the live supervisor, and wait until it is so."""

import json
from collections.abc import Callable, Sequence

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux import proc
from fred_supervisor.policy.requests import Request
from fred_supervisor.run.control import ask, live_supervisor, stop_limit_s, wait_for
from fred_supervisor.store import lock
from fred_supervisor.store.state_file import read_state
from fred_supervisor.store.status import RunStatus, read_status

_ANSWER_S = 5.0
_SLACK_S = 15.0
"""Beyond the grace for the trainer's save."""


def tell(status: RunStatus, *, as_json: bool) -> None:
    """What has become of it."""
    print(json.dumps(status.document()) if as_json else f"{status.name}: {status.state}. {status.detail}")


def request(
    argv: Sequence[str],
    request: Request,
    *,
    description: str,
    refuse: Callable[[RunStatus], str | None],
    reached: Callable[[RunStatus, RunStatus], bool],
) -> int:
    """`refuse(status)` says why not, or None; `reached(before, now)` whether it is so."""
    parser = CommandParser(
        prog=f"fred-supervise {request}", description=description, epilog=f"example:\n  fred-supervise {request} rgb"
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="the status afterwards, as one JSON document")
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    supervisor = live_supervisor(spec, _ANSWER_S)
    before = read_status(spec)
    if supervisor is None:
        raise CommandError(
            CommandExit.NOT_RUNNING, f"{spec.name} has no live supervisor: it is {before.state}; `start` goes on"
        )
    if (reason := refuse(before)) is not None:
        raise CommandError(CommandExit.REFUSED, f"{spec.name} {reason}")
    if not ask(supervisor, request):
        raise CommandError(
            CommandExit.REFUSED, f"{spec.name}: its supervisor, pid {supervisor.pid}, does not take requests"
        )
    limit_s = stop_limit_s(spec) + _SLACK_S

    def settled() -> bool:
        """It is so, or there is nobody left to do it. Another supervisor is asked again, unless it knows."""
        nonlocal supervisor
        if reached(before, read_status(spec)) or proc.alive(supervisor):
            return reached(before, read_status(spec))
        if not wait_for(lambda: lock.held(spec.dir), _ANSWER_S):
            return True
        supervisor = live_supervisor(spec, _ANSWER_S)
        if supervisor is not None and read_state(spec.dir).asked is None:
            ask(supervisor, request)
        return False

    in_time = wait_for(settled, limit_s)
    now = read_status(spec)
    if in_time and not reached(before, now):
        raise CommandError(
            CommandExit.REFUSED,
            f"{spec.name} did not {request}, its supervisor is gone: it is {now.state}. {now.detail}",
        )
    if not in_time:
        raise CommandError(
            CommandExit.REFUSED, f"{spec.name} did not {request} within {limit_s:.0f} s: {_how_it_is(request, now)}"
        )
    tell(now, as_json=given.json)
    return CommandExit.OK


def _how_it_is(request: Request, now: RunStatus) -> str:
    """A trainer that has left is not running, whatever was written last."""
    if request is Request.PAUSE and now.trainer is None and now.state in ("running", "stopping"):
        return "its trainer has left, but that could not be written; is the disk full?"
    return f"it is {now.state}"

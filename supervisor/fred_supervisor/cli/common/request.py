"""What `restart`, `pause` and `resume` share: ask the live supervisor, and wait until it is so."""

import json
from collections.abc import Callable, Sequence

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_runs, check_ours, find_runs
from fred_supervisor.cli.common.several import for_each
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux import proc
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.requests import Request
from fred_supervisor.run.control import ask, live_supervisor, stop_limit_s, wait_for
from fred_supervisor.store import lock
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.store.status import RunStatus, read_status
from fred_supervisor.words.terms import term

_ANSWER_S = 5.0
_SLACK_S = 15.0
"""Beyond the grace for the trainer's save."""


def tell(status: RunStatus, *, as_json: bool) -> None:
    """What has become of it."""
    said = tr("{name}: {state}. {detail}", name=status.name, state=term(status.state), detail=status.detail)
    print(json.dumps(status.document()) if as_json else printable(said))


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
        prog=f"fred-supervise {request}",
        description=description,
        epilog=tr("examples:\n  fred-supervise {request} rgb\n  fred-supervise {request} 'fold-*'", request=request),
    )
    add_runs(parser, every=tr("every run of which it can be asked"))
    parser.add_argument("--json", action="store_true", help=tr("the status afterwards, as one JSON document"))
    given = parser.parse_args(argv)

    def concerned(spec: RunSpec) -> bool:
        return lock.held(spec.dir) and refuse(read_status(spec)) is None

    specs = find_runs(
        given.names,
        given.run_dir,
        every=given.all,
        concerned=concerned,
        what=tr("one to {request}", request=term(request)),
    )
    return for_each(
        specs,
        lambda spec: _ask(spec, request, refuse=refuse, reached=reached, as_json=given.json),
        as_json=given.json,
    )


def _ask(
    spec: RunSpec,
    request: Request,
    *,
    refuse: Callable[[RunStatus], str | None],
    reached: Callable[[RunStatus, RunStatus], bool],
    as_json: bool,
) -> int:
    supervisor = live_supervisor(check_ours(spec), _ANSWER_S)
    before = read_status(spec)
    if supervisor is None and lock.held(spec.dir):
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name}: its supervisor cannot be reached from here; ask it on the machine, in the container or as the "
                "user that started it",
                name=spec.name,
            ),
        )
    if supervisor is None:
        raise CommandError(
            CommandExit.NOT_RUNNING,
            tr(
                "{name} has no live supervisor: it is {state}; `start` goes on",
                name=spec.name,
                state=term(before.state),
            ),
        )
    if (reason := refuse(before)) is not None:
        raise CommandError(CommandExit.REFUSED, f"{spec.name} {reason}")
    if not ask(supervisor, request):
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name}: its supervisor, pid {pid}, does not take requests", name=spec.name, pid=supervisor.pid),
        )
    limit_s = stop_limit_s(spec) + _SLACK_S
    if proc.stopped(supervisor):
        complain(
            tr(
                "{name}: its supervisor is stopped (SIGSTOP), and is waited for; `kill -CONT {pid}` wakes it",
                name=spec.name,
                pid=supervisor.pid,
            )
        )

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
            tr(
                "{name} did not {request}, its supervisor is gone: it is {state}. {detail}",
                name=spec.name,
                request=term(request),
                state=term(now.state),
                detail=now.detail,
            ),
        )
    if not in_time:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name} did not {request} within {limit_s:.0f} s: {how_it_is}",
                name=spec.name,
                request=term(request),
                limit_s=limit_s,
                how_it_is=_how_it_is(request, now),
            ),
        )
    tell(now, as_json=as_json)
    return CommandExit.OK


def _how_it_is(request: Request, now: RunStatus) -> str:
    """A trainer that has left is not running, whatever was written last."""
    if request is Request.PAUSE and now.trainer is None and now.state in ("running", "stopping"):
        return tr("its trainer has left, but that could not be written; is the disk full?")
    return tr("it is {state}", state=term(now.state))

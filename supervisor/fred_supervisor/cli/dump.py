"""`fred-supervise dump`."""

import time
from collections.abc import Sequence
from typing import Final

from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, check_ours, find_run
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux import proc
from fred_supervisor.run.control import wait_for
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec

_WRITE_S: Final = 3.0
"""For the stacks to be written; faulthandler takes milliseconds."""
_SETTLE_S: Final = 0.1


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise dump",
        description=tr(
            "The stacks of the live trainer, now, without harming it: by SIGUSR1 from processes "
            "that catch it, by py-spy (where it is installed) of others."
        ),
        epilog=tr("example:\n  fred-supervise dump rgb"),
    )
    add_run(parser)
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    print(stacks_of(spec), end="")
    return CommandExit.OK


def stacks_of(spec: RunSpec) -> str:
    """The stacks of the live trainer, which trains on; raises CommandError where there are none."""
    attempt = LiveAttempt(spec=check_ours(spec), number=last_attempt(spec.dir), keeper=None)
    attempt.read_trainer()
    if not proc.alive(attempt.trainer):
        raise CommandError(CommandExit.NOT_RUNNING, tr("{name} has no live trainer", name=spec.name))
    if not attempt.ask_stacks():
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name}: its trainer does not catch SIGUSR1, which would end it; the client "
                "`Heartbeat` does, and py-spy (pip install py-spy) reads the stacks of any Python",
                name=spec.name,
            ),
        )
    wait_for(lambda: bool(attempt.stacks.text()), _WRITE_S)
    time.sleep(_SETTLE_S)  # the rest of the same dump
    text = attempt.stacks.text()
    if not text:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name}: no stacks within {write_s:.0f} s; is the trainer stopped?", name=spec.name, write_s=_WRITE_S),
        )
    return text

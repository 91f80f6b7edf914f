"""`fred-supervise dump`."""

import time
from collections.abc import Sequence
from typing import Final

from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.cli.find import add_run, find_run
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.run import proc
from fred_supervisor.run.attempts import last_attempt
from fred_supervisor.run.requests import wait_for
from fred_supervisor.run.sight import LiveAttempt

_WRITE_S: Final = 3.0
"""For the stacks to be written; faulthandler takes milliseconds."""
_SETTLE_S: Final = 0.1


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="fred-supervise dump",
        description="The stacks of the live trainer, now, without harming it: by SIGUSR1 from processes that catch it,"
        " by py-spy (where it is installed) of others.",
        epilog="example:\n  fred-supervise dump rgb",
    )
    add_run(parser)
    given = parser.parse_args(argv)
    asked = find_run(given.name, given.run_dir)
    attempt = LiveAttempt(asked=asked, number=last_attempt(asked.dir), keeper=None)
    attempt.read_trainer()
    if not proc.alive(attempt.trainer):
        raise Fault(CommandExit.NOT_RUNNING, f"{asked.name} has no live trainer")
    if not attempt.ask_stacks():
        raise Fault(
            CommandExit.REFUSED,
            f"{asked.name}: its trainer does not catch SIGUSR1, which would end it; the client `Heartbeat` does,"
            " and py-spy (pip install py-spy) reads the stacks of any Python",
        )
    wait_for(lambda: bool(attempt.stacks.text()), _WRITE_S)
    time.sleep(_SETTLE_S)  # the rest of the same dump
    text = attempt.stacks.text()
    if not text:
        raise Fault(CommandExit.REFUSED, f"{asked.name}: no stacks within {_WRITE_S:.0f} s; is the trainer stopped?")
    print(text, end="")
    return CommandExit.OK

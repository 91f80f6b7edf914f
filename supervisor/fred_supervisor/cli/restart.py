"""`fred-supervise restart`."""

from collections.abc import Sequence

from fred_supervisor.cli.common.request import request
from fred_supervisor.language import tr
from fred_supervisor.policy.requests import Request


def main(argv: Sequence[str]) -> int:
    return request(
        argv,
        Request.RESTART,
        description=tr("Have the trainer save and leave, and relaunch it under the same supervisor; costs no budget."),
        refuse=lambda status: tr("is paused; `resume` goes on") if status.state == "paused" else None,
        reached=lambda before, now: (
            (now.trainer is not None and (before.trainer is None or now.trainer.attempt > before.trainer.attempt))
            or now.state in ("completed", "failed")
        ),
    )

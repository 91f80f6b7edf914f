"""`fred-supervise pause`."""

from collections.abc import Sequence

from fred_supervisor.cli.common.request import request
from fred_supervisor.language import tr
from fred_supervisor.policy.requests import Request


def main(argv: Sequence[str]) -> int:
    return request(
        argv,
        Request.PAUSE,
        description=tr("Have the trainer save a checkpoint and let go of the GPU; `resume` goes on from there."),
        refuse=lambda status: tr("is paused already") if status.state == "paused" else None,
        reached=lambda _, now: now.state in ("paused", "completed", "failed"),
    )

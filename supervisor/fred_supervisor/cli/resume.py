"""`fred-supervise resume`."""

from collections.abc import Sequence

from fred_supervisor.cli.common.request import request
from fred_supervisor.language import tr
from fred_supervisor.policy.requests import Request
from fred_supervisor.words.terms import term


def main(argv: Sequence[str]) -> int:
    return request(
        argv,
        Request.RESUME,
        description=tr("Go on with a paused run from its newest checkpoint (and with a waiting one at once)."),
        refuse=lambda status: (
            None
            if status.state in ("paused", "waiting")
            else tr("is not paused: it is {state}", state=term(status.state))
        ),
        reached=lambda _, now: now.trainer is not None or now.state in ("completed", "failed", "holding"),
    )

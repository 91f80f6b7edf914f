"""Who waits in the kernel for a disk, a network file system or a driver that does not answer.

The supervisor writes into the run dir, and waits with everybody else when its disk stalls: who watches here writes
nothing, and tells of it in the supervisor's place. Nobody is ended for it.
"""

from collections.abc import Iterable
from typing import Final

from fred_supervisor.alerts.client import AlertClient
from fred_supervisor.linux.activity import KernelWait, kernel_waits
from fred_supervisor.policy.message import AlertKind, Message, Topic, say
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.store.run_spec import RunSpec

STALLED_S: Final = 60.0
"""Of one and the same wait: a busy disk answers in between."""
_PAUSED: Final = ("refrigerator", "freez")
"""In the name of the kernel function: somebody has frozen the control group, or the machine goes to sleep."""
_PERIOD_S: Final = 5.0


class StallWatch:
    """Of the supervisor, and of the trainer's processes."""

    def __init__(self, spec: RunSpec | None, supervisor: int) -> None:
        self._alerts = None if spec is None else AlertClient(spec, opens_log=False)
        self._supervisor = supervisor
        self._looked_s = float("-inf")
        self._since_s: dict[KernelWait, float] = {}
        self._told = False
        self.message: Message | None = None
        """Who has waited for too long now; None: nobody."""

    def look(self, tree: Iterable[int], now_s: float) -> None:
        """Every few seconds: who waits, and who still does."""
        if now_s < self._looked_s + _PERIOD_S:
            return
        self._looked_s = now_s
        waits = [wait for pid in (self._supervisor, *tree) for wait in kernel_waits(pid) if not _is_paused(wait)]
        self._since_s = {wait: self._since_s.get(wait, now_s) for wait in waits}
        stalled = [wait for wait in waits if now_s - self._since_s[wait] >= STALLED_S]
        self.message = None if not stalled else self._said(stalled, now_s)
        own = any(wait.pid == self._supervisor for wait in stalled)
        if own and not self._told and self._alerts is not None and self.message is not None:
            self._alerts.tell(AlertKind.WARNING, WarningKind.STALLED, self.message)
        self._told = own

    def _said(self, stalled: list[KernelWait], now_s: float) -> Message:
        """Of the supervisor where it waits, else of the first; and how many do."""
        first = stalled[0]
        return say(
            Topic.IN_KERNEL,
            pid=first.pid,
            name=first.name,
            wchan=first.wchan,
            waits_s=round(now_s - self._since_s[first]),
            supervisor=first.pid == self._supervisor,
            more=len({wait.pid for wait in stalled}) - 1,
        )


def _is_paused(wait: KernelWait) -> bool:
    return any(word in (wait.wchan or "") for word in _PAUSED)

"""Scripted histories: observations in, states and actions out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.policy.test_cause import beat

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.policy.actions import Action, Report, Spawn
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.gpu_admission import Admit
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.launching import launch
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, Running, Starting, State, Stopping
from fred_supervisor.policy.watch import HeartbeatReading
from fred_supervisor.words.sentences import sentence

OURS = Settings()
_BEGIN = datetime(2026, 11, 27, tzinfo=UTC)
NO_PAUSE = Settings(backoff_first_s=0.0, backoff_max_s=0.0)


class History:
    """Feeds `decide`, and keeps what it did."""

    def __init__(self, with_settings: Settings = NO_PAUSE) -> None:
        self.settings = with_settings
        self.now_s = 0.0
        self.actions: list[Action] = []
        self.began: dict[int, str] = {}
        """Epoch → when it was first seen."""
        self.state: State
        self.state, actions = launch(with_settings, RunHistory())
        self.actions += actions

    def see(self, *, after_s: float = 1.0, **seen: Any) -> "History":
        self.now_s += after_s
        seen = {"time": self.time, **seen}
        self.state, actions = decide(self.settings, self.state, Observation(now_s=self.now_s, **seen))
        self.actions += actions
        return self

    @property
    def time(self) -> str:
        """The wall clock."""
        return (_BEGIN + timedelta(seconds=self.now_s)).isoformat()

    def begin(self) -> None:
        """Have the trainer run."""
        if isinstance(self.state, AwaitingGpu):
            self.see(admission=Admit())
        if isinstance(self.state, Starting):
            self.see(launched=True)

    def train(self, epoch: int, step: int, **changes: Any) -> "History":
        self.begin()
        one = beat(epoch=epoch, step=step, seq=int(self.now_s * 100), samples=epoch * 1000 + step, **changes)
        self.see(looks=(HeartbeatReading(stamp=str(self.now_s), beat=one),))
        self.began.setdefault(epoch, self.time)
        return self

    def end(self, **evidence: Any) -> "History":
        self.begin()
        last = self.state.watch.main.beat if isinstance(self.state, Running | Stopping) else None
        return self.see(ended=Evidence(**{"beat": last, "attempt": self.state.history.attempt, **evidence}))

    @property
    def told(self) -> list[str]:
        return [sentence(a.action) for a in self.actions if isinstance(a, Report)]

    @property
    def launches(self) -> int:
        return sum(isinstance(a, Spawn) for a in self.actions)


def oom(**changes: Any) -> dict[str, Any]:
    return {"exit_code": 1, "error": ErrorRecord(kind=ErrorKind.CUDA_OOM, message="oom", **changes)}


EXACT = replace(NO_PAUSE, hang_timeout_s={"train": 10.0})
"""A limit set by hand: at it, the trainer is ended at once."""

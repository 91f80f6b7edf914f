"""The gate before a launch: which GPUs the next attempt is given, and whether they can be had now."""

import time
from dataclasses import replace
from typing import Any, Final

from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.gpu import claims, inventory
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.admission import Admit, Deny, GpuWish, choose
from fred_supervisor.policy.cause import Cause
from fred_supervisor.policy.state import Overrides
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec

_FIRST_S: Final = 15.0
"""For a first sample, with NVML to be opened: without persistence mode the driver first initialises every GPU."""
_AGAIN_S: Final = 3.0
"""For one more sample of a monitor that has given some; it cuts off a call that hangs after 1.5 s."""
_POLL_S: Final = 0.25
"""Between two looks while our own dead let go."""
_SETTLE_S: Final = 30.0
"""From the end of an attempt: so long the driver may take to free its memory."""
_WAIT: Final = frozenset({"starting", "released"})
"""States of the driver that a sample is still to follow."""


class SampleRequest:
    """A sample of the GPUs that is newer than the question."""

    def __init__(self, spec: RunSpec, monitor: MonitorClient, *, limit_s: float) -> None:
        self._dir, self._monitor = spec.dir, monitor
        self._asked_s = time.monotonic()
        self._until_s = self._asked_s + limit_s
        monitor.want(self._asked_s)
        monitor.order(event="near")

    def answer(self) -> dict[str, Any] | None:
        """The sample; None while it is to come; empty when there is none: the driver, or the monitor, is silent."""
        sample = newest_sample(self._dir)
        if sample is not None and (sample.get("sample_mono_s") or 0.0) >= self._asked_s:
            state = sample["nvml"]["state"]
            if state == "ok":
                return sample
            if state not in _WAIT:
                return {}
        given_up = time.monotonic() >= self._until_s or not self._monitor.coming(self._until_s)
        return {} if given_up else None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._asked_s


class GpuRequest:
    """One run's. What cannot be observed opens it: then the launch shows it."""

    def __init__(self, spec: RunSpec, monitor: MonitorClient) -> None:
        self._spec, self._monitor = spec, monitor
        self.applies = inventory.has_driver() and inventory.on_gpu(spec)
        """There may be a GPU here, and the trainer may use it."""
        self.uuids: tuple[str, ...] = ()
        """GPUs that the newest attempt was given; empty: none was chosen."""
        self._claims = claims.Claims(spec)
        self._question: SampleRequest | None = None
        self._wish = GpuWish()
        self._ended_s = float("-inf")
        self.waits_for = ""
        """What the driver is given a moment for, for a person."""
        self._least: tuple[tuple[int | None, ...], int] | None = None
        """MiB without which these batches are not tried again."""

    # -- before a launch ----------------------------------------------------------------------------------------------

    def begin(self, resume: CheckpointFile | None, overrides: Overrides) -> None:
        """Ask whether the next attempt can be made."""
        measured = inventory.need_mib(self._spec, inventory.next_phase(self._spec, resume), overrides)
        least = self._least[1] if self._least is not None and self._least[0] == _batches(overrides) else None
        needs = [need for need in (measured, least) if need is not None]
        words = inventory.wanted(self._spec) or ()
        self._wish = GpuWish(words=words, need_mib=max(needs, default=None), before=self.uuids)
        self._ask()

    def _ask(self) -> None:
        first = newest_sample(self._spec.dir) is None or self._monitor.released
        self._question = SampleRequest(self._spec, self._monitor, limit_s=_FIRST_S if first else _AGAIN_S)

    @property
    def pending(self) -> bool:
        """A question is put and not answered."""
        return self._question is not None

    def look(self) -> Admit | Deny | None:
        """The answer; None while it is to come."""
        question = self._question
        sample = None if question is None else question.answer()
        if question is None or sample is None:
            return None
        verdict = self._judge(sample) if sample else Admit(uuids=self.uuids or self._wish.words, blind=True)
        if isinstance(verdict, Deny):
            self._claims.keep(())
            if verdict.cause is Cause.GPU:
                self._monitor.release()  # an open NVML blocks the reset that is waited for
            if verdict.soon and time.monotonic() < self._ended_s + _SETTLE_S:
                self.waits_for = f"Waits for a moment: {verdict.sentence}"
                if question.age_s >= _POLL_S:
                    self._ask()
                return None
        else:
            self.uuids = verdict.uuids
            self._claims.keep(verdict.uuids)
            self._monitor.show(",".join(verdict.uuids) or None)
        self._question, self.waits_for = None, ""
        return verdict

    def _judge(self, sample: dict[str, Any]) -> Admit | Deny:
        """Choose, and take what was chosen; what another run has taken meanwhile is chosen no more."""
        wish = replace(self._wish, patient=time.monotonic() < self._ended_s + _SETTLE_S)
        if inventory.wanted(self._spec) is None:
            return self._unchosen(sample)
        taken: dict[str, str] = {}
        while True:
            verdict = choose(wish, inventory.view(sample, taken))
            if isinstance(verdict, Deny):
                return verdict
            refused = [uuid for uuid in verdict.uuids if not self._claims.take(uuid)]
            if not refused or wish.words:  # who names a GPU shares it
                return verdict
            taken[refused[0]] = claims.owner(refused[0])

    @staticmethod
    def _unchosen(sample: dict[str, Any]) -> Admit | Deny:
        """The trainer takes what it sees: all of that must be fit for a launch."""
        seen = [gpu for gpu in inventory.view(sample, {}) if gpu.allowed and not gpu.split]
        verdict = choose(GpuWish(words=tuple(gpu.uuid for gpu in seen)), seen) if seen else Admit()
        return verdict if isinstance(verdict, Deny) else Admit()

    def put_off(self) -> Deny:
        """Something else is asked for: no launch now."""
        self._question, self.waits_for = None, ""
        self._claims.keep(())
        return Deny(cause=Cause.GPU_MEMORY, sentence="The launch was put off.")

    # -- while and after ----------------------------------------------------------------------------------------------

    def adopt(self, environ: object) -> None:
        """The attempt of a supervisor that is gone; `environ`: what its launch has recorded of its environment."""
        visible = environ.get("CUDA_VISIBLE_DEVICES") if isinstance(environ, dict) else None
        words = visible.split(",") if isinstance(visible, str) else []
        if self.applies and words and all(word.startswith(("GPU-", "MIG-")) for word in words):
            self.uuids = tuple(words)
            self._monitor.show(",".join(words))
            for uuid in words:
                self._claims.take(uuid)

    def ended(self, overrides: Overrides, least_mib: int | None) -> None:
        """An attempt is over; with less than `least_mib` free the same is not tried again."""
        self._ended_s = time.monotonic()
        if least_mib is not None:
            self._least = (_batches(overrides), least_mib)

    def let_go(self) -> None:
        """Nothing runs, and nothing is about to: others of our runs may have the GPUs."""
        if self._question is None:
            self._claims.keep(())


def _batches(overrides: Overrides) -> tuple[int | None, ...]:
    return overrides.freeze_batch, overrides.unfreeze_batch, overrides.eval_batch

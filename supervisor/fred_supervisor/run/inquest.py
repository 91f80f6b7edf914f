"""After an end: whether a GPU, or somebody else on it, brought it about."""

from dataclasses import replace
from typing import Any, Final

from fred_supervisor.contract.errors import ErrorKind
from fred_supervisor.contract.exits import TrainerExit
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.gate import Gpu, blame
from fred_supervisor.policy.state import Orders
from fred_supervisor.run import devices
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.gate import Question
from fred_supervisor.run.sidecar import Monitor, newest_sample

_LIMIT_S: Final = 1.0
"""More than a sample takes, and less than the shortest back-off: nobody waits longer for a relaunch."""


class Inquest:
    """Of one attempt: what the monitor saw last, and one more look now that it is over."""

    def __init__(
        self, asked: Asked, monitor: Monitor, ended: Evidence, *, uuids: tuple[str, ...], orders: Orders
    ) -> None:
        self._asked, self._monitor = asked, monitor
        self._ended, self._uuids, self._orders = ended, uuids, orders
        self._before = newest_sample(asked.dir) or {}
        self._question = Question(asked, monitor, limit_s=_LIMIT_S)

    @staticmethod
    def needed(ended: Evidence) -> bool:
        """Not for who left in order."""
        return ended.exit_code not in (TrainerExit.COMPLETE, TrainerExit.SAVED, TrainerExit.CONFIG)

    def verdict(self) -> tuple[Evidence, int | None] | None:
        """The evidence with what was found, and the MiB that must be free before it is tried again; None: not yet."""
        after = self._question.answer()
        if after is None:
            return None
        looks = [self._gpus(sample) for sample in (after, self._before) if sample.get("gpus")]
        trouble = next((f"{gpu.place}: {gpu.trouble}" for gpu in (looks[0] if looks else ()) if gpu.trouble), None)
        if trouble is not None:
            self._monitor.release()  # an open NVML blocks a reset
        ended = replace(self._ended, gpu_trouble=trouble)
        said = ended.error.kind if ended.error is not None else ended.text_kind
        if said is not ErrorKind.CUDA_OOM:
            return ended, None
        phase = (ended.error.phase if ended.error else None) or (ended.beat.phase if ended.beat else None)
        need_mib = devices.need_mib(self._asked, phase, self._orders)
        blamed = next((found for gpus in looks if (found := blame(gpus, need_mib)) is not None), None)
        if blamed is None:
            return ended, None
        return replace(ended, gpu_others=blamed.sentence), blamed.need_mib

    def _gpus(self, sample: dict[str, Any]) -> list[Gpu]:
        return devices.of_trainer(devices.view(sample, {}), self._uuids)

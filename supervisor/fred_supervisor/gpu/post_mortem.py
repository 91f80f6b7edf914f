"""After an end: whether a GPU, or another process on it, is the reason."""

from dataclasses import replace
from typing import Final

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.gpu import inventory
from fred_supervisor.gpu.gpu_request import SILENT, SampleRequest
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.gpu_admission import Gpu, blame
from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.store.monitor_sample import MonitorSample, newest_sample
from fred_supervisor.store.run_spec import RunSpec

_LIMIT_S: Final = 1.0
"""More than a sample takes, and less than the shortest back-off: nobody waits longer for a relaunch."""


class PostMortem:
    """Of one attempt: compares what the monitor saw last with one more sample, now that the attempt is over."""

    def __init__(
        self, spec: RunSpec, monitor: MonitorClient, ended: Evidence, *, uuids: tuple[str, ...], overrides: Overrides
    ) -> None:
        self._spec = spec
        self._ended, self._uuids, self._overrides = ended, uuids, overrides
        self._before = newest_sample(spec.dir) or SILENT
        self._request = SampleRequest(spec, monitor, limit_s=_LIMIT_S)

    @staticmethod
    def needed(ended: Evidence) -> bool:
        """Not for a trainer that has left in order."""
        return ended.exit_code not in (TrainerExit.COMPLETE, TrainerExit.SAVED, TrainerExit.CONFIG)

    def verdict(self) -> tuple[Evidence, int | None] | None:
        """The evidence with what was found, and the MiB that must be free before it is tried again; None: not yet."""
        after = self._request.answer()
        if after is None:
            return None
        looks = [self._gpus(sample) for sample in (after, self._before) if sample.gpus]
        ill = next((gpu for gpu in (looks[0] if looks else ()) if gpu.trouble is not None), None)
        trouble = None if ill is None else say(Topic.GPU_TROUBLE, place=ill.place, trouble=ill.trouble)
        ended = replace(self._ended, gpu_trouble=trouble)
        said = ended.error.kind if ended.error is not None else ended.text_kind
        if said is not ErrorKind.CUDA_OOM:
            return ended, None
        phase = (ended.error.phase if ended.error else None) or (ended.beat.phase if ended.beat else None)
        need_mib = inventory.need_mib(self._spec, phase, self._overrides)
        blamed = next((found for gpus in looks if (found := blame(gpus, need_mib)) is not None), None)
        if blamed is None:
            return ended, None
        return replace(ended, gpu_others=blamed.message), blamed.need_mib

    def _gpus(self, sample: MonitorSample) -> list[Gpu]:
        return inventory.gpus_of_trainer(inventory.gpus_of(sample, {}), self._uuids)

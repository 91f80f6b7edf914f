"""The live objects of a run: the observer looks at them, the performer acts on them."""

from fred_supervisor.alerts.client import AlertClient
from fred_supervisor.attempt.live_attempt import LiveAttempt, SeenCheckpoints
from fred_supervisor.attempt.orphans import Orphans
from fred_supervisor.gpu.run_gpus import RunGpus
from fred_supervisor.linux.background_job import BackgroundJobs
from fred_supervisor.linux.engine import Engine
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.run.control import SIGNALS, UNDER_ENGINE
from fred_supervisor.run.events import Events
from fred_supervisor.store.checkpoints import CheckpointPicker
from fred_supervisor.store.run_spec import RunSpec


class LiveRun:
    """Processes and files of one run as they are now, which no state of the policy and no file can hold."""

    def __init__(self, spec: RunSpec, engine: Engine | None = None) -> None:
        """`engine`: who has placed us on this machine, and may end us there."""
        self.spec = spec
        self.engine = engine
        self.attempt: LiveAttempt | None = None
        """The attempt of which something may still run."""
        self.monitor = MonitorClient(spec)
        self.gpus = RunGpus(spec, self.monitor)
        self.alerts = AlertClient(spec)
        self.lookout = Lookout(spec.run_dir)
        self.picker = CheckpointPicker(spec, self.lookout)
        self.seen = SeenCheckpoints()
        self.orphans = Orphans(spec, lambda: self.own_pids)
        self.jobs = BackgroundJobs()
        self.events = Events(self.jobs, SIGNALS if engine is None else UNDER_ENGINE)

    @property
    def own_pids(self) -> frozenset[int]:
        """Children of ours that do not belong to the trainer."""
        spies = frozenset[int]() if self.attempt is None else self.attempt.stacks.pids
        if self.attempt is not None and self.attempt.step is not None:
            spies |= self.attempt.step.pids
        return self.monitor.pids | self.alerts.pids | self.jobs.pids | self.lookout.pids | spies

    def close(self) -> None:
        """After the end of the run: nothing of ours stays behind."""
        self.jobs.close()
        self.monitor.close()
        self.alerts.close()
        self.events.close()

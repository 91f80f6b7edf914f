"""The engine that has placed this process on a machine, and may end it there: Slurm, Kubernetes or SkyPilot."""

import os
from collections.abc import Mapping

from fred_supervisor.contract.record import record


@record
class Engine:
    """What its environment says of it."""

    name: str
    """"Slurm", "Kubernetes" or "SkyPilot"."""
    job: str | None = None
    """Its number or name of the job."""
    restarts: int = 0
    """How often it has started this job again; only Slurm says so."""
    node: str | None = None
    """Its name of this machine."""

    @property
    def placement(self) -> str:
        """Another one after each restart."""
        return f"{self.name} {self.job or self.node} {self.restarts}"


def engine(environ: Mapping[str, str] = os.environ) -> Engine | None:
    """None where nobody but a person has started us."""
    job = environ.get("SLURM_JOB_ID")
    if job:
        restarts = environ.get("SLURM_RESTART_COUNT", "")
        count = int(restarts) if restarts.isdecimal() else 0
        return Engine(name="Slurm", job=job, restarts=count, node=environ.get("SLURMD_NODENAME"))
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return Engine(name="Kubernetes", node=environ.get("HOSTNAME"))
    if task := environ.get("SKYPILOT_TASK_ID"):
        return Engine(name="SkyPilot", job=task, node=environ.get("SKYPILOT_NODE_RANK"))
    return None

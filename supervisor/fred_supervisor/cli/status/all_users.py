"""`status --all-users`: every run on this machine, as far as its owner, or root, lets us look."""

from collections.abc import Iterator
from dataclasses import replace

from fred_supervisor.cli.doctor.gpu import ask_driver
from fred_supervisor.gpu.inventory import has_driver
from fred_supervisor.language import tr
from fred_supervisor.linux import proc
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.pace import PaceRecord
from fred_supervisor.store.monitor_sample import GpuStatus
from fred_supervisor.store.progress_status import BatchStatus, progress_status
from fred_supervisor.store.registry import list_runs
from fred_supervisor.store.sharing.box import BoxRun, live_runs, owner_name
from fred_supervisor.store.status import RestartStatus, RunStatus, SupervisorStatus, read_status


def of_all_users(*, brief: bool) -> list[RunStatus]:
    """Live ones of everybody; ended ones, too, where we may read the list that they stand on."""
    runs, silent = list_runs(everybody=True)
    for one in silent:
        complain(tr("{one}; it is left out", one=one))
    there = {spec.run_dir for spec in runs} | {one.run.run_dir for one in silent}
    closed = [run for run in live_runs() if run.run_dir not in there]
    rows = (replace(read_status(spec, brief=brief), user=owner_name(spec.dir.supervisor)) for spec in runs)
    return [*rows, *map(_closed, closed)]


def _closed(run: BoxRun) -> RunStatus:
    """A run into which we may not look: what anybody can see of its processes."""
    return RunStatus(
        name=run.name,
        run_dir=run.run_dir,
        modality=None,
        state="unknown",
        detail=tr(
            "It is closed to you; {user} opens it by `start {name} --share group` (or all).",
            name=run.name,
            user=run.user,
        ),
        started_at=None,
        ended_at=None,
        last_started_at=None,
        worked_s=None,
        drill=False,
        supervisor=SupervisorStatus(pid=run.supervisor, alive=True, version=None),
        trainer=None,
        progress=progress_status(None, PaceRecord(), trains=False, source=None, best_metric=None),
        checkpoint=None,
        restarts=RestartStatus(total=0, crash=0, hang=0, oom=0, by_kind={}, budget_left=None),
        batch=BatchStatus(unfreeze=None, accumulate=None, effective=None, initial=None, confirmed=None),
        gpus=tuple(_gpus_of(run.supervisor)) if has_driver() else (),
        last_incident=None,
        alarm=None,
        warnings=(),
        user=run.user,
    )


def _gpus_of(supervisor: int) -> Iterator[GpuStatus]:
    """The GPUs on which processes below a supervisor hold memory, as the driver says."""
    tree = set(proc.descendants(supervisor))
    for gpu in ask_driver()[1]:
        held = [process["mib"] or 0 for process in gpu["processes"] or () if process["pid"] in tree]
        if held:
            yield GpuStatus(
                uuid=gpu["uuid"],
                index=gpu["index"],
                name=gpu["name"],
                total_mib=gpu["total_mib"],
                used_mib=gpu["used_mib"],
                trainer_mib=sum(held),
                temperature_c=None,
                health=None,
                chosen=True,
            )

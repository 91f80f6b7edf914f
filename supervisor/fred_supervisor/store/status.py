"""The status of a run, from its files alone: it works with the supervisor dead, stopped or hung."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, why_invalid
from fred_supervisor.contract.checkpoint_content import why_not_whole
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.checkpoints import foreign_checkpoints
from fred_supervisor.store.file_ages import file_age_s, uptime_s
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.monitor_sample import last_sample, newest_sample
from fred_supervisor.store.progress_status import ProgressStatus, beat_age_s, position_source, progress_status
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import StateFile, read_state
from fred_supervisor.words.status import (
    MONITOR_SILENT,
    SUPERVISOR_STARTS,
    SUPERVISOR_STOPPED,
    alarm_sentence,
    interrupted,
    supervisor_gone,
    supervisor_gone_ending,
)

LIVE_STATES: Final = ("starting", "running", "stopping", "paused", "waiting", "holding")


@record
class SupervisorStatus:
    """`pid` only while it lives."""

    pid: int | None
    alive: bool
    version: str | None


@record
class TrainerStatus:
    """A trainer that lives."""

    pid: int
    attempt: int
    uptime_s: float | None
    section: str | None
    beat_age_s: float | None


@record
class CheckpointStatus:
    """The newest checkpoint that looks whole, else the newest."""

    path: str
    phase: str | None
    epoch: int | None
    step: int | None
    age_s: float | None
    """None: its time lies in the future."""
    valid: bool


@record
class RestartStatus:
    """Relaunches by kind, and how many are left without new progress."""

    total: int
    crash: int
    hang: int
    oom: int
    by_kind: dict[str, int]
    """Kind of incident → relaunches; crash, hang and oom stand here, too."""
    budget_left: int | None


@record
class BatchStatus:
    """Of the unfreeze phase; None where nobody has said it."""

    unfreeze: int | None
    accumulate: int | None
    effective: int | None
    initial: int | None


@record
class GpuStatus:
    """One GPU, as the monitor sees it."""

    uuid: str
    index: int
    name: str | None
    total_mib: int | None
    used_mib: int | None
    trainer_mib: int | None
    temperature_c: int | float | None
    health: str | None
    """`ok`, or a sentence."""


@record
class IncidentStatus:
    """The newest incident, in short."""

    id: int
    kind: str | None
    cause: str | None
    at: str | None
    phase: str | None
    epoch: int | None
    step: int | None
    lost_steps: int | None
    action: str | None


@record
class RunStatus:
    """What `status`, its table, `--watch` and the report show. What is not known is None."""

    name: str
    run_dir: str
    modality: str | None
    state: str
    detail: str
    drill: bool
    supervisor: SupervisorStatus
    trainer: TrainerStatus | None
    progress: ProgressStatus
    checkpoint: CheckpointStatus | None
    restarts: RestartStatus
    batch: BatchStatus
    gpus: tuple[GpuStatus, ...]
    last_incident: IncidentStatus | None
    alarm: str | None

    @property
    def live(self) -> bool:
        """It has not ended, as far as anybody knows."""
        return self.state in LIVE_STATES

    def document(self) -> dict[str, object]:
        """`status --json`."""
        return asdict(self)


def read_status(spec: RunSpec) -> RunStatus:
    """The status of one run."""
    recorded = read_state(spec.dir)
    number = last_attempt(spec.dir)
    folder = spec.dir.attempt(number)
    launch = read_launch(folder)
    alive = proc.alive(launch.trainer)
    supervised = lock.held(spec.dir)
    supervisor = recorded.supervisor.identity
    if supervised and not proc.alive(supervisor):  # the snapshot is garbled, or not its own
        supervisor = lock.holder(spec.dir)
    beat = newest_beat(folder)
    state, detail = _state(recorded, spec.run_dir, supervised=supervised, supervisor=supervisor, trainer_alive=alive)
    last = Incidents(spec.dir).last()
    trainer = None
    if launch.trainer is not None and alive:
        trainer = TrainerStatus(
            pid=launch.trainer.pid,
            attempt=number,
            uptime_s=uptime_s(launch.trainer),
            section=None if beat is None else beat.section,
            beat_age_s=beat_age_s(folder, beat, at_most_s=uptime_s(launch.trainer)),
        )
    return RunStatus(
        name=spec.name,
        run_dir=spec.run_dir,
        modality=spec.modality,
        state=state,
        detail=detail,
        drill=bool(spec.drill),
        supervisor=SupervisorStatus(
            pid=supervisor.pid if supervisor is not None and supervised else None,
            alive=supervised,
            version=recorded.supervisor.version,
        ),
        trainer=trainer,
        progress=progress_status(
            beat,
            recorded.pace,
            trains=alive,
            source=position_source(folder, beat, progress_file=spec.progress_file is not None),
        ),
        checkpoint=_checkpoint(spec),
        restarts=_restarts(recorded),
        batch=_batch(spec, recorded.history),
        gpus=gpu_status(spec.dir),
        last_incident=None if last is None else _incident(last),
        alarm=alarm_sentence(beat.alarm) if alive and beat is not None and beat.alarm else None,
    )


def _state(
    recorded: StateFile, run_dir: str, *, supervised: bool, supervisor: Identity | None, trainer_alive: bool
) -> tuple[str, str]:
    """The recorded state, corrected by what is seen to live."""
    state, detail = recorded.state, recorded.detail
    if state is None or detail is None or state not in (*LIVE_STATES, *RunOutcome):
        state, detail = "starting", SUPERVISOR_STARTS
    if supervised:
        if supervisor is not None and proc.stopped(supervisor):
            return state, f"{detail} {SUPERVISOR_STOPPED}"
        return state, detail
    if state not in LIVE_STATES:
        return state, detail
    if trainer_alive and recorded.asked is not None:
        return "stopping", supervisor_gone_ending(run_dir, recorded.asked)
    if trainer_alive:
        return "running", supervisor_gone(run_dir)
    return "stopped", interrupted(run_dir, recorded.asked)


def _restarts(recorded: StateFile) -> RestartStatus:
    counts, most = recorded.history.restarts, recorded.max_restarts
    return RestartStatus(
        total=counts.total,
        crash=counts.crash,
        hang=counts.hang,
        oom=counts.oom,
        by_kind=dict(counts.by_kind),
        budget_left=None if most is None else max(0, most - recorded.history.spent),
    )


def _batch(spec: RunSpec, history: RunHistory) -> BatchStatus:
    """What is trained with, and what it began with."""
    ordered = history.overrides.unfreeze_batch
    if spec.command is not None and spec.flags.get("unfreeze_batch_size") is None and not ordered:
        return BatchStatus(unfreeze=None, accumulate=None, effective=None, initial=None)
    initial = spec.flag("unfreeze_batch_size")
    batch = ordered or initial
    accumulate = history.overrides.accumulate or spec.flag("accumulate")
    effective = batch * accumulate if batch and accumulate else None
    return BatchStatus(unfreeze=batch, accumulate=accumulate, effective=effective, initial=initial)


def newest_checkpoint(spec: RunSpec) -> tuple[CheckpointFile, bool] | None:
    """The newest checkpoint that looks whole (its digest is not computed here), else the newest, and which it is."""
    run_dir = Path(spec.run_dir)
    if spec.checkpoints is not None:
        found = foreign_checkpoints(run_dir, spec.checkpoints)
        whole = next((f for f in found if why_not_whole(f.path, quick=True) is None), None)
    else:
        found = list_checkpoints(run_dir)
        whole = next((f for f in found if why_invalid(f, quick=True) is None), None)
    if whole is not None:
        return whole, True
    return (found[0], False) if found else None


def _checkpoint(spec: RunSpec) -> CheckpointStatus | None:
    """None, too, where the file system that they lie on does not answer."""
    lookout, pattern = Lookout(spec.run_dir), spec.checkpoints
    places = () if pattern is None else (os.path.join(spec.run_dir, pattern),)
    try:
        return lookout.reach(places, lambda: _checkpoint_status(spec))
    except (NoAnswerError, OSError):
        return None


def _checkpoint_status(spec: RunSpec) -> CheckpointStatus | None:
    """Raises OSError for a file that vanishes meanwhile."""
    newest = newest_checkpoint(spec)
    if newest is None:
        return None
    found, valid = newest
    changed_s = found.path.stat().st_mtime
    return CheckpointStatus(
        path=str(found.path),
        phase=found.phase,
        epoch=found.epoch,
        step=found.sidecar.step if found.sidecar else None,
        age_s=file_age_s(changed_s),
        valid=valid,
    )


def gpu_status(run: RunDir) -> tuple[GpuStatus, ...]:
    """What the monitor sees of the GPUs; a monitor that is silent leaves their names. Empty when there is none."""
    fresh = newest_sample(run)
    sample = fresh or last_sample(run)
    return tuple(
        GpuStatus(
            uuid=gpu.uuid,
            index=gpu.index,
            name=gpu.name,
            total_mib=gpu.total_mib,
            used_mib=gpu.used_mib if fresh else None,
            trainer_mib=gpu.trainer_mib if fresh else None,
            temperature_c=gpu.temperature_c if fresh else None,
            health=gpu.health if fresh else MONITOR_SILENT,
        )
        for gpu in (sample.gpus if sample else ())
    )


def _incident(incident: Incident) -> IncidentStatus:
    return IncidentStatus(
        id=incident.id,
        kind=incident.kind,
        cause=incident.cause,
        at=None if incident.at_s is None else incident.at,
        phase=incident.phase,
        epoch=incident.epoch,
        step=incident.step,
        lost_steps=incident.lost_steps,
        action=incident.action,
    )

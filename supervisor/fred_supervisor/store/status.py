"""The status of a run, from its files alone: it works with the supervisor dead, stopped or hung."""

import errno
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.language import together, tr
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import keeper_unseen, read_launch
from fred_supervisor.store.file_ages import file_age_s, uptime_s
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.kept_file import why_unwritten
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.monitor_sample import GpuStatus, gpu_status
from fred_supervisor.store.nodes.node_status import NodeStatus, node_status, stalled
from fred_supervisor.store.place import of_folder
from fred_supervisor.store.progress_status import (
    BatchStatus,
    ProgressStatus,
    batch_status,
    beat_age_s,
    best_map50,
    position_source,
    progress_status,
)
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import StateFile, read_state
from fred_supervisor.words.sentences import sentence, stored_message
from fred_supervisor.words.status import (
    SNAPSHOT_LOST,
    SUPERVISOR_STARTS,
    SUPERVISOR_STOPPED,
    TRAINER_UNSEEN,
    alarm_sentence,
    as_of_sentence,
    interrupted,
    supervisor_gone,
)

_TRAINING: Final = ("running", "stopping")
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
    node: str | None = None
    """The machine of rank 0, where there are several."""


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
class WarningStatus:
    """What goes wrong without failing, and still does."""

    kind: str
    since: str | None
    text: str


@record
class RunStatus:
    """What `status`, its table, `--watch` and the report show. What is not known is None."""

    name: str
    run_dir: str
    modality: str | None
    state: str
    detail: str
    started_at: str | None
    """RFC 3339, UTC: the first start."""
    ended_at: str | None
    """None while it lives."""
    last_started_at: str | None
    worked_s: float | None
    """How long it was supervised in all: without the time in which it was stopped."""
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
    warnings: tuple[WarningStatus, ...]
    as_of: str | None = None
    """When the supervisor wrote last (RFC 3339, UTC), where that is long ago, or what it wrote is not so any more."""
    nodes: tuple[NodeStatus, ...] = ()
    """Of several machines."""
    user: str | None = None
    """Whose it is, where runs of several users are listed."""

    @property
    def live(self) -> bool:
        """It has not ended, as far as anybody knows."""
        return self.state in LIVE_STATES

    def document(self) -> dict[str, object]:
        """`status --json`."""
        return asdict(self)


def read_status(spec: RunSpec, *, brief: bool = False) -> RunStatus:
    """The status of one run; `brief`: without what a table of many does not show, which costs most of the time."""
    run = spec.dir
    supervised = lock.held(run)  # first: who has left by now has written its last word before
    recorded = read_state(run, brief=brief)
    folder = run.attempt(number := last_attempt(run))
    launch = read_launch(folder)
    alive = proc.alive(launch.trainer)
    ended = launch.trainer is not None and launch.trainer.boot == proc.boot_id() and not alive
    supervisor = recorded.supervisor.identity
    if supervised and not proc.alive(supervisor):  # the snapshot is garbled, or of the one before
        supervisor = lock.holder(run)
        if supervisor is not None and not alive:
            recorded = replace(recorded, state=None, up_s=None)
    beat, why = newest_beat(folder), why_unwritten(spec.run_dir)
    state, detail = _state(recorded, spec.run_dir, supervised=supervised, supervisor=supervisor, trainer_alive=alive)
    untrue = ended and state in _TRAINING
    old = recorded.old or why == errno.EROFS or (untrue and why)
    as_of = recorded.time if old and supervised and state in LIVE_STATES else None
    if as_of is not None:
        state = "holding" if untrue else state
        detail = as_of_sentence(detail, as_of, why=why, ended=ended)
    trains = alive or (supervised and state == "running" and lock.of_another(run))  # readers see no launch.json
    trainer = None
    far = supervised and launch.trainer is not None and launch.trainer.boot != proc.boot_id()
    nodes = node_status(folder) if spec.nodes is not None and (alive or far) else ()
    if launch.trainer is not None and (alive or (far and nodes)):
        trainer = TrainerStatus(
            pid=launch.trainer.pid,
            attempt=number,
            uptime_s=(up_s := uptime_s(launch.trainer) if alive else None),
            section=None if beat is None else beat.section,
            beat_age_s=beat_age_s(folder, beat, at_most_s=up_s),
            node=nodes[0].name if nodes else None,
        )
    return RunStatus(
        name=spec.name,
        run_dir=spec.run_dir,
        modality=spec.modality,
        state=state,
        detail=detail,
        started_at=spec.created,
        ended_at=recorded.time if state in tuple(RunOutcome) and not supervised else None,
        last_started_at=recorded.began or spec.created,
        worked_s=recorded.worked_s(spec.created, time.time() if supervised else None),
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
            trains=trains,
            source=position_source(folder, beat, progress_file=spec.progress_file is not None),
            best_metric=best_map50(spec),
        ),
        checkpoint=None if brief else _checkpoint(spec),
        restarts=_restarts(recorded),
        batch=batch_status(spec, recorded.history, beat),
        gpus=() if brief and not trains else gpu_status(run),
        last_incident=None if brief else _incident(Incidents(run).last()),
        alarm=alarm_sentence(beat.alarm) if alive and beat is not None and beat.alarm else None,
        warnings=_warnings(recorded, stalled(supervisor, recorded.age_s) if supervised else None),
        as_of=as_of,
        nodes=nodes,
    )


def _state(
    recorded: StateFile, run_dir: str, *, supervised: bool, supervisor: Identity | None, trainer_alive: bool
) -> tuple[str, str]:
    """The recorded state, corrected by what is seen to live."""
    state, detail = recorded.state, recorded.said
    if state is None or detail is None or state not in (*LIVE_STATES, *RunOutcome):
        lives = trainer_alive or bool(of_folder(run_dir))
        state, detail = ("running", tr(SNAPSHOT_LOST)) if lives else ("starting", tr(SUPERVISOR_STARTS))
    if supervised:
        stopped = supervisor is not None and proc.stopped(supervisor)
        return state, together((detail, tr(SUPERVISOR_STOPPED))) if stopped else detail
    if state not in LIVE_STATES:
        return state, detail
    if trainer_alive:
        pid = supervisor.pid if supervisor is not None and proc.alive(supervisor) else None
        return "running" if recorded.asked is None else "stopping", supervisor_gone(run_dir, recorded.asked, pid)
    if keeper_unseen(RunDir(Path(run_dir))):
        return "running", tr(TRAINER_UNSEEN)
    return "stopped", interrupted(run_dir, recorded.asked)


def _warnings(recorded: StateFile, stuck: Message | None) -> tuple[WarningStatus, ...]:
    """Those that people were told of; one whose words are none of ours is left out."""
    told = [(one.kind, one.since, stored_message(one.facts)) for one in recorded.history.warnings if one.begun]
    told += [] if stuck is None else [(WarningKind.STALLED, recorded.time, stuck)]
    return tuple(
        WarningStatus(kind=str(kind), since=since, text=printable(sentence(message)))
        for kind, since, message in told
        if message is not None
    )


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


def _checkpoint(spec: RunSpec) -> CheckpointStatus | None:
    """None, too, where the file system that they lie on does not answer."""
    places = () if spec.checkpoints is None else (os.path.join(spec.run_dir, spec.checkpoints),)
    try:
        return Lookout(spec.run_dir).reach(places, lambda: _checkpoint_status(spec))
    except (NoAnswerError, OSError):
        return None


def _checkpoint_status(spec: RunSpec) -> CheckpointStatus | None:
    """Raises OSError for a file that vanishes meanwhile."""
    from fred_supervisor.store.checkpoints import newest_checkpoint  # noqa: PLC0415 - a table of runs shows none

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


def _incident(incident: Incident | None) -> IncidentStatus | None:
    return (
        None
        if incident is None
        else IncidentStatus(
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
    )

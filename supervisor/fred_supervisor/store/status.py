"""The status of a run, from its files alone: it works with the supervisor dead, stopped or hung."""

import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from fred_supervisor.contract.checkpoint import CheckpointFile, list_checkpoints, why_invalid
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import proc
from fred_supervisor.policy.state import RunOutcome
from fred_supervisor.store import lock, state_file
from fred_supervisor.store.checkpoints import foreign_checkpoints, why_not_whole
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.events import alarm_sentence

LIVE_STATES = ("starting", "running", "stopping", "paused", "waiting", "holding")


def status_document(spec: RunSpec) -> dict[str, Any]:
    """`status --json` of one run. What is not known is None."""
    before = read_json(spec.dir.state) or {}
    number = last_attempt(spec.dir)
    folder = spec.dir.attempt(number)
    launch = read_json(folder.launch) or {}
    trainer = proc.identity_from(launch.get("trainer"))
    trainer_alive = proc.alive(trainer)
    supervisor = proc.identity_from(before.get("supervisor"))
    supervised = lock.held(spec.dir)
    beat = newest_beat(folder.heartbeat)
    history = state_file.history_from(before)
    state, detail = _state(before, supervised=supervised, supervisor=supervisor, trainer_alive=trainer_alive)
    pace = _mapping(before.get("pace")) if trainer_alive else {}
    last = Journal(spec.dir).last_incident()
    batch = history.overrides.unfreeze_batch or spec.flag("unfreeze_batch_size")
    initial = spec.flag("unfreeze_batch_size")
    accumulate = history.overrides.accumulate or spec.flag("accumulate")
    if (
        spec.command is not None
        and spec.flags.get("unfreeze_batch_size") is None
        and not history.overrides.unfreeze_batch
    ):
        batch = initial = accumulate = None
    return {
        "name": spec.name,
        "run_dir": spec.run_dir,
        "modality": spec.modality,
        "state": state,
        "detail": detail,
        "drill": bool(spec.drill),
        "supervisor": {
            "pid": supervisor.pid if supervisor and supervised else None,
            "alive": supervised,
            "version": _mapping(before.get("supervisor")).get("version"),
        },
        "trainer": None
        if not trainer_alive or trainer is None
        else {
            "pid": trainer.pid,
            "attempt": number,
            "uptime_s": _since_s(launch.get("time")),
            "section": beat.section if beat else None,
            "beat_age_s": _beat_age_s(folder.heartbeat, beat),
        },
        "progress": _progress(beat, pace, _mapping(_mapping(before.get("pace")).get("losses"))),
        "checkpoint": _checkpoint(spec),
        "restarts": {
            "total": history.restarts.total,
            "crash": history.restarts.crash,
            "hang": history.restarts.hang,
            "oom": history.restarts.oom,
            "budget_left": max(0, before["max_restarts"] - history.spent)
            if isinstance(before.get("max_restarts"), int)
            else None,
        },
        "batch": {
            "unfreeze": batch,
            "accumulate": accumulate,
            "effective": batch * accumulate if batch and accumulate else None,
            "initial": initial,
        },
        "gpus": gpu_rows(spec.dir),
        "last_incident": None if last is None else _incident(last),
        "alarm": alarm_sentence(beat.alarm) if trainer_alive and beat is not None and beat.alarm else None,
    }


def _state(
    before: dict[str, Any], *, supervised: bool, supervisor: proc.Identity | None, trainer_alive: bool
) -> tuple[str, str]:
    """The recorded state, corrected by what is seen to live."""
    state, detail = str(before.get("state")), before.get("detail")
    if state not in (*LIVE_STATES, *RunOutcome) or not isinstance(detail, str):
        state, detail = "starting", "The supervisor is starting."
    if supervised:
        if supervisor is not None and proc.stopped(supervisor):
            return state, f"{detail} The supervisor itself is stopped (SIGSTOP)."
        return state, detail
    if state not in LIVE_STATES:
        return state, detail
    if trainer_alive:
        return "running", "The supervisor is gone, the trainer trains on; `fred-supervise start` adopts it."
    return "stopped", "Interrupted: neither supervisor nor trainer lives; `fred-supervise start` goes on."


def _mapping(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _progress(beat: Beat | None, pace: dict[str, Any], losses: dict[str, Any]) -> dict[str, Any]:
    loss = beat.loss if beat and beat.loss is not None and math.isfinite(beat.loss) else None
    return {
        "phase": beat.phase if beat else None,
        "epoch": beat.epoch if beat else None,
        "epochs": beat.epochs if beat else None,
        "step": beat.step if beat else None,
        "steps": beat.steps if beat else None,
        "samples": beat.samples if beat else None,
        "loss": loss,
        "images_per_s": pace.get("images_per_s"),
        "eta_s": pace.get("eta_s"),
        "loss_history": losses.get("means") or [],
    }


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


def _checkpoint(spec: RunSpec) -> dict[str, Any] | None:
    newest = newest_checkpoint(spec)
    if newest is None:
        return None
    found, valid = newest
    try:
        age_s = max(0.0, time.time() - found.path.stat().st_mtime)
    except OSError:
        return None
    return {
        "path": str(found.path),
        "phase": found.phase,
        "epoch": found.epoch,
        "step": found.sidecar.step if found.sidecar else None,
        "age_s": round(age_s, 1),
        "valid": valid,
    }


def gpu_rows(run: RunDir) -> list[dict[str, Any]]:
    """What the monitor sees of the GPUs; a monitor that is silent leaves their names. Empty when there is none."""
    names, values = ("uuid", "index", "name", "total_mib"), ("used_mib", "trainer_mib", "temperature_c")
    sample = newest_sample(run)
    gpus = (sample or read_json(run.monitor) or {}).get("gpus")
    known = [gpu for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    if sample is not None:
        return [{key: gpu.get(key) for key in (*names, *values, "health")} for gpu in known]
    silent = {**dict.fromkeys(values), "health": "Unknown: the monitor is silent."}
    return [{**{key: gpu.get(key) for key in names}, **silent} for gpu in known]


def _incident(incident: dict[str, Any]) -> dict[str, Any]:
    keys = ("id", "kind", "cause", "at", "phase", "epoch", "step", "lost_steps", "action")
    return {key: incident.get(key) for key in keys}


def _since_s(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        return round(max(0.0, time.time() - datetime.fromisoformat(text).timestamp()), 1)
    except ValueError:
        return None


def _beat_age_s(path: Path, beat: Beat | None) -> float | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if beat is None and found.st_size == 0:
        return None
    return round(max(0.0, time.time() - found.st_mtime), 1)

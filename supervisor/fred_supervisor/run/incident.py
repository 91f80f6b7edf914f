"""Incident files: what a failure was, and what came of it."""

from datetime import datetime
from pathlib import Path
from typing import Any

from fred_supervisor.contract.checkpoint import Found
from fred_supervisor.contract.files import now_text, read_json
from fred_supervisor.policy.actions import Report
from fred_supervisor.run import code, evidence
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.minutes import minutes_before
from fred_supervisor.run.resume import lost_steps
from fred_supervisor.run.stacks import Dump


def document(
    report: Report, *, number: int, resume: Found | None, dump: Dump, sample: dict[str, Any] | None, asked: Asked
) -> dict[str, Any]:
    """One incident, as the contract has it.

    `resume` is where the next attempt starts from, `sample` what the monitor has seen last.
    """
    seen, found = report.evidence, report.diagnosis
    beat, error = seen.beat, seen.error
    folder = asked.dir.attempt(seen.attempt)
    told = evidence.document(seen, folder.output, end=dump.start)
    return {
        "id": number,
        "kind": found.kind,
        "cause": evidence.printable(found.sentence),
        "at": now_text(),
        "attempt": seen.attempt,
        "exit_code": seen.exit_code,
        "signal": seen.signal,
        "section": (error.section if error else None) or (beat.section if beat else None),
        "phase": (error.phase if error else None) or (beat.phase if beat else None),
        "epoch": beat.epoch if beat else None,
        "step": beat.step if beat else None,
        "lost_steps": lost_steps(beat, resume),
        "checkpoint": None if resume is None else str(resume.path),
        "action": evidence.printable(report.told),
        "recovered_after_s": None,
        "evidence": {
            **told,
            "ranks": _ranks(folder.heartbeat),
            "stacks": evidence.printable_lines(dump.text) or None,
            "memory": _memory(sample),
            "minutes_before": minutes_before(asked.dir),
            "kernel": evidence.kernel_lines(read_json(folder.launch) or {}),
            "code_changes": code.changes(read_json(asked.dir.attempt(1).code), read_json(folder.code)) or None,
        },
    }


def recovered(incidents: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """The incidents that are over now that training has passed its furthest point again, with the time it took."""
    changed = []
    for incident in incidents:
        if incident.get("recovered_after_s") is None and isinstance(incident.get("at"), str):
            since = now - datetime.fromisoformat(incident["at"])
            changed.append({**incident, "recovered_after_s": round(since.total_seconds(), 1)})
    return changed


def _ranks(path: Path) -> list[dict[str, Any]] | None:
    """The last record of each of several ranks."""
    beats = evidence.rank_beats(path)
    if not beats.keys() - {0}:
        return None
    return [{"rank": rank, **evidence.heartbeat_document(beat)} for rank, beat in beats.items()]


def _memory(sample: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of host and GPUs, as it was shortly before the end; None when nobody has looked."""
    if sample is None:
        return None
    host = sample.get("host") or {}
    gpus = [
        {key: gpu.get(key) for key in ("uuid", "used_mib", "total_mib", "trainer_mib")}
        for gpu in sample.get("gpus") or []
    ]
    keys = ("memory_available_mib", "memory_total_mib", "cgroup_memory_mib", "cgroup_limit_mib", "trainer_rss_mib")
    return {"time": sample.get("time"), "host": {key: host.get(key) for key in keys}, "gpus": gpus}

"""Incident files: what a failure was, and what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from fred_supervisor.attempt import code_state, evidence
from fred_supervisor.attempt.nodes.rendezvous import part_of
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.files import now_text, read_json
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux.text_io import printable, printable_lines
from fred_supervisor.policy.actions import Report, WentOn
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.checkpoints import lost_steps
from fred_supervisor.store.heartbeats import rank_beats
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.layout import AttemptDir, RunDir
from fred_supervisor.store.monitor_ring import RingRecord, read_ring, ring_path
from fred_supervisor.store.monitor_sample import MonitorSample
from fred_supervisor.store.nodes.node_files import node_of_rank, nodes_of
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import stored_sentence


def incident_of(
    report: Report,
    *,
    number: int,
    resume: CheckpointFile | None,
    sample: MonitorSample | None,
    spec: RunSpec,
) -> Incident:
    """One incident, as the contract has it.

    `resume` is where the next attempt starts from, `sample` what the monitor has seen last.
    """
    seen, found = report.evidence, report.diagnosis
    beat, error = seen.beat, seen.error
    folder = spec.dir.attempt(seen.attempt)
    theirs = _output_of_rank(spec, folder, seen.rank)
    told = evidence.document(seen, theirs or folder.output, end=None if theirs else seen.stacks_at)
    return Incident(
        id=number,
        kind=found.kind,
        cause=printable(stored_sentence(found.message)),
        at=now_text(),
        attempt=seen.attempt,
        exit_code=seen.exit_code,
        signal=seen.signal,
        killer=None if seen.killer is None else str(seen.killer.kind),
        section=(error.section if error else None) or (beat.section if beat else None),
        phase=(error.phase if error else None) or (beat.phase if beat else None),
        epoch=beat.epoch if beat else None,
        step=beat.step if beat else None,
        lost_steps=(lost := lost_steps(beat, resume)),
        lost_known=spec.command is None and lost is not None,
        checkpoint=None if resume is None else str(resume.path),
        action=printable(stored_sentence(report.action)),
        recovered_after_s=None,
        evidence={
            **told,
            "facts": {"cause": found.message.document(), "action": report.action.document()},
            "takes_resume": spec.takes_resume,
            "printed": beat is not None and beat.printed,
            "has_beaten": beat is not None or _has_touched(folder.heartbeat),
            "node": None if seen.rank is None else node_of_rank(folder, seen.rank),
            "ranks": _ranks(folder),
            "stacks": printable_lines(seen.stacks) or None,
            "memory": _memory(sample),
            "minutes_before": minutes_before(spec.dir),
            "kernel": evidence.kernel_lines(read_launch(folder)),
            "code_changes": code_state.changes(read_json(spec.dir.attempt(1).code), read_json(folder.code)) or None,
        },
    )


def recovered(newest_first: Iterable[Incident], beat: Beat | None, now: datetime) -> list[Incident]:
    """The incidents that are over now that training has come further than ever, with the time it took.

    What lies before one that is over was over before. A run that was started over has not passed where it failed.
    """
    return [
        replace(incident, recovered_after_s=round(now.timestamp() - incident.at_s, 1))
        for incident in takewhile(lambda one: one.recovered_after_s is None, newest_first)
        if incident.at_s is not None and _passed(incident, beat)
    ]


def went_on(newest_first: Iterable[Incident], found: WentOn) -> list[Incident]:
    """The incidents whose cost can be told now that the next attempt has said its first position, newest first."""
    changed = []
    for incident in takewhile(lambda one: not one.lost_known and one.from_the_beginning is None, newest_first):
        if incident.epoch is None and incident.step is None:
            continue
        lost = _lost(incident, found.beat)
        known = incident.lost_steps if lost is None else lost
        over = found.from_the_beginning and known != 0
        changed.append(replace(incident, lost_steps=known, lost_known=lost is not None, from_the_beginning=over))
    return changed


def _lost(incident: Incident, begun: Beat) -> int | None:
    """Steps between the first position after a failure and the last one before it; None when nobody can count them."""
    last = incident.evidence.get("last_heartbeat")
    steps = last.get("steps") if isinstance(last, Mapping) else None
    steps = steps if isinstance(steps, int) and steps > 0 else None
    if incident.step is None or begun.step is None or (incident.epoch is None) != (begun.epoch is None):
        return None
    epochs = (incident.epoch or 0) - (begun.epoch or 0)
    if epochs and steps is None:
        return None
    at = begun.step if begun.printed else begun.step - 1  # the client speaks of steps that are done
    if steps is not None and begun.steps:
        at = round(at * steps / begun.steps)
    return max(0, epochs * (steps or 0) + incident.step - at)


def _passed(incident: Incident, beat: Beat | None) -> bool:
    """Whether training is where it failed, or further; of a trainer that does not say where it is, new progress is."""
    if incident.epoch is None and incident.step is None:
        return True
    if beat is None:
        return False
    failed, reached = (incident.epoch or 0, incident.step or 0), (beat.epoch or 0, beat.step or 0)
    last = incident.evidence.get("last_heartbeat")
    steps = last.get("steps") if isinstance(last, Mapping) else None
    if failed[0] == reached[0] and isinstance(steps, int) and steps > 0 and beat.steps:
        return bool(reached[1] / beat.steps >= failed[1] / steps)
    return reached >= failed


def _has_touched(heartbeat: Path) -> bool | None:
    """Whether a trainer that writes no records has written its heartbeat; None when it may have beaten all the same."""
    try:
        return heartbeat.stat().st_size > 0 or None
    except OSError:
        return None


def _output_of_rank(spec: RunSpec, folder: AttemptDir, rank: int | None) -> Path | None:
    """The file that its machine writes, where that is not ours."""
    if not rank:
        return None
    if spec.under_slurm:
        return Path(f"{folder.output}.rank{rank}")
    beat = rank_beats(folder.heartbeat).get(rank) if spec.nodes is not None else None
    if beat is None or not beat.node:
        return None
    return part_of(spec, int(folder.path.name), beat.node).output


def _ranks(folder: AttemptDir) -> list[dict[str, Any]] | None:
    """The last record of each of several ranks, and the machine that it ran on."""
    beats = rank_beats(folder.heartbeat)
    if not beats.keys() - {0}:
        return None
    names = {one.node: one.name for one in nodes_of(folder)}
    return [
        {"rank": rank, "node": names.get(beat.node or 0), **evidence.heartbeat_document(beat)}
        for rank, beat in beats.items()
    ]


def _memory(sample: MonitorSample | None) -> dict[str, object] | None:
    """Of host and GPUs, as it was shortly before the end; None when nobody has looked."""
    if sample is None:
        return None
    gpus = [{key: getattr(gpu, key) for key in ("uuid", "used_mib", "total_mib", "trainer_mib")} for gpu in sample.gpus]
    keys = ("memory_available_mib", "memory_total_mib", "cgroup_memory_mib", "cgroup_limit_mib", "trainer_rss_mib")
    return {"time": sample.time, "host": {key: getattr(sample.host, key) for key in keys}, "gpus": gpus}


_SPAN_S: Final = 300.0


_MOST: Final = 30
"""Records of the last minute in one incident, and of the time before."""


_GPU_KEYS: Final = ("used_mib", "trainer_mib", "temperature_c", "power_w", "utilization", "throttle")


def minutes_before(run: RunDir) -> list[dict[str, object]]:
    """What GPUs and host were like in the last minutes that the monitor has seen, oldest first."""
    found = read_ring(ring_path(run.monitor), _SPAN_S)
    if not found:
        return []
    end_s = found[-1]["mono_s"]
    late = [record for record in found if end_s - record["mono_s"] <= _SPAN_S / 5]
    early = found[: len(found) - len(late)]
    return [_told(record) for record in [*_thinned(early), *_thinned(late)]]


def _thinned(records: Sequence[RingRecord]) -> Sequence[RingRecord]:
    """Every so many, the last one among them."""
    step = -(-len(records) // _MOST) or 1
    return records[::-1][::step][::-1]


def _told(record: RingRecord) -> RingRecord:
    gpus = record.get("gpus") or {}
    return {
        "time": record["time"],
        "nvml": record.get("nvml"),
        "gpus": [{"uuid": uuid, **dict(zip(_GPU_KEYS, values, strict=False))} for uuid, values in gpus.items()],
        "host": record.get("host"),
    }

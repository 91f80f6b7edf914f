"""From an incident of a run to its manifest: which checkpoint it began from, and how far it came."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.bundle import manifest
from fred_supervisor.bundle.manifest import Manifest, Place, Weights
from fred_supervisor.bundle.secrets import words_without_secrets
from fred_supervisor.contract import environment
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, digest_of, why_invalid
from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import now_text, read_json
from fred_supervisor.contract.record import record
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.attempt_files import LaunchRecord, read_launch
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.run_spec import RunSpec

_NO_SILENCE: Final = None


@record
class Failure:
    """An incident as it can be sent, and the checkpoint that belongs to it."""

    manifest: Manifest
    weights: Path | None
    """Of this run; None: it began afresh, or nothing that fits is left."""
    launch: LaunchRecord


def failure_of(spec: RunSpec, incident: Incident) -> Failure:
    """What is known of an incident. Reads the whole checkpoint once."""
    number = incident.attempt or 0
    folder = spec.dir.attempt(number)
    launch = read_launch(folder)
    document = read_json(folder.launch) or {}
    command = _words(document.get("command"))
    place = _place(incident)
    found, substitute = _weights(spec, launch, place) if launch.resume else (None, False)
    facts = _mapping(_mapping(incident.evidence.get("facts")).get("cause"))
    exception = incident.evidence.get("exception")
    foreign = spec.command is not None
    made = Manifest(
        format=manifest.FORMAT,
        name=spec.name,
        attempt=number,
        incident=incident.id,
        created=now_text(),
        version=fred_supervisor.__version__,
        modality=spec.modality,
        command=tuple(words_without_secrets(command)),
        cwd=spec.cwd,
        foreign=foreign,
        ranks=spec.rank_count,
        flags={} if foreign else manifest.flags_of(command),
        overrides=replace(decode_or(Overrides, document.get("overrides")), blamed=(), stretch=None),
        drill="" if foreign else manifest.repeated_drills(spec.drill),
        kind=incident.kind,
        topic=_text(facts.get("topic")),
        detail=_text(exception).partition("\n")[0][:500] if exception else "",
        place=place,
        silent_s=_number(incident.evidence.get("stalled_s")),
        weights=None if found is None else _described(found, substitute=substitute),
        afresh=bool(document) and not launch.resume,
    )
    return Failure(manifest=made, weights=None if found is None else found.path, launch=launch)


def _place(incident: Incident) -> Place:
    beat = decode_or(Place, incident.evidence.get("last_heartbeat"))
    known = {key: getattr(incident, key) for key in ("section", "phase", "epoch", "step")}
    return replace(beat, **{key: value for key, value in known.items() if value is not None})


def _weights(spec: RunSpec, launch: LaunchRecord, place: Place) -> tuple[CheckpointFile | None, bool]:
    """The checkpoint that the attempt began from; where that is gone or another by now, one shortly before the failure.

    One that was saved when the step failed comes last: a passing fault may be in it.
    """
    if spec.command is not None:
        return None, False
    every = [found for found in list_checkpoints(Path(spec.run_dir)) if _before(found, place)]
    begun = next((found for found in every if str(found.path) == launch.resume), None)
    if begun is not None and why_invalid(begun) is None:
        return begun, False
    late = [found for found in every if found.sidecar is not None and found.sidecar.samples == place.samples]
    for found in [*(one for one in every if one not in late), *late]:
        if found.sidecar is not None and why_invalid(found) is None:
            return found, True
    return None, False


def _before(found: CheckpointFile, place: Place) -> bool:
    """Whether it was saved before the step that failed, as far as that is known."""
    samples = None if found.sidecar is None else found.sidecar.samples
    return samples is None or place.samples is None or samples <= place.samples


def _described(found: CheckpointFile, *, substitute: bool) -> Weights:
    return Weights(
        name=found.path.name,
        size=found.path.stat().st_size,
        digest=found.sidecar.digest if found.sidecar is not None else digest_of(found.path),
        substitute=substitute,
    )


def ordered(launch: LaunchRecord) -> dict[str, str]:
    """What the supervisor had ordered by the environment."""
    names = (environment.UNFREEZE_BATCH_SIZE, environment.ACCUMULATE)
    return {name: launch.environment[name] for name in names if launch.environment.get(name)}


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None

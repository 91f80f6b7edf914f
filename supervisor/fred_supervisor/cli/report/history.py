"""Everything that a report shows, read once from the files of a run."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from fred_supervisor.cli.checkpoints import CheckpointRow, checkpoint_rows
from fred_supervisor.cli.report.stretches import Stretch, read_stretches
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr
from fred_supervisor.store.attempt_files import read_exit
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import LIVE_STATES, RunStatus, read_status
from fred_supervisor.store.tensorboard.scalars import TAGS, Point, event_files, read_scalars

_GPUS: Final = 16


@record
class Attempt:
    """One process of the trainer."""

    number: int
    start_s: float
    """Wall clock."""
    end_s: float
    ended: str
    """How it ended, in words."""
    kind: str
    """Kind of the incident that ended it; "end" or "live" without one."""


@record
class GpuCurves:
    """Memory of one GPU, in GiB."""

    index: int
    used: list[Point]
    trainer: list[Point]
    total: float | None


@record
class History:
    """One run, from its beginning until now or its end."""

    status: RunStatus
    command: str
    created_s: float | None
    start_s: float
    end_s: float
    attempts: Sequence[Attempt]
    incidents: Sequence[Incident]
    """The newest ones whose time is known."""
    incidents_in_all: int
    checkpoints: Sequence[CheckpointRow]
    curves: Mapping[str, list[Point]]
    gpus: Sequence[GpuCurves]
    stretches: Sequence[Stretch]
    """In which a warning held."""

    @property
    def trained_s(self) -> float:
        """How long a trainer ran."""
        return sum(attempt.end_s - attempt.start_s for attempt in self.attempts)


_SHOWN: Final = 200
"""Incidents in one page: nobody reads thousands."""


def read_history(spec: RunSpec) -> History:
    """Reads files only."""
    status = read_status(spec)
    now_s = time.time()
    stored = Incidents(spec.dir)
    incidents = [one for one in islice(stored.newest_first(), _SHOWN) if one.at_s is not None][::-1]
    kinds = {incident.attempt: str(incident.kind) for incident in incidents}
    live = status.state in LIVE_STATES
    attempts = _attempts(spec, kinds, now_s if live else None)
    created_s = wall_s(spec.created)
    start_s = min((attempt.start_s for attempt in attempts), default=created_s or now_s)
    ends = [attempt.end_s for attempt in attempts] + [
        incident.at_s for incident in incidents if incident.at_s is not None
    ]
    end_s = now_s if live else max(ends, default=now_s)
    memory = {
        (n, key): f"supervisor/gpu{n}_memory_{key}_gib" for n in range(_GPUS) for key in ("used", "trainer", "total")
    }
    found = read_scalars(event_files(spec.dir), [*(tag for tags in TAGS.values() for tag in tags), *memory.values()])
    return History(
        status=status,
        command="fred-train" if spec.command is None else " ".join(spec.command),
        created_s=created_s,
        start_s=start_s,
        end_s=max(end_s, start_s + 1),
        attempts=attempts,
        incidents=incidents,
        incidents_in_all=len(stored.numbers()),
        checkpoints=checkpoint_rows(spec, phase=None, verify=False),
        curves={key: next((found[tag] for tag in tags if tag in found), []) for key, tags in TAGS.items()},
        stretches=read_stretches(spec.dir),
        gpus=[
            GpuCurves(
                index=n,
                used=found[memory[n, "used"]],
                trainer=found.get(memory[n, "trainer"], []),
                total=max((point.value for point in found.get(memory[n, "total"], [])), default=None),
            )
            for n in range(_GPUS)
            if memory[n, "used"] in found
        ],
    )


def _attempts(spec: RunSpec, kinds: Mapping[Any, str], now_s: float | None) -> list[Attempt]:
    found: list[Attempt] = []
    for number in range(1, last_attempt(spec.dir) + 1):
        folder = spec.dir.attempt(number)
        start_s = wall_s((read_json(folder.launch) or {}).get("time"))
        if start_s is None:
            continue
        left = read_exit(folder)
        end_s = None if left is None else wall_s(left.time)
        alive = left is None and now_s is not None
        ended = tr("still runs") if alive else tr("how it ended is not known")
        if left is not None and left.signal is not None:
            ended = tr("ended by signal {signal}", signal=left.signal)
        elif left is not None and left.exit_code is not None:
            ended = tr("ended with exit code {exit_code}", exit_code=left.exit_code)
        found.append(
            Attempt(
                number=number,
                start_s=start_s,
                end_s=max(start_s, end_s or (now_s if alive and now_s else start_s)),
                ended=ended,
                kind=kinds.get(number, "live" if alive else "end"),
            )
        )
    return found


def wall_s(text: object) -> float | None:
    """An RFC 3339 time on the wall clock; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None

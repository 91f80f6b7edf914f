"""The page: a `History` as what `templates/report.html` shows.

The templates hold all markup, and escape every value. Control characters are taken out of each before.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import fred_supervisor
from fred_supervisor.cli.checkpoints import CheckpointRow
from fred_supervisor.cli.common.view import span
from fred_supervisor.cli.incidents import ended_by, evidence_lines, memory_lines, recovered_clause, titled_evidence
from fred_supervisor.cli.report import chart
from fred_supervisor.cli.report.chart import Axis, Chart, Series, kind_class
from fred_supervisor.cli.report.history import History
from fred_supervisor.contract.record import record
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.journal import Incident
from fred_supervisor.words.actions import lost_sentence

MARK: Final = "<!doctype html><!-- fred-supervise report -->"
"""Our pages begin with it, so that we replace no other file."""
_MOST_LINES: Final = 160
_MOST_CHARS: Final = 12_000
"""Of one piece of evidence; what is longer loses its middle."""
_UNKNOWN: Final = "–"


@dataclass(frozen=True)
class Tile:
    """One large figure at the top."""

    value: str
    label: str


@record
class IncidentEntry:
    """One incident, in words."""

    number: int
    kind: str
    style: str
    at: str
    where: str
    cause: str
    action: str
    lost: str
    start: str
    recovered: str
    facts: Sequence[str]
    evidence: Sequence[tuple[str, Sequence[str]]]
    """(title, lines)."""


@record
class CheckpointEntry:
    """One line of the table of checkpoints."""

    file: str
    chosen: bool
    """The next start uses it."""
    phase: str
    numbers: Sequence[str]
    """Epoch, step, MiB, loss, mAP50."""
    age: str
    reason: str | None
    """Why it cannot be used."""
    state: str


def page(history: History) -> str:
    """The whole document: no script, nothing to load."""
    status = history.status
    axis = Axis(history.start_s, history.end_s)
    return (
        _environment()
        .get_template("report.html")
        .render(
            **{key: getattr(status, key) for key in ("name", "state", "drill", "detail", "run_dir")},
            command=history.command,
            start=_clock(history.start_s),
            end=_clock(history.end_s),
            tiles=list(_tiles(history)),
            timeline=chart.timeline(axis, history.attempts, history.incidents),
            charts=[each for each in _charts(axis, history) if each is not None],
            incidents_in_all=history.incidents_in_all,
            incidents=[_incident(incident) for incident in reversed(history.incidents)],
            checkpoints=[_checkpoint(row) for row in history.checkpoints],
            now=_clock(time.time()),
            version=fred_supervisor.__version__,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=_without_controls,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "width": chart.WIDTH,
        "height": chart.HEIGHT,
        "left": chart.LEFT,
        "right": chart.WIDTH - chart.RIGHT,
        "top": chart.TOP,
        "base": chart.HEIGHT - chart.BOTTOM,
    }
    return environment


def _without_controls(value: Any) -> Any:
    """Called for every value on its way into the page; a template's own output has passed it already."""
    return value if hasattr(value, "__html__") else printable(str(value))


def _clock(wall_s: float) -> str:
    return time.strftime("%a %d %b %Y %H:%M:%S", time.localtime(wall_s))


def _tiles(history: History) -> Iterator[Tile]:
    progress, restarts = history.status.progress, history.status.restarts
    span_s = history.end_s - history.start_s
    best = max((point.value for point in history.curves["map50"]), default=None)
    if progress.epoch is not None:
        of = f" of {progress.epochs}" if progress.epochs else ""
        yield Tile(f"{progress.epoch}{of}", f"epoch, {progress.phase or 'training'}")
    elif progress.step is not None:
        of = f" of {progress.steps}" if progress.steps else ""
        yield Tile(f"{progress.step}{of}", f"step, {progress.phase or 'training'}")
    if best is not None:
        yield Tile(f"{best:.3f}", "best mAP50")
    if progress.loss is not None:
        yield Tile(f"{progress.loss:.4g}", "loss")
    yield Tile(span(span_s), f"in all, a trainer ran {min(1.0, history.trained_s / span_s):.1%} of it")
    kinds = Counter(str(incident.kind) for incident in history.incidents)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3)) or "nothing happened"
    older = history.incidents_in_all - len(history.incidents)
    shown = f"; of the newest {len(history.incidents)}, which are shown: " if older else ": "
    yield Tile(str(history.incidents_in_all), f"incidents{shown}{told}")
    lost = [*(incident.lost_steps for incident in history.incidents), *([None] if older else [])]
    yield Tile(str(restarts.total), f"relaunches{_twice(lost)}")


def _twice(lost: Sequence[int | None]) -> str:
    """How much was trained twice, as far as that is known."""
    known = [steps for steps in lost if steps is not None]
    if not known:
        return ", how much was trained twice is not known" if lost else ""
    return f", {'' if len(known) == len(lost) else 'at least '}{sum(known)} steps trained twice"


def _charts(axis: Axis, history: History) -> Iterator[Chart | None]:
    curves, incidents = history.curves, history.incidents
    loss = [Series(points=curves["loss"], style="s1")]
    yield chart.chart(axis, loss, incidents, title="Loss", unit="mean, least and most")
    maps = (
        Series(points=curves["map50"], style="s1", name="mAP50", dots=True),
        Series(points=curves["map50_95"], style="s2", name="mAP50:95", dots=True),
    )
    yield chart.chart(axis, maps, incidents, title="mAP", unit="on the validation set")
    images = [Series(points=curves["images"], style="s2")]
    yield chart.chart(axis, images, incidents, title="Throughput", unit="images per second")
    for gpu in history.gpus:
        memory = (
            Series(points=gpu.used, style="s3", name="all", area=True),
            Series(points=gpu.trainer, style="s1", name="this run's trainer", area=True),
        )
        title, unit = f"Memory of GPU {gpu.index}", "GiB; the dashed line is all it has"
        yield chart.chart(axis, memory, incidents, title=title, unit=unit, ceiling=gpu.total)


def _incident(incident: Incident) -> IncidentEntry:
    places = {"attempt": "attempt", "phase": "phase", "epoch": "epoch", "step": "step", "section": "in"}
    assert incident.at_s is not None  # see History
    recovered, checkpoint = incident.recovered_after_s, incident.checkpoint
    kind = str(incident.kind)
    return IncidentEntry(
        number=incident.id,
        kind=kind,
        style=kind_class(kind),
        at=_clock(incident.at_s),
        where=", ".join(
            f"{word} {getattr(incident, key)}" for key, word in places.items() if getattr(incident, key) is not None
        ),
        cause=str(incident.cause),
        action=str(incident.action),
        lost=lost_sentence(incident.lost_steps),
        start=f"went on from {checkpoint.rpartition('/')[2]}" if checkpoint else "began from the beginning",
        recovered="not recovered" if recovered is None else recovered_clause(incident, recovered),
        facts=[ended_by(incident), *memory_lines(incident.evidence.get("memory"))],
        evidence=[(title, _shortened(evidence_lines(value))) for title, value in titled_evidence(incident)],
    )


def _shortened(lines: Sequence[str]) -> Sequence[str]:
    """Lines without their middle, when they are too long for a page."""
    half, chars = _MOST_LINES // 2, _MOST_CHARS // 2
    if len(lines) > _MOST_LINES:
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    text = "\n".join(lines)
    return lines if len(text) <= _MOST_CHARS else [*text[:chars].split("\n"), "…", *text[-chars:].split("\n")]


def _checkpoint(row: CheckpointRow) -> CheckpointEntry:
    numbers = ((row.epoch, "d"), (row.step, "d"), (_mib(row.size), ".1f"), (row.loss, ".4g"))
    return CheckpointEntry(
        file=row.path.rpartition("/")[2],
        chosen=row.chosen,
        phase=row.phase or _UNKNOWN,
        numbers=[_UNKNOWN if n is None else format(n, form) for n, form in (*numbers, (row.map50, ".3f"))],
        age=_UNKNOWN if row.age_s is None else span(row.age_s),
        reason=row.reason or None,
        state="blamed" if row.blamed else "whole",
    )


def _mib(size: int | None) -> float | None:
    return None if size is None else size / 2**20

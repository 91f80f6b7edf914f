"""The page: a `History` as what `templates/report.html` shows.

The templates hold all markup, and escape every value. Control characters are taken out of each before.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import fred_supervisor
from fred_supervisor.cli.checkpoints import CheckpointRow
from fred_supervisor.cli.common.evidence_parts import evidence_parts, minutes_before
from fred_supervisor.cli.common.view import sparkline
from fred_supervisor.cli.incidents import ended_by, lost_of, memory_lines, recovered_clause
from fred_supervisor.cli.report import chart
from fred_supervisor.cli.report.chart import Axis, Chart, Series, kind_class
from fred_supervisor.cli.report.history import History
from fred_supervisor.cli.report.stretches import Stretch
from fred_supervisor.contract.record import record
from fred_supervisor.language import language, listed, tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.store.journal import Incident
from fred_supervisor.words.progress import position
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import span

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
    evidence: Sequence[tuple[str, str, Sequence[str]]]
    """(title, lines)."""


@record
class StretchEntry:
    """A stretch in which a warning held."""

    kind: str
    at: str
    lasted: str
    text: str


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
    return environment().get_template("report.html").render(**facts(history))


def facts(history: History) -> dict[str, object]:
    """What the templates know of a run."""
    status = history.status
    return {
        **{key: getattr(status, key) for key in ("name", "state", "drill", "detail", "run_dir")},
        "lang": language().replace("_", "-"),
        "command": history.command,
        "start": _clock(history.start_s),
        "end": _clock(history.end_s),
        "tiles": list(_tiles(history)),
        **curves(history),
        "stretches": [_stretch(stretch) for stretch in reversed(history.stretches)],
        "incidents_in_all": history.incidents_in_all,
        "incidents": [incident_entry(incident) for incident in reversed(history.incidents)],
        "checkpoints": [_checkpoint(row) for row in history.checkpoints],
        "now": _clock(time.time()),
        "version": fred_supervisor.__version__,
    }


def curves(history: History) -> dict[str, object]:
    """Timeline and charts, each as wide as a page and as a phone."""
    seen_s = (history.end_s - history.start_s) / chart.BINS
    pairs = pairwise(history.attempts)
    starts = [after.start_s for before, after in pairs if after.start_s - before.end_s > seen_s]
    axes = [Axis(history.start_s, history.end_s, width, starts) for width in (chart.WIDTH, chart.NARROW)]
    return {
        "timeline": [chart.timeline(axis, history.attempts, history.incidents, history.stretches) for axis in axes],
        "charts": [each for each in zip(*(_charts(axis, history) for axis in axes), strict=True) if each[0]],
    }


def environment(*folders: Path) -> Environment:
    """Of our templates, and of those in other folders, which come first."""
    made = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).with_name("templates")]),
        autoescape=True,
        finalize=_without_controls,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "tr": tr,
        "term": term,
        "height": chart.HEIGHT,
        "left": chart.LEFT,
        "right": chart.RIGHT,
        "top": chart.TOP,
        "base": chart.HEIGHT - chart.BOTTOM,
    }
    return made


def _without_controls(value: Any) -> Any:
    """Called for every value on its way into the page; a template's own output has passed it already."""
    return value if hasattr(value, "__html__") else printable(str(value))


def _clock(wall_s: float) -> str:
    return time.strftime(tr("%a %d %b %Y %H:%M:%S"), time.localtime(wall_s))


def _tiles(history: History) -> Iterator[Tile]:
    progress, restarts = history.status.progress, history.status.restarts
    span_s = history.end_s - history.start_s
    best = max((point.value for point in history.curves["map50"]), default=None)
    if progress.epoch is not None:
        yield Tile(_of(progress.epoch, progress.epochs), tr("epoch, {phase}", phase=term(progress.phase or "training")))
    elif progress.step is not None:
        yield Tile(_of(progress.step, progress.steps), tr("step, {phase}", phase=term(progress.phase or "training")))
    if best is not None:
        yield Tile(f"{best:.3f}", tr("best mAP50"))
    if progress.loss is not None:
        yield Tile(f"{progress.loss:.4g}", "loss")
    yield Tile(span(span_s), tr("in all, a trainer ran {share:.1%} of it", share=min(1.0, history.trained_s / span_s)))
    kinds = Counter(str(incident.kind) for incident in history.incidents)
    told = listed(f"{count} {term(kind)}" for kind, count in kinds.most_common(3)) or tr("nothing happened")
    older = history.incidents_in_all - len(history.incidents)
    shown = tr("; of the newest {count}, which are shown: ", count=len(history.incidents)) if older else ": "
    yield Tile(str(history.incidents_in_all), tr("incidents{shown}{told}", shown=shown, told=told))
    lost = [*(incident.lost_steps for incident in history.incidents), *([None] if older else [])]
    exact = not any(incident.printed for incident in history.incidents)
    yield Tile(str(restarts.total), tr("relaunches{twice}", twice=_twice(lost, exact=exact)))


def _of(at: int, of: int | None) -> str:
    return tr("{at} of {of}", at=at, of=of) if of else str(at)


def _twice(lost: Sequence[int | None], *, exact: bool) -> str:
    """How much was trained twice, as far as that is known."""
    known = [steps for steps in lost if steps is not None]
    if not known:
        return tr(", how much was trained twice is not known") if lost else ""
    if exact and len(known) == len(lost):
        return tr(", {steps} steps trained twice", steps=sum(known))
    return tr(", at least {steps} steps trained twice", steps=sum(known))


def _charts(axis: Axis, history: History) -> Iterator[Chart | None]:
    curves, incidents = history.curves, history.incidents
    loss = [Series(points=curves["loss"], style="s1")]
    yield chart.chart(axis, loss, incidents, title=tr("Loss"), unit=tr("mean, least and most"))
    maps = (
        Series(points=curves["map50"], style="s1", name="mAP50", dots=True),
        Series(points=curves["map50_95"], style="s2", name="mAP50:95", dots=True),
    )
    yield chart.chart(axis, maps, incidents, title="mAP", unit=tr("on the validation set"))
    images = [Series(points=curves["images"], style="s2")]
    slow = [stretch for stretch in history.stretches if stretch.kind == WarningKind.SLOW]
    unit = tr("images per second; shaded: slower than before")
    yield chart.chart(axis, images, incidents, stretches=slow, title=tr("Throughput"), unit=unit)
    for gpu in history.gpus:
        memory = (
            Series(points=gpu.used, style="s3", name=tr("all"), area=True),
            Series(points=gpu.trainer, style="s1", name=tr("this run's trainer"), area=True),
        )
        title, unit = tr("Memory of GPU {index}", index=gpu.index), tr("GiB; the dashed line is all it has")
        yield chart.chart(axis, memory, incidents, title=title, unit=unit, ceiling=gpu.total)


def _stretch(stretch: Stretch) -> StretchEntry:
    span_s = None if stretch.end_s is None else stretch.end_s - stretch.start_s
    return StretchEntry(
        kind=stretch.kind,
        at=_clock(stretch.start_s),
        lasted=tr("not over") if span_s is None else span(span_s),
        text=stretch.text,
    )


def incident_entry(incident: Incident) -> IncidentEntry:
    assert incident.at_s is not None  # see History
    recovered, checkpoint = incident.recovered_after_s, incident.checkpoint
    kind = str(incident.kind)
    return IncidentEntry(
        number=incident.id,
        kind=term(kind).replace("_", " "),
        style=kind_class(kind),
        at=_clock(incident.at_s),
        where=_place(incident),
        cause=str(incident.cause),
        action=str(incident.action),
        lost=lost_of(incident),
        start=tr("went on from {checkpoint}", checkpoint=checkpoint.rpartition("/")[2])
        if checkpoint
        else tr("began from the beginning"),
        recovered=tr("not recovered") if recovered is None else recovered_clause(incident, recovered),
        facts=[ended_by(incident), *memory_lines(incident.evidence.get("memory"))],
        evidence=_evidence(incident),
    )


def _place(incident: Incident) -> str:
    """E.g. "attempt 3, unfreeze phase, epoch 61, step 120, in eval"."""
    where = position(phase=incident.phase, epoch=incident.epoch, epochs=None, step=incident.step, steps=None)
    attempt, section = incident.attempt, incident.section
    return listed(
        filter(
            None,
            (
                "" if attempt is None else tr("attempt {number}", number=attempt),
                where,
                "" if section is None else tr("in {section}", section=term(section)),
            ),
        )
    )


def _evidence(incident: Incident) -> list[tuple[str, str, Sequence[str]]]:
    """As `incidents` shows it: each thing once, the line that tells marked, the minutes before as rows of blocks."""
    curves = minutes_before(incident)
    rows = [f"{one.what:9} {one.gib[0]:.1f} → {one.gib[-1]:.1f} GiB  {sparkline(one.gib, 40)}" for one in curves]
    found: list[tuple[str, str, Sequence[str]]] = [(tr("the minutes before"), "", rows)] if rows else []
    for part in evidence_parts(incident):
        more = (
            tr("{n} lines more: incidents {number} --all", n=part.left_out, number=incident.id) if part.left_out else ""
        )
        marked = [f"{'▶' if at == part.tells else ' '} {line}" for at, line in enumerate(part.lines)]
        found.append((part.title, more, _shortened(marked)))
    return found


def _shortened(lines: Sequence[str]) -> Sequence[str]:
    """Lines without their middle, when they are too long for a page."""
    half, chars = _MOST_LINES // 2, _MOST_CHARS // 2
    if len(lines) > _MOST_LINES:
        lines = [*lines[:half], tr("… {count} lines …", count=len(lines) - 2 * half), *lines[-half:]]
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

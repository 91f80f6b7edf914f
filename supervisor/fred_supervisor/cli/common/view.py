"""How a run looks to a person: lines that fit the terminal, 80 columns where there is none."""

from collections.abc import Sequence
from typing import Final

from fred_supervisor.cli.common.terminal import PLAIN, TerminalStyle, columns
from fred_supervisor.language import clauses, listed, together, tr
from fred_supervisor.language.width import columns_of, cut, padded, wrapped
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.monitor_sample import GpuStatus
from fred_supervisor.store.nodes.node_status import NodeStatus
from fred_supervisor.store.progress_status import BatchStatus, ProgressStatus
from fred_supervisor.store.status import (
    CheckpointStatus,
    IncidentStatus,
    RestartStatus,
    RunStatus,
    WarningStatus,
)
from fred_supervisor.words import progress as words
from fred_supervisor.words.actions import lost_sentence
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import age_s, span, until

_BAR: Final = 24
_LABEL: Final = 12
_WIDEST: Final = 100
_RISE: Final = "▁▂▃▄▅▆▇█"
STYLE_OF: Final = {
    "running": "bold green",
    "completed": "bold green",
    "failed": "bold red",
    "holding": "bold yellow",
    "waiting": "bold yellow",
    "paused": "bold yellow",
    "stopping": "bold yellow",
    "starting": "bold cyan",
    "stopped": "bold",
}
"""State → how it is written."""


def run_lines(
    status: RunStatus,
    *,
    width: int | None = None,
    ink: TerminalStyle = PLAIN,
    says: str | None = None,
    before: str | None = None,
) -> list[str]:
    """One run, from its `status --json`.

    `says` is the last line of its output, shown until it trains; `before`, where the attempt before was.
    """
    screen = _Screen(min(_WIDEST, width or columns()), ink)
    progress, trainer, checkpoint = status.progress, status.trainer, status.checkpoint
    screen.headline(status)
    trains = progress.epoch is not None or progress.step is not None
    if trains:
        screen.training(progress, completed=status.state == "completed")
    elif before is not None:
        screen.paragraph(tr("{before}, before the relaunch", before=before), "dim")
    screen.paragraph(status.detail, "bold red" if status.detail.startswith("stalled") else "")
    if status.state == "completed":
        screen.paragraph(_summary(status))
    if status.alarm:
        screen.entry(tr("alarm"), status.alarm, "bold red")
    for warning in status.warnings:
        screen.entry(term("warning"), _warning(warning), "bold yellow")
    if says and not trains and trainer is not None:
        screen.entry(tr("it says"), says, one_line=True)
    screen.lines.append("")
    for gpu in status.gpus:
        screen.gpu(gpu)
    if checkpoint is not None:
        screen.entry(term("checkpoint"), _checkpoint(checkpoint), "" if checkpoint.valid else "red")
    if trainer is not None:
        beat = tr("no beat yet") if progress.source is None else tr("last beat: when is not known, the clock was set")
        if trainer.beat_age_s is not None:
            beat = tr("last beat {span} ago", span=span(trainer.beat_age_s))
        up = "" if trainer.uptime_s is None else tr(", up {span}", span=span(trainer.uptime_s))
        screen.entry(
            tr("trainer"),
            tr("pid {pid}, attempt {attempt}{up}, {beat}", pid=trainer.pid, attempt=trainer.attempt, up=up, beat=beat),
        )
    for node in status.nodes:
        screen.entry(node.name, _node(node))
    screen.entry(tr("restarts"), _restarts(status.restarts))
    batch = status.batch
    if batch.unfreeze is not None and batch.unfreeze != batch.initial:
        screen.entry(tr("batch"), batch_words(batch), "yellow")
    last = status.last_incident
    if last is not None:
        printed = status.progress.source == "output"
        screen.entry(tr("incident {number}", number=last.id), _incident(last, told=status.detail, printed=printed))
    if not status.supervisor.alive and trainer is not None:
        screen.entry(term("supervisor"), tr("gone"), "red")
    return screen.lines


def _node(node: NodeStatus) -> str:
    """One of several machines."""
    ranks = tr("{ranks} rank", ranks=node.ranks) + ("" if node.ranks == 1 else "s")
    where = (
        ""
        if node.epoch is None
        else tr(", epoch {epoch}", epoch=node.epoch)
        + ("" if node.step is None else tr(", step {step}", step=node.step))
    )
    beat = tr("no beat yet") if node.beat_age_s is None else tr("last beat {span} ago", span=span(node.beat_age_s))
    return f"{ranks}{where}, {beat}"


def batch_words(batch: BatchStatus) -> str:
    """E.g. "4 × 2 = 8 per step of the optimiser (began with 8)"."""
    each = tr(
        "{unfreeze} × {accumulate} = {effective} per step of the optimiser",
        unfreeze=batch.unfreeze,
        accumulate=batch.accumulate,
        effective=batch.effective,
    )
    ordered = "" if batch.confirmed else tr("ordered: ")
    began = "" if batch.initial is None else tr("began with {initial}", initial=batch.initial)
    open_ = "" if batch.confirmed else tr("that the trainer takes it was not seen yet")
    told = clauses(filter(None, (began, open_)))
    return f"{ordered}{each}{f' ({told})' if told else ''}"


class _Screen:
    """Lines under construction: wrapped before they are painted, free of control characters."""

    def __init__(self, width: int, ink: TerminalStyle) -> None:
        self.width, self.ink = width, ink
        self.lines: list[str] = []

    def headline(self, status: RunStatus) -> None:
        state, drill = term(status.state), tr("  (drill)") if status.drill else ""
        name, run_dir = printable(status.name), printable(status.run_dir)
        used = columns_of(name) + 2 + columns_of(state) + columns_of(drill)
        room = self.width - used - 2
        if columns_of(run_dir) > room:
            run_dir = cut(run_dir[::-1], room)[::-1] if room > 8 else ""
        painted = self.ink(STYLE_OF.get(status.state, "bold"), state) + self.ink("yellow", drill)
        gap = " " * max(2, self.width - used - columns_of(run_dir))
        self.lines.append(f"{self.ink('bold', name)}: {painted}{gap}{self.ink('dim', run_dir)}".rstrip())

    def training(self, progress: ProgressStatus, *, completed: bool) -> None:
        epoch, epochs, step, steps = progress.epoch, progress.epochs, progress.step, progress.steps
        where = words.position(phase=progress.phase, epoch=epoch, epochs=epochs, step=step, steps=steps)
        share = words.share(epoch, epochs, step, steps, completed=completed)
        if share is not None:
            full = round(share * _BAR)
            bar = self.ink("green", "█" * full) + self.ink("dim", "░" * (_BAR - full))
            self._bar_line(f"  {bar} {share:4.0%}", _BAR + 7, where)
        else:
            self.paragraph(where)
        figures = []
        if progress.eta_s is not None:
            figures.append(tr("{span} to go, until {time}", span=span(progress.eta_s), time=until(progress.eta_s)))
        if progress.images_per_s is not None:
            figures.append(tr("{images_per_s:.1f} images/s", images_per_s=progress.images_per_s))
        elif progress.steps_per_s is not None:
            figures.append(tr("{steps_per_s:.3g} steps/s", steps_per_s=progress.steps_per_s))
        named = {"lr": progress.lr, "metric": progress.metric}
        figures += [f"{name} {value:.4g}" for name, value in named.items() if value is not None]
        if figures:
            self.lines += wrapped("   ".join(figures), self.width, "  ", "  ")
        if progress.loss is not None:
            line = sparkline(progress.loss_history, self.width - 24)
            self.lines.append(f"  loss {progress.loss:<9.4g} {self.ink('cyan', line)}".rstrip())

    def _bar_line(self, picture: str, used: int, text: str) -> None:
        """A picture of `used` columns, and text beside it; below it, where the line is too short for both."""
        if used + 2 + columns_of(text) <= self.width:
            self.lines.append(f"{picture}  {text}")
        else:
            self.lines.append(picture)
            self.paragraph(text)

    def paragraph(self, text: str, style: str = "") -> None:
        self.lines += [self.ink(style, line) for line in self._wrapped("  ", text)]

    def entry(self, label: str, text: str, style: str = "", *, one_line: bool = False) -> None:
        """A label and what belongs to it."""
        first = f"  {padded(label, _LABEL)}"
        found = self._wrapped(first, text)
        if one_line and len(found) > 1:
            found = [cut(found[0] + " " * self.width, self.width)]
        then = " " * columns_of(first)
        for at, line in enumerate(found):
            self.lines.append(
                (self.ink("dim", first) if at == 0 else then) + self.ink(style, line[len(first if at == 0 else then) :])
            )

    def _wrapped(self, first: str, text: str) -> list[str]:
        return wrapped(printable(text), self.width, first, " " * columns_of(first))

    def gpu(self, gpu: GpuStatus) -> None:
        """Memory as a bar: the trainer's share, others', free."""
        label = f"  {'GPU ' + str(gpu.index):{_LABEL}}"
        used, total, ours = gpu.used_mib, gpu.total_mib, gpu.trainer_mib
        if used is None or not total:
            self.entry(label.strip(), tr("its memory is not known"))
            return
        mine = round(min(1.0, (ours or 0) / total) * _BAR)
        others = max(0, round(min(1.0, used / total) * _BAR) - mine)
        free = _BAR - mine - others
        bar = self.ink("green", "█" * mine) + self.ink("yellow", "▒" * others) + self.ink("dim", "░" * free)
        text = tr("{used:.1f} of {total:.1f} GiB", used=used / 1024, total=total / 1024)
        if ours is not None:
            text += tr(", {ours:.1f} ours", ours=ours / 1024)
        if gpu.temperature_c is not None:
            text += tr(", {celsius} °C", celsius=gpu.temperature_c)
        self._bar_line(f"{self.ink('dim', label)}{bar}", columns_of(label) + _BAR, text)
        if gpu.health not in (None, "ok"):
            self.entry("", str(gpu.health), "bold red")


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as a row of blocks, the newest at the right; at most `width` of them."""
    if len(values) < 2 or width < 2:
        return ""
    while len(values) > width:
        values = [sum(values[at : at + 2]) / len(values[at : at + 2]) for at in range(0, len(values), 2)]
    least, most = min(values), max(values)
    scale = (len(_RISE) - 1) / (most - least) if most > least else 0.0
    return "".join(_RISE[round((value - least) * scale)] for value in values)


def _checkpoint(checkpoint: CheckpointStatus) -> str:
    name = checkpoint.path.rpartition("/")[2]
    where = "" if checkpoint.epoch is None else tr(", epoch {epoch}", epoch=checkpoint.epoch)
    whole = "" if checkpoint.valid else tr("; NOT whole")
    return tr("{name}, {age}{where}{whole}", name=name, age=_age(checkpoint), where=where, whole=whole)


def _warning(warning: WarningStatus) -> str:
    """E.g. "slow, for 12 min: …"."""
    ago = age_s(warning.since)
    kind = term(warning.kind).replace("_", " ")
    if ago is None:
        return tr("{kind}: {text}", kind=kind, text=warning.text)
    return tr("{kind}, for {span}: {text}", kind=kind, span=span(ago), text=warning.text)


def _age(checkpoint: CheckpointStatus) -> str:
    return (
        tr("its time lies in the future") if checkpoint.age_s is None else tr("{span} old", span=span(checkpoint.age_s))
    )


def _restarts(restarts: RestartStatus) -> str:
    if not restarts.total:
        return tr("none")
    kinds = listed(f"{count} {term(kind).replace('_', ' ')}" for kind, count in restarts.by_kind.items())
    left = restarts.budget_left
    more = "" if left is None else tr("; {left} left without new progress", left=left)
    return tr("{total} ({kinds}){more}", total=restarts.total, kinds=kinds, more=more)


def _incident(incident: IncidentStatus, *, told: str, printed: bool) -> str:
    """Without the sentences that stand in the detail already."""
    sentences = [text for text in (incident.cause, incident.action) if text and text not in told]
    if incident.lost_steps is not None:
        sentences.append(lost_sentence(incident.lost_steps, printed=printed))
    ago, text = age_s(incident.at), together(sentences) if sentences else tr("as it stands above")
    return text if ago is None else tr("{span} ago: {text}", span=span(ago), text=text)


def _summary(status: RunStatus) -> str:
    """Of a completed run: how long, how good, and what shows it."""
    best = status.progress.best_metric
    took = "" if status.worked_s is None else tr("In {span}. ", span=span(status.worked_s))
    good = "" if best is None else tr("Best mAP50 {best:.3f}. ", best=best)
    return tr("{took}{good}`fred-supervise report {name}` makes a page of it.", took=took, good=good, name=status.name)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(padded(cell, widths[at]) for at, cell in enumerate(row)).rstrip() for row in rows]

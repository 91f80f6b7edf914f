"""How a run looks to a person: lines that fit the terminal, 80 columns where there is none."""

import textwrap
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fred_supervisor.cli.common.terminal import PLAIN, TerminalStyle, columns
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.progress_status import ProgressStatus
from fred_supervisor.store.status import (
    CheckpointStatus,
    GpuStatus,
    IncidentStatus,
    RestartStatus,
    RunStatus,
)
from fred_supervisor.words import progress as words
from fred_supervisor.words.actions import lost_sentence

_BAR: Final = 24
_LABEL: Final = 12
_WIDEST: Final = 100
_RISE: Final = "▁▂▃▄▅▆▇█"
_STYLE_OF: Final = {
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
    status: RunStatus, *, width: int | None = None, ink: TerminalStyle = PLAIN, says: str | None = None
) -> list[str]:
    """One run, from its `status --json`; `says` is the last line of its output, shown until it trains."""
    screen = _Screen(min(_WIDEST, width or columns()), ink)
    progress, trainer, checkpoint = status.progress, status.trainer, status.checkpoint
    screen.headline(status)
    trains = progress.epoch is not None or progress.step is not None
    if trains:
        screen.training(progress)
    screen.paragraph(status.detail, "bold red" if status.detail.startswith("stalled") else "")
    if status.alarm:
        screen.entry("alarm", status.alarm, "bold red")
    if says and not trains and trainer is not None:
        screen.entry("it says", says, cut=True)
    screen.lines.append("")
    for gpu in status.gpus:
        screen.gpu(gpu)
    if checkpoint is not None:
        screen.entry("checkpoint", _checkpoint(checkpoint), "" if checkpoint.valid else "red")
    if trainer is not None:
        beat = "no beat yet" if progress.source is None else "last beat: when is not known, the clock was set"
        if trainer.beat_age_s is not None:
            beat = f"last beat {span(trainer.beat_age_s)} ago"
        up = "" if trainer.uptime_s is None else f", up {span(trainer.uptime_s)}"
        screen.entry("trainer", f"pid {trainer.pid}, attempt {trainer.attempt}{up}, {beat}")
    screen.entry("restarts", _restarts(status.restarts))
    batch = status.batch
    if batch.unfreeze is not None and batch.unfreeze != batch.initial:
        each = f"{batch.unfreeze} × {batch.accumulate} = {batch.effective}"
        screen.entry("batch", f"{each} per step of the optimiser (began with {batch.initial})", "yellow")
    last = status.last_incident
    if last is not None:
        screen.entry(f"incident {last.id}", _incident(last))
    if not status.supervisor.alive and trainer is not None:
        screen.entry("supervisor", "gone", "red")
    return screen.lines


class _Screen:
    """Lines under construction: wrapped before they are painted, free of control characters."""

    def __init__(self, width: int, ink: TerminalStyle) -> None:
        self.width, self.ink = width, ink
        self.lines: list[str] = []

    def headline(self, status: RunStatus) -> None:
        state, drill = status.state, "  (drill)" if status.drill else ""
        name, run_dir = printable(status.name), printable(status.run_dir)
        used = len(name) + 2 + len(state) + len(drill)
        room = self.width - used - 2
        if len(run_dir) > room:
            run_dir = "…" + run_dir[-(room - 1) :] if room > 8 else ""
        left = f"{self.ink('bold', name)}: {self.ink(_STYLE_OF.get(state, 'bold'), state)}{self.ink('yellow', drill)}"
        self.lines.append(f"{left}{' ' * max(2, self.width - used - len(run_dir))}{self.ink('dim', run_dir)}".rstrip())

    def training(self, progress: ProgressStatus) -> None:
        epoch, epochs, step, steps = progress.epoch, progress.epochs, progress.step, progress.steps
        where = words.position(phase=progress.phase, epoch=epoch, epochs=epochs, step=step, steps=steps)
        share = words.share(epoch, epochs, step, steps)
        if share is not None:
            full = round(share * _BAR)
            bar = self.ink("green", "█" * full) + self.ink("dim", "░" * (_BAR - full))
            self.lines.append(f"  {bar} {share:4.0%}  {where}")
        else:
            self.lines.append(f"  {where}")
        figures = []
        if progress.eta_s is not None:
            end_s = time.time() + progress.eta_s
            day = "%H:%M" if progress.eta_s < 12 * 3600 else "%a %H:%M"
            figures.append(f"{span(progress.eta_s)} to go, until {time.strftime(day, time.localtime(end_s))}")
        if progress.images_per_s is not None:
            figures.append(f"{progress.images_per_s:.1f} images/s")
        named = {"lr": progress.lr, "metric": progress.metric}
        figures += [f"{name} {value:.4g}" for name, value in named.items() if value is not None]
        if figures:
            self.lines.append("  " + "   ".join(figures))
        if progress.loss is not None:
            line = sparkline(progress.loss_history, self.width - 24)
            self.lines.append(f"  loss {progress.loss:<9.4g} {self.ink('cyan', line)}".rstrip())

    def paragraph(self, text: str, style: str = "") -> None:
        self.lines += [self.ink(style, line) for line in self._wrapped("  ", text)]

    def entry(self, label: str, text: str, style: str = "", *, cut: bool = False) -> None:
        """A label and what belongs to it; `cut`: one line at most."""
        first = f"  {label:{_LABEL}}"
        found = self._wrapped(first, text)
        if cut and len(found) > 1:
            found = [found[0][: self.width - 1] + "…"]
        for at, line in enumerate(found):
            self.lines.append(
                (self.ink("dim", first) if at == 0 else " " * len(first)) + self.ink(style, line[len(first) :])
            )

    def _wrapped(self, first: str, text: str) -> list[str]:
        return textwrap.wrap(
            printable(text),
            width=self.width,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_on_hyphens=False,
        ) or [first.rstrip()]

    def gpu(self, gpu: GpuStatus) -> None:
        """Memory as a bar: the trainer's share, others', free."""
        label = f"  {'GPU ' + str(gpu.index):{_LABEL}}"
        used, total, ours = gpu.used_mib, gpu.total_mib, gpu.trainer_mib
        if used is None or not total:
            self.entry(label.strip(), "its memory is not known")
            return
        mine = round(min(1.0, (ours or 0) / total) * _BAR)
        others = max(0, round(min(1.0, used / total) * _BAR) - mine)
        free = _BAR - mine - others
        bar = self.ink("green", "█" * mine) + self.ink("yellow", "▒" * others) + self.ink("dim", "░" * free)
        text = f"{used / 1024:.1f} of {total / 1024:.1f} GiB"
        if ours is not None:
            text += f", {ours / 1024:.1f} ours"
        if gpu.temperature_c is not None:
            text += f", {gpu.temperature_c} °C"
        self.lines.append(f"{self.ink('dim', label)}{bar}  {text}")
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
    where = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    whole = "" if checkpoint.valid else "; NOT whole"
    return f"{name}, {_age(checkpoint)}{where}{whole}"


def _age(checkpoint: CheckpointStatus) -> str:
    return "its time lies in the future" if checkpoint.age_s is None else f"{span(checkpoint.age_s)} old"


def _restarts(restarts: RestartStatus) -> str:
    if not restarts.total:
        return "none"
    kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in restarts.by_kind.items())
    left = restarts.budget_left
    return f"{restarts.total} ({kinds})" + ("" if left is None else f"; {left} left without new progress")


def _incident(incident: IncidentStatus) -> str:
    lost = "" if incident.lost_steps is None else f" {lost_sentence(incident.lost_steps)}"
    ago = age_s(incident.at)
    return f"{'' if ago is None else span(ago) + ' ago: '}{incident.cause} {incident.action}{lost}"


def table_lines(rows: Sequence[RunStatus], *, width: int | None = None, ink: TerminalStyle = PLAIN) -> list[str]:
    """Every known run, one row each."""
    head = ("name", "state", "progress", "to go", "checkpoint", "restarts", "run dir")
    cells = aligned([head, *(_row(row) for row in rows)])
    width = width or columns()
    lines = [line if len(line) <= width else line[: width - 1] + "…" for line in cells]
    for at, row in enumerate(rows, 1):
        styled = ink(_STYLE_OF.get(row.state, ""), row.state)
        lines[at] = lines[at].replace(f"  {row.state}", f"  {styled}", 1)
    return [ink("dim", lines[0]), *lines[1:]]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in rows]


def _row(status: RunStatus) -> tuple[str, ...]:
    progress, checkpoint = status.progress, status.checkpoint
    where = "-" if progress.step is None else f"step {progress.step}/{progress.steps or '?'}"
    if progress.epoch is not None:
        where = f"epoch {progress.epoch}/{progress.epochs or '?'}"
    return (
        status.name,
        status.state + (" (drill)" if status.drill else ""),
        where,
        "-" if progress.eta_s is None else span(progress.eta_s),
        "-" if checkpoint is None else _age(checkpoint),
        str(status.restarts.total),
        printable(status.run_dir),  # one row, whatever the folder is called
    )


def age_s(text: object) -> float | None:
    """How long ago an RFC 3339 time was; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        return max(0.0, time.time() - datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def local_time(text: object) -> str:
    """An RFC 3339 time as a person's own clock shows it."""
    ago = age_s(text)
    return (
        "at a time not known" if ago is None else time.strftime("%a %d %b %H:%M:%S", time.localtime(time.time() - ago))
    )


def span(seconds: float) -> str:
    """A time span in words: 8 s, 3 min, 2 h 05 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"

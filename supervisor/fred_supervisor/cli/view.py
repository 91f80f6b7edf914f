"""How a run looks to a person: plain lines, at most 80 columns wide where the terminal is."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, Final

_BAR: Final = 24
_LABEL: Final = 12


def run_lines(status: dict[str, Any], *, width: int | None = None) -> list[str]:
    """One run, from its `status --json`."""
    width = width or min(100, shutil.get_terminal_size().columns)
    lines = [_headline(status)]
    progress = status["progress"]
    if progress["epoch"] is not None:
        lines.append(_training(progress))
        lines.append(_pace(progress))
    lines += _entry("", status["detail"], width)
    if status.get("alarm"):
        lines += _entry("alarm", status["alarm"], width)
    trainer, checkpoint = status["trainer"], status["checkpoint"]
    if trainer is not None:
        beat = "no beat yet" if trainer["beat_age_s"] is None else f"last beat {span(trainer['beat_age_s'])} ago"
        up = "" if trainer["uptime_s"] is None else f", up {span(trainer['uptime_s'])}"
        lines += _entry("trainer", f"pid {trainer['pid']}, attempt {trainer['attempt']}{up}, {beat}", width)
    if checkpoint is not None:
        name = checkpoint["path"].rpartition("/")[2]
        whole = "" if checkpoint["valid"] else " — NOT whole"
        lines += _entry("checkpoint", f"{name}, {span(checkpoint['age_s'])} old{whole}", width)
    lines += _entry("restarts", _restarts(status["restarts"]), width)
    batch = status["batch"]
    if batch["unfreeze"] is not None and batch["unfreeze"] != batch["initial"]:
        text = f"{batch['unfreeze']} × {batch['accumulate']} = {batch['effective']} (began with {batch['initial']})"
        lines += _entry("batch", text, width)
    last = status["last_incident"]
    if last is not None:
        lost = "" if last["lost_steps"] is None else f" {lost_text(last['lost_steps'])}"
        lines += _entry(f"incident {last['id']}", f"{last['cause']} {last['action']}{lost}", width)
    if not status["supervisor"]["alive"] and trainer is not None:
        lines += _entry("supervisor", "gone", width)
    return lines


def _headline(status: dict[str, Any]) -> str:
    drill = "  (drill)" if status["drill"] else ""
    return f"{status['name']}: {status['state']}{drill}   {status['run_dir']}"


def _training(progress: dict[str, Any]) -> str:
    epoch, epochs, step, steps = (progress[key] for key in ("epoch", "epochs", "step", "steps"))
    phase = f"{progress['phase']} phase, " if progress["phase"] else ""
    where = f"{phase}epoch {epoch}" + (f" of {epochs}" if epochs else "")
    if step is not None:
        where += f", step {step}" + (f" of {steps}" if steps else "")
    if not epochs:
        return f"  {where}"
    share = (epoch - 1 + (step / steps if step and steps else 0)) / epochs
    full = round(min(1.0, max(0.0, share)) * _BAR)
    return f"  {'█' * full}{'░' * (_BAR - full)} {share:4.0%}  {where}"


def _pace(progress: dict[str, Any]) -> str:
    parts = []
    if progress["loss"] is not None:
        parts.append(f"loss {progress['loss']:.4g}")
    if progress["images_per_s"] is not None:
        parts.append(f"{progress['images_per_s']:.1f} images/s")
    if progress["eta_s"] is not None:
        parts.append(f"{span(progress['eta_s'])} to go")
    return "  " + ("   ".join(parts) or "no figures yet")


def _restarts(restarts: dict[str, Any]) -> str:
    if not restarts["total"]:
        return "none"
    kinds = ", ".join(f"{restarts[kind]} {kind}" for kind in ("crash", "hang", "oom") if restarts[kind])
    left = restarts["budget_left"]
    return f"{restarts['total']} ({kinds})" + ("" if left is None else f"; {left} left without new progress")


def _entry(label: str, text: str, width: int) -> list[str]:
    first = f"  {label:{_LABEL}}" if label else "  "
    return textwrap.wrap(
        text, width=width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    ) or [first.rstrip()]


def lost_text(steps: int | None) -> str:
    """What an incident has cost, in words."""
    if steps is None:
        return "What was lost is not known."
    return "Nothing was lost." if steps == 0 else f"{steps} step{'s' if steps != 1 else ''} lost."


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every known run, one row each."""
    head = ("name", "state", "progress", "checkpoint", "restarts", "run dir")
    return aligned([head, *(_row(row) for row in rows)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in rows]


def _row(status: dict[str, Any]) -> tuple[str, ...]:
    progress, checkpoint = status["progress"], status["checkpoint"]
    epoch = "-" if progress["epoch"] is None else f"epoch {progress['epoch']}/{progress['epochs'] or '?'}"
    age = "-" if checkpoint is None else f"{span(checkpoint['age_s'])} old"
    return (
        status["name"],
        status["state"],
        epoch,
        age,
        str(status["restarts"]["total"]),
        ascii(status["run_dir"])[1:-1],  # one row, whatever the folder is called
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

"""The page: HTML of a `History`. Every text that came from elsewhere is freed of control characters, then escaped."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import fred_supervisor
from fred_supervisor.cli.common.view import lost_text, span
from fred_supervisor.cli.incidents import ended_by, evidence_lines, memory_lines, titled_evidence
from fred_supervisor.cli.report.chart import Axis, Series, chart, kind_class, timeline
from fred_supervisor.cli.report.history import History
from fred_supervisor.words.terminal_text import printable

MARK: Final = "<!doctype html><!-- fred-supervise report -->"
"""What our pages begin with, so that only such a file is replaced."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The page loads nothing and runs nothing, whatever a trainer wrote into it."""
_MOST_LINES: Final = 160
_MOST_CHARS: Final = 12_000
"""Of one piece of evidence; what is longer loses its middle."""


def page(history: History) -> str:
    """The whole document."""
    status = history.status
    name = _text(status["name"])
    body = "".join(
        (
            _head(history),
            _tiles(history),
            _section("Timeline", _timeline(history)),
            _section("Curves", _curves(history)),
            _section(f"Incidents ({len(history.incidents)})", "".join(map(_incident, reversed(history.incidents)))),
            _section(f"Checkpoints ({len(history.checkpoints)})", _checkpoints(history)),
            _foot(),
        )
    )
    return (
        f'{MARK}<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: {_text(status['state'])}</title><style>{_style()}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _foot() -> str:
    return (
        f"<footer>Written {_clock(time.time())} by fred-supervise {fred_supervisor.__version__}"
        " from the files of the run; it needs no network. Times are those of the clock where it was written.</footer>"
    )


def _style() -> str:
    return Path(__file__).with_name("style.css").read_text("utf-8")


def _text(value: object) -> str:
    return escape(printable(str(value)))


def _clock(wall_s: float) -> str:
    return time.strftime("%a %d %b %Y %H:%M:%S", time.localtime(wall_s))


def _section(title: str, content: str) -> str:
    return f'<h2>{escape(title)}</h2><div class="card">{content or "<p class=soft>There are none.</p>"}</div>'


def _head(history: History) -> str:
    status = history.status
    drill = '<span class="chip drill">drill</span>' if status["drill"] else ""
    state = _text(status["state"])
    return (
        f'<h1>{_text(status["name"])}</h1><span class="chip {state}">{state}</span>{drill}'
        f'<p class="lead">{_text(status["detail"])}</p>'
        f'<div class="path">{_text(status["run_dir"])} · {_text(history.command)}'
        f" · {_clock(history.start_s)} to {_clock(history.end_s)}</div>"
    )


def _tiles(history: History) -> str:
    progress, restarts = history.status["progress"], history.status["restarts"]
    span_s = history.end_s - history.start_s
    best = max((point.value for point in history.curves["map50"]), default=None)
    tiles: list[tuple[str, str]] = []
    if progress["epoch"] is not None:
        of = f" of {progress['epochs']}" if progress["epochs"] else ""
        tiles.append((f"{progress['epoch']}{of}", f"epoch, {progress['phase'] or 'training'}"))
    if best is not None:
        tiles.append((f"{best:.3f}", "best mAP50"))
    if progress["loss"] is not None:
        tiles.append((f"{progress['loss']:.4g}", "loss"))
    tiles.append((span(span_s), f"in all, a trainer ran {min(1.0, history.trained_s / span_s):.1%} of it"))
    kinds = Counter(str(incident.get("kind")) for incident in history.incidents)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3)) or "nothing happened"
    tiles.append((str(len(history.incidents)), f"incidents: {told}"))
    lost = [incident["lost_steps"] for incident in history.incidents if isinstance(incident.get("lost_steps"), int)]
    tiles.append((str(restarts["total"]), f"relaunches, {sum(lost)} steps trained twice"))
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{_text(value)}</b><span>{_text(label)}</span></div>' for value, label in tiles
    ) + "</div>"  # fmt: skip


def _timeline(history: History) -> str:
    keys = (
        ("k-end", "went on or ended well"),
        ("k-crash", "crash"),
        ("k-oom", "out of memory"),
        ("k-hang", "hang"),
        ("", "other"),
    )
    legend = "".join(f'<span class="key {style}">{name}</span>' for style, name in keys)
    axis = Axis(history.start_s, history.end_s)
    return (
        f"<h3>Attempts <small>each bar is one process of the trainer, in the colour of what ended it</small>"
        f'<span class="legend">{legend}</span></h3>{timeline(axis, history.attempts, history.incidents)}'
    )


def _curves(history: History) -> str:
    axis, curves, incidents = Axis(history.start_s, history.end_s), history.curves, history.incidents
    maps = (
        Series(points=curves["map50"], style="s1", name="mAP50", dots=True),
        Series(points=curves["map50_95"], style="s2", name="mAP50:95", dots=True),
    )
    parts = [
        chart(axis, [Series(points=curves["loss"], style="s1")], incidents, title="Loss", unit="mean, least and most"),
        chart(axis, maps, incidents, title="mAP", unit="on the validation set"),
        chart(
            axis, [Series(points=curves["images"], style="s2")], incidents, title="Throughput", unit="images per second"
        ),
    ]
    for gpu in history.gpus:
        memory = (
            Series(points=gpu.used, style="s3", name="all", area=True),
            Series(points=gpu.trainer, style="s1", name="this run's trainer", area=True),
        )
        title = f"Memory of GPU {gpu.index}"
        parts.append(
            chart(axis, memory, incidents, title=title, unit="GiB; the dashed line is all it has", ceiling=gpu.total)
        )
    return "".join(parts) or '<p class="soft">No curves were written yet.</p>'


def _incident(incident: dict[str, Any]) -> str:
    kind = str(incident.get("kind"))
    where = ", ".join(
        f"{word} {incident[key]}"
        for word, key in (
            ("attempt", "attempt"),
            ("phase", "phase"),
            ("epoch", "epoch"),
            ("step", "step"),
            ("in", "section"),
        )
        if incident.get(key) is not None
    )
    recovered = incident.get("recovered_after_s")
    over = "not recovered" if recovered is None else f"past it again after {span(recovered)}"
    checkpoint = incident.get("checkpoint")
    start = f"went on from {checkpoint.rpartition('/')[2]}" if checkpoint else "began from the beginning"
    facts = [ended_by(incident), *memory_lines((incident.get("evidence") or {}).get("memory"))]
    return (
        f'<div class="incident" id="incident-{int(incident["id"])}"><p><b>{int(incident["id"])}</b> '
        f'<span class="kind {kind_class(kind)}">{_text(kind)}</span> '
        f'<span class="soft">{_clock(incident["at_s"])} · {_text(where)}</span></p>'
        f"<p>{_text(incident.get('cause'))} <b>{_text(incident.get('action'))}</b></p>"
        f'<p class="soft">{_text(lost_text(incident.get("lost_steps")))} It {_text(start)}; {_text(over)}.</p>'
        f'<details><summary>Evidence</summary><p class="soft">{_text(" · ".join(facts))}</p>'
        f"{''.join(_piece(title, value) for title, value in titled_evidence(incident))}</details></div>"
    )


def _piece(title: str, value: object) -> str:
    lines = list(_shortened(evidence_lines(value)))
    return f"<h4>{_text(title)}</h4><pre>{escape(chr(10).join(lines))}</pre>" if lines else ""


def _shortened(lines: Sequence[str]) -> Iterable[str]:
    """The beginning and the end of what is too long for a page."""
    half, chars = _MOST_LINES // 2, _MOST_CHARS // 2
    if len(lines) > _MOST_LINES:
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    text = "\n".join(lines)
    return lines if len(text) <= _MOST_CHARS else [text[:chars], "…", text[-chars:]]


def _checkpoints(history: History) -> str:
    if not history.checkpoints:
        return ""
    rows = []
    for row in history.checkpoints:
        state = (
            f'<span class="bad">{_text(row["reason"])}</span>'
            if row["reason"]
            else "blamed"
            if row["blamed"]
            else "whole"
        )
        used = ' <span class="good">next start</span>' if row["chosen"] else ""
        size = None if row["size"] is None else f"{row['size'] / 2**20:.1f}"
        age = None if row["age_s"] is None else span(row["age_s"])
        numbers = (row["epoch"], row["step"], size, _figure(row["loss"], ".4g"), _figure(row["map50"], ".3f"))
        rows.append(
            f"<tr><td>{_text(row['path'].rpartition('/')[2])}{used}</td><td>{_text(row['phase'] or '–')}</td>"
            + "".join(f'<td class="num">{"–" if number is None else _text(number)}</td>' for number in numbers)
            + f"<td>{'–' if age is None else _text(age)}</td><td>{state}</td></tr>"
        )
    names = ("epoch", "step", "MiB", "loss", "mAP50")
    head = "<th>file</th><th>phase</th>" + "".join(f'<th class="num">{name}</th>' for name in names)
    return f"<table><thead><tr>{head}<th>age</th><th>state</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _figure(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)

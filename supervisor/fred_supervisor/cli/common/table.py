"""Every run in a row: what lives first, then what was started last. A column that has no room is left out whole."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from fred_supervisor.cli.common.terminal import PLAIN, TerminalStyle, columns
from fred_supervisor.cli.common.view import STYLE_OF, aligned
from fred_supervisor.contract.record import record
from fred_supervisor.language import mark, tr
from fred_supervisor.language.width import columns_of
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.status import RunStatus
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import span, written_s

_WEEK_S: Final = 6 * 86400.0
_GAP: Final = 2


@record
class Column:
    """One column of the table."""

    head: str
    cell: Callable[[RunStatus], str]
    goes: int
    """Where there is no room for all, the column with the greatest number goes first; 0 always stays."""


def _place(row: RunStatus) -> str:
    progress = row.progress
    if progress.epoch is not None:
        return tr("epoch {epoch}/{epochs}", epoch=progress.epoch, epochs=progress.epochs or "?")
    return "" if progress.step is None else tr("step {step}/{steps}", step=progress.step, steps=progress.steps or "?")


def _speed(row: RunStatus) -> str:
    images, steps = row.progress.images_per_s, row.progress.steps_per_s
    if images is None and steps is not None:
        return tr("{steps_per_s:.3g} steps/s", steps_per_s=steps)
    return "" if images is None else f"{images:.3g}/s"


def _left(row: RunStatus) -> str:
    return "" if row.progress.eta_s is None else span(row.progress.eta_s)


def _loss(row: RunStatus) -> str:
    return "" if row.progress.loss is None else f"{row.progress.loss:.4g}"


def _best(row: RunStatus) -> str:
    best = row.progress.best_metric
    return "" if best is None else f"{best:.3f}"


def _gpu(row: RunStatus) -> str:
    """Those that it trains on: only the monitor of a live run knows."""
    return ", ".join(
        str(gpu.index) + ("" if not gpu.trainer_mib else f" {gpu.trainer_mib / 1024:.1f}G")
        for gpu in row.gpus
        if gpu.chosen
    )


def _since(row: RunStatus) -> str:
    began_s = written_s(row.last_started_at)
    if began_s is None:
        return ""
    now_s = time.time()
    form = "%H:%M" if time.localtime(began_s)[:3] == time.localtime(now_s)[:3] else tr("%a %H:%M")
    return time.strftime(form if now_s - began_s < _WEEK_S else "%Y-%m-%d", time.localtime(began_s))


def _duration(row: RunStatus) -> str:
    return "" if row.worked_s is None else span(row.worked_s)


COLUMNS: Final = (
    Column(head=mark("run"), cell=lambda row: printable(row.name), goes=0),
    Column(head=mark("user"), cell=lambda row: printable(row.user or ""), goes=0),
    Column(head=mark("state"), cell=lambda row: term(row.state) + (tr(" (drill)") if row.drill else ""), goes=0),
    Column(head=mark("where"), cell=_place, goes=1),
    Column(head=mark("to go"), cell=_left, goes=2),
    Column(head=mark("speed"), cell=_speed, goes=6),
    Column(head=mark("loss"), cell=_loss, goes=3),
    Column(head=mark("best mAP"), cell=_best, goes=4),
    Column(head="GPU", cell=_gpu, goes=7),
    Column(head=mark("since"), cell=_since, goes=5),
    Column(head=mark("for"), cell=_duration, goes=8),
    Column(head=mark("run dir"), cell=lambda row: printable(row.run_dir), goes=9),
)
"""From left to right."""


def in_order(rows: Sequence[RunStatus]) -> list[RunStatus]:
    """What lives first, each part by its last start, the newest first."""
    return sorted(rows, key=liveliness, reverse=True)


def liveliness(row: RunStatus) -> tuple[bool, float]:
    """What a list of runs is sorted by, from the greatest on."""
    return row.live, written_s(row.last_started_at) or 0.0


def table_lines(rows: Sequence[RunStatus], *, width: int | None, ink: TerminalStyle = PLAIN) -> list[str]:
    """`width` None: as wide as it is, for a pipe. A column in which nothing stands is left out."""
    rows = in_order(rows)
    cells = [(column, [column.cell(row) for row in rows]) for column in COLUMNS]
    shown = [(column, texts) for column, texts in cells if any(texts)]
    while width is not None and _width(shown) > width and any(column.goes for column, _ in shown):
        least = max(column.goes for column, _ in shown)
        shown = [(column, texts) for column, texts in shown if column.goes != least]
    head = [tr(column.head) for column, _ in shown]
    lines = aligned(
        [head, *([text or "-" for text in row] for row in zip(*(texts for _, texts in shown), strict=True))]
    )
    for at, row in enumerate(rows, 1):
        state = term(row.state)
        lines[at] = lines[at].replace(f"  {state}", f"  {ink(STYLE_OF.get(row.state, ''), state)}", 1)
    return [ink("dim", lines[0]), *lines[1:]]


def _width(shown: Sequence[tuple[Column, Sequence[str]]]) -> int:
    return sum(max(map(columns_of, (tr(column.head), *texts))) + _GAP for column, texts in shown) - _GAP


def screen_width() -> int | None:
    """Of the terminal that is written to; None: a pipe or a file, in which nothing is left out."""
    return columns() if sys.stdout.isatty() else None

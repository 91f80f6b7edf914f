"""The progress bar of a terminal."""

import logging
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_BETWEEN_S: Final = 0.2


class Bar:
    """One line at the bottom: where training is. Log lines pass above it.

    It is drawn by the training loop itself; a thread of its own would be forked into the loader's workers.
    """

    def __init__(self, console: Console | None = None) -> None:
        """On `console`, by default standard output."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=console or Console(),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", loss=0.0, total=None)
        self._drawn_s = 0.0
        self._lines = _Lines(self._bar.console)
        self._handlers = logging.getLogger().handlers
        logging.getLogger().handlers = [self._lines]
        self._bar.start()

    def step(self, where: str, *, loss: float, done: int, of: int) -> None:
        """`done` steps `of` those of the epoch are made."""
        fresh = done <= 1 or self._bar.tasks[0].total != of
        if fresh:
            self._bar.reset(self._task, total=of)
        self._bar.update(self._task, description=where, loss=loss, completed=done)
        now_s = self._bar.get_time()
        if fresh or done == of or now_s - self._drawn_s >= _BETWEEN_S:
            self._drawn_s = now_s
            self._bar.refresh()

    def close(self) -> None:
        """Take it away; log lines go where they went before."""
        logging.getLogger().handlers = self._handlers
        self._bar.stop()


class _Lines(logging.Handler):
    """Log lines above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)

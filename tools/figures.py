"""Figures of a benchmark: how they are shown, kept for `make bench`, and judged."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value of ours, beside its target."""

    what: str
    measured: float
    """A median, where it was measured more than once."""
    unit: str = ""
    target: float | None = None
    """Ours must not be above; None: told for comparison only."""
    before: str = ""
    """Of an earlier version or another program, as it was measured then."""
    rivals: Mapping[str, float] = field(default_factory=dict)
    """Name → its value, measured in the same run."""

    @property
    def met(self) -> bool:
        return self.target is None or self.measured <= self.target


def arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What is given, `--json` included. A benchmark that is asked to end cleans up, and leaves nothing running."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return given


def conclude(figures: Sequence[Figure], json_file: Path | None) -> int:
    """Show and keep them; the exit code: 0 when every target is met."""
    names = list(dict.fromkeys(name for figure in figures for name in figure.rivals))
    width = max(len(figure.what) for figure in figures) + 2
    print(f"{'':{width}}{'measured':>14}{'target':>12}" + "".join(f"{name:>13}" for name in names))
    for figure in figures:
        rivals = "".join(f"{_text(figure.rivals.get(name)):>13}" for name in names)
        ours = f"{_text(figure.measured)} {figure.unit}"
        mark = "" if figure.met else "   MISSED"
        print(f"{figure.what:{width}}{ours:>14}{_text(figure.target):>12}{rivals}{mark}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    return 0 if all(figure.met for figure in figures) else 1


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"

"""`fred-supervise report`."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import write_atomic
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise report",
        description=tr("One self-contained HTML page of the whole run: timeline, curves, incidents, checkpoints."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise report rgb\n"
            "  fred-supervise report rgb -o /tmp/rgb.html\n\n"
            "The page needs no network, and holds what the incidents hold: paths, and lines of "
            "output."
        ),
    )
    add_run(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=tr("where to (default: report.html in the run dir; -: here)")
    )
    parser.add_argument("--json", action="store_true", help=tr("say where as one JSON document"))
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)

    from fred_supervisor.cli.report.history import read_history  # noqa: PLC0415 - after the checks
    from fred_supervisor.cli.report.page import MARK, page  # noqa: PLC0415 - likewise

    data = page(read_history(spec)).encode()
    if given.output == "-":
        sys.stdout.buffer.write(data)
        return CommandExit.OK
    path = Path(os.path.abspath(given.output or Path(spec.run_dir) / "report.html"))
    if path.exists() and not (path.is_file() and _is_report(path, MARK)):
        raise CommandError(
            CommandExit.REFUSED, tr("{path} is there, and is no report of ours; choose another file with -o", path=path)
        )
    try:
        write_atomic(path, data, durable=False)
    except OSError as error:
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("{path}: {strerror}; choose another file with -o", path=path, strerror=error.strerror),
        ) from error
    told = {"path": str(path), "bytes": len(data)}
    print(json.dumps(told) if given.json else f"{printable(str(path))} ({max(1, round(len(data) / 1e3))} kB)")
    return CommandExit.OK


def _is_report(path: Path, mark: str) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark.encode()

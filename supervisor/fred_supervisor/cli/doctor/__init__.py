"""`fred-supervise doctor`."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.common.terminal import TerminalStyle, columns
from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, Severity
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.run_spec import load_run_spec

_STYLE_OF = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAIL: "bold red"}


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise doctor",
        description="Checks before a long run; each line says what to do about it. Starts nothing, changes nothing.",
        epilog="examples:\n  fred-supervise doctor\n  fred-supervise doctor --modality rgb --data /data/FRED\n\n"
        "Exit code 1 when something would stop the run (fail), else 0.",
    )
    modality = BY_KEY["modality"]
    parser.add_argument("--modality", choices=modality.choices, help=f"to be trained (default {modality.default})")
    parser.add_argument("--data", metavar="D", help="data set: is gone through once, which may take a while")
    parser.add_argument("--run-dir", metavar="D", help="where the run is or will be (default logs/fred_<modality>)")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    given = parser.parse_args(argv)
    planned = _planned_run(given.modality, given.data, given.run_dir)

    from fred_supervisor.cli.doctor import gpu, machine, training  # noqa: PLC0415 - after --help

    checks = (
        machine.run_dir, machine.disk, machine.shared_memory, machine.open_files, machine.memory, machine.clock,
        machine.lingering, training.libraries, gpu.gpus, gpu.memory, training.data,
    )  # fmt: skip
    found: list[Finding] = []
    ink = TerminalStyle.of(sys.stdout)
    for check in checks:
        for finding in check(planned):
            found.append(finding)
            if not given.json:
                print("\n".join(_lines(finding, ink)), flush=True)
    worst = {finding.level for finding in found}
    if given.json:
        print(json.dumps({"ok": Severity.FAIL not in worst, "checks": [asdict(finding) for finding in found]}))
    else:
        counts = [f"{sum(finding.level is level for finding in found)} {level}" for level in Severity]
        print(f"\n{', '.join(counts)}")
    return CommandExit.REFUSED if Severity.FAIL in worst else CommandExit.OK


def _planned_run(modality: str | None, data: str | None, run_dir: str | None) -> PlannedRun:
    """The run to check: as given, else as the run in that folder was started."""
    default = str(BY_KEY["modality"].default)
    path = Path(os.path.abspath(run_dir or f"logs/fred_{modality or default}"))
    spec = load_run_spec(path)
    flags = {} if spec is None else spec.flags
    return PlannedRun(
        run_dir=path,
        modality=modality or (None if spec is None else spec.modality) or default,
        data=os.path.abspath(data) if data is not None else flags.get("data"),
        flags=flags,
        foreign=spec is not None and spec.command is not None,
    )


def _lines(finding: Finding, ink: TerminalStyle) -> list[str]:
    import textwrap  # noqa: PLC0415 - not for --json

    width, label = min(100, columns()), f"{finding.level:<5} {finding.name:<14} "
    told = textwrap.wrap(
        printable(finding.text), width, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )
    told[0] = ink(_STYLE_OF[finding.level], told[0][:5]) + told[0][5:]
    if finding.remedy:
        first = " " * len(label) + "→ "
        told += textwrap.wrap(
            printable(finding.remedy), width, initial_indent=first, subsequent_indent=" " * len(first),
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip
    return told

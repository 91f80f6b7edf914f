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
from fred_supervisor.language import listed, tr
from fred_supervisor.language.width import columns_of, padded, wrapped
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.words.terms import term

_STYLE_OF = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAIL: "bold red"}


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise doctor",
        description=tr(
            "Checks before a long run; each line says what to do about it. Starts nothing, changes nothing."
        ),
        epilog=tr(
            "examples:\n"
            "  fred-supervise doctor\n"
            "  fred-supervise doctor --modality rgb --data /data/FRED\n\n"
            "Exit code 1 when something would stop the run (fail), else 0."
        ),
    )
    modality = BY_KEY["modality"]
    parser.add_argument(
        "--modality", choices=modality.choices, help=tr("to be trained (default {default})", default=modality.default)
    )
    parser.add_argument("--data", metavar="D", help=tr("data set: is gone through once, which may take a while"))
    parser.add_argument("--run-dir", metavar="D", help=tr("where the run is or will be (default logs/fred_<modality>)"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    given = parser.parse_args(argv)
    planned = _planned_run(given.modality, given.data, given.run_dir)

    from fred_supervisor.cli.doctor import gpu, machine, surroundings, training  # noqa: PLC0415 - after --help

    checks = (
        machine.run_dir, surroundings.mount, machine.disk, machine.shared_memory, surroundings.small_shm,
        machine.open_files, machine.memory, surroundings.swap, machine.clock, machine.lingering, surroundings.sleep,
        surroundings.first_process, surroundings.wsl, surroundings.upgrades, training.libraries, gpu.gpus, gpu.memory,
        training.data,
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
        counts = [f"{sum(finding.level is level for finding in found)} {term(level)}" for level in Severity]
        print(f"\n{listed(counts)}")
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
    width, level = min(100, columns()), term(finding.level)
    label = f"{padded(level, 5)} {padded(term(finding.name), 14)} "
    told = wrapped(printable(finding.text), width, label, " " * columns_of(label))
    told[0] = ink(_STYLE_OF[finding.level], level) + told[0][len(level) :]
    if finding.remedy:
        first = " " * columns_of(label) + "→ "
        told += wrapped(printable(finding.remedy), width, first, " " * columns_of(first))
    return told

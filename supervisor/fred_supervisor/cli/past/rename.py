"""`fred-supervise rename`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import check_ours, find_run
from fred_supervisor.cli.common.service_of import service_of
from fred_supervisor.cli.past.forget import forget_run
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import is_live
from fred_supervisor.store.registry import known_runs, remember
from fred_supervisor.store.run_spec import NAME, RunSpec


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise rename",
        description=tr("Give a run that does not live another name. A run dir that is named after it is renamed, too."),
        epilog=tr("example:\n  fred-supervise rename rgb rgb-first-try"),
    )
    parser.add_argument("old", metavar="OLD", help=tr("name of the run"))
    parser.add_argument("new", metavar="NEW", help=tr("its name from now on"))
    given = parser.parse_args(argv)
    spec = find_run(given.old, None)
    _check(spec, given.new)
    held = lock.take(spec.dir)
    if held is None:
        raise CommandError(CommandExit.REFUSED, _live(spec))
    try:
        path = _moved(spec, given.new)
        forget_run(spec)
        renamed = replace(spec, name=given.new, run_dir=str(path))
        renamed.save()
        remember(renamed)
    finally:
        os.close(held)
    print(
        printable(
            tr(
                "{name}: now {new}, run dir {run_dir}",
                name=spec.name,
                new=renamed.name,
                run_dir=renamed.run_dir,
            )
        )
    )
    return CommandExit.OK


def _check(spec: RunSpec, name: str) -> None:
    if not NAME.fullmatch(name):
        raise CommandError(CommandExit.USAGE, tr("{name!r}: letters, digits, '.', '_' and '-', at most 64", name=name))
    if is_live(check_ours(spec).dir):
        raise CommandError(CommandExit.REFUSED, _live(spec))
    service = service_of(spec)
    if service is not None:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name} is of {unit}, which keeps its name; rename no run of a service",
                name=spec.name,
                unit=service.unit,
            ),
        )
    taken = next((run for run in known_runs() if run.name == name), None)
    if taken is not None:
        raise CommandError(
            CommandExit.REFUSED,
            tr("a run {name!r} is known in {run_dir}; choose another name", name=name, run_dir=taken.run_dir),
        )


def _live(spec: RunSpec) -> str:
    return tr("{name} is live; `fred-supervise stop {name}` ends it, then rename it", name=spec.name)


def _moved(spec: RunSpec, name: str) -> Path:
    """Where the run dir is from now on: one that was named after the run is free for another one."""
    path = Path(spec.run_dir)
    if path.name != f"fred_{spec.name}":
        return path
    there = path.with_name(f"fred_{name}")
    if os.path.lexists(there):
        raise CommandError(CommandExit.REFUSED, tr("{there} is there already; choose another name", there=there))
    os.rename(path, there)
    return there

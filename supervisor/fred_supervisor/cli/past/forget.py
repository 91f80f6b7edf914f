"""`fred-supervise forget`: off the list, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_runs, check_ours, find_runs, fits_name
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import mark, tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.attempt_files import is_live
from fred_supervisor.store.registry import ListedRun, gone_runs, known_runs, list_runs, listed_runs
from fred_supervisor.store.run_spec import RunSpec


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise forget",
        description=tr("Take runs off the list of known runs. Their files stay; --run-dir still names them."),
        epilog=tr("examples:\n  fred-supervise forget rgb-2\n  fred-supervise forget 'try-*'"),
    )
    add_runs(parser, every=tr("every run that does not live, also those whose run dir is gone"))
    given = parser.parse_args(argv)
    gone = [] if given.run_dir else _gone(given.names, every=given.all)
    names = [name for name in given.names if not any(fits_name(entry.name, name) for entry in gone)]
    specs: list[RunSpec] = []
    if given.all and gone:
        specs = [spec for spec in known_runs() if _ended(spec)]
    elif names or not gone:
        specs = find_runs(names, given.run_dir, every=given.all, concerned=_ended, what=mark("ended"))
    for spec in specs:
        if is_live(check_ours(spec).dir):
            raise CommandError(
                CommandExit.REFUSED,
                tr("{name} is live; `fred-supervise stop {name}` ends it, then forget it", name=spec.name),
            )
    for spec in specs:
        forget_run(spec)
        print(printable(tr("{name}: forgotten; its files stay in {run_dir}", name=spec.name, run_dir=spec.run_dir)))
    for entry in gone:
        Path(entry.file).unlink(missing_ok=True)
        print(
            printable(
                tr(
                    "{name}: forgotten; {run_dir} holds no run any more",
                    name=entry.name,
                    run_dir=entry.run_dir,
                )
            )
        )
    return CommandExit.OK


def _ended(spec: RunSpec) -> bool:
    return not is_live(spec.dir)


def _gone(names: Sequence[str], *, every: bool) -> list[ListedRun]:
    """Entries without a run that are meant, where no run of that name is there."""
    known, silent = list_runs()
    gone = gone_runs(known, silent)
    there = {spec.name for spec in known}
    return [
        entry
        for entry in gone
        if every or any(fits_name(entry.name, name) and entry.name not in there for name in names)
    ]


def forget_run(spec: RunSpec) -> None:
    """Off every list of ours. Raises PermissionError where it is the system service's, and we are not."""
    for entry in listed_runs():
        if entry.run_dir == spec.run_dir:
            Path(entry.file).unlink(missing_ok=True)

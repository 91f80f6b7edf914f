"""Which run a command is about."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.store import lock
from fred_supervisor.store.lost_run import lost_run
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec

T = TypeVar("T")

_PATIENCE_S: Final = 1.5


def add_run(parser: CommandParser) -> None:
    """The arguments that name a run."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the run")
    parser.add_argument("--run-dir", metavar="D", help="its run dir, instead of the name")


def find_run(name: str | None, run_dir: str | None) -> RunSpec:
    """The run that is meant; raises Fault when it is none, or not clear."""
    if run_dir is not None:
        return _in_dir(Path(os.path.abspath(run_dir)), name)
    runs = list(known_runs())
    if name is not None:
        return _by_name(name, runs)
    live = [run for run in runs if lock.held(run.dir)]
    if len(live) == 1:
        return live[0]
    if not runs:
        raise CommandError(
            CommandExit.NO_SUCH_RUN, "no run is known; `fred-supervise start` begins one, --run-dir names one"
        )
    what = f"{len(live)} runs are live" if live else "no run is live"
    raise CommandError(CommandExit.USAGE, f"{what}; name one of: {_names(live or runs)}")


def _in_dir(path: Path, name: str | None) -> RunSpec:
    found = answering(str(path), lambda: load_run_spec(path) or lost_run(path))
    if found is None:
        try:
            entries = os.listdir(path / "supervisor")
        except PermissionError as error:
            raise CommandError(
                CommandExit.NO_PERMISSION, f"{path / 'supervisor'} cannot be read: {error.strerror}"
            ) from error
        except OSError:
            entries = []
        if "attempts" in entries:
            raise CommandError(
                CommandExit.NO_SUCH_RUN,
                f"{path / 'supervisor/run.json'} is garbled or gone, and nothing of the run lives;"
                f" `fred-supervise start --run-dir {path}` with its flags goes on",
            )
        raise CommandError(
            CommandExit.NO_SUCH_RUN, f"{path} holds no run; `fred-supervise status` lists the known ones"
        )
    if name is not None and name != found.name:
        raise CommandError(CommandExit.USAGE, f"{path} is the run {found.name!r}, not {name!r}; name one or the other")
    return found


def _by_name(name: str, runs: list[RunSpec]) -> RunSpec:
    fitting = [run for run in runs if run.name == name]
    here = load_run_spec(Path.cwd() / "logs" / f"fred_{name}") if NAME.fullmatch(name) else None
    live = [run for run in fitting if lock.held(run.dir)]
    if here is not None and here.name == name and (not live or lock.held(here.dir)):
        return here
    if not fitting:
        known = f"; known: {_names(runs)}" if runs else ""
        raise CommandError(CommandExit.NO_SUCH_RUN, f"no run is called {name!r}{known}")
    if len(fitting) == 1 or len(live) == 1:
        return (live or fitting)[0]
    dirs = ", ".join(run.run_dir for run in fitting)
    raise CommandError(CommandExit.USAGE, f"{len(fitting)} runs are called {name!r}; choose with --run-dir: {dirs}")


def _names(runs: list[RunSpec]) -> str:
    return ", ".join(run.name for run in runs)


def answering(path: str, look: Callable[[], T], *, home: str = "/") -> T:
    """What a look at a path finds; raises CommandError where its file system does not answer."""
    try:
        return Lookout(home).reach((path,), look, patience_s=_PATIENCE_S)
    except NoAnswerError as error:
        raise CommandError(CommandExit.REFUSED, f"{error.path} does not answer: a mount that hangs?") from error

"""Which run a command is about."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.queue_files import read_queue
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import listed, tr
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.text_io import complain
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import keeper_unseen
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.lost_run import lost_run
from fred_supervisor.store.registry import SilentRun, closed_list, known_runs, list_runs, listed_as
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec
from fred_supervisor.store.sharing.box import of_others, owner_name

T = TypeVar("T")

_PATIENCE_S: Final = 1.5
_MAGIC: Final = re.compile(r"[*?\[]")


class SilentRunError(CommandError):
    """The run that is meant lies where nobody answers."""

    def __init__(self, silent: SilentRun) -> None:
        super().__init__(
            CommandExit.REFUSED,
            tr("{silent}: a mount that hangs? `stop` ends what can be ended without it", silent=silent),
        )
        self.silent = silent


def add_run(parser: CommandParser) -> None:
    """The arguments that name a run."""
    parser.add_argument("name", nargs="?", metavar="NAME", help=tr("name of the run"))
    parser.add_argument("--run-dir", metavar="D", help=tr("its run dir, instead of the name"))


def add_runs(parser: CommandParser, *, every: str) -> None:
    """The arguments that name several runs; `every` says which ones `--all` means."""
    parser.add_argument("names", nargs="*", metavar="NAME", help=tr("names of runs, or patterns as 'fold-*'"))
    parser.add_argument("--run-dir", metavar="D", help=tr("the run dir of one, instead of a name"))
    parser.add_argument("--all", action="store_true", help=every)


def find_runs(
    names: Sequence[str], run_dir: str | None, *, every: bool, concerned: Callable[[RunSpec], bool], what: str
) -> list[RunSpec]:
    """The runs that are meant, each once. A name means that run, whatever its state.

    A pattern, and `every`, mean those that are `concerned`; `what` says which ones those are, e.g. "live".
    """
    if every and (names or run_dir is not None):
        raise CommandError(CommandExit.USAGE, tr("--all stands alone; leave the names out, or --all"))
    if not every and not any(map(is_pattern, names)):
        return _each_once([find_run(name, run_dir) for name in names or (None,)])
    if run_dir is not None:
        raise CommandError(CommandExit.USAGE, tr("--run-dir means one run; leave the pattern out, or --run-dir"))
    known = list(known_runs())
    found: list[RunSpec] = []
    for name in names if not every else ("*",):
        if not is_pattern(name):
            found.append(_by_name(name, known))
            continue
        fitting = [spec for spec in known if fits_name(spec.name, name)]
        if not fitting:
            there = tr("; known: {names}", names=_names(known)) if known else ""
            raise CommandError(
                CommandExit.NO_SUCH_RUN, tr("no run's name fits {name!r}{there}", name=name, there=there)
            )
        found += [spec for spec in fitting if concerned(spec)]
    if not found:
        raise CommandError(
            CommandExit.NOT_RUNNING,
            tr("none of these runs is {what}; `fred-supervise status` lists them", what=tr(what)),
        )
    return _each_once(found)


def is_pattern(name: str) -> bool:
    """No name of a run has such characters."""
    return _MAGIC.search(name) is not None


def fits_name(name: str | None, wanted: str) -> bool:
    """Whether a run's name is the one that is wanted, or fits the pattern."""
    import fnmatch  # noqa: PLC0415 - only where somebody has a pattern

    return name is not None and fnmatch.fnmatchcase(name, wanted)


def _each_once(runs: list[RunSpec]) -> list[RunSpec]:
    return list({spec.run_dir: spec for spec in runs}.values())


def find_run(name: str | None, run_dir: str | None) -> RunSpec:
    """The run that is meant.

    Raises CommandError when it is none, or not clear, and SilentRunError when its file system does not answer.
    """
    if run_dir is not None:
        return _in_dir(Path(os.path.abspath(run_dir)), name)
    runs, silent = list_runs()
    if name is not None:
        for one in silent:
            if one.run.name == name and not any(run.name == name for run in runs):
                raise SilentRunError(one)
        return _by_name(name, runs)
    for one in silent:
        complain(tr("{one}; it is left out", one=one))
    live = [run for run in runs if lock.held(run.dir)]
    if len(live) == 1:
        return live[0]
    if not runs:
        check_not_closed(tr("no run is known to you"))
        raise CommandError(
            CommandExit.NO_SUCH_RUN, tr("no run is known; `fred-supervise start` begins one, --run-dir names one")
        )
    what = tr("{count} runs are live", count=len(live)) if live else tr("no run is live")
    raise CommandError(CommandExit.USAGE, tr("{what}; name one of: {names}", what=what, names=_names(live or runs)))


def _in_dir(path: Path, name: str | None) -> RunSpec:
    try:
        found = Lookout().reach((str(path),), lambda: load_run_spec(path) or lost_run(path), patience_s=_PATIENCE_S)
    except NoAnswerError as error:
        raise SilentRunError(SilentRun(run=listed_as(path), mount=error.path)) from error
    if found is None:
        try:
            entries = os.listdir(path / "supervisor")
        except PermissionError as error:
            raise CommandError(
                CommandExit.NO_PERMISSION,
                tr("{path} cannot be read: {strerror}", path=path / "supervisor", strerror=error.strerror),
            ) from error
        except OSError:
            entries = []
        if "attempts" in entries:
            raise CommandError(
                CommandExit.NO_SUCH_RUN,
                tr(
                    "{file} is garbled or gone, and nothing of the run lives; `fred-supervise start "
                    "--run-dir {run_dir}` with its flags goes on",
                    file=path / "supervisor/run.json",
                    run_dir=path,
                ),
            )
        raise CommandError(
            CommandExit.NO_SUCH_RUN, tr("{path} holds no run; `fred-supervise status` lists the known ones", path=path)
        )
    if name is not None and name != found.name:
        raise CommandError(
            CommandExit.USAGE,
            tr(
                "{path} is the run {other!r}, not {name!r}; name one or the other",
                path=path,
                other=found.name,
                name=name,
            ),
        )
    return found


def _by_name(name: str, runs: list[RunSpec]) -> RunSpec:
    fitting = [run for run in runs if run.name == name]
    here = load_run_spec(Path.cwd() / "logs" / f"fred_{name}") if NAME.fullmatch(name) else None
    live = [run for run in fitting if lock.held(run.dir)]
    if here is not None and here.name == name and (not live or lock.held(here.dir)):
        return here
    if not fitting:
        fitting = _of_others(name)
    if not fitting and any(entry.name == name for entry in read_queue()):
        raise CommandError(
            CommandExit.NO_SUCH_RUN,
            tr(
                "{name!r} has not begun: it waits in the queue; `fred-supervise queue list` says for what, "
                "`queue remove {name}` takes it out",
                name=name,
            ),
        )
    if not fitting:
        check_not_closed(tr("no run {name!r} is known to you", name=name))
        known = tr("; known: {names}", names=_names(runs)) if runs else ""
        raise CommandError(CommandExit.NO_SUCH_RUN, tr("no run is called {name!r}{known}", name=name, known=known))
    if len(fitting) == 1 or len(live) == 1:
        return (live or fitting)[0]
    dirs = listed(run.run_dir for run in fitting)
    raise CommandError(
        CommandExit.USAGE,
        tr("{count} runs are called {name!r}; choose with --run-dir: {dirs}", count=len(fitting), name=name, dirs=dirs),
    )


def _of_others(name: str) -> list[RunSpec]:
    """Live runs of that name of other users who let us look; refuses where they do not."""
    found = [(run, load_run_spec(Path(run.run_dir))) for run in of_others() if run.name == name]
    runs = [spec for _, spec in found if spec is not None]
    if found and not runs:
        raise CommandError(
            CommandExit.NO_PERMISSION,
            tr(
                "{name} is a run of {user} and closed to you; they open it by `start {name} --share group` (or all)",
                name=name,
                user=found[0][0].user,
            ),
        )
    return runs


def check_ours(spec: RunSpec) -> RunSpec:
    """The run, where we may change it; else refuses: the runs of others may be read at most."""
    if not lock.of_another(spec.dir):
        return spec
    raise CommandError(
        CommandExit.NO_PERMISSION,
        tr(
            "{name} is a run of {user}, who lets you look (status, incidents, report), and no more",
            name=spec.name,
            user=owner_name(spec.dir.supervisor) or "?",
        ),
    )


def check_left_behind(spec: RunSpec) -> None:
    """Refuses while a trainer of the run works where nothing finds it: elsewhere, or for a folder that was deleted."""
    if keeper_unseen(spec.dir):
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{name}: its trainer lives where it cannot be seen from here, in another container or on another "
                "machine: its keeper holds {folder}; `fred-supervise stop {name}` there ends it",
                name=spec.name,
                folder=spec.dir.attempt(last_attempt(spec.dir)).path,
            ),
        )
    from fred_supervisor.attempt.run_processes import left_behind  # noqa: PLC0415 - only who changes a run asks

    who = left_behind(spec)
    if who is not None:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "{run_dir}: pid {pid} of this run still runs, and the folder that it writes to was deleted; "
                "`kill {pid}` ends it",
                run_dir=spec.run_dir,
                pid=who.pid,
            ),
        )


def check_not_closed(what: str) -> None:
    """Refuses where there may be a run of the service, which we may not see: that is not "no such run"."""
    closed = closed_list()
    if closed is not None:
        raise CommandError(
            CommandExit.NO_PERMISSION,
            tr(
                "{what}; a service's runs are in {closed}, and are closed to you: ask for `sudo fred-supervise status`",
                what=what,
                closed=closed,
            ),
        )


def _names(runs: list[RunSpec]) -> str:
    return listed(dict.fromkeys(run.name for run in runs))


def answering(path: str, look: Callable[[], T], *, home: str = "/") -> T:
    """What a look at a path finds; raises CommandError where its file system does not answer."""
    try:
        return Lookout(home).reach((path,), look, patience_s=_PATIENCE_S)
    except NoAnswerError as error:
        raise CommandError(
            CommandExit.REFUSED, tr("{path} does not answer: a mount that hangs?", path=error.path)
        ) from error

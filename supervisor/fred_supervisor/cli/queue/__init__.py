"""`fred-supervise queue`: runs that wait for a GPU, or for another run."""

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.queue_files import (
    QueueEntry,
    drop_entry,
    environment_now,
    queue_folder,
    read_queue,
    start_next,
    write_entry,
)
from fred_supervisor.cli.common.service_of import user_units
from fred_supervisor.cli.common.view import aligned
from fred_supervisor.cli.install_service.unit import UnitFile, install, installed_program, load_unit
from fred_supervisor.cli.queue.turns import QueueRun, Turn, turns
from fred_supervisor.cli.start import check_start, parsed
from fred_supervisor.cli.start.requested_run import requested_run
from fred_supervisor.contract.builtin.flags import normalise, positive
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store.attempt_files import is_live
from fred_supervisor.store.registry import known_runs, make_state_folder
from fred_supervisor.store.run_spec import NAME, RunSpec
from fred_supervisor.store.state_file import read_state

_SLOTS: Final = "FRED_QUEUE_SLOTS"
"""How many GPUs the queue counts with, instead of all that there are."""
_UNIT: Final = "fred-supervise-queue.service"
_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_GONE_S: Final = 30.0
_EPILOG: Final = mark(
    "queue add NAME|FLAGS…    as `start`, when there is a GPU for it; --after "
    "RUN[:completed]: when that run has ended\n"
    "queue list [--json]      in order, and what each waits for\n"
    "queue move NAME PLACE    1 is the next\n"
    "queue unit               a unit of yours that goes on with the queue after a reboot\n"
    "queue remove NAME…       one that runs goes on; it only leaves the queue\n\n"
    "examples:\n"
    "  fred-supervise queue add --name fold-1 -- python train.py --fold 1\n"
    "  fred-supervise queue add --name fold-2 --after fold-1:completed -- python train.py "
    "--fold 2\n"
    "  fred-supervise queue list\n\n"
    "Each is started in the folder and environment in which it was added, in order, as "
    "many at once as there are GPUs (one\n"
    "where there is none; FRED_QUEUE_SLOTS says another number). Under Slurm, let sbatch "
    "queue.\n"
)


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise queue",
        description=tr("Runs that wait for a GPU, or for another run."),
        epilog=tr(_EPILOG),
    )
    parser.add_argument(
        "verb",
        nargs="?",
        choices=("add", *_VERBS),
        default="list",
        metavar="|".join(("add", *_VERBS)),
        help=tr("see below"),
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help=tr("of that verb"))
    parser.add_argument("--json", action="store_true", help=tr("of list: one JSON document, for programs"))
    if argv[:1] == ["add"]:
        return _add(argv[1:])
    if argv[:1] == ["next"]:
        return _next(argv[1:])
    given = parser.parse_args(argv)
    verb = _VERBS[given.verb]
    if not verb.least <= len(given.words) <= verb.most or (given.json and verb.act not in (_list, _move)):
        raise CommandError(CommandExit.USAGE, tr("it is written `fred-supervise queue {usage}`", usage=verb.usage))
    return verb.act(given)


def _add(argv: Sequence[str]) -> int:
    """As `start`, later."""
    if "SLURM_JOB_ID" in os.environ:
        raise CommandError(
            CommandExit.REFUSED, tr("under Slurm sbatch queues; `fred-supervise slurm-script` writes the script for it")
        )
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    own, command = normalise(words[:at]), words[at + 1 :] or None
    given = parsed(own, command)
    after, _, how = (given["after"] or "").partition(":")
    if how not in ("", "completed") or (given["after"] is not None and not NAME.fullmatch(after)):
        raise CommandError(
            CommandExit.USAGE, tr("--after {after}: the name of a run, or NAME:completed", after=given["after"])
        )
    if given["foreground"]:
        raise CommandError(CommandExit.USAGE, tr("--foreground: what the queue starts runs by itself; leave it out"))
    soon = given if not after else given | {"resume": None}  # it may be what that run is still to write
    spec, before = requested_run(soon, command or given["command"])
    if (refusal := check_start(soon, spec, before)) is not None:
        raise CommandError(CommandExit.REFUSED, refusal)
    name, fresh = spec.name, ["--name", spec.name, "--run-dir", spec.run_dir] if given["new"] else []
    with _locked():
        queue = read_queue()
        _check(name, after or None, queue)
        write_entry(
            QueueEntry(
                number=max((one.number for one in queue), default=0) + 1,
                name=name,
                words=_without_after(own) + fresh + words[at:],
                cwd=os.getcwd(),
                environment=environment_now(),
                gpus=given["ranks"] or len((given["gpu"] or "auto").split(",")),
                after=after or None,
                completed=how == "completed",
            )
        )
    what = (
        tr("after {after}", after=after) + (tr(", when that is completed") if how else "")
        if after
        else (tr("when there is a GPU for it") if _gpus() else tr("when its turn comes"))
    )
    print(tr("{name}: waits in the queue; it is started {what}", name=name, what=what))
    start_next()
    return CommandExit.OK


def _check(name: str, after: str | None, queue: Sequence[QueueEntry]) -> None:
    if not NAME.fullmatch(name):
        raise CommandError(CommandExit.USAGE, tr("{name!r}: letters, digits, '.', '_' and '-', at most 64", name=name))
    if any(one.name == name for one in queue):
        raise CommandError(
            CommandExit.REFUSED, tr("{name!r} is in the queue already; --name gives this one another name", name=name)
        )
    runs = {spec.name: spec for spec in known_runs()}
    if name in runs and is_live(runs[name].dir):
        raise CommandError(CommandExit.REFUSED, tr("{name!r} is live; `fred-supervise stop {name}` ends it", name=name))
    if after == name:
        raise CommandError(CommandExit.USAGE, tr("--after {after}: a run cannot wait for itself", after=after))
    if after is not None and after not in runs and all(one.name != after for one in queue):
        raise CommandError(
            CommandExit.NO_SUCH_RUN, tr("--after {after}: no run of that name is known, or in the queue", after=after)
        )


def _without_after(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    skip = False
    for word in words:
        if not skip and not word.startswith("--after") and word != "--new":
            found.append(word)
        skip = word == "--after"
    return found


def _list(given: Any) -> int:
    queue = read_queue()
    found = turns(queue, _runs(), _slots())
    if given.json:
        keys = ("name", "after", "words", "cwd", "gpus", "started")
        print(json.dumps([{key: getattr(one, key) for key in keys} | {"turn": found[one.name]} for one in queue]))
    elif not queue:
        print(tr("Nothing waits in the queue."))
    else:
        rows = [("", tr("run"), tr("turn"), tr("folder"))]
        rows += [
            (str(at), one.name, _told(one, found[one.name]), printable(one.cwd)) for at, one in enumerate(queue, 1)
        ]
        print("\n".join(aligned(rows)))
    return CommandExit.OK


def _told(entry: QueueEntry, turn: Turn) -> str:
    match turn:
        case Turn.WAITS_FOR_RUN:
            return tr("waits for {after}", after=entry.after) + (tr(" to be completed") if entry.completed else "")
        case Turn.IN_VAIN:
            return tr("waits in vain: {after} has not been completed", after=entry.after)
        case Turn.WAITS_FOR_GPU:
            return tr("waits for a free GPU, or its turn where there is none")
        case _:
            return tr(_TURNS[turn])


_TURNS: Final = {
    Turn.START: mark("is started now"),
    Turn.START_AGAIN: mark("is started again now"),
    Turn.RUNS: mark("runs"),
    Turn.DONE: mark("has ended"),
}
"""What needs no further word."""


def _move(given: Any) -> int:
    name, place = given.words
    if not place.isdecimal() or int(place) < 1:
        raise CommandError(CommandExit.USAGE, tr("queue move NAME PLACE: a name and a number, 1 is the next"))
    with _locked():
        queue = read_queue()
        mine = _named(name, queue)
        others = [one for one in queue if one is not mine]
        others.insert(int(place) - 1, mine)
        for number, one in enumerate(others, 1):
            write_entry(replace(one, number=number))
    return _list(given)


def _remove(given: Any) -> int:
    with _locked():
        queue = read_queue()
        for name in given.words:
            _named(name, queue)
        for name in given.words:
            drop_entry(name)
            print(tr("{name}: no longer in the queue", name=name))
        left = [one for one in read_queue() if one.after in given.words and not one.started]
    for one in left:
        print(
            tr(
                "{name} waits for {after}; `fred-supervise queue list` says what becomes of it",
                name=one.name,
                after=one.after,
            )
        )
    return CommandExit.OK


def _named(name: str, queue: Sequence[QueueEntry]) -> QueueEntry:
    found = next((one for one in queue if one.name == name), None)
    if found is None:
        there = tr("; there are: {queue}", queue=listed(one.name for one in queue)) if queue else tr(", which is empty")
        raise CommandError(CommandExit.NO_SUCH_RUN, tr("{name!r} is not in the queue{there}", name=name, there=there))
    return found


def _next(argv: Sequence[str]) -> int:
    """Start whoever's turn it is: asked for by the end of a run, and by the unit."""
    parser = CommandParser(prog="fred-supervise queue next", description=tr("Start whoever's turn it is."))
    parser.add_argument("--when-gone", type=positive, metavar="PID", help=tr("once that process has ended"))
    given = parser.parse_args(argv)
    if given.when_gone is not None:
        with contextlib.suppress(OSError):  # it has gone
            select.select([os.pidfd_open(given.when_gone)], [], [], _GONE_S)
    with _locked():
        while _start_all():  # who could not be started has left the queue, and made room
            pass
    return CommandExit.OK


def _start_all() -> bool:
    """Start whoever's turn it is; whether one of them could not be."""
    queue = read_queue()
    found, failed = turns(queue, _runs(), _slots()), False
    for entry in queue:
        if found[entry.name] is Turn.DONE:
            drop_entry(entry.name)
        elif found[entry.name] in (Turn.START, Turn.START_AGAIN):
            failed |= not _start(entry, again=found[entry.name] is Turn.START_AGAIN)
    return failed


def _unit(_: Any) -> int:
    """Write the unit of the user that starts the queue after a reboot."""
    path = user_units() / _UNIT
    print(install(UnitFile(path, load_unit(f"user/{_UNIT}", installed_program())), force=False))
    lingers = "loginctl enable-linger && "
    print(
        tr(
            "Next: {lingers}systemctl --user daemon-reload && systemctl --user enable {unit}",
            lingers=lingers,
            unit=_UNIT.removesuffix(".service"),
        )
    )
    return CommandExit.OK


def _start(entry: QueueEntry, *, again: bool) -> bool:
    """Whether it runs now: what goes wrong stands in the log of the queue, and the entry leaves it."""
    words = [sys.executable, "-m", "fred_supervisor.cli.main", "start", *([entry.name] if again else entry.words)]
    cwd = entry.cwd if os.path.isdir(entry.cwd) else "/"
    write_entry(replace(entry, started=True))  # before it is: `start` refuses the name of what waits
    done = subprocess.run(words, cwd=cwd, env=dict(entry.environment), stdin=subprocess.DEVNULL, check=False)
    if done.returncode != CommandExit.OK:
        complain(f"queue: {entry.name} was not started, exit code {done.returncode}; it has left the queue")
        drop_entry(entry.name)
    return done.returncode == CommandExit.OK


def _runs() -> dict[str, QueueRun]:
    return {spec.name: _queue_run(spec) for spec in known_runs()}


def _queue_run(spec: RunSpec) -> QueueRun:
    state = read_state(spec.dir).state
    return QueueRun(live=is_live(spec.dir), ended=state if state in tuple(RunOutcome) else None, gpus=spec.rank_count)


def _slots() -> int:
    """GPUs of this machine; one place where there is none."""
    given = os.environ.get(_SLOTS, "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return max(1, _gpus())


def _gpus() -> int:
    try:
        return len(list(_GPUS.iterdir()))
    except OSError:
        return 0


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One at a time changes the queue, or starts from it."""
    make_state_folder(queue_folder())
    with (queue_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@record
class Verb:
    """One thing that is done with the queue."""

    act: Callable[[Any], int]
    usage: str
    least: int = 0
    most: int = 0
    """How many words it takes."""


_VERBS: Final = {
    "list": Verb(act=_list, usage="list [--json]"),
    "move": Verb(act=_move, usage="move NAME PLACE", least=2, most=2),
    "remove": Verb(act=_remove, usage="remove NAME…", least=1, most=sys.maxsize),
    "unit": Verb(act=_unit, usage="unit"),
}

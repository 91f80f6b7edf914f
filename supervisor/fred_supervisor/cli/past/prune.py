"""`fred-supervise prune`: what ended long ago leaves the list, and the disk as far as it is told."""

import os
import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.converters import span_s
from fred_supervisor.cli.common.find_run import fits_name
from fred_supervisor.cli.past.forget import forget_run
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import STEP_STATE_LINK
from fred_supervisor.contract.checkpoint import sidecar_path
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store.attempt_files import is_live
from fred_supervisor.store.checkpoints import foreign_checkpoints
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.times import span

_OLD_S: Final = 30 * 86400.0


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise prune",
        description=tr(
            "Take runs that ended long ago off the list; delete nothing unless --history or --weights say so."
        ),
        epilog=tr(
            "examples:\n"
            "  fred-supervise prune --older-than 30d --dry-run\n"
            "  fred-supervise prune 'try-*' --older-than 1d --history"
        ),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=tr("only these, or patterns as 'try-*'"))
    parser.add_argument(
        "--older-than", type=span_s, default=_OLD_S, metavar="SPAN", help=tr("since its end (default 30d)")
    )
    parser.add_argument("--history", action="store_true", help=tr("delete their output, incidents and journal, too"))
    parser.add_argument("--weights", action="store_true", help=tr("delete their checkpoints, too"))
    parser.add_argument("--dry-run", action="store_true", help=tr("say what would be done, and do nothing"))
    given = parser.parse_args(argv)
    runs = [spec for spec in known_runs() if not given.names or any(fits_name(spec.name, n) for n in given.names)]
    if given.names and not runs:
        raise CommandError(CommandExit.NO_SUCH_RUN, tr("no run's name fits {names}", names=" ".join(given.names)))
    old = [(spec, age_s) for spec in runs if (age_s := _ended_for_s(spec)) is not None and age_s >= given.older_than]
    for spec, age_s in old:
        paths = [*_history(spec, wanted=given.history), *_weights(spec, wanted=given.weights)]
        size = sum(map(_size, paths))
        if not given.dry_run:
            forget_run(spec)
            for path in paths:
                _delete(path)
        kept = "" if given.weights else tr(", its checkpoints stay")
        freed = tr(", {mib:.0f} MiB deleted", mib=size / 2**20) if paths else ""
        told = {"name": spec.name, "span": span(age_s), "freed": freed, "kept": kept, "run_dir": spec.run_dir}
        if given.dry_run:
            print(printable(tr("{name}: ended {span} ago, would be forgotten{freed}{kept}; {run_dir}", **told)))
        else:
            print(printable(tr("{name}: ended {span} ago, forgotten{freed}{kept}; {run_dir}", **told)))
    if not old:
        print(tr("No run ended more than {span} ago.", span=span(given.older_than)))
    return CommandExit.OK


def _ended_for_s(spec: RunSpec) -> float | None:
    """Since when it has ended; None: it lives, or nobody knows."""
    state = read_state(spec.dir)
    if is_live(spec.dir) or state.state not in tuple(RunOutcome) or state.time is None:
        return None
    try:
        return time.time() - datetime.fromisoformat(state.time).timestamp()
    except ValueError:
        return None


def _history(spec: RunSpec, *, wanted: bool) -> list[Path]:
    return [spec.dir.supervisor] if wanted else []


def _weights(spec: RunSpec, *, wanted: bool) -> list[Path]:
    """What is certainly a checkpoint of this run: by our trainer's names, or by the pattern that a person gave."""
    if not wanted or (spec.command is not None and spec.checkpoints is None):
        return []
    run_dir = Path(spec.run_dir)
    if spec.checkpoints is not None:
        return [found.path for found in foreign_checkpoints(run_dir, spec.checkpoints)]
    found = [one.path for one in list_checkpoints(run_dir)]
    paths = [*found, *map(sidecar_path, found), run_dir / STEP_STATE_LINK]
    return [path for path in paths if os.path.lexists(path)]


def _size(path: Path) -> int:
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(file.lstat().st_size for file in path.rglob("*"))
        return path.lstat().st_size
    except OSError:
        return 0


def _delete(path: Path) -> None:
    """Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

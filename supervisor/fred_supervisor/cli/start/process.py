"""The supervisor's process: in the foreground, or detached into a session and a scope of its own."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract import environment
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.engine import engine
from fred_supervisor.linux.systemd_scope import move_to_scope
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.state import Ended
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import read_status
from fred_supervisor.words.sentences import sentence, stored_sentence
from fred_supervisor.words.terms import term

_SPAWN_S: Final = 60.0
"""The keeper answers within milliseconds; after this something is badly wrong."""
_LEAVE_S: Final = 2.0
_LOOK_S: Final = 0.01


def run_in_foreground(spec: RunSpec, held: int, hints: list[str]) -> int:
    """`hints`: for the person, once the trainer is spawned."""
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - policy and shell, only where they run

    failed: list[str] = []

    def spawned(error: str | None) -> None:
        failed.append(error or "")
        for line in () if error else hints:
            _say(line)

    try:
        ended = supervisor.run(spec, lock_fd=held, service=True, on_spawned=spawned, on_note=_say, engine=engine())
    except OSError as error:
        if not failed:
            raise
        # No bad input any more, but our own failure: the trainer lives on, and waits for the next supervisor.
        raise RuntimeError(tr("the supervisor of {name} has failed", name=spec.name)) from error
    if failed and failed[0]:
        raise CommandError(CommandExit.BAD_INPUT, tr("{failed}; nothing was started", failed=failed[0]))
    return _over(ended)


def _over(ended: Ended) -> CommandExit:
    """Whoever waits for the end of this run, or for its GPU, is started."""
    from fred_supervisor.cli.common.queue_files import start_next  # noqa: PLC0415 - at the end only

    start_next(when_gone=os.getpid())
    return _exit_code(ended)


def _say(text: str) -> None:
    """To a terminal or pipe that may have gone away: that is no reason to leave the trainer alone."""
    try:
        print(text, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _exit_code(ended: Ended) -> CommandExit:
    if ended.again:
        return CommandExit.RUN_AGAIN
    return CommandExit.RUN_FAILED if ended.outcome is RunOutcome.FAILED else CommandExit.OK


def detach(spec: RunSpec, held: int, hints: list[str]) -> int:
    """Fork the supervisor into a session and a scope of its own; return when its first trainer is spawned."""
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    if sys.stdout is not None:
        sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(answer_read)
        os.close(go_write)
        _supervise_detached(spec, held, go_read, answer_write)
    os.close(answer_write)
    os.close(go_read)
    place = move_to_scope(spec.name, child)
    lives = say(Topic.SUPERVISOR_PLACE, outcome=place.outcome, unit=place.unit, detail=place.detail)
    Journal(spec.dir).append(JournalEvent.PLACE, text=stored_sentence(lives), facts=lives.document())
    os.close(go_write)
    os.close(held)  # the child holds it on
    with open(answer_read, "rb") as answer:
        import select  # noqa: PLC0415 - here only

        ready = select.select([answer], [], [], _SPAWN_S)[0]
        text = answer.read().decode() if ready else ""
    if text.startswith("ok"):
        now = read_status(spec, brief=True)
        waits = f" ({term(now.state)}: {now.detail})" if now.state not in ("starting", "running") else ""
        print(
            tr(
                "{name}: started{waits}; `fred-supervise status {name}` shows it, {run_dir}",
                name=spec.name,
                waits=waits,
                run_dir=_run_dir(spec),
            )
        )
        for line in hints:
            print(line)
        if place.logout_ends:
            print(f"{spec.name}: {sentence(say(Topic.SUPERVISOR_LOGOUT, outcome=place.outcome))}")
        return CommandExit.OK
    if text:
        _await_end(child)
        raise CommandError(CommandExit.BAD_INPUT, tr("{text}; nothing was started", text=text))
    if not ready:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "its supervisor (pid {pid}) has started no trainer within {limit_s} s, and goes on trying; "
                "`fred-supervise status {name}` shows it",
                pid=child,
                limit_s=round(_SPAWN_S),
                name=spec.name,
            ),
        )
    raise CommandError(
        CommandExit.REFUSED, tr("the supervisor ended before it started the trainer; see {log}", log=spec.dir.log)
    )


def _await_end(supervisor: int) -> None:
    """It has nothing left to do but to leave; one that waits for room on its disk, to say so, is told to."""
    end_s = time.monotonic() + _LEAVE_S
    while os.waitpid(supervisor, os.WNOHANG)[0] == 0:
        if time.monotonic() > end_s:
            os.kill(supervisor, signal.SIGTERM)
            os.waitpid(supervisor, 0)
            return
        time.sleep(_LOOK_S)


def _run_dir(spec: RunSpec) -> str:
    return tr("run dir {run_dir}", run_dir=printable(spec.run_dir))


def _supervise_detached(spec: RunSpec, held: int, go: int, answer: int) -> None:
    """The supervisor's process, from the moment that `go` is closed by its starter; never returns."""
    code = int(CommandExit.INTERNAL)
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(spec.dir.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)

        def spawned(error: str | None) -> None:
            os.write(answer, (error or "ok").encode(errors="replace"))
            os.close(answer)

        for name in environment.OF_SYSTEMD:  # of a service that we were started from, and do not belong to
            os.environ.pop(name, None)
        code = _run_detached(spec, held, go, spawned)
    except BaseException:  # noqa: BLE001 - the last resort of a process of its own: its log says why it died
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        os._exit(code)


def _run_detached(spec: RunSpec, held: int, go: int, spawned: Callable[[str | None], None]) -> int:
    from fred_supervisor.run import supervisor  # noqa: PLC0415 - see run_in_foreground

    os.read(go, 1)
    os.close(go)
    return _over(supervisor.run(spec, lock_fd=held, service=False, on_spawned=spawned, on_note=lambda _: None))

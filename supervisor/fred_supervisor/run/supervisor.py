"""One supervisor from beginning to end: take up the run where it is, then loop."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from fred_supervisor.attempt import evidence, terminate
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.run_processes import processes_of, remove_group
from fred_supervisor.contract.files import remove_unfinished
from fred_supervisor.linux import proc, sd_notify
from fred_supervisor.linux.engine import Engine
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import Action, Note, Report
from fred_supervisor.policy.cause import (
    Cause,
    Diagnosis,
    EndedBy,
    Evidence,
    IncidentKind,
    diagnose,
    goal_reached,
    place_of,
)
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import RunHistory, RunOutcome, unspent
from fred_supervisor.policy.launching import answer_start, launch, outranked, take_over
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Holding, Paused, State, Unkillable
from fred_supervisor.policy.warnings.held import taken_over
from fred_supervisor.run.barrier import Barrier
from fred_supervisor.run.control import SIGNALS
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.loop import supervise
from fred_supervisor.run.observe import Observer
from fred_supervisor.run.perform import Performer
from fred_supervisor.run.record import Recorder, RunDirMoved, Superseded
from fred_supervisor.store.attempt_files import launched_elsewhere, read_launch
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import forget, remember
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import StateFile, read_state

_LIVE = ("starting", "running", "stopping")
_KILL_S = 5.0
"""From SIGKILL until a process is said not to end."""
_LOOK_S = 0.02
_AT_REST = ("paused", "waiting", "holding")
"""Live as well, but without a trainer."""


def run(
    spec: RunSpec,
    *,
    lock_fd: int,
    service: bool,
    on_spawned: Callable[[str | None], None],
    on_note: Callable[[str], None],
    engine: Engine | None = None,
) -> Ended:
    """Supervise until the run has ended. Raises OSError for a run dir out of reach.

    `lock_fd` holds the run's lock; `service`: no person waits for word. `on_spawned` is called once: with None when the
    first trainer runs, or when it is clear that none will for now; with a reason when it cannot be launched. `on_note`
    gets each sentence for a person. `engine` has placed us here, and ends us by SIGTERM or SIGUSR1: see `Ended.again`.
    """
    answered = False

    def answer_once(error: str | None) -> None:
        nonlocal answered
        if not answered:
            answered = True
            on_spawned(error)

    before: str | None = None
    own = proc.identify(os.getpid())
    remember(spec, own)
    while True:
        try:
            live = LiveRun(spec, engine)
            return _run(
                live, lock_fd=lock_fd, service=service, moved_from=before, on_spawned=answer_once, on_note=on_note
            )
        except Superseded:
            return Ended(history=RunHistory(), outcome=RunOutcome.STOPPED, message=say(Topic.SUPERSEDED))
        except RunDirMoved as moved:
            before, lock_fd = spec.run_dir, moved.lock_fd
            here = replace(spec, run_dir=str(moved.path))
            remember(here, own)  # first: nobody looks for it in vain meanwhile
            forget(spec, own)
            spec = here


def _run(
    live: LiveRun,
    *,
    lock_fd: int,
    service: bool,
    moved_from: str | None,
    on_spawned: Callable[[str | None], None],
    on_note: Callable[[str], None],
) -> Ended:
    """Supervise until the run has ended, or its run dir was moved: the run is then taken up where it lies now."""
    spec = live.spec
    uses_gpu = live.gpus.possible and not spec.under_slurm
    settings = replace(spec.settings(), uses_gpu=uses_gpu, expandable=not proc.is_wsl(), service=service)
    own = proc.identify(os.getpid())
    assert own is not None
    recorder = Recorder(live, settings, own, lock_fd=lock_fd, on_note=on_note)
    barrier = Barrier()
    performer = Performer(live, settings, recorder, barrier, answer_start=on_spawned)
    observer = Observer(live, settings, barrier)
    live.events.take_signals()
    for folder in (spec.dir.attempts, spec.dir.incidents):
        with contextlib.suppress(OSError):  # of a full disk: made when there is something to write, and room
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_unfinished(spec.dir.supervisor)
    try:
        if moved_from is not None:
            moved = say(Topic.RUN_DIR_MOVED, run_dir=spec.run_dir, before=moved_from)
            recorder.note(JournalEvent.RUN_DIR_MOVED, moved)
        state, actions = answer_start(*_take_up(live, settings, performer, recorder, quiet=observer.quiet))
        return supervise(
            settings, state, actions, observer=observer, recorder=recorder, performer=performer, barrier=barrier
        )
    except RunDirMoved:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # kept until the run is taken up elsewhere
        raise
    finally:
        live.close()


def _take_up(
    live: LiveRun, settings: Settings, performer: Performer, recorder: Recorder, *, quiet: Message | None
) -> tuple[State, tuple[Action, ...]]:
    """Adopt a live trainer, answer an end that nobody has seen, or launch."""
    spec = live.spec
    before = read_state(spec.dir)
    number = last_attempt(spec.dir)
    history = replace(before.history, attempt=number, warnings=taken_over(before.history.warnings))
    overrides, told = outranked(history.overrides, spec.flags, spec.by_hand)
    history = replace(history, overrides=overrides)
    for message in told:
        recorder.note(JournalEvent.SET_BY_HAND, message)
    for attempt in before.owed:
        recorder.note(JournalEvent.INCIDENT_LOST, say(Topic.INCIDENT_LOST, attempt=attempt))
    launched = read_launch(spec.dir.attempt(number))
    keeper, trainer = launched.keeper, launched.trainer
    now_s = time.monotonic()
    if proc.alive(keeper) or proc.alive(trainer):
        resume = Path(launched.resume) if launched.resume else None
        performer.adopt(history, keeper if proc.alive(keeper) else None, resume)
        recorder.note(JournalEvent.ADOPTED, say(Topic.ADOPTED, attempt=number))
        return take_over(settings, history, before.asked, now_s)
    left = _end_strays(spec, recorder)
    if left:
        performer.sweep(number)
        return _held_for(settings, history, left, before.asked or EndedBy.RESTART)
    # Started again by a service manager or an engine, not by a person: what was spent stays spent, paused stays paused.
    requeued = live.engine
    if requeued is not None and (not requeued.restarts or before.placed == requeued.placement):
        requeued = None
    again = sd_notify.listening() or requeued is not None
    if requeued is not None:
        recorder.note(JournalEvent.REQUEUED, say(Topic.STARTED_AGAIN, **asdict(requeued)))
    copied_from = launched_elsewhere(spec.dir, number)
    if copied_from is not None:
        recorder.note(JournalEvent.COPIED, say(Topic.COPIED, attempt=number, before=copied_from))
    elif number and before.state in _LIVE and not _answered(before, number):
        # The supervisor died, and the trainer ended while nobody watched: answer that now.
        _read_rest(spec, history)
        ended = evidence.gather(spec, number, oom_kills_before=None, lookout=Lookout(spec.run_dir))
        if (requeued is not None or _rebooted(keeper)) and not goal_reached(ended):
            if again and before.asked is EndedBy.PAUSE:
                return Paused(history=history), ()
            return _after_reboot(settings, history, ended, quiet, requeued)
        taken, _ = take_over(settings, history, _still_asked(before, again=again), now_s)
        return decide(settings, taken, Observation(now_s=now_s, ended=ended, quiet=quiet))
    resting = before.state if again and before.state in (*_LIVE, *_AT_REST) else None
    if resting and not before.paused_for and (resting == "paused" or before.asked is EndedBy.PAUSE):
        return Paused(history=history), ()
    return _go_on(settings, history if resting or requeued is not None else fresh_stretch(history), quiet)


def _read_rest(spec: RunSpec, history: RunHistory) -> None:
    """What a trainer has printed while nobody watched: its last position is written down."""
    lookout = Lookout(spec.run_dir)
    attempt = LiveAttempt(
        spec=spec, number=history.attempt, keeper=None, lookout=lookout, patterns=history.learned.patterns
    )
    attempt.read_trainer()
    attempt.look(time.monotonic(), final=True)


def _still_asked(before: StateFile, *, again: bool) -> EndedBy | None:
    """What a trainer that has left meanwhile was ended for. A person who starts the run now wants it to train."""
    if before.asked is EndedBy.ENGINE or (before.asked in (EndedBy.STOP, EndedBy.PAUSE) and not again):
        return EndedBy.RESTART
    return before.asked


def _end_strays(spec: RunSpec, recorder: Recorder) -> list[proc.Identity]:
    """End what an attempt without keeper has left; who does not end."""
    for stray in terminate.kill_processes_of(spec):
        recorder.note(JournalEvent.STRAY, say(Topic.STRAY, pid=stray.pid))
    end_s = time.monotonic() + _KILL_S
    while (left := processes_of(spec)) and time.monotonic() < end_s:
        terminate.kill_processes_of(spec)
        time.sleep(_LOOK_S)
    remove_group(spec)
    return left


def _held_for(
    settings: Settings, history: RunHistory, left: list[proc.Identity], by: EndedBy
) -> tuple[State, tuple[Action, ...]]:
    """Nothing is launched beside a process of an earlier attempt."""
    survivors = tuple(Survivor(pid=who.pid, wchan=proc.wait_channel(who.pid)) for who in left)
    now_s = time.monotonic()
    held = Holding(
        history=history,
        cause=Cause.UNKILLABLE,
        condition=say(Topic.UNKILLABLE, survivors=tuple((one.pid, one.wchan) for one in survivors)),
        since_s=now_s,
        probe_s=now_s + settings.reprobe_s,
        unkillable=Unkillable(survivors=survivors, by=by),
    )
    return held, (Note(event=JournalEvent.UNKILLABLE, message=say(Topic.UNKILLABLE_HELD, condition=held.condition)),)


def _answered(before: StateFile, number: int) -> bool:
    """Whether the end of attempt `number` was answered by a launch of which nothing came: its supervisor died first."""
    return before.awaits_gpu or before.history.attempt > number


def _go_on(settings: Settings, history: RunHistory, quiet: Message | None) -> tuple[State, tuple[Action, ...]]:
    """The next attempt, now or after the quiet hours."""
    if quiet is not None and not history.waived:
        return Paused(history=history, quiet=quiet), (
            Note(event=JournalEvent.PAUSED, message=say(Topic.PAUSED_FOR, quiet=quiet)),
        )
    return launch(settings, history)


def _rebooted(keeper: proc.Identity | None) -> bool:
    """Whether an attempt was launched before the machine's last boot."""
    return keeper is not None and keeper.boot != proc.boot_id()


def _after_reboot(
    settings: Settings, history: RunHistory, ended: Evidence, quiet: Message | None, requeued: Engine | None
) -> tuple[State, tuple[Action, ...]]:
    """Nobody's fault: on at once, from the newest checkpoint, and it costs no budget."""
    message = say(Topic.REBOOTED, place=place_of(ended))
    if requeued is not None:
        if diagnose(ended).cause is Cause.SAVED:
            return _go_on(settings, history, quiet)
        message = say(Topic.REQUEUED, engine=requeued.name, restarts=requeued.restarts, place=place_of(ended))
    found = Diagnosis(cause=Cause.KILLED, kind=IncidentKind.CRASH, message=message, signature="")
    state, actions = _go_on(settings, history, quiet)
    paused = isinstance(state, Paused)
    action = say(Topic.PAUSED_FOR, quiet=quiet) if paused else say(Topic.RELAUNCHED_AT_ONCE)
    return state, (*actions, Report(diagnosis=found, evidence=ended, action=action))


def fresh_stretch(history: RunHistory) -> RunHistory:
    """A person has started the run again: what was learnt stays, what was spent does not count."""
    return replace(unspent(history), lived_s=0.0, useful_s=0.0, unanswered=False)

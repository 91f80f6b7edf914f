"""Observe: wait until something happens, then look at whatever the state makes worth a look. Nothing of the run is
acted upon; a helper may be asked for a closer look (a sample of the GPUs, a probe of the disk).
"""

import errno
import os
import time
from dataclasses import replace
from functools import partial
from typing import Final

from fred_supervisor.attempt import checkpoint_check, evidence, machine_faults, proof_job
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.nodes import rendezvous
from fred_supervisor.bundle import replay_job, stretch_job
from fred_supervisor.contract.files import now_text
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import NoAnswerError
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.cause import GPU_CAUSES, Evidence
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.signs import bad_stretch
from fred_supervisor.policy.state import Holding, Rung, Running, State, Stopping
from fred_supervisor.policy.watch import HeartbeatReading, slowest
from fred_supervisor.run.barrier import Barrier
from fred_supervisor.run.events import Happened, Source
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.quiet_hours import QuietHours
from fred_supervisor.run.signs import NOTHING_SEEN, SignReader
from fred_supervisor.store.attempt_files import read_exit
from fred_supervisor.store.kept_file import why_unwritten

_LOOK_S: Final = 1.0
"""Between two looks at the heartbeats, or an eighth of the limit where that is less."""
_HUNG_S: Final = 1.0
"""Looking, writing and acting take milliseconds; a disk that stalls holds us up, and the trainer with us."""
_TOLD_S: Final = 60.0
"""Held up for so long, we say so."""
_LEAST_LOOK_S: Final = 0.05
_NAMED: Final = 4
"""Processes in a sentence."""
_STRAY_S: Final = 5.0
"""What a dead keeper has left behind, and SIGKILL has not ended after this, is called unkillable."""
_SWEEP_S: Final = 0.02
"""Between two looks at it: SIGKILL has no event to wait for in processes that are not our children."""


class Observer:
    """Changes nothing but the picture of the run: which of its processes live, and what their files say."""

    def __init__(self, live: LiveRun, settings: Settings, barrier: Barrier) -> None:
        self._live = live
        self._settings = settings
        self._attempt = barrier.attempt
        self._hours = QuietHours(live.spec.quiet)
        self._left_s: float | None = None
        """When the observation before was made."""
        self._signs = SignReader(live.spec)

    @property
    def quiet(self) -> Message | None:
        """The quiet hours that hold now."""
        return self._attempt("the quiet hours", self._hours.now, self._hours.last)

    def observe(self, state: State, *, wake_s: float | None, maintenance_s: float | None) -> Observation:
        """Wait for an event, or until one of two times on the monotonic clock; then say what is seen.

        `wake_s`: when the policy wants to be asked again; `maintenance_s`: when the performer has work of its own.
        """
        live, began_s = self._live, time.monotonic()
        happened = live.events.wait(self._timeout_s(state, wake_s, maintenance_s, began_s))
        woken_s = time.monotonic()
        try:
            seen = self._observe(state, happened)
            before_s, self._left_s = self._left_s or began_s, time.monotonic()
            # What we wrote or read has hung, and so may have what the trainer wrote: the time is nobody's silence.
            hung_s = sum(s for s in (began_s - before_s, self._left_s - woken_s) if s > _HUNG_S)
            return _held_up(seen, self._left_s, hung_s) if hung_s else seen
        except Exception:
            live.events.put_back(happened)  # an end that was lost would be waited for for ever
            raise

    def _observe(self, state: State, happened: Happened) -> Observation:
        live, now_s = self._live, time.monotonic()
        if Source.MONITOR in happened.ended:
            live.monitor.plan_restart(now_s)
        seen = Observation(
            now_s=now_s,
            time=now_text(),
            late_s=happened.late_s,
            admission=self._attempt("an answer about GPUs", live.gpus.admission, None),
            spawn_failure=happened.spawn_failure,
            launched=happened.launched,
            request=happened.request,
            quiet=self.quiet,
            notes=self._attempt("what a background job has found", lambda: self._of_jobs(happened), ()),
        )
        attempt = live.attempt
        if attempt is not None:
            seen = self._see_events(seen, attempt, happened)
        self._attempt("who has ended", lambda: live.orphans.reap(attempt), None)
        if live.attempt is not None and isinstance(state, Running | Stopping):
            seen = self._see_attempt(seen, live.attempt, state)
        if isinstance(state, Holding) and state.failing is not None and not live.jobs.busy(replay_job.main):
            seen = replace(seen, replayed=replay_job.outcome_of(live.spec.dir))
        if isinstance(state, Holding) and state.cause not in GPU_CAUSES and now_s >= state.probe_s:
            seen = self._attempt("whether the run can go on", lambda: self._probed(seen, state), seen)
        seen = replace(seen, notes=(*seen.notes, *self._silences()))
        return replace(seen, ended=seen.ended or self._attempt("a GPU's last minutes", live.gpus.examined, None))

    def _silences(self) -> tuple[Note, ...]:
        """File systems that do not answer any more, or do again."""
        return tuple(
            Note(event=JournalEvent.ANSWERS_AGAIN, message=say(Topic.ANSWERS_AGAIN, path=path))
            if since is None
            else Note(event=JournalEvent.NO_ANSWER, message=say(Topic.NO_ANSWER, path=path, since=since))
            for path, since in self._live.lookout.news()
        )

    def _timeout_s(self, state: State, wake_s: float | None, maintenance_s: float | None, now_s: float) -> float | None:
        live = self._live
        ends = [] if wake_s is None else [wake_s]
        if isinstance(state, Running):
            found = slowest(self._settings, state.history.learned, state.watch)
            look_s = _LOOK_S if found is None else min(_LOOK_S, max(_LEAST_LOOK_S, found.limit_s / 8))
            ends = [end_s for end_s in ends if end_s > now_s] + [now_s + look_s]
        elif isinstance(state, Stopping):
            ends.append(now_s + _LOOK_S)
        if live.attempt is not None and live.attempt.orphan_s is not None:
            ends.append(now_s if live.attempt.swept else now_s + (_LOOK_S if isinstance(state, Holding) else _SWEEP_S))
        ends += [end_s for end_s in (maintenance_s, live.gpus.due_s, self._hours.due_s) if end_s is not None]
        return None if not ends else max(0.0, min(ends) - now_s)

    # -- what has happened to the attempt -----------------------------------------------------------------------------

    def _see_events(self, seen: Observation, attempt: LiveAttempt, happened: Happened) -> Observation:
        """Take in whose end was reported; `ended` follows when nothing of the attempt is left."""
        notes: tuple[Note, ...] = ()
        over = attempt.swept
        if happened.launched:
            attempt.read_trainer()
            notes += (Note(event=JournalEvent.LAUNCHED, message=_launched(attempt)),)
        if Source.KEEPER in happened.ended:
            over = _told_how(attempt)
            if not over:
                attempt.read_trainer()
                if attempt.trainer is None:
                    return self._not_started(seen, happened)
                attempt.keeper = None
                self._live.events.watch(attempt.trainer, Source.TRAINER)
                notes += (
                    Note(
                        event=JournalEvent.KEEPER_LOST,
                        message=say(Topic.KEEPER_LOST, lives=proc.alive(attempt.trainer)),
                    ),
                )
        if Source.TRAINER in happened.ended:
            attempt.orphan_s = seen.now_s
        seen = replace(seen, notes=seen.notes + notes)
        if not over:
            return seen
        self._live.attempt = None
        unknown = Evidence(attempt=attempt.number)
        looks = self._looks(attempt, seen.now_s, final=True)
        ended = self._attempt("how the attempt ended", lambda: self._evidence(attempt), unknown)
        examined = self._attempt("a GPU's last minutes", lambda: self._live.gpus.examine(ended), ended)
        said = self._attempt("the output", lambda: _of_output(attempt) + _of_those_left(attempt), ())
        saved = self._attempt("the checkpoints", lambda: attempt.fresh_checkpoint(final=True), None)
        return replace(seen, looks=looks, fresh_checkpoint=saved, notes=(*seen.notes, *said), ended=examined)

    def _looks(self, attempt: LiveAttempt, now_s: float, *, final: bool = False) -> tuple[HeartbeatReading, ...]:
        unknown = (HeartbeatReading(readable=False),)
        looks = self._attempt("a heartbeat", lambda: attempt.look(now_s, final=final), unknown)
        if final or why_unwritten(self._live.spec.run_dir) != errno.EROFS:
            return looks
        return tuple(replace(look, readable=False, recurred=None) for look in looks)  # the trainer cannot write either

    def _not_started(self, seen: Observation, happened: Happened) -> Observation:
        """The keeper has ended before there was a trainer, and could not write why: no room, or no process."""
        self._live.attempt = None
        said = happened.refusal
        text = f"the keeper ended before it started the trainer; see {self._live.spec.dir.log}"
        reason = (said.exec_error if said is not None else None) or text
        fault = machine_faults.room(self._live.spec) or machine_faults.of_exit(self._live.spec, said)
        fault = fault or MachineFault(kind=FaultKind.NO_PROCESS, why=reason)
        return replace(seen, spawn_failure=SpawnFailure(reason=reason, fault=fault))

    def _evidence(self, attempt: LiveAttempt) -> Evidence:
        found = evidence.gather(
            self._live.spec,
            attempt.number,
            oom_kills_before=attempt.oom_kills,
            lookout=self._live.lookout,
            pids=frozenset(attempt.pids),
            ends=attempt.ends,
        )
        attempt.ends.close()
        dump = attempt.stacks.dump
        return replace(
            found,
            stuck=attempt.why_stuck(),
            stacks=dump.text,
            stacks_at=dump.start,
            failed_line=attempt.failed_line(),
            written_lost=() if attempt.lost_ns is None else self._live.picker.written_since(attempt.lost_ns),
        )

    def _of_jobs(self, happened: Happened) -> tuple[Note, ...]:
        """What background jobs have found out."""
        picker = self._live.picker
        passed_over = picker.take_verified() if checkpoint_check.main.__module__ in happened.jobs else []
        passed_over += picker.take_proofs() if proof_job.main.__module__ in happened.jobs else []
        notes = tuple(Note(event=JournalEvent.CHECKPOINT_PASSED_OVER, message=message) for message in passed_over)
        named = stretch_job.outcome_of(self._live.spec.dir) if stretch_job.main.__module__ in happened.jobs else None
        return notes if named is None else (*notes, Note(event=JournalEvent.SAMPLES, message=named))

    def _probed(self, seen: Observation, state: Holding) -> Observation:
        """Whether what the run is held for is over."""
        fault = state.fault
        if fault is not None:
            of_node = fault.kind is FaultKind.NODE_ABSENT
            look = partial(rendezvous.look if of_node else machine_faults.look, fault)
            try:
                fault = self._live.lookout.reach(() if fault.path is None else (fault.path,), look)
            except (NoAnswerError, OSError):
                return replace(seen, clear=False, fault=fault)
        return replace(seen, clear=fault is None, fault=fault)

    # -- how it goes --------------------------------------------------------------------------------------------------

    def _see_attempt(self, seen: Observation, attempt: LiveAttempt, state: Running | Stopping) -> Observation:
        now_s, see = seen.now_s, self._attempt
        ending = isinstance(state, Stopping) and state.rung is Rung.DUMP and now_s >= state.until_s
        stalled = isinstance(state, Running) and state.watch.stalled_s is not None
        pid = None if attempt.trainer is None else attempt.trainer.pid
        monitor = see("signs of the monitor", lambda: self._signs.look(now_s, pid), NOTHING_SEEN)
        warnings = see("a GPU's warnings", self._live.gpus.warnings.news, ()) if self._settings.uses_gpu else ()
        return replace(
            seen,
            looks=self._looks(attempt, now_s),
            fresh_checkpoint=see("the checkpoints", attempt.fresh_checkpoint, None),
            fits=attempt.checkpoints_fit,
            saved_before=self._saved_before(state),
            busy=see("whether it is busy", lambda: attempt.busy(now_s), None) if stalled else None,
            stacks_moved=see("its stacks", attempt.stacks.moved, None) if ending else None,
            dumping=see("its stacks", lambda: attempt.stacks.writing, False),
            signs=monitor.signs,
            machine=monitor.machine,
            told=monitor.told,
            failed_line=see("the output", attempt.failed_line, None),
            survivors=see("who is left", lambda: self._survivors(attempt, state, now_s), ()),
            notes=(*seen.notes, *warnings, *see("the output", lambda: _of_output(attempt), ())),
        )

    def _saved_before(self, state: State) -> bool | None:
        """Whether there is a checkpoint to roll back to, where that is asked for."""
        stretch = bad_stretch(state.history) if isinstance(state, Running) else None
        if stretch is None:
            return None
        return self._attempt("checkpoints from before", lambda: self._live.picker.any_before(stretch), None)

    def _survivors(self, attempt: LiveAttempt, state: State, now_s: float) -> tuple[Survivor, ...]:
        """Who does not end: on SIGKILL, or though the trainer itself has ended."""
        orphans = self._live.orphans
        if isinstance(state, Stopping) and state.rung is Rung.KILL and now_s >= state.until_s:
            return orphans.survivors(attempt)
        if attempt.orphan_s is not None:
            return orphans.survivors(attempt) if now_s - attempt.orphan_s > _STRAY_S else ()
        return orphans.outlived(attempt)


def _held_up(seen: Observation, now_s: float, held_s: float) -> Observation:
    """We ourselves have waited for a disk; it is told where it was long."""
    note = Note(event=JournalEvent.NO_ANSWER, message=say(Topic.HELD_UP, held_s=held_s))
    notes = (*seen.notes, note) if held_s >= _TOLD_S else seen.notes
    return replace(seen, now_s=now_s, late_s=seen.late_s + held_s, notes=notes)


def _told_how(attempt: LiveAttempt) -> bool:
    """Whether a keeper that is gone has said how its trainer ended. Raises OSError where we cannot look now."""
    if read_exit(attempt.folder) is not None:
        return True
    try:
        os.close(os.open(attempt.folder.exit, os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in proc.BLIND:
            raise
    return False


def _of_output(attempt: LiveAttempt) -> tuple[Note, ...]:
    news = () if attempt.output is None else attempt.output.news()
    return tuple(Note(event=JournalEvent.POSITION, message=message) for message in news)


def _of_those_left(attempt: LiveAttempt) -> tuple[Note, ...]:
    """A launcher may have left a training of which nothing was seen: that is not ended without a word."""
    left = read_exit(attempt.folder)
    if left is None or not left.ended:
        return ()
    processes = tuple((one.name, one.pid) for one in left.ended[:_NAMED])
    message = say(Topic.LEFT_RUNNING, processes=processes, count=len(left.ended), failed=left.exit_code != 0)
    return (Note(event=JournalEvent.STRAY, message=message),)


def _launched(attempt: LiveAttempt) -> Message:
    pid = None if attempt.trainer is None else attempt.trainer.pid
    told = attempt.resume is not None and attempt.spec.takes_resume
    checkpoint = attempt.resume.name if attempt.resume is not None and told else None
    return say(Topic.LAUNCHED, attempt=attempt.number, pid=pid, checkpoint=checkpoint)

"""Perform: act as the policy has decided, and do what a live run needs in every state. Nothing is decided here."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fred_supervisor.attempt import evidence, machine_faults, terminate
from fred_supervisor.attempt.launch import spawn
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.nodes import rendezvous
from fred_supervisor.bundle import replay_job, stretch_job
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.linux.lookout import NoAnswerError
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.actions import (
    Action,
    AnswerStart,
    AskGpu,
    DumpStacks,
    Kill,
    Note,
    Recovered,
    ReleaseGpus,
    Replay,
    Report,
    Spawn,
    Terminate,
    WentOn,
)
from fred_supervisor.policy.history import Overrides, RunHistory
from fred_supervisor.policy.launching import effective_overrides
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.observation import SpawnFailure
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Holding, Running, Starting, State, Stopping
from fred_supervisor.policy.watch import HeartbeatLevel
from fred_supervisor.run.barrier import Barrier
from fred_supervisor.run.events import Source
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.maintenance import Maintenance
from fred_supervisor.run.record import Recorder
from fred_supervisor.run.service import Service
from fred_supervisor.store.attempt_files import read_exit, read_launch
from fred_supervisor.words.sentences import sentence


class Performer:
    """What comes of an action is not returned: it is an event of the next observation."""

    def __init__(
        self,
        live: LiveRun,
        settings: Settings,
        recorder: Recorder,
        barrier: Barrier,
        *,
        answer_start: Callable[[str | None], None],
    ) -> None:
        """`answer_start` tells the command `start` that the run is on its way (None), or why it cannot be launched."""
        self._live = live
        self._settings = settings
        self._recorder = recorder
        self._attempt = barrier.attempt
        self._answer_start = answer_start
        self._service = Service()
        self._maintenance = Maintenance(
            live, output_max_mib=settings.output_max_mib, prove_s=settings.prove_s, note=recorder.note
        )
        self._snapshots = 0

    # -- actions ------------------------------------------------------------------------------------------------------

    def perform(self, action: Action, state: State) -> None:
        """`state` is the one that came with the action."""
        self._attempt(type(action).__name__, lambda: self._perform(action, state), None)

    def _perform(self, action: Action, state: State) -> None:
        live = self._live
        match action:
            case AskGpu():
                overrides = self._overrides(state)
                live.gpus.ask(self._checkpoint_or_none(overrides), overrides)
            case ReleaseGpus():
                live.gpus.release(nvml=action.nvml)
            case Spawn():
                if not self._attempt("a launch", lambda: self._spawn(action, state), False):
                    self._give_launch_up()
            case AnswerStart():
                self._answer_start(None if action.error is None else sentence(action.error).rstrip("."))
            case DumpStacks():
                if live.attempt is not None:
                    live.attempt.ask_stacks()
            case Terminate():
                if live.attempt is not None:
                    terminate.send_sigterm(live.attempt, wake=action.wake)
            case Kill():
                self._kill()
            case Replay():
                self._replay()
            case Report():
                self._recorder.incident(action, self._checkpoint_or_none(self._overrides(state)))
                self._name_samples(action)
            case Recovered():
                self._recorder.recovered(action.beat)
            case WentOn():
                self._recorder.went_on(action)
            case Note():
                self._recorder.note(action.event, action.message)

    def _replay(self) -> None:
        spec = self._live.spec
        spec.dir.replay.unlink(missing_ok=True)
        self._live.jobs.send(replay_job.main, spec.run_dir, limit_s=replay_job.LIMIT_S, log=spec.dir.log)

    def _name_samples(self, report: Report) -> None:
        """Have those named at which a loss rose; of a COMMAND only it knows them."""
        line, beat, spec = report.evidence.failed_line, report.evidence.beat, self._live.spec
        by = None if line is None or line.topic is not Topic.DIVERGED else line.facts["by"]
        if line is None or by is None or beat is None or spec.command is not None:
            return
        spec.dir.stretch.unlink(missing_ok=True)
        words = (spec.run_dir, beat.phase or "freeze", str(line.facts["after"] or 0), str(by))
        self._live.jobs.send(stretch_job.main, *words, limit_s=stretch_job.LIMIT_S, log=spec.dir.log)

    def _overrides(self, state: State) -> Overrides:
        return effective_overrides(self._settings, state.history.overrides)

    def _next_checkpoint(self, overrides: Overrides) -> CheckpointFile | None:
        """Where the next attempt starts from; what had to be passed over is noted."""
        spec = self._live.spec
        if spec.resume == "none":
            return None
        if spec.resume != "auto":
            return CheckpointFile(path=Path(spec.resume), sidecar=None, phase=None, epoch=None, order=(0, 0, 0, 0, 0))
        return self._live.picker.newest(
            phase=spec.phase,
            overrides=overrides,
            tell=lambda message: self._recorder.note(JournalEvent.CHECKPOINT_PASSED_OVER, message),
        )

    def _checkpoint_or_none(self, overrides: Overrides) -> CheckpointFile | None:
        """The same; None also where nobody can look, for which the launch will be held."""
        try:
            return self._next_checkpoint(overrides)
        except (NoAnswerError, OSError):
            return None

    def _give_launch_up(self) -> None:
        """After a defect of ours: what has started all the same must not train beside the next attempt."""
        if self._live.attempt is None:
            terminate.kill_processes_of(self._live.spec, self._live.own_pids)
            self._live.events.post(SpawnFailure(ours=True))

    def _spawn(self, action: Spawn, state: State) -> bool:
        """True: it is on its way, or what became of it is an event."""
        assert isinstance(state, Starting)
        live, number, overrides = self._live, state.history.attempt, self._overrides(state)
        if self._settings.uses_gpu and not live.gpus.claim(action.gpus, shared=action.shared):
            live.events.post(SpawnFailure(gpu_taken=True))
            return True
        members, away = rendezvous.members(live.spec)
        if away is not None:
            live.events.post(SpawnFailure(ours=True, fault=away))
            return True
        oom_kills = evidence.oom_kills()
        try:
            found = self._next_checkpoint(overrides)
            resume = None if found is None else found.path
            launched = spawn(
                live.spec, number, overrides, resume, lookout=live.lookout, gpus=action.gpus, members=members
            )
        except NoAnswerError as error:
            live.events.post(SpawnFailure(reason=str(error), fault=machine_faults.no_answer(error)))
            return True
        except OSError as error:
            reason = f"{error.filename or 'the keeper'}: {error.strerror}"
            live.events.post(SpawnFailure(reason=reason, fault=machine_faults.of_error(live.spec, error)))
            return True
        live.attempt = LiveAttempt(
            spec=live.spec,
            number=number,
            lookout=live.lookout,
            keeper=launched.keeper,
            resume=resume,
            oom_kills=oom_kills,
            patterns=state.history.learned.patterns,
            seen=live.seen,
        )
        if len(members) > 1:
            self._attempt("which machine this is", lambda: self._say_where(number), None)
        live.events.await_answer(launched.ready_fd)
        live.events.watch(launched.keeper, Source.KEEPER)
        self._forget_first_resume()
        return True

    def _say_where(self, number: int) -> None:
        spec = self._live.spec
        rendezvous.say_where(spec.dir.attempt(number), spec, None)

    def _forget_first_resume(self) -> None:
        """`--resume` and `--phase` hold for the first attempt only."""
        live = self._live
        if live.spec.resume == "auto" and live.spec.phase is None:
            return
        live.spec = live.picker.spec = replace(live.spec, resume="auto", phase=None)
        try:
            live.spec.save()
        except OSError as error:
            complain(f"run.json: {error}; the next supervisor may resume from where this one did")

    def adopt(self, history: RunHistory, keeper: Identity | None, resume: Path | None) -> None:
        """Take over a live attempt of a supervisor that is gone."""
        live = self._live
        attempt = LiveAttempt(
            spec=live.spec,
            number=history.attempt,
            lookout=live.lookout,
            keeper=keeper,
            resume=resume,
            oom_kills=evidence.oom_kills(),
            patterns=history.learned.patterns,
            seen=live.seen,
        )
        attempt.read_trainer()
        live.attempt = attempt
        live.gpus.adopt(read_launch(attempt.folder).environment)
        live.events.watch(keeper, Source.KEEPER)

    def sweep(self, number: int) -> None:
        """Take over what an attempt has left without a keeper: it is killed until nothing is left."""
        attempt = LiveAttempt(
            spec=self._live.spec, number=number, keeper=None, lookout=self._live.lookout, orphan_s=time.monotonic()
        )
        attempt.read_trainer()
        self._live.attempt = attempt

    def _kill(self) -> None:
        """The keeper kills its tree; without one, we do."""
        attempt = self._live.attempt
        if attempt is None:
            return
        if attempt.keeper is None:
            self._live.orphans.sweep(attempt)
        else:
            terminate.kill_by_keeper(attempt.keeper)

    # -- in every turn of the loop ------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float | None:
        """When `maintain` has something to do again though nothing happens."""
        due = (self._live.monitor.due_s, self._live.alerts.due_s, self._service.due_s, self._recorder.due_s)
        return min((due_s for due_s in due if due_s is not None), default=None)

    def maintain(self, state: State) -> None:
        """Tell the service manager and people how it goes; care for the helpers, and for what a trainer has left."""
        live, now_s, care = self._live, time.monotonic(), self._attempt
        care("a word to the service manager", lambda: self._service.see(state, self._settings, now_s), None)
        care("an alert", lambda: live.alerts.update(state), None)
        if isinstance(state, Running | Stopping):
            beat = state.watch.main.beat
            care("an alarm of the trainer", lambda: self._recorder.alarm(beat), None)
        care("a background job", lambda: live.jobs.end_overdue(now_s), None)
        if not (isinstance(state, Holding) and state.failing is not None):
            live.jobs.end(replay_job.main)
        if (attempt := live.attempt) is not None:
            care("its stacks", lambda: attempt.stacks.end_overdue(now_s), None)
            care("who is left", lambda: self._sweep(attempt), None)
            care("its keeper", lambda: terminate.wake_keeper(attempt), None)
            care("the times of its output", lambda: self._maintenance.note_times(attempt), None)
        if not isinstance(state, Ended):
            care("the monitor", lambda: self._keep_monitor(state, now_s), None)
        if self._recorder.snapshots != self._snapshots:
            self._snapshots = self._recorder.snapshots
            care("a look at what goes on", lambda: self._maintain_slowly(state, now_s), None)

    def _maintain_slowly(self, state: State, now_s: float) -> None:
        """What is done with each snapshot only: when a person would see something new, or after a few seconds."""
        live = self._live
        self._service.show(state, self._recorder.detail(state), self._recorder.pace)
        pace = self._recorder.pace.record()
        known = {"images_per_s": pace.images_per_s, "eta_s": pace.eta_s, "loss": pace.loss}
        known["beat_age_s"] = beat_age_s(state, now_s)
        live.monitor.send(facts={**known, "restarts": state.history.restarts.total})
        if not isinstance(state, Running | Stopping):  # a trainer that starts has the processor to itself
            return
        if live.attempt is not None:
            self._maintenance.start_due(live.attempt)
        if self._settings.uses_gpu and live.monitor.kill_if_silent(now_s):
            self._recorder.note(JournalEvent.MONITOR, say(Topic.MONITOR_HANGS))

    def _sweep(self, attempt: LiveAttempt) -> None:
        """Kill what a trainer without a keeper has left, again and again until nothing is."""
        if attempt.orphan_s is not None and not attempt.swept and self._live.orphans.sweep(attempt):
            if read_exit(attempt.folder) is None:
                self._live.orphans.write_exit(attempt)
            attempt.swept = True

    def _keep_monitor(self, state: State, now_s: float) -> None:
        """Have one once a trainer runs, and have it measure that."""
        monitor, attempt = self._live.monitor, self._live.attempt
        if isinstance(state, Running):
            monitor.start_soon(now_s)
        monitor.follow(attempt.trainer.pid if attempt is not None and attempt.trainer is not None else None)
        if monitor.due_s is None or now_s < monitor.due_s:
            return
        who = None
        try:
            who = monitor.start()
        except OSError as error:
            complain(f"the monitor could not be started: {error}")
        self._live.events.watch(who, Source.MONITOR)


def beat_age_s(state: State, now_s: float) -> float | None:
    """Since the last sign of life; None where there was none, or it cannot be told."""
    main = state.watch.main if isinstance(state, Running | Stopping) else None
    if main is None or main.blind or main.level is HeartbeatLevel.SILENT:
        return None
    return max(0.0, now_s - main.changed_s)

"""One of several machines that decides nothing: it joins every attempt of machine 0, and leaves with the run.

Three rules. Join the newest attempt, where the GPUs here are free. When its ranks here have ended, or the run has gone
on without them, end what is left of them and join the next one. Leave when machine 0 says that the run has ended. Files
of the run dir tell it.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fred_supervisor.attempt import terminate
from fred_supervisor.attempt.launch import spawn
from fred_supervisor.attempt.nodes import rendezvous
from fred_supervisor.contract import environment
from fred_supervisor.contract.fence import GENERATION
from fred_supervisor.gpu.gate import GpuGate
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.history import Overrides, RunOutcome
from fred_supervisor.store.attempt_files import read_exit, read_launch
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.run_spec import RunSpec, load_run_spec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.sentences import sentence, stored_sentence

_LOOK_S: Final = 0.5
_SIGN_S: Final = 5.0
_ALONE_S: Final = 3600.0
"""So long without an attempt to join, and machine 0 will not come back."""
_LIVE: Final = ("starting", "running", "stopping")


@dataclass
class Joined:
    """Our part of one attempt."""

    number: int
    keeper: Identity
    folder: AttemptDir
    end_s: float | None = None
    """SIGTERM was sent; SIGKILL follows then."""


class Follower:
    """The loop of one machine."""

    def __init__(self, own: RunSpec, on_note: Callable[[str], None]) -> None:
        """`own`: what was asked for here; what is trained is said by machine 0."""
        self._own = own
        self._note = on_note
        self._gate = GpuGate(own)
        self._admitted: Admit | Deny | None = None
        """Whether the GPUs here can be had; None: the driver has not answered yet."""
        self._joined: Joined | None = None
        self._done = 0
        """The newest attempt that is over for us."""
        self._leaves = False
        self._sign_s = 0.0
        self._alone_s = time.monotonic()

    def run(self) -> RunOutcome | None:
        """Until the run has ended, somebody ends us (STOPPED), or nothing has come for an hour (None)."""
        proc.become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._note(f"Machine {self._own.node} ({socket.gethostname()}) waits for machine 0 in {self._own.run_dir}.")
        try:
            return self._follow()
        finally:
            self._gate.close()

    def _follow(self) -> RunOutcome | None:
        while True:
            outcome = self._turn(time.monotonic())
            if self._joined is None and (outcome is not None or self._leaves):
                return outcome or RunOutcome.STOPPED
            if self._joined is None and time.monotonic() - self._alone_s > _ALONE_S:
                return None
            time.sleep(_LOOK_S)

    def _on_signal(self, *_: object) -> None:
        self._leaves = True

    def _turn(self, now_s: float) -> RunOutcome | None:
        spec = self._lead()
        if spec is None:
            return None
        self._give_sign(spec, now_s)
        state = read_state(spec.dir).state
        newest = _generation(spec)
        outcome = next((one for one in RunOutcome if one == state and newest), None)
        if self._joined is not None:
            over = self._leaves or state not in _LIVE or newest > self._joined.number
            self._see_to(self._joined, spec, now_s, over=over)
        elif outcome is None and state in _LIVE and newest > self._done and not self._leaves:
            self._join(spec, newest)
        return outcome

    def _lead(self) -> RunSpec | None:
        """What machine 0 was asked for, as this machine's own."""
        found = load_run_spec(self._own.dir.path)
        if found is None or found.nodes is None:
            return None
        own = self._own
        return replace(found, node=own.node, ranks=own.ranks, gpu=own.gpu, cwd=own.cwd, rendezvous=own.rendezvous)

    def _give_sign(self, spec: RunSpec, now_s: float) -> None:
        if now_s < self._sign_s or self._leaves:
            return
        self._sign_s = now_s + _SIGN_S
        number = self._done if self._joined is None else self._joined.number
        if self._joined is None:
            self._look_at_gpus(spec)
            if self._admitted is None:
                return
        held = stored_sentence(self._admitted.message) if isinstance(self._admitted, Deny) else None
        try:
            rendezvous.give_sign(spec.dir, spec.node or 0, number or None, ended=self._joined is None, held=held)
        except OSError as error:
            complain(f"this machine's sign: {error}")

    def _look_at_gpus(self, spec: RunSpec) -> None:
        """Before this machine is offered, and again before its ranks are started."""
        before, self._admitted = self._admitted, self._gate.look(spec)
        if isinstance(self._admitted, Deny) and before != self._admitted:
            self._note(f"This machine is not offered: {sentence(self._admitted.message)}")

    def _join(self, spec: RunSpec, number: int) -> None:
        """Start our ranks, where machine 0 has launched its own and counts on us."""
        main = spec.dir.attempt(number)
        told = read_launch(main)
        if (spec.node or 0) not in told.members:
            return
        own = rendezvous.part_of(spec, number, spec.node or 0)
        if self._goes_on(number, own):
            return
        self._look_at_gpus(spec)
        if not isinstance(self._admitted, Admit):
            if self._admitted is not None:
                self._end(number)
            return
        try:
            launched = spawn(
                spec,
                number,
                told.overrides or Overrides(),
                None if not told.resume else Path(told.resume),
                lookout=Lookout(spec.run_dir),
                gpus=self._gate.hold(self._admitted),
                members=told.members,
                own=own,
            )
            os.close(launched.ready_fd)
            rendezvous.say_where(main, spec, launched.keeper)
        except OSError as error:
            self._note(f"Attempt {number} cannot be joined: {error}")
            self._end(number)
            return
        self._joined = Joined(number, launched.keeper, own)
        self._note(f"Joined attempt {number}.")

    def _goes_on(self, number: int, own: AttemptDir) -> bool:
        """Whether one of us before has joined this attempt: its ranks are taken over, or have ended meanwhile."""
        keeper = read_launch(own).keeper
        if keeper is None:
            return False
        self._joined = Joined(number, keeper, own)
        self._note(f"Took over the ranks of attempt {number}.")
        return True

    def _end(self, number: int) -> None:
        """That attempt is over for us: machine 0 is told at once."""
        self._joined, self._done, self._alone_s, self._sign_s = None, number, time.monotonic(), 0.0
        self._gate.let_go()

    def _see_to(self, joined: Joined, spec: RunSpec, now_s: float, *, over: bool) -> None:
        _reap()
        if not proc.alive(joined.keeper):
            left = read_exit(joined.folder)
            how = "is gone" if left is None else f"left with {left.exit_code if left.signal is None else -left.signal}"
            self._note(f"Attempt {joined.number}: torchrun {how}.")
            for who in _left_of(joined, spec):  # of a keeper that was killed
                proc.send(who, signal.SIGKILL)
            self._end(joined.number)
        elif over and joined.end_s is None:
            for who in _ranks(joined):
                proc.send(who, signal.SIGTERM)
            joined.end_s = now_s + spec.settings().stop_timeout_s if self._leaves else now_s + spec.settings().kill_s
        elif joined.end_s is not None and now_s >= joined.end_s:
            terminate.kill_by_keeper(joined.keeper)


def _ranks(joined: Joined) -> list[Identity]:
    """What torchrun has started here: told directly, each saves; torchrun itself would give them 30 s."""
    trainer = read_launch(joined.folder).trainer
    if trainer is None:
        return [joined.keeper]
    found = [proc.identify(pid) for pid in proc.children(trainer.pid)]
    return [who for who in found if who is not None] or [trainer]


def _left_of(joined: Joined, spec: RunSpec) -> list[Identity]:
    """What is left here of an attempt that has no keeper any more."""
    wanted = {
        environment.RUN_ID: spec.run_id,
        environment.ATTEMPT: str(joined.number),
        environment.NODE: str(spec.node or 0),
    }
    found = (proc.identify(pid) for pid in proc.pids() if proc.environment(pid, wanted) == wanted)
    return [who for who in found if who is not None and who.pid != os.getpid()]


def _generation(spec: RunSpec) -> int:
    """The newest attempt; 0: there was none yet."""
    try:
        text = (spec.dir.path / GENERATION).read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return

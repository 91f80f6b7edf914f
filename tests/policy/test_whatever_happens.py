"""What must hold for every history."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.messages import said
from tests.policy.test_cause import FULL, GONE, beat

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import AnswerStart, AskGpu, DumpStacks, Kill, ReleaseGpus, Spawn, Terminate
from fred_supervisor.policy.cause import Cause, Evidence
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.launching import answer_start, launch
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Paused,
    Running,
    Starting,
    State,
    Stopping,
)
from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import HeartbeatReading, begin
from fred_supervisor.words.sentences import sentence

ENDS = st.builds(
    Evidence,
    attempt=st.just(1),
    exit_code=st.sampled_from([None, 0, 1, 75, 78]),
    signal=st.sampled_from([None, 6, 9, 11, 15]),
    error=st.none()
    | st.builds(
        ErrorRecord,
        kind=st.sampled_from(ErrorKind),
        message=st.sampled_from(["a", "b: out of memory", "ImportError: x"]),
        section=st.sampled_from([None, "train", "eval"]),
        phase=st.sampled_from([None, "freeze", "unfreeze"]),
    ),
    beat=st.none() | st.builds(beat, epoch=st.integers(1, 9), section=st.sampled_from(Section), done=st.booleans()),
    oom_killed=st.sampled_from([None, False, True]),
    gpu_trouble=st.sampled_from([None, None, said("GPU 0: lost")]),
    gpu_others=st.sampled_from([None, said("GPU 0: process 1")]),
    fault=st.sampled_from([None, FULL, GONE, MachineFault(kind=FaultKind.UNREADABLE, why="I/O error")]),
    resumed_from=st.sampled_from([None, "/a.pth"]),
    unverified=st.booleans(),
)
LOOKS = st.builds(
    HeartbeatReading,
    stamp=st.integers(0, 9).map(str),
    beat=st.none()
    | st.builds(beat, epoch=st.integers(1, 9), step=st.integers(1, 10), section=st.sampled_from(Section)),
)
ADMISSIONS = [
    Admit(uuids=("GPU-1",)),
    Admit(blind=True),
    Deny(cause=Cause.GPU_MEMORY, message=said("GPU 0: no.")),
    Deny(cause=Cause.GPU_MEMORY, message=said("GPU 0: soon."), soon=True),
    Deny(cause=Cause.GPU, message=said("--gpu 7: no such GPU."), absent=True),
]
STEPS = st.tuples(
    st.sampled_from([0.01, 1.0, 61.0, 4000.0, 90000.0]),
    st.fixed_dictionaries(
        {},
        optional={
            "launched": st.booleans(),
            "looks": st.lists(LOOKS, max_size=1).map(tuple),
            "ended": ENDS,
            "request": st.sampled_from(Request),
            "clear": st.booleans(),
            "admission": st.sampled_from(ADMISSIONS),
            "spawn_failure": st.sampled_from([SpawnFailure(reason="x", fault=FULL), SpawnFailure(gpu_taken=True)]),
            "quiet": st.sampled_from([None, said("quiet hours")]),
            "busy": st.sampled_from([None, False, True]),
            "stacks_moved": st.sampled_from([None, False, True]),
            "dumping": st.booleans(),
            "survivors": st.sampled_from([(), (Survivor(pid=4711, wchan="nfs_wait_bit"),)]),
            "signs": st.lists(
                st.builds(Sign, kind=st.sampled_from(WarningKind), message=st.sampled_from([None, said("x")])),
                max_size=2,
            ).map(tuple),
            "late_s": st.sampled_from([0.0, 100.0]),
        },
    ),
)


def has_trainer(state: State) -> bool:
    """Whether something of a trainer may still be there."""
    return isinstance(state, Starting | Running | Stopping) or (isinstance(state, Holding) and bool(state.unkillable))


def possible(state: State, seen: dict[str, Any]) -> dict[str, Any]:
    """What can be seen in a state: nothing of a trainer that is not there, and no failure of a spawn without one."""
    impossible = set() if has_trainer(state) else {"ended", "launched", "looks", "survivors"}
    if not isinstance(state, Starting):
        impossible.add("spawn_failure")
    elif "spawn_failure" in seen:
        impossible |= {"ended", "launched", "looks", "survivors"}
    return {key: value for key, value in seen.items() if key not in impossible}


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60), st.booleans(), st.booleans(), st.integers(0, 4))
def test_whatever_happens(steps, foreign: bool, uses_gpu: bool, max_restarts: int):
    """Never two trainers, no kill of the dead, no launch while holding, no more lives than the budget.

    `start` is answered once, as soon as it can be; a run that rests holds no GPU.
    """
    with_settings = Settings(foreign=foreign, expects_beats=not foreign, max_restarts=max_restarts, uses_gpu=uses_gpu)
    state, actions = answer_start(*launch(with_settings, RunHistory()))
    now_s, living, answers = 0.0, False, 0
    for after_s, step in [(0.0, {}), *steps]:
        now_s += after_s
        seen = possible(state, step)
        before = state
        if after_s or seen:
            state, actions = decide(with_settings, state, Observation(now_s=now_s, **seen))
        if "ended" in seen or "spawn_failure" in seen:
            living = False
        for action in actions:
            match action:
                case Spawn():
                    assert not living, "two trainers at once"
                    assert isinstance(state, Starting)
                    living = True
                case AskGpu():
                    assert isinstance(state, AwaitingGpu | Holding), "nobody wants to know"
                    assert isinstance(state, Holding) or not living
                case Kill() | Terminate() | DumpStacks():
                    assert living, "a signal to the dead"
                case AnswerStart():
                    answers += 1
                case _:
                    pass
        assert answers == (not isinstance(state, AwaitingGpu | Starting) or not state.at_start)
        if isinstance(before, Holding) and isinstance(state, Starting | AwaitingGpu):
            cleared = seen.get("clear") or isinstance(seen.get("admission"), Admit)
            assert "ended" in seen if before.unkillable else cleared, "a launch while holding"
        if isinstance(before, Ended):
            assert state == before
            assert not after_s or actions == ()
        elif uses_gpu and isinstance(state, Holding | Paused | Ended) and type(state) is not type(before):
            assert any(isinstance(action, ReleaseGpus) for action in actions), "a GPU that nobody uses is held"
        assert state.history.spent <= max_restarts
        if isinstance(state, Ended) and living:
            assert "does not end on SIGKILL" in sentence(state.message)
        else:
            assert living == has_trainer(state)
        overrides = state.history.overrides
        batches = (overrides.unfreeze_batch, overrides.freeze_batch, overrides.eval_batch, overrides.accumulate)
        assert all(batch is None or batch >= 1 for batch in batches), "a batch of nothing"
        assert overrides.workers is None or overrides.workers >= 0
        wake = wake_s(with_settings, state)
        if wake is not None and (after_s or seen) and not isinstance(state, Running):
            assert wake > now_s, "it would spin"
        if isinstance(state, BackingOff | Holding | Stopping):
            assert wake is not None, "it would wait for ever"
        if isinstance(state, AwaitingGpu):
            asked = any(isinstance(action, AskGpu) for action in actions) or "admission" not in seen or state == before
            assert asked or wake is not None, "it would wait for ever"


@settings(max_examples=60, deadline=None)
@given(ENDS.filter(lambda e: e.beat is None or not e.beat.done), st.integers(0, 12))
def test_no_failure_is_answered_for_ever(ended: Evidence, max_restarts: int):
    """The same end again and again, without progress, ends the run (holding apart: it has its own end)."""
    with_settings = Settings(max_restarts=max_restarts)
    state, _ = launch(with_settings, RunHistory())
    now_s = 0.0
    for _ in range(200):
        now_s += 1000.0
        if isinstance(state, Starting | Running | Stopping):
            state, _ = decide(with_settings, state, Observation(now_s=now_s, ended=ended))
        else:
            state, _ = decide(with_settings, state, Observation(now_s=now_s, clear=False))
        if isinstance(state, Ended):
            return
    raise AssertionError(f"still {state}")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([None, *Request]),
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, False, True]), st.booleans()), min_size=1, max_size=8),
)
def test_no_rung_lasts_for_ever(request, looks):
    """Whatever a trainer that does not end does meanwhile, it is killed, and then held for; no rung has more than
    its time, if we wake when we want to.
    """
    with_settings = Settings(hang_timeout_s={"startup": 10.0})
    state: State = Running(history=RunHistory(attempt=1), watch=begin(0.0), since_s=0.0)
    now_s = 0.0 if request else 10.0
    state, _ = decide(with_settings, state, Observation(now_s=now_s, request=request))
    if not isinstance(state, Stopping):
        return
    begun_s, signals = now_s, []
    for dumping, moved, late in [*looks, *[(True, True, False)] * 100]:
        wake = wake_s(with_settings, state)
        assert wake is not None
        now_s = wake + 0.5 * late
        seen = Observation(now_s=now_s, dumping=dumping, stacks_moved=moved, survivors=(Survivor(pid=1),))
        state, actions = decide(with_settings, state, seen)
        signals += [action for action in actions if isinstance(action, Kill | Terminate)]
        if not isinstance(state, Stopping):
            break
    assert isinstance(state, Holding | Ended)
    assert any(isinstance(action, Kill) for action in signals)
    longest_s = max(with_settings.stop_timeout_s, with_settings.dump_max_s + with_settings.hang_term_moving_s)
    assert now_s - begun_s <= longest_s + with_settings.kill_s + 10.0

"""Which GPU a launch is given, what keeps it waiting, and who is to blame for an out-of-memory."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.messages import said
from tests.policy.scripted import NO_PAUSE, History, oom
from tests.policy.test_cause import FULL

from fred_supervisor.policy.actions import Action, AnswerStart, AskGpu, Note, ReleaseGpus, Report, Spawn, Terminate
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence, IncidentKind
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.gpu_admission import Admit, Deny, Gpu, GpuNeed, Holder, blame, choose
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.launching import launch
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.state import AwaitingGpu, Ended, Holding, Paused, Running, Starting, State, Stopping
from fred_supervisor.words.sentences import sentence

QUIET = say(Topic.QUIET_HOURS, window="daily 08:00-19:00 UTC", until="2026-11-22T19:00:00Z")


def gpu(index: int, **changes: Any) -> Gpu:
    facts = {"uuid": f"GPU-{index}", "index": index, "free_mib": 10000, "total_mib": 24000}
    return Gpu(**{**facts, **changes})


def holder(mib: int | None = 9000, *, ours: bool | None = False) -> Holder:
    return Holder(pid=4711, user="anna", command="python x.py", mib=mib, ours=ours)


@pytest.mark.parametrize(
    ("name", "need", "gpus", "uuids"),
    [
        ("the freest", GpuNeed(), [gpu(0), gpu(1, free_mib=20000), gpu(2, free_mib=15000)], ("GPU-1",)),
        ("unknown comes last", GpuNeed(), [gpu(0, free_mib=None), gpu(1, free_mib=1)], ("GPU-1",)),
        ("the one before, where it fits", GpuNeed(before=("GPU-0",)), [gpu(0), gpu(1, free_mib=20000)], ("GPU-0",)),
        (
            "another, where it does not",
            GpuNeed(before=("GPU-0",), memory_mib=11000),
            [gpu(0), gpu(1, free_mib=20000)],
            ("GPU-1",),
        ),
        ("not the hidden", GpuNeed(), [gpu(0), gpu(1, free_mib=20000, allowed=False)], ("GPU-0",)),
        ("none is visible", GpuNeed(), [gpu(0, allowed=False)], ()),
        ("no GPU", GpuNeed(memory_mib=1), [], ()),
        ("not the taken", GpuNeed(), [gpu(0), gpu(1, free_mib=20000, taken_by="u")], ("GPU-0",)),
        ("not the one in trouble", GpuNeed(), [gpu(0), gpu(1, free_mib=20000, trouble=said("lost"))], ("GPU-0",)),
        ("a part of a split one", GpuNeed(), [gpu(0, split=True), gpu(0, uuid="MIG-1", part=True)], ("MIG-1",)),
        ("unknown need", GpuNeed(), [gpu(0, free_mib=0, holders=(holder(),))], ("GPU-0",)),
        ("unknown memory", GpuNeed(memory_mib=9), [gpu(0, free_mib=None, total_mib=None)], ("GPU-0",)),
        ("never fits: the launch shows it", GpuNeed(memory_mib=30000), [gpu(0, free_mib=23000)], ("GPU-0",)),
        ("by index and UUID", GpuNeed(named=("1", "GPU-0")), [gpu(0), gpu(1)], ("GPU-1", "GPU-0")),
        ("by the beginning of one UUID", GpuNeed(named=("GPU-ab",)), [gpu(0, uuid="GPU-abc"), gpu(1)], ("GPU-abc",)),
        ("named, so shared", GpuNeed(named=("0",)), [gpu(0, taken_by="u")], ("GPU-0",)),
        ("named, so seen", GpuNeed(named=("0",)), [gpu(0, allowed=False)], ("GPU-0",)),
    ],
)
def test_admitted(name: str, need: GpuNeed, gpus: list[Gpu], uuids: tuple[str, ...]):
    assert choose(need, gpus) == Admit(uuids=uuids, named=bool(need.named)), name


LEFT = gpu(0, free_mib=1, holders=(holder(ours=True),))


@pytest.mark.parametrize(
    ("need", "gpus", "cause", "says"),
    [
        (GpuNeed(memory_mib=11000), [gpu(0, free_mib=9000, holders=(holder(14000),))], Cause.GPU_MEMORY,
         "GPU 0: 11000 MiB are needed and 9000 MiB are free; process 4711 (python x.py) of anna holds 14000 MiB."),
        (GpuNeed(memory_mib=11000), [gpu(0, free_mib=9000, holders=(holder(None, ours=None),))], Cause.GPU_MEMORY,
         "process 4711 (not visible from here: of a container, or gone) holds an unknown amount"),
        (GpuNeed(memory_mib=11000), [gpu(0, free_mib=9000)], Cause.GPU_MEMORY, "the driver names nobody"),
        (GpuNeed(), [LEFT], Cause.GPU_MEMORY, "left over from the attempt before"),
        (GpuNeed(), [gpu(0, taken_by="u")], Cause.GPU_MEMORY, "taken by the run u; --gpu 0 would share it"),
        (GpuNeed(), [gpu(0, trouble=said("The GPU is lost. Run: sudo reboot"))], Cause.GPU, "GPU 0: The GPU is lost. Run: sudo reboot"),
        (GpuNeed(named=("0", "1")), [gpu(0), gpu(1, trouble=said("lost."))], Cause.GPU, "GPU 1: lost."),
        (GpuNeed(named=("7",)), [gpu(0)], Cause.GPU, "--gpu 7: no such GPU; there are: 0 (GPU-0)."),
        (GpuNeed(named=("GPU-",)), [gpu(0), gpu(1)], Cause.GPU, "no such GPU"),
        (GpuNeed(named=("0",), memory_mib=11000), [gpu(0)], Cause.GPU_MEMORY, "11000 MiB are needed"),
        (GpuNeed(memory_mib=11000), [gpu(0), gpu(1, trouble=said("lost."))], Cause.GPU_MEMORY, "GPU 1: lost."),
    ],
)  # fmt: skip
def test_denied(need: GpuNeed, gpus: list[Gpu], cause: Cause, says: str):
    verdict = choose(need, gpus)
    assert isinstance(verdict, Deny)
    assert verdict.cause is cause
    assert says in sentence(verdict.message)


def test_after_an_attempt_its_memory_is_waited_for_rather_than_another_gpu_taken():
    patient = GpuNeed(before=("GPU-0",), patient=True)
    assert choose(patient, [LEFT, gpu(1)]) == choose(patient, [LEFT])
    assert choose(GpuNeed(before=("GPU-0",)), [LEFT, gpu(1)]) == Admit(uuids=("GPU-1",))
    freed = choose(GpuNeed(memory_mib=20000), [gpu(0)])  # nobody holds what is missing
    held = choose(GpuNeed(memory_mib=20000), [gpu(0, holders=(holder(14000),))])
    assert isinstance(freed, Deny)
    assert isinstance(held, Deny)
    assert (freed.soon, held.soon) == (True, False)


@pytest.mark.parametrize(
    ("name", "one", "need_mib", "least_mib"),
    [
        ("others hold a good part", gpu(0, holders=(holder(14000),)), None, 11200),
        ("a desktop does not", gpu(0, holders=(holder(1500),)), None, None),
        ("ours do not count", gpu(0, holders=(holder(14000, ours=True),)), None, None),
        ("nor do those that nobody can see", gpu(0, holders=(holder(14000, ours=None),)), None, None),
        ("it would fit without the little that others hold", gpu(0, holders=(holder(1000),)), 23500, 24000),
        ("it fits beside them, so it is the batch", gpu(0, holders=(holder(14000),)), 9000, None),
        ("memory is unknown", gpu(0, total_mib=None, holders=(holder(14000),)), None, None),
    ],
)
def test_blame(name: str, one: Gpu, need_mib: int | None, least_mib: int | None):
    found = blame([one], need_mib)
    assert (found and found.need_mib) == least_mib, name
    assert found is None or "process 4711 (python x.py) of anna" in sentence(found.message)


# -- in the life of a run -----------------------------------------------------------------------------------------------

NO = Deny(cause=Cause.GPU_MEMORY, message=said("GPU 0: no."))
LOST = Deny(cause=Cause.GPU, message=said("GPU 0: lost."))
SOON = Deny(cause=Cause.GPU_MEMORY, message=said("GPU 0: it lets go."), soon=True)
ABSENT = Deny(cause=Cause.GPU, message=said("--gpu 7: no such GPU."), absent=True)
YES = Admit(uuids=("GPU-1",))
BLIND = Admit(uuids=("GPU-1",), blind=True)
ON_GPU = replace(NO_PAUSE, uses_gpu=True)


def test_where_no_gpu_can_be_the_first_attempt_is_spawned_at_once():
    assert launch(NO_PAUSE, RunHistory(attempt=3)) == (Starting(history=RunHistory(attempt=4)), (Spawn(),))


def test_where_one_may_be_it_is_asked_for_and_the_attempt_is_not_counted_before_it_is_made():
    assert launch(ON_GPU, RunHistory(attempt=3)) == (AwaitingGpu(history=RunHistory(attempt=3)), (AskGpu(),))


HELD_NO = Holding(history=RunHistory(), cause=Cause.GPU_MEMORY, condition=said("GPU 0: no."), since_s=1.0, probe_s=31.0)
HELD_LOST = replace(HELD_NO, cause=Cause.GPU, condition=said("GPU 0: lost."))
FIRST = RunHistory(attempt=1)
RELEASED = ReleaseGpus()
NOTHING: tuple[Action, ...] = ()


@pytest.mark.parametrize(
    ("seen", "after", "actions"),
    [
        ({}, AwaitingGpu(history=RunHistory()), NOTHING),
        ({"admission": YES}, Starting(history=FIRST), (Spawn(gpus=("GPU-1",)),)),
        ({"admission": Admit()}, Starting(history=FIRST), (Spawn(),)),
        ({"admission": BLIND}, Starting(history=FIRST), (Spawn(gpus=("GPU-1",), shared=True),)),
        ({"admission": replace(YES, named=True)}, Starting(history=FIRST), (Spawn(gpus=("GPU-1",), shared=True),)),
        ({"admission": NO}, HELD_NO, (Note(event=JournalEvent.HELD, message=say(Topic.NOT_LAUNCHED, condition=said("GPU 0: no."))), RELEASED)),
        ({"admission": LOST}, HELD_LOST, (Note(event=JournalEvent.HELD, message=say(Topic.NOT_LAUNCHED, condition=said("GPU 0: lost."))), ReleaseGpus(nvml=True))),
        ({"admission": SOON}, AwaitingGpu(history=RunHistory(), ask_s=1.2, waits_for=said("GPU 0: it lets go.")), NOTHING),
        ({"admission": ABSENT}, replace(HELD_LOST, condition=said("--gpu 7: no such GPU.")),
         (Note(event=JournalEvent.HELD, message=say(Topic.NOT_LAUNCHED, condition=said("--gpu 7: no such GPU."))), ReleaseGpus(nvml=True))),
        ({"request": Request.STOP}, Ended(history=RunHistory(), outcome=RunOutcome.STOPPED, message=say(Topic.STOPPED_BEFORE_LAUNCH)),
         (Note(event=JournalEvent.STOPPED, message=say(Topic.STOPPED_BEFORE_LAUNCH)), RELEASED)),
        ({"request": Request.STOP, "admission": YES}, Ended(history=RunHistory(), outcome=RunOutcome.STOPPED, message=say(Topic.STOPPED_BEFORE_LAUNCH)),
         (Note(event=JournalEvent.STOPPED, message=say(Topic.STOPPED_BEFORE_LAUNCH)), RELEASED)),
        ({"request": Request.PAUSE, "admission": YES}, Paused(history=RunHistory()), (Note(event=JournalEvent.PAUSED, message=say(Topic.PAUSED)), RELEASED)),
        ({"request": Request.RESTART}, AwaitingGpu(history=RunHistory()), NOTHING),
        ({"request": Request.RESUME, "admission": YES}, Starting(history=FIRST), (Spawn(gpus=("GPU-1",)),)),
        ({"quiet": QUIET}, Paused(history=RunHistory(), quiet=QUIET),
         (Note(event=JournalEvent.PAUSED, message=say(Topic.PAUSED_FOR, quiet=QUIET)), RELEASED)),
    ],
)  # fmt: skip
def test_a_launch_that_waits_for_a_gpu(seen: dict[str, Any], after: State, actions: tuple[Action, ...]):
    state = AwaitingGpu(history=RunHistory())
    assert decide(ON_GPU, state, Observation(now_s=1.0, **seen)) == (after, actions)


def test_memory_that_is_about_to_be_freed_is_asked_for_again_in_a_moment():
    history = History(ON_GPU).see(admission=SOON)
    assert wake_s(ON_GPU, history.state) == history.now_s + 0.2
    history.see(after_s=0.1)
    assert history.actions == [AskGpu()]
    history.see(after_s=0.11)
    assert history.actions == [AskGpu(), AskGpu()]
    assert wake_s(ON_GPU, history.state) is None  # the answer wakes us
    assert isinstance(history.see(admission=YES).state, Starting)


@pytest.mark.parametrize(
    ("held", "admission", "after"),
    [
        (NO, YES, Starting), (NO, BLIND, Starting), (NO, NO, Holding), (NO, SOON, Holding), (NO, None, Holding),
        (LOST, YES, Starting), (LOST, BLIND, Holding), (LOST, LOST, Holding),
    ],
)  # fmt: skip
def test_what_ends_a_hold_for_a_gpu(held: Deny, admission: Admit | Deny | None, after: type):
    """A driver that says nothing does not say that its GPU was reset; that memory is free, the launch shows."""
    history = History(ON_GPU).see(admission=held).see(after_s=30.0)
    assert history.actions[-1] == AskGpu()
    history.see(admission=admission)
    assert isinstance(history.state, after)
    if after is Starting:
        assert history.actions[-2:] == [
            Note(event=JournalEvent.CLEARED, message=say(Topic.CLEARED, condition=held.message)),
            Spawn(gpus=("GPU-1",), shared=admission is BLIND),
        ]
        assert history.state.history.attempt == 1
    assert history.state.history.spent == 0


def test_a_hold_names_what_stands_in_the_way_now():
    history = History(ON_GPU).see(admission=NO).see(after_s=30.0).see(admission=LOST)
    assert isinstance(history.state, Holding)
    assert (history.state.condition, history.state.cause) == (LOST.message, Cause.GPU)
    assert history.actions[-1] == ReleaseGpus(nvml=True)
    assert isinstance(history.see(after_s=30.0).see(admission=BLIND).state, Holding)


def test_a_hold_for_the_disk_asks_no_gpu_until_it_has_cleared():
    history = History(ON_GPU).end(exit_code=1, fault=FULL)
    asked = history.actions.count(AskGpu())
    assert isinstance(history.see(after_s=31.0, clear=False).see(after_s=1.0, admission=YES).state, Holding)
    assert history.actions.count(AskGpu()) == asked
    assert isinstance(history.see(after_s=31.0, clear=True).state, AwaitingGpu)
    assert history.actions.count(AskGpu()) == asked + 1


def test_another_run_that_was_faster_is_no_failure():
    history = History(ON_GPU).see(admission=YES).see(spawn_failure=SpawnFailure(gpu_taken=True))
    assert history.state == AwaitingGpu(history=RunHistory())
    assert history.actions[-1] == AskGpu()
    history = History(ON_GPU).see(admission=YES).see(spawn_failure=SpawnFailure(gpu_taken=True), request=Request.STOP)
    assert isinstance(history.state, Ended)


# -- a launch that comes to nothing, and the command `start` that waits for word ----------------------------------------

NO_ROOM = SpawnFailure(reason="output.log: No space left on device", fault=FULL)
NO_PROCESS = SpawnFailure(reason="the keeper: Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("at_start", "seen", "after", "answer"),
    [
        (True, {"admission": ABSENT}, Ended, AnswerStart(error=said("--gpu 7: no such GPU."))),
        (False, {"admission": ABSENT}, Holding, None),
        (True, {"admission": NO}, Holding, AnswerStart(error=None)),
        (True, {"request": Request.STOP}, Ended, AnswerStart(error=None)),
        (True, {"admission": YES}, Starting, None),
        (True, {"admission": SOON}, AwaitingGpu, None),
    ],
)
def test_start_is_told_what_the_gpus_say(at_start: bool, seen: dict[str, Any], after: type, answer: Action | None):
    state = AwaitingGpu(history=RunHistory(), at_start=at_start)
    found, actions = decide(ON_GPU, state, Observation(now_s=1.0, **seen))
    assert isinstance(found, after)
    assert [action for action in actions if isinstance(action, AnswerStart)] == ([answer] if answer else [])
    if isinstance(found, AwaitingGpu | Starting):
        assert found.at_start == at_start


@pytest.mark.parametrize(
    ("at_start", "seen", "after", "answer"),
    [
        (True, {"launched": True}, Running, AnswerStart(error=None)),
        (False, {"launched": True}, Running, None),
        (True, {"spawn_failure": NO_ROOM}, Ended, AnswerStart(error=NO_ROOM.reason)),
        (False, {"spawn_failure": NO_ROOM}, Holding, None),
        (True, {"spawn_failure": NO_PROCESS}, Ended, AnswerStart(error=NO_PROCESS.reason)),
        (True, {"ended": Evidence(attempt=1, exec_error="./x: not found")}, Ended, AnswerStart(error="./x: not found")),
        (
            True,
            {"ended": Evidence(attempt=1, signal=9)},
            Starting,
            None,
        ),  # the keeper was killed; the next one will tell
        (True, {"ended": Evidence(attempt=1, signal=9), "launched": True}, Starting, AnswerStart(error=None)),
    ],
)
def test_start_is_told_how_the_launch_went(at_start: bool, seen: dict[str, Any], after: type, answer: Action | None):
    state = Starting(history=FIRST, at_start=at_start)
    found, actions = decide(NO_PAUSE, state, Observation(now_s=1.0, **seen))
    assert isinstance(found, after)
    assert [action for action in actions if isinstance(action, AnswerStart)] == ([answer] if answer else [])


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        (Request.STOP, EndedBy.STOP), (Request.PAUSE, EndedBy.PAUSE), (Request.RESTART, EndedBy.RESTART),
        (Request.RESUME, None), (None, None),
    ],
)  # fmt: skip
def test_what_is_asked_before_there_is_a_trainer_is_obeyed_when_there_is(
    request_: Request | None, after: EndedBy | None
):
    history = History().see(request=request_)
    assert isinstance(history.state, Starting)
    history.see(launched=True)
    assert history.state.by is after if isinstance(history.state, Stopping) else after is None
    if request_ in (Request.STOP, Request.PAUSE):
        gone = History().see(request=request_).see(ended=Evidence(attempt=1, signal=9))
        assert isinstance(gone.state, Ended | Paused)


@pytest.mark.parametrize(
    ("request_", "after"), [(Request.STOP, Ended), (Request.PAUSE, Paused), (Request.RESTART, Starting)]
)
def test_a_request_at_the_moment_of_an_end_is_not_lost(request_: Request, after: type):
    history = History().train(1, 1).see(request=request_, ended=Evidence(attempt=1, exit_code=1))
    assert isinstance(history.state, after)
    restarting = History().train(1, 1).see(request=Request.RESTART)
    restarting.see(request=Request.STOP, ended=Evidence(attempt=1, exit_code=75))
    assert isinstance(restarting.state, Ended)


# -- GPUs in the life of a run ------------------------------------------------------------------------------------------


def test_memory_that_others_hold_is_waited_for_three_times_then_the_batch_is_halved():
    history = History(ON_GPU).train(51, 1, phase="unfreeze")
    for _ in range(2):
        history.end(**oom(), gpu_others=said("GPU 0: process 4711 of anna holds 9 MiB."))
        assert isinstance(history.state, Holding)
        assert history.state.history.overrides.unfreeze_batch is None
        assert history.state.history.spent == 0
        assert "anna" in sentence(history.state.condition)
        history.see(admission=YES).train(51, 1, phase="unfreeze")
    history.end(**oom(), gpu_others=said("GPU 0: process 4711 of anna holds 9 MiB."))
    assert isinstance(history.state, AwaitingGpu)
    assert history.state.history.overrides.unfreeze_batch == 4


@pytest.mark.parametrize(
    "end", [{"signal": 6}, {"exit_code": 1}, {"signal": 9}, {"exit_code": 0}, {"ended_by": EndedBy.HANG}]
)
def test_a_gpu_in_trouble_is_held_for(end: dict[str, Any]):
    history = History().train(1, 1).end(**end, gpu_trouble=said("GPU 0: The GPU is lost. Run: sudo reboot"))
    assert isinstance(history.state, Holding)
    (report,) = [a for a in history.actions if isinstance(a, Report)]
    assert (report.diagnosis.cause, report.diagnosis.kind) == (Cause.GPU, IncidentKind.GPU)
    assert "sudo reboot" in sentence(report.diagnosis.message)


@pytest.mark.parametrize("end", [{"exit_code": 75}, {"exit_code": 78}])
def test_a_gpu_in_trouble_is_not_why_a_trainer_leaves_in_order(end: dict[str, Any]):
    history = History().train(1, 1).end(**end, gpu_trouble=said("GPU 0: lost"))
    assert not isinstance(history.state, Holding)


# -- quiet hours ----------------------------------------------------------------------------------------------------------


def test_quiet_hours_pause_and_their_end_resumes():
    history = History().train(1, 1).see(quiet=QUIET)
    assert isinstance(history.state, Stopping)
    assert history.state.by is EndedBy.QUIET
    assert isinstance(history.actions[-1], Terminate)
    history.see(quiet=QUIET, ended=None).end(exit_code=75)
    assert isinstance(history.state, Paused)
    history.see(quiet=QUIET)
    assert history.state == Paused(history=history.state.history, quiet=QUIET)
    history.see()
    assert isinstance(history.state, Starting)
    assert history.state.history.spent == 0


def test_whoever_resumes_within_quiet_hours_is_left_alone_until_the_next():
    history = History().train(1, 1).see(quiet=QUIET).see(quiet=QUIET, after_s=0.1)
    history.end(exit_code=75)
    history.see(quiet=QUIET, request=Request.RESUME)
    assert isinstance(history.state, Starting)
    history.see(quiet=QUIET, launched=True).see(quiet=QUIET).see(quiet=QUIET)
    assert isinstance(history.state, Running)
    assert isinstance(history.see().state, Running)
    assert isinstance(history.see(quiet=QUIET).state, Stopping)  # the next day


def test_a_pause_by_a_person_outlasts_quiet_hours():
    history = History().train(1, 1).see(request=Request.PAUSE).end(exit_code=75)
    history.see(quiet=QUIET).see(quiet=QUIET).see().see()
    assert isinstance(history.state, Paused)
    history = History().train(1, 1).see(quiet=QUIET).end(exit_code=75)
    history.see(quiet=QUIET, request=Request.PAUSE).see()
    assert isinstance(history.state, Paused)


def test_what_waits_or_is_held_does_not_begin_in_quiet_hours():
    held = History(ON_GPU).see(admission=NO).see(quiet=QUIET)
    assert isinstance(held.state, Paused)
    assert isinstance(held.see(after_s=90000.0, quiet=QUIET).state, Paused)
    waiting = History(type(NO_PAUSE)()).train(1, 1).end(exit_code=1).see(quiet=QUIET)
    assert isinstance(waiting.state, Paused)
    assert isinstance(waiting.see().state, Starting)


def test_a_run_that_ends_while_quiet_hours_begin_has_ended():
    history = History().train(1, 1).see(quiet=QUIET)
    history.see(ended=None, quiet=QUIET, request=Request.STOP).end(exit_code=75)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.STOPPED
    assert sum(isinstance(action, Spawn) for action in history.actions) == 1

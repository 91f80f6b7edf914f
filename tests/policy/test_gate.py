"""Which GPU a launch is given, what keeps it waiting, and who is to blame for an out-of-memory."""

from typing import Any

import pytest
from tests.policy.test_decide import NO_PAUSE, History, oom

from fred_supervisor.policy.actions import Launch, Note, Report, Terminate
from fred_supervisor.policy.admission import Admit, Deny, Gpu, GpuWish, Holder, blame, choose
from fred_supervisor.policy.cause import Cause, EndedBy, IncidentKind
from fred_supervisor.policy.observation import Request
from fred_supervisor.policy.state import Ended, Holding, Paused, Running, RunOutcome, Starting, Stopping


def gpu(index: int, **changes: Any) -> Gpu:
    facts = {"uuid": f"GPU-{index}", "index": index, "place": f"GPU {index}", "free_mib": 10000, "total_mib": 24000}
    return Gpu(**{**facts, **changes})


def holder(mib: int | None = 9000, *, ours: bool | None = False) -> Holder:
    return Holder(pid=4711, user="anna", command="python x.py", mib=mib, ours=ours)


@pytest.mark.parametrize(
    ("name", "wish", "gpus", "uuids"),
    [
        ("the freest", GpuWish(), [gpu(0), gpu(1, free_mib=20000), gpu(2, free_mib=15000)], ("GPU-1",)),
        ("unknown comes last", GpuWish(), [gpu(0, free_mib=None), gpu(1, free_mib=1)], ("GPU-1",)),
        ("the one before, where it fits", GpuWish(before=("GPU-0",)), [gpu(0), gpu(1, free_mib=20000)], ("GPU-0",)),
        (
            "another, where it does not",
            GpuWish(before=("GPU-0",), need_mib=11000),
            [gpu(0), gpu(1, free_mib=20000)],
            ("GPU-1",),
        ),
        ("not the hidden", GpuWish(), [gpu(0), gpu(1, free_mib=20000, allowed=False)], ("GPU-0",)),
        ("none is visible", GpuWish(), [gpu(0, allowed=False)], ()),
        ("no GPU", GpuWish(need_mib=1), [], ()),
        ("not the taken", GpuWish(), [gpu(0), gpu(1, free_mib=20000, taken_by="u")], ("GPU-0",)),
        ("not the one in trouble", GpuWish(), [gpu(0), gpu(1, free_mib=20000, trouble="lost")], ("GPU-0",)),
        ("a part of a split one", GpuWish(), [gpu(0, split=True), gpu(0, uuid="MIG-1", part=True)], ("MIG-1",)),
        ("unknown need", GpuWish(), [gpu(0, free_mib=0, holders=(holder(),))], ("GPU-0",)),
        ("unknown memory", GpuWish(need_mib=9), [gpu(0, free_mib=None, total_mib=None)], ("GPU-0",)),
        ("never fits: the launch shows it", GpuWish(need_mib=30000), [gpu(0, free_mib=23000)], ("GPU-0",)),
        ("by index and UUID", GpuWish(words=("1", "GPU-0")), [gpu(0), gpu(1)], ("GPU-1", "GPU-0")),
        ("by the beginning of one UUID", GpuWish(words=("GPU-ab",)), [gpu(0, uuid="GPU-abc"), gpu(1)], ("GPU-abc",)),
        ("named, so shared", GpuWish(words=("0",)), [gpu(0, taken_by="u")], ("GPU-0",)),
        ("named, so seen", GpuWish(words=("0",)), [gpu(0, allowed=False)], ("GPU-0",)),
    ],
)
def test_open(name: str, wish: GpuWish, gpus: list[Gpu], uuids: tuple[str, ...]):
    assert choose(wish, gpus) == Admit(uuids=uuids), name


LEFT = gpu(0, free_mib=1, holders=(holder(ours=True),))


@pytest.mark.parametrize(
    ("wish", "gpus", "cause", "says"),
    [
        (GpuWish(need_mib=11000), [gpu(0, free_mib=9000, holders=(holder(14000),))], Cause.GPU_MEMORY,
         "GPU 0: 11000 MiB are needed and 9000 MiB are free; process 4711 (python x.py) of anna holds 14000 MiB."),
        (GpuWish(need_mib=11000), [gpu(0, free_mib=9000, holders=(holder(None, ours=None),))], Cause.GPU_MEMORY,
         "process 4711 (not visible from here: of a container, or gone) holds an unknown amount"),
        (GpuWish(need_mib=11000), [gpu(0, free_mib=9000)], Cause.GPU_MEMORY, "the driver names nobody"),
        (GpuWish(), [LEFT], Cause.GPU_MEMORY, "left over from the attempt before"),
        (GpuWish(), [gpu(0, taken_by="u")], Cause.GPU_MEMORY, "taken by the run u; --gpu 0 would share it"),
        (GpuWish(), [gpu(0, trouble="The GPU is lost. Run: sudo reboot")], Cause.GPU, "GPU 0: The GPU is lost. Run: sudo reboot"),
        (GpuWish(words=("0", "1")), [gpu(0), gpu(1, trouble="lost.")], Cause.GPU, "GPU 1: lost."),
        (GpuWish(words=("7",)), [gpu(0)], Cause.GPU, "--gpu 7: no such GPU; there are: 0 (GPU-0)."),
        (GpuWish(words=("GPU-",)), [gpu(0), gpu(1)], Cause.GPU, "no such GPU"),
        (GpuWish(words=("0",), need_mib=11000), [gpu(0)], Cause.GPU_MEMORY, "11000 MiB are needed"),
        (GpuWish(need_mib=11000), [gpu(0), gpu(1, trouble="lost.")], Cause.GPU_MEMORY, "GPU 1: lost."),
    ],
)  # fmt: skip
def test_shut(wish: GpuWish, gpus: list[Gpu], cause: Cause, says: str):
    verdict = choose(wish, gpus)
    assert isinstance(verdict, Deny)
    assert verdict.cause is cause
    assert says in verdict.sentence


def test_after_an_attempt_its_memory_is_waited_for_rather_than_another_gpu_taken():
    patient = GpuWish(before=("GPU-0",), patient=True)
    assert choose(patient, [LEFT, gpu(1)]) == choose(patient, [LEFT])
    assert choose(GpuWish(before=("GPU-0",)), [LEFT, gpu(1)]) == Admit(uuids=("GPU-1",))
    freed = choose(GpuWish(need_mib=20000), [gpu(0)])  # nobody holds what is missing
    held = choose(GpuWish(need_mib=20000), [gpu(0, holders=(holder(14000),))])
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
    assert found is None or "process 4711 (python x.py) of anna" in found.sentence


# -- in the life of a run -----------------------------------------------------------------------------------------------

BAR = Deny(cause=Cause.GPU_MEMORY, sentence="GPU 0: no.")


def test_a_barred_launch_is_held_and_costs_nothing():
    history = History().see(barred=BAR)
    held = history.state
    assert isinstance(held, Holding)
    assert (held.condition, held.history.attempt, held.history.spent) == ("GPU 0: no.", 0, 0)
    assert Note(event="held", text="Not launched: GPU 0: no.") in history.actions
    history.see(barred=Deny(cause=Cause.GPU_MEMORY, sentence="GPU 0: still no."), clear=False)
    assert isinstance(history.state, Holding)
    assert history.state.condition == "GPU 0: still no."
    history.see(clear=True)
    assert isinstance(history.state, Starting)
    assert history.state.history.attempt == 1
    assert history.launches == 2


@pytest.mark.parametrize(
    ("spec", "expected"), [(Request.STOP, Ended), (Request.PAUSE, Paused), (Request.RESTART, Holding)]
)
def test_what_is_asked_at_the_gate_is_obeyed(spec: Request, expected: type):
    assert isinstance(History().see(barred=BAR, request=spec).state, expected)


def test_memory_that_others_hold_is_waited_for_three_times_then_the_batch_is_halved():
    history = History(NO_PAUSE).train(51, 1, phase="unfreeze")
    for _ in range(2):
        history.end(**oom(), gpu_others="GPU 0: process 4711 of anna holds 9 MiB.")
        assert isinstance(history.state, Holding)
        assert history.state.history.overrides.unfreeze_batch is None
        assert history.state.history.spent == 0
        assert "anna" in history.state.condition
        history.see(clear=True).train(51, 1, phase="unfreeze")
    history.end(**oom(), gpu_others="GPU 0: process 4711 of anna holds 9 MiB.")
    assert isinstance(history.state, Starting)
    assert history.state.history.overrides.unfreeze_batch == 4


@pytest.mark.parametrize(
    "end", [{"signal": 6}, {"exit_code": 1}, {"signal": 9}, {"exit_code": 0}, {"ended_by": EndedBy.HANG}]
)
def test_a_gpu_in_trouble_is_held_for(end: dict[str, Any]):
    history = History().train(1, 1).end(**end, gpu_trouble="GPU 0: The GPU is lost. Run: sudo reboot")
    assert isinstance(history.state, Holding)
    (report,) = [a for a in history.actions if isinstance(a, Report)]
    assert (report.diagnosis.cause, report.diagnosis.kind) == (Cause.GPU, IncidentKind.GPU)
    assert "sudo reboot" in report.diagnosis.sentence


@pytest.mark.parametrize("end", [{"exit_code": 75}, {"exit_code": 78}])
def test_a_gpu_in_trouble_is_not_why_a_trainer_leaves_in_order(end: dict[str, Any]):
    history = History().train(1, 1).end(**end, gpu_trouble="GPU 0: lost")
    assert not isinstance(history.state, Holding)


# -- quiet hours ----------------------------------------------------------------------------------------------------------

QUIET = "quiet hours (daily 08:00-19:00 UTC) until 2026-11-22T19:00:00Z"


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
    held = History().see(barred=BAR).see(quiet=QUIET)
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
    assert sum(isinstance(action, Launch) for action in history.actions) == 1

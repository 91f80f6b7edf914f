"""The table of the failure policy: which row answers which failure, and what its remedies do."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.messages import said
from tests.policy.test_cause import FULL, GONE, beat, error

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.heartbeat import BeatSource, Section
from fred_supervisor.policy.cause import EndedBy, Evidence, diagnose
from fred_supervisor.policy.history import BatchOrder, Learned, Overrides, Remedy, RunHistory, confirm_batch
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.remedies import ROWS, Case, Choice, choose
from fred_supervisor.policy.settings import Settings

OURS = Settings()
FOREIGN = Settings(foreign=True)
UNSEEN = Settings(foreign=True, takes_batch=False)
NO_HALVE = Settings(halve=False)
ON_WSL = Settings(expandable=False)
TRIED_EXPANDABLE = Overrides(expandable_segments=True)
OTHERS = said("GPU 0: process 1")


def case(evidence: Evidence, settings: Settings = OURS, *, same: int = 1, **history: Any) -> Case:
    """This failure, for the `same`-th time."""
    found = diagnose(evidence)
    return Case(
        settings=settings,
        history=RunHistory(failures={found.signature: same} if found.signature else {}, **history),
        diagnosis=found,
        evidence=evidence,
    )


def failed(kind: ErrorKind, *, step: int = 4, phase: str | None = "unfreeze", **changes: Any) -> Evidence:
    """An exception while training, at this place."""
    return Evidence(exit_code=1, error=error(kind), beat=beat(step=step, phase=phase), **changes)


def oom(*, step: int = 4, phase: str | None = "unfreeze", section: Section = Section.TRAIN, **more: Any) -> Evidence:
    return Evidence(
        exit_code=1, error=error(ErrorKind.CUDA_OOM), beat=beat(step=step, phase=phase, section=section), **more
    )


def printed_oom(**place: Any) -> Evidence:
    """Of a trainer whose output is read."""
    return Evidence(
        exit_code=1, text_kind=ErrorKind.CUDA_OOM, beat=beat(phase=None, source=BeatSource.GUESS, step=4, **place)
    )


HANG = Evidence(signal=9, ended_by=EndedBy.HANG, beat=beat())
SILENT_HANG = Evidence(signal=9, ended_by=EndedBy.HANG, stalled_in="train")
SEGFAULT = Evidence(signal=11, beat=beat())
CRASH = failed(ErrorKind.EXCEPTION)
IN_EVAL = Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION), beat=beat(section=Section.EVAL))
IMPORT = Evidence(exit_code=1, last_line="ImportError: x")
NAN = failed(ErrorKind.NAN_LOSS)
BAD_FILE = failed(ErrorKind.CHECKPOINT, resumed_from="/a.pth")
DIVERGED = say(
    Topic.DIVERGED, says=said("the loss explodes"), rollback=True, well_epoch=4, since=None, after=None, by=None
)
TWICE: dict[str, Any] = {"eval_failures": {"3": 2}}

TABLE = [
    (case(Evidence(exit_code=75), progressed=True), "state saved"),
    (case(Evidence(exit_code=75)), "any other"),
    (case(CRASH, progressed=True), "any other"),
    (case(Evidence(exit_code=78)), "configuration"),
    (case(Evidence(exit_code=78), same=9), "configuration"),
    (case(IMPORT, same=2), "import"),
    (case(IMPORT, same=3), "import, again"),
    (case(Evidence(exit_code=1, fault=FULL)), "environment"),
    (case(Evidence(exit_code=1, fault=GONE), same=9), "environment"),
    (case(Evidence(exit_code=1, gpu_trouble=said("lost"))), "GPU"),
    (case(oom(gpu_others=OTHERS), same=2), "GPU memory that others hold"),
    (case(oom(gpu_others=OTHERS, section=Section.EVAL), same=2), "GPU memory that others hold"),
    (case(oom(gpu_others=OTHERS), same=3), "CUDA out of memory while unfreezing"),
    (case(oom(section=Section.EVAL)), "CUDA out of memory in evaluation"),
    (case(oom(section=Section.EVAL, step=200)), "CUDA out of memory in evaluation"),
    (case(oom(section=Section.EVAL), FOREIGN), "CUDA out of memory while unfreezing"),
    (case(oom(section=Section.EVAL), NO_HALVE), "CUDA out of memory in evaluation"),
    (case(oom(step=100)), "CUDA out of memory while unfreezing"),
    (case(oom(step=101)), "CUDA out of memory after 100 steps"),
    (case(oom(step=101), FOREIGN), "CUDA out of memory after 100 steps"),
    (case(oom(), UNSEEN), "CUDA out of memory while unfreezing"),
    (case(printed_oom(), UNSEEN), "CUDA out of memory after 100 steps"),
    (case(Evidence(exit_code=1, text_kind=ErrorKind.CUDA_OOM), UNSEEN), "CUDA out of memory after 100 steps"),
    (case(printed_oom(), UNSEEN, overrides=TRIED_EXPANDABLE), "CUDA out of memory while unfreezing"),
    (case(printed_oom(), UNSEEN, learned=Learned(client=True)), "CUDA out of memory while unfreezing"),
    (case(printed_oom(), replace(UNSEEN, expandable=False)), "CUDA out of memory while unfreezing"),
    (case(printed_oom(), FOREIGN), "CUDA out of memory while unfreezing"),
    (case(oom(step=101, phase="freeze")), "CUDA out of memory after 100 steps"),
    (case(oom(step=101), overrides=TRIED_EXPANDABLE), "CUDA out of memory while unfreezing"),
    (case(failed(ErrorKind.EXCEPTION, step=101)), "any other"),
    (case(oom()), "CUDA out of memory while unfreezing"),
    (case(oom(phase=None)), "CUDA out of memory while unfreezing"),
    (case(oom(phase="freeze"), FOREIGN), "CUDA out of memory while unfreezing"),
    (case(oom(), same=9), "CUDA out of memory while unfreezing"),
    (case(oom(phase="freeze")), "CUDA out of memory in the freeze phase"),
    (case(oom(), NO_HALVE), "any other"),
    (case(oom(phase="freeze"), NO_HALVE), "any other"),
    (case(oom(phase="freeze"), NO_HALVE, same=3), "the same failure at the same step"),
    (case(BAD_FILE), "checkpoint"),
    (case(BAD_FILE, progressed=True), "checkpoint"),
    (case(failed(ErrorKind.CHECKPOINT)), "any other"),
    (case(failed(ErrorKind.NAN_LOSS, resumed_from="/a.pth")), "checkpoint"),
    (case(failed(ErrorKind.NAN_LOSS, resumed_from="/a.pth"), progressed=True), "loss not finite"),
    (case(failed(ErrorKind.EXCEPTION, resumed_from="/a.pth")), "any other"),
    (case(Evidence(signal=9, oom_killed=True)), "host out of memory"),
    (case(failed(ErrorKind.OPEN_FILES)), "too many open files"),
    (case(failed(ErrorKind.OPEN_FILES), FOREIGN), "too many open files"),
    (case(failed(ErrorKind.OPEN_FILES), FOREIGN, overrides=Overrides(open_files=True)), "any other"),
    (case(failed(ErrorKind.OPEN_FILES), same=9, overrides=Overrides(open_files=True)), "too many open files"),
    (case(failed(ErrorKind.OPEN_FILES), overrides=Overrides(open_files=True, workers=0)), "any other"),
    (case(failed(ErrorKind.SHARED_MEMORY)), "shared memory too small"),
    (case(Evidence(signal=7, shm_mib=64.0)), "shared memory too small"),
    (case(Evidence(signal=7, shm_mib=16000.0)), "any other"),
    (case(Evidence(signal=7)), "any other"),
    (case(failed(ErrorKind.SHARED_MEMORY), overrides=Overrides(workers=0)), "any other"),
    (case(failed(ErrorKind.SHARED_MEMORY), FOREIGN), "any other"),
    (case(failed(ErrorKind.DEVICE_ASSERT)), "any other"),
    (case(oom(step=101), ON_WSL), "CUDA out of memory while unfreezing"),
    (case(oom(step=101), overrides=Overrides(withdrawn=(Remedy.EXPANDABLE,))), "CUDA out of memory after 100 steps"),
    (case(SILENT_HANG), "hang of a trainer without sections"),
    (case(SILENT_HANG, same=4, learned=Learned(factors={"train": 8.0})), "hang of a trainer without sections"),
    (case(SILENT_HANG, same=5, learned=Learned(factors={"train": 16.0})), "the same failure at the same step"),
    (case(SILENT_HANG, replace(OURS, hang_timeout_s={"train": 9.0})), "hang"),
    (case(failed(ErrorKind.LEARNING)), "a part of the model is dead"),
    (case(failed(ErrorKind.LEARNING, resumed_from="/a.pth"), same=9), "a part of the model is dead"),
    (case(NAN), "loss not finite"),
    (case(replace(NAN, beat=beat(section=Section.EVAL)), **TWICE), "loss not finite"),
    (case(NAN, same=9), "loss not finite"),
    (case(IN_EVAL, eval_failures={"3": 1}), "any other"),
    (case(IN_EVAL, **TWICE), "evaluation, again"),
    (case(IN_EVAL, **TWICE, same=9), "evaluation, again"),
    (case(replace(HANG, beat=beat(section=Section.EVAL)), **TWICE), "evaluation, again"),
    (case(IN_EVAL, FOREIGN, **TWICE), "any other"),
    (case(IN_EVAL, **TWICE, overrides=Overrides(no_eval_map=True)), "any other"),
    (case(CRASH, **TWICE), "any other"),
    (case(CRASH, same=2), "any other"),
    (case(CRASH, same=3), "the same failure at the same step"),
    (case(CRASH, replace(OURS, same_failure=2), same=2), "the same failure at the same step"),
    (case(SEGFAULT, same=3, signal_crashes=3), "the same failure at the same step"),
    (case(HANG, same=2), "hang"),
    (case(HANG, same=3), "the same failure at the same step"),
    (case(SEGFAULT, signal_crashes=1), "any other"),
    (case(SEGFAULT, signal_crashes=2), "signal while unfreezing, again"),
    (case(SEGFAULT, NO_HALVE, signal_crashes=2), "any other"),
    (case(SEGFAULT, signal_crashes=2, overrides=Overrides(unfreeze_batch=1)), "any other"),
    (case(Evidence(signal=11, beat=beat(phase="freeze")), signal_crashes=2), "any other"),
    (case(CRASH, signal_crashes=2), "any other"),
    (case(Evidence(signal=9, beat=beat()), signal_crashes=2), "any other"),
    (case(Evidence(signal=9, ended_by=EndedBy.DIVERGENCE, failed_line=DIVERGED, beat=beat())), "training diverges"),
    (case(Evidence(exit_code=75, ended_by=EndedBy.DIVERGENCE, failed_line=DIVERGED, beat=beat()), same=9), "training diverges"),
    # Where the error file and the last record differ, the error file counts.
    (case(replace(oom(), error=error(ErrorKind.CUDA_OOM, section="eval"))), "CUDA out of memory in evaluation"),
    (case(replace(oom(section=Section.EVAL), error=error(ErrorKind.CUDA_OOM, section="train"))), "CUDA out of memory while unfreezing"),
    (case(replace(oom(), error=error(ErrorKind.CUDA_OOM, phase="freeze"))), "CUDA out of memory in the freeze phase"),
    (case(replace(oom(phase="freeze"), error=error(ErrorKind.CUDA_OOM, phase="unfreeze"))), "CUDA out of memory while unfreezing"),
    (case(Evidence(exit_code=1, text_kind=ErrorKind.CUDA_OOM)), "CUDA out of memory while unfreezing"),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "name"), TABLE)
def test_the_first_row_that_matches(failure: Case, name: str):
    assert next(row.name for row in ROWS if row.matches(failure)) == name


def test_every_row_is_in_the_table_above():
    assert {name for _, name in TABLE} == {row.name for row in ROWS}


REMEDIES = {
    "state saved": (Remedy.AT_ONCE,),
    "configuration": (Remedy.FAIL,),
    "import": (Remedy.BACK_OFF,),
    "import, again": (Remedy.FAIL,),
    "environment": (Remedy.HOLD,),
    "GPU": (Remedy.HOLD,),
    "GPU memory that others hold": (Remedy.HOLD,),
    "CUDA out of memory in evaluation": (Remedy.HALVE_EVAL, Remedy.NO_EVAL_MAP),
    "CUDA out of memory after 100 steps": (Remedy.EXPANDABLE,),
    "CUDA out of memory while unfreezing": (Remedy.HALVE_UNFREEZE,),
    "CUDA out of memory in the freeze phase": (Remedy.HALVE_FREEZE,),
    "checkpoint": (Remedy.ONE_OLDER, Remedy.NEWEST_AGAIN),
    "host out of memory": (Remedy.FEWER_WORKERS, Remedy.HALVE_UNFREEZE),
    "too many open files": (Remedy.MORE_OPEN_FILES, Remedy.FEWER_WORKERS),
    "shared memory too small": (Remedy.FEWER_WORKERS,),
    "a part of the model is dead": (Remedy.FAIL,),
    "training diverges": (Remedy.ROLL_BACK, Remedy.PAUSE),
    "loss not finite": (Remedy.FULL_PRECISION,),
    "evaluation, again": (Remedy.NO_EVAL_MAP,),
    "the same failure at the same step": (Remedy.FAIL,),
    "hang of a trainer without sections": (Remedy.AT_ONCE, Remedy.LONGER_LIMIT),
    "hang": (Remedy.AT_ONCE, Remedy.LONGER_LIMIT),
    "signal while unfreezing, again": (Remedy.HALVE_UNFREEZE,),
    "any other": (Remedy.BACK_OFF,),
}
"""§5 of the contract, in order."""
AGAIN = {
    "state saved",
    "import",
    "environment",
    "GPU",
    "GPU memory that others hold",
    "CUDA out of memory while unfreezing",
    "CUDA out of memory in the freeze phase",
    "too many open files",
    "shared memory too small",
    "hang of a trainer without sections",
    "signal while unfreezing, again",
    "any other",
}
"""Rows whose last remedy is tried as long as it can be applied; the others end in failure."""


def test_the_remedies_of_each_row():
    assert {row.name: row.remedies for row in ROWS} == REMEDIES
    assert {row.name for row in ROWS if row.again} == AGAIN


def answers(failure: Case, times: int) -> list[Choice]:
    """The same failure again and again, without new progress."""
    found = []
    for _ in range(times):
        found.append(choose(failure))
        failure = replace(failure, history=found[-1].history)
    return found


def with_settings(failure: Case, **changes: Any) -> Case:
    return replace(failure, settings=replace(failure.settings, **changes))


def after_progress(failure: Case, times: int) -> list[Choice]:
    """The same failure again and again, with new progress in between: what was tried may be tried again."""
    found = []
    for _ in range(times):
        found.append(choose(failure))
        failure = replace(failure, history=replace(found[-1].history, tried=()))
    return found


def test_the_unfreeze_batch_is_halved_down_to_one_and_the_effective_batch_stays():
    for batch, accumulate in ((8, 1), (7, 1), (6, 4), (3, 2), (2, 1)):
        seen = answers(with_settings(case(oom()), unfreeze_batch=batch, accumulate=accumulate), 5)
        sizes = [(c.history.overrides.unfreeze_batch, c.history.overrides.accumulate) for c in seen]
        halved = [size for c, size in zip(seen, sizes, strict=True) if c.remedy is Remedy.HALVE_UNFREEZE]
        expected, now = [], batch
        while now >= 2:
            now //= 2
            expected.append(now)
        assert [size for size, _ in halved] == expected
        for (before, _), (after, more) in zip([(batch, 0), *halved], halved, strict=False):
            assert after == before // 2
            assert after * more >= batch * accumulate - after, "about the same effective batch"
        assert seen[-1].remedy is Remedy.FAIL
        assert seen[-1].action.topic is Topic.GIVEN_UP_SMALLEST


@pytest.mark.parametrize(
    ("batch", "accumulate", "learned", "expected"),
    [
        (8, 1, Overrides(), (4, 2)),
        (8, 3, Overrides(), (4, 6)),
        (8, 3, Overrides(unfreeze_batch=4, accumulate=5), (2, 10)),
        (5, 1, Overrides(), (2, 2)),
        (2, 1, Overrides(), (1, 2)),
        (1, 1, Overrides(), (None, None)),
        (None, 1, Overrides(), (None, None)),
        (None, 1, Overrides(unfreeze_batch=2), (1, 2)),
        (8, 1, Overrides(unfreeze_batch=1, accumulate=8), (1, 8)),
    ],
)
def test_half_the_unfreeze_batch(
    batch: int | None, accumulate: int, learned: Overrides, expected: tuple[int | None, int | None]
):
    found = choose(with_settings(case(oom(), overrides=learned), unfreeze_batch=batch, accumulate=accumulate))
    assert (found.history.overrides.unfreeze_batch, found.history.overrides.accumulate) == expected
    assert found.remedy is (Remedy.FAIL if expected[0] == learned.unfreeze_batch else Remedy.HALVE_UNFREEZE)


@pytest.mark.parametrize(
    ("settings", "learned", "assumed"),
    [
        (OURS, Overrides(), False),
        (FOREIGN, Overrides(), True),
        (replace(FOREIGN, batch_set=True), Overrides(), False),
        (FOREIGN, Overrides(unfreeze_batch=4), False),
    ],
)
def test_a_batch_that_was_only_assumed_is_said_to_be(settings: Settings, learned: Overrides, assumed: bool):
    assert choose(case(oom(), settings, overrides=learned)).action.facts["assumed"] is assumed


@pytest.mark.parametrize(
    ("order", "seen", "confirmed"),
    [
        ({}, {}, False),
        ({}, {"batch": 4}, True),
        ({}, {"batch": 8}, False),
        ({"steps": 25}, {"steps": 25}, False),
        ({"steps": 25}, {"steps": 50}, True),
        ({"steps": 25}, {"steps": 49}, True),
        ({"steps": 25}, {"steps": 51}, True),
        ({"steps": 25}, {"steps": 40}, False),
        ({"steps": 1}, {"steps": 2}, True),
        ({"steps": 25, "of": None}, {"steps": 100}, True),
        ({"steps": 25, "of": None}, {"steps": 26}, False),
        ({"steps": None}, {"steps": 50}, False),
    ],
)
def test_an_order_is_confirmed_by_the_batch_or_by_the_number_of_steps(
    order: dict[str, Any], seen: dict[str, Any], confirmed: bool
):
    ordered = BatchOrder(**{"batch": 4, "of": 8, "steps": 25, **order})
    history = RunHistory(overrides=Overrides(unfreeze_batch=4), batch_order=ordered)
    after = confirm_batch(history, beat(**{"steps": 25, **seen})).batch_order
    assert after == replace(ordered, confirmed=confirmed)
    assert confirm_batch(history, None) == history


def test_an_order_remembers_with_how_many_steps_it_was_given():
    given = choose(case(oom(), replace(FOREIGN, batch_set=True))).history.batch_order
    assert given == BatchOrder(batch=4, of=8, steps=beat().steps)
    assumed = choose(case(oom(), FOREIGN)).history.batch_order
    assert assumed is not None
    assert assumed.of is None


def test_the_freeze_batch_is_halved_down_to_one():
    seen = answers(case(oom(phase="freeze")), 4)
    assert [c.history.overrides.freeze_batch for c in seen] == [4, 2, 1, 1]
    assert [c.remedy for c in seen] == [Remedy.HALVE_FREEZE] * 3 + [Remedy.FAIL]
    assert choose(with_settings(case(oom(phase="freeze")), freeze_batch=None)).remedy is Remedy.FAIL


def test_the_evaluation_batch_is_halved_down_to_one_and_then_left_out():
    seen = after_progress(case(oom(section=Section.EVAL)), 4)
    assert [c.history.overrides.eval_batch for c in seen] == [4, 2, 1, 1]
    assert [c.remedy for c in seen] == [Remedy.HALVE_EVAL] * 3 + [Remedy.NO_EVAL_MAP]
    assert seen[-1].history.overrides.no_eval_map
    once = answers(case(oom(section=Section.EVAL)), 3)
    assert [c.remedy for c in once] == [Remedy.HALVE_EVAL, Remedy.NO_EVAL_MAP, Remedy.FAIL]
    unknown = with_settings(case(oom(section=Section.EVAL)), unfreeze_batch=None)
    assert choose(unknown).remedy is Remedy.NO_EVAL_MAP


HOST = Evidence(signal=9, oom_killed=True)


@pytest.mark.parametrize(
    ("settings", "learned", "remedy", "workers"),
    [
        (OURS, Overrides(), Remedy.FEWER_WORKERS, 2),
        (OURS, Overrides(workers=2), Remedy.FEWER_WORKERS, 1),
        (OURS, Overrides(workers=1), Remedy.FEWER_WORKERS, 0),
        (OURS, Overrides(workers=0), Remedy.HALVE_UNFREEZE, 0),
        (replace(OURS, workers=None), Overrides(), Remedy.HALVE_UNFREEZE, None),
        (FOREIGN, Overrides(), Remedy.HALVE_UNFREEZE, None),
    ],
)
def test_half_the_workers(settings: Settings, learned: Overrides, remedy: Remedy, workers: int | None):
    found = choose(case(HOST, settings, overrides=learned))
    assert (found.remedy, found.history.overrides.workers) == (remedy, workers)


def test_host_memory_costs_workers_then_the_batch_then_the_run():
    seen = answers(case(HOST), 3)
    assert [c.remedy for c in seen] == [Remedy.FEWER_WORKERS, Remedy.HALVE_UNFREEZE, Remedy.FAIL]
    assert seen[-1].action.topic is Topic.GIVEN_UP_TRIED


def test_fp32_is_tried_once_and_a_foreign_trainers_precision_is_its_own():
    seen = answers(case(NAN), 2)
    assert [c.remedy for c in seen] == [Remedy.FULL_PRECISION, Remedy.FAIL]
    assert seen[0].history.overrides.full_precision
    assert choose(case(NAN, overrides=Overrides(full_precision=True))).remedy is Remedy.FAIL
    foreign = choose(case(NAN, FOREIGN))
    assert foreign.remedy is Remedy.FULL_PRECISION
    assert foreign.history.overrides == Overrides()


def test_checkpoints_that_are_blamed_add_up_until_the_newest_is_tried_again():
    before = Overrides(blamed=("/b.pth",))
    seen = answers(case(BAD_FILE, overrides=before), 3)
    assert [c.history.overrides.blamed for c in seen] == [("/b.pth", "/a.pth"), (), ()]
    assert [c.remedy for c in seen] == [Remedy.ONE_OLDER, Remedy.NEWEST_AGAIN, Remedy.FAIL]
    assert seen[0].action.facts["name"] == "a.pth"


def test_expandable_segments_leave_the_batch():
    found = choose(case(oom(step=101)))
    assert (found.remedy, found.history.overrides) == (Remedy.EXPANDABLE, Overrides(expandable_segments=True))


def test_hangs_of_one_section_are_answered_at_once_then_by_a_longer_limit_then_no_more():
    seen = answers(case(HANG), 3)
    assert [c.remedy for c in seen] == [Remedy.AT_ONCE, Remedy.LONGER_LIMIT, Remedy.FAIL]
    assert [dict(c.history.learned.factors) for c in seen] == [{}, {"train": 2.0}, {"train": 2.0}]
    elsewhere = replace(HANG, beat=beat(section=Section.EVAL))
    again = replace(case(elsewhere), history=replace(seen[0].history, failures={}))
    assert choose(again).remedy is Remedy.AT_ONCE, "each section on its own"


def test_a_limit_doubles_from_what_it_was_and_leaves_those_of_other_sections():
    learned = Learned(factors={"train": 2.0, "eval": 4.0})
    tried = choose(case(HANG)).history.tried
    found = choose(case(HANG, tried=tried, learned=learned))
    assert dict(found.history.learned.factors) == {"train": 4.0, "eval": 4.0}


def test_a_limit_set_by_hand_stays():
    tried = choose(case(HANG)).history.tried
    found = choose(case(HANG, replace(OURS, hang_timeout_s={"train": 9.0}), tried=tried))
    assert found.remedy is Remedy.LONGER_LIMIT
    assert found.history.learned == Learned()
    assert found.action.topic is Topic.LIMIT_STAYS


def test_a_remedy_is_noted_once():
    seen = answers(case(oom()), 2)
    assert len(seen[0].history.tried) == 1
    assert seen[1].history.tried == seen[0].history.tried


@pytest.mark.parametrize(("same", "topic"), [(3, Topic.GIVEN_UP)])
def test_giving_up_says_how_often_it_happened(same: int, topic: Topic):
    found = choose(case(CRASH, same=same))
    assert (found.remedy, found.action.topic, found.action.facts["times"]) == (Remedy.FAIL, topic, same)

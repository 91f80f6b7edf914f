"""Which GPU, and who is to blame, at the very numbers where the answer changes."""

from typing import Any

import pytest
from tests.policy.messages import said

from fred_supervisor.policy.cause import Cause
from fred_supervisor.policy.gpu_admission import Admit, Deny, Gpu, GpuNeed, Holder, blame, choose, describe


def gpu(index: int = 0, **changes: Any) -> Gpu:
    facts = {"uuid": f"GPU-{index}", "index": index, "free_mib": 10000, "total_mib": 24000}
    return Gpu(**{**facts, **changes})


def holder(mib: int | None, *, ours: bool | None = False, pid: int = 1) -> Holder:
    return Holder(pid=pid, user="anna", command="python x.py", mib=mib, ours=ours)


def admitted(need: GpuNeed, *gpus: Gpu) -> tuple[str, ...] | None:
    verdict = choose(need, gpus)
    return verdict.uuids if isinstance(verdict, Admit) else None


# -- what is needed, free, and there at all -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need_mib", "free_mib", "total_mib", "fits"),
    [
        (10000, 10000, 24000, True),
        (10001, 10000, 24000, False),
        (24000, 10000, 24000, False),
        (24001, 10000, 24000, True),
        (None, 0, 24000, True),
        (10001, None, 24000, True),
        (10001, 10000, None, True),
    ],
)
def test_a_need_against_what_is_free_and_what_there_is(
    need_mib: int | None, free_mib: int | None, total_mib: int | None, fits: bool
):
    """More than the whole GPU never fits: the launch shows how small the batch must be."""
    found = admitted(GpuNeed(memory_mib=need_mib), gpu(free_mib=free_mib, total_mib=total_mib))
    assert found == (("GPU-0",) if fits else None)


@pytest.mark.parametrize(("others_mib", "soon"), [(12999, True), (13000, True), (13001, False)])
def test_memory_that_nobody_holds_is_about_to_be_freed(others_mib: int, soon: bool):
    verdict = choose(GpuNeed(memory_mib=11000), [gpu(holders=(holder(others_mib),))])
    assert isinstance(verdict, Deny)
    assert verdict.soon is soon


def test_only_what_is_known_to_be_somebody_elses_counts():
    held = gpu(holders=(holder(5), holder(None), holder(100, ours=None), holder(100, ours=True), holder(7)))
    assert held.others_mib == 12


# -- which one ----------------------------------------------------------------------------------------------------------


def test_the_freest_then_the_first():
    assert admitted(GpuNeed(), gpu(1), gpu(0)) == ("GPU-0",)
    assert admitted(GpuNeed(), gpu(0), gpu(1, free_mib=10001)) == ("GPU-1",)
    assert admitted(GpuNeed(), gpu(0, free_mib=None), gpu(1, free_mib=0)) == ("GPU-0",)
    assert admitted(GpuNeed(), gpu(0, free_mib=None), gpu(1, free_mib=1)) == ("GPU-1",)
    assert admitted(GpuNeed(before=("GPU-1",)), gpu(0, free_mib=20000), gpu(1)) == ("GPU-1",)


LEFT = gpu(0, holders=(holder(9000, ours=True),))
TAKEN = gpu(0, taken_by="another")


@pytest.mark.parametrize(
    ("need", "first", "waits"),
    [
        (GpuNeed(before=("GPU-0",), patient=True), LEFT, True),
        (GpuNeed(before=("GPU-0",), patient=False), LEFT, False),
        (GpuNeed(before=("GPU-1",), patient=True), LEFT, False),
        (GpuNeed(patient=True), LEFT, False),
        (GpuNeed(before=("GPU-0",), patient=True), TAKEN, False),
        (GpuNeed(before=("GPU-0",), patient=True, memory_mib=11000), gpu(0, holders=(holder(14000),)), False),
        (GpuNeed(before=("GPU-0",), patient=True, memory_mib=11000), gpu(0), True),
        (GpuNeed(before=("GPU-0",), patient=True), gpu(0, trouble=said("lost")), False),
    ],
)
def test_only_what_clears_in_a_moment_is_waited_for_and_only_on_the_gpu_before(need: GpuNeed, first: Gpu, waits: bool):
    """One that another user has taken may be taken for days: a free one beside it is better."""
    free = gpu(1, free_mib=24000)
    verdict = choose(need, [first, free])
    if waits:
        assert isinstance(verdict, Deny)
        assert verdict.soon
    else:
        assert verdict == Admit(uuids=("GPU-1",))


def test_what_speaks_against_each_is_told_of_four_at_most():
    many = [gpu(index, taken_by="u") for index in range(6)]
    verdict = choose(GpuNeed(), many)
    assert isinstance(verdict, Deny)
    assert [part.facts["place"].facts["index"] for part in verdict.message.facts["parts"]] == [0, 1, 2, 3]
    assert not verdict.soon


@pytest.mark.parametrize(
    ("gpus", "cause", "soon"),
    [
        ([gpu(0, trouble=said("lost")), gpu(1, trouble=said("lost"))], Cause.GPU, False),
        ([gpu(0, trouble=said("lost")), TAKEN], Cause.GPU_MEMORY, False),
        ([gpu(0, trouble=said("lost")), LEFT], Cause.GPU_MEMORY, True),
        ([TAKEN, LEFT], Cause.GPU_MEMORY, True),
    ],
)
def test_one_that_may_become_free_makes_it_a_wait_for_memory(gpus: list[Gpu], cause: Cause, soon: bool):
    verdict = choose(GpuNeed(), gpus)
    assert isinstance(verdict, Deny)
    assert (verdict.cause, verdict.soon, verdict.absent) == (cause, soon, False)


# -- named by a person --------------------------------------------------------------------------------------------------

SPLIT = [gpu(0, split=True), gpu(0, uuid="MIG-a", part=True, mig=0), gpu(0, uuid="MIG-b", part=True, mig=1), gpu(1)]


@pytest.mark.parametrize(
    ("word", "uuid"),
    [
        ("0", "GPU-0"),
        ("1", "GPU-1"),
        ("MIG-a", "MIG-a"),
        ("MIG-b", "MIG-b"),
        ("MIG", None),
        ("2", None),
        ("GPU-0", "GPU-0"),
        ("GPU", None),
        ("x", None),
    ],
)
def test_an_index_means_a_whole_gpu_and_a_uuid_one_device(word: str, uuid: str | None):
    verdict = choose(GpuNeed(named=(word,)), SPLIT[::-1])
    if uuid is None:
        assert isinstance(verdict, Deny)
        assert (verdict.absent, verdict.cause) == (True, Cause.GPU)
        assert verdict.message.facts == {"word": word, "there": ("1 (GPU-1)", "0 (GPU-0)")}
    else:
        assert verdict == Admit(uuids=(uuid,), named=True)


def test_a_uuid_that_is_the_beginning_of_another_is_itself():
    gpus = [gpu(0, uuid="GPU-ab"), gpu(1, uuid="GPU-abc")]
    assert admitted(GpuNeed(named=("GPU-ab",)), *gpus) == ("GPU-ab",)
    assert admitted(GpuNeed(named=("GPU-abc",)), *gpus) == ("GPU-abc",)
    assert admitted(GpuNeed(named=("GPU-a",)), *gpus) is None


def test_of_several_named_each_must_do():
    assert admitted(GpuNeed(named=("1", "0")), gpu(0), gpu(1)) == ("GPU-1", "GPU-0")
    assert admitted(GpuNeed(named=("0", "1"), memory_mib=11000), gpu(0, free_mib=11000), gpu(1)) is None
    assert admitted(GpuNeed(named=("0", "1"), memory_mib=11000), gpu(1, free_mib=11000), gpu(0)) is None
    assert admitted(GpuNeed(named=("0",)), LEFT) is None, "its own rest is in the way there, too"


@pytest.mark.parametrize(
    ("named", "blind", "shared"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_what_may_be_shared(named: bool, blind: bool, shared: bool):
    assert Admit(named=named, blind=blind).shared is shared


# -- blame --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others_mib", "total_mib", "need_mib", "least_mib"),
    [
        # Without a known need: 1 GiB, and a tenth of the GPU, are a good part.
        (1023, 8000, None, None),
        (1024, 8000, None, 8000 - 1024 + 512),
        (2399, 24000, None, None),
        (2400, 24000, None, 24000 - 2400 + 1200),
        (1024, 10240, None, 10240 - 1024 + 512),
        # With one: whether it fits beside them.
        (4000, 24000, 20000, None),
        (4001, 24000, 20000, 24000 - 4001 + 1200),
        (100, 24000, 24000, 24000),
        (1, 24000, 24000, 24000),
        # More than the GPU has: as if it were not known.
        (2399, 24000, 24001, None),
        (2400, 24000, 24001, 24000),
        # What is needed and a little more must be free, and never more than there is.
        (20000, 24000, 6000, 6000),
        (20000, 24000, 5000, 5200),
        (0, 24000, 30000, None),
    ],
)
def test_whether_others_are_to_blame_and_how_much_must_be_free(
    others_mib: int, total_mib: int, need_mib: int | None, least_mib: int | None
):
    holders = (holder(others_mib),) if others_mib else ()
    found = blame([gpu(total_mib=total_mib, holders=holders)], need_mib)
    assert (None if found is None else found.need_mib) == least_mib


def test_the_first_gpu_that_others_hold_is_blamed():
    free, held = gpu(0), gpu(1, holders=(holder(14000),))
    found = blame([free, gpu(2, total_mib=None, holders=(holder(14000),)), held], None)
    assert found is not None
    assert found.message.facts["place"] == held.place
    assert blame([], None) is None


def test_the_greatest_holders_are_named_first_and_four_at_most():
    held = gpu(holders=tuple(holder(mib, pid=mib or 0) for mib in (5, None, 9, 7, 1, 8)))
    named = describe(held).facts["holders"]
    assert [one.facts["pid"] for one in named] == [9, 8, 7, 5]


def test_the_first_that_was_left_over_is_named():
    verdict = choose(GpuNeed(), [gpu(holders=(holder(5, ours=True, pid=7), holder(9, ours=True, pid=8)))])
    assert isinstance(verdict, Deny)
    assert "7" in str(verdict.message.document())
    assert "'pid': 8" not in str(verdict.message.document())

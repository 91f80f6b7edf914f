"""Before a launch: which GPUs, and whether they can be had now. After an out-of-memory: whether others are to blame.

A launch is admitted by what the next phase needs, never by a baseline: a desktop on the GPU keeps nobody out. What is
not known keeps nobody out either: then the launch itself shows it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.cause import Cause
from fred_supervisor.policy.message import Message, Topic, say

_BLAMED_MIB: Final = 1024
_BLAMED_SHARE: Final = 0.1
"""Other processes are blamed only if they hold at least the larger of these two amounts. A desktop holds less."""
_MORE_MIB: Final = 512
_MORE_SHARE: Final = 0.05
"""Before a retry the larger of these must be free beyond what was free when memory ran out."""
_MOST_NAMED: Final = 4


@record
class Holder:
    """A process that holds memory of a GPU. None is "not known"."""

    pid: int
    user: str | None
    command: str | None
    mib: int | None
    ours: bool | None
    """Of this run; None: not visible from here, as in a container."""

    @property
    def message(self) -> Message:
        """Who it is, and what it holds, for a person."""
        facts = {"pid": self.pid, "command": self.command, "user": self.user, "mib": self.mib}
        return say(Topic.GPU_HOLDER, visible=self.ours is not None, **facts)


@record
class Gpu:
    """A GPU, or a MIG device of one, before a launch."""

    uuid: str
    index: int
    mig: int | None = None
    """Number of the MIG device on its GPU."""
    allowed: bool = True
    """An inherited CUDA_VISIBLE_DEVICES does not hide it."""
    split: bool = False
    """It consists of MIG devices, and is not used as a whole."""
    part: bool = False
    """It is a MIG device, which has its GPU's index."""
    free_mib: int | None = None
    total_mib: int | None = None
    holders: tuple[Holder, ...] = ()
    trouble: Message | None = None
    """Why a launch on it makes no sense, with the command to run."""
    taken_by: str | None = None
    """Another run of this user that has been given it."""

    @property
    def place(self) -> Message:
        """Which one it is, for a person."""
        return say(Topic.GPU_PLACE, index=self.index, mig=self.mig)

    @property
    def others_mib(self) -> int:
        """Held by processes that are known to be somebody else's."""
        return sum(holder.mib or 0 for holder in self.holders if holder.ours is False)


@record
class GpuNeed:
    """What the next attempt needs of the GPUs."""

    named: tuple[str, ...] = ()
    """Indices and UUIDs that a person named; empty: the freest that fits."""
    memory_mib: int | None = None
    """On each GPU; None: not known, so the launch shows it."""
    before: tuple[str, ...] = ()
    """UUIDs of the attempt before, which are kept where they fit."""
    patient: bool = False
    """The attempt before has just ended: wait for its memory rather than move."""


@record
class Admit:
    """Launch, on these GPUs."""

    uuids: tuple[str, ...] = ()
    """Empty: nothing was chosen, and the trainer sees what it would see without us."""
    blind: bool = False
    """The driver could not be asked, so nothing speaks against it."""
    named: bool = False
    """A person has named these GPUs."""

    @property
    def shared(self) -> bool:
        """Another run may hold them as well: a person wants it so, or nobody could look for free ones."""
        return self.named or self.blind


@record
class Deny:
    """Do not launch now."""

    cause: Cause
    message: Message
    """Why, for a person."""
    soon: bool = False
    """It may clear in a moment: the driver takes its time to free what an attempt has held."""
    absent: bool = False
    """A GPU was named that does not exist."""


def choose(need: GpuNeed, gpus: Sequence[Gpu]) -> Admit | Deny:
    """The GPUs of the next attempt, or why there are none."""
    if need.named:
        return _named(need, gpus)
    candidates = [gpu for gpu in gpus if gpu.allowed and not gpu.split]
    if not candidates:
        return Admit()
    denials: list[Deny] = []
    for gpu in sorted(candidates, key=lambda gpu: (gpu.uuid not in need.before, -(gpu.free_mib or 0), gpu.index)):
        denial = _denial(gpu, need.memory_mib, exclusive=True)
        if denial is None:
            return Admit(uuids=(gpu.uuid,))
        if denial.soon and need.patient and gpu.uuid in need.before:
            return denial
        denials.append(denial)
    memory = any(denial.cause is Cause.GPU_MEMORY for denial in denials)
    return Deny(
        cause=Cause.GPU_MEMORY if memory else Cause.GPU,
        message=say(Topic.SEVERAL, parts=tuple(denial.message for denial in denials[:_MOST_NAMED])),
        soon=any(denial.soon for denial in denials),
    )


def _named(need: GpuNeed, gpus: Sequence[Gpu]) -> Admit | Deny:
    found: list[Gpu] = []
    for word in need.named:
        gpu = _by_name(word, gpus)
        if gpu is None:
            there = tuple(f"{gpu.index} ({gpu.uuid})" for gpu in gpus if not gpu.part)
            return Deny(cause=Cause.GPU, message=say(Topic.NO_SUCH_GPU, word=word, there=there), absent=True)
        found.append(gpu)
    for gpu in found:
        denial = _denial(gpu, need.memory_mib, exclusive=False)
        if denial is not None:
            return denial
    return Admit(uuids=tuple(gpu.uuid for gpu in found), named=True)


def _by_name(word: str, gpus: Iterable[Gpu]) -> Gpu | None:
    """By index as `nvidia-smi` counts, by UUID, or by the beginning of one UUID only."""
    if word.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(word) and not gpu.part), None)
    found = [gpu for gpu in gpus if gpu.uuid.startswith(word)]
    return found[0] if len(found) == 1 else next((gpu for gpu in found if gpu.uuid == word), None)


def _denial(gpu: Gpu, need_mib: int | None, *, exclusive: bool) -> Deny | None:
    """What speaks against one GPU now."""
    if gpu.trouble is not None:
        return Deny(cause=Cause.GPU, message=say(Topic.GPU_TROUBLE, place=gpu.place, trouble=gpu.trouble))
    dead = [holder for holder in gpu.holders if holder.ours]
    if dead:
        left = say(Topic.GPU_LEFT_OVER, place=gpu.place, holder=dead[0].message)
        return Deny(cause=Cause.GPU_MEMORY, message=left, soon=True)
    if exclusive and gpu.taken_by is not None:
        taken = say(Topic.GPU_TAKEN, place=gpu.place, run=gpu.taken_by, index=gpu.index)
        return Deny(cause=Cause.GPU_MEMORY, message=taken)
    if need_mib is None or gpu.free_mib is None or gpu.free_mib >= need_mib:
        return None
    if gpu.total_mib is None or need_mib > gpu.total_mib:  # never fits: the launch shows how far a batch must go
        return None
    facts = {"place": gpu.place, "need_mib": need_mib, "free_mib": gpu.free_mib, "holders": describe(gpu)}
    unnamed = gpu.total_mib - gpu.others_mib >= need_mib  # nobody holds what is missing: the driver is freeing it
    return Deny(cause=Cause.GPU_MEMORY, message=say(Topic.GPU_TOO_LITTLE, **facts), soon=unnamed)


def describe(gpu: Gpu) -> Message:
    """Who holds its memory, the greatest first."""
    holders = sorted(gpu.holders, key=lambda holder: -(holder.mib or 0))[:_MOST_NAMED]
    return say(Topic.GPU_HOLDERS, holders=tuple(holder.message for holder in holders))


@record
class Blame:
    """Others held the memory that an attempt lacked."""

    message: Message
    need_mib: int
    """At least so much must be free before it is tried again."""


def blame(gpus: Sequence[Gpu], need_mib: int | None) -> Blame | None:
    """Whether others, and not the batch, made an attempt run out of memory on `gpus`.

    With a known need: it would fit into the GPU, and does not fit beside them. Else they must hold a good part of it.
    """
    for gpu in gpus:
        total_mib, others_mib = gpu.total_mib, gpu.others_mib
        if total_mib is None or others_mib == 0:
            continue
        had_mib = total_mib - others_mib
        if need_mib is not None and need_mib <= total_mib:
            blamed = had_mib < need_mib
        else:
            blamed = others_mib >= max(_BLAMED_MIB, _BLAMED_SHARE * total_mib)
        if blamed:
            more_mib = had_mib + round(max(_MORE_MIB, _MORE_SHARE * total_mib))
            least_mib = min(total_mib, max(more_mib, need_mib or 0))
            return Blame(message=say(Topic.GPU_HELD_BY, place=gpu.place, holders=describe(gpu)), need_mib=least_mib)
    return None

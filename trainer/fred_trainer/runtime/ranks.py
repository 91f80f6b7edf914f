"""Several processes that train together, one a rank, as torchrun starts them; or one alone, at no cost.

Every rank takes its share of every batch. Before each optimiser step gradients, loss and positives are added up over
the ranks, so that all of them make the step that one process would have made with the whole batch. They stay alike
from there on: weights, averages, optimiser and position; what is random in the model is drawn by each for itself.

Why not torch's DistributedDataParallel: it is bound to the parameters that learn when it is made, and thawing changes
them; it averages over ranks, where the loss is divided by the positives of the whole batch; it waits inside backward,
where a silent rank cannot be told from those that wait for it; and it orders its buckets anew after the first step of
a process, so that a resumed run would not add up in the same order.
"""

import os
import select
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

import torch
from torch import Tensor, distributed
from torch.utils.data import Sampler

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.environment import rank_of
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.data import EpochBatches
from fred_trainer.errors import ConfigError, PeerError

PATIENCE_S: Final = 3600.0
"""A collective operation fails after this; whoever watches us has made up his mind before."""
GRACE_S: Final = 5.0
"""To leave in order after another rank has died."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of this training, as one of them sees it. Every method but `release` has to be called by all."""

    rank: int = 0
    """Of this process."""
    count: int = 1
    _watch: "PeerWatch | None" = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        """This process is the one that writes."""
        return self.rank == 0

    def any(self, *said: bool) -> tuple[bool, ...]:
        """For each of `said` whether any rank says so."""
        if self.count == 1:
            return said
        votes = torch.tensor(said, dtype=torch.uint8)
        distributed.all_reduce(votes, distributed.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes.tolist())

    def lead(self, find: Callable[[], Value]) -> Value:
        """What `find` returns on rank 0, and is called there only. Plain types: they are pickled."""
        if self.count == 1:
            return find()
        found = [find() if self.leads else None]
        distributed.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[return-value]  # of rank 0

    def add_up(self, sums: Sequence[Tensor], means: Sequence[Tensor] = ()) -> None:
        """Replace each of `sums` by its sum over all ranks and each of `means` by its mean, in one exchange."""
        if self.count == 1:
            return
        flat = torch.cat([one.reshape(-1) for one in (*sums, *means)])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [one.numel() for one in (*sums, *means)])
        for at, (one, part) in enumerate(zip((*sums, *means), parts, strict=True)):
            one.copy_((part if at < len(sums) else part / self.count).view(one.shape))

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Replace `tensors` by those of rank 0."""
        if self.count > 1:
            for one in tensors:
                distributed.broadcast(one, src=0)

    def merge(self, mine: dict[str, Value]) -> dict[str, Value]:
        """What all ranks have together."""
        if self.count == 1:
            return mine
        parts: list[dict[str, Value]] = [{}] * self.count
        distributed.all_gather_object(parts, mine)
        return {key: value for part in parts for key, value in part.items()}

    def share(self, batches: EpochBatches) -> "Sampler[list[tuple[int, int]]]":
        """This rank's part of `batches`."""
        return batches if self.count == 1 else Share(batches, self)

    def part(self, size: int) -> int:
        """Most samples that a rank has of a batch of `size`."""
        return -(-size // self.count)

    def reseed(self, seed: int, samples: int) -> None:
        """Before the step after `samples` samples, on all but rank 0: random numbers of the rank's own.

        A function of its arguments, so a checkpoint that rank 0 writes says all there is to say.
        """
        if not self.leads:
            torch.manual_seed(zlib.crc32(f"{seed} {samples} {self.rank}".encode()))

    def wait(self) -> None:
        """Until all ranks are here."""
        self.any(False)

    def release(self) -> None:
        """From here on the death of another rank does not end this one: it is leaving."""
        if self._watch is not None:
            self._watch.close()

    def leave(self) -> None:
        """In good order: all ranks are done."""
        if self.count > 1:
            self.wait()
            self.release()
            distributed.destroy_process_group()


ALONE: Final = Ranks()


class Share(Sampler[list[tuple[int, int]]]):
    """One rank's part of every batch: every `count`-th sample from `rank` on.

    Where a batch has fewer samples than there are ranks, those left over repeat its first one, for every rank has to
    make every step; it must not be counted.
    """

    def __init__(self, batches: EpochBatches, ranks: Ranks) -> None:
        self._batches = batches
        self._ranks = ranks

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for keys in self._batches:
            yield keys[self._ranks.rank :: self._ranks.count] or keys[:1]

    def __len__(self) -> int:
        return len(self._batches)


def started_as() -> tuple[int, int]:
    """(rank, number of ranks) of this process, from the environment that torchrun or srun gives. Raises ConfigError."""
    rank, _, count = rank_of(os.environ)
    if not (rank.isdecimal() and count.isdecimal()) or int(rank) >= int(count):
        raise ConfigError(
            "RANK={rank} WORLD_SIZE={count}: no such rank; start with torchrun, or unset both", rank=rank, count=count
        )
    return int(rank), int(count)


def join(device: torch.device, hb: Heartbeat) -> Ranks:
    """Meet the other ranks, on one machine or several. Raises ConfigError for an impossible environment."""
    rank, count = started_as()
    if count == 1:
        return Ranks()
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            "WORLD_SIZE={count} without {missing}: start with torchrun, or unset it",
            count=count,
            missing=" and ".join(missing),
        )
    if os.environ.get("LOCAL_WORLD_SIZE", str(count)) == str(count):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that does not resolve is no obstacle
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, timeout=timedelta(seconds=PATIENCE_S), rank=rank, world_size=count, init_method="env://"
    )
    peers: list[tuple[str, int]] = [("", 0)] * count
    distributed.all_gather_object(peers, (_machine(), os.getpid()))
    pids = {peer: pid for peer, (machine, pid) in enumerate(peers) if machine == _machine()}
    return Ranks(rank=rank, count=count, _watch=PeerWatch(pids, rank, hb))


def _machine() -> str:
    """Equal where a pid means the same process: one boot of one kernel, one namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"


class PeerWatch:
    """Ends this process when another rank has died and we wait for it for ever, as NCCL does.

    A thread, for the main one may be stuck in the driver. It sleeps until one of the others ends.
    """

    def __init__(self, pids: Mapping[int, int], rank: int, hb: Heartbeat) -> None:
        """`pids` of the ranks of this machine, by rank; ours is `rank`."""
        self._hb = hb
        self._left = threading.Event()
        self._poll = select.poll()
        self._peers: dict[int, int] = {}
        for peer, pid in pids.items():
            if peer != rank:
                self._watch(peer, pid)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.POLLIN)
        threading.Thread(target=self._run, name="peers", daemon=True).start()

    def close(self) -> None:
        if not self._left.is_set():
            self._left.set()
            os.eventfd_write(self._wake, 1)

    def _watch(self, peer: int, pid: int) -> None:
        try:
            fd = os.pidfd_open(pid)
        except OSError:  # gone already: torchrun sees to it
            return
        self._peers[fd] = peer
        self._poll.register(fd, select.POLLIN)

    def _run(self) -> None:
        ended = [self._peers[fd] for fd, _ in self._poll.poll() if fd in self._peers]
        if not ended or self._left.wait(GRACE_S):
            return
        error = PeerError("rank {ended} has ended, and this rank waits for it in vain", ended=ended[0])
        self._hb.error(error)
        sys.stderr.write(f"fred-train: {error.said()}\n")
        os._exit(TrainerExit.FAILURE)

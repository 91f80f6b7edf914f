"""In which order an epoch goes through the training set, and how to go on in the middle of it."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochOrder:
    """The permutation of each epoch: a pure function of (seed, epoch), for one version of numpy."""

    def __init__(self, length: int, seed: int) -> None:
        """`length` samples, at least one, else ValueError."""
        if length < 1:
            raise ValueError(f"an order of {length} samples: there must be one at least")
        self.length = length
        self.seed = seed

    def order(self, epoch: int) -> list[int]:
        """Every index below `length` once."""
        permutation: list[int] = np.random.default_rng((self.seed, epoch)).permutation(self.length).tolist()
        return permutation


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys for the rest of one epoch: `batch_sampler` of the DataLoader.

    They are `order(epoch)[start:]`, cut every `batch_size`. `start` counts samples, not batches, so that a run that
    goes on with another batch size sees exactly the remaining samples, none twice. The last batch may be smaller;
    `drop_last` leaves it out instead. `epoch` and `start` may be set anew between two iterations, which is how a
    loader with persistent workers goes from epoch to epoch.
    """

    def __init__(
        self, order: EpochOrder, *, epoch: int, batch_size: int, start: int = 0, drop_last: bool = False
    ) -> None:
        """Raises ValueError unless `batch_size` is positive and `start` from 0 to the length of the order."""
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size}: must be 1 at least")
        if not 0 <= start <= order.length:
            raise ValueError(f"start {start} lies outside an epoch of {order.length} samples: another data set?")
        self.order = order
        self.epoch = epoch
        self.batch_size = batch_size
        self.start = start
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, size = self.epoch, self.batch_size
        left = self.order.order(epoch)[self.start :]
        whole = len(left) - len(left) % size if self.drop_last else len(left)
        for at in range(0, whole, size):
            yield [(epoch, index) for index in left[at : at + size]]

    def __len__(self) -> int:
        left = self.order.length - self.start
        return left // self.batch_size if self.drop_last else -(-left // self.batch_size)

"""Batches of samples for one epoch, made by worker processes that never outlive the trainer."""

import ctypes
import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import torch
from torch.utils.data import DataLoader, get_worker_info

from fred_trainer.data import Batch, EpochBatches, PairDataset, Sample, collate, init_worker
from fred_trainer.train.state import Training

PREFETCHED: Final = 2
"""Batches of each worker that wait for the trainer."""
_PR_SET_PDEATHSIG: Final = 1


def samples_of(training: Training, dataset: PairDataset, batches: EpochBatches) -> Iterator[Batch]:
    """Batches of samples. Raises DataError when too many of them cannot be read."""
    return training.unreadable.watch(loader(training, dataset, batches))


def loader(training: Training, dataset: PairDataset, batches: EpochBatches) -> DataLoader[Batch]:
    """Workers live for one epoch, and never longer than this process."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # of samples, where collate makes batches
        batch_sampler=training.ranks.share(batches),
        num_workers=training.settings.workers,
        prefetch_factor=PREFETCHED if training.settings.workers else None,
        multiprocessing_context="fork" if training.settings.workers else None,  # others import torch again, 8 s each
        collate_fn=shared,
        worker_init_fn=be_worker,
        pin_memory=training.device.type == "cuda",
        generator=torch.Generator(),  # else every new loader draws from the generator that training draws from
    )


def shared(samples: Sequence[Sample]) -> Batch:
    """A batch, in a worker in shared memory already.

    Else torch's queue moves it there, in a thread of the worker: where that finds no room, it prints so and drops the
    batch, and the trainer waits for it for ever. Here the error is the worker's own, and the trainer gets it.
    """
    batch = collate(samples)
    if get_worker_info() is not None:
        for tensor in (batch.images, *batch.boxes):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    return batch


def fetch_ahead(training: Training, size: int) -> None:
    """Take batches of `size` from every worker, while as many wait as in training. Raises what a worker raises."""
    workers = training.settings.workers
    batches = EpochBatches(training.order, epoch=1, batch_size=size, start=0)
    for _ in islice(loader(training, training.train_set, batches), PREFETCHED * workers + 1):
        pass


def be_worker(number: int) -> None:
    """Die with the trainer, however it dies; leave the signals that are meant for it to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init_worker(number)

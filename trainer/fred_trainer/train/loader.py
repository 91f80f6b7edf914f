"""Batches of samples for one epoch, made by worker processes that never outlive the trainer."""

import ctypes
import signal
from collections.abc import Iterator
from typing import Final

import torch
from torch.utils.data import DataLoader

from fred_trainer.data import Batch, EpochBatches, PairDataset, collate, init_worker
from fred_trainer.train.state import Training

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
        multiprocessing_context="fork" if training.settings.workers else None,  # others import torch again, 8 s each
        collate_fn=collate,
        worker_init_fn=be_worker,
        pin_memory=training.device.type == "cuda",
        generator=torch.Generator(),  # else every new loader draws from the generator that training draws from
    )


def be_worker(number: int) -> None:
    """Die with the trainer, however it dies; leave the signals that are meant for it to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init_worker(number)

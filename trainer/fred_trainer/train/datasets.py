"""From the settings to the two sets that a process trains and validates on."""

from typing import NamedTuple

from fred_trainer.data import Augmentation, DataError, PairDataset, UnreadableImages, open_cache, open_index, split
from fred_trainer.train.settings import QUICK_BATCHES, TrainSettings

CACHE_FOLDER = "cache"
"""In the run dir."""


class Datasets(NamedTuple):
    """What there is to train with."""

    train: PairDataset
    validation: PairDataset
    unreadable: UnreadableImages
    """Notes what cannot be read of either."""
    fingerprint: str
    """Of the data set."""
    contents: dict[str, list[int]]
    """`Index.contents` of it."""


def make_datasets(settings: TrainSettings) -> Datasets:
    """Index, split, and make samples of it, kept in a cache when that is asked for. Raises DataError."""
    index = open_index(settings.data, settings.fred_root)
    parts = split(
        index, modality=settings.modality, name=settings.split, negatives=settings.negatives, train_on=settings.train_on
    )
    train_pairs, validation_pairs = parts.train, parts.validation
    largest_batch = max(settings.batch_size(settings.phase_of(epoch)) for epoch in (1, settings.goal_epoch))
    if settings.quick_test:
        train_pairs = train_pairs[: QUICK_BATCHES * largest_batch]
        validation_pairs = validation_pairs[: QUICK_BATCHES * largest_batch]
    if len(train_pairs) < largest_batch:
        raise DataError(
            "{data} has {count} training samples, fewer than one batch of {largest_batch}: add "
            "data or lower the batch size",
            data=settings.data,
            count=len(train_pairs),
            largest_batch=largest_batch,
        )
    train, validation = (
        PairDataset(
            pairs,
            modality=settings.modality,
            input_size=settings.input_size,
            augment=pairs is train_pairs and not settings.no_augment,
            seed=settings.seed,
            augmentation=Augmentation(
                mosaic=settings.mosaic, time_shift=settings.time_shift, modality_dropout=settings.modality_dropout
            ),
        )
        for pairs in (train_pairs, validation_pairs)
    )
    if settings.cache != "none":
        cache = open_cache(
            settings.cache,
            settings.run_dir / CACHE_FOLDER,
            key=(index.look, train.digest, validation.digest),
            frames=train.frames + validation.frames,
            frame_bytes=max(train.frame_bytes, validation.frame_bytes),
            gib=settings.cache_gib,
        )
        train.keep_in(cache, 0)
        validation.keep_in(cache, train.frames)
    return Datasets(
        train, validation, UnreadableImages(len(train) + len(validation)), index.fingerprint, index.contents()
    )

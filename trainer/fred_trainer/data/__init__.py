"""FRED on disk → index → paired RGB + event samples; and synthetic sequences in the same layout."""

from fred_trainer.data.augment import Augmentation
from fred_trainer.data.check import report
from fred_trainer.data.dataset import Batch, PairDataset, Sample, collate, init_worker
from fred_trainer.data.errors import DataError
from fred_trainer.data.frame_cache import FrameCache, open_cache
from fred_trainer.data.geometry import boxes_to_source, canvas
from fred_trainer.data.index import Index, Pair
from fred_trainer.data.sampler import EpochBatches, EpochOrder
from fred_trainer.data.splits import MODALITIES, Split, split
from fred_trainer.data.stored_index import open_index, read_index
from fred_trainer.data.synth import write_sequences
from fred_trainer.data.unreadable import Unreadable

__all__ = [
    "MODALITIES",
    "Augmentation",
    "Batch",
    "DataError",
    "EpochBatches",
    "EpochOrder",
    "FrameCache",
    "Index",
    "Pair",
    "PairDataset",
    "Sample",
    "Split",
    "Unreadable",
    "boxes_to_source",
    "canvas",
    "collate",
    "init_worker",
    "open_cache",
    "open_index",
    "read_index",
    "report",
    "split",
    "write_sequences",
]

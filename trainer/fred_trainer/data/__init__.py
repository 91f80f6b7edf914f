"""FRED on disk → index → paired RGB + event samples; and synthetic sequences in the same layout.

Rooms: `read` makes an index, `splits` chooses what is trained on, `samples` makes tensors, `audit` reports on a data
set, `synth` writes one.
"""

from fred_trainer.data.audit.contact_sheet import write_sheet
from fred_trainer.data.audit.image_files import audit_images
from fred_trainer.data.audit.report import counted, report
from fred_trainer.data.errors import DataError, UnreadableImageError
from fred_trainer.data.read.image import Image, read_image
from fred_trainer.data.read.index import Index
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.published import TEST_SEQUENCES, SplitName
from fred_trainer.data.read.sequences import read_sequence
from fred_trainer.data.read.stored_index import open_index, read_index
from fred_trainer.data.samples.augment import Augmentation
from fred_trainer.data.samples.dataset import FRED_SIZE, Batch, PairDataset, Sample, collate, init_worker
from fred_trainer.data.samples.frame_cache import FrameCache, open_cache
from fred_trainer.data.samples.geometry import boxes_to_source, canvas, clip_to_frame
from fred_trainer.data.samples.sampler import EpochBatches, EpochOrder
from fred_trainer.data.samples.unreadable import UnreadableImages
from fred_trainer.data.splits import MODALITIES, TRAIN_ON, Split, TrainOn, has_images, select_test_pairs, split
from fred_trainer.data.synth.conditions import SCENERIES, Scenery
from fred_trainer.data.synth.sequence_writer import LAYOUTS, write_sequences

__all__ = [
    "FRED_SIZE",
    "LAYOUTS",
    "MODALITIES",
    "SCENERIES",
    "TEST_SEQUENCES",
    "TRAIN_ON",
    "Augmentation",
    "Batch",
    "DataError",
    "EpochBatches",
    "EpochOrder",
    "FrameCache",
    "Image",
    "Index",
    "Pair",
    "PairDataset",
    "Sample",
    "Scenery",
    "Split",
    "SplitName",
    "TrainOn",
    "UnreadableImageError",
    "UnreadableImages",
    "audit_images",
    "boxes_to_source",
    "canvas",
    "clip_to_frame",
    "collate",
    "counted",
    "has_images",
    "init_worker",
    "open_cache",
    "open_index",
    "read_image",
    "read_index",
    "read_sequence",
    "report",
    "select_test_pairs",
    "split",
    "write_sequences",
    "write_sheet",
]

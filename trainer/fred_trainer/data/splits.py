"""What to train on and what to validate on: whole sequences, never frames, never the test set."""

from dataclasses import dataclass
from typing import Final, Literal

from fred_trainer.data.errors import DataError
from fred_trainer.data.index import Index, Pair

Modality = Literal["dual", "rgb", "event"]
MODALITIES: Final[tuple[Modality, ...]] = ("dual", "rgb", "event")


@dataclass(frozen=True, slots=True)
class Split:
    """Two sets of frames with no sequence in common, each ordered by sequence and frame."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]


def check_modality(modality: str) -> None:
    """Raises ValueError for anything but `dual`, `rgb` and `event`."""
    if modality not in MODALITIES:
        raise ValueError(f"unknown modality {modality!r}: choose one of {', '.join(MODALITIES)}")


def has_images(pair: Pair, modality: str) -> bool:
    """Whether `pair` has what `modality` needs: both images for `dual`, else the one."""
    return (modality == "event" or pair.rgb is not None) and (modality == "rgb" or pair.event is not None)


def split(index: Index, *, modality: str = "dual", negatives: bool = False, validation_share: float = 0.15) -> Split:
    """Hold out the last sequences for validation; FRED has no official validation split.

    The held-out ones are a block of neighbouring ids, because neighbours may share a recording session, and the same
    block for every modality, so that results compare. Sequences of the test subset are in neither set. Without
    `negatives` only annotated frames are kept, as in FRED's official loader. Raises DataError when a set would be
    empty, ValueError for an unknown modality or a share not between 0 and 1.
    """
    check_modality(modality)
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share must lie between 0 and 1, not {validation_share}")
    usable = [pair for pair in index.pairs if pair.subset != "test"]
    sequences = list(dict.fromkeys(pair.sequence for pair in usable if pair.boxes))
    if len(sequences) < 2:
        raise DataError(
            f"cannot split: {len(sequences)} annotated sequences outside test, and training and validation need one"
            " each at least; add sequences"
        )
    held_out = set(sequences[-max(1, min(round(validation_share * len(sequences)), len(sequences) - 1)) :])
    first_held_out = min(held_out)
    kept = [pair for pair in usable if has_images(pair, modality) and (negatives or pair.boxes)]
    parts = Split(
        train=tuple(pair for pair in kept if pair.sequence < first_held_out),
        validation=tuple(pair for pair in kept if pair.sequence >= first_held_out),
    )
    for name, pairs in (("training", parts.train), ("validation", parts.validation)):
        if not any(pair.boxes for pair in pairs):
            raise DataError(
                f"no {name} frame for modality {modality}: no annotated frame of its sequences has the images that it"
                " needs; choose another modality or complete the data set"
            )
    return parts

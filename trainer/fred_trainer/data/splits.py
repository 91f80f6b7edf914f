"""What to train on and what to validate on: whole sequences, never frames, never the test set."""

import logging
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.index import Index, Pair
from fred_trainer.data.read.published import TEST_SEQUENCES, SplitName

Modality = Literal["dual", "rgb", "event"]
MODALITIES: Final[tuple[Modality, ...]] = ("dual", "rgb", "event")
log = logging.getLogger("fred_trainer")

SEQUENCES_A_SCENERY: Final = 3
"""With fewer there would be too little left to train on."""
TrainOn = Literal["held-in", "all"]
TRAIN_ON: Final[tuple[TrainOn, ...]] = ("held-in", "all")
BLOCK: Final = 6
"""Sequences held out side by side, at least: neighbouring ids may be of one recording session."""


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of frames, each ordered by sequence and frame. They have no sequence in common, unless training is on
    `all`: then validation is a part of it.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...] = ()


def check_modality(modality: str) -> None:
    """Raises ValueError for anything but `dual`, `rgb` and `event`."""
    if modality not in MODALITIES:
        raise ValueError(f"unknown modality {modality!r}: choose one of {', '.join(MODALITIES)}")


def has_images(pair: Pair, modality: str) -> bool:
    """Whether `pair` has what `modality` needs: both images for `dual`, else the one."""
    return (modality == "event" or pair.rgb is not None) and (modality == "rgb" or pair.event is not None)


def is_test(pair: Pair, name: SplitName) -> bool:
    """Whether `pair` is of the test set of a published split.

    The folders of the Hugging Face release are the canonical split: there, what lies in `test/` is test as well.
    """
    return pair.sequence in TEST_SEQUENCES[name] or (name == "canonical" and pair.subset == "test")


def select_test_pairs(index: Index, *, modality: str, name: SplitName) -> tuple[Pair, ...]:
    """The frames of the test set, with and without a drone, that have what `modality` needs. Raises DataError."""
    check_modality(modality)
    pairs = tuple(pair for pair in index.pairs if is_test(pair, name) and has_images(pair, modality))
    if not any(pair.boxes for pair in pairs):
        raise DataError(
            f"nothing to evaluate on: no annotated frame of the {name} test sequences has the images that modality"
            f" {modality} needs; the data set has sequences {', '.join(map(str, index.sequences[:20]))}"
        )
    return pairs


def split(
    index: Index,
    *,
    modality: str = "dual",
    name: SplitName = "canonical",
    negatives: float = 0.0,
    validation_share: float = 0.15,
    train_on: TrainOn = "held-in",
) -> Split:
    """Take out the test sequences of the published split `name`, and hold out whole sequences for validation.

    FRED has no official validation split. A data set that brings one of its own (`val`) keeps it under `canonical`;
    else blocks of at least six sequences with neighbouring ids are held out, evenly over all ids, or one block of
    fewer when that is all there is. They are the same for every modality, so that results compare. `negatives` is the
    share of frames without a drone that is kept, chosen by their id; 0 as in FRED's official loader. `train_on`
    `all`: the validation sequences are trained on, too, as in published results; then they tell nothing of how good a
    detector is, and nothing may be chosen by them. Raises DataError
    when a set would be empty, ValueError for an unknown modality or a share not between 0 and 1.
    """
    check_modality(modality)
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share must lie between 0 and 1, not {validation_share}")
    if not 0 <= negatives <= 1:
        raise ValueError(f"negatives must lie between 0 and 1, not {negatives}")
    usable = [pair for pair in index.pairs if not is_test(pair, name)]
    sequences = list(dict.fromkeys(pair.sequence for pair in usable if pair.boxes))
    if len(sequences) < 2:
        raise DataError(
            f"cannot split: {len(sequences)} annotated sequences outside the {name} test set, and training and"
            " validation need one each at least; add sequences"
        )
    own = {pair.sequence for pair in usable if pair.subset == "val"} if name == "canonical" else set()
    held_out = own or set(hold_out(sequences, validation_share, index.conditions))
    kept = [pair for pair in index.pairs if has_images(pair, modality) and (pair.boxes or _chosen(pair, negatives))]
    rest = [pair for pair in kept if not is_test(pair, name)]
    parts = Split(
        train=tuple(pair for pair in rest if train_on == "all" or pair.sequence not in held_out),
        validation=tuple(pair for pair in rest if pair.sequence in held_out),
        test=tuple(pair for pair in kept if is_test(pair, name)),
    )
    for what, pairs in (("training", parts.train), ("validation", parts.validation)):
        if not any(pair.boxes for pair in pairs):
            raise DataError(
                f"no {what} frame for modality {modality}: no annotated frame of its sequences has the images that it"
                " needs; choose another modality or complete the data set"
            )
    if train_on == "all":
        log.info("nothing is held out: all %d sequences for training are trained on", len(sequences))
    else:
        log.info("held out for validation: %s", held_out_text(held_out, index))
    return parts


def held_out_text(held_out: Iterable[int], index: Index) -> str:
    """For people: `sequences 34 (day), 35 (several)`."""
    conditions = {sequence: ", ".join(index.conditions.get(sequence, {}).values()) for sequence in sorted(held_out)}
    return "sequences " + ", ".join(
        f"{number} ({what})" if what else str(number) for number, what in conditions.items()
    )


def hold_out(
    sequences: list[int], share: float, conditions: Mapping[int, Mapping[str, str]] | None = None
) -> list[int]:
    """Of two sequences or more about `share`, one at least and not all: the end of each of some equal stretches.

    Where their `scenery` is known and there are three sequences or more for each, every scenery is held out: the last
    sequence of each that is missing.
    """
    last = {
        scenery: number
        for number in sequences
        if (scenery := (conditions or {}).get(number, {}).get("scenery")) is not None
    }
    held = _blocks(sequences, share)
    if len(sequences) >= SEQUENCES_A_SCENERY * len(last):
        there = {(conditions or {}).get(number, {}).get("scenery") for number in held}
        held += [number for scenery, number in last.items() if scenery not in there]
    return sorted(held)


def _blocks(sequences: list[int], share: float) -> list[int]:
    count = max(1, min(round(share * len(sequences)), len(sequences) - 1))
    blocks = max(1, count // BLOCK)
    held: list[int] = []
    for block in range(blocks):
        end = len(sequences) * (block + 1) // blocks
        size = count * (block + 1) // blocks - count * block // blocks
        held += sequences[end - size : end]
    return held


def _chosen(pair: Pair, share: float) -> bool:
    return zlib.crc32(pair.id.encode()) < share * 2**32


def roles(index: Index, split: Split | None, name: SplitName) -> dict[int, str]:
    """Sequence -> `train`, `validation`, `test`, or `unused`. Without `split` no sequence is for training."""
    parts = split or Split((), ())
    used = {pair.sequence: "train" for pair in parts.train} | {pair.sequence: "validation" for pair in parts.validation}
    return {pair.sequence: "test" if is_test(pair, name) else used.get(pair.sequence, "unused") for pair in index.pairs}

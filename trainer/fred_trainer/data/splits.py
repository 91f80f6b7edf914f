"""What to train on and what to validate on: whole sequences, never frames, never the test set."""

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from fred_supervisor.language import tr
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.index import Index
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.pair_columns import PairColumns
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

    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair] = ()


def check_modality(modality: str) -> None:
    """Raises ValueError for anything but `dual`, `rgb` and `event`."""
    if modality not in MODALITIES:
        raise ValueError(f"unknown modality {modality!r}: choose one of {', '.join(MODALITIES)}")


def has_images(pair: Pair, modality: str) -> bool:
    """Whether `pair` has what `modality` needs: both images for `dual`, else the one."""
    return (modality == "event" or pair.rgb is not None) and (modality == "rgb" or pair.event is not None)


def with_images(pairs: PairColumns, modality: str) -> npt.NDArray[np.bool_]:
    """(N,) what `has_images` says of each."""
    both = np.ones(len(pairs), dtype=bool)
    return (both if modality == "event" else pairs.has("rgb")) & (both if modality == "rgb" else pairs.has("event"))


def is_test(pair: Pair, name: SplitName) -> bool:
    """Whether `pair` is of the test set of a published split.

    The folders of the Hugging Face release are the canonical split: there, what lies in `test/` is test as well.
    """
    return pair.sequence in TEST_SEQUENCES[name] or (name == "canonical" and pair.subset == "test")


def of_test(pairs: PairColumns, name: SplitName) -> npt.NDArray[np.bool_]:
    """(N,) what `is_test` says of each."""
    published = np.isin(pairs.column("sequence"), sorted(TEST_SEQUENCES[name]))
    return published | pairs.of_subset("test") if name == "canonical" else published


def select_test_pairs(index: Index, *, modality: str, name: SplitName) -> Sequence[Pair]:
    """The frames of the test set, with and without a drone, that have what `modality` needs. Raises DataError."""
    check_modality(modality)
    every = PairColumns.of(index.pairs)
    pairs = every.where(of_test(every, name) & with_images(every, modality))
    if not pairs.box_counts().any():
        raise DataError(
            "nothing to evaluate on: no annotated frame of the {name} test sequences has the "
            "images that modality {modality} needs; the data set has sequences {there}",
            name=name,
            modality=modality,
            there=", ".join(map(str, index.sequences[:20])),
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
    pairs = PairColumns.of(index.pairs)
    sequence, annotated, tested = pairs.column("sequence"), pairs.box_counts() > 0, of_test(pairs, name)
    sequences: list[int] = np.unique(sequence[annotated & ~tested]).tolist()
    if len(sequences) < 2:
        raise DataError(
            "cannot split: {count} annotated sequences outside the {name} test set, and training "
            "and validation need one each at least; add sequences",
            count=len(sequences),
            name=name,
        )
    own = np.unique(sequence[pairs.of_subset("val") & ~tested]).tolist() if name == "canonical" else []
    held_out = own or hold_out(sequences, validation_share, index.conditions)
    kept = with_images(pairs, modality) & (annotated | _chosen(pairs, ~annotated, negatives))
    validating = np.isin(sequence, held_out) & ~tested
    parts = Split(
        train=pairs.where(kept & ~tested & (~validating | (train_on == "all"))),
        validation=pairs.where(kept & validating),
        test=pairs.where(kept & tested),
    )
    for what, part in (("training", parts.train), ("validation", parts.validation)):
        if not PairColumns.of(part).box_counts().any():
            raise DataError(
                "no {what} frame for modality {modality}: no annotated frame of its sequences has "
                "the images that it needs; choose another modality or complete the data set",
                what=what,
                modality=modality,
            )
    if train_on == "all":
        log.info("nothing is held out: all %d sequences for training are trained on", len(sequences))
    else:
        log.info("held out for validation: %s", held_out_text(held_out, index))
    return parts


def held_out_text(held_out: Iterable[int], index: Index) -> str:
    """For people: `sequences 34 (day), 35 (several)`."""
    conditions = {sequence: ", ".join(index.conditions.get(sequence, {}).values()) for sequence in sorted(held_out)}
    named = [f"{number} ({what})" if what else str(number) for number, what in conditions.items()]
    return tr("sequences {named}", named=", ".join(named))


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


def _chosen(pairs: PairColumns, among: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
    """(N,) a `share` of those `among` the pairs, by their ids and so the same ones every time."""
    if share in (0, 1):
        return among & bool(share)
    chosen = np.zeros(len(pairs), dtype=bool)
    for at in np.flatnonzero(among).tolist():
        chosen[at] = zlib.crc32(pairs[at].id.encode()) < share * 2**32
    return chosen


def roles(index: Index, split: Split | None, name: SplitName) -> dict[int, str]:
    """Sequence -> `train`, `validation`, `test`, or `unused`. Without `split` no sequence is for training."""
    parts = split or Split((), ())
    used = {pair.sequence: "train" for pair in parts.train} | {pair.sequence: "validation" for pair in parts.validation}
    return {pair.sequence: "test" if is_test(pair, name) else used.get(pair.sequence, "unused") for pair in index.pairs}

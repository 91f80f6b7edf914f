"""The counts that a right reader finds in FRED as Hugging Face has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fred_supervisor.language import tr
from fred_trainer.data.read.index import Index
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.published import SEQUENCES, TEST_SEQUENCES


@dataclass(frozen=True, slots=True)
class PublishedCounts:
    """Of one set of the canonical split; None: not published."""

    annotated: int
    boxes: int | None = None
    two_drones: int | None = None
    """Frames with two drones; none has more."""


PUBLISHED: Final = {
    "train": PublishedCounts(annotated=510_373, boxes=555_406, two_drones=45_033),
    "test": PublishedCounts(annotated=119_459),
}
"""Counted by INQUIRELAB/SparseVoxelDet on the real data: training 184 sequences, test 47; 629,832 annotated frames in
all, as its README says."""


def acceptance(index: Index) -> list[str]:
    """A line for each published count: what it is here, or why it cannot be compared."""
    lines = []
    of_test = TEST_SEQUENCES["canonical"]
    for name, published in PUBLISHED.items():
        wanted = of_test if name == "test" else SEQUENCES - of_test
        here = wanted & set(index.sequences)
        if here != wanted:
            lines.append(
                tr(
                    "canonical {name}: not compared, {here} of its {wanted} sequences are here",
                    name=name,
                    here=len(here),
                    wanted=len(wanted),
                )
            )
            continue
        found = _counts(pair for pair in index.pairs if pair.sequence in wanted)
        for what, count, there in (
            (tr("annotated frames"), found.annotated, published.annotated),
            (tr("boxes"), found.boxes, published.boxes),
            (tr("frames with two drones"), found.two_drones, published.two_drones),
        ):
            if there is not None:
                verdict = (
                    tr("as published")
                    if count == there
                    else tr("PUBLISHED: {there:,}, {more:+,} here", there=there, more=(count or 0) - there)
                )
                lines.append(
                    tr(
                        "canonical {name}: {count:,} {what}, {verdict}",
                        name=name,
                        count=count,
                        what=what,
                        verdict=verdict,
                    )
                )
    return lines


def _counts(pairs: Iterable[Pair]) -> PublishedCounts:
    numbers = [len(pair.boxes) for pair in pairs]
    return PublishedCounts(
        annotated=sum(map(bool, numbers)), boxes=sum(numbers), two_drones=sum(number == 2 for number in numbers)
    )

"""A report on a data set, for people."""

from collections.abc import Callable, Iterable, Sequence

from fred_trainer.data.index import Index, Pair
from fred_trainer.data.splits import Split

_COUNTS: tuple[tuple[str, Callable[[Pair], int]], ...] = (
    ("frames", lambda _: 1),
    ("RGB", lambda pair: pair.rgb is not None),
    ("event", lambda pair: pair.event is not None),
    ("pairs", lambda pair: pair.rgb is not None and pair.event is not None),
    ("annotated", lambda pair: bool(pair.boxes)),
    ("boxes", lambda pair: len(pair.boxes)),
)


def report(index: Index, split: Split | None) -> str:
    """Plain-text tables: counts per sequence and per set, box sizes, and what was irregular, with where it was met.

    Without `split`, for a data set that cannot be split, no sequence counts as used.
    """
    parts = split or Split((), ())
    train = {pair.sequence for pair in parts.train}
    validation = {pair.sequence for pair in parts.validation}
    by_sequence: dict[int, list[Pair]] = {}
    for pair in index.pairs:
        by_sequence.setdefault(pair.sequence, []).append(pair)

    def role(sequence: int, pairs: Sequence[Pair]) -> str:
        if pairs[0].subset == "test":
            return "test"
        return "train" if sequence in train else "validation" if sequence in validation else "unused"

    names = [name for name, _ in _COUNTS]
    rows = [["sequence", "set", "size", *names]]
    for sequence, pairs in by_sequence.items():
        size = f"{pairs[0].width}x{pairs[0].height}"
        rows.append([str(sequence), role(sequence, pairs), size, *_counts(pairs)])
    rows.append(["all", "", "", *_counts(index.pairs)])
    sets = [["set", "sequences", *names]]
    sets += [
        [name, str(len({pair.sequence for pair in pairs})), *_counts(pairs)]
        for name, pairs in (
            ("train", parts.train),
            ("validation", parts.validation),
            ("test", [pair for pair in index.pairs if pair.subset == "test"]),
        )
    ]
    irregular = [
        f"  {count:>7}  {what}, first: {index.examples[what]}" if what in index.examples else f"  {count:>7}  {what}"
        for what, count in sorted(index.irregularities.items(), key=lambda item: -item[1])
    ]
    return "\n".join(
        [
            f"fingerprint {index.fingerprint}",
            "",
            *_table(rows, left=3),
            "",
            "used:",
            *_table(sets, left=1),
            "",
            _box_sizes(index.pairs),
            "",
            "irregularities:",
            *(irregular or ["  none"]),
            "",
        ]
    )


def _counts(pairs: Iterable[Pair]) -> list[str]:
    pairs = list(pairs)
    return [str(sum(count(pair) for pair in pairs)) for _, count in _COUNTS]


def _box_sizes(pairs: Iterable[Pair]) -> str:
    sides = sorted(max(x2 - x1, y2 - y1) for pair in pairs for x1, y1, x2, y2 in pair.boxes)
    if not sides:
        return "no boxes"
    small = sum(side < 32 for side in sides)
    return (
        f"longer side of a box: {sides[0]:.0f} to {sides[-1]:.0f} px, median {sides[len(sides) // 2]:.0f},"
        f" {100 * small / len(sides):.0f} % under 32 px"
    )


def _table(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Aligned columns, the first `left` of them to the left."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

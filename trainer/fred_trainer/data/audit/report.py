"""A report on a data set, for people."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from fred_supervisor.language import mark, tr
from fred_supervisor.language.width import columns_of, padded
from fred_trainer.data.audit.acceptance import acceptance
from fred_trainer.data.read.index import Index
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.published import REMARKS, SEQUENCES, SplitName
from fred_trainer.data.splits import Split, is_test, roles

_READING = (
    *(mark("sequence"), mark("annotations"), mark("label clock"), mark("RGB by"), mark("RGB Hz")),
    *(
        mark("drift ms"),
        mark("RGB gaps"),
        mark("RGB holes"),
        mark("event holes"),
        mark("label shift"),
        mark("left out"),
    ),
)
_FIRST = 5
"""Columns of the first of two tables, beside which the others would be wider than a screen."""
_NUMBERINGS = (mark("clock"), mark("rank"), mark("left out"), mark("as in the file"))
"""How frames get their numbers."""
_COUNTS: tuple[tuple[str, Callable[[Pair], int]], ...] = (
    (mark("frames"), lambda _: 1),
    ("RGB", lambda pair: pair.rgb is not None),
    (mark("event"), lambda pair: pair.event is not None),
    (mark("pairs"), lambda pair: pair.rgb is not None and pair.event is not None),
    (mark("annotated"), lambda pair: bool(pair.boxes)),
    (mark("boxes"), lambda pair: len(pair.boxes)),
)


def report(index: Index, split: Split | None, *, name: SplitName = "canonical") -> str:
    """Plain-text tables: counts per sequence and per set, box sizes, and what was irregular, with where it was met.

    Without `split`, for a data set that cannot be split, no sequence counts as used.
    """
    parts = split or Split((), ())
    role = roles(index, split, name)
    by_sequence: dict[int, list[Pair]] = {}
    for pair in index.pairs:
        by_sequence.setdefault(pair.sequence, []).append(pair)
    names = [tr(what) for what, _ in _COUNTS]
    rows = [[tr("sequence"), tr("set"), tr("size"), *names]]
    for sequence, pairs in by_sequence.items():
        size = f"{pairs[0].width}x{pairs[0].height}"
        rows.append([str(sequence), tr(role[sequence]), size, *_counts(pairs)])
    rows.append([tr("all"), "", "", *_counts(index.pairs)])
    sets = [[tr("set"), tr("sequences"), *names]]
    sets += [
        [what, str(len({pair.sequence for pair in pairs})), *_counts(pairs)]
        for what, pairs in (
            (tr("train"), parts.train),
            (tr("validation"), parts.validation),
            (tr("test"), [pair for pair in index.pairs if is_test(pair, name)]),
        )
    ]
    remarks = [
        tr("  sequence {sequence}: {remark}", sequence=sequence, remark=tr(REMARKS[sequence]))
        for sequence in index.sequences
        if sequence in REMARKS
    ]
    unused = [
        tr("  sequence {sequence}: {why} ({place})", sequence=sequence, why=tr(facts.unused), place=facts.place)
        for sequence, facts in sorted(index.facts.items())
        if facts.unused
    ]
    fred = [] if index.sequences and index.sequences[-1] not in SEQUENCES else acceptance(index)
    return "\n".join(
        [
            tr("fingerprint {fingerprint}", fingerprint=index.fingerprint),
            "",
            *_table(rows, left=3),
            "",
            tr("used with the {name} split:", name=name),
            *_table(sets, left=1),
            "",
            _box_sizes(index.pairs),
            "",
            tr("how each sequence was read:"),
            *_table([row[:_FIRST] for row in _readings(index)], left=4),
            "",
            *_table([[row[0], *row[_FIRST:]] for row in _readings(index)], left=1),
            *(["", tr("unused sequences:"), *unused] if unused else []),
            *(["", tr("against the published counts:"), *(f"  {line}" for line in fred)] if fred else []),
            "",
            tr("irregularities:"),
            *(counted(index.irregularities, index.examples) or [tr("  none")]),
            *(["", tr("known of FRED:"), *remarks] if remarks else []),
            "",
        ]
    )


def counted(counts: Mapping[str, int], examples: Mapping[str, str]) -> list[str]:
    """A line for each irregularity, the most frequent first, with where it was met first."""
    return [
        f"  {count:>7}  {tr(what)}" + (tr(", first: {where}", where=examples[what]) if what in examples else "")
        for what, count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _readings(index: Index) -> list[list[str]]:
    """What is not known is a dash."""
    rows = [[tr(what) for what in _READING]]
    for sequence, facts in sorted(index.facts.items()):
        cells = (
            facts.annotation_file,
            facts.label_clock,
            facts.rgb_numbering and tr(facts.rgb_numbering),
            facts.rgb_rate_hz and f"{facts.rgb_rate_hz:.2f}",
            None if facts.rgb_drift_ms is None else f"{facts.rgb_drift_ms:.0f}",
            facts.rgb_gaps,
            facts.rgb_holes,
            facts.event_holes,
            facts.label_shift,
            facts.frames_left_out,
        )
        rows.append([str(sequence), *("-" if cell is None else str(cell) for cell in cells)])
    return rows


def _counts(pairs: Iterable[Pair]) -> list[str]:
    pairs = list(pairs)
    return [str(sum(count(pair) for pair in pairs)) for _, count in _COUNTS]


def _box_sizes(pairs: Iterable[Pair]) -> str:
    sides = sorted(max(x2 - x1, y2 - y1) for pair in pairs for x1, y1, x2, y2 in pair.boxes)
    if not sides:
        return tr("no boxes")
    small = sum(side < 32 for side in sides)
    return tr(
        "longer side of a box: {least:.0f} to {most:.0f} px, median {median:.0f}, {small:.0f} % under 32 px",
        least=sides[0],
        most=sides[-1],
        median=sides[len(sides) // 2],
        small=100 * small / len(sides),
    )


def _table(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Aligned columns, the first `left` of them to the left."""
    widths = [max(columns_of(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            padded(cell, width) if at < left else " " * (width - columns_of(cell)) + cell
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

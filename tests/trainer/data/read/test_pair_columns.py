"""Half a million frames without an object for each; what comes out is what went in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data import Pair
from fred_trainer.data.read.pair_columns import PairColumns
from fred_trainer.data.read.source import Member

ROOT = Path("/data/FRED")
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
paths = st.builds(
    lambda root, name: root / name, st.sampled_from([ROOT, ROOT / "train" / "0", Path("/elsewhere")]), names
)
members = st.builds(
    Member, paths, names, st.integers(0, 2**40), st.integers(0, 2**31), st.integers(0, 2**32 - 1), st.booleans()
)
files = st.none() | paths | members
boxes = st.lists(st.tuples(*[st.floats(0, 1280)] * 4), max_size=3).map(tuple)
some_pairs = st.lists(
    st.builds(
        Pair, st.integers(0, 230), st.integers(1, 100_000), files, files, boxes,
        st.sampled_from([None, "train", "val", "test"]), st.integers(1, 4000), st.integers(1, 4000),
    ),
    max_size=8,
)  # fmt: skip


@given(pairs=some_pairs, root=st.sampled_from([None, Path("/"), ROOT]))
def test_every_pair_comes_back(pairs, root):
    columns = PairColumns.of(pairs, root)
    assert list(columns) == pairs
    assert columns == pairs
    assert PairColumns.of(columns) is columns
    assert columns.box_counts().tolist() == [len(pair.boxes) for pair in pairs]
    assert columns.has("rgb").tolist() == [pair.rgb is not None for pair in pairs]
    assert columns.has("event").tolist() == [pair.event is not None for pair in pairs]
    assert columns.of_subset("val").tolist() == [pair.subset == "val" for pair in pairs]


@given(pairs=some_pairs, data=st.data())
def test_a_choice_of_pairs_is_as_of_a_list(pairs, data):
    columns = PairColumns.of(pairs)
    kept = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    chosen = columns.where(np.array(kept, dtype=bool))
    expected = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
    assert list(chosen) == expected
    part = data.draw(st.slices(len(pairs))) if pairs else slice(None)
    assert list(columns[part]) == pairs[part]
    assert chosen[::-1] == expected[::-1]
    assert chosen.box_counts().tolist() == [len(pair.boxes) for pair in expected]
    for at, pair in enumerate(expected):
        assert chosen[at] == pair
        assert chosen[at - len(expected)] == pair


def test_relative_paths_stay_relative():
    """As of `predict --source data/train/0`."""
    pair = Pair(0, 1, Path("0/a.jpg"), Member(Path("0.zip"), "b.png", 1, 2, 3, False), ())
    assert list(PairColumns.of([pair])) == [pair]


def test_what_is_not_there():
    columns = PairColumns.of([Pair(0, 1, None, None, ())])
    with pytest.raises(IndexError):
        columns[1]
    assert columns != [Pair(0, 2, None, None, ())]
    assert columns != []
    assert len(PairColumns.of([])) == 0


def test_a_data_set_that_was_moved():
    pair = Pair(0, 1, ROOT / "0" / "a.jpg", Member(ROOT / "0.zip", "b.png", 1, 2, 3, False), ())
    columns = PairColumns.of([pair], ROOT)
    moved = PairColumns(columns.columns, Path("/mnt"), columns.rows)[0]
    assert moved.rgb == Path("/mnt/0/a.jpg")
    assert moved.event.archive == Path("/mnt/0.zip")

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data import DataError, Index, Pair, select_test_pairs, split
from fred_trainer.data.read.published import TEST_SEQUENCES

BOX = ((1.0, 2.0, 3.0, 4.0),)


TRAIN = sorted(set(range(231)) - TEST_SEQUENCES["canonical"])


def index_of(*sequences: int, subset=None, test: tuple[int, ...] = (), rgb_only: tuple[int, ...] = ()) -> Index:
    """Three frames of each sequence, the last without a drone."""
    pairs = []
    for number in sorted(sequences + test):
        for frame in (1, 2, 3):
            event = None if number in rgb_only else Path(f"{number}/e{frame}")
            boxes = BOX if frame < 3 else ()
            pairs.append(
                Pair(number, frame, Path(f"{number}/r{frame}"), event, boxes, "test" if number in test else subset)
            )
    return Index(tuple(pairs), "0" * 16, {})


def numbers(pairs) -> list[int]:
    return sorted({pair.sequence for pair in pairs})


def test_the_last_sequences_are_held_out_whole():
    parts = split(index_of(*TRAIN[:20]))
    assert numbers(parts.train) == TRAIN[:17]
    assert numbers(parts.validation) == TRAIN[17:20]
    assert len(parts.train) == 34
    assert len(parts.validation) == 6


def test_frames_without_a_drone_only_when_asked_for():
    assert all(pair.boxes for part in (split(index_of(0, 1)),) for pair in [*part.train, *part.validation])
    parts = split(index_of(0, 1), negatives=True)
    assert (len(parts.train), len(parts.validation)) == (3, 3)


def test_the_test_set_is_in_neither():
    parts = split(index_of(0, 1, 2, 5, subset="train", test=(3, 4, 6)))
    assert numbers(parts.train) == [0, 1, 2]
    assert numbers(parts.validation) == [5]


@given(
    st.sets(st.sampled_from(TRAIN), min_size=2, max_size=40),
    st.sets(st.integers(0, 230), max_size=5),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_sets_that_share_nothing_and_lose_nothing(sequences, test, share):
    test -= sequences
    parts = split(index_of(*sequences, test=tuple(test)), validation_share=share)
    assert sorted(numbers(parts.train) + numbers(parts.validation)) == sorted(sequences)
    assert set(numbers(parts.test)) == test
    assert numbers(parts.train)
    assert abs(len(numbers(parts.validation)) - share * len(sequences)) <= 1


def test_many_sequences_are_held_out_in_blocks_of_neighbours():
    held = split(index_of(*TRAIN)).validation
    at = [TRAIN.index(number) for number in numbers(held)]
    blocks = [list(block) for block in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)]
    assert sum(map(len, blocks)) == round(0.15 * len(TRAIN))
    assert len(blocks) == 4
    assert min(map(len, blocks)) >= 6


@pytest.mark.parametrize(("name", "train", "test"), [("canonical", 184, 47), ("challenging", 172, 59)])
def test_the_published_splits(name, train, test):
    """The counts, and how they overlap, are those of the official lists."""
    parts = split(index_of(*range(231)), name=name)
    assert set(numbers(parts.test)) == TEST_SEQUENCES[name]
    assert len(numbers(parts.train)) + len(numbers(parts.validation)) == train
    assert len(numbers(parts.test)) == test
    canonical, challenging = TEST_SEQUENCES["canonical"], TEST_SEQUENCES["challenging"]
    assert canonical & challenging == {9, 21, 29, 34, 83, 90, 110, 111, 114, 142, 178, 179, 194, 195}
    assert (68 in canonical, 68 in challenging) == (False, True)


def test_the_folders_are_the_canonical_split_and_no_other():
    index = index_of(0, 1, 2, 10, subset="train", test=(3, 8))
    assert numbers(split(index, name="canonical").test) == [3, 8]
    challenging = split(index, name="challenging")
    assert numbers(challenging.test) == [10]
    assert {3, 8} < set(numbers(challenging.train) + numbers(challenging.validation))


def test_a_validation_set_of_its_own_is_kept():
    train, val = index_of(0, 1, 2, subset="train"), index_of(3, subset="val")
    index = Index([*train.pairs, *val.pairs, *index_of(test=(4,)).pairs], "0" * 16, {})
    parts = split(index)
    assert [numbers(part) for part in (parts.train, parts.validation, parts.test)] == [[0, 1, 2], [3], [4]]


def test_a_share_of_the_negatives_is_the_same_every_time():
    index = index_of(*TRAIN)
    none, some, every = (split(index, negatives=share) for share in (0, 0.3, 1))
    counts = [sum(not pair.boxes for pair in [*parts.train, *parts.validation]) for parts in (none, some, every)]
    assert counts[0] == 0
    assert 30 < counts[1] < 80
    assert counts[2] == len(TRAIN)
    assert split(index, negatives=0.3) == some
    with pytest.raises(ValueError, match="negatives must lie between 0 and 1"):
        split(index, negatives=2)


def test_every_modality_validates_on_the_same_sequences():
    index = index_of(*TRAIN[:10], rgb_only=(0, 11))
    assert numbers(split(index, modality="rgb").validation) == [10, 11]
    assert numbers(split(index, modality="event").validation) == [10]
    dual = split(index, modality="dual")
    assert numbers(dual.validation) == [10]
    assert numbers(dual.train) == TRAIN[1:8]


@pytest.mark.parametrize("index", [index_of(4), index_of(4, subset="train", test=(5, 6))])
def test_one_sequence_cannot_be_split(index):
    with pytest.raises(DataError, match="cannot split: 1 annotated sequences outside the canonical test set"):
        split(index)


def test_a_set_without_the_images_of_the_modality_is_named():
    index = index_of(0, 1, rgb_only=(1,))
    assert split(index, modality="rgb")
    with pytest.raises(DataError, match="no validation frame for modality dual"):
        split(index)
    with pytest.raises(DataError, match="no training frame for modality event"):
        split(index_of(0, 1, rgb_only=(0,)), modality="event")


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_an_impossible_share(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(index_of(0, 1), validation_share=share)


def test_an_unknown_modality():
    with pytest.raises(ValueError, match="unknown modality 'both': choose one of dual, rgb, event"):
        split(index_of(0, 1), modality="both")


SCENERY = ("day", "several", "night", "fast", "empty", "hover")


def with_sceneries(*sequences: int, sceneries=SCENERY) -> Index:
    return replace(
        index_of(*sequences),
        conditions={number: {"scenery": sceneries[at % len(sceneries)]} for at, number in enumerate(sequences)},
    )


@given(st.sets(st.sampled_from(TRAIN), min_size=18, max_size=60), st.permutations(SCENERY))
def test_every_scenery_is_held_out_where_there_are_enough(sequences, sceneries):
    index = with_sceneries(*sorted(sequences), sceneries=tuple(sceneries))
    parts = split(index)
    held = numbers(parts.validation)
    assert {index.conditions[number]["scenery"] for number in held} == set(SCENERY)
    assert len(held) <= max(len(SCENERY), round(0.15 * len(sequences)) + len(SCENERY))
    assert not set(held) & set(numbers(parts.train))


def test_few_sequences_are_not_all_held_out():
    assert len(numbers(split(with_sceneries(*TRAIN[:12])).validation)) == 2


def test_what_is_held_out_is_said(caplog):
    caplog.set_level("INFO")
    split(with_sceneries(*TRAIN[:12]))
    split(index_of(0, 1))
    assert caplog.messages == [
        f"held out for validation: sequences {TRAIN[10]} (empty), {TRAIN[11]} (hover)",
        "held out for validation: sequences 1",
    ]


def test_all_training_sequences_are_trained_on_when_asked(caplog):
    caplog.set_level("INFO")
    index = index_of(*TRAIN[:20], test=(8, 9))
    parts = split(index, train_on="all")
    assert numbers(parts.train) == TRAIN[:20]
    assert parts.validation == split(index).validation
    assert parts.test == split(index).test
    assert caplog.messages[0] == "nothing is held out: all 20 sequences for training are trained on"


@pytest.mark.parametrize("name", ["canonical", "challenging"])
def test_the_published_test_sets(name):
    index = index_of(*range(231))
    pairs = select_test_pairs(index, modality="dual", name=name)
    assert frozenset(pair.sequence for pair in pairs) == TEST_SEQUENCES[name]
    assert len(pairs) == 3 * len(TEST_SEQUENCES[name])  # frames without a drone are among them
    assert not {pair.id for pair in pairs} & {pair.id for pair in split(index, name=name, train_on="all").train}


def test_a_data_set_without_test_sequences_cannot_be_evaluated_on():
    with pytest.raises(DataError, match=r"nothing to evaluate on: .* canonical test sequences"):
        select_test_pairs(index_of(0, 1), modality="dual", name="canonical")
    with pytest.raises(DataError, match="nothing to evaluate on"):
        select_test_pairs(index_of(8, rgb_only=(8,)), modality="event", name="canonical")

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data import DataError, Index, Pair, split

BOX = ((1.0, 2.0, 3.0, 4.0),)


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
    parts = split(index_of(*range(20)))
    assert numbers(parts.train) == list(range(17))
    assert numbers(parts.validation) == [17, 18, 19]
    assert len(parts.train) == 34
    assert len(parts.validation) == 6


def test_frames_without_a_drone_only_when_asked_for():
    assert all(pair.boxes for part in (split(index_of(0, 1)),) for pair in part.train + part.validation)
    parts = split(index_of(0, 1), negatives=True)
    assert (len(parts.train), len(parts.validation)) == (3, 3)


def test_the_test_set_is_in_neither():
    parts = split(index_of(0, 1, 2, 5, subset="train", test=(3, 4, 6)))
    assert numbers(parts.train) == [0, 1, 2]
    assert numbers(parts.validation) == [5]


@given(
    st.sets(st.integers(0, 230), min_size=2, max_size=40),
    st.sets(st.integers(0, 230), max_size=5),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_two_blocks_that_share_nothing_and_lose_nothing(sequences, test, share):
    test -= sequences
    parts = split(index_of(*sequences, test=tuple(test)), validation_share=share)
    assert numbers(parts.train) + numbers(parts.validation) == sorted(sequences)
    assert numbers(parts.train)
    assert abs(len(numbers(parts.validation)) - share * len(sequences)) <= 1


def test_every_modality_validates_on_the_same_sequences():
    index = index_of(*range(10), rgb_only=(0, 9))
    assert numbers(split(index, modality="rgb").validation) == [8, 9]
    assert numbers(split(index, modality="event").validation) == [8]
    dual = split(index, modality="dual")
    assert numbers(dual.validation) == [8]
    assert numbers(dual.train) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("index", [index_of(4), index_of(4, subset="train", test=(5, 6))])
def test_one_sequence_cannot_be_split(index):
    with pytest.raises(DataError, match="cannot split: 1 annotated sequences outside test"):
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

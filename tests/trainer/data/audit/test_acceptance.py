"""Counts that others found on the real data."""

from dataclasses import replace

import pytest

from fred_trainer.data import Index, Pair
from fred_trainer.data.audit import acceptance as room
from fred_trainer.data.audit.acceptance import PUBLISHED, PublishedCounts, acceptance
from fred_trainer.data.read.published import SEQUENCES, TEST_SEQUENCES

BOX = (1.0, 2.0, 3.0, 4.0)


def fred(sequences) -> Index:
    """Three frames of each: one drone, two drones, none."""
    pairs = [
        Pair(number, frame, None, None, (BOX,) * drones)
        for number in sorted(sequences)
        for frame, drones in ((1, 1), (2, 2), (3, 0))
    ]
    return Index(tuple(pairs), "0" * 16, {})


def test_the_published_counts_add_up():
    """629,832 annotated frames; 184 and 47 sequences."""
    assert PUBLISHED["train"].annotated + PUBLISHED["test"].annotated == 629_832
    assert PUBLISHED["train"].boxes == PUBLISHED["train"].annotated + PUBLISHED["train"].two_drones
    assert (len(SEQUENCES - TEST_SEQUENCES["canonical"]), len(TEST_SEQUENCES["canonical"])) == (184, 47)
    assert (len(SEQUENCES - TEST_SEQUENCES["challenging"]), len(TEST_SEQUENCES["challenging"])) == (172, 59)


def test_the_same_counts_are_said_to_be_the_same(monkeypatch):
    counts = {"train": PublishedCounts(2 * 184, 3 * 184, 184), "test": PublishedCounts(2 * 47)}
    monkeypatch.setattr(room, "PUBLISHED", counts)
    assert acceptance(fred(SEQUENCES)) == [
        "canonical train: 368 annotated frames, as published",
        "canonical train: 552 boxes, as published",
        "canonical train: 184 frames with two drones, as published",
        "canonical test: 94 annotated frames, as published",
    ]


@pytest.mark.parametrize("published", [PublishedCounts(300, 600, 184)])
def test_other_counts_are_a_finding(monkeypatch, published):
    monkeypatch.setattr(room, "PUBLISHED", {"train": published})
    assert acceptance(fred(SEQUENCES))[:2] == [
        "canonical train: 368 annotated frames, PUBLISHED: 300, +68 here",
        "canonical train: 552 boxes, PUBLISHED: 600, -48 here",
    ]


def test_a_part_of_fred_is_not_compared():
    index = fred(TEST_SEQUENCES["canonical"] - {8})
    assert acceptance(index) == [
        "canonical train: not compared, 0 of its 184 sequences are here",
        "canonical test: not compared, 46 of its 47 sequences are here",
    ]
    whole = replace(index, pairs=fred(TEST_SEQUENCES["canonical"]).pairs)
    assert acceptance(whole)[1].startswith("canonical test: 94 annotated frames, PUBLISHED: 119,459")

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fred_trainer.data import EpochBatches, EpochOrder

lengths, sizes, epochs, seeds = st.integers(1, 60), st.integers(1, 20), st.integers(0, 400), st.integers(0, 2**40)


@given(lengths, seeds, epochs)
def test_an_order_is_a_permutation_and_a_function_of_seed_and_epoch(length, seed, epoch):
    order = EpochOrder(length, seed).order(epoch)
    assert sorted(order) == list(range(length))
    assert EpochOrder(length, seed).order(epoch) == order


def test_epochs_and_seeds_differ():
    orders = [EpochOrder(50, seed).order(epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4


@given(st.builds(EpochOrder, lengths, seeds), epochs, sizes, sizes, st.data())
def test_going_on_with_another_batch_size_sees_exactly_the_rest(order, epoch, first, second, data):
    batches = list(EpochBatches(order, epoch=epoch, batch_size=first))
    done = batches[: data.draw(st.integers(0, len(batches)))]
    used = sum(map(len, done))
    rest = list(EpochBatches(order, epoch=epoch, batch_size=second, start=used))
    assert [key for batch in done + rest for key in batch] == [(epoch, index) for index in order.order(epoch)]
    assert all(len(batch) == second for batch in rest[:-1])


@given(lengths, sizes, st.booleans(), st.data())
def test_the_length_is_what_comes(length, size, drop_last, data):
    start = data.draw(st.integers(0, length))
    batches = EpochBatches(EpochOrder(length, 0), epoch=1, batch_size=size, start=start, drop_last=drop_last)
    found = list(batches)
    assert len(batches) == len(found)
    left = length - start
    assert sum(map(len, found)) == (left - left % size if drop_last else left)


def test_a_loader_goes_from_epoch_to_epoch():
    order = EpochOrder(5, 3)
    batches = EpochBatches(order, epoch=1, batch_size=2, start=3)
    pairs: Any = {(e, i): (e, i) for e in (1, 2) for i in range(5)}
    loader = DataLoader(pairs, batch_sampler=batches, collate_fn=list)
    assert [key for batch in loader for key in batch] == [(1, index) for index in order.order(1)[3:]]
    batches.epoch, batches.start = 2, 0
    assert [key for batch in loader for key in batch] == [(2, index) for index in order.order(2)]
    assert len(loader) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 1, "start": 6}, "start 6 lies outside an epoch of 5 samples: another data set"),
        ({"batch_size": 1, "start": -1}, "start -1"),
    ],
)
def test_impossible_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        EpochBatches(EpochOrder(5, 0), epoch=1, **arguments)


def test_an_empty_order():
    with pytest.raises(ValueError, match="0 samples"):
        EpochOrder(0, 0)

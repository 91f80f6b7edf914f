import pytest
import torch

from fred_trainer.data import Batch, DataError, UnreadableImages
from fred_trainer.words import Sentence


def batch(*names: str) -> Batch:
    left_out = tuple((name, Sentence("cannot decode image {name}.jpg", name=name)) for name in names)
    return Batch(torch.zeros(1), [], ["1/000001"], left_out)


def test_up_to_a_hundredth_is_counted_and_named_once(caplog):
    unreadable = UnreadableImages(200)
    batches = [batch(), batch("1/000005"), batch("1/000005", "1/000007")]
    assert list(unreadable.watch(batches)) == batches
    assert unreadable.count == 2
    assert caplog.messages == [
        "left out, 1 so far: cannot decode image 1/000005.jpg",
        "left out, 2 so far: cannot decode image 1/000007.jpg",
    ]


def test_more_end_the_training_with_the_list():
    unreadable = UnreadableImages(200)
    with pytest.raises(
        DataError, match=r"3 images cannot be read, over 1 % of 200 samples: a, b, c; restore"
    ) as caught:
        list(unreadable.watch([batch("a"), batch("b", "c")]))
    assert caught.value.fred_kind == "data"
    with pytest.raises(DataError, match=r"over 1 % of 100 samples: .* and 30 more"):
        list(UnreadableImages(100).watch([batch(*map(str, range(50)))]))

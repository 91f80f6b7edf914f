"""What the head says, and what becomes of it."""

import pytest
import torch

from fred_trainer.model.cells import Cells
from fred_trainer.model.head import Head, detections, iou_of_pairs


@pytest.mark.parametrize("bias", [-30.0, -3.0, 0.0, 3.0])
def test_sizes_are_positive_and_have_a_gradient_wherever_training_has_led_them(bias):
    head = Head(16)
    with torch.no_grad():
        head.box.bias.fill_(bias)
    halves = head(torch.randn(2, 16, 6, 8))["box"][..., 2:]
    assert (halves > 0).all()
    halves.sum().backward()
    assert (head.box.bias.grad[2:] > 0).all()


def test_the_surer_of_two_boxes_on_one_drone_is_kept_and_clipped_to_the_image():
    cells = Cells(torch.tensor([[4.0, 10.0], [6.0, 10.0], [40.0, 20.0]]), 4)
    outputs = {
        "score": torch.tensor([[2.0, 3.0, -9.0]]),
        "fit": torch.full((1, 3), 2.0),
        "box": torch.tensor([[[0.5, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]]]),
    }
    (found,) = detections(outputs, cells, (16, 48))
    assert found["boxes"].tolist() == [[0.0, 2.0, 14.0, 16.0]]
    assert found["scores"].item() == pytest.approx((torch.tensor(3.0).sigmoid() * torch.tensor(2.0).sigmoid()).sqrt())


def test_overlap():
    one = torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 1, 1]])
    assert iou_of_pairs(one, torch.tensor([[1.0, 0, 3, 2], [2.0, 2, 3, 3]])).tolist() == pytest.approx([1 / 3, 0.0])

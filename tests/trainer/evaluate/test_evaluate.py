"""Validation: scores of a detector on batches, at the scale of FRED's frames."""

from typing import Any, cast

import pytest
import torch

from fred_trainer.data import Batch
from fred_trainer.data.samples.geometry import canvas, letterbox, move_boxes
from fred_trainer.evaluate.evaluate import evaluate
from fred_trainer.runtime.precision import choose_precision

CPU = torch.device("cpu")
SIZE = 320


class Silent:
    stopping = False

    def beat(self) -> None:
        pass


class Answers(torch.nn.Module):
    def __init__(self, boxes):
        super().__init__()
        self.boxes = boxes

    def forward(self, images):
        return [{"boxes": self.boxes.clone(), "scores": torch.ones(len(self.boxes))} for _ in images]


def scores(truth, found, frame: tuple[int, int]):
    """Boxes xyxy px of a `frame` (width, height)."""
    on_canvas = [
        torch.tensor(
            move_boxes(torch.tensor(boxes, dtype=torch.float64).numpy(), letterbox(frame[0], frame[1], SIZE))
        ).float()
        for boxes in (truth, found)
    ]
    batch = Batch(torch.zeros(1, 3, *canvas(SIZE)), [on_canvas[0]], ["0/000001"], (), (frame,))
    return evaluate(
        cast("Any", Answers(on_canvas[1])),
        [batch],
        device=CPU,
        precision=choose_precision("off", CPU),
        hb=cast("Any", Silent()),
    )


@pytest.mark.parametrize("frame", [(1280, 720), (640, 360), (640, 480), (720, 1280)])
def test_a_drone_at_the_border_may_be_drawn_whole(frame):
    """The canvas is higher than the frame: mAP50:95 was 0.1 instead of 1."""
    width, height = frame
    truth = [[width / 2, height - 20.0, width / 2 + 40, height]]
    assert scores(truth, [[width / 2, height - 20.0, width / 2 + 40, height + 20]], frame).map50_95 == pytest.approx(1)
    assert scores(truth, truth, frame).map50_95 == pytest.approx(1)
    outside = [[width + 5.0, 0, width + 25, 20], [10.0, -30, 30, -5]]
    assert scores(truth, truth + outside, frame).map50_95 == pytest.approx(1)


def test_sizes_are_counted_at_the_scale_of_fred():
    assert scores([[10, 10, 20, 20]], [[10, 10, 20, 20]], (640, 360)).map50_by_size["16_to_32"] == pytest.approx(1)
    assert scores([[10, 10, 20, 20]], [[10, 10, 20, 20]], (1280, 720)).map50_by_size["below_16"] == pytest.approx(1)

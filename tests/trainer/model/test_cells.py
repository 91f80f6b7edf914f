"""Which cells learn which box."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.model.cells import Cells, assign, boxes_of, cells_of

STRIDES = (4, 8, 16)
WIDTH, HEIGHT = 192, 112
CELLS = cells_of([torch.zeros(1, 1, HEIGHT // stride, WIDTH // stride) for stride in STRIDES], STRIDES)


def box(x, y, width, height):
    return torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


sides = st.floats(0.5, 100)
drones = st.builds(box, st.floats(1, WIDTH - 1), st.floats(1, HEIGHT - 1), sides, sides)


@given(drones)
def test_every_box_has_a_cell_near_its_centre_on_one_level(drone):
    learnt = assign(drone[None], CELLS)
    at = (learnt == 0).nonzero()[:, 0]
    assert len(at) >= 1
    (stride,) = CELLS.strides[at].unique().tolist()
    centre = (drone[:2] + drone[2:]) / 2
    assert (CELLS.centres[at] - centre).abs().max() <= 1.5 * stride
    longer = float((drone[2:] - drone[:2]).max())
    assert longer <= 16 * stride or stride == STRIDES[-1]
    assert longer > 8 * stride or stride == STRIDES[0]


@given(st.lists(drones, min_size=2, max_size=4))
def test_a_cell_learns_the_smaller_of_two_boxes(several):
    boxes = torch.stack(several)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    together = assign(boxes, CELLS)
    for number in range(len(boxes)):
        alone = assign(boxes[number : number + 1], CELLS) == 0
        assert (areas[together[alone]] <= areas[number]).all()
        assert (together[alone] >= 0).all()


def test_without_a_box_everything_is_background():
    assert (assign(torch.zeros(0, 4), CELLS) == -1).all()


@given(drones)
def test_every_cell_that_learns_a_box_can_say_it(drone):
    """Also a cell outside the box: offset and size are finite, and decode to it."""
    at = assign(drone[None], CELLS) == 0
    centres, strides = CELLS.centres[at], CELLS.strides[at][:, None]
    offset = ((drone[:2] + drone[2:]) / 2 - centres) / strides
    halves = (drone[2:] - drone[:2]) / 2 / strides
    decoded = boxes_of(torch.cat([offset, halves], dim=1), Cells(centres, strides[:, 0]))
    torch.testing.assert_close(decoded, drone.expand_as(decoded), rtol=1e-4, atol=1e-3)

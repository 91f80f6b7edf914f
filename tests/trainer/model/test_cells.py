"""Which cells learn which box."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.model.cells import Cells, assign, boxes_of, cells_of

STRIDE = 4
WIDTH, HEIGHT = 192, 112
CELLS = cells_of(torch.zeros(1, 1, HEIGHT // STRIDE, WIDTH // STRIDE), STRIDE)


def box(x, y, width, height):
    return torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


sides = st.floats(0.5, 100)
drones = st.builds(box, st.floats(1, WIDTH - 1), st.floats(1, HEIGHT - 1), sides, sides)


@given(drones)
def test_every_box_has_a_cell_and_all_its_cells_are_near_its_centre(drone):
    at = (assign(drone[None], CELLS) == 0).nonzero()[:, 0]
    assert len(at) >= 1
    centre = (drone[:2] + drone[2:]) / 2
    assert (CELLS.centres[at] - centre).abs().max() <= 1.5 * STRIDE


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
    centres = CELLS.centres[at]
    offset = ((drone[:2] + drone[2:]) / 2 - centres) / STRIDE
    halves = ((drone[2:] - drone[:2]) / 2 / STRIDE).expand_as(offset)
    decoded = boxes_of(torch.cat([offset, halves], dim=1), Cells(centres, STRIDE))
    torch.testing.assert_close(decoded, drone.expand_as(decoded), rtol=1e-4, atol=1e-3)

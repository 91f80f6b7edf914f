"""A state copied beside training, and what in it is not finite."""

from typing import Any

import pytest
import torch

from fred_trainer.checkpoint.saver import Saver, not_finite

CPU = torch.device("cpu")


def test_buffers_are_used_again(tmp_path):
    saver, seen = Saver(CPU), []
    for value in (1.0, 2.0):
        saver.begin({"w": torch.full((3,), value), "half": torch.ones(2, dtype=torch.bfloat16)}, seen.append)
        assert saver.join().error is None
    assert seen[0]["w"].data_ptr() == seen[1]["w"].data_ptr()
    assert seen[1]["w"].tolist() == [2.0] * 3
    assert seen[1]["half"].tolist() == [1.0, 1.0]


def test_a_copy_has_the_shape_of_the_state(tmp_path):
    saver, seen = Saver(CPU), []
    state: dict[str, Any] = {"a": [torch.ones(2), {"b": (torch.zeros(1), "word")}], "n": 3, "none": None}
    saver.begin(state, seen.append)
    assert saver.join().error is None
    (copy,) = seen
    assert (copy["n"], copy["none"], copy["a"][1]["b"][1]) == (3, None, "word")
    assert torch.equal(copy["a"][0], torch.ones(2))
    assert copy["a"][0].data_ptr() != state["a"][0].data_ptr()


def test_a_state_of_other_shapes_or_types_gets_other_buffers():
    saver, seen = Saver(CPU), []
    for tensor in (
        torch.ones(2),
        torch.ones(3),
        torch.ones(3, dtype=torch.float64),
        torch.ones(3, dtype=torch.float64) * 2,
    ):
        saver.begin(
            {"w": tensor}, lambda copy: seen.append((copy["w"].dtype, copy["w"].tolist(), copy["w"].data_ptr()))
        )
        outcome = saver.join()
        assert outcome.error is None
        assert 0 <= outcome.cpu_s <= outcome.wall_s + 0.1
    assert [(dtype, values) for dtype, values, _ in seen] == [
        (torch.float32, [1.0] * 2), (torch.float32, [1.0] * 3), (torch.float64, [1.0] * 3), (torch.float64, [2.0] * 3),
    ]  # fmt: skip
    assert seen[2][2] == seen[3][2]
    assert saver.join() is None
    assert not saver.busy


def test_a_failure_while_copying_holds_nobody_up():
    saver = Saver(CPU)
    saver.begin({"w": torch.empty(1, device="meta")}, lambda _: None)
    saver.settle()
    assert saver.join().error is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_single_number_that_is_not_finite_is_found(value):
    spoilt = torch.zeros(1000)
    spoilt[777] = value
    sound = {"zero": torch.zeros(3), "none": torch.zeros(0), "count": torch.tensor(3)}
    assert not_finite({**sound, "w": spoilt}) == ["w"]
    assert not_finite(sound) == []

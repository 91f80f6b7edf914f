"""What `make bench-fusion` holds a detector of both cameras to."""

import pytest
from tools.bench_fusion import CONDITIONS, conditions_of, verdict

RGB = {**dict.fromkeys(CONDITIONS, 0.95), "night": 0.0, "night + hover": 0.5}
EVENT = {**dict.fromkeys(CONDITIONS, 0.94), "hover": 0.1, "night + hover": 0.6}
DUAL = {**dict.fromkeys(CONDITIONS, 0.94), "night": 0.93, "night + hover": 0.71}


def test_a_little_below_the_better_camera_is_no_harm():
    assert verdict(DUAL, RGB, EVENT) == []


@pytest.mark.parametrize("condition", [name for name in CONDITIONS if name not in ("all", "night + hover")])
def test_harm_in_any_one_condition_is_told_with_its_figures(condition):
    better = max(RGB[condition], EVENT[condition])
    (told,) = verdict({**DUAL, condition: better - 0.03}, RGB, EVENT)
    assert told.startswith(f"{condition}: dual {better - 0.03:.3f}, at least {better - 0.02:.3f} is wanted")


def test_on_the_hard_flights_the_second_camera_has_to_pay():
    (told,) = verdict({**DUAL, "night + hover": 0.69}, RGB, EVENT)
    assert told.startswith("night + hover: dual 0.690, at least 0.700")


def test_cameras_that_learn_nothing_are_no_excuse():
    nothing = dict.fromkeys(CONDITIONS, 0.0)
    assert [told.split(":")[0] for told in verdict(nothing, nothing, nothing)] == ["all", "night + hover"]


@pytest.mark.parametrize(
    ("scenery", "light", "counts_for"),
    [
        ("day", "glare", {"all", "day", "glare"}),
        ("hover", "dusk", {"all", "hover", "dusk", "night + hover"}),
        ("night", "dusk", {"all", "night", "night + hover"}),
    ],
)
def test_a_flight_counts_for_its_conditions(scenery, light, counts_for):
    assert conditions_of({"scenery": scenery, "light": light}) & {*CONDITIONS} == counts_for

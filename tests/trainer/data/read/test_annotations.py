import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fred_trainer.data.read.annotations import Annotation, frame_number, parse_line


@pytest.mark.parametrize(
    ("line", "time_s", "box", "drone", "model"),
    [
        ("1.33332: 490.0, 413.0, 539.0, 448.0, 1, DJI Mini 2", 1.33332, (490, 413, 539, 448), 1, "DJI Mini 2"),
        (
            "6.33327: 609.0, 280.0, 651.0, 308.0, 2, DarwinFPV cineape20 \n",
            6.33327,
            (609, 280, 651, 308),
            2,
            "DarwinFPV cineape20",
        ),
        ("0.0: 673.0, 315.0, 710.0, 340.0", 0.0, (673, 315, 710, 340), 1, "drone"),
        ("0.033333: 673.0, 315.0, 710.0, 340.0\r\n", 0.033333, (673, 315, 710, 340), 1, "drone"),
        ("0.033333: 673.0, 315.0, 710.0, 340.0, 7.0", 0.033333, (673, 315, 710, 340), 7, "drone"),
        ("1:1,2,3,4", 1.0, (1, 2, 3, 4), 1, "drone"),
        ("  1.0 :  -4.5 ,2, 3 ,4 , 19 ,  ", 1.0, (-4.5, 2, 3, 4), 19, "drone"),
        ("1.0: 1, 2, 3, 4, 1, Tello: EDU, red", 1.0, (1, 2, 3, 4), 1, "Tello: EDU, red"),
        ("1.0: 3, 4, 1, 2, 1, backwards", 1.0, (3, 4, 1, 2), 1, "backwards"),
    ],
)
def test_every_published_form_is_read(line, time_s, box, drone, model):
    assert parse_line(line) == Annotation(time_s, box, drone, model)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1.0",
        "1.0:",
        "1.0: 1, 2, 3",
        "1.0 1, 2, 3, 4",
        "1.0: 1 2 3 4",
        "one: 1, 2, 3, 4",
        "1.0: 1, 2, x, 4",
        "1.0: 1, 2, , 4",
        "1.0: nan, 2, 3, 4",
        "inf: 1, 2, 3, 4",
        "1.0: 1, 2, 3, 4, DJI Mini 2",
        "1.0: 1, 2, 3, 4, inf",
        "4.433289,19,686,308,21,21",
        "0 0.540234375 0.4548611111111111 0.02890625 0.034722222222222224",
        "\0\ufffd",
    ],
)
def test_anything_else_is_malformed(line):
    assert parse_line(line) is None


@given(st.text() | st.text(alphabet="0123456789.:,-einfa \t"))
@example("1e308: 1, 2, 3, 4, 1e308")
def test_the_parser_never_raises_and_its_numbers_are_finite(line):
    annotation = parse_line(line)
    if annotation is not None:
        assert all(map(math.isfinite, (annotation.time_s, *annotation.box)))
        frame_number(annotation.time_s)


@given(st.integers(-3, 200_000))
def test_a_printed_time_gives_its_frame(frame):
    assert frame_number(float(str(round(frame * 0.033333, 6)))) == frame


@pytest.mark.parametrize("time_s", [0.016, 0.0322, 1.335, 1e308, -1e308, 86_400.0])
def test_a_time_between_two_frames_gives_none(time_s):
    assert frame_number(time_s) is None

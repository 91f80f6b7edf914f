"""The output of a live trainer is read on, bounded in bytes and in processor time."""

from pathlib import Path

import pytest

from fred_supervisor.attempt.output_reader import OutputReader, patterns_of
from fred_supervisor.linux.time_box import OutOfTimeError, time_box
from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.patterns import LinePatterns, OwnPatterns
from fred_supervisor.output.signs import LineSigns
from fred_supervisor.policy.message import Topic


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "output.log"
    path.touch()
    return path


def write(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def reader(path: Path, *, known: tuple[str, ...] = ()) -> OutputReader:
    return OutputReader(path, BuiltInPatterns(), known)


def step(one: OutputReader) -> int | None:
    beat = one.beat(1)
    return None if beat is None else beat.step


def test_a_bar_that_is_drawn_over_itself_by_going_back(log: Path):
    one = reader(log)
    bars = [f"{n}/100 ━━━━━━━━━━━━ 0s 9ms/step - loss: 13.0" for n in (1, 13, 25)]
    write(log, "".join(f"{bar}{chr(8) * len(bar)}\r" for bar in bars).encode())
    one.look(0.0)
    assert step(one) == 25
    (told,) = one.news()
    assert told.facts["line"] == bars[-1]


def test_a_line_that_is_not_finished_waits(log: Path):
    one = reader(log)
    write(log, b"step 1\nstep 2\nstep 3\nstep 1")
    one.look(0.0)
    assert step(one) == 3
    write(log, b"50\rstep 2")
    one.look(1.0)
    assert step(one) == 150
    write(log, b"00")
    one.look(2.0, final=True)
    assert step(one) == 200, "at the end, what stands there is a line, too"


def test_of_a_flood_the_newest_lines_are_read(log: Path):
    one = reader(log)
    write(log, b"".join(b"step %d of 1000000 of some words\n" % n for n in range(200_000)))
    one.look(0.0)
    assert step(one) == 199_999
    assert one._offset == log.stat().st_size
    write(log, b"step 200000 of 1000000\n")
    one.look(0.001)
    assert step(one) == 200_000


def test_a_line_without_end_costs_no_memory(log: Path):
    one = reader(log)
    for number in range(64):
        write(log, b"x" * 8000)
        one.look(float(number))
    assert len(one._rest) <= 8192
    write(log, b"\nstep 1\nstep 2\nstep 3\n")
    one.look(99.0)
    assert step(one) == 3


def test_a_hole_and_a_file_that_was_emptied(log: Path):
    one = reader(log)
    write(log, b"step 1\nstep 2\nstep 3\n")
    one.look(0.0)
    log.write_bytes(b"step 4\n")
    one.look(1.0)
    assert step(one) == 4
    with log.open("r+b") as file:
        file.seek(1 << 30)
        file.write(b"\nstep 5\n")
    one.look(2.0)
    assert step(one) == 5
    log.unlink()
    one.look(3.0)
    assert step(one) == 5


def test_colours_and_bytes_that_are_no_text(log: Path):
    one = reader(log)
    for number in (1, 2, 3):
        write(log, b"\x1b[32m\xff\x00 epoch \x1b[1m%d/9\x1b[0m\r\n" % number)
    one.look(0.0)
    assert one.beat(1).epoch == 3


def test_what_is_read_is_told_once(log: Path):
    one = reader(log)
    write(log, b"step 1\nstep 2\n")
    one.look(0.0)
    assert one.news() == ()
    write(log, b"  step 3: fine\n")
    one.look(1.0)
    (message,) = one.news()
    assert (message.topic, message.facts) == (
        Topic.READS_POSITION,
        {"line": "step 3: fine", "open_end": True},
    )
    assert one.news() == ()
    later = reader(log, known=one.known)
    later.look(2.0)
    assert step(later) == 3
    assert later.news() == ()


def test_the_time_between_lines_is_known_before_they_are_believed(log: Path):
    one = reader(log)
    for number in (1, 2, 3):
        write(log, b"Epoch %d/9\n" % number)
        one.look(number * 4000.0)
    assert one.gap_s == 4000.0


STEPS = OwnPatterns((r"step (?P<step>\d+)",))


def told(one: OutputReader) -> list[Topic]:
    return [message.topic for message in one.news()]


def test_a_pattern_that_fits_no_line_is_said_to_once(log: Path):
    one = OutputReader(log, STEPS, ())
    write(log, b"Epoch 1/9\n" * 199)
    one.look(0.0)
    assert told(one) == []
    write(log, b"Epoch 2/9\n")
    one.look(1.0)
    assert told(one) == [Topic.PATTERN_FITS_NOTHING]
    write(log, b"Epoch 3/9\n" * 200)
    one.look(2.0)
    assert told(one) == []


@pytest.mark.parametrize(
    ("read", "line", "later_s", "said"),
    [
        ((STEPS, ()), b"Epoch 1/9\n", 600.0, True),
        ((STEPS, ()), b"Epoch 1/9\n", 599.0, False),
        ((STEPS, ()), b"step 1\n", 600.0, False),
        ((STEPS, ("own 1",)), b"Epoch 1/9\n", 600.0, False),
        ((BuiltInPatterns(), ()), b"hello\n", 600.0, False),
    ],
    ids=["ten minutes", "not yet", "it fits", "it has fitted", "built-in"],
)
def test_ten_minutes_of_output_that_fits_nothing(
    log: Path, read: tuple[LinePatterns, tuple[str, ...]], line: bytes, later_s: float, said: bool
):
    one = OutputReader(log, *read)
    for at_s in (0.0, later_s):
        write(log, line)
        one.look(at_s)
    one.look(later_s + 9000.0)  # silence is no output
    assert told(one) == [Topic.PATTERN_FITS_NOTHING] * said


def test_a_pattern_that_never_ends_is_given_up(log: Path):
    one = OutputReader(log, OwnPatterns((r"^(\w+\s?)*: (?P<step>\d+)$",)), ())
    write(log, b"a: 1\na: 2\na: 3\n")
    one.look(0.0)
    assert step(one) == 3
    write(log, b"a" * 60 + b"!\n")
    one.look(1.0)
    assert one.too_slow
    assert [message.topic for message in one.news()] == [Topic.READS_POSITION, Topic.PATTERN_TOO_SLOW]
    write(log, b"a: 4\n")
    one.look(2.0)
    assert step(one) == 3
    assert one.news() == ()


def test_a_box_of_time():
    def endless() -> None:
        with time_box(0.01):
            while True:
                pass

    with pytest.raises(OutOfTimeError):
        endless()
    with time_box(60.0):
        pass
    sum(range(1000))


def test_which_patterns():
    assert patterns_of(["none"]) is None
    assert not patterns_of([]).certain
    assert not patterns_of(["auto"]).certain
    assert patterns_of([r"(?P<step>\d+)"]).certain


def test_lines_that_nobody_has_read_may_have_come(log: Path):
    one = OutputReader(log, None, (), LineSigns(recur=("saved",)))
    write(log, b"words\n")
    one.look(0.0)
    assert one.signs.recurred == {}, "what has never come is not missed"
    write(log, b"saved\n")
    one.look(1.0)
    one.look(2.0)
    assert one.signs.recurred == {"saved": 1}
    write(log, b"x\n" * 100_000)
    one.look(3.0)
    assert one.signs.recurred == {"saved": 2}, "it may stand in what was passed over"
    log.unlink()
    one.look(4.0)
    assert one.signs.recurred == {"saved": 3}

"""What an incident says was checked: its place, its cost, what came of it, the last lines as a terminal shows them."""

import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.attempt.incident import recovered
from fred_supervisor.cli.incidents import short, whole
from fred_supervisor.cli.report.page import _twice
from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.linux import text_io
from fred_supervisor.linux.text_io import last_lines
from fred_supervisor.store.journal import Incident

AT = "2026-11-26T12:00:00.000Z"
NOW = datetime(2026, 11, 26, 12, 1, tzinfo=UTC)


def beat(epoch: int | None, step: int | None, steps: int | None = 100) -> Beat:
    return Beat(
        seq=1, pid=1, section=Section.TRAIN, phase=None, epoch=epoch, epochs=None, step=step, steps=steps, samples=None,
        loss=None, done=False,
    )  # fmt: skip


def failed(number: int, epoch: int | None, step: int | None, **facts: Any) -> Incident:
    return Incident(id=number, at=AT, epoch=epoch, step=step, evidence={"last_heartbeat": {"steps": 100}}, **facts)


@pytest.mark.parametrize(
    ("reached", "over"),
    [
        (beat(50, 7), True),
        (beat(50, 6), False),
        (beat(51, 1), True),
        (beat(1, 99), False),  # started over
        (beat(50, 15, 200), True),  # half the batch, twice the steps
        (beat(50, 8, 200), False),
        (beat(50, 4, 50), True),
        (None, False),
    ],
)
def test_an_incident_is_over_when_training_is_where_it_failed(reached: Beat | None, over: bool):
    assert bool(recovered([failed(1, 50, 7)], reached, NOW)) is over


def test_without_a_place_new_progress_is_all_that_is_said():
    (over,) = recovered([failed(1, None, None)], None, NOW)
    assert over.recovered_after_s == 60.0
    assert "New progress after 60 s." in " ".join(short(over, width=500))
    assert "that point" not in " ".join(short(over, width=500))


def test_what_lies_before_one_that_is_over_is_not_read():
    def newest_first():
        yield failed(3, 5, 1)
        yield failed(2, 4, 1, recovered_after_s=1.0)
        raise AssertionError("read")

    assert [one.id for one in recovered(newest_first(), beat(9, 1), NOW)] == [3]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "not recovered yet"),
        ("holding", "not recovered yet"),
        ("completed", "the run is completed all the same"),
        ("failed", "crash, not recovered"),
        ("stopped", "crash, not recovered"),
    ],
)
def test_what_came_of_it_depends_on_the_run(state: str, said: str):
    head = whole(failed(1, 2, 3, kind="crash"), name="t", state=state)[0]
    assert said in head
    assert head.endswith("yet") is said.endswith("yet")


@pytest.mark.parametrize(
    ("beaten", "said"), [(True, "its beats do not say"), (None, "had not said yet"), (False, "had not said yet")]
)
def test_where_it_failed_may_not_be_known(beaten: bool | None, said: str):
    incident = Incident(id=1, at=AT, evidence={"has_beaten": beaten})
    text = "\n".join(whole(incident, name="t", state="running", width=300))
    assert said in text
    assert "before the first beat" not in text


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ([], ""),
        ([None, None], ", how much was trained twice is not known"),
        ([3, None], ", at least 3 steps trained twice"),
        ([3, 0], ", 3 steps trained twice"),
    ],
)
def test_nothing_is_not_the_same_as_not_known(lost: list[int | None], said: str):
    assert _twice(lost, exact=True) == said


def test_what_was_printed_is_the_least_that_was_trained_twice():
    assert _twice([3, 0], exact=False) == ", at least 3 steps trained twice"


def test_an_incident_of_a_trainer_that_touches_says_that_it_beat(fred):
    script = "date > $FRED_HEARTBEAT; exit 3"
    fred("start", "--foreground", "--name", "t", "--max-restarts", "0", "--", "sh", "-c", script)
    assert "its beats do not say where in training it is" in " ".join(fred("incidents", "t", "1").stdout.split())


# -- the last lines ----------------------------------------------------------------------------------------------------


def as_a_terminal_shows(data: bytes) -> list[str]:
    """All at once, without regard to size."""
    lines = data.split(b"\n")
    shown = [next((one for one in reversed(line.split(b"\r")) if one), b"").decode(errors="replace") for line in lines]
    return shown[:-1] if shown[-1] == "" else shown


@given(
    parts=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bcd", b"\xff", "é".encode(), b""]), max_size=60),
    count=st.integers(min_value=1, max_value=9),
    chunk=st.integers(min_value=1, max_value=7),
)
def test_lines_are_the_same_however_the_file_is_cut(tmp_path_factory, parts: list[bytes], count: int, chunk: int):
    path: Path = tmp_path_factory.mktemp("output") / "output.log"
    path.write_bytes(b"".join(parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_io, "_CHUNK", chunk)
        assert last_lines(path, count) == as_a_terminal_shows(b"".join(parts))[-count:]


def test_a_bar_is_one_line_and_what_stood_before_it_is_shown(tmp_path: Path):
    path = tmp_path / "output.log"
    noise = random.Random(1)
    with path.open("wb") as file:
        file.write(b"".join(b"line %d\n" % n for n in range(60)))
        file.write(b"".join(b"\r%3d%%|" % (n // 600) + b"#" * noise.randrange(90) for n in range(60_000)))
        file.write(b"\nRuntimeError: the end\n")
    lines = last_lines(path, 50)
    assert len(lines) == 50
    assert lines[0] == "line 12"
    assert lines[-2].startswith(" 99%|")
    assert lines[-1] == "RuntimeError: the end"


def test_what_is_no_file_has_no_lines(tmp_path: Path):
    assert last_lines(tmp_path, 5) == last_lines(tmp_path / "none", 5) == []
    (tmp_path / "empty").touch()
    assert last_lines(tmp_path / "empty", 5) == []


def test_an_incident_holds_the_lines_before_the_bar(fred):
    program = (
        "import sys\nprint('loading')\n"
        "for n in range(20000): sys.stdout.write(f'\\r{n} of 20000 ' + '#' * 50)\n"
        "raise RuntimeError('the end')"
    )
    fred("start", "--foreground", "--name", "t", "--max-restarts", "0", "--", sys.executable, "-c", program)
    output = fred.incidents()[0]["evidence"]["output"]
    assert output[0] == "loading"
    assert len(output) < 12

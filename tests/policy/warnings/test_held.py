"""Warnings begin, hold and end by themselves: by tables, by what must always hold, and through `decide`."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.scripted import History

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import json_bytes
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.warnings.held import HeldWarning, Moment, Sign, follow, taken_over
from fred_supervisor.policy.warnings.rows import ROWS, WarningKind
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import StateFile, read_state

FULL = say(Topic.DISK_FORECAST, left_h=3.0)
BAD, WELL, UNKNOWN = FULL, None, "unknown"


def told(kind: WarningKind, looks: Sequence[tuple[float, Any]], **how: Any) -> list[tuple[float, str]]:
    """When a warning of a kind begins and ends; `looks` are (seconds, what is seen)."""
    held: tuple[HeldWarning, ...] = ()
    found = []
    for now_s, seen in looks:
        signs = [] if seen == UNKNOWN else [Sign(kind=kind, message=seen)]
        trains = how.get("trains", lambda now_s: True)(now_s)
        held, begin, over = follow(held, signs, Moment(now_s=now_s, time=f"{now_s:g}"), trains=trains)
        found += [(now_s, "begins") for _ in begin] + [(now_s, "ends") for _ in over]
    return found


@pytest.mark.parametrize(
    ("kind", "looks", "expected"),
    [
        (WarningKind.WSL, [(0, BAD), (1, BAD), (2, WELL), (3, WELL), (4, BAD)], [(0, "begins"), (2, "ends"), (4, "begins")]),
        (WarningKind.WSL, [(0, BAD), (9000, UNKNOWN), (9001, WELL)], [(0, "begins"), (9001, "ends")]),
        (WarningKind.WSL, [(0, WELL), (1, UNKNOWN)], []),
        (WarningKind.DISK, [(0, BAD), (5, WELL), (60, BAD), (65, WELL), (184, WELL), (185, WELL)], [(0, "begins"), (185, "ends")]),
        (WarningKind.LEAK, [(0, BAD), (30, WELL), (40, BAD), (99, BAD), (100, BAD)], [(100, "begins")]),
        (WarningKind.LEAK, [(0, BAD), (59, BAD), (61, UNKNOWN), (62, WELL)], []),
        (WarningKind.CLOCK, [(0, BAD), (1, WELL), (3599, UNKNOWN), (3600, UNKNOWN)], [(0, "begins"), (3600, "ends")]),
        (WarningKind.CLOCK, [(0, BAD), (3000, BAD), (3600, UNKNOWN), (6600, WELL)], [(0, "begins"), (6600, "ends")]),
    ],
)  # fmt: skip
def test_when_a_warning_begins_and_ends(kind: WarningKind, looks: list[tuple[float, Any]], expected: list[Any]):
    assert told(kind, looks) == expected


def test_what_is_of_an_attempt_ends_with_it():
    looks = [(0, BAD), (1, UNKNOWN), (2, UNKNOWN)]
    assert told(WarningKind.RESUME, looks, trains=lambda now_s: now_s < 2) == [(0, "begins"), (2, "ends")]
    assert told(WarningKind.DISK, looks, trains=lambda now_s: now_s < 2) == [(0, "begins")]


def test_two_things_of_one_kind_are_two_warnings():
    signs = [Sign(kind=WarningKind.WSL, about=name, message=FULL) for name in ("a", "b")]
    held, begin, _ = follow((), signs, Moment(now_s=0.0), trains=True)
    assert [message.facts["about"] for message in begin] == ["a", "b"]
    held, _, over = follow(held, [Sign(kind=WarningKind.WSL, about="a")], Moment(now_s=1.0), trains=True)
    assert [one.about for one in held] == ["b"]
    assert over[0].facts["kind"] == "wsl"


@given(
    st.sampled_from(WarningKind),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([BAD, WELL, UNKNOWN])), max_size=40),
    st.integers(0, 8000),
)
def test_begins_and_ends_alternate(kind: WarningKind, steps: list[tuple[int, Any]], dies_s: int):
    now_s, looks = 0, []
    for after_s, seen in steps:
        now_s += after_s
        looks.append((float(now_s), seen))
    found = [word for _, word in told(kind, looks, trains=lambda at_s: at_s < dies_s)]
    assert found == ["begins", "ends"] * (len(found) // 2) + ["begins"] * (len(found) % 2)
    if all(seen != BAD for _, seen in looks):
        assert found == []


def test_the_next_supervisor_goes_on_with_them(tmp_path):
    held, _, _ = follow((), [Sign(kind=WarningKind.DISK, message=FULL)], Moment(now_s=5e6, time="2026"), trains=True)
    pending = HeldWarning(kind=WarningKind.LEAK, first_s=5e6)
    run = RunDir(tmp_path)
    run.supervisor.mkdir()
    StateFile(history=RunHistory(warnings=(*held, pending))).write(run)
    stored = taken_over(read_state(run).history.warnings)
    assert [(one.kind, one.since, one.begun) for one in stored] == [(WarningKind.DISK, "2026", True)]
    after, begin, over = follow(stored, [Sign(kind=WarningKind.DISK, message=FULL)], Moment(now_s=3.0), trains=True)
    assert (begin, over) == ((), ())
    assert after[0].since == "2026"
    well = Sign(kind=WarningKind.DISK)
    after, _, over = follow(stored, [well], Moment(now_s=3.0), trains=False)  # the clock began anew: not 5e6 s ago
    assert over == ()
    after, _, over = follow(after, [well], Moment(now_s=200.0), trains=False)
    assert len(over) == 1


def test_a_garbled_warning_costs_no_history():
    document = {"attempt": 3, "warnings": [{"kind": "unheard of"}]}
    found = decode(RunHistory, document)
    assert found is not None
    assert (found.attempt, found.warnings) == (3, ())
    assert b"unheard" in json_bytes(document)


def events(history: History) -> list[tuple[JournalEvent, Message]]:
    return [(action.event, action.message) for action in history.actions if isinstance(action, Note)]


def test_they_stand_in_the_journal_as_what_they_are():
    run = History().train(1, 1)
    for kind in (WarningKind.DISK, WarningKind.WSL, WarningKind.RESUME):
        run.see(signs=(Sign(kind=kind, message=FULL),), time="2026-11-27T02:00:00Z")
    run.see()
    run.end(signal=9)
    run.see(signs=(Sign(kind=WarningKind.WSL),))
    found = [(str(event), message.facts["kind"]) for event, message in events(run) if "kind" in message.facts]
    assert found == [("disk", "disk"), ("warning", "wsl"), ("warning", "resume"), ("warning over", "resume"), ("warning over", "wsl")]  # fmt: skip
    assert [one.kind for one in run.state.history.warnings] == [WarningKind.DISK]
    assert run.state.history.warnings[0].since == "2026-11-27T02:00:00Z"


@pytest.mark.parametrize("kind", WarningKind)
def test_every_kind_has_its_row(kind: WarningKind):
    assert ROWS[kind].begins.alert is not None

"""Memory and open files that grow towards a limit: who grows, when it is reached, and a planned relaunch before it."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.test_cause import beat

from fred_supervisor.policy.actions import Note, Spawn, Terminate
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.policy.observation import FreshCheckpoint, Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State, Stopping
from fred_supervisor.policy.warnings.held import HeldWarning
from fred_supervisor.policy.warnings.machine import MachineLook, TrainerProcess
from fred_supervisor.policy.warnings.memory import RecentValues
from fred_supervisor.policy.warnings.robust import slope
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import HeartbeatReading, begin
from fred_supervisor.words.sentences import sentence

GIB = 1024.0
OURS = Settings(leak_restart=True)


def look(
    main: float, worker: float = 500.0, *, limit: float = 16 * GIB, files: int = 80, cgroup: bool = True
) -> MachineLook:
    processes = (
        TrainerProcess(pid=10, name="python", mib=main, open_files=files, main=True),
        TrainerProcess(pid=11, name="pt_data_worker", mib=worker, open_files=40),
    )
    return MachineLook(
        processes=processes, used_mib=main + worker, limit_mib=limit, limit_of_cgroup=cgroup, open_files_limit=1024
    )


class Night:
    """Samples of the monitor every ten seconds, and epochs of ten minutes."""

    def __init__(self, with_settings: Settings = OURS, *, printed: bool = False, epoch_s: float = 600.0) -> None:
        self.settings, self.now_s, self.epoch_s = with_settings, 0.0, epoch_s
        self.state: State = Running(history=RunHistory(attempt=1), watch=begin(0.0), since_s=0.0)
        self.actions: list = []
        self.source = {"source": "output"} if printed else {}

    def see(self, seen: MachineLook | None, **more) -> "Night":
        self.now_s += 10.0
        one = beat(
            epoch=1 + int(self.now_s / self.epoch_s),
            step=int(self.now_s % self.epoch_s),
            steps=600,
            loss=1 + self.now_s % 7,
            **self.source,
        )
        looks = (HeartbeatReading(stamp=str(self.now_s), beat=one),)
        after, actions = decide(
            self.settings, self.state, Observation(now_s=self.now_s, machine=seen, looks=looks, **{"time": "t", **more})
        )
        self.state = after
        self.actions += [(self.now_s, action) for action in actions]
        return self

    @property
    def told(self) -> list[str]:
        return [
            sentence(a.message) for _, a in self.actions if isinstance(a, Note) and a.message.topic is Topic.WARNING
        ]

    @property
    def ended_s(self) -> float | None:
        return next((at_s for at_s, a in self.actions if isinstance(a, Terminate)), None)


def test_a_worker_that_leaks_is_named_hours_before():
    night = Night(replace(OURS, leak_restart=False))
    for n in range(360):
        night.see(look(4 * GIB, 500 + n * 10 / 3600 * 2048))  # 2 GiB an hour
    (text,) = night.told
    assert "+2.0 GiB an hour) and will be at the limit of its control group (16.0 GiB) in about 5." in text
    assert "It is a process below it, 11 (pt_data_worker), that grows" in text
    assert night.ended_s is None


def test_the_main_process_without_a_limit_of_its_own():
    night = Night()
    for n in range(200):
        night.see(look(4 * GIB + n * 20, cgroup=False))
    assert "will have used up the machine's (16.0 GiB for it)" in night.told[0]
    assert "It is the main process, 10 (python), that grows." in night.told[0]


def test_open_files_that_grow():
    night = Night()
    for n in range(200):
        night.see(look(4 * GIB, files=80 + n))
    assert "Open files rise steadily" in night.told[0]
    assert "at the limit of 1024" in night.told[0]


def shapes():
    """What memory does in runs that are well."""
    dice = random.Random(3)
    yield "flat", lambda n: 4000 + dice.gauss(0, 60)
    yield "a step at the first evaluation", lambda n: 4000 if n < 90 else 6500
    yield "each epoch fills a cache, and frees it", lambda n: 4000 + n % 60 * 30
    yield "evaluations", lambda n: 4000 + (3000 if n % 60 < 9 else 0)
    yield "a cache that fills and is full", lambda n: min(9000.0, 4000 + n * 25)
    yield "an allocator that saturates", lambda n: 9000 - 5000 * 0.98**n
    yield "it falls", lambda n: 9000 - n * 5
    yield "it creeps", lambda n: 4000 + n * 0.05
    yield "steps that grow less and less", lambda n: 4000 + 800 * (n // 60) ** 0.3


@pytest.mark.parametrize(("name", "mib"), list(shapes()))
def test_what_is_no_leak(name, mib):
    night = Night()
    for n in range(700):
        night.see(look(mib(n), limit=24 * GIB))
    assert night.told == [] or name == "a cache that fills and is full"
    assert night.state.history.warnings == ()
    assert night.ended_s is None


def test_what_is_not_known_is_no_leak():
    night = Night()
    for n in range(300):
        night.see(MachineLook(used_mib=4000 + n * 30.0) if n % 2 else None)
    assert night.told == []


def test_it_is_saved_and_relaunched_at_an_epochs_end_before_the_limit():
    night = Night()
    n = 0
    while night.ended_s is None and n < 1000:
        night.see(look(4 * GIB, 500 + n * 20))  # 7 GiB an hour
        n += 1
    assert isinstance(night.state, Stopping)
    assert night.now_s % 600 == 0
    used = 4 * GIB + 500 + (n - 1) * 20
    left_s = (16 * GIB - used) / 2.0
    assert 180 < left_s < 1800 + 600
    notes = [a for _, a in night.actions if isinstance(a, Note) and a.event is JournalEvent.RESTART]
    assert sentence(notes[0].message).startswith("Saved and relaunched before its memory reaches the limit, in about")
    spent = night.state.history
    after, actions = decide(
        OURS, night.state, Observation(now_s=night.now_s + 5, ended=Evidence(attempt=1, exit_code=75))
    )
    assert any(isinstance(a, Spawn) for a in actions)
    assert (after.history.spent, after.history.restarts.total) == (spent.spent, 0)
    assert after.history.warnings == ()
    assert after.history.leak_restart_s == night.now_s


def test_one_that_was_relaunched_for_it_before_says_when_it_may_be_again():
    night = Night()
    night.state = replace(night.state, history=replace(night.state.history, leak_restart_s=0.0))
    n = 0
    while not night.told:
        n += 1
        time = f"2026-11-27T{n // 360:02d}:{n // 6 % 60:02d}:{n % 6}0.000Z"
        night.see(look(4 * GIB, 500 + n * 20), time=time)
    at = datetime(2026, 11, 27, 6, tzinfo=UTC).astimezone().strftime("%H:%M")
    assert night.told[0].endswith(f"It was relaunched for this before, and is not again before {at}.")


HELD = HeldWarning(kind=WarningKind.LEAK, about="memory", begun=True, facts={"topic": "memory grows", "left_s": 60.0}, seen_s=10.0, first_s=0.0)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ({}, True),
        ({"settings": Settings()}, False),
        ({"history": {"progressed": False, "furthest": {"epoch": 99.0}}}, False),
        ({"history": {"leak_restart_s": 10.0}}, False),
        ({"history": {"leak_restart_s": 1e9}}, True),  # of before a boot
        ({"held": {"about": "files"}}, False),
        ({"held": {"well_s": 10.0}}, False),
        ({"held": {"begun": False}}, False),
        ({"held": {"facts": {}}}, False),
        ({"held": {"facts": {"left_s": 900.0}}}, False),  # no epoch ends yet
        ({"printed": True}, False),  # nobody knows that it can save
        ({"printed": True, "more": {"fresh_checkpoint": FreshCheckpoint.REWRITTEN}}, True),
        ({"held": {"facts": {"left_s": 500.0}}, "more": {"fresh_checkpoint": FreshCheckpoint.REWRITTEN}}, True),
    ],
)
def test_when_it_is_relaunched(change, ends):
    night = Night(change.get("settings", OURS), printed=change.get("printed", False))
    night.see(None)
    held = replace(HELD, **change.get("held", {}))
    history = replace(night.state.history, **{"progressed": True, "warnings": (held,), **change.get("history", {})})
    night.state = replace(night.state, history=history)
    night.see(None, **change.get("more", {}))
    assert (night.ended_s is not None) == ends


@pytest.mark.parametrize(("used_mib", "ends"), [(7000.0, False), (9000.0, True), (None, True)])
def test_nobody_is_relaunched_while_most_of_the_memory_is_free(used_mib: float | None, ends: bool):
    """It was a cache, or has been let go since."""
    night = Night()
    night.see(None)
    history = replace(night.state.history, progressed=True, warnings=(HELD,))
    night.state = replace(night.state, history=history)
    night.see(MachineLook(used_mib=used_mib, limit_mib=16000.0))
    assert (night.ended_s is not None) == ends


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 50), st.floats(-1e4, 1e4), st.lists(st.integers(0, 19), max_size=4, unique=True))
def test_a_few_wild_points_do_not_bend_the_slope(rate, start, wild):
    points = tuple((n * 30.0, start + rate * n * 30.0 + (1e6 if n in wild else 0.0)) for n in range(20))
    assert slope(points) == pytest.approx(rate, rel=1e-3) or len(wild) > 3


def test_a_series_is_a_window():
    series = RecentValues()
    for n in range(2000):
        series = series.add(n * 1.0, float(n), 600.0)
    assert len(series.points) <= 62
    assert series.growth(600.0) == pytest.approx(1.0)
    assert RecentValues().growth(600.0) is None

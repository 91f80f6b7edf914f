"""What a history of any length costs: files are thinned by a rule, and nobody reads all of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.helpers.history import make_history

from fred_supervisor.attempt import incident
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.maintenance import Maintenance
from fred_supervisor.store import journal
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import RunDir

WHOLE = {"launch.json", "exit.json", "error.json", "output.log", "heartbeat", "code.json"}
SMALL = {"launch.json", "exit.json", "error.json"}


def test_the_first_and_the_last_attempts_are_kept_whole(tmp_path: Path):
    run = RunDir(tmp_path)
    spec: Any = SimpleNamespace(dir=run)
    care = Maintenance(cast(LiveRun, SimpleNamespace(spec=spec)), output_max_mib=1, note=lambda *_: None)
    for newest in range(1, 121):
        folder = run.attempt(newest).path
        folder.mkdir(parents=True)
        for name in WHOLE:
            (folder / name).touch()
        if newest % 7 == 0:  # it does not live long enough each time
            care._thin_attempts(newest)
    kept = {n: {path.name for path in run.attempt(n).path.iterdir()} for n in range(1, 121)}
    assert kept[1] == WHOLE
    assert all(kept[n] == SMALL for n in range(2, 119 - 49)), "of each something stays"
    assert all(kept[n] == WHOLE for n in range(119 - 49, 121))


def test_the_journal_is_begun_anew_and_the_one_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "_JOURNAL_BYTES", 2000)
    run = RunDir(tmp_path)
    run.supervisor.mkdir()
    for number in range(100):
        Journal(run).append(JournalEvent.STALLED, text=str(number))
    before = run.supervisor / "journal.1.jsonl"
    lines = [*before.read_text().splitlines(), *run.journal.read_text().splitlines()]
    assert lines[-1].endswith('"text": "99"}')
    assert before.stat().st_size < 2200
    assert len(lines) > 20


@pytest.mark.parametrize("count", [1, 29, 30, 31, 60, 61, 300])
def test_of_many_samples_so_many_are_kept_and_the_last_is_among_them(count: int):
    records = [{"n": n} for n in range(count)]
    kept = incident._thinned(records)
    assert kept[-1] == records[-1]
    assert min(count, 15) <= len(kept) <= 30


def test_thousands_are_listed_when_asked_for(fred, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    make_history(fred.home / "fred_long", epochs=10, steps=2, incidents=203)
    listed = fred("incidents", "long").stdout
    assert listed.startswith("3 older ones are not shown; --all shows them.")
    assert listed.count("What was lost") + listed.count("steps lost") == 200
    every = fred("incidents", "long", "--all").stdout
    assert "older ones" not in every
    assert every.count("steps lost") == 203
    page = fred("report", "long", "-o", "-").stdout
    assert "Incidents (200 of 203)" in page
    assert "at least" in page

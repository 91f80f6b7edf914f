"""What a history of any length costs: files are thinned by a rule, and nobody reads all of it."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.helpers.history import make_history

from fred_supervisor.attempt import incident
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import proc
from fred_supervisor.linux.sparing import Sparing
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.run import maintenance
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.maintenance import Maintenance
from fred_supervisor.store import checkpoints, journal
from fred_supervisor.store.checkpoint_order import newest_first
from fred_supervisor.store.checkpoints import CheckpointPicker, foreign_checkpoints, stamp
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import RunSpec

WHOLE = {"launch.json", "exit.json", "error.json", "output.log", "heartbeat", "code.json"}
SMALL = {"launch.json", "exit.json", "error.json"}


def test_the_first_and_the_last_attempts_are_kept_whole(tmp_path: Path):
    run = RunDir(tmp_path)
    spec: Any = SimpleNamespace(dir=run)
    care = Maintenance(cast(LiveRun, SimpleNamespace(spec=spec)), output_max_mib=1, prove_s=0, note=lambda *_: None)
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


def test_of_a_run_with_much_output_the_newest_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(maintenance, "_OUTPUT_BYTES", 20 << 20)
    run = RunDir(tmp_path)
    for number in range(1, 9):
        run.attempt(number).path.mkdir(parents=True)
        run.attempt(number).output.write_bytes(b"begin" + bytes(range(256)) * (8 << 12) + b"end")
    spec: Any = SimpleNamespace(dir=run)
    care = Maintenance(cast(LiveRun, SimpleNamespace(spec=spec)), output_max_mib=1, prove_s=600.0, note=lambda *_: None)
    care._thin_output(8)
    used = [os.stat(run.attempt(number).output).st_blocks >> 11 for number in range(1, 9)]
    assert all(mib <= 4 for mib in used[:5]), used
    assert used[5:] == [8, 8, 8], "the running one, and what fits beside it"
    kept = run.attempt(1).output.read_bytes()
    assert (kept[:5], kept[-3:], len(kept)) == (b"begin", b"end", (8 << 20) + 8)


def sample(at: int, *gpus: str) -> dict[str, object]:
    values = {
        "used_mib": 900 + at,
        "trainer_mib": None,
        "temperature_c": 61,
        "power_w": 200.5,
        "throttle": ["power cap"],
    }
    host = {"memory_available_mib": 20000 - at, "swap_used_mib": 0, "trainer_rss_mib": None, "disk_free_mib": 70000}
    seen = [{"uuid": uuid, **values} for uuid in gpus]
    return {"time": f"2026-11-28T01:00:{at:02d}.000Z", "nvml": "ok", "gpus": seen, "host": host}


def test_samples_are_kept_in_a_third_of_the_room_and_read_as_they_were(tmp_path: Path):
    incidents = journal.Incidents(RunDir(tmp_path))
    before = [sample(at, "GPU-1", *(["GPU-2"] if at > 7 else [])) for at in range(60)]
    incidents.write(journal.Incident(id=1, evidence={"minutes_before": before, "output": ["x"]}))
    found = incidents.read(1)
    assert found is not None
    assert found.document()["evidence"] == {"minutes_before": before, "output": ["x"]}
    assert incidents.dir.incident(1).stat().st_size < len(json.dumps(before)) / 3
    incidents.write(found)  # as when it is over
    assert incidents.read(1) == found


@pytest.mark.parametrize(
    "garbled",
    [None, "x", [], [None, 3], [{"host": 7, "gpus": [1]}], [sample(1), {}], {}, {"time": ["x"]}, {"time": 3, "gpus": {}},
     {"time": ["x"], "nvml": [], "host": {}, "gpus": {}}, {"time": ["x"], "nvml": [1], "host": {"a": [1, 2]}, "gpus": {}}],
)  # fmt: skip
def test_samples_that_make_no_sense_are_left_as_they_are(tmp_path: Path, garbled: object):
    incidents = journal.Incidents(RunDir(tmp_path))
    for _ in range(2):
        incidents.write(journal.Incident(id=1, evidence={"minutes_before": garbled}))
        found = incidents.read(1)
        assert found is not None
        assert found.document()["evidence"] == {"minutes_before": garbled}


def test_incidents_are_listed_again_only_when_there_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, listed = RunDir(tmp_path), 0
    listdir = os.listdir

    def counted(path: Any) -> list[str]:
        nonlocal listed
        listed += path == run.incidents
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    incidents = journal.Incidents(run)
    assert (incidents.numbers(), incidents.next_number(), incidents.last()) == ([], 1, None)
    for number in (1, 2, 10, 11):
        incidents.write(journal.Incident(id=number))
    for _ in range(5):
        assert (incidents.numbers(), incidents.next_number()) == ([1, 2, 10, 11], 12)
    assert listed == 1
    for name in ("0012.json", "x.json", "²³.json", "0013.txt"):
        (run.incidents / name).touch()
    os.utime(run.incidents, ns=(1, 1))
    assert incidents.numbers() == [1, 2, 10, 11, 12], "by whomever"


def test_a_look_is_taken_so_seldom_that_it_costs_little():
    taken: list[float] = []

    def look() -> float:
        while time.process_time() < end_s:
            pass
        taken.append(0.0)
        return float(len(taken))

    sparing = Sparing(look, most_s=60.0)
    end_s = time.process_time() + 0.1
    assert [sparing.seen() for _ in range(9)] == [1.0] * 9, "it cost a tenth of a second, and is due after ten"
    assert sparing.seen(now=True) == 2.0
    cheap = Sparing(look, most_s=0.0)
    assert [cheap.seen(), cheap.seen()] == [3.0, 4.0]
    nearly_free = Sparing(look, most_s=60.0)
    assert [nearly_free.seen(), nearly_free.seen()] == [5.0, 6.0]


def test_many_thousand_names_are_put_in_order_at_once():
    """None tells anything of another, so that only times do."""
    names = {"".join(chr(97 + (n >> shift) % 16) for shift in range(0, 20, 4)): n for n in range(20_000)}
    assert newest_first(names, 10**9)[:3] == [list(names)[n] for n in (19_999, 19_998, 19_997)]


def test_what_was_verified_by_a_supervisor_before_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", command=["x"], checkpoints="*.pt")
    for name in ("epoch-1.pt", "epoch-2.pt"):
        (tmp_path / name).write_text("x")
    spec.dir.supervisor.mkdir()
    judged = {
        json.dumps(stamp(one)): why
        for one, why in zip(foreign_checkpoints(tmp_path, "*.pt"), ("damaged", None), strict=True)
    }
    write_json(spec.dir.verified, judged)
    monkeypatch.setattr(checkpoints, "why_not_whole", pytest.fail)
    found = CheckpointPicker(spec).newest(tell=lambda _: None)
    assert found is not None
    assert found.path.name == "epoch-1.pt"


def test_whom_to_signal_is_no_look_of_the_watch(tmp_path: Path):
    """Which counts the time between two of them as the age of a beat."""
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", command=["x"])
    attempt = LiveAttempt(spec=spec, number=1, keeper=None, trainer=proc.identify(os.getpid()))
    before = attempt._looked_s
    assert attempt.targets() == [attempt.trainer]
    assert attempt._looked_s == before


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

"""A small campaign: twenty faults in runs of plain trainers. And the oracle sees what is wrong, where something is."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tools.campaign import trainer
from tools.campaign.__main__ import Machine, Verdict, summary
from tools.campaign.cases import Case, case
from tools.campaign.faults import KINDS, Fault
from tools.campaign.oracle import Watcher, of_budget, of_end, of_incidents, of_samples
from tools.campaign.runs import Run

SEED = 1
SLOW = {
    "slow_save",
    "slow_step",
    "hang_gil",
    "monitor_killed",
    "monitor_stopped",
    "supervisor_stopped",
    "keeper_stopped",
}


def twenty() -> list[Case]:
    """The first cases of three faults each that are over soon."""
    drawn = (case(SEED, number) for number in itertools.count(1))
    fit = (one for one in drawn if len(one.faults) == 3 and one.subject != "ranks")
    return list(itertools.islice((one for one in fit if not SLOW & {fault.kind for fault in one.faults}), 7))


def test_twenty_faults(tmp_path: Path):
    machine = Machine(tmp_path / "runs", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(machine.play, twenty()))
    if lacks := {verdict.skipped for verdict in verdicts if verdict.skipped}:
        pytest.skip(f"needs a {', '.join(sorted(lacks))} (root)")
    assert sum(len(verdict.case.faults) for verdict in verdicts) >= 20
    assert [(verdict.case.title, verdict.wrong) for verdict in verdicts if verdict.wrong] == []


def test_a_case_is_made_of_its_seed_and_number_alone():
    assert case(7, 3) == case(7, 3)
    assert len({case(7, number).title for number in range(50)}) > 40
    assert {fault.kind for number in range(2000) for fault in case(7, number).faults} == set(KINDS)
    several = next(one for one in (case(7, number) for number in range(50)) if len(one.faults) == 3)
    assert case(7, several.number, [1]).faults == several.faults[1:2]


def one_fault(kind: str, at: int = 12) -> Case:
    return Case(0, 0, "client", (Fault(0, kind, at, 0, 0, 0),))


def run_of(folder: Path, attempts: list[list[int]]) -> Run:
    """Of which these steps are written down."""
    lines = [
        f"{attempt} 0 {at} {trainer.samples(at, 1)[0]}\n" for attempt, steps in enumerate(attempts, 1) for at in steps
    ]
    (folder / "trained.log").write_text("".join(lines))
    for attempt in range(1, len(attempts) + 1):
        (folder / f"disk/run/supervisor/attempts/{attempt:04}").mkdir(parents=True)
    return Run(folder, "client", folder)


@pytest.mark.parametrize(
    ("attempts", "says"),
    [
        ([[*range(1, 12)], [*range(11, 61)]], None),
        ([[*range(1, 12)], [*range(13, 61)]], "steps 12 to 12 were skipped"),
        ([[*range(1, 12)], [*range(3, 61)]], "1 intervals may be lost"),
        ([[*range(1, 12)], [*range(11, 60)]], "got to step 59 of 60"),
        ([[1, 2, 2, *range(3, 12)], [*range(11, 61)]], "not in order"),
    ],
)
def test_the_oracle_sees_a_wrong_sequence(tmp_path: Path, attempts: list[list[int]], says: str | None):
    found = list(of_samples(one_fault("sigkill"), run_of(tmp_path, attempts)))
    assert len(found) == (says is not None), found
    assert says is None or says in found[0]


def test_the_oracle_sees_another_sample(tmp_path: Path):
    run = run_of(tmp_path, [[*range(1, 61)]])
    log = tmp_path / "trained.log"
    first, second, *rest = log.read_text().splitlines()
    log.write_text("\n".join([first, second.rsplit(" ", 1)[0] + " 99", *rest]) + "\n")
    assert list(of_samples(one_fault("clock_step"), run)) == ["samples: another one in step 2 of attempt 1"]


def test_the_oracle_sees_a_wrong_incident():
    killed = {"kind": "crash", "cause": "Killed by SIGKILL", "action": "Relaunched."}
    hung = {"kind": "hang", "cause": "The trainer made no progress", "action": "Relaunched."}
    assert list(of_incidents(one_fault("sigkill"), [killed])) == []
    assert "is told as nothing" in next(of_incidents(one_fault("sigkill"), []))
    assert "is told as hang" in next(of_incidents(one_fault("sigkill"), [hung]))
    assert "none was due: hang" in next(of_incidents(one_fault("sigkill"), [killed, hung]))


def test_the_oracle_sees_another_end_and_too_many_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(tmp_path, [[1], [1], [1]])
    monkeypatch.setattr(Run, "ask", lambda *_: {"state": "completed", "detail": ""})
    (tmp_path / "end.json").write_text(json.dumps({"state": "nan", "at": 60}))
    assert "another state" in next(of_end(run))
    assert list(of_budget(one_fault("sigkill"), run)) == ["starts: 3, at most 2 were due"]


def test_the_oracle_sees_a_lie_of_the_status(tmp_path: Path):
    watcher = Watcher(Run(tmp_path, "client", tmp_path))
    said = {"detail": "", "trainer": None, "supervisor": {"alive": False, "pid": None}}
    assert [*watcher.lies({**said, "state": "running"})] == ["running without a trainer"]
    assert "completed before the end" in next(watcher.lies({**said, "state": "completed"}))
    assert [*watcher.lies({**said, "state": "waiting"})] == []


def test_what_the_machine_lacks_is_told():
    left_out = Verdict(one_fault("kernel_oom"), [], skipped="memory cgroup")
    assert "1 cases skipped, which need a memory cgroup" in summary([left_out], 1.0)

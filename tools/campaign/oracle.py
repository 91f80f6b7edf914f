"""Whether a run went as it had to, by its own files, by /proc, and by what the trainer wrote down; never by us."""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Self

from tools.campaign import trainer
from tools.campaign.cases import Case
from tools.campaign.faults import KINDS, Fault
from tools.campaign.runs import Line, Run

from fred_supervisor.linux import proc

GRACE_S: Final = 30.0
"""What is said may be behind what is for so long, on a busy machine."""
PAUSE_S: Final = 0.2


@dataclass
class Watcher:
    """Asks for the status all the time, and holds it against /proc."""

    run: Run
    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    """Lie → since when it has been told."""
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.over.wait(PAUSE_S):
            self.asked += 1
            try:
                told = set(self.lies(self.run.ask("status")))
            except json.JSONDecodeError:
                told = {"no JSON"}  # where run.json was garbled: it is written again soon
            self.since = {lie: self.since.get(lie, time.monotonic()) for lie in told}
            for lie, began_s in self.since.items():
                final = lie.startswith("completed")
                if (final or time.monotonic() - began_s > GRACE_S) and f"status: {lie}" not in self.wrong:
                    self.wrong.append(f"status: {lie}")

    def lies(self, said: Mapping[str, Any]) -> Iterator[str]:
        who, supervisor = said["trainer"], said["supervisor"]
        if said["state"] == "completed" and not (self.run.home / "end.json").exists():
            yield f"completed before the end: {said['detail']}"
        if said["state"] == "running" and who is None:
            yield "running without a trainer"
        if said["state"] == "running" and who is not None and not _lives(who["pid"]):
            yield "running with a trainer that is dead"
        if supervisor["alive"] and not _lives(supervisor["pid"]):
            yield "a dead supervisor is alive"
        if not supervisor["alive"] and supervisor["pid"] and _lives(supervisor["pid"]):
            yield "a live supervisor is not alive"


def _lives(pid: int) -> bool:
    return proc.alive(proc.identify(pid))


# -- afterwards -------------------------------------------------------------------------------------------------------


def judge(case: Case, run: Run) -> list[str]:
    """What was wrong."""
    return [
        *of_end(run),
        *of_samples(case, run),
        *of_incidents(case, run.ask("incidents")),
        *of_budget(case, run),
        *([f"left running: {left}"] if (left := run.left()) else []),
    ]


def of_end(run: Run) -> Iterator[str]:
    status = run.ask("status")
    if status["state"] != "completed":
        yield f"end: {status['state']}: {status['detail']}"
        return
    end = json.loads((run.home / "end.json").read_text()) if (run.home / "end.json").exists() else None
    if end is None:
        yield "end: the trainer did not get there"
    elif end["state"] != trainer.clean_end(run.ranks):
        yield f"end: another state than that of a clean run: {end}"


def of_samples(case: Case, run: Run) -> Iterator[str]:
    """Nothing is skipped, each is what it is in a clean run, and no more is repeated than may be lost."""
    for rank in range(run.ranks):
        own = [line for line in run.trained() if line.rank == rank]
        last = 0
        for attempt, lines in groupby(own, key=lambda line: line.attempt):
            yield from _of_attempt(case, attempt, list(lines), last, run.ranks)
            last = max(last, *(line.at for line in own if line.attempt == attempt))
        if last != trainer.LAST:
            yield f"samples: rank {rank} got to step {last} of {trainer.LAST}"


def _of_attempt(case: Case, attempt: int, lines: Sequence[Line], last: int, ranks: int) -> Iterator[str]:
    first = lines[0].at
    if [line.at for line in lines] != list(range(first, first + len(lines))):
        yield f"samples: attempt {attempt} is not in order"
    if first > last + 1:
        yield f"samples: steps {last + 1} to {first - 1} were skipped"
    for line in lines:
        if int(line.sample) != trainer.samples(line.at, ranks)[line.rank]:
            yield f"samples: another one in step {line.at} of attempt {attempt}"
    intervals = max((KINDS[fault.kind].intervals for fault in case.faults if fault.at <= last + 1), default=0)
    if last + 1 - first > intervals * trainer.SAVE_EVERY + (intervals > 0):
        yield f"lost: attempt {attempt} repeats steps {first} to {last}, {intervals} intervals may be lost"


def expected(case: Case) -> list[tuple[str, str, Fault]]:
    """Incidents: kind, pattern of the cause, and of which fault."""
    return [
        (kind, pattern, fault)
        for fault in case.faults
        for kind, pattern in KINDS[fault.kind].of.get(case.subject, KINDS[fault.kind].expects)
    ]


def of_incidents(case: Case, told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each fault is named, in order, and there is no other incident. A kind with `?` may be left out."""
    left = list(told)
    for kinds, pattern, fault in expected(case):
        if any(before.kind in ("keeper_killed", "both_killed") and before.at < fault.at for before in case.faults):
            pattern = f"{pattern}|how it ended is not known"  # noqa: PLW2901 - who could have known is gone
        fits = left and re.fullmatch(kinds.rstrip("?"), left[0]["kind"]) and re.search(pattern, left[0]["cause"])
        if fits:
            left.pop(0)
        elif not kinds.endswith("?"):
            said = f"{left[0]['kind']}: {left[0]['cause']}" if left else "nothing"
            yield f"incidents: {fault.kind} at {fault.at} is told as {said}"
            if left:
                left.pop(0)
    for more in left:
        yield f"incidents: none was due: {more['kind']}: {more['cause']} {more['action']}"


def of_budget(case: Case, run: Run) -> Iterator[str]:
    attempts = len(list((run.run_dir / "supervisor/attempts").glob("[0-9]*")))
    unknown = sum(kind.endswith("?") for kind, _, fault in expected(case) if not KINDS[fault.kind].relaunches)
    most = 1 + unknown + sum(KINDS[fault.kind].relaunches for fault in case.faults)
    if attempts > most:
        yield f"starts: {attempts}, at most {most} were due"

"""`fred-supervise drill`: rehearses failures on small real runs, and says what came of each."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.contract.builtin.drill import DrillFault, parse_drills
from fred_supervisor.contract.builtin.flags import positive
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, tr, trn
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.times import span

EXPECTED: Final[Mapping[DrillFault, str | None]] = {
    DrillFault.EXCEPTION: "crash",
    DrillFault.OOM: "oom",
    DrillFault.SEGFAULT: "crash",
    DrillFault.SIGKILL: "crash",
    DrillFault.SIGSTOP: "hang",
    DrillFault.HANG: "hang",
    DrillFault.GIL: "hang",
    DrillFault.EXIT0: "silent_exit",
    DrillFault.NAN: "nan_loss",
    DrillFault.SLOW: None,
}
"""Drill → kind of the incident that it must make; None: a healthy pause, which must make none."""
_ME: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
_TRAINER_PARTS: Final = ("fred_trainer", "torch", "torchvision", "cv2")
_PAUSE_SHARE: Final = 0.6
"""A healthy pause lasts this share of the limit."""
_RUN_S: Final = 600.0


@record
class Stage:
    """Where it is rehearsed: a trainer and the limit that fits its pace."""

    trainer: str
    limit_s: float
    words: Callable[[str], list[str]]
    """From a drill to what stands behind `start` and the run's own flags."""


@record
class Result:
    """What came of one rehearsal. What is not known is None."""

    drill: str
    expected: str | None
    detected: str | None
    """DrillFault of the incident."""
    cause: str | None
    detected_after_s: float | None
    """From the failure to the incident, a hang's limit included."""
    relaunched_after_s: float | None
    """From the failure to the next attempt."""
    lost_steps: int | None
    recovered_after_s: float | None
    """From the incident until training had passed that point again."""
    state: str | None
    """Of the run, at its end."""
    left_behind: int
    """Processes of the run that were alive after its end."""

    @property
    def passed(self) -> bool:
        return self.detected == self.expected and self.state == "completed" and self.left_behind == 0


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise drill",
        description=tr("Rehearse failures on small runs of their own: what is detected, how fast, what is lost."),
        epilog=tr(
            "example:\n"
            "  fred-supervise drill --only sigkill,hang --repeat 3\n\n"
            "Exit code 0 when each failure was detected as what it is and survived, nothing was "
            "left behind, and a\n"
            "healthy pause (slow) was left alone; else 1."
        ),
    )
    parser.add_argument(
        "--only", type=_kinds, metavar="KINDS", help=tr("some of {expected}", expected=",".join(EXPECTED))
    )
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help=tr("each so often"))
    parser.add_argument("--small", action="store_true", help=tr("with a trainer that trains nothing, in seconds"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fred-drill-") as name:
        stage = _small() if given.small or not _has_trainer() else _built_in(Path(name))
        if not given.json:
            print(
                tr(
                    "Rehearsed with {trainer}; limit without progress {limit_s:g} s.\n",
                    trainer=stage.trainer,
                    limit_s=stage.limit_s,
                )
            )
            print("  ".join(head.ljust(width) for head, width in _COLUMNS), flush=True)
        results = []
        for at in range(given.repeat):
            for kind in given.only or EXPECTED:
                result = rehearse(kind, stage, Path(name, f"{kind}-{at}"))
                results.append(result)
                if not given.json:
                    print(_row(result), flush=True)
    passed = sum(result.passed for result in results)
    if given.json:
        document = {
            "trainer": stage.trainer,
            "limit_s": stage.limit_s,
            "passed": passed,
            "failed": len(results) - passed,
            "drills": [{**asdict(result), "passed": result.passed} for result in results],
        }
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        left = sum(result.left_behind for result in results)
        false = sum(result.expected is None and result.detected is not None for result in results)
        print(
            tr(
                "\n{passed} of {count} as they should be; {left} processes left behind, {false} false alarms.",
                passed=passed,
                count=len(results),
                left=left,
                false=false,
            )
        )
    return CommandExit.OK if passed == len(results) else CommandExit.REFUSED


def _kinds(text: str) -> tuple[DrillFault, ...]:
    words = [word.strip() for word in text.split(",")]
    if unknown := next((word for word in words if word not in set(DrillFault)), None):
        raise argparse.ArgumentTypeError(
            tr("{unknown!r} is no kind of failure; there are {expected}", unknown=unknown, expected=listed(EXPECTED))
        )
    return tuple(DrillFault(word) for word in words)


def _has_trainer() -> bool:
    return all(importlib.util.find_spec(part) is not None for part in _TRAINER_PARTS)


def _small() -> Stage:
    command = [sys.executable, "-m", "fred_supervisor.cli.drill.rehearsal_trainer"]
    return Stage(trainer=tr("a small trainer without torch"), limit_s=5.0, words=lambda drill: ["--", *command, drill])


def _built_in(folder: Path) -> Stage:
    """Synthetic data, the smallest model, the CPU."""
    data = folder / "data"
    made = subprocess.run(
        [sys.executable, "-m", "fred_trainer", "data", "synth", str(data), "--sequences=2", "--frames=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("fred-train data synth: {stderr}; --small needs no data", stderr=made.stderr.strip()),
        )
    model = ["--modality=dual", "--backbone=mobilenet_v3_large", "--input-size=64", "--device=cpu", "--workers=1"]
    course = ["--freeze-epochs=2", "--epochs=4", "--save-every-epochs=1", "--no-eval-map"]
    batches = ["--freeze-batch-size=4", "--unfreeze-batch-size=4"]
    return Stage(
        trainer=tr("fred-train on synthetic data, on the CPU"),
        limit_s=15.0,
        words=lambda drill: [f"--data={data}", *model, *course, *batches, f"--drill={drill}"],
    )


def rehearse(kind: DrillFault, stage: Stage, run_dir: Path) -> Result:
    """One run in which one thing happens in the unfreeze phase. Nothing of it is left."""
    fault = f"{kind}={stage.limit_s * _PAUSE_SHARE:g}" if kind is DrillFault.SLOW else str(kind)
    drill = f"{fault}@unfreeze:3:2"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FRED_")}
    # Not on the person's list of runs; one thread, for small steps on busy cores.
    environ |= {"STATE_DIRECTORY": str(run_dir.parent / "state"), "OMP_NUM_THREADS": "1"}
    words = [*_ME, "start", "--foreground", "--name=drill", f"--run-dir={run_dir}", "--backoff=0:0"]
    supervisor = subprocess.Popen(
        [*words, f"--hang-timeout=train={stage.limit_s}", *stage.words(drill)],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, said = supervisor.communicate(timeout=_RUN_S)
    except BaseException:  # also Ctrl-C: a rehearsal must not go on alone
        subprocess.run(
            [*_ME, "stop", f"--run-dir={run_dir}", "--timeout=0"], env=environ, capture_output=True, check=False
        )
        supervisor.wait()
        raise
    if supervisor.returncode not in (CommandExit.OK, CommandExit.RUN_FAILED):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("drill {drill}: the rehearsal did not start: {said}", drill=drill, said=said.strip()[-300:]),
        )
    return _result(kind, drill, RunDir(run_dir))


def _result(kind: DrillFault, drill: str, run: RunDir) -> Result:
    first = next(iter(Incidents(run)), Incident(id=0))
    spec = load_run_spec(run.path)
    left = [] if spec is None else processes_of(spec)
    failed_s = _modified_s(run.drills / parse_drills(drill)[0].marker)
    return Result(
        drill=drill,
        expected=EXPECTED[kind],
        detected=first.kind,
        cause=first.cause,
        detected_after_s=_between(failed_s, first.at),
        relaunched_after_s=_between(failed_s, read_launch(run.attempt(2)).time),
        lost_steps=first.lost_steps,
        recovered_after_s=first.recovered_after_s,
        state=read_state(run).state,
        left_behind=len(left),
    )


def _modified_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _between(since_s: float | None, time: str | None) -> float | None:
    if since_s is None or time is None:
        return None
    return round(datetime.fromisoformat(time).timestamp() - since_s, 3)


_COLUMNS: Final = (
    ("", 4),
    ("drill", 22),
    ("detected", 11),
    ("after", 7),
    ("relaunched", 10),
    ("lost", 9),
    ("recovered", 9),
    ("run", 9),
)


def _row(result: Result) -> str:
    lost = "-" if result.lost_steps is None else trn("{n} step", "{n} steps", result.lost_steps)
    again = "-" if result.recovered_after_s is None else span(result.recovered_after_s)
    cells = (
        "ok" if result.passed else "NOT",
        result.drill,
        result.detected or "nothing",
        _seconds(result.detected_after_s),
        _seconds(result.relaunched_after_s),
        lost,
        again,
        result.state or "unknown",
    )
    row = "  ".join(cell.ljust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()
    return row if result.cause is None else f"{row}\n      {result.cause}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"

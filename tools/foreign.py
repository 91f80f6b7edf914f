"""`make foreign`: trainers that nobody has edited, under the supervisor, through each failure that it is for.

They are installed into a throw-away environment. Every cell is a run of its own, from `start` to its end. The table is
printed, and written into docs/foreign.md. Exit code 0 when no cell fails that is not known to.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.linux import proc
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.status import RunStatus, read_status

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "docs" / "foreign.md"
FRED: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
HANG_LIMIT_S: Final = 15
PATIENCE_S: Final = 600.0


class WrongError(Exception):
    """What a cell shows instead of "yes"."""


@dataclass(frozen=True, eq=False)
class Program:
    """One of foreign_programs.toml."""

    key: str
    title: str
    start: str
    packages: Sequence[str]
    resumed: str
    not_resumed: str | None = None
    small: Sequence[str] = ()
    early: Sequence[str] = ()
    clone: str | None = None
    prepare: str = ""
    rank: int | None = None
    like: str | None = None
    without: Mapping[str, str] | None = None
    not_yet: Mapping[str, str] | None = None


@dataclass
class Run:
    """One program under the supervisor, in a folder of its own."""

    program: Program
    folder: Path
    environ: Mapping[str, str]

    def start(self, *flags: str, early: bool = False) -> None:
        _, _, own = self.program.start.partition("fred-supervise start ")
        small = self.program.early if early else self.program.small
        words = ["start", "--backoff", "0:0", *flags, *shlex.split(own), *small]
        done = self._fred(*words)
        if done.returncode != 0:
            raise WrongError(done.stderr.strip())

    def stop(self) -> None:
        self._fred("stop", self.program.key, "--timeout", "1")

    def _fred(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*FRED, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )

    @property
    def run_dir(self) -> Path:
        return self.folder / "logs" / f"fred_{self.program.key}"

    def status(self) -> RunStatus:
        spec = load_run_spec(self.run_dir)
        if spec is None:
            raise WrongError("it has left no run.json")
        return read_status(spec)

    def incidents(self) -> list[Incident]:
        spec = load_run_spec(self.run_dir)
        return [] if spec is None else list(Incidents(spec.dir))

    def output(self, attempt: int) -> str:
        return (self.run_dir / f"supervisor/attempts/{attempt:04d}/output.log").read_text(errors="replace")

    def trains(self) -> RunStatus:
        """Waits until it has a checkpoint, and its position is known."""

        def far_enough(status: RunStatus) -> bool:
            known = status.progress.epoch is not None or status.progress.step is not None
            return status.checkpoint is not None and status.checkpoint.valid and known

        return self._wait(far_enough, "no checkpoint, or no position was read")

    def ended(self) -> RunStatus:
        status = self._wait(lambda status: not status.live, "it does not end")
        if status.state != "completed":
            raise WrongError(f"{status.state}: {status.detail}")
        return status

    def _wait(self, condition: Callable[[RunStatus], bool], otherwise: str) -> RunStatus:
        end_s = time.monotonic() + PATIENCE_S
        while not condition(status := self.status()):
            if not status.live:
                raise WrongError(f"{otherwise}; {status.state}: {status.detail}")
            if time.monotonic() > end_s:
                raise WrongError(otherwise)
            time.sleep(0.1)
        return status

    def ranks(self) -> list[int]:
        """The processes that train: those that have torch, and no child that has it but for workers of a loader."""
        trainer = self.status().trainer
        tree = [] if trainer is None else [trainer.pid, *proc.descendants(trainer.pid)]
        found = [pid for pid in tree if _has_torch(pid) and _name(pid) != "pt_data_worker"]
        ranks = [pid for pid in found if not any(child in found for child in proc.descendants(pid))]
        if not ranks:
            raise WrongError("nothing trains")
        return ranks


def _name(pid: int) -> str | None:
    found = proc.stat(pid)
    return None if found is None else found.name


def _has_torch(pid: int) -> bool:
    with suppress(OSError):
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()
    return False


# -- the columns ------------------------------------------------------------------------------------------------------


def crash(run: Run) -> None:
    run.start()
    run.trains()
    os.kill(run.ranks()[-1], signal.SIGKILL)
    run.ended()
    _only(run, "crash")


def resume(run: Run) -> None:
    """It is looked at what the run of `crash` has left."""
    if not run.run_dir.exists() or len(run.incidents()) == 0:
        raise WrongError("there was no second attempt")
    began, output = run.program.not_resumed, run.output(2)
    if re.search(run.program.resumed, output) is None or (began is not None and re.search(began, output)):
        raise WrongError("the second attempt began at the beginning")


def hang(run: Run) -> None:
    run.start("--hang-timeout", f"train={HANG_LIMIT_S}")
    run.trains()
    os.kill(run.ranks()[-1], signal.SIGSTOP)
    run.ended()
    _only(run, "hang")
    if run.program.rank is not None and f"on rank {run.program.rank}" not in str(run.incidents()[0].cause):
        raise WrongError(f"the rank is not named: {run.incidents()[0].cause}")


def silent_exit(run: Run) -> None:
    run.start()
    run.trains()
    for pid in run.ranks():
        os.kill(pid, signal.SIGUSR2)
    run.ended()
    _only(run, "silent_exit")


def memory(run: Run) -> None:
    run.start()
    run.trains()
    os.kill(run.ranks()[-1], signal.SIGUSR2)
    run.ended()
    _only(run, "oom")
    takes = run.incidents()[0].evidence["facts"]["action"].get("takes_batch")
    if takes is False and not run.status().batch.confirmed:
        raise WrongError("the command does not take the batch that it is given")


def not_finite(run: Run) -> None:
    """One is killed with no word to save: what is in memory is lost. A checkpoint that has it, too, costs one more."""
    run.start()
    run.trains()
    os.kill(run.ranks()[-1], signal.SIGUSR2)
    run.ended()
    found = run.incidents()
    if not found or {incident.kind for incident in found} != {"nan_loss"}:
        _only(run, "nan_loss")


def early(run: Run) -> None:
    """No failure, and at most one relaunch to see that."""
    run.start(early=True)
    ended = run.ended()
    at = ended.progress
    if (at.epoch is not None and at.epoch == at.epochs) or (at.epoch is None and at.step == at.steps):
        raise WrongError("it did not stop early")
    if (found := run.incidents()) and [incident.kind for incident in found] != ["silent_exit"]:
        _only(run, "silent_exit")


def adoption(run: Run) -> None:
    run.start()
    before = run.trains()
    if before.supervisor.pid is None or before.trainer is None:
        raise WrongError("nothing to adopt")
    os.kill(before.supervisor.pid, signal.SIGKILL)
    end_s = time.monotonic() + PATIENCE_S
    while run.status().supervisor.alive and time.monotonic() < end_s:
        time.sleep(0.05)
    run.start()
    after = run.status()
    if after.trainer is not None and after.trainer.pid != before.trainer.pid:
        raise WrongError("a second trainer was started")
    run.ended()
    if run.incidents():
        raise WrongError(f"an incident that was none: {run.incidents()[0].cause}")


def _only(run: Run, kind: str) -> None:
    found = run.incidents()
    if [incident.kind for incident in found] != [kind]:
        told = "; ".join(f"{incident.kind}: {incident.cause}" for incident in found)
        raise WrongError(told or "no incident")


COLUMNS: Final[Mapping[str, tuple[str, Callable[[Run], None]]]] = {
    "crash": ("crash (kill -9)", crash),
    "resume": ("goes on from the newest checkpoint", resume),
    "hang": ("hang (SIGSTOP)", hang),
    "silent_exit": ("exit 0 before the end", silent_exit),
    "memory": ("GPU out of memory", memory),
    "nan": ("a loss that is NaN", not_finite),
    "early": ("early stopping is no failure", early),
    "adoption": ("goes on under a new supervisor", adoption),
}
RUN_OF: Final = {"resume": "crash"}
NOT_TRIED: Final = "–"


# -- the whole --------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", metavar="DIR", help="keep the environment there, and use it again")
    parser.add_argument("--only", metavar="PROGRAM", nargs="*", help="these alone; docs/foreign.md is left as it is")
    parser.add_argument("--cells", metavar="CELL", nargs="*", choices=COLUMNS, help="likewise")
    parser.add_argument("--keep", metavar="DIR", help="make the runs there, and leave them")
    given = parser.parse_args()
    programs = [program for program in read_programs() if not given.only or program.key in given.only]
    with tempfile.TemporaryDirectory(prefix="fred-foreign-") as name:
        home = Path(given.env).resolve() if given.env else Path(name) / "env"
        folder = Path(given.keep).resolve() if given.keep else Path(name) / "runs"
        programs, left_out = fetched(programs, Path(name))
        install(home, programs)
        table = {
            program: {
                cell: attempt(program, cell, home, folder, Path(name))
                for cell in COLUMNS
                if not given.cells or cell in given.cells
            }
            for program in programs
        }
        text = "\n".join((as_text(table, versions(home, programs)), *left_out))
    print(text)
    if not given.only and not given.cells:
        write(text)
    return int(any(not fine(program, cell, found) for program, row in table.items() for cell, found in row.items()))


def read_programs() -> list[Program]:
    table = tomllib.loads((HERE / "foreign_programs.toml").read_text())
    return [Program(**{**table.get(fields.get("like"), {}), **fields, "key": key}) for key, fields in table.items()]


def install(home: Path, programs: Sequence[Program]) -> None:
    """The environment, with the faults in it."""
    if not home.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    packages = sorted({package for program in programs for package in program.packages})
    words = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"not installed: {done.stderr.strip().splitlines()[-1]}")
    site = next((home / "lib").glob("python3*/site-packages"))
    (site / "foreign_faults.py").write_text((HERE / "foreign_faults.py").read_text())
    (site / "fred.pth").write_text(f"{Path(fred_supervisor.__path__[0]).parent}\n")  # for those with the client
    (site / "foreign_faults.pth").write_text("import foreign_faults\n")


def fetched(programs: Sequence[Program], folder: Path) -> tuple[list[Program], list[str]]:
    """Those whose repository can be had, and a line for each that is left out."""
    there, left_out = [], []
    for program in programs:
        if program.clone is not None:
            words = ["git", "clone", "--quiet", "--depth=1", program.clone, str(folder / program.key)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                left_out.append(f"\nLeft out: {program.title}; {program.clone} cannot be reached.")
                continue
        there.append(program)
    return there, left_out


def attempt(program: Program, cell: str, home: Path, folder: Path, clones: Path) -> str:
    """One cell: "yes", or what was wrong."""
    if cell in not_tried(program):
        return NOT_TRIED
    there = folder / program.key / RUN_OF.get(cell, cell)
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("FRED_")},
        "HOME": str(folder),
        "XDG_STATE_HOME": str(there / "state"),
        "PATH": os.pathsep.join((str(home / "bin"), os.environ["PATH"])),
        "OMP_NUM_THREADS": "1",
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
        "HF_HUB_OFFLINE": "1",
        "FOREIGN_FAULT": cell,
    }
    run = Run(program, there, environ)
    began_s = time.monotonic()
    try:
        if cell not in RUN_OF:
            there.mkdir(parents=True)
            if program.clone is not None:
                shutil.copytree(clones / program.key, there, dirs_exist_ok=True)
            (there / "examples").symlink_to(HERE.parent / "examples")
            if program.prepare:
                subprocess.run(
                    [home / "bin/python", "-c", program.prepare],
                    cwd=there,
                    env=environ,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
        COLUMNS[cell][1](run)
        found = "yes"
    except WrongError as wrong:
        found = f"no: {wrong}"
    finally:
        run.stop()
    print(f"{program.key:12} {cell:12} {time.monotonic() - began_s:5.0f} s  {found}", file=sys.stderr, flush=True)
    return found


def versions(home: Path, programs: Sequence[Program]) -> str:
    site = next((home / "lib").glob("python3*/site-packages"))
    names = sorted({"torch", *(package for program in programs for package in program.packages)})
    found = {d.metadata["Name"].lower(): d.version for d in metadata.distributions(path=[str(site)])}
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def not_tried(program: Program) -> Mapping[str, str]:
    """Cells that mean nothing for a program, and why."""
    return {**({} if program.early else {"early": "it has none"}), **(program.without or {})}


def fine(program: Program, cell: str, found: str) -> bool:
    return found in ("yes", NOT_TRIED) or cell in (program.not_yet or {})


def as_text(table: Mapping[Program, Mapping[str, str]], with_versions: str) -> str:
    """Markdown."""
    columns = list(next(iter(table.values())))
    notes: list[str] = []
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {with_versions}; on the CPU.",
        "",
        "| | " + " | ".join(COLUMNS[cell][0] for cell in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for program, row in table.items():
        cells = []
        for cell, found in row.items():
            why = {**(program.not_yet or {}), **not_tried(program)}.get(cell, found[4:])
            if found != "yes":
                notes.append(f"{program.title}, {COLUMNS[cell][0]}: {why}")
            shown = "no" if found.startswith("no") else found
            cells.append(shown if found == "yes" else f"{shown} ({len(notes)})")
        lines.append(f"| {program.title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *([""] if notes else []), *(f"{at}. {note}" for at, note in enumerate(notes, 1))])


def write(text: str) -> None:
    """Between the markers of docs/foreign.md."""
    page = PAGE.read_text()
    begin, end = "<!-- table -->\n", "<!-- /table -->"
    before, _, rest = page.partition(begin)
    PAGE.write_text(before + begin + text + "\n" + end + rest.partition(end)[2])


if __name__ == "__main__":
    sys.exit(main())

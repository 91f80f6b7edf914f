"""`make campaign`: random faults at random moments, and an oracle that judges each run.

python -m tools.campaign [--n 200] [--seed S] [--only NUMBER… [--faults INDEX…]] [--jobs 2] [--keep DIR]

Every case is made of the seed and its number. A wrong verdict prints the one command that plays it alone.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.helpers.nvidia import build_native
from tools.campaign.cases import Case, case
from tools.campaign.faults import KINDS

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Verdict:
    """Of one case."""

    case: Case
    wrong: Sequence[str]
    asked: int = 0
    took_s: float = 0.0
    skipped: str | None = None


class Machine:
    """What it has, and a folder for the cases."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("a C compiler is needed: the clocks of the cases are set by a library")
        self.library = made / "native"
        self.library.mkdir()
        build_native(compiler, self.library)
        self.memory, self.pids = _cgroup("memory"), _cgroup("pids")
        probe = subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
        )
        self.mounts = probe.returncode == 0
        self.has = {"memory cgroup": self.memory, "pids cgroup": self.pids, "mount namespace": self.mounts}

    def play(self, chosen: Case, only: Sequence[int] = ()) -> Verdict:
        lacks = [need for fault in chosen.faults if (need := KINDS[fault.kind].needs) and not self.has[need]]
        if lacks:
            return Verdict(chosen, [], skipped=lacks[0])
        home = Path(tempfile.mkdtemp(prefix=f"{chosen.number}{''.join(f'.{one}' for one in only)}-", dir=self.folder))
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with contextlib.ExitStack() as stack:
            if self.memory is not None:
                environ["CAMPAIGN_CGROUP"] = str(stack.enter_context(_group(self.memory, chosen.number, str(64 << 20))))
            if self.pids is not None:
                environ["CAMPAIGN_PIDS"] = str(stack.enter_context(_group(self.pids, chosen.number, "max")))
            inside = ["unshare", "-m", "--propagation", "private"] if self.mounts else []
            environ |= {"CAMPAIGN_MOUNTS": "1"} if self.mounts else {}
            words = json.dumps({"seed": chosen.seed, "number": chosen.number, "only": [*only]})
            own = [*inside, sys.executable, "-m", "tools.campaign.one", words, str(home), str(self.library)]
            done = subprocess.run(own, env=environ, capture_output=True, text=True, check=False)
        try:
            told = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            return Verdict(chosen, [f"the campaign itself: {done.stderr[-500:]}"])
        if not told["wrong"]:
            shutil.rmtree(home)
        return Verdict(chosen, told["wrong"], told["asked"], told["took_s"])


LIMITS: Final = {"memory": ("memory.max", "memory.limit_in_bytes"), "pids": ("pids.max", "pids.max")}


def _cgroup(controller: str) -> Path | None:
    """Where groups can be made, of version 2 or 1."""
    two, one = LIMITS[controller]
    for root, name in ((Path("/sys/fs/cgroup"), two), (Path("/sys/fs/cgroup", controller), one)):
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix="campaign-", dir=root) as made:
            found = Path(made, name).exists()
            os.rmdir(made)
            if found:
                return root
    return None


@contextlib.contextmanager
def _group(root: Path, number: int, limit: str) -> Iterator[Path]:
    group = root / f"campaign-{os.getpid()}-{number}"
    group.mkdir()
    for name in LIMITS["memory" if limit != "max" else "pids"]:
        if (group / name).exists():
            (group / name).write_text(limit)
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def reduced(machine: Machine, verdict: Verdict) -> Sequence[int]:
    """One of several faults that is enough, or none."""
    if len(verdict.case.faults) < 2:
        return ()
    for fault in verdict.case.faults:
        if machine.play(case(verdict.case.seed, verdict.case.number, [fault.id]), [fault.id]).wrong:
            return [fault.id]
    return ()


def told(machine: Machine, verdict: Verdict) -> None:
    """Of one that is wrong."""
    one = reduced(machine, verdict)
    which = f" --faults {one[0]}" if one else ""
    for line in verdict.wrong:
        print(f"    {line}")
    print(
        f"    .venv/bin/python -m tools.campaign --seed {verdict.case.seed} --only {verdict.case.number}{which}",
        flush=True,
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """Kind of fault × right, wrong, skipped."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for verdict in verdicts:
        column = skipped if verdict.skipped else wrong if verdict.wrong else right
        column.update(fault.kind for fault in verdict.case.faults)
    rows = [f"| {kind} | {right[kind]} | {wrong[kind]} | {skipped[kind]} |" for kind in KINDS]
    return "\n".join(["| fault | right | wrong | skipped |", "| --- | --- | --- | --- |", *rows])


def summary(verdicts: Sequence[Verdict], took_s: float) -> str:
    played = [verdict for verdict in verdicts if not verdict.skipped]
    faults, wrong = sum(len(v.case.faults) for v in played), sum(bool(v.wrong) for v in played)
    of: Mapping[str, int] = Counter(verdict.case.subject for verdict in played)
    lacks: Mapping[str, int] = Counter(verdict.skipped for verdict in verdicts if verdict.skipped)
    runs = ", ".join(f"{count} {subject}" for subject, count in sorted(of.items()))
    asked = sum(verdict.asked for verdict in played)
    text = f"{len(played)} runs ({runs}), {faults} faults, {asked} looks at the status, {wrong} wrong, {took_s:.0f} s"
    left_out = "; ".join(f"{count} cases skipped, which need a {need}" for need, count in lacks.items())
    return f"{text}\n{left_out or 'nothing skipped'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", default=[])
    parser.add_argument("--faults", type=int, nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", metavar="DIR", help="leave what is wrong there")
    given = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fred-campaign-") as made, ThreadPoolExecutor(given.jobs) as pool:
        machine = Machine(Path(given.keep or made).resolve(), Path(made))
        verdicts: list[Verdict] = []
        chosen = [case(given.seed, number, given.faults) for number in given.only or range(1, given.n + 1)]
        for verdict in pool.map(lambda one: machine.play(one, given.faults), chosen):
            verdicts.append(verdict)
            word = verdict.skipped or ("WRONG" if verdict.wrong else "right")
            print(f"{verdict.case.number:5} {word:6} {verdict.took_s:6.1f} s  {verdict.case.title}", flush=True)
            if verdict.wrong:
                told(machine, verdict)
            if len(verdicts) % 50 == 0:
                print(summary(verdicts, time.monotonic() - began_s), flush=True)
    print(f"\n{table(verdicts)}\n\n{summary(verdicts, time.monotonic() - began_s)}")
    return int(any(verdict.wrong for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())

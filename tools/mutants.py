"""How many small faults the tests notice: each is put into a copy of a module, and the module's tests are run.

Our own, for neither library fits: mutmut 3 changes the bodies of functions only, and the policy is tables (rows,
limits, defaults); cosmic-ray starts pytest anew for each mutant, three seconds of which half a second is tests. Here
one process imports what is slow (pytest, hypothesis, torch) and forks for each mutant: a killed one takes a second.

`tests/mutants.toml` says which tests belong to which modules; `tests/equivalent_mutants.toml` lists the mutants that
change nothing, each with the reason. Fails when a module's score is below the least, or a listed mutant is killed.
"""

import argparse
import compileall
import importlib
import os
import py_compile
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.mutations import Finder, Mutant

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ("supervisor", "trainer")
UNCHECKED: Final = py_compile.PycInvalidationMode.UNCHECKED_HASH
"""Times are too coarse for a source that changes twice a second."""
COPIED: Final = (*SOURCES, "tests")


@dataclass(kw_only=True)
class Score:
    """Of one module."""

    module: str
    total: int
    killed: int = 0
    survived: list[Mutant] = field(default_factory=list)
    equivalent: int = 0

    @property
    def share(self) -> float:
        judged = self.killed + len(self.survived)
        return self.killed / judged if judged else 1.0


class Equivalent:
    """Mutants of one function that change nothing."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.module, self.where, self.changes = entry["module"], entry["where"], tuple(entry["changes"])
        self.on = entry.get("on", "")
        """On lines that hold this text only."""
        self.unseen = set(self.changes)

    def fits(self, mutant: Mutant) -> bool:
        if (mutant.module, mutant.where) != (self.module, self.where) or self.on not in mutant.source:
            return False
        return mutant.change in self.changes


class Workshop:
    """A copy of sources and tests, in which one module at a time is spoilt; edits meanwhile change nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "pyproject.toml", folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(folder / name, quiet=1, invalidation_mode=UNCHECKED)
        self._path = [str(folder / name) for name in SOURCES]
        os.environ["PYTHONPATH"] = os.pathsep.join(self._path)  # for the processes that tests start
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["HYPOTHESIS_PROFILE"] = "ci"

    def killed(self, mutant: Mutant | None, stages: Sequence[Sequence[str]], limit_s: float) -> bool:
        """Whether the tests of a stage fail, or take longer than `limit_s`."""
        if mutant is None:
            return any(self._fails(tests, limit_s) for tests in stages)
        path = self.folder / mutant.module
        source = path.read_bytes()
        for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            cached.unlink()
        path.write_bytes(source[: mutant.begin] + mutant.text.encode() + source[mutant.end :])
        try:
            return any(self._fails(tests, limit_s) for tests in stages)
        finally:
            path.write_bytes(source)
            py_compile.compile(str(path), invalidation_mode=UNCHECKED)

    def _fails(self, tests: Sequence[str], limit_s: float) -> bool:
        pid = os.fork()
        if pid == 0:
            try:
                self._run(tests)
            except BaseException:  # noqa: BLE001 - no child may go on as its parent
                traceback.print_exc()
            os._exit(70)
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status != 0
            time.sleep(0.01)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return True

    def _run(self, tests: Sequence[str]) -> None:
        """In the child: pytest, and its exit code."""
        import pytest  # noqa: PLC0415 - the parent has imported it already

        os.setsid()
        sys.dont_write_bytecode = True
        os.chdir(self.folder)
        sys.path[:0] = [*self._path, str(self.folder)]
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={self.folder / 'tmp'}"]
        words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of hypothesis, imported beforehand
        os._exit(int(pytest.main([*words, *tests])))


def read(name: str) -> dict[str, Any]:
    with (ROOT / "tests" / name).open("rb") as file:
        return tomllib.load(file)


def modules(groups: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The modules whose path holds one of the words, each with the first group that it is of."""
    seen: set[Path] = set()
    for group in groups:
        paths = {path for pattern in group["modules"] for path in ROOT.glob(pattern)} - seen
        seen |= paths
        for path in sorted(paths):
            name = str(path.relative_to(ROOT))
            if path.name != "__init__.py" and (not wanted or any(word in name for word in wanted)):
                yield name, group


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only modules whose path holds one of these")
    parser.add_argument("--sample", type=int, default=60, metavar="N", help="mutants of a module; 0: all (default 60)")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--verbose", action="store_true", help="tell each mutant as it is judged")
    given = parser.parse_args()
    config = read("mutants.toml")
    listed = [Equivalent(entry) for entry in read("equivalent_mutants.toml")["equivalent"]]
    os.chdir(ROOT)
    os.nice(15)
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = list(modules(config["group"], given.words))
    for name in ("pytest", "hypothesis", *{one for _, group in chosen for one in group.get("preload", ())}):
        importlib.import_module(name)
    scores, wrong = [], []
    limits_s: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workshop = Workshop(Path(folder))
        for module, group in chosen:
            found = Finder(module, (workshop.folder / module).read_bytes()).found
            for one in listed:
                one.unseen -= {mutant.change for mutant in found if one.fits(mutant)}
            kept = [m for m in found if m.row_swap]
            rest = [m for m in found if not m.row_swap]
            size = min(given.sample or len(rest), len(rest))
            sample = sorted([*kept, *random.Random(given.seed).sample(rest, size)], key=lambda m: (m.line, m.begin))
            stages = [group["tests"], *([group["then"]] if "then" in group else [])]
            key = str(stages)
            if key not in limits_s:
                begun_s = time.monotonic()
                if workshop.killed(None, stages, 600.0):
                    print((Path(folder) / "log").read_text())
                    print(f"{module}: its tests fail without a mutant")
                    return 1
                limits_s[key] = 20.0 + 5 * (time.monotonic() - begun_s)
            score = Score(module=module, total=len(found))
            for mutant in sample:
                killed = workshop.killed(mutant, stages, limits_s[key])
                known = any(one.fits(mutant) for one in listed)
                if given.verbose or not (killed or known):
                    word = "killed" if killed else "equivalent" if known else "SURVIVED"
                    print(f"{word} {mutant.module}:{mutant.line} {mutant.where}: {mutant.change}", flush=True)
                if killed:
                    score.killed += 1
                    wrong += [mutant] if known else []
                elif known:
                    score.equivalent += 1
                else:
                    score.survived.append(mutant)
            scores.append(score)
            print(_line(score), flush=True)
    print(f"\n{'module':55} {'mutants':>8} {'judged':>7} {'killed':>7} {'survived':>8} {'equivalent':>10} {'score':>6}")
    for score in scores:
        print(_line(score))
    for mutant in wrong:
        print(f"listed as equivalent, and killed: {mutant.module}:{mutant.line} {mutant.where}: {mutant.change}")
    names = {module for module, _ in chosen}
    gone = [(one, change) for one in listed if one.module in names for change in sorted(one.unseen)]
    for one, change in gone:
        print(f"listed as equivalent, and no longer there: {one.module} {one.where}: {change}")
    low = [score.module for score in scores if score.share < config["least"]]
    if low:
        print(f"under {config['least']:.0%}: {', '.join(low)}")
    return 1 if low or wrong or gone else 0


def _line(score: Score) -> str:
    judged = score.killed + len(score.survived) + score.equivalent
    return (
        f"{score.module:55} {score.total:8} {judged:7} {score.killed:7} {len(score.survived):8} {score.equivalent:10}"
        f" {score.share:6.0%}"
    )


if __name__ == "__main__":
    sys.exit(main())

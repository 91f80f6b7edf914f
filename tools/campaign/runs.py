"""The run of a case: its command, its folder, and what is read of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.helpers.command_server import command_server
from tools.campaign import trainer

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc

COMMAND: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
PATIENCE_S: Final = 240.0
"""A safety net: nothing is about speed here."""
LIMIT_S: Final = 120
"""Of a hang; it passes at once for who hangs."""
TAG: Final = "CAMPAIGN_HOME"
"""In the environment of all that belongs to a case."""
PRINTED: Final = r"epoch (?P<epoch>\d+)/(?P<epochs>\d+) step (?P<step>\d+)/(?P<steps>\d+) loss (?P<loss>\S+)"


class TooLongError(Exception):
    """What was waited for did not come."""


class Line(NamedTuple):
    """One sample that was trained on."""

    attempt: int
    rank: int
    at: int
    sample: str


def wait(condition: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    """Its value, once that is true."""
    end_s = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end_s:
            raise TooLongError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(0.01)
    return value


@dataclass
class Run:
    """One supervised run in a home of its own."""

    home: Path
    subject: str
    library: Path
    clock: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        return self.home / "disk" / "run"

    @property
    def ranks(self) -> int:
        return 2 if self.subject == "ranks" else 1

    @property
    def python(self) -> Path:
        return self.home / "venv" / "bin" / "python"

    @property
    def environ(self) -> dict[str, str]:
        """Of `start`; what looks at the run has the same clock, and is no part of it."""
        preload = [str(self.library / "quick_hang.so"), *([str(self.library / "wall_clock.so")] if self.clock else [])]
        return {
            **self.of_readers,
            **self.extra,
            TAG: str(self.home),
            "LD_PRELOAD": " ".join(preload),
            "HUNG_FILE": str(self.home / "hung"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def of_readers(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FRED_") and k != "STATE_DIRECTORY"}
        clock = {"LD_PRELOAD": str(self.library / "wall_clock.so")} if self.clock else {}
        kept |= {"FRED_WALL_CLOCK": str(self.home / "offset"), "HOME": str(self.home)}
        return kept | clock | {"XDG_STATE_HOME": str(self.home / "state")}

    def prepare(self, plan: Sequence[Mapping[str, Any]]) -> None:
        for folder in ("disk", "data", "venv/bin"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self.python.symlink_to(sys.executable)
        config = Path(sys.prefix, "pyvenv.cfg")
        if config.exists():  # what is installed beside us is known there, too
            (self.home / "venv/pyvenv.cfg").write_text(config.read_text())
            (self.home / "venv/lib").symlink_to(Path(sys.prefix, "lib"))
        (self.home / "data/samples.txt").write_text("samples\n")
        (self.home / "offset").write_text("0")
        (self.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.2\ndump_s = 2.0\n")
        (self.home / "plan.json").write_text(json.dumps(plan))

    def words(self) -> list[str]:
        program, mode = trainer.__file__, "printed" if self.subject == "printed" else "client"
        own = [str(self.python), str(program), mode, str(self.home), str(self.home / "data")]
        flags = ["--config", str(self.home / "c.toml"), "--backoff", "0:0", "--hang-timeout", f"train={LIMIT_S}"]
        flags += ["--run-dir", str(self.run_dir), "--checkpoints", "state-*.pt"]
        if self.subject == "printed":
            flags += ["--progress-output", PRINTED]
            own.append("{resume}")
        else:
            flags += ["--unfreeze-batch-size", "8", *(["--ranks", "2"] if self.ranks > 1 else [])]
        return ["start", "--name", "t", *flags, "--", *own]

    def start(self, *words: str) -> None:
        done = subprocess.run(
            [*COMMAND, *(words or self.words())],
            cwd=self.home, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        (self.home / "said.log").open("a").write(f"{words}: {done.returncode} {done.stdout}{done.stderr}\n")
        if done.returncode != 0 and not words:
            raise TooLongError(f"start: {done.returncode} {done.stderr}")

    def ask(self, *words: str) -> Any:
        own, server = [*words, "--run-dir", str(self.run_dir), "--json"], command_server()
        if server.serves(own, self.of_readers):
            done = server.run(own, self.home, self.of_readers, PATIENCE_S)
        else:
            done = subprocess.run(
                [*COMMAND, *own], cwd=self.home, env=self.of_readers, capture_output=True, text=True, check=False
            )
        return json.loads(done.stdout)

    def stop(self) -> None:
        words = [*COMMAND, "stop", "--run-dir", str(self.run_dir), "--timeout", "0"]
        subprocess.run(words, cwd=self.home, env=self.of_readers, capture_output=True, check=False)
        for pid in self.left():
            os.kill(pid, 9)

    def left(self) -> list[int]:
        """All that belongs to the case and lives, by its environment: nobody has to have written it down."""
        mine = (pid for pid in proc.pids() if proc.environment(pid, {TAG}).get(TAG) == str(self.home))
        return [pid for pid in mine if proc.alive(proc.identify(pid))]

    def pid(self, who: str) -> int | None:
        """Of the trainer or its keeper, as it was launched last; of the supervisor or its monitor."""
        if who == "monitor":
            mine = ((pid, " ".join(proc.command_line(pid))) for pid in self.left())
            return next((pid for pid, words in mine if "fred_supervisor.monitor" in words), None)
        attempts = sorted((self.run_dir / "supervisor/attempts").glob("[0-9]*"))
        file = "state.json" if who == "supervisor" else f"attempts/{attempts[-1].name}/launch.json" if attempts else ""
        found: Any = (read_json(self.run_dir / "supervisor" / file) or {}).get(who) if file else None
        return None if found is None else int(found["pid"])

    def trained(self) -> list[Line]:
        path = self.home / "trained.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [Line(int(a), int(r), int(at), sample) for a, r, at, sample in (line.split(" ", 3) for line in lines)]

    def reached(self) -> int:
        return max((line.at for line in self.trained()), default=0)

    def fired(self, number: int) -> None:
        """The fault is there: the trainer need not wait for it any more."""
        (self.home / f"fired.{number}").touch()

    def hung(self) -> None:
        """From now on no time is taken to find out that the trainer hangs."""
        (self.home / "hung").write_text(f"{self.pid('trainer')} {self.run_dir / 'supervisor/state.json'}")

"""`make healthy-pauses`: an hour of pauses that are no hangs, in a minute: nobody may be ended, nothing left behind.

Every limit and every pause is scaled by the same factor. Data stalls, long compilations, slow evaluations, saves that
outlast their limit but do something, and a supervisor that is stopped itself. Exit code 0 for 0 false kills.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.contract import Heartbeat
from fred_supervisor.store.run_spec import load_run_spec

FRED: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
LIMITS_S: Final = {"train_limit_s": 1200, "train_limit_least_s": 60, "section_limit_s": 3600, "level1_limit_s": 3600}
"""The defaults, which are scaled."""
SHORTENED: Final = ("section_limit_s", "level1_limit_s")
"""The limits of what `--brief` shortens: sections, and the start."""
STALL_S: Final = 45.0
"""The longest silence of a healthy training step, unscaled: once seen in the first cycle, ten times it is the limit."""
SAVE_S: Final = 5400.0
"""A save that outlasts its limit by half, and writes all the while."""
STOPPED_S: Final = 1200.0
"""The supervisor itself is held for so long."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of healthy pauses")
    parser.add_argument("--scale", type=float, default=60.0, help="how much faster than life")
    parser.add_argument("--brief", type=float, default=1.0, help="long pauses and their limits are so much shorter")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--train", metavar="FOLDER", help="be the trainer")
    given = parser.parse_args()
    if given.train:
        return train(Path(given.train), given.minutes * 60, given.scale, given.brief)
    with tempfile.TemporaryDirectory(prefix="fred-pauses-") as name:
        told = supervise(Path(name), given.minutes, given.scale, given.brief)
    if given.json:
        print(json.dumps(told))
    else:
        print(
            f"{told['pauses']} healthy pauses in {told['took_s']:.0f} s ({given.minutes:.0f} min at"
            f" {given.scale:.0f} times the speed), the longest {told['longest_s']:.1f} s: {told['false_kills']} false"
            f" kills, {told['orphans']} orphans; {told['state']}"
        )
    return 0 if (told["false_kills"], told["orphans"], told["state"]) == (0, 0, "completed") else 1


def supervise(folder: Path, minutes: float, scale: float, brief: float) -> dict[str, Any]:
    """Run it in the foreground; hold the supervisor itself once; say what came of it."""
    limits_s = {key: value / (brief if key in SHORTENED else 1.0) / scale for key, value in LIMITS_S.items()}
    limits = "".join(f"{key} = {value}\n" for key, value in limits_s.items())
    (folder / "limits.toml").write_text(f"[supervisor]\n{limits}")
    environ = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    words = [*FRED, "start", "--foreground", "--name=pauses", f"--run-dir={folder / 'run'}", "--max-restarts=0"]
    trainer = [sys.executable, __file__, f"--minutes={minutes}", f"--scale={scale}"]
    trainer += [f"--brief={brief}", f"--train={folder}"]
    began_s = time.monotonic()
    supervisor = subprocess.Popen(
        [*words, f"--config={folder / 'limits.toml'}", "--", *trainer], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(minutes * 60 / scale / 2)
        supervisor.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S / brief / scale)
    finally:
        supervisor.send_signal(signal.SIGCONT)
    supervisor.wait()
    spec = load_run_spec(folder / "run")
    assert spec is not None
    shown = [*FRED, "incidents", "--run-dir", str(folder / "run"), "--json"]
    incidents = json.loads(subprocess.run(shown, stdout=subprocess.PIPE, check=False).stdout)
    status = [*FRED, "status", "--run-dir", str(folder / "run"), "--json"]
    pauses = [float(line) for line in (folder / "pauses").read_text().split()]
    return {
        "pauses": len(pauses),
        "longest_s": max(pauses),
        "took_s": time.monotonic() - began_s,
        "false_kills": len(incidents),
        "causes": [incident["cause"] for incident in incidents],
        "orphans": len(processes_of(spec)),
        "state": json.loads(subprocess.run(status, stdout=subprocess.PIPE, check=False).stdout)["state"],
    }


def train(folder: Path, seconds: float, scale: float, brief: float) -> int:
    """Steps with pauses between them; every tenth pause is an evaluation, a save or a compilation."""
    chance, end_s = random.Random(0), time.monotonic() + seconds / scale
    heartbeat = Heartbeat()
    step = 0

    def pause(unscaled_s: float) -> None:
        with (folder / "pauses").open("a") as file:
            file.write(f"{unscaled_s / scale}\n")
        time.sleep(unscaled_s / scale)

    def work(unscaled_s: float) -> None:
        """A pause in which something is written all the while, as in a save to a slow disk."""
        with (folder / "pauses").open("a") as file:
            file.write(f"{unscaled_s / scale}\n")
        until_s = time.monotonic() + unscaled_s / scale
        with (folder / "weights").open("wb") as file_:
            while time.monotonic() < until_s:
                file_.seek(0)
                file_.write(os.urandom(1 << 18))
                time.sleep(0.01)

    pause(600 / brief)  # imports, data index
    while time.monotonic() < end_s or step < 40:
        step += 1
        heartbeat.beat(epoch=1 + step // 20, epochs=1 << 20, step=1 + step % 20, steps=20, phase="unfreeze")
        if step == 1:
            with heartbeat.section("first-step"):
                pause(900 / brief)  # compilation
        elif step % 20 == 10:
            with heartbeat.section("eval"):
                pause(chance.uniform(60, 600) / brief)
        elif step == 40:
            with heartbeat.section("checkpoint"):
                work(SAVE_S / brief)
        elif step % 20 == 0:
            with heartbeat.section("checkpoint"):
                pause(chance.uniform(10, 300) / brief)
        else:
            pause(STALL_S if step == 5 else min(5 * STALL_S, chance.expovariate(1 / 10)))
    heartbeat.done()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Any number of ranks on any number of machines that train in step, without torch: files are their collectives.

    python fleet.py EPOCHS STEPS MISDEEDS

MISDEEDS is JSON: attempt → [what, epoch, step, rank]. The "weights" are a chain of digests over what all ranks give at
every step, so the end tells whether a step was lost, repeated or made by the wrong number of ranks. Rank 0 saves them at
each epoch, and when SIGTERM has come to any rank; all go on from what FRED_RESUME names.
"""

import hashlib
import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import epoch_name, step_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, publish
from fred_supervisor.contract.fence import superseded


def main() -> int:
    epochs, steps = int(sys.argv[1]), int(sys.argv[2])
    attempt, run_dir = os.environ["FRED_ATTEMPT"], Path(os.environ["FRED_RUN_DIR"])
    what, *where = json.loads(sys.argv[3]).get(attempt, [""])
    hb, count = Heartbeat(), int(os.environ["WORLD_SIZE"])
    done, weights = 0, ""
    if os.environ["FRED_RESUME"]:
        state = json.loads(zipfile.ZipFile(os.environ["FRED_RESUME"]).read("data.pkl"))
        done, weights = state["done"], state["weights"]
    print(f"attempt {attempt} rank {hb.rank} of {count} after step {done}", flush=True)
    try:
        for at in range(done + 1, epochs * steps + 1):
            epoch, step = (at - 1) // steps + 1, (at - 1) % steps + 1
            if where == [epoch, step, hb.rank]:
                misbehave(what, run_dir)
            given = exchange(run_dir, attempt, hb, count, at)
            weights = hashlib.sha256(f"{weights} {at} {count}".encode()).hexdigest()
            hb.beat(epoch=epoch, epochs=epochs, step=step, steps=steps, samples=at, loss=1 / at, phase="unfreeze")
            stops = "stop" in given
            if hb.rank == 0 and (step == steps or stops):
                with hb.section("checkpoint"):
                    save(run_dir, epoch, step, at, weights, whole=step == steps)
            if stops:
                exchange(run_dir, attempt, hb, count, f"{at}-saved")
                return 75
            time.sleep(float(os.environ.get("STEP_S", "0.01")))
    except Exception as error:
        hb.error(error)
        raise
    if hb.rank == 0:
        (run_dir / "weights").write_text(f"{weights} of {count}\n")
    hb.done()
    return 0


def exchange(run_dir: Path, attempt: str, hb: Heartbeat, count: int, at: object) -> list[str]:
    """What every rank says at this step."""
    folder = run_dir / f"ranks-{attempt}"
    folder.mkdir(exist_ok=True)
    mine = folder / f".{hb.rank}"
    mine.write_text("stop" if hb.stopping else "go")
    mine.replace(folder / f"{at}.{hb.rank}")
    paths = [folder / f"{at}.{rank}" for rank in range(count)]
    while not all(path.exists() for path in paths):
        time.sleep(0.002)
    return [path.read_text() for path in paths]


def save(run_dir: Path, epoch: int, step: int, done: int, weights: str, *, whole: bool) -> None:
    time.sleep(float(os.environ.get("SAVE_S", "0")))
    written = run_dir / f".{done}.{os.getpid()}.tmp"
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("data.pkl", json.dumps({"done": done, "weights": weights}))

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(
            size=size,
            digest=digest,
            phase="unfreeze",
            epoch=epoch,
            step=step,
            samples=done,
            fingerprint={},
            session=int(os.environ["FRED_ATTEMPT"]),
            finite=True,
            epoch_complete=whole,
            saved_at="2026-01-01T00:00:00Z",
        )

    if superseded():
        with (run_dir / "fenced").open("a") as log:
            log.write(f"{os.environ['FRED_ATTEMPT']} {done}\n")
        sys.exit(75)
    publish(written, [run_dir / (epoch_name("unfreeze", epoch) if whole else step_name(done))], describe)
    with (run_dir / "saves").open("a") as log:
        log.write(f"{os.environ['FRED_ATTEMPT']} {done}\n")


def misbehave(what: str, run_dir: Path) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            (run_dir / "hangs").touch()
            while True:
                time.sleep(60)
        case "raise":
            raise RuntimeError("of one rank alone")
        case "config":
            sys.exit(78)


if __name__ == "__main__":
    sys.exit(main())

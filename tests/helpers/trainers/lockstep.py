"""Two ranks that go step by step together, as gradients would make them, without torch: files are their collectives.

    python lockstep.py EPOCHS STEPS MISDEEDS

MISDEEDS is JSON: attempt → [what, epoch, step, rank]. Rank 0 notes at each epoch that it was reached, and resumes there.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from misbehaving import about_to_hang

from fred_supervisor.contract import Heartbeat


def main() -> int:
    epochs, steps = int(sys.argv[1]), int(sys.argv[2])
    attempt, run_dir = os.environ["FRED_ATTEMPT"], Path(os.environ["FRED_RUN_DIR"])
    what, *where = json.loads(sys.argv[3]).get(attempt, [""])
    hb = Heartbeat()
    here = run_dir / f"reached.{attempt}."
    reached = run_dir / "epoch"
    first = int(reached.read_text()) if reached.exists() else 1
    print(f"attempt {attempt} rank {hb.rank} from epoch {first}, port {os.environ['MASTER_PORT']}", flush=True)
    try:
        for epoch in range(first, epochs + 1):
            for step in range(1, steps + 1):
                at = (epoch - first) * steps + step
                if where == [epoch, step, hb.rank]:
                    misbehave(what)
                hb.beat(epoch=epoch, epochs=epochs, samples=at)  # before the others are waited for
                Path(f"{here}{hb.rank}.{at}").touch()
                while not Path(f"{here}{1 - hb.rank}.{at}").exists():
                    if hb.stopping:
                        return 75
                    time.sleep(0.002)
                hb.beat(step=step, steps=steps, loss=1 / step)
            if hb.rank == 0:
                reached.write_text(str(epoch + 1))
    except Exception as error:
        hb.error(error)
        raise
    hb.done()
    return 0


def misbehave(what: str) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            about_to_hang()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)  # woken by the SIGCONT before the end, it makes no step more
        case "raise":
            raise RuntimeError("of one rank alone")
        case "config":
            sys.exit(78)
        case "wait":
            Path(os.environ["FRED_RUN_DIR"], "waiting").touch()
            time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())

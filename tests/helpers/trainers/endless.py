"""A trainer that trains for ever, 50 steps of 10 ms an epoch, and leaves with a checkpoint when it is told to.

    python endless.py [deaf] [child] [slow] [until=EPOCH]

deaf: it does not leave on SIGTERM. child: it has a grandchild in a session of its own that does not, either.
slow: its checkpoint takes 4 s.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from misbehaving import first_epoch, save

from fred_supervisor.contract import Heartbeat

STEPS = 50
CHILD = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(3600)"


def main() -> int:
    words = sys.argv[1:]
    run_dir = Path(os.environ["FRED_RUN_DIR"])
    until = next((int(word[6:]) for word in words if word.startswith("until=")), 10**6)
    hb = Heartbeat()
    if "deaf" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in words:
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        (run_dir / "child").write_text(str(child.pid))
    shared = Path("/dev/shm", f"fred-test-{os.getpid()}")
    shared.touch()
    for epoch in range(first_epoch(), until + 1):
        with tempfile.NamedTemporaryFile(dir="/tmp"):
            assert shared.exists(), "its shared memory was taken away"
        for step in range(1, STEPS + 1):
            time.sleep(0.01)
            samples = ((epoch - 1) * STEPS + step) * 8
            hb.beat(epoch=epoch, epochs=until, step=step, steps=STEPS, samples=samples, loss=0.5, phase="unfreeze")
            if hb.stopping:
                time.sleep(4 if "slow" in words else 0)
                save(run_dir, "unfreeze", epoch, step, samples)
                return 75
        with hb.section("checkpoint"):
            save(run_dir, "unfreeze", epoch, STEPS, epoch * STEPS * 8)
    hb.done()
    return 0


if __name__ == "__main__":
    sys.exit(main())

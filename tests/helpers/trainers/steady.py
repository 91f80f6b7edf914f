"""A trainer with steps of 20 ms, of which 2 ms burn the processor: it can be slowed, it may leak, it saves on SIGTERM.

`steady.py EPOCHS STEPS MIB [BURNS_MS [DATA]]`: MIB of memory are lost in each epoch, in a process below it that lives
as long. Of the file DATA, 64 KiB are read in each step, from its disk; what they take is told as waiting for data.
"""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

from fred_supervisor.contract import Heartbeat

LEAK = "import sys\nkept = []\nfor line in sys.stdin:\n    kept.append(b'x' * (int(line) << 20))\n"
STEP_S = 0.02
READ = 1 << 16


def main() -> int:
    epochs, steps, mib = (int(word) for word in sys.argv[1:4])
    burns_s = float(sys.argv[4]) / 1000 if len(sys.argv) > 4 else 0.002
    data = os.open(sys.argv[5], os.O_RDONLY | os.O_DIRECT) if len(sys.argv) > 5 else None
    state = Path(os.environ["FRED_RUN_DIR"], "epoch.txt")
    first = int(state.read_text()) + 1 if state.exists() else 1
    hb = Heartbeat()
    with subprocess.Popen([sys.executable, "-c", LEAK], stdin=subprocess.PIPE, text=True) as worker:
        for epoch in range(first, epochs + 1):
            for step in range(1, steps + 1):
                waits = None if data is None else read(data, step)
                until_s = time.process_time() + burns_s
                while time.process_time() < until_s:
                    pass
                time.sleep(STEP_S - burns_s)
                samples = ((epoch - 1) * steps + step) * 8
                hb.beat(epoch=epoch, epochs=epochs, step=step, steps=steps, samples=samples, waits=waits)
                if hb.stopping:
                    state.write_text(str(epoch - 1))
                    worker.kill()
                    return 75
            worker.stdin.write(f"{mib}\n")
            worker.stdin.flush()
            state.write_text(str(epoch))
        worker.stdin.close()
    hb.done()
    return 0


def read(data: int, step: int) -> float:
    """The share of a step that a read past the page cache takes."""
    begun_s = time.monotonic()
    os.preadv(data, [mmap.mmap(-1, READ)], step * READ % os.fstat(data).st_size)
    took_s = time.monotonic() - begun_s
    return took_s / (took_s + STEP_S)


if __name__ == "__main__":
    sys.exit(main())

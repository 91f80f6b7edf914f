"""A trainer with steps of 20 ms, of which 2 ms burn the processor: it can be slowed, it may leak, it saves on SIGTERM.

`steady.py EPOCHS STEPS MIB`: MIB of memory are lost in each epoch, in a process below it that lives as long.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from fred_supervisor.contract import Heartbeat

LEAK = "import sys\nkept = []\nfor line in sys.stdin:\n    kept.append(b'x' * (int(line) << 20))\n"


def main() -> int:
    epochs, steps, mib = (int(word) for word in sys.argv[1:4])
    state = Path(os.environ["FRED_RUN_DIR"], "epoch.txt")
    first = int(state.read_text()) + 1 if state.exists() else 1
    hb = Heartbeat()
    with subprocess.Popen([sys.executable, "-c", LEAK], stdin=subprocess.PIPE, text=True) as worker:
        for epoch in range(first, epochs + 1):
            for step in range(1, steps + 1):
                until_s = time.process_time() + 0.002
                while time.process_time() < until_s:
                    pass
                time.sleep(0.018)
                samples = ((epoch - 1) * steps + step) * 8
                hb.beat(epoch=epoch, epochs=epochs, step=step, steps=steps, samples=samples)
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


if __name__ == "__main__":
    sys.exit(main())

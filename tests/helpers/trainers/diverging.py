"""A trainer whose loss doubles from one epoch on, until it is launched again from a checkpoint before that.

`diverging.py EPOCHS BAD_FROM [CHECKPOINT]`: epochs of about a second, a checkpoint after each.
"""

import os
import sys
import time
from pathlib import Path

from fred_supervisor.contract import Heartbeat


def main() -> int:
    epochs, bad_from = int(sys.argv[1]), int(sys.argv[2])
    folder, resumed = Path(os.environ["FRED_RUN_DIR"]), sys.argv[3:]
    first = int(Path(resumed[0]).read_text()) + 1 if resumed else 1
    hb = Heartbeat()
    for epoch in range(first, epochs + 1):
        bad = not resumed and epoch >= bad_from
        for step in range(1, 6):
            time.sleep(0.25)
            loss = (2.0 ** (epoch - bad_from + 2) if bad else 1.0) + step / 1000
            hb.beat(epoch=epoch, epochs=epochs, step=step, steps=5, samples=(epoch * 5 + step) * 8, loss=loss)
        new = folder / ".new"
        new.write_text(str(epoch))
        new.rename(folder / f"epoch-{epoch}.txt")
        if hb.stopping:
            return 75
    hb.done()
    return 0


if __name__ == "__main__":
    sys.exit(main())

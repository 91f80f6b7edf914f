"""What `bench_supervisor.py` has supervised: a line when it begins, then a step every 50 ms, until it is told to hang.

    python bench_worker.py FOLDER CLIENT      CLIENT: fred, nvrx or none

Nothing is imported before the first line, so that the line tells when the launcher was done. Times are of
CLOCK_MONOTONIC, which all processes share.
"""

import os
import sys
import time

FOLDER, CLIENT = sys.argv[1], sys.argv[2]


def say(*words: object) -> None:
    line = " ".join(str(word) for word in (*words, time.monotonic(), os.getpid())) + "\n"
    fd = os.open(f"{FOLDER}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, line.encode())
    os.close(fd)


def main() -> None:
    say("first")
    if os.path.exists(f"{FOLDER}/orphan"):  # as a loader worker in a session of its own
        os.unlink(f"{FOLDER}/orphan")
        if os.fork() == 0:
            os.setsid()
            say("orphan")
            time.sleep(600)
    if CLIENT == "fred":
        from fred_supervisor.contract import Heartbeat  # noqa: PLC0415 - see above

        hb = Heartbeat()
    if CLIENT == "nvrx":
        from nvidia_resiliency_ext.fault_tolerance import (  # type: ignore[import-not-found] # noqa: PLC0415 - see above
            RankMonitorClient,
        )

        client = RankMonitorClient()
        client.init_workload_monitoring()
    step = 0
    while not os.path.exists(f"{FOLDER}/hang"):
        step += 1
        if CLIENT == "fred":
            hb.beat(epoch=1, epochs=9, step=step, steps=1 << 30)
            if hb.stopping:
                sys.exit(75)
        if CLIENT == "nvrx":
            client.send_heartbeat()
        if step == 1:
            say("step")
        time.sleep(0.05)
    os.unlink(f"{FOLDER}/hang")
    say("hang")
    time.sleep(600)


if __name__ == "__main__":
    main()

"""`make bench-output`: what it costs to read the position from a trainer that prints 300 MB in a minute.

A process writes bars, log lines and noise at that rate; the reader looks once a second, as the supervisor does. Exit
code 0 when it takes under 1 % of a core and its position is right.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.figures import Figure, arguments, conclude

from fred_supervisor.attempt.output_reader import OutputReader
from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.patterns import OwnPatterns

MB_PER_S: Final = 5.0
MOST_PERCENT: Final = 1.0
WRITER: Final = r"""
import sys, time
path, rate, seconds = sys.argv[1], float(sys.argv[2]) * 1e6, float(sys.argv[3])
began, written, n = time.monotonic(), 0, 0
with open(path, "ab", buffering=0) as file:
    while (now := time.monotonic() - began) < seconds:
        lines = []
        while written < rate * now:
            n += 1
            lines.append(b"\r 45%%|####      | %d/99999999 [00:10<00:15, 11.9it/s, loss=0.%d]" % (n, n % 997))
            lines.append(b"\n[2026-11-26 12:00:%02d] INFO worker 3: 8 images, 640 px, %d ms\n" % (n % 60, n % 91))
            written += len(lines[-1]) + len(lines[-2])
        file.write(b"".join(lines))
        time.sleep(0.05)
"""


def cost(seconds: float, *, own: bool) -> tuple[float, float, int | None]:
    """Percent of a core, megabytes printed, and the step that was read last."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "output.log")
        log.touch()
        patterns = OwnPatterns((r"\| (?P<step>\d+)/(?P<steps>\d+) \[",)) if own else BuiltInPatterns()
        reader = OutputReader(log, patterns, ())
        with subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(MB_PER_S), str(seconds)]) as writer:
            began, cpu = time.monotonic(), time.process_time()
            while writer.poll() is None:
                time.sleep(1.0)
                reader.look(time.monotonic())
            took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        reader.look(time.monotonic(), final=True)
        beat = reader.beat(1)
        return 100 * cpu_s / took_s, log.stat().st_size / 1e6, None if beat is None else beat.step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    given = arguments(parser)
    figures = []
    for name, own in (("built-in patterns", False), ("--progress-output", True)):
        percent, size_mb, step = cost(given.seconds, own=own)
        print(f"{name}: {size_mb:.0f} MB in {given.seconds:.0f} s, last step {step}")
        if step is None:
            print("bench_output: no position was read", file=sys.stderr)
            return 1
        figures.append(
            Figure(what=f"reading 5 MB/s of output, {name}", target=MOST_PERCENT, measured=percent, unit="%")
        )
    return conclude(figures, given.json)


if __name__ == "__main__":
    sys.exit(main())

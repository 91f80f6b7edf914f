"""A trainer that nobody edited: it prints where it is, and leaves.

    python printing.py SCRIPT

SCRIPT is JSON, attempt → what it does in turn; `*` is every other attempt. A text is printed; [1, 50, "Epoch {}/300"]
is printed for each number; a whole number is the exit code; {"signal": 9} is sent to itself; "wait" stands still until
the file `go` is in the run dir.
"""

import json
import os
import sys
import time
from pathlib import Path

RUN_DIR = Path(os.environ["FRED_RUN_DIR"])


def wait() -> None:
    (RUN_DIR / "waiting").touch()
    while not (RUN_DIR / "go").exists():
        time.sleep(0.01)


def do(what: object) -> None:
    match what:
        case "wait":
            wait()
        case str():
            print(what, end="" if what.endswith("\r") else "\n", flush=True)
        case [int(first), int(last), str(line)]:
            for number in range(first, last + 1):
                do(line.format(number))
        case int():
            sys.exit(what)
        case {"signal": int(number)}:
            os.kill(os.getpid(), number)


script = json.loads(sys.argv[1])
for act in script.get(os.environ["FRED_ATTEMPT"], script.get("*", [])):
    do(act)

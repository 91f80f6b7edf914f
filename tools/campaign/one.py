"""One case, in a mount namespace of its own; prints its verdict as JSON.

python -m tools.campaign.one CASE-AS-JSON HOME LIBRARIES
"""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tools.campaign.cases import Case, case
from tools.campaign.faults import KINDS
from tools.campaign.oracle import Watcher, judge
from tools.campaign.runs import Run, TooLongError, wait

ENDED = ("completed", "failed", "stopped")


def play(chosen: Case, run: Run) -> tuple[list[str], int]:
    """What was wrong, and how often the status was asked for."""
    run.prepare([fault.plan() for fault in chosen.faults])
    if "CAMPAIGN_MOUNTS" in os.environ:
        mount(run.home / "disk", "64m")
        if any(fault.kind == "shm_full" for fault in chosen.faults):
            mount(Path("/dev/shm"), "256k")
    run.start()
    with Watcher(run) as watcher:
        try:
            for fault in chosen.faults:
                inflict = KINDS[fault.kind].inflict
                if inflict is None:
                    continue
                wait(partial(there, run, fault.at), f"step {fault.at}")
                if not ended(run):
                    time.sleep(fault.delay_s / 10)
                    inflict(run, fault)
                run.fired(fault.id)
            wait(lambda: ended(run), "the end")
            wait(lambda: not run.left(), "nothing is left", 60)
        except TooLongError as error:
            return [*watcher.wrong, str(error), *judge(chosen, run)], watcher.asked
    return [*watcher.wrong, *judge(chosen, run), *not_fired(chosen, run)], watcher.asked


def there(run: Run, at: int) -> bool:
    return run.reached() >= at or ended(run)


def ended(run: Run) -> bool:
    status = run.ask("status")
    return status["state"] in ENDED and not status["supervisor"]["alive"]


def not_fired(chosen: Case, run: Run) -> list[str]:
    missing = [fault.kind for fault in chosen.faults if not (run.home / f"fired.{fault.id}").exists()]
    return [f"never happened: {', '.join(missing)}"] if missing else []


def mount(path: Path, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)


def main() -> int:
    given: dict[str, Any] = json.loads(sys.argv[1])
    home, library = Path(sys.argv[2]), Path(sys.argv[3])
    chosen = case(**given)
    clock = any(fault.kind == "clock_step" for fault in chosen.faults)
    run = Run(home, chosen.subject, library, clock)
    began_s = time.monotonic()
    try:
        wrong, asked = play(chosen, run)
    except Exception as error:  # noqa: BLE001 - of whatever kind: the case is not judged, and that is told
        wrong, asked = [f"the campaign itself: {type(error).__name__}: {error}"], 0
    finally:
        if run.left():
            run.stop()
    if wrong:
        shutil.copytree(run.home / "disk", run.home / "kept", symlinks=True, dirs_exist_ok=True)
    print(json.dumps({"wrong": wrong, "asked": asked, "took_s": round(time.monotonic() - began_s, 1)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

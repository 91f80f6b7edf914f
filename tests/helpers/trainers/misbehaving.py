"""A small trainer that misbehaves on command: real process, real signals, the contract's own client, no torch.

    python misbehaving.py EPOCHS STEPS MISDEEDS

MISDEEDS is JSON: attempt → [what, epoch, step], or "*" for every attempt.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import epoch_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, publish


def main() -> int:
    epochs, steps = int(sys.argv[1]), int(sys.argv[2])
    misdeeds = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    attempt = os.environ["FRED_ATTEMPT"]
    what, at_epoch, at_step = misdeeds.get(attempt, misdeeds.get("*", ["", 0, 0]))
    run_dir, first = Path(os.environ["FRED_RUN_DIR"]), first_epoch()
    batch = int(os.environ["FRED_UNFREEZE_BATCH_SIZE"] or 8)
    hb = Heartbeat()
    alone = open(run_dir / ".alone", "w")  # noqa: SIM115 # held until the end
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (run_dir / "two at once").touch()
    print(f"attempt {attempt} from epoch {first} with batch {batch}", flush=True)
    try:
        if what == "import" and at_epoch == 0:
            import no_such_module  # noqa: F401
        for epoch in range(first, epochs + 1):
            phase = "freeze" if epoch == 1 else "unfreeze"
            for step in range(1, steps + 1):
                if (epoch, step) == (at_epoch, at_step):
                    misbehave(what, batch)
                samples = ((epoch - 1) * steps + step) * 8
                hb.beat(epoch=epoch, epochs=epochs, step=step, steps=steps, samples=samples, loss=1 / step, phase=phase)
                if hb.stopping:
                    save(run_dir, phase, epoch, step, samples)
                    return 75
            with hb.section("eval"):
                pass
            with hb.section("checkpoint"):
                save(run_dir, phase, epoch, steps, epoch * steps * 8)
    except Exception as error:
        hb.error(error)
        raise
    hb.done()
    return 0


def first_epoch() -> int:
    """The one after that of the checkpoint to resume from."""
    resume = os.environ["FRED_RESUME"]
    return json.loads(zipfile.ZipFile(resume).read("data.pkl"))["epoch"] + 1 if resume else 1


def save(run_dir: Path, phase: str, epoch: int, step: int, samples: int) -> None:
    written = run_dir / f".{epoch}.tmp"
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("data.pkl", json.dumps({"epoch": epoch}))

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(
            size=size,
            digest=digest,
            phase=phase,
            epoch=epoch,
            step=step,
            samples=samples,
            batch=8,
            session=1,
            finite=True,
        )

    publish(written, [run_dir / epoch_name(phase, epoch)], describe)


def about_to_hang() -> None:
    """Where a test does not want to wait for it: see `quick_hang.c`."""
    if "HUNG_FILE" in os.environ:
        state = Path(os.environ["FRED_RUN_DIR"], "supervisor/state.json")
        Path(os.environ["HUNG_FILE"]).write_text(f"{os.getpid()} {state}")


def be_slow(seconds: int) -> None:
    """Silent for so long by the clock of the supervisor, which passes quickly meanwhile."""
    about_to_hang()
    skipped = Path(os.environ["HUNG_FILE"] + ".skipped")
    while not skipped.exists() or int(skipped.read_text() or 0) < seconds * 1000:
        time.sleep(0.01)
    Path(os.environ["HUNG_FILE"]).unlink()


def misbehave(what: str, batch: int) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "stop":
            about_to_hang()
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            about_to_hang()
            threading.Event().wait()
        case "deaf":  # hangs, and does not leave on SIGTERM either
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            about_to_hang()
            threading.Event().wait()
        case "exit0":
            sys.exit(0)
        case "exit":
            sys.exit(3)
        case "raise":
            raise RuntimeError("the same old bug")
        case "oom" if batch > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        case "config":
            sys.exit(78)
        case "orphan":  # a grandchild in a session of its own, twice forked, then death
            subprocess.Popen([sys.executable, "-c", DAEMON], start_new_session=True).wait()
            os.kill(os.getpid(), signal.SIGKILL)
        case "stuck":  # in the kernel, where SIGKILL does not end it
            open(os.environ["STUCK_FILE"])  # noqa: SIM115
        case "slow":
            be_slow(50)
        case "wait":
            Path(os.environ["FRED_RUN_DIR"], "waiting").touch()
            while not Path(os.environ["FRED_RUN_DIR"], "go").exists():
                time.sleep(0.01)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(os.path.join(os.environ["FRED_RUN_DIR"], "orphan"), "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
path = os.path.join(os.environ["FRED_RUN_DIR"], "orphan")
while not os.path.exists(path) or not open(path).read():
    time.sleep(0.01)
"""


if __name__ == "__main__":
    sys.exit(main())

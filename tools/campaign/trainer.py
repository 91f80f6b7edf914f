"""The trainer of a case: a plain program that saves its state, writes down each sample, and fails as its plan says.

python trainer.py client|printed HOME DATA [CHECKPOINT]

`client` uses the client of the contract, `printed` is one that nobody has edited. HOME holds `plan.json`; what was
trained on is written into HOME/trained.log, and the state at the end into HOME/end.json. Its state is a digest of every
sample that it was made of, in their order, so one that is skipped, repeated or exchanged is seen at the end.
"""

import ctypes
import hashlib
import json
import os
import random
import re
import signal
import sys
import threading
import time
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

EPOCHS, STEPS, SAVE_EVERY = 3, 20, 5
LAST = EPOCHS * STEPS
STEP_S = 0.01
REACH = 8
"""A fault from outside takes a while to come: so many steps after its moment, it is waited for."""


def order(epoch: int, ranks: int) -> list[int]:
    """The samples of an epoch."""
    found = list(range(STEPS * ranks))
    random.Random(f"epoch {epoch}").shuffle(found)
    return found


def place(at: int) -> tuple[int, int]:
    """Epoch and step of it, both from 1, of the step that is number `at` of the run."""
    return (at - 1) // STEPS + 1, (at - 1) % STEPS + 1


def samples(at: int, ranks: int) -> list[int]:
    """Of all ranks, in one step."""
    epoch, step = place(at)
    return order(epoch, ranks)[(step - 1) * ranks : step * ranks]


def grown(state: str, at: int, ranks: int) -> str:
    """The state after one step more."""
    return hashlib.sha256(f"{state} {at} {samples(at, ranks)}".encode()).hexdigest()


def clean_end(ranks: int) -> str:
    """The state that a run ends with to which nothing happens."""
    state = ""
    for at in range(1, LAST + 1):
        state = grown(state, at, ranks)
    return state


class LossError(RuntimeError):
    fred_kind = "nan_loss"


class Trainer:
    """One rank of one attempt."""

    def __init__(self, mode: str, home: Path, data: Path, resume: str | None) -> None:
        self.client, self.home, self.data = mode == "client", home, data
        self.rank, self.ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.attempt, self.run_dir = os.environ["FRED_ATTEMPT"], Path(os.environ["FRED_RUN_DIR"])
        self.plan = json.loads((home / "plan.json").read_text())
        self.at, self.state, self.spoilt = 0, "", False
        self.heartbeat: Any = None
        if self.client:
            from fred_supervisor.contract import Heartbeat  # noqa: PLC0415 - a program that nobody has edited has none

            self.heartbeat = Heartbeat()
            resume = os.environ["FRED_RESUME"]
        if resume:
            with zipfile.ZipFile(resume) as archive:
                saved = json.loads(archive.read("state"))
            self.at, self.state, self.spoilt = saved["at"], saved["state"], saved["spoilt"]
        self.log = os.open(home / "trained.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(self) -> int:
        try:
            while self.at < LAST:
                if self.stopping:
                    self.save()
                    return 75
                self.step()
        except Exception as error:
            if self.heartbeat is not None:
                self.heartbeat.error(error)
            raise
        if self.rank == 0:
            beside = self.home / f"end.{self.attempt}"
            beside.write_text(json.dumps({"state": "nan" if self.spoilt else self.state, "at": self.at}))
            beside.replace(self.home / "end.json")
        if self.heartbeat is not None:
            self.heartbeat.done()
        return 0

    @property
    def stopping(self) -> bool:
        return self.heartbeat is not None and bool(self.heartbeat.stopping)

    def step(self) -> None:
        at = self.at + 1
        for fault in self.plan:
            self.fail(fault, at)
        epoch, step = place(at)
        sample = samples(at, self.ranks)[self.rank]
        (self.data / "samples.txt").read_text()
        if any(fault["kind"] == "shm_full" for fault in self.plan):
            self.through_shared_memory(at)
        time.sleep(STEP_S)
        os.write(self.log, f"{self.attempt} {self.rank} {at} {sample}\n".encode())
        if not self.met(at):
            return
        self.at, self.state = at, grown(self.state, at, self.ranks)
        loss = float("nan") if self.spoilt else 1 + 1 / at
        if self.heartbeat is not None:
            phase = "freeze" if epoch == 1 else "unfreeze"
            self.heartbeat.beat(
                epoch=epoch, epochs=EPOCHS, step=step, steps=STEPS, samples=at * 8 * self.ranks, loss=loss, phase=phase
            )
            if self.spoilt:
                raise LossError(f"loss nan at epoch {epoch}, step {step}, samples {samples(at, self.ranks)}")
        else:
            print(f"epoch {epoch}/{EPOCHS} step {step}/{STEPS} loss {loss:.4f}", flush=True)
        if at % SAVE_EVERY == 0 and self.rank == 0:
            with self.section("checkpoint"):
                self.pause("slow_save")
                self.save()

    @staticmethod
    def through_shared_memory(at: int) -> None:
        """As workers of a loader hand over a batch."""
        with open(f"/dev/shm/batch{at}", "wb", buffering=0) as file:
            file.write(bytes(16 << 10))
        Path(f"/dev/shm/batch{at - 1}").unlink(missing_ok=True)

    def met(self, at: int) -> bool:
        """The other ranks are here, too; False: we are to leave, and they may have left."""
        if self.ranks == 1:
            return True
        (self.home / f"met.{self.attempt}.{self.rank}.{at}").touch()
        others = [self.home / f"met.{self.attempt}.{rank}.{at}" for rank in range(self.ranks) if rank != self.rank]
        while not all(path.exists() for path in others):
            if self.stopping:
                return False
            time.sleep(0.002)
        return True

    def section(self, name: str) -> AbstractContextManager[Any]:
        return nullcontext() if self.heartbeat is None else self.heartbeat.section(name)

    def save(self) -> None:
        """Written beside and renamed."""
        if self.rank != 0 or self.at == 0:
            return
        beside = self.run_dir / "new.tmp"
        with zipfile.ZipFile(beside, "w") as archive:
            archive.writestr("state", json.dumps({"at": self.at, "state": self.state, "spoilt": self.spoilt}))
            archive.writestr("weights", random.Random(self.at).randbytes(64 << 10))
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        beside.replace(self.run_dir / f"state-{self.at:04d}.pt")

    # -- what the plan says -------------------------------------------------------------------------------------------

    def fail(self, fault: dict[str, Any], at: int) -> None:
        """What is due now, once in the run; what comes from outside is waited for."""
        marker = self.home / f"fired.{fault['id']}"
        if fault["outside"]:
            if at >= fault["at"] + REACH and not marker.exists():
                with self.section("eval"):
                    self.wait_for(marker)
            return
        if at != fault["at"] or fault["rank"] != self.rank or fault["kind"] == "slow_save":
            return
        if not self.once(marker):
            return
        getattr(self, fault["kind"])()

    def wait_for(self, marker: Path) -> None:
        while not marker.exists() and not self.stopping:
            if self.heartbeat is not None:
                self.heartbeat.beat(loss=1.0)
            time.sleep(0.01)

    @staticmethod
    def once(marker: Path) -> bool:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def hung(self) -> None:
        """No time is taken to find out: see quick_hang.c of the tests."""
        Path(os.environ["HUNG_FILE"]).write_text(f"{os.getpid()} {self.run_dir / 'supervisor/state.json'}")

    def pause(self, kind: str) -> None:
        """Longer than the limit of training, in a section that has one of its own."""
        for fault in self.plan:
            if fault["kind"] == kind and self.at >= fault["at"] and self.once(self.home / f"fired.{fault['id']}"):
                self.silent(200)

    def silent(self, seconds: int) -> None:
        """By the clock of the supervisor, which passes quickly meanwhile."""
        skipped = Path(os.environ["HUNG_FILE"] + ".skipped")
        before = int(skipped.read_text() or 0) if skipped.exists() else 0
        self.hung()
        end_s = time.monotonic() + 60  # it may be dead or stopped just then
        while time.monotonic() < end_s and not (
            skipped.exists() and int(skipped.read_text() or 0) >= before + seconds * 1000
        ):
            time.sleep(0.01)
        Path(os.environ["HUNG_FILE"]).unlink()

    def slow_step(self) -> None:
        self.silent(90)

    def exception(self) -> None:
        raise RuntimeError("boxes must be of shape [N, 4]")

    def gpu_oom(self) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def kernel_oom(self) -> None:
        Path(os.environ["CAMPAIGN_CGROUP"], "cgroup.procs").write_text(str(os.getpid()))
        kept = [b"x" * (8 << 20) for _ in range(64)]
        raise AssertionError(f"{len(kept)} blocks fitted")

    def nan(self) -> None:
        self.spoilt = True

    def segfault(self) -> None:
        ctypes.string_at(1)

    def kills_itself(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def exit_0(self) -> None:
        os._exit(0)

    def hang_step(self) -> None:
        self.hung()
        threading.Event().wait()

    def hang_gil(self) -> None:
        self.hung()
        re.match(r"(a?){40}a{40}", "a" * 40)

    def hang_loader(self) -> None:
        """A sample that never comes."""
        pipe = self.home / f"pipe.{os.getpid()}"
        os.mkfifo(pipe)
        self.hung()
        pipe.read_text()


if __name__ == "__main__":
    mode, home, data, *resume = sys.argv[1:]
    sys.exit(Trainer(mode, Path(home), Path(data), resume[0] if resume else None).run())

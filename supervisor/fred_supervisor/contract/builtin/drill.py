"""Drills: failures that `fred-train` rehearses on purpose, `KIND@WHERE[!][,…]`."""

import re
from enum import StrEnum
from typing import Final, Literal

from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, tr


class DrillFault(StrEnum):
    """What a drill does."""

    EXCEPTION = "exception"
    """Raises a RuntimeError."""
    OOM = "oom"
    """Runs out of GPU memory; without a GPU, raises what torch raises then."""
    SEGFAULT = "segfault"
    """Reads address 1."""
    SIGKILL = "sigkill"
    """Kills itself, as a stranger's `kill -9` would."""
    SIGSTOP = "sigstop"
    """Stops itself."""
    HANG = "hang"
    """Waits for ever in the main thread, idle."""
    GIL = "gil"
    """Burns CPU for ever with the interpreter lock held."""
    EXIT0 = "exit0"
    """Leaves with exit code 0, calmly, before the goal."""
    NAN = "nan"
    """Makes the loss not a number."""
    SLOW = "slow"
    """Pauses for the given seconds, and goes on: healthy."""


@record
class Drill:
    """One drill. It fires once per run (a marker in the run dir), or, with `always`, whenever WHERE holds."""

    fault: DrillFault
    where: Literal["startup", "freeze", "unfreeze", "eval", "checkpoint", "batch"]
    """Place, or "batch": the condition `batch>N` in the unfreeze phase."""
    epoch: int | None = None
    """The run's epoch, from 1."""
    step: int | None = None
    """Step of that epoch, from 1."""
    batch_above: int | None = None
    """Fires while the unfreeze batch is larger than this, each time."""
    seconds: float = 0.0
    """Of `slow`."""
    always: bool = False
    text: str
    """As it was written; the marker is named after it."""

    @property
    def marker(self) -> str:
        """File name of the marker."""
        return re.sub(r"[^A-Za-z0-9.=-]", "_", self.text)


_DRILL: Final = re.compile(
    r"(?P<fault>[a-z0-9]+)(?:=(?P<seconds>\d+(?:\.\d+)?))?@"
    r"(?:(?P<startup>startup)|(?P<phase>freeze|unfreeze):(?P<epoch>\d+):(?P<step>\d+)"
    r"|(?P<section>eval|checkpoint):(?P<at>\d+)|batch>(?P<batch>\d+))(?P<always>!)?"
)


def parse_drills(text: str) -> tuple[Drill, ...]:
    """The drills in `text`; ValueError with what is wrong and what would be right."""
    return tuple(_parse(word.strip()) for word in text.split(",") if word.strip())


def _parse(word: str) -> Drill:
    found = _DRILL.fullmatch(word)
    if found is None:
        raise ValueError(
            tr(
                "drill {word!r} is not KIND@WHERE; WHERE is startup, freeze:EPOCH:STEP, "
                "unfreeze:EPOCH:STEP, eval:EPOCH, checkpoint:EPOCH or batch>N, e.g. sigkill@freeze:2:5",
                word=word,
            )
        )
    kind = found["fault"]
    if kind not in set(DrillFault):
        raise ValueError(
            tr(
                "drill {word!r}: no such kind {kind!r}; there are {there}",
                word=word,
                kind=kind,
                there=listed(DrillFault),
            )
        )
    fault = DrillFault(kind)
    if (fault is DrillFault.SLOW) != (found["seconds"] is not None):
        raise ValueError(
            tr("drill {word!r}: seconds belong to slow, and slow needs them, e.g. slow=5@freeze:1:2", word=word)
        )
    seconds = float(found["seconds"] or 0)
    always = found["always"] is not None
    if found["startup"]:
        return Drill(fault=fault, where="startup", seconds=seconds, always=always, text=word)
    if found["batch"]:
        return Drill(
            fault=fault, where="batch", batch_above=int(found["batch"]), seconds=seconds, always=True, text=word
        )
    epoch, step = int(found["epoch"] or found["at"]), found["step"]
    if epoch < 1 or (step is not None and int(step) < 1):
        raise ValueError(tr("drill {word!r}: epochs and steps count from 1", word=word))
    if found["phase"]:
        where: Literal["freeze", "unfreeze"] = "freeze" if found["phase"] == "freeze" else "unfreeze"
        return Drill(
            fault=fault, where=where, epoch=epoch, step=int(step or 1), seconds=seconds, always=always, text=word
        )
    section: Literal["eval", "checkpoint"] = "eval" if found["section"] == "eval" else "checkpoint"
    return Drill(fault=fault, where=section, epoch=epoch, seconds=seconds, always=always, text=word)

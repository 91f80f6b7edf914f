"""Stack dumps of the ranks of a step: each rank writes its own into the file of its output, on whatever machine."""

import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fred_supervisor.attempt.nodes.step import Step
from fred_supervisor.attempt.stack_dump import StackDump, StackDumper
from fred_supervisor.contract.files import open_file
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.nodes.node_files import node_of_rank

_MOST_BYTES: Final = 16384
"""Of each rank."""
_REMOTE_S: Final = 3.0
"""For Slurm to deliver the signal, and for a shared file system to show what was written."""


class StepStacks(StackDumper):
    """The dumps of one attempt that is a step."""

    def __init__(self, folder: AttemptDir, step: Step) -> None:
        super().__init__(folder)
        self._step = step
        self._began: list[dict[int, int]] = []
        """At each request: rank → bytes of its output."""
        self._until_s = 0.0

    def ask(self, beating: Iterable[Identity], tree: Iterable[int]) -> bool:
        """Ask all ranks, where those of this machine show that nothing of a rank would die of the signal.

        Slurm sends it to every process of the step. They all run one program: what holds here holds elsewhere.
        """
        del tree  # srun, which nobody asks
        here = {who.pid for who in beating}
        everybody = {pid for one in here for pid in (one, *proc.descendants(one))}
        self._began.append({rank: path.stat().st_size for rank, path in _outputs(self._folder).items()})
        self._starts.append(self._began[-1].get(0, 0))
        self._until_s = time.monotonic() + _REMOTE_S
        if not here or not all(proc.catches(pid, signal.SIGUSR1) for pid in everybody):
            return False
        return self._step.send(signal.SIGUSR1)

    @property
    def writing(self) -> bool:
        """Whether a rank has not begun to write."""
        return time.monotonic() < self._until_s and len(self._parts(-1)) < len(_outputs(self._folder))

    def text(self) -> str:
        return self._told(self._parts(-1)) if self._began else ""

    def moved(self) -> bool | None:
        parts = self._parts(-1)
        text = self._told(parts) or (self._told(self._parts(-2)) if len(self._began) > 1 else "")
        self.dump = StackDump(text, self._began[-2:][0].get(0) if self._began else None)
        before = self._parts(-2) if len(self._began) > 1 else {}
        both = [rank for rank in parts if rank in before]
        self.differed = None
        if both:
            self.differed = any(before[rank].removesuffix(parts[rank]) != parts[rank] for rank in both)
        return self.differed

    def _parts(self, at: int) -> dict[int, str]:
        """Rank → what it has written since a request."""
        if not self._began:
            return {}
        found = {}
        for rank, path in _outputs(self._folder).items():
            try:
                with open(open_file(path), "rb") as file:
                    file.seek(self._began[at].get(rank, 0))
                    text = file.read(_MOST_BYTES).decode(errors="replace")
            except OSError:
                continue
            if text:
                found[rank] = text
        return found

    def _told(self, parts: dict[int, str]) -> str:
        names = {rank: node_of_rank(self._folder, rank) for rank in parts}
        heads = {rank: f" on {name}" if name is not None else "" for rank, name in names.items()}
        return "".join(f"--- stacks of rank {rank}{heads[rank]} ---\n{parts[rank]}" for rank in sorted(parts))


def _outputs(folder: AttemptDir) -> dict[int, Path]:
    """Rank → the file of its output."""
    found = {}
    for path in folder.path.glob(f"{folder.output.name}.rank*"):
        rank = re.fullmatch(r".*\.rank(\d{1,5})", path.name)
        if rank is not None and path.exists():
            found[int(rank[1])] = path
    return found
